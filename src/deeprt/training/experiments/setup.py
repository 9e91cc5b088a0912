"""What the experiments share: where they find data and networks, labelled patients, and results kept part by part."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from deeprt.case import PatientCase
from deeprt.cohort.labels import PatientLabels
from deeprt.errors import InputError
from deeprt.files import write_whole
from deeprt.machine import Machine
from deeprt.machine_file import read_machine
from deeprt.networks.checkpoint import load_training_state
from deeprt.orientation.column_generation import SelectionProblem
from deeprt.orientation.teacher import selection_problem
from deeprt.orientation.views import CandidateViews, candidate_views
from deeprt.progress import Progress, Silent
from deeprt.training.beams import RESULT_FILE, BeamNetworkName, new_network
from deeprt.training.cohort import Cohort, CohortPatient, labelled, one_thread, read_cohort
from deeprt.training.loop import BEST

NETWORKS: tuple[BeamNetworkName, ...] = ("default", "paper", "full")
FIRST_FOLD = 1  # stands for all where one fold is enough


@dataclass(frozen=True)
class Setup:
    """What the experiments are made with.

    Parameters
    ----------
    data : folder of the labelled cohort
    runs : folder of what was trained on it, ``<network>/fold-<k>``
    out : folder of the results; ``parts`` in it keeps those of single patients
    real : a real prostate case
    openkbp : cohort of OpenKBP patients; its networks are in ``openkbp`` among the runs
    n_folds : rolling folds of the development patients
    n_jobs : processes, of one thread each
    n_planned : full runs of each test patient whose plans are solved; all if 0
    """

    data: Path
    runs: Path
    out: Path
    real: Path
    openkbp: Path | None = None
    n_folds: int = 6
    n_jobs: int = 1
    n_planned: int = 0

    @property
    def cohort(self) -> Cohort:
        """The labelled cohort."""
        return read_cohort(self.data)

    def planned(self, patient: LabelledPatient) -> range:
        """Full runs of a patient whose plans are solved."""
        return range(min(self.n_planned or patient.n_runs, patient.n_runs))


@dataclass(frozen=True, eq=False)
class LabelledPatient:
    """A patient with the teacher's problems, one a scenario, at the resolution of its labels.

    Parameters
    ----------
    problem : batch of all scenarios
    """

    about: CohortPatient
    case: PatientCase
    machine: Machine
    labels: PatientLabels
    problem: SelectionProblem

    @property
    def n_runs(self) -> int:
        """Number of full runs, which are the first scenarios."""
        return len(self.labels.run_chosen)

    def run(self, scenario: int) -> tuple[int, ...]:
        """Beams that column generation chose in a full run."""
        return tuple(int(b) for b in self.labels.run_chosen[scenario] if b >= 0)


def labelled_patient(folder: Path, patient_id: str) -> LabelledPatient:
    """Load a patient of a cohort, and set its problems up as they were labelled.

    Raises
    ------
    InputError
        If the patient has no labels.
    """
    cohort = read_cohort(folder)
    about = next(p for p in cohort.patients if p.id == patient_id)
    labels = labelled(folder, cohort, [about])[0]
    case, machine = about.load(), read_machine(cohort.machine)
    weightings = [labels.organ_weights(n) for n in range(len(labels.weights))]
    problem, _ = selection_problem(case, machine, cohort.labels.selection, weightings=weightings, seed=about.seed)
    return LabelledPatient(about, case, machine, labels, problem)


def run_views(folder: Path, patient: LabelledPatient) -> tuple[CandidateViews, ...]:
    """Views of the candidates, one of each full run's weighting."""
    weightings = [patient.labels.organ_weights(n) for n in range(patient.n_runs)]
    settings = read_cohort(folder).labels.selection
    return candidate_views(patient.case, patient.machine, settings, weightings=weightings)


def worst_start(labels: PatientLabels, scenario: int) -> int:
    """Candidate of the least fitness without any beam, in a full run."""
    start = (labels.scenario == scenario) & ~labels.chosen.any(axis=1)
    return int(np.argmin(labels.fitness[start][0]))


def trained(runs: Path) -> tuple[tuple[BeamNetworkName, int], ...]:
    """Networks and folds whose training has ended, in order."""
    return tuple(
        (name, fold)
        for name in NETWORKS
        for fold in sorted(
            int(f.parent.name.removeprefix("fold-")) for f in (runs / name).glob(f"fold-*/{RESULT_FILE}")
        )
    )


def network_name(text: str) -> BeamNetworkName:
    """Name of a network that is known.

    Raises
    ------
    InputError
        If it is not.
    """
    for name in NETWORKS:
        if name == text:
            return name
    raise InputError(f"There is no network '{text}'; there are {', '.join(NETWORKS)}.")


def trained_network(runs: Path, name: BeamNetworkName, fold: int = FIRST_FOLD) -> nn.Module:
    """A network with the weights of a fold's best epoch, ready to predict.

    Raises
    ------
    InputError
        If there are none.
    """
    network = new_network(name, 0)
    try:
        network.load_state_dict(load_training_state(runs / name / f"fold-{fold}" / BEST)["network"])
    except FileNotFoundError as error:
        raise InputError(f"'{runs / name}' has no trained fold {fold}; train it with deeprt train beams.") from error
    return network.eval()


def in_parts(
    folder: Path,
    names: Sequence[str],
    make: Callable[[str], Any],
    *,
    n_jobs: int = 1,
    progress: Progress | None = None,
) -> list[Any]:
    """Results by name, in order; each is written once it is there and never made again.

    Parameters
    ----------
    folder : of the parts, ``<name>.json``
    make : plain data of a name; importable, since processes are spawned for it
    n_jobs : processes, of one thread each; one job runs in this one
    """
    report = progress or Silent()
    missing = [name for name in names if not (folder / f"{name}.json").exists()]
    n_before, work = len(names) - len(missing), partial(_make_part, folder, make)

    def tell(n_done: int) -> None:
        report.step(folder.name, n_done / len(names), f"{n_done} of {len(names)} parts")

    tell(n_before)
    if n_jobs == 1 or len(missing) < 2:
        for n, name in enumerate(missing, start=n_before + 1):
            work(name)
            tell(n)
    else:
        with get_context("spawn").Pool(min(n_jobs, len(missing)), one_thread) as pool:  # leaving it ends its processes
            for n, _ in enumerate(pool.imap_unordered(work, missing), start=n_before + 1):
                tell(n)
    return [json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in names]


def _make_part(folder: Path, make: Callable[[str], Any], name: str) -> None:
    write_whole(folder / f"{name}.json", json.dumps(make(name)))
