import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from deeprt.fluence.objectives import (
    ConvexObjective,
    Geud,
    MaxDvh,
    MeanDose,
    MinDvh,
    SquaredDeviation,
    SquaredOverdose,
    SquaredUnderdose,
    dose_at_volume,
)

CONVEX = (
    SquaredDeviation(52.0),
    SquaredOverdose(48.0),
    SquaredUnderdose(61.0),
    MeanDose(),
    Geud(20.0, 1.0),
    Geud(25.0, 1.5),
    Geud(35.0, 4.0),
    Geud(45.0, 12.5),
)
NOT_CONVEX = (MaxDvh(40.0, 35.0), MinDvh(60.0, 90.0))
EPSILON_GY = 1e-5


@pytest.fixture
def doses():
    """Three different doses of 40 voxels, from none to 80 Gy, float64."""
    return torch.from_numpy(np.random.default_rng(3).uniform(0, 80, (3, 40)))


@pytest.fixture
def measure():
    """Fractional shares, with a voxel outside and the weights of a sample."""
    values = np.random.default_rng(4).uniform(0.05, 1, 40)
    values[7], values[20:30] = 0.0, 10 * values[20:30]
    return torch.from_numpy(values)


def central_differences(objective, dose, measure):
    """Derivative of the value by each voxel's dose, (n_batch, n_voxels)."""
    columns = []
    for voxel in range(dose.shape[1]):
        step = torch.zeros_like(dose)
        step[:, voxel] = EPSILON_GY
        rise = objective.value(dose + step, measure) - objective.value(dose - step, measure)
        columns.append(rise / (2 * EPSILON_GY))
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("objective", CONVEX + NOT_CONVEX, ids=repr)
def test_the_gradient_is_the_slope_of_the_value(objective, doses, measure):
    gradient = objective.gradient(doses, measure)
    assert gradient.shape == doses.shape
    assert gradient.abs().max() > 0
    # Central differences of values near 1e5 in float64 are good to about 1e-16 * 1e5 / 1e-5.
    assert_allclose(gradient, central_differences(objective, doses, measure), rtol=1e-6, atol=5e-5)


def assert_is_prox(objective, y, dose, measure, step):
    """Zero is a subgradient of value and pull at y; a power mean has a kink where the dose is zero."""
    residual = (objective.gradient(y, measure) * step + y - dose).numpy()
    kink = (y == 0).numpy()
    assert_allclose(residual[~kink], 0, atol=1e-5)  # Gy; the bisection of gEUD leaves a few 1e-7
    assert (residual[kink] >= 0).all()


@pytest.mark.parametrize("objective", CONVEX, ids=repr)
def test_the_prox_is_where_gradient_and_pull_cancel(objective, doses, measure):
    step = torch.from_numpy(np.random.default_rng(5).uniform(0.01, 20, doses.shape))
    y = objective.prox(doses, measure, step)
    assert (y - doses).abs().max() > 0.1
    assert_is_prox(objective, y, doses, measure, step)


@pytest.mark.parametrize("exponent", [1.0, 1.2, 2.0, 6.0, 15.0, 40.0])
@pytest.mark.parametrize("step_size", [1.0, 1e2, 1e4])
def test_the_prox_of_geud_is_exact_for_every_exponent_and_step(doses, measure, exponent, step_size):
    objective = Geud(20.0, exponent)
    step = torch.from_numpy(np.random.default_rng(6).uniform(0.5, 1, doses.shape)) * step_size
    y = objective.prox(doses, measure, step)
    # Divided by the step, so that a stiff pull towards the reference is judged by the forces that balance.
    residual = (objective.gradient(y, measure) + (y - doses) / step)[y > 0]
    assert_allclose(residual, 0, atol=1e-5 * float(objective.gradient(doses, measure).abs().max()))


