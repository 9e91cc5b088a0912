"""Plans that fluence and dose networks learn from: optimized, sequenced and computed, as varied as planners are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeprt.beams import Beam, BeamAngles, place_beams
from deeprt.case import PatientCase, union, with_tuning_structures
from deeprt.config import FluenceSettings, PlanningConfig, Protocol, read_protocol
from deeprt.delivery.dose_of_plan import dose_of_plan
from deeprt.delivery.fluence import delivered_fluence
from deeprt.delivery.sliding_window import sequence_sliding_window
from deeprt.dose.influence import dose_influence
from deeprt.errors import InputError
from deeprt.files import read_arrays, write_arrays
from deeprt.fluence.solvers import SolverSettings
from deeprt.fluence_finding import fluence_problem, optimize_fluence
from deeprt.machine import Machine
from deeprt.machine_file import read_machine
from deeprt.networks.beams_eye_view import ViewSampling
from deeprt.orientation.selection import equispaced_angles
from deeprt.pipeline import normalize
from deeprt.progress import Progress, Silent
from deeprt.structures import Role
from deeprt.training.cohort import CohortPatient, read_cohort, read_kept
from deeprt.training.processes import in_processes

PLANS_FOLDER = "plans"
TARGET = "PTV"


@dataclass(frozen=True)
class ReferenceSettings:
    """How the reference plans of a cohort are made.

    The defaults follow Lee et al., Sci. Rep. 9, 15671 (2019): seven fields of 15 MV, all targets as one, 44 Gy in 20
    fractions, sliding window. What varies from plan to plan is drawn, see `drawn_preferences`.

    Parameters
    ----------
    machine : name or file
    prescription_gy, n_fractions : of the one target, the union of all
    spacing_mm : of the dose grid
    n_beams : numbers of equispaced beams, drawn with equal probability; test patients have seven from 0° on
    weight_spread : standard deviation of the logarithm of the factor on each objective's weight
    dose_spread : largest relative change of each dose limit of an organ
    smoothness : lowest and highest weight of neighboring beamlets' differences, drawn log-uniformly
    solver : of the fluence
    """

    machine: str = "generic_15mv"
    prescription_gy: float = 44.0
    n_fractions: int = 20
    spacing_mm: float = 4.0
    n_beams: tuple[int, ...] = (5, 6, 7, 7, 7, 7, 8, 9)
    weight_spread: float = 0.5
    dose_spread: float = 0.2
    smoothness: tuple[float, float] = (200.0, 2000.0)
    solver: SolverSettings = SolverSettings(max_iterations=100, tolerance=5e-4)

    def digest(self) -> str:
        """Hash of the settings, by which plans of other settings are told apart."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class ReferencePlan:
    """What is kept of a plan; its case and beams are made anew from the patient's seed.

    Parameters
    ----------
    gantry_deg : (n_beams,)
    beam_mu : (n_beams,) per fraction
    fmu : (n_beams, n_pixels, n_pixels) float32, delivered fluence of each beam over its monitor units, on the pixels
        of `deeprt.networks.beams_eye_view.ViewSampling`
    dose_gy : (n_k, n_j, n_i) float32, whole course
    digest : of the settings
    """

    gantry_deg: NDArray[np.float64]
    beam_mu: NDArray[np.float64]
    fmu: NDArray[np.float32]
    dose_gy: NDArray[np.float32]
    digest: str

    @property
    def n_beams(self) -> int:
        """Number of beams."""
        return self.gantry_deg.size


def reference_case(patient: CohortPatient, settings: ReferenceSettings) -> PatientCase:
    """A cohort's patient as it is planned: on the grid of the dose, its targets made one."""
    case = patient.load(settings.spacing_mm)
    target = replace(union(TARGET, case.targets), role=Role.TARGET, prescription_gy=settings.prescription_gy)
    others = tuple(s for s in case.structures if s.role is not Role.TARGET)
    return replace(case, structures=(*others, target), n_fractions=settings.n_fractions)


def reference_beams(case: PatientCase, plan: ReferencePlan, machine: Machine) -> tuple[Beam, ...]:
    """The beams of a plan on its case."""
    return place_beams(case, [BeamAngles(float(g)) for g in plan.gantry_deg], machine)


