"""What is measured of plans in the experiments, and that every method's beams are solved alike."""

from functools import cache

import numpy as np
import torch
from Core.plan_samples import a_case
from Core.selection_samples import a_selection_problem
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose

from deeprt.evaluation.dvh import dvh
from deeprt.orientation.column_generation import fitness_of, generate_columns, solve_limited
from deeprt.training.experiments.plans import PlanSolver, organ_doses, plan_metrics, scenario_plans
from deeprt.training.experiments.proposals import propose
from deeprt.training.experiments.statistics import plans_of


def curve_of(dose, measure=None):
    dose = np.asarray(dose, np.float32)
    return dvh(dose, np.ones_like(dose) if measure is None else np.asarray(measure, np.float32), 1.0)


# Metrics


def test_a_target_in_a_homogeneous_dose_that_ends_at_its_edge_is_ideal():
    metrics = plan_metrics(curve_of([60.0] * 10), curve_of([60.0] * 10 + [0.0] * 90), 60.0)
    assert metrics == {"D98": 1.0, "D99": 1.0, "Dmax": 1.0, "homogeneity": 0.0, "van_t_riet": 1.0, "R50": 1.0}


def test_metrics_of_a_dose_that_rises_linearly_are_known():
    """Target from 80 % to 120 % of 50 Gy, and around it twice its volume from 0 to 100 %."""
    n = 4000
    along = (np.arange(n) + 0.5) / n
    target, around = 40 + 20 * along, 50 * np.repeat(along, 2)
    metrics = plan_metrics(curve_of(target), curve_of(np.concatenate([target, around])), 50.0)
    known = {"D98": 0.808, "D99": 0.804, "Dmax": 1.2, "homogeneity": 0.384, "van_t_riet": 0.5, "R50": 2.0}
    assert_allclose([metrics[k] for k in known], list(known.values()), atol=2 / n)  # a step of the dose


def test_sampled_voxels_stand_for_those_left_out():
    rng = np.random.default_rng(1)
    target, body = rng.uniform(45, 55, 30), rng.uniform(0, 55, 100)
    thrice = curve_of(np.repeat(body, 3))
    assert_allclose(
        list(plan_metrics(curve_of(target), curve_of(body, np.full(100, 3.0)), 50.0).values()),
        list(plan_metrics(curve_of(target), thrice, 50.0).values()),
    )


def test_metrics_without_any_prescribed_dose_are_zero_where_they_count_it():
    metrics = plan_metrics(curve_of([20.0] * 10), curve_of([20.0] * 100), 50.0)
    assert (metrics["van_t_riet"], metrics["R50"], metrics["Dmax"]) == (0.0, 0.0, 0.4)


def test_doses_of_organs_are_means_over_their_voxels_and_shares():
    problem = a_selection_problem()
    dose = np.random.default_rng(2).uniform(0, 60, problem.pool.voxels.size).astype(np.float32)
    organs = organ_doses(dose, a_case(), problem.terms, 60.0)
    assert set(organs) == {"Körper", "PTV_50", "PTV_60", "Tube"}, "tuning structures are none"
    tube = next(t for t in problem.terms if t.structure == "Tube")
    measure, inside = tube.measure.numpy(), dose[tube.index.numpy()]
    assert_allclose(organs["Tube"]["mean"], (measure * inside).sum() / measure.sum() / 60, rtol=1e-5)  # float32 sums
    assert_allclose(organs["Tube"]["max"], inside.max() / 60)


# Plans


@cache
def a_selection():
    return generate_columns(a_selection_problem(), 3)[0]


def test_a_method_that_is_column_generation_has_its_objective():
    problem = a_selection_problem()

    def teacher(chosen):
        multipliers, _ = solve_limited(problem, [chosen], {})
        return fitness_of(problem.reduced_costs(multipliers))[0].astype(np.float32)

    beams = propose(teacher, 3)
    assert set(beams) == set(a_selection().chosen)
    solver = PlanSolver(problem)
    assert solver.objective(beams) / solver.objective(a_selection().chosen) == 1
    fresh = PlanSolver(problem).objective(a_selection().chosen[::-1])
    assert fresh == solver.objective(beams), "nor does the order of choice matter, or what was solved before"
    assert fresh <= a_selection().objectives[-1] * (1 + 1e-3)  # solved no worse than in the search


def test_the_dose_of_a_plan_is_that_of_its_objective():
    problem = a_selection_problem()
    solver, beams = PlanSolver(problem), a_selection().chosen
    dose = torch.from_numpy(solver.dose_gy(beams))[None]
    value = sum(float(t.weight[0, 0] * t.objective.value(dose[:, t.index], t.measure)[0]) for t in problem.terms)
    assert_allclose(value, solver.objective(beams), rtol=1e-5)  # float32 doses


def test_each_method_has_a_row_of_what_its_beams_give():
    problem, teacher = a_selection_problem(), a_selection().chosen
    sets = {("column generation", None): teacher, ("default", 2): (0, 1, 2), ("default", 3): teacher[::-1]}
    rows = scenario_plans(a_case(), problem, sets, patient="P", scenario=6, nodes=True)
    plans = plans_of([row | {"older": "than this version"} for row in rows])
    assert [(p.method, p.fold, p.beams) for p in plans] == [(*who, beams) for who, beams in sets.items()]
    assert {(p.patient, p.scenario, p.nodes) for p in plans} == {("P", 6, True)}
    assert plans[0].objective == plans[2].objective < plans[1].objective
    for plan in plans:
        dose = PlanSolver(problem).dose_gy(plan.beams)
        assert plan.organs == organ_doses(dose, a_case(), problem.terms, 60.0)
        assert plan.organs["PTV_60"]["max"] == plan.metrics["Dmax"]
