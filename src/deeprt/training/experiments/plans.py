"""Plans of the beams that each method proposes, solved alike, and what they do to target and organs.

Doses are those of the optimum of P(B), which the paper's objective leaves a little below the prescription. They are not
normalized; metrics of doses that are, to D95, stand beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deeprt.case import PatientCase
from deeprt.evaluation.dvh import Dvh, dvh
from deeprt.fluence.problem import Term
from deeprt.fluence.solvers import SolverSettings
from deeprt.networks.paper_network import PaperNetwork
from deeprt.orientation.column_generation import SelectionProblem, generate_columns, solve_limited
from deeprt.progress import Progress
from deeprt.structures import Role
from deeprt.training.cohort import labelled
from deeprt.training.dataset import anatomy_data
from deeprt.training.experiments.proposals import (
    COARSE,
    MEAN_CURVE,
    RANDOM,
    AskedViews,
    by_anatomy,
    by_coarse,
    by_curves,
    by_views,
    equispaced_beams,
    mean_curves,
    propose,
    random_beams,
)
from deeprt.training.experiments.setup import (
    FIRST_FOLD,
    LabelledPatient,
    Setup,
    in_parts,
    labelled_patient,
    run_views,
    trained,
    trained_network,
    worst_start,
)
from deeprt.training.experiments.statistics import EQUISPACED, TEACHER

# Tighter than for labels, so that what differs between two sets of beams is not the solver's early end.
TIGHT = SolverSettings(max_iterations=150, tolerance=1e-5)


@dataclass(frozen=True)
class PlanResult:
    """The plan of one method in one scenario, as ``plans.json`` holds it; doses are over the highest prescription.

    Parameters
    ----------
    patient, nodes : whose, and whether pelvic nodes are a target
    fold : of a network
    beams : candidates in the order of choice
    objective : optimum of P(B)
    metrics : of the target of the highest prescription, see `plan_metrics`
    normalized : the same of the dose scaled such that 95 % of that target receive the prescription
    organs : mean and max in each target, organ and the body
    """

    patient: str
    nodes: bool
    scenario: int
    method: str
    fold: int | None
    beams: tuple[int, ...]
    objective: float
    metrics: dict[str, float]
    normalized: dict[str, float]
    organs: dict[str, dict[str, float]]


@dataclass(frozen=True)
class ForcedResult:
    """Objectives where the worst beam comes first, as ``forced.json`` holds them.

    Parameters
    ----------
    forced : the candidate of the least fitness without any beam
    teacher_forced, network_forced : of what column generation and the default network made of it
    teacher_free : of column generation's own beams
    """

    patient: str
    scenario: int
    forced: int
    teacher_forced: float
    network_forced: float
    teacher_free: float


class PlanSolver:
    """Plans of one scenario; a set of beams is solved once, from scratch, whoever proposes it and in which order."""

    def __init__(self, problem: SelectionProblem) -> None:
        self.problem = replace(problem, solver=TIGHT)
        self._solved: dict[frozenset[int], tuple[float, NDArray[np.float32]]] = {}

    def objective(self, beams: Sequence[int]) -> float:
        """Optimum of P(B)."""
        return self._of(beams)[0]

    def dose_gy(self, beams: Sequence[int]) -> NDArray[np.float32]:
        """Dose of the problem's voxels, (n_voxels,), whole course."""
        return self._of(beams)[1]

    def _of(self, beams: Sequence[int]) -> tuple[float, NDArray[np.float32]]:
        key = frozenset(beams)
        if key not in self._solved:
            self._solved[key] = solved_dose(self.problem, beams)
        return self._solved[key]


def solved_fluence(problem: SelectionProblem, beams: Sequence[int]) -> tuple[float, dict[int, torch.Tensor]]:
    """Solve P(B): objective, and fluence by beam in increasing order, (1, n_open) MU each."""
    fluence: dict[int, torch.Tensor] = {}
    _, objective = solve_limited(problem, [tuple(beams)], fluence)
    return float(objective[0]), dict(sorted(fluence.items()))


def solved_dose(problem: SelectionProblem, beams: Sequence[int]) -> tuple[float, NDArray[np.float32]]:
    """Solve P(B): objective, and dose of the problem's voxels, (n_voxels,) Gy, whole course."""
    objective, fluence = solved_fluence(problem, beams)
    dose = problem.limited(list(fluence), [list(fluence)]).dose(torch.cat(list(fluence.values()), dim=1))
    return objective, dose[0].cpu().numpy()


def term_dvh(dose_gy: NDArray[np.float32], term: Term) -> Dvh:
    """DVH of a term's structure; its volume is the sum of the measures, in voxels."""
    return dvh(dose_gy[term.index.cpu().numpy()], term.measure.cpu().numpy(), 1.0)


def plan_metrics(target: Dvh, body: Dvh, prescription_gy: float) -> dict[str, float]:
    """Dosimetric metrics of the paper's section II.D, on sampled voxels that stand for those left out.

    Parameters
    ----------
    target : of the highest prescription
    body : of the external structure; isodose volumes are those within it

    Returns
    -------
    D98, D99 and Dmax over the prescription, Dmax being the largest dose in the target; homogeneity (D2 − D98)/D50;
    van't Riet's V(target ∩ 100 %)²/(V(target) · V(100 %)); R50, V(50 %)/V(target)
    """
    covered = target.volume_at_dose(prescription_gy) * target.volume_cc
    reference = body.volume_at_dose(prescription_gy) * body.volume_cc
    d2, d50, d98 = (target.dose_at_volume(percent) for percent in (2, 50, 98))
    return {
        "D98": d98 / prescription_gy,
        "D99": target.dose_at_volume(99) / prescription_gy,
        "Dmax": target.max_gy / prescription_gy,
        "homogeneity": (d2 - d98) / d50,
        "van_t_riet": covered**2 / (target.volume_cc * reference) if reference > 0 else 0.0,
        "R50": body.volume_at_dose(prescription_gy / 2) * body.volume_cc / target.volume_cc,
    }


