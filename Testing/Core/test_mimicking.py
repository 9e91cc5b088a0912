"""Dose mimicking: which voxels count, and a problem that is solved by the fluence that gave the dose."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from Core.fluence_prediction_samples import a_planned_case, a_wide_influence, known_dose, known_fluence
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.fluence.mimicking import mimicked_voxels, mimicking_problem
from deeprt.fluence.solvers import SolverSettings, solve


def drawn(n_voxels=500, least_share=0.3, seed=1, wished_gy=None):
    wished = known_dose() if wished_gy is None else wished_gy
    rng = np.random.default_rng(seed)
    return mimicked_voxels(a_planned_case(), wished, n_voxels=n_voxels, least_share=least_share, rng=rng)


def a_problem(n_voxels=500, wished_gy=None):
    """The known dose, or another one, on some voxels."""
    operator = a_wide_influence().restricted(drawn(n_voxels))
    wished = known_dose() if wished_gy is None else wished_gy
    return mimicking_problem(operator, wished, a_planned_case().n_fractions)


# Voxels


def test_all_voxels_of_enough_dose_inside_the_body_count():
    body, dose = a_planned_case().external.fraction > 0.5, known_dose()
    for share in (0.1, 0.6):
        expected = np.flatnonzero(body & (dose > share * dose.max()))
        assert_array_equal(drawn(n_voxels=10**6, least_share=share), expected)


def test_dose_outside_the_body_does_not_count():
    body = a_planned_case().external.fraction > 0.5
    everywhere = np.ones(body.shape, np.float32)
    assert not body.all()
    assert_array_equal(drawn(n_voxels=10**6, wished_gy=everywhere), np.flatnonzero(body))


def test_as_many_voxels_are_drawn_as_asked_for_in_increasing_order():
    voxels = drawn(n_voxels=500)
    assert voxels.size == 500
    assert np.all(np.diff(voxels) > 0)
    assert np.isin(voxels, drawn(n_voxels=10**6)).all()


def test_the_same_seed_draws_the_same_voxels_and_another_one_others():
    assert_array_equal(drawn(seed=4), drawn(seed=4))
    assert not np.array_equal(drawn(seed=4), drawn(seed=5))


def test_voxels_are_drawn_from_everywhere():
    every, some = drawn(n_voxels=10**6), drawn(n_voxels=1000)
    points = a_planned_case().grid.points_lps
    # Standard error of the mean of 1000 points that spread over some 20 mm: 0.6 mm.
    assert_allclose(points(some).mean(axis=0), points(every).mean(axis=0), atol=2.5)


# Problem


def test_the_objective_is_zero_for_the_fluence_that_gave_the_dose():
    problem, x = a_problem(), known_fluence()
    assert float(problem.value(x, problem.dose(x))[0]) < 1e-9 * float(known_dose().max()) ** 2  # single precision


def test_the_objective_is_the_mean_squared_difference_of_the_course():
    problem, x = a_problem(), known_fluence()
    wished = known_dose().ravel()[problem.operator.voxels].astype(float)
    assert_allclose(float(problem.value(1.5 * x, problem.dose(1.5 * x))[0]), np.mean((0.5 * wished) ** 2), rtol=1e-5)


def test_the_gradient_agrees_with_central_differences():
    problem, rng = a_problem(), np.random.default_rng(2)
    x = torch.from_numpy(rng.uniform(5, 30, known_fluence().shape)).float()
    direction = torch.from_numpy(rng.normal(size=x.shape)).float()
    ahead, behind = (float(problem.value(y, problem.dose(y))[0]) for y in (x + direction, x - direction))
    slope = float((problem.gradient(x, problem.dose(x)) * direction).sum())
    # A quadratic has no third derivative: only single precision is left.
    assert_allclose((ahead - behind) / 2, slope, rtol=1e-3)


def test_the_gradient_vanishes_where_the_dose_is_met():
    problem, x = a_problem(), known_fluence()
    at, beside = (problem.gradient(y, problem.dose(y)).abs().max() for y in (x, 1.01 * x))
    assert at < 1e-3 * beside


@pytest.mark.parametrize("solver", ["l-bfgs-b", "chambolle-pock"])
def test_both_solvers_come_near_the_wished_dose(solver):
    problem = a_problem()
    start = torch.full_like(known_fluence(), float(known_fluence().mean()))
    before = float(problem.value(start, problem.dose(start))[0])
    optimum = solve(problem, start, SolverSettings(solver, max_iterations=60, tolerance=1e-9))
    assert float(optimum.objective[0]) < 0.01 * before
    assert optimum.fluence_mu.min() >= 0


def test_the_number_of_fractions_counts():
    problem, x = a_problem(), known_fluence()
    half = replace(problem, n_fractions=problem.n_fractions * 2)
    assert float(half.value(x / 2, half.dose(x / 2))[0]) < 1e-9 * float(known_dose().max()) ** 2


def half_on_one_side(dose_gy):
    """Half of the dose on one side of the target's center, the whole dose on the other."""
    case = a_planned_case()
    left = case.grid.points_lps()[:, 0].reshape(dose_gy.shape) > case.isocenter_lps()[0]
    return np.where(left, dose_gy / 2, dose_gy).astype(np.float32)


def test_a_dose_that_no_fluence_gives_is_met_as_well_as_fluence_can():
    problem = a_problem(wished_gy=half_on_one_side(known_dose()))
    x = solve(problem, known_fluence(), SolverSettings(max_iterations=300, tolerance=1e-10)).fluence_mu
    gradient = problem.gradient(x, problem.dose(x))[0]
    size = float(problem.gradient(known_fluence(), problem.dose(known_fluence())).abs().max())
    # Optimal with bounds: no slope where there is fluence, none downhill where there is none.
    assert float(gradient[x[0] > 1e-3].abs().max()) < 1e-2 * size
    assert float(gradient[x[0] <= 1e-3].min()) > -1e-2 * size
