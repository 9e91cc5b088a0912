"""What the experiments share: where they find data and networks, and labeled patients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np
from torch import nn

from deeprt.case import PatientCase
from deeprt.cohort.labels import PatientLabels
from deeprt.errors import InputError
from deeprt.machine import Machine
from deeprt.machine_file import read_machine
from deeprt.orientation.column_generation import SelectionProblem
from deeprt.orientation.teacher import CandidateSettings, selection_problem
from deeprt.orientation.views import CandidateViews, candidate_views
from deeprt.training.beams import BeamNetworkName, check_cohort, trained_network
from deeprt.training.cohort import Cohort, CohortPatient, read_all_labels, read_cohort
from deeprt.training.loop import RESULT_FILE

FIRST_FOLD = 1  # stands for all where one fold is enough
_NETWORKS: tuple[BeamNetworkName, ...] = get_args(BeamNetworkName)


@dataclass(frozen=True)
class Setup:
    """What the experiments are made with.

    Parameters
    ----------
    data : folder of the labeled cohort
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

    @cached_property
    def cohort(self) -> Cohort:
        """The labeled cohort."""
        return read_cohort(self.data)

    def network(self, name: BeamNetworkName, fold: int = FIRST_FOLD) -> nn.Module:
        """A trained network, ready to predict."""
        check_cohort(self.runs / name, self.cohort)
        return trained_network(self.runs / name, name, fold)

    def planned(self, patient: LabeledPatient) -> range:
        """Full runs of a patient whose plans are solved."""
        return range(min(self.n_planned or patient.n_runs, patient.n_runs))


@dataclass(frozen=True, eq=False)
class LabeledPatient:
    """A patient with the teacher's problems, one a scenario, at the resolution of its labels.

    Parameters
    ----------
    selection : settings of the labels
    problem : batch of all scenarios
    """

    about: CohortPatient
    case: PatientCase
    machine: Machine
    labels: PatientLabels
    selection: CandidateSettings
    problem: SelectionProblem

    @property
    def n_runs(self) -> int:
        """Number of full runs, which are the first scenarios."""
        return len(self.labels.run_chosen)

    def run(self, scenario: int) -> tuple[int, ...]:
        """Beams that column generation chose in a full run."""
        return tuple(int(b) for b in self.labels.run_chosen[scenario] if b >= 0)


def load_labeled_patient(folder: Path, patient_id: str) -> LabeledPatient:
    """Load a patient of a cohort, and set its problems up as they were labeled.

    Raises
    ------
    InputError
        If the patient has no labels.
    """
    cohort = read_cohort(folder)
    about = cohort.patient(patient_id)
    labels = read_all_labels(folder, cohort, [about])[0]
    case, machine, selection = about.load(), read_machine(cohort.machine), cohort.labels.selection
    weightings = [labels.organ_weights(n) for n in range(len(labels.weights))]
    problem, _ = selection_problem(case, machine, selection, weightings=weightings, seed=about.seed)
    return LabeledPatient(about, case, machine, labels, selection, problem)


def run_views(patient: LabeledPatient) -> tuple[CandidateViews, ...]:
    """Views of the candidates, one of each full run's weighting."""
    weightings = [patient.labels.organ_weights(n) for n in range(patient.n_runs)]
    return candidate_views(patient.case, patient.machine, patient.selection, weightings=weightings)


def first_training(cohort: Cohort, n_folds: int) -> tuple[CohortPatient, ...]:
    """Training patients of the first fold."""
    return next(iter(cohort.folds(n_folds)))[0]


def worst_start(labels: PatientLabels, scenario: int) -> int:
    """Candidate of the least fitness without any beam, in a full run."""
    start = (labels.scenario == scenario) & ~labels.chosen.any(axis=1)
    return int(np.argmin(labels.fitness[start][0]))


def trained(runs: Path) -> tuple[tuple[BeamNetworkName, int], ...]:
    """Networks and folds whose training has ended, in order."""
    return tuple(
        (name, fold)
        for name in _NETWORKS
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
    for name in _NETWORKS:
        if name == text:
            return name
    raise InputError(f"There is no network '{text}'; there are {', '.join(_NETWORKS)}.")