def organ_doses(
    dose_gy: NDArray[np.float32], case: PatientCase, terms: Sequence[Term], prescription_gy: float
) -> dict[str, dict[str, float]]:
    """Mean and largest dose over the prescription in each target, organ at risk and the body.

    Of a target of lower prescription only the part counts that is to have it, see `outside_higher_targets`.
    """
    roles = {s.name: s.role for s in case.structures}
    curves = {
        t.structure: term_dvh(dose_gy, t) for t in terms if roles.get(t.structure, Role.TUNING) is not Role.TUNING
    }
    return {
        name: {"mean": curve.mean_gy / prescription_gy, "max": curve.max_gy / prescription_gy}
        for name, curve in curves.items()
    }


def plans(setup: Setup, progress: Progress) -> list[dict[str, Any]]:
    """Plans of all methods in every full run of every test patient."""
    names, folder = [p.id for p in setup.cohort.of("test")], setup.out / "parts" / "plans"
    parts = in_parts(folder, names, partial(patient_plans, setup), n_jobs=setup.n_jobs, progress=progress)
    return [row for part in parts for row in part]


def patient_plans(setup: Setup, patient_id: str) -> list[dict[str, Any]]:
    """Plans of all methods in every full run of one patient."""
    patient, cohort = labelled_patient(setup.data, patient_id), setup.cohort
    views = run_views(setup.data, patient)
    networks = {(name, k): trained_network(setup.runs, name, k) for name, k in trained(setup.runs)}
    training, _ = list(cohort.folds(setup.n_folds))[FIRST_FOLD - 1]
    curve = by_curves(mean_curves(labelled(setup.data, cohort, training)))
    anatomy = cache(lambda: anatomy_data(setup.data, cohort, [patient.about]).patients[0])
    rows = []
    for n in setup.planned(patient):
        asked, problem, n_beams = AskedViews(views[n]), patient.problem.only(n), len(patient.run(n))
        sets: dict[tuple[str, int | None], tuple[int, ...]] = {(TEACHER, None): patient.run(n)}
        for key, network in networks.items():
            own = by_anatomy(network, anatomy(), n) if isinstance(network, PaperNetwork) else by_views(network, asked)
            sets[key] = propose(own, n_beams)
        sets[MEAN_CURVE, None] = propose(curve, n_beams)
        for name, beams in untrained_sets(asked, n_beams, (patient.about.seed, n)).items():
            sets[name, None] = beams
        solver = PlanSolver(problem)
        rows += [asdict(_plan_result(patient, n, *who, beams, solver)) for who, beams in sets.items()]
    return rows


def untrained_sets(views: AskedViews, n_beams: int, seed: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Beams of the methods that learn nothing: coarse, random and equispaced."""
    return {
        COARSE: propose(by_coarse(views), n_beams),
        RANDOM: random_beams(len(views.candidates), n_beams, seed),
        EQUISPACED: equispaced_beams(views.candidates, n_beams),
    }


def _plan_result(
    patient: LabelledPatient, scenario: int, method: str, fold: int | None, beams: tuple[int, ...], solver: PlanSolver
) -> PlanResult:
    """Solve the plan of a set of beams, and measure it."""
    prescribed, external = patient.case.targets[0], patient.case.external
    prescription_gy = prescribed.prescription_gy or 0.0
    objective, dose = solver.objective(beams), solver.dose_gy(beams)
    terms = {t.structure: t for t in solver.problem.terms}

    def metrics(factor: float) -> dict[str, float]:
        target, body = (term_dvh(np.float32(factor) * dose, terms[s.name]) for s in (prescribed, external))
        return plan_metrics(target, body, prescription_gy)

    d95_gy = term_dvh(dose, terms[prescribed.name]).dose_at_volume(95)
    return PlanResult(
        patient=patient.about.id,
        nodes=patient.about.nodes,
        scenario=scenario,
        method=method,
        fold=fold,
        beams=beams,
        objective=objective,
        metrics=metrics(1.0),
        normalized=metrics(prescription_gy / d95_gy),
        organs=organ_doses(dose, patient.case, solver.problem.terms, prescription_gy),
    )


def forced(setup: Setup, progress: Progress) -> list[dict[str, Any]]:
    """Objectives from the worst first beam on, in every full run of every test patient."""
    names, folder = [p.id for p in setup.cohort.of("test")], setup.out / "parts" / "forced"
    parts = in_parts(folder, names, partial(patient_forced, setup), n_jobs=setup.n_jobs, progress=progress)
    return [row for part in parts for row in part]


def patient_forced(setup: Setup, patient_id: str) -> list[dict[str, Any]]:
    """Objectives from the worst first beam on, in every full run of one patient."""
    patient = labelled_patient(setup.data, patient_id)
    views, network = run_views(setup.data, patient), trained_network(setup.runs, "default")
    rows = []
    for n in setup.planned(patient):
        worst, n_beams = worst_start(patient.labels, n), len(patient.run(n))
        problem = patient.problem.only(n)
        solver = PlanSolver(problem)
        own = propose(by_views(network, AskedViews(views[n])), n_beams, given=[worst])
        result = ForcedResult(
            patient=patient_id,
            scenario=n,
            forced=worst,
            teacher_forced=solver.objective(generate_columns(problem, n_beams, given=[worst])[0].chosen),
            network_forced=solver.objective(own),
            teacher_free=solver.objective(patient.run(n)),
        )
        rows.append(asdict(result))
    return rows
