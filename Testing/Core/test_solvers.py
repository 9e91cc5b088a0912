from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from Core.fluence_samples import (
    a_matrix,
    a_matrix_influence,
    a_planned_case,
    a_problem,
    a_sample,
    a_start,
    an_influence,
)
from numpy.testing import assert_allclose
from scipy.optimize import nnls

from deeprt.fluence.objectives import Geud, MaxDvh, MeanDose, SquaredDeviation, SquaredOverdose, SquaredUnderdose
from deeprt.fluence.problem import Roughness
from deeprt.fluence.solvers import SolverSettings, solve

PAPER = (
    ("PTV_60", SquaredDeviation(60.0), [0.5]),
    ("PTV_50", SquaredDeviation(50.0), [0.5]),
    ("Tube", SquaredDeviation(0.0), [0.5 * 0.3**2]),
    ("Skin", SquaredDeviation(0.0), [0.5 * 0.05**2]),
)
UNDER_AND_OVER = (
    ("PTV_60", SquaredUnderdose(60.0), [100.0]),
    ("PTV_60", SquaredOverdose(62.0), [100.0]),
    ("PTV_50", SquaredUnderdose(50.0), [100.0]),
    ("Ring", SquaredOverdose(35.0), [20.0]),
    ("Körper", SquaredOverdose(40.0), [50.0]),
)
MEAN = (
    ("PTV_50", SquaredDeviation(50.0), [20.0]),
    ("Tube", MeanDose(), [5.0]),
    ("Körper", MeanDose(), [2.0]),
)
GEUD = (
    ("PTV_50", SquaredUnderdose(50.0), [50.0]),
    ("PTV_50", SquaredOverdose(54.0), [50.0]),
    ("Tube", Geud(8.0, 6.0), [3.0]),
    ("Ring", Geud(15.0, 2.0), [1.0]),
)
PRECISE = SolverSettings("l-bfgs-b", 1000, 1e-9)


def the_problem(lines, *, per_volume=True, roughness=0.0):
    problem = a_problem(*lines, per_volume=per_volume, operator=a_matrix_influence())
    if not roughness:
        return problem
    first, second = an_influence().neighbors()
    return replace(problem, roughness=Roughness(first, second, roughness))


PROBLEMS = {
    "paper, sum over voxels": lambda: the_problem(PAPER, per_volume=False),
    "paper, mean over volume": lambda: the_problem(PAPER),
    "under- and overdose": lambda: the_problem(UNDER_AND_OVER),
    "mean dose": lambda: the_problem(MEAN),
    "gEUD": lambda: the_problem(GEUD),
    "under- and overdose, smooth": lambda: the_problem(UNDER_AND_OVER, roughness=0.05),
}


def chambolle_pock(n_iterations, **settings):
    """Settings that run all their iterations."""
    return SolverSettings("chambolle-pock", n_iterations, 1e-12, **settings)


@cache
def an_optimum(name, settings):
    """A problem, its start and its solution."""
    problem = PROBLEMS[name]()
    start = a_start(problem)
    return problem, start, solve(problem, start, settings)


def least_squares(lines):
    """Stacked rows and right-hand side of quadratic lines that sum over voxels."""
    rows, wished = [], []
    for name, objective, (weight,) in lines:
        share = a_planned_case().structure(name).fraction.ravel()[a_sample().voxels] * a_sample().weight
        root = np.sqrt(weight * share[share > 0])
        rows.append(root[:, None] * a_matrix()[share > 0])
        wished.append(root * objective.dose_gy)
    return np.concatenate(rows), np.concatenate(wished)


@pytest.mark.parametrize("name", PROBLEMS)
def test_both_solvers_find_the_same_optimum(name):
    problem, start, expected = an_optimum(name, PRECISE)
    _, _, found = an_optimum(name, chambolle_pock(400))
    assert expected.objective[0] < 0.8 * problem.value(start, problem.dose(start))[0]
    assert_allclose(found.objective, expected.objective, rtol=0.01)


def test_both_solvers_agree_with_nonnegative_least_squares():
    rows, wished = least_squares(PAPER)
    reference, residual = nnls(rows, wished)
    for settings, tolerance in ((PRECISE, 1e-4), (chambolle_pock(400), 1e-3)):
        problem, _, found = an_optimum("paper, sum over voxels", settings)
        assert_allclose(found.objective[0], residual**2, rtol=tolerance)
        # The fluence itself is less certain than the dose: many fluences give nearly the same.
        difference_gy = problem.dose(found.fluence_mu)[0].numpy() - a_matrix() @ reference
        assert np.sqrt(np.mean(difference_gy**2)) < 0.1
        assert_allclose(difference_gy, 0, atol=1.0)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize(("settings", "tolerance"), [(PRECISE, 0.01), (chambolle_pock(400), 0.05)])
def test_the_optimum_keeps_its_conditions(name, settings, tolerance):
    """The gradient vanishes where fluence flows and does not fall where none does (Karush, Kuhn and Tucker)."""
    problem, start, optimum = an_optimum(name, settings)
    x = optimum.fluence_mu
    scale = problem.gradient(start, problem.dose(start)).abs().max()
    gradient = problem.gradient(x, problem.dose(x)) / scale
    flows = x > 0
    assert x.min() >= 0
    assert_allclose(gradient[flows], 0, atol=tolerance)
    assert (gradient[~flows] >= -tolerance).all()


