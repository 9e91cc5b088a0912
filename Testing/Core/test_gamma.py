"""The gamma index against closed forms."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.interpolate import RegularGridInterpolator

from deeprt.evaluation.gamma import gamma_index, pass_rate

SPACING_MM = (3.0, 2.5, 2.0)


def a_gradient(*, gy_per_mm=0.5):
    x = 2.0 * np.arange(40)
    return np.broadcast_to((20 + gy_per_mm * x).astype(np.float32), (6, 7, 40)).copy()


def test_a_dose_agrees_with_itself():
    dose = a_gradient()
    gamma = gamma_index(dose, dose, SPACING_MM, dose_percent=3, distance_mm=2)
    assert gamma.max() == 0
    assert pass_rate(gamma) == 1


def test_a_uniform_dose_scaled_by_the_tolerance_has_gamma_one():
    dose = np.full((5, 5, 5), 40, np.float32)
    gamma = gamma_index(dose, dose * np.float32(1.03), SPACING_MM, dose_percent=3, distance_mm=2)
    assert_allclose(gamma, 1, rtol=1e-5)  # float32 rounding of the scaled dose


@pytest.mark.parametrize("shift_mm", [0.4, 1.0, 2.0])
def test_a_shifted_linear_gradient_has_the_gamma_of_its_slope(shift_mm):
    slope, distance = 0.5, 2.0
    dose = a_gradient(gy_per_mm=slope)
    gamma = gamma_index(dose, dose - np.float32(slope * shift_mm), SPACING_MM, dose_percent=3, distance_mm=distance)
    tolerance = 0.03 * dose.max()
    expected = slope * shift_mm / np.hypot(tolerance, slope * distance)
    inner = gamma[:, :, 5:-5]  # nearer to the border the search would leave the grid
    # The search moves in tenths of the distance, so it may miss the best point by half of that.
    missed = 0.05 * np.hypot(1, slope * distance / tolerance)
    assert np.all(inner >= expected - 1e-5)
    assert np.all(inner <= np.hypot(expected, missed) + 1e-5)


def test_a_shift_across_slices_is_measured_in_their_spacing():
    dose = np.broadcast_to((30 + 3.0 * np.arange(12, dtype=np.float32))[:, None, None], (12, 5, 5)).copy()
    moved = dose + np.float32(1.0)  # 1 mm at 1 Gy/mm
    gamma = gamma_index(dose, moved, SPACING_MM, dose_percent=1e3, distance_mm=2, max_gamma=1)
    assert_allclose(gamma[3:-3], 1 / np.hypot(1e1 * dose.max(), 2), atol=1e-3)
    strict = gamma_index(dose, moved, SPACING_MM, dose_percent=1e-3, distance_mm=2)
    assert_allclose(strict[3:-3], 0.5, atol=1e-3)  # distance alone


def test_local_tolerance_is_that_of_the_voxel():
    dose = np.full((3, 3, 6), 40, np.float32)
    dose[..., 3:] = 10
    evaluated = dose + np.float32(0.6)
    kwargs = {"dose_percent": 3, "distance_mm": 1e-3}  # no help from the distance
    assert_allclose(gamma_index(dose, evaluated, SPACING_MM, **kwargs), 0.5, rtol=1e-5)
    gamma = gamma_index(dose, evaluated, SPACING_MM, local=True, **kwargs)
    assert_allclose(gamma[..., :3], 0.5, rtol=1e-5)
    assert_allclose(gamma[..., 3:], 2.0, rtol=1e-5)


def test_low_doses_are_left_out_and_large_gammas_are_capped():
    dose = np.full((3, 3, 6), 40, np.float32)
    dose[..., 3:] = 3.9
    gamma = gamma_index(dose, 2 * dose, SPACING_MM, dose_percent=3, distance_mm=1, max_gamma=1.5)
    assert np.isnan(gamma[..., 3:]).all()
    assert_allclose(gamma[..., :2], 1.5)  # the third finds its dose on the slope to its neighbor
    assert pass_rate(gamma) == 0


def test_pass_rate_counts_only_what_was_compared():
    assert pass_rate(np.array([0.2, 1.0, 1.2, np.nan])) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="No voxel was compared"):
        pass_rate(np.array([np.nan]))


def test_wrong_inputs_are_named():
    dose = np.ones((3, 3, 3), np.float32)
    with pytest.raises(ValueError, match=r"got shapes \(3, 3, 3\) and \(3, 3, 2\)"):
        gamma_index(dose, dose[..., :2], SPACING_MM, dose_percent=3, distance_mm=2)
    with pytest.raises(ValueError, match="positive dose and distance tolerance"):
        gamma_index(dose, dose, SPACING_MM, dose_percent=3, distance_mm=0)
    with pytest.raises(ValueError, match="reference dose that is positive"):
        gamma_index(0 * dose, dose, SPACING_MM, dose_percent=3, distance_mm=2)


def test_gamma_is_the_least_over_the_lattice_on_uneven_voxels():
    rng = np.random.default_rng(5)
    reference, evaluated = (rng.uniform(20, 40, (4, 5, 6)).astype(np.float32) for _ in range(2))
    interpolation, dose_percent, distance_mm = 3, 5.0, 4.0
    gamma = gamma_index(
        reference, evaluated, SPACING_MM, dose_percent=dose_percent, distance_mm=distance_mm, max_gamma=1.5,
        interpolation=interpolation,
    )  # fmt: skip
    axes = [s * np.arange(n) for s, n in zip(SPACING_MM, reference.shape, strict=True)]
    dose_at = RegularGridInterpolator(axes, evaluated.astype(float), bounds_error=False, fill_value=np.nan)
    steps = np.stack(np.meshgrid(*3 * [np.arange(-5, 6)], indexing="ij"), -1).reshape(-1, 3) / interpolation
    distance2 = (steps**2).sum(axis=1)
    for index in np.ndindex(reference.shape):
        here = np.array([axis[n] for axis, n in zip(axes, index, strict=True)])
        gap = (dose_at(here + distance_mm * steps) - reference[index]) / (dose_percent / 100 * reference.max())
        expected = min(1.5, np.sqrt(np.nanmin(distance2 + gap**2)))
        assert_allclose(gamma[index], expected, rtol=1e-6)


def test_a_finer_search_never_finds_a_larger_gamma():
    rng = np.random.default_rng(6)
    reference, evaluated = (rng.uniform(20, 40, (5, 5, 5)).astype(np.float32) for _ in range(2))
    kwargs = {"dose_percent": 3, "distance_mm": 3}
    coarse = gamma_index(reference, evaluated, SPACING_MM, interpolation=4, **kwargs)
    fine = gamma_index(reference, evaluated, SPACING_MM, interpolation=8, **kwargs)  # holds the coarse lattice
    assert np.all(fine <= coarse + 1e-9)
    assert np.any(fine < coarse - 1e-3)


def test_voxels_outside_the_region_are_left_out():
    dose = a_gradient()
    within = np.zeros(dose.shape, bool)
    within[2, 3, 4:9] = True
    gamma = gamma_index(dose, dose, SPACING_MM, dose_percent=3, distance_mm=2, within=within)
    assert np.array_equal(~np.isnan(gamma), within)


def test_a_lattice_without_steps_is_refused():
    dose = np.ones((3, 3, 3), np.float32)
    with pytest.raises(ValueError, match="at least one step"):
        gamma_index(dose, dose, SPACING_MM, dose_percent=3, distance_mm=2, interpolation=0)
