"""Plans of the beams that each method proposes, solved alike, and what they do to target and organs.

Doses are those of the optimum of P(B), which the paper's objective leaves a little below the prescription.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache, partial

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
from deeprt.training.dataset import anatomy_data
from deeprt.training.experiments.proposals import (
    AskedViews,
    by_anatomy,
    by_coarse,
    by_views,
    equispaced_beams,
    exchange,
    mean_curve_of,
    propose,
    random_beams,
)
from deeprt.training.experiments.setup import (
    Setup,
    first_training,
    load_labeled_patient,
    run_views,
    trained,
    worst_start,
)
from deeprt.training.experiments.statistics import (
    COARSE,
    DEFAULT,
    EQUISPACED,
    EXCHANGED,
    MEAN_CURVE,
    RANDOM,
    TEACHER,
    Plan,
)
from deeprt.training.measuring.parts import in_parts
from deeprt.training.measuring.results import Json

BeamSets = dict[tuple[str, int | None], tuple[int, ...]]
"""Beams by the method that chose them and, of a network, the fold."""

# Tighter than for labels, so that what differs between two sets of beams is not the solver's early end.
TIGHT = SolverSettings(max_iterations=150, tolerance=1e-5)


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


def scenario_plans(
    case: PatientCase, problem: SelectionProblem, sets: BeamSets, *, patient: str, scenario: int, nodes: bool = False
) -> list[Json]:
    """Plans of the beams of several methods in one scenario, as `deeprt.training.experiments.statistics.Plan`.

    Parameters
    ----------
    problem : of the scenario
    nodes : whether pelvic nodes are a target
    """
    solver, terms = PlanSolver(problem), {t.structure: t for t in problem.terms}
    prescribed, external = case.targets[0], case.external
    prescription_gy = prescribed.prescription_gy or 0.0
    rows = []
    for (method, fold), beams in sets.items():
        dose = solver.dose_gy(beams)
        target, body = (term_dvh(dose, terms[s.name]) for s in (prescribed, external))
        plan = Plan(
            patient=patient,
            scenario=scenario,
            method=method,
            objective=solver.objective(beams),
            nodes=nodes,
            fold=fold,
            beams=beams,
            metrics=plan_metrics(target, body, prescription_gy),
            organs=organ_doses(dose, case, problem.terms, prescription_gy),
        )
        rows.append(asdict(plan))
    return rows


def plans(setup: Setup, progress: Progress) -> list[Json]:
    """Plans of all methods in every full run of every test patient."""
    return _of_test_patients(setup, "plans", patient_plans, progress)


def exchanged(setup: Setup, progress: Progress) -> list[Json]:
    """Plans of the default network's beams after one sweep of exchanges, in every full run of every test patient."""
    return _of_test_patients(setup, "exchanged", patient_exchanged, progress)


def forced(setup: Setup, progress: Progress) -> list[Json]:
    """Objectives from the worst first beam on, in every full run of every test patient."""
    return _of_test_patients(setup, "forced", patient_forced, progress)


def _of_test_patients(
    setup: Setup, name: str, make: Callable[[Setup, str], list[Json]], progress: Progress
) -> list[Json]:
    """Rows of all test patients, which are kept patient by patient."""
    names, folder = [p.id for p in setup.cohort.of("test")], setup.out / "parts" / name
    parts = in_parts(folder, names, partial(make, setup), n_jobs=setup.n_jobs, progress=progress)
    return [row for part in parts for row in part]


def patient_plans(setup: Setup, patient_id: str) -> list[Json]:
    """Plans of all methods in every full run of one patient."""
    patient, cohort = load_labeled_patient(setup.data, patient_id), setup.cohort
    about, views = patient.about, run_views(patient)
    networks = {(name, k): setup.network(name, k) for name, k in trained(setup.runs)}
    curve = mean_curve_of(setup.data, cohort, first_training(cohort, setup.n_folds))
    anatomy = cache(lambda: anatomy_data(setup.data, cohort, [about]).patients[0])
    rows = []
    for n in setup.planned(patient):
        asked, n_beams = AskedViews(views[n]), len(patient.run(n))
        sets: BeamSets = {(TEACHER, None): patient.run(n)}
        for key, network in networks.items():
            own = by_anatomy(network, anatomy(), n) if isinstance(network, PaperNetwork) else by_views(network, asked)
            sets[key] = propose(own, n_beams)
        sets[MEAN_CURVE, None] = propose(curve, n_beams)
        sets |= untrained_sets(asked, n_beams, (about.seed, n))
        problem = patient.problem.only(n)
        rows += scenario_plans(patient.case, problem, sets, patient=about.id, scenario=n, nodes=about.nodes)
    return rows


def patient_exchanged(setup: Setup, patient_id: str) -> list[Json]:
    """Plans of the default network's beams after one sweep of exchanges, in every full run of one patient."""
    patient = load_labeled_patient(setup.data, patient_id)
    about, views = patient.about, run_views(patient)
    networks = {k: setup.network(name, k) for name, k in trained(setup.runs) if name == DEFAULT}
    rows = []
    for n in setup.planned(patient):
        asked, problem, n_beams = AskedViews(views[n]), patient.problem.only(n), len(patient.run(n))
        proposed = {k: propose(by_views(network, asked), n_beams) for k, network in networks.items()}
        found = {beams: exchange(views[n], beams) for beams in dict.fromkeys(proposed.values())}
        sets: BeamSets = {(EXCHANGED, k): found[beams] for k, beams in proposed.items()}
        rows += scenario_plans(patient.case, problem, sets, patient=about.id, scenario=n, nodes=about.nodes)
    return rows


def untrained_sets(views: AskedViews, n_beams: int, seed: Sequence[int]) -> BeamSets:
    """Beams of the methods that learn nothing: coarse, random and equispaced."""
    return {
        (COARSE, None): propose(by_coarse(views), n_beams),
        (RANDOM, None): random_beams(len(views.candidates), n_beams, seed),
        (EQUISPACED, None): equispaced_beams(views.candidates, n_beams),
    }


def patient_forced(setup: Setup, patient_id: str) -> list[Json]:
    """Objectives from the worst first beam on, in every full run of one patient."""
    patient = load_labeled_patient(setup.data, patient_id)
    views, network = run_views(patient), setup.network(DEFAULT)
    rows = []
    for n in setup.planned(patient):
        worst, n_beams = worst_start(patient.labels, n), len(patient.run(n))
        problem = patient.problem.only(n)
        solver, teacher = PlanSolver(problem), generate_columns(problem, n_beams, given=[worst])[0].chosen
        own = propose(by_views(network, AskedViews(views[n])), n_beams, given=[worst])
        row = {
            "patient": patient_id,
            "scenario": n,
            "forced": worst,
            "teacher_forced": solver.objective(teacher),
            "network_forced": solver.objective(own),
            "teacher_free": solver.objective(patient.run(n)),
        }
        rows.append(row)
    return rows