def test_a_batch_of_weights_equals_single_solutions():
    weights = [[0.5, 0.5, 0.5], [0.5, 0.5, 2.0], [0.001, 0.1, 0.02], [0.005, 0.005, 0.0001]]
    lines = [(name, objective, w) for (name, objective, _), w in zip(PAPER, weights, strict=True)]
    batch = the_problem(lines)
    found = solve(batch, a_start(batch).expand(3, -1), chambolle_pock(60))
    for n in range(3):
        single = the_problem([(name, objective, [w[n]]) for name, objective, w in lines])
        alone = solve(single, a_start(single), chambolle_pock(60))
        assert_allclose(found.objective[n], alone.objective[0], rtol=1e-3)
        scale = float(alone.fluence_mu.max())
        assert_allclose(found.fluence_mu[n], alone.fluence_mu[0], atol=1e-3 * scale)
    assert_allclose(found.history[-1], found.objective.sum(), rtol=1e-6)


@pytest.mark.parametrize("solver", ["l-bfgs-b", "chambolle-pock"])
def test_the_result_tells_its_objective_and_whether_it_converged(solver):
    problem = the_problem(UNDER_AND_OVER)
    start = a_start(problem)
    seen = []
    done = solve(
        problem, start, SolverSettings(solver, 500, 1e-3), on_iteration=lambda n, objective: seen.append((n, objective))
    )
    assert done.converged
    assert_allclose(done.objective, problem.value(done.fluence_mu, problem.dose(done.fluence_mu)))
    assert_allclose(done.history[-1], done.objective[0], rtol=1e-3)
    assert [objective for _, objective in seen] == list(done.history)
    assert [n for n, _ in seen] == sorted({n for n, _ in seen})
    assert not solve(problem, start, SolverSettings(solver, 10, 1e-9)).converged


@pytest.mark.parametrize("solver", ["l-bfgs-b", "chambolle-pock"])
def test_a_start_is_kept_and_a_good_one_is_not_left(solver):
    problem = the_problem(UNDER_AND_OVER)
    optimum = solve(problem, a_start(problem), PRECISE)
    before = optimum.fluence_mu.clone()
    again = solve(problem, optimum.fluence_mu, SolverSettings(solver, 50, 1e-5))
    assert_allclose(optimum.fluence_mu, before)
    assert_allclose(again.objective, optimum.objective, rtol=0.02)


def test_lbfgsb_falls_in_every_iteration_and_takes_dvh_objectives():
    problem = the_problem((*UNDER_AND_OVER, ("Tube", MaxDvh(10.0, 20.0), [30.0])))
    done = solve(problem, a_start(problem), SolverSettings("l-bfgs-b", 60, 1e-6))
    assert (np.diff(done.history) <= 0).all()
    without = solve(the_problem(UNDER_AND_OVER), a_start(problem), SolverSettings("l-bfgs-b", 60, 1e-6))
    tube = problem.terms[-1]

    def above_10_gy(x):
        return float(tube.measure[problem.dose(x)[0, tube.index] > 10].sum())

    assert above_10_gy(done.fluence_mu) < above_10_gy(without.fluence_mu)


def test_the_step_ratio_steers_chambolle_pock_but_not_where_it_ends():
    problem = the_problem(PAPER)
    start = a_start(problem)
    early = [solve(problem, start, chambolle_pock(20, step_ratio=r)).objective.item() for r in (1.0, 3.0)]
    late = [solve(problem, start, chambolle_pock(600, step_ratio=r)).objective.item() for r in (1.0, 3.0)]
    assert abs(early[0] - early[1]) > 0.01 * early[0]
    assert_allclose(late[0], late[1], rtol=0.01)


def test_beamlets_without_dose_and_voxels_without_beamlet_do_no_harm():
    operator = a_matrix_influence()
    matrix = operator.matrix.clone()
    matrix[3], matrix[:, ::50] = 0, 0
    problem = a_problem(*UNDER_AND_OVER, operator=replace(operator, matrix=matrix))
    for settings in (SolverSettings("l-bfgs-b", 30), chambolle_pock(30)):
        assert torch.isfinite(solve(problem, a_start(problem), settings).fluence_mu).all()


# What ends early or is refused


@pytest.mark.parametrize("solver", ["l-bfgs-b", "chambolle-pock"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_on_iteration_may_raise_to_cancel(solver, error):
    def cancel(iteration, objective):
        raise error("enough")

    problem = the_problem(PAPER)
    with pytest.raises(error, match="enough"):
        solve(problem, a_start(problem), SolverSettings(solver, 50), cancel)


def test_chambolle_pock_refuses_an_objective_that_is_not_convex():
    problem = the_problem((*PAPER, ("Tube", MaxDvh(10.0, 20.0), [1.0])))
    with pytest.raises(ValueError, match="'MaxDvh' of Tube is not convex; use the solver 'l-bfgs-b'"):
        solve(problem, a_start(problem), chambolle_pock(10))


def test_lbfgsb_refuses_a_batch():
    problem = the_problem(PAPER)
    with pytest.raises(ValueError, match="solves one problem at a time; use 'chambolle-pock' for a batch"):
        solve(problem, a_start(problem).expand(2, -1), SolverSettings("l-bfgs-b"))


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="Solver 'adam' is unknown; use 'l-bfgs-b' or 'chambolle-pock'"):
        SolverSettings("adam")
    for wrong in ({"max_iterations": 0}, {"tolerance": 0.0}, {"step_ratio": -1.0}):
        with pytest.raises(ValueError, match="max_iterations, tolerance and step_ratio must be positive"):
            SolverSettings(**wrong)