@pytest.mark.parametrize("objective", CONVEX, ids=repr)
def test_the_prox_minimizes_value_and_distance(objective, measure):
    few = measure[:6]
    dose = torch.tensor([[70.0, 66.0, 51.0, 30.0, 42.0, 59.0]], dtype=torch.float64)
    step = torch.tensor([[1.0, 0.2, 1.5, 0.4, 0.8, 0.7]], dtype=torch.float64)

    def total(y):
        candidate = torch.from_numpy(y)[None]
        return float(objective.value(candidate, few)[0] + ((candidate - dose) ** 2 / (2 * step)).sum())

    expected = minimize(total, dose[0].numpy(), method="BFGS", options={"gtol": 1e-7}).x
    assert_allclose(objective.prox(dose, few, step)[0], expected, atol=2e-4)  # Gy, of BFGS by finite differences


@pytest.mark.parametrize("objective", CONVEX, ids=repr)
def test_the_prox_of_negative_and_zero_dose_is_optimal(objective, measure):
    """Chambolle-Pock asks for it: its dual variables stray below zero dose."""
    dose = torch.linspace(-20, 70, 40, dtype=torch.float64)[None]
    dose[0, 9] = 0
    step = torch.full_like(dose, 0.5)
    y = objective.prox(dose, measure, step)
    assert_is_prox(objective, y, dose, measure, step)
    if isinstance(objective, Geud):
        assert_allclose(y[dose <= 0], dose[dose <= 0])  # it counts dose above zero only


@pytest.mark.parametrize("objective", CONVEX + NOT_CONVEX, ids=repr)
def test_a_batch_equals_its_single_problems(objective, doses, measure):
    step = torch.tensor([[0.3], [1.0], [7.0]], dtype=torch.float64)
    for n, dose in enumerate(doses):
        assert_allclose(objective.value(doses, measure)[n], objective.value(dose[None], measure)[0], rtol=1e-12)
        assert_allclose(objective.gradient(doses, measure)[n], objective.gradient(dose[None], measure)[0], rtol=1e-12)
        if isinstance(objective, ConvexObjective):
            single = objective.prox(dose[None], measure, step[n : n + 1])[0]
            assert_allclose(objective.prox(doses, measure, step)[n], single, rtol=1e-9)


@pytest.mark.parametrize("objective", CONVEX + NOT_CONVEX, ids=repr)
def test_splitting_a_voxel_changes_nothing(objective, doses, measure):
    dose, share = doses[:1], measure
    split = torch.cat([dose, dose[:, :5]], dim=1)
    parts = torch.cat([share, 0.4 * share[:5]])
    parts[:5] *= 0.6
    assert_allclose(objective.value(split, parts), objective.value(dose, share), rtol=1e-10)


def test_quadratic_and_mean_objectives_are_their_formulas(doses, measure):
    y, m = doses.numpy(), measure.numpy()
    expected = {
        SquaredDeviation(52.0): (m * (y - 52) ** 2).sum(1),
        SquaredOverdose(48.0): (m * np.maximum(y - 48, 0) ** 2).sum(1),
        SquaredUnderdose(61.0): (m * np.maximum(61 - y, 0) ** 2).sum(1),
        MeanDose(): (m * y).sum(1),
    }
    for objective, value in expected.items():
        assert_allclose(objective.value(doses, measure), value)


@pytest.mark.parametrize("exponent", [1.0, 2.0, 8.0, 40.0])
def test_geud_is_the_power_mean_and_lies_between_mean_and_maximum(doses, measure, exponent):
    y, m = doses.numpy(), measure.numpy()
    geud = Geud(0.0, exponent).geud_gy(doses, measure)[:, 0].numpy()
    assert_allclose(geud, ((m * y**exponent).sum(1) / m.sum()) ** (1 / exponent))
    assert (geud >= (m * y).sum(1) / m.sum() - 1e-9).all()
    assert (geud <= y.max(1)).all()
    assert_allclose(Geud(50.0, exponent).value(doses, measure), np.maximum(geud - 50, 0) ** 2)


