"""Cohorts on disk: ``cohort.json`` lists the patients and their split, ``labels/`` holds one file a patient."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from deeprt.case import PatientCase
from deeprt.cohort.labels import LabelSettings, PatientLabels, label_patient, read_labels, write_labels
from deeprt.cohort.openkbp import is_openkbp
from deeprt.cohort.virtual_patient import VirtualPatientSettings, virtual_prostate
from deeprt.config import DEFAULT_MACHINE, PlanningConfig, from_plain
from deeprt.errors import InputError
from deeprt.files import write_whole
from deeprt.machine_file import read_machine
from deeprt.preparation import VIRTUAL_PROSTATE, load_case, with_prescriptions
from deeprt.progress import Progress, Silent
from deeprt.training.processes import in_processes

logger = logging.getLogger(__name__)
_Kept = TypeVar("_Kept")

Split = Literal["development", "test"]
COHORT_FILE, LABELS_FOLDER = "cohort.json", "labels"
_VALIDATION_SHARE = 0.1  # of the development patients, where there are no folds


@dataclass(frozen=True)
class CohortPatient:
    """One patient of a cohort.

    Parameters
    ----------
    id : unique in the cohort, also the name of its files
    source : ``virtual:prostate``, or what `deeprt.preparation.load_case` reads
    seed : of a virtual patient and of the scenarios
    nodes : whether a virtual patient's pelvic nodes are a target
    split : development patients train and validate, test patients do neither
    """

    id: str
    source: str
    seed: int
    split: Split
    nodes: bool = False

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"Patient {self.id}: the seed must not be negative, got {self.seed}.")

    @property
    def is_virtual(self) -> bool:
        """Whether the patient is drawn, not real."""
        return self.source.startswith("virtual:")

    @property
    def is_openkbp(self) -> bool:
        """Whether the patient is one of OpenKBP."""
        return is_openkbp(Path(self.source))

    def load(self, spacing_mm: float = 3.0) -> PatientCase:
        """Read or make the patient, with prescriptions, on a grid of these voxels.

        Raises
        ------
        InputError
            If a real patient cannot be read, or no target has a prescription, since none is assumed.
        """
        if self.source == VIRTUAL_PROSTATE:
            settings = VirtualPatientSettings(nodes=self.nodes, spacing_mm=spacing_mm)
            case = virtual_prostate(np.random.default_rng(self.seed), settings)
        else:
            try:
                case = self._real(PlanningConfig(dose_grid_mm=spacing_mm))
            except InputError as error:
                raise InputError(f"Patient {self.id}: {error}") from error
        return replace(case, case_id=self.id)

    def _real(self, config: PlanningConfig) -> PatientCase:
        case = load_case(self.source, config)
        if not case.targets:
            raise InputError(
                "No target has a prescription; give its dose in its name, such as PTV_60, or leave the patient out."
            )
        return with_prescriptions(case, config)[1]


@dataclass(frozen=True)
class Cohort:
    """Patients, and how they are labeled.

    Parameters
    ----------
    patients : in a random order that folds follow
    machine : name or file
    labels : settings of the labels
    """

    patients: tuple[CohortPatient, ...]
    machine: str = DEFAULT_MACHINE
    labels: LabelSettings = LabelSettings()

    def __post_init__(self) -> None:
        ids = [p.id for p in self.patients]
        if len(set(ids)) < len(ids):
            raise InputError("Two patients of the cohort have the same id; rename one.")

    def of(self, split: Split) -> tuple[CohortPatient, ...]:
        """Patients of a split, in order."""
        return tuple(p for p in self.patients if p.split == split)

    def patient(self, patient_id: str) -> CohortPatient:
        """The patient of an id.

        Raises
        ------
        InputError
            If there is none.
        """
        for patient in self.patients:
            if patient.id == patient_id:
                return patient
        raise InputError(f"The cohort has no patient '{patient_id}'.")

    def training_and_validation(self) -> tuple[tuple[CohortPatient, ...], tuple[CohortPatient, ...]]:
        """Training and validation patients: the last tenth of the development patients, one at least, validates."""
        development = self.of("development")
        n_validation = max(1, round(_VALIDATION_SHARE * len(development)))
        return development[:-n_validation], development[-n_validation:]

    def folds(self, n_folds: int) -> Iterator[tuple[tuple[CohortPatient, ...], tuple[CohortPatient, ...]]]:
        """Rolling folds of the development patients: training and validation patients of each.

        With 57 patients and six folds five have 10 validation patients and the last has 7, as in the paper.
        """
        development = self.of("development")
        if not 2 <= n_folds <= len(development):
            raise InputError(f"{len(development)} development patients cannot be split into {n_folds} folds.")
        size = -(-len(development) // n_folds)
        if -(-len(development) // size) != n_folds:
            raise InputError(
                f"{len(development)} development patients in groups of {size} make no {n_folds} folds; "
                f"ask for {-(-len(development) // size)}."
            )
        for first in range(0, len(development), size):
            validation = development[first : first + size]
            yield tuple(p for p in development if p not in validation), validation


def virtual_cohort(n_patients: int, n_test: int, *, nodes_share: float = 0.2, seed: int = 0) -> Cohort:
    """List virtual prostate patients; the same seed lists the same ones.

    Parameters
    ----------
    n_test : of them, drawn at random, for test only
    nodes_share : probability that a patient's pelvic nodes are a target
    """
    rng = np.random.default_rng(seed)
    nodes = rng.random(n_patients) < nodes_share
    splits = _splits(rng, n_patients, n_test)
    seeds = np.random.SeedSequence(seed).generate_state(n_patients)
    return Cohort(
        tuple(
            CohortPatient(f"virtual-{n + 1:04d}", VIRTUAL_PROSTATE, int(seeds[n]), splits[n], bool(nodes[n]))
            for n in range(n_patients)
        )
    )


def real_cohort(folder: Path, n_test: int, *, seed: int = 0) -> Cohort:
    """List the patients of a folder: every subfolder with files (DICOM, or OpenKBP's CSV) and every ``.npz`` is one.

    Raises
    ------
    InputError
        If there are too few of them.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder '{folder}'.")
    sources = sorted(f.resolve() for f in folder.iterdir() if f.suffix == ".npz" or (f.is_dir() and any(f.iterdir())))
    if len(sources) < n_test + 2:
        raise InputError(
            f"'{folder}' has {len(sources)} patients (one a subfolder or .npz); {n_test} for test leave too few."
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(sources))
    splits = _splits(rng, len(sources), n_test)
    seeds = np.random.SeedSequence(seed).generate_state(len(sources))
    return Cohort(
        tuple(
            CohortPatient(sources[n].name.removesuffix(".npz"), str(sources[n]), int(seeds[k]), splits[k])
            for k, n in enumerate(int(n) for n in order)
        )
    )


def _splits(rng: np.random.Generator, n_patients: int, n_test: int) -> list[Split]:
    if not 0 < n_test < n_patients - 1:
        raise InputError(f"Of {n_patients} patients, {n_test} for test leave no two for development, or none for test.")
    test = set(rng.choice(n_patients, n_test, replace=False).tolist())
    return ["test" if n in test else "development" for n in range(n_patients)]


def write_cohort(cohort: Cohort, folder: Path) -> None:
    """Write ``cohort.json``."""
    write_whole(folder / COHORT_FILE, json.dumps(asdict(cohort), indent=1))


def read_cohort(folder: Path) -> Cohort:
    """Read ``cohort.json``.

    Raises
    ------
    InputError
        If it is missing or wrong.
    """
    file = folder / COHORT_FILE
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"'{folder}' is no cohort ({COHORT_FILE}: {error.strerror}); see deeprt cohort make."
        ) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"'{file}' is not valid JSON: {error}.") from error
    if not isinstance(content, dict) or not content.get("patients"):
        raise InputError(f"'{file}' must list patients; see deeprt cohort make.")
    return from_plain(Cohort, content, str(file))