def make_reference_plan(
    case: PatientCase, machine: Machine, settings: ReferenceSettings, *, seed: int, is_test: bool
) -> ReferencePlan:
    """Plan a case after drawn preferences.

    Parameters
    ----------
    case : as `reference_case` gives it
    seed : of the patient; its anatomy is drawn from another stream
    is_test : with seven beams from gantry 0° on
    """
    rng = np.random.default_rng((seed, 1))
    n_beams = int(rng.choice(settings.n_beams))
    first_deg = float(rng.uniform(0, 360 / n_beams))
    angles = equispaced_angles(7) if is_test else equispaced_angles(n_beams, first_gantry_deg=first_deg)
    protocol, fluence = drawn_preferences(rng, settings)
    config = PlanningConfig(fluence=fluence, seed=seed)

    case = with_tuning_structures(case)
    beams = place_beams(case, angles, machine)
    influence = dose_influence(case, beams, machine)
    problem = fluence_problem(case, influence, protocol, config)
    solution = optimize_fluence(case, influence, problem, fluence.solver)
    plan = sequence_sliding_window(beams, solution.fluence_mu, machine, n_fractions=case.n_fractions)
    dose_gy = dose_of_plan(plan, influence)
    plan, dose_gy = normalize(plan, dose_gy, protocol.normalization.factor(case, dose_gy))
    beam_mu = np.array([plan.beam_mu(n) for n in range(len(beams))])
    edges_mm = ViewSampling().edges_mm
    maps = [delivered_fluence(plan, n, edges_mm, edges_mm) / mu for n, mu in enumerate(beam_mu)]
    return ReferencePlan(
        gantry_deg=np.array([a.gantry_deg for a in angles]),
        beam_mu=beam_mu,
        fmu=np.stack(maps).astype(np.float32),
        dose_gy=dose_gy,
        digest=settings.digest(),
    )


def drawn_preferences(rng: np.random.Generator, settings: ReferenceSettings) -> tuple[Protocol, FluenceSettings]:
    """Objectives of the prostate protocol and a smoothness, as one of many planners may prefer them."""
    protocol = read_protocol("prostate")
    objectives = []
    for spec in protocol.objectives:
        weight = spec.weight * float(np.exp(settings.weight_spread * rng.standard_normal()))
        change = 1 + settings.dose_spread * float(rng.uniform(-1, 1))
        dose_percent = spec.dose_percent
        if dose_percent is not None and spec.structure not in ("targets", "external"):
            dose_percent *= change
        objectives.append(replace(spec, weight=weight, dose_percent=dose_percent))
    smoothness = float(np.exp(rng.uniform(*np.log(settings.smoothness))))
    fluence = FluenceSettings(smoothness=smoothness, solver=settings.solver)
    return replace(protocol, objectives=tuple(objectives)), fluence


def plan_cohort(
    folder: Path,
    *,
    settings: ReferenceSettings = ReferenceSettings(),
    n_jobs: int = 1,
    progress: Progress | None = None,
) -> int:
    """Plan the patients that have no valid plan yet; stopping loses what is not yet written, a patient a job.

    Returns
    -------
    Number of patients planned now
    """
    report, cohort = progress or Silent(), read_cohort(folder)
    (folder / PLANS_FOLDER).mkdir(exist_ok=True)
    missing = [p for p in cohort.patients if reference_plan_of(folder, settings, p) is None]
    work = partial(_plan, folder, settings)
    in_processes("plans", work, missing, n_all=len(cohort.patients), n_jobs=n_jobs, report=report)
    return len(missing)


def _plan(folder: Path, settings: ReferenceSettings, patient: CohortPatient) -> None:
    case = reference_case(patient, settings)
    plan = make_reference_plan(
        case, read_machine(settings.machine), settings, seed=patient.seed, is_test=patient.split == "test"
    )
    write_reference_plan(plan, plan_file(folder, patient))


def plan_file(folder: Path, patient: CohortPatient) -> Path:
    """Where the plan of a patient is kept."""
    return folder / PLANS_FOLDER / f"{patient.id}.npz"


def reference_plan_of(folder: Path, settings: ReferenceSettings, patient: CohortPatient) -> ReferencePlan | None:
    """Plan of a patient; None where it is missing, damaged or made with other settings."""
    plan = read_kept(read_reference_plan, plan_file(folder, patient))
    return plan if plan is not None and plan.digest == settings.digest() else None


def read_all_plans(folder: Path, settings: ReferenceSettings, patients: Sequence[CohortPatient]) -> list[ReferencePlan]:
    """Plans of patients, all of which must have them."""
    found = []
    for patient in patients:
        plan = reference_plan_of(folder, settings, patient)
        if plan is None:
            raise InputError(f"Patient {patient.id} has no reference plan; run deeprt cohort plan '{folder}' first.")
        found.append(plan)
    return found


def write_reference_plan(plan: ReferencePlan, file: Path) -> None:
    """Write a plan, about a megabyte, under a temporary name first."""
    write_arrays(file, vars(plan))


def read_reference_plan(file: Path) -> ReferencePlan:
    """Read a plan.

    Raises
    ------
    InputError
        If the file holds no plan; a file that is missing is a `FileNotFoundError`.
    """
    content = read_arrays(file)
    try:
        return ReferencePlan(digest=str(content.pop("digest")), **content)
    except (KeyError, TypeError) as error:
        raise InputError(f"'{file}' cannot be read as a plan ({error}).") from error