def test_a_large_geud_exponent_neither_overflows_nor_loses_the_dose_in_float32():
    dose, share = torch.tensor([[1e-3, 60.0, 70.0]]), torch.ones(3)
    objective = Geud(10.0, 60.0)
    assert_allclose(objective.geud_gy(dose, share), [[70 * 3 ** (-1 / 60)]], rtol=1e-4)
    assert torch.isfinite(objective.gradient(dose, share)).all()
    assert torch.isfinite(objective.prox(dose, share, torch.full((1, 3), 100.0))).all()


def test_geud_without_dose_has_no_value_and_no_slope():
    dose, share = torch.zeros(2, 4), torch.ones(4)
    objective = Geud(0.0, 8.0)
    assert_allclose(objective.value(dose, share), 0, atol=1e-20)
    assert torch.isfinite(objective.gradient(dose, share)).all()
    assert_allclose(objective.prox(dose, share, torch.ones(2, 4)), 0, atol=1e-6)


def test_max_dvh_counts_the_coldest_voxels_above_its_dose_down_to_the_allowed_volume():
    dose = torch.arange(0.0, 100.0, 10.0, dtype=torch.float64)[None]  # ten voxels: D30% is 70 Gy
    share = torch.ones(10, dtype=torch.float64)
    objective = MaxDvh(40.0, 30.0)
    assert_allclose(objective.value(dose, share), 10**2 + 20**2 + 30**2)
    assert_allclose(objective.gradient(dose, share)[0], [0, 0, 0, 0, 0, 20, 40, 60, 0, 0])
    assert_allclose(MaxDvh(75.0, 30.0).value(dose, share), 0)  # met


def test_min_dvh_counts_the_hottest_voxels_below_its_dose_up_to_the_wished_volume():
    dose = torch.arange(0.0, 100.0, 10.0, dtype=torch.float64)[None]  # D90% is 10 Gy
    share = torch.ones(10, dtype=torch.float64)
    objective = MinDvh(40.0, 90.0)
    assert_allclose(objective.value(dose, share), 30**2 + 20**2 + 10**2)
    assert_allclose(objective.gradient(dose, share)[0], [0, -60, -40, -20, 0, 0, 0, 0, 0, 0])
    assert_allclose(MinDvh(10.0, 90.0).value(dose, share), 0)  # met


@pytest.mark.parametrize(("volume_percent", "expected"), [(0.0, 90), (10, 90), (10.1, 80), (50, 50), (95, 0), (100, 0)])
def test_dose_at_volume_is_what_the_hottest_share_receives_at_least(volume_percent, expected):
    dose = torch.arange(0.0, 100.0, 10.0, dtype=torch.float64)[None].flip(1)
    assert dose_at_volume(dose, torch.ones(10, dtype=torch.float64), volume_percent).item() == expected


def test_dose_at_volume_weighs_voxels_by_their_measure():
    dose = torch.tensor([[10.0, 20.0, 30.0]])
    assert dose_at_volume(dose, torch.tensor([1.0, 8.0, 1.0]), 50.0).item() == 20.0
    assert dose_at_volume(dose, torch.tensor([1.0, 1.0, 8.0]), 50.0).item() == 30.0
    assert_allclose(dose_at_volume(torch.cat([dose, dose.flip(1)]), torch.tensor([8.0, 1.0, 1.0]), 50.0), [[10], [30]])


def test_an_exponent_below_one_is_refused():
    with pytest.raises(ValueError, match=r"gEUD objective: the exponent must be at least 1 to be convex, got 0\.5"):
        Geud(10.0, 0.5)


def test_dvh_objectives_have_no_proximal_map():
    assert all(isinstance(objective, ConvexObjective) for objective in CONVEX)
    assert not any(isinstance(objective, ConvexObjective) for objective in NOT_CONVEX)