def labels_file(folder: Path, patient: CohortPatient) -> Path:
    """Where the labels of a patient are kept."""
    return folder / LABELS_FOLDER / f"{patient.id}.npz"


def read_kept(read: Callable[[Path], _Kept], file: Path) -> _Kept | None:
    """What was made of a patient before; None where it is missing or, with a warning, damaged."""
    try:
        return read(file)
    except FileNotFoundError:
        return None
    except InputError as error:
        logger.warning("%s", error)
        return None


def find_labels(folder: Path, cohort: Cohort, patient: CohortPatient) -> PatientLabels | None:
    """Labels of a patient; None where they are missing, damaged, of another patient or made with other settings."""
    labels = read_kept(read_labels, labels_file(folder, patient))
    if labels is None:
        return None
    is_known = labels.about in ("", _about(cohort, patient))  # earlier files do not say whose they are
    return labels if is_known and labels.digest == cohort.labels.digest() else None


def _about(cohort: Cohort, patient: CohortPatient) -> str:
    """What a patient's labels follow from besides the settings."""
    return json.dumps(
        {"machine": cohort.machine, "source": patient.source, "seed": patient.seed, "nodes": patient.nodes}
    )


def label_cohort(folder: Path, *, n_jobs: int = 1, progress: Progress | None = None) -> int:
    """Label the patients that have no valid labels yet; stopping loses what is not yet written, a patient a job.

    Parameters
    ----------
    n_jobs : processes, of one thread each

    Returns
    -------
    Number of patients labeled now
    """
    report, cohort = progress or Silent(), read_cohort(folder)
    (folder / LABELS_FOLDER).mkdir(exist_ok=True)
    missing = [p for p in cohort.patients if find_labels(folder, cohort, p) is None]
    work = partial(_label, folder, cohort)
    in_processes("labels", work, missing, n_all=len(cohort.patients), n_jobs=n_jobs, report=report)
    return len(missing)


def _label(folder: Path, cohort: Cohort, patient: CohortPatient) -> None:
    labels = label_patient(patient.load(), read_machine(cohort.machine), cohort.labels, seed=patient.seed)
    write_labels(replace(labels, about=_about(cohort, patient)), labels_file(folder, patient))


def read_all_labels(folder: Path, cohort: Cohort, patients: Sequence[CohortPatient]) -> list[PatientLabels]:
    """Labels of patients, all of which must have them."""
    found = []
    for patient in patients:
        labels = find_labels(folder, cohort, patient)
        if labels is None:
            raise InputError(f"Patient {patient.id} has no labels; run deeprt cohort label '{folder}' first.")
        found.append(labels)
    return found
