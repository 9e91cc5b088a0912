"""Normalization of a plan: by coverage, or to the mean dose of the wished one."""

from dataclasses import replace

import numpy as np
import pytest
from Core.plan_samples import a_case
from Core.samples import a_centered_grid, a_phantom
from numpy.testing import assert_allclose

from deeprt.config import PlanningConfig, from_plain
from deeprt.errors import InputError
from deeprt.evaluation.dvh import structure_dvh
from deeprt.evaluation.normalization import Normalization
from deeprt.structures import Role, Structure


def a_block():
    """A target of 50 Gy that fills whole voxels, 10 along each axis, away from the middle of the grid."""
    grid = a_centered_grid(n=20, spacing_mm=3.0)
    case = a_phantom(grid, np.zeros(grid.shape))
    share = np.zeros(grid.shape, np.float32)
    share[4:14, 5:15, 6:16] = 1
    return replace(case, structures=(case.external, Structure("Block", Role.TARGET, share, 50.0)))


def a_slope():
    """Dose that rises by 1 Gy a voxel along i: 5.5 to 15.5 Gy in the block, 10.5 Gy in the mean."""
    return np.broadcast_to(np.arange(20, dtype=np.float32), (20, 20, 20)).copy()


def even(gy):
    return np.full((20, 20, 20), gy, np.float32)


def test_an_even_dose_is_scaled_to_the_share_of_the_prescription():
    assert_allclose(Normalization(dose_percent=96.0).factor(a_block(), even(40.0)), 0.96 * 50 / 40, rtol=1e-6)
    assert_allclose(Normalization(95.0, 100.0).factor(a_block(), even(50.0)), 1.0, rtol=1e-6)


@pytest.mark.parametrize("volume_percent", [10.0, 50.0, 95.0])
def test_the_volume_asked_for_is_covered(volume_percent):
    covered_gy = 15.5 - 10 * volume_percent / 100
    factor = Normalization(volume_percent, 98.0).factor(a_block(), a_slope())
    assert_allclose(factor, 0.98 * 50 / covered_gy, rtol=0.01)  # voxels are sampled by a lattice


def test_the_mean_dose_of_the_target_is_that_of_the_wished_dose():
    rule = Normalization(rule="wished-mean")
    assert_allclose(rule.factor(a_block(), a_slope(), even(44.0)), 44.0 / 10.5, rtol=2e-3)
    assert_allclose(rule.factor(a_block(), even(44.0), a_slope()), 10.5 / 44.0, rtol=2e-3)
    assert_allclose(rule.factor(a_block(), a_slope(), a_slope()), 1.0, rtol=1e-12)


def test_dose_beside_the_target_does_not_count():
    beside = a_slope()
    beside[a_block().targets[0].fraction == 0] = 100.0
    apart = a_slope()
    apart[:, :, 0] = 100.0  # far from every voxel of the target
    rule = Normalization(rule="wished-mean")
    assert_allclose(rule.factor(a_block(), apart, even(44.0)), rule.factor(a_block(), a_slope(), even(44.0)))
    # The dose is interpolated between voxels, those beside the target included.
    assert rule.factor(a_block(), beside, even(44.0)) < rule.factor(a_block(), a_slope(), even(44.0))


@pytest.mark.parametrize("rule", [Normalization(), Normalization(80.0, 95.0), Normalization(rule="wished-mean")])
def test_a_normalized_dose_needs_no_further_factor(rule):
    case = a_case()
    points = case.grid.points_lps() - case.isocenter_lps()
    dose = 30 * np.exp(-(points**2).sum(1) / 2000).reshape(case.grid.shape).astype(np.float32)
    wished = np.sqrt(dose) * 10
    factor = rule.factor(case, dose, wished)
    assert abs(factor - 1) > 0.1
    assert_allclose(rule.factor(case, (factor * dose).astype(np.float32), wished), 1.0, rtol=1e-5)
    assert_allclose(rule.factor(case, 2 * dose, wished), factor / 2, rtol=1e-6)


def test_the_target_of_the_highest_prescription_decides():
    case = a_case()
    boost = case.structure("PTV_60")
    dose = np.where(boost.fraction > 0, 30.0, 90.0).astype(np.float32)
    own = structure_dvh(dose, boost.fraction, case.grid.voxel_volume_cc).dose_at_volume(95.0)
    assert_allclose(Normalization().factor(case, dose), 0.98 * 60 / own)


def test_without_a_wished_dose_its_mean_cannot_be_kept():
    with pytest.raises(InputError, match=r"There is no wished dose whose mean could be kept; normalize to coverage\."):
        Normalization(rule="wished-mean").factor(a_block(), a_slope())


def test_a_dose_that_misses_the_target_is_refused():
    nothing = even(0.0)
    with pytest.raises(InputError, match=r"No dose reaches 95 % of Block; check the isocenter and the beams\."):
        Normalization().factor(a_block(), nothing)
    with pytest.raises(InputError, match=r"No dose reaches Block; check"):
        Normalization(rule="wished-mean").factor(a_block(), nothing, even(44.0))


@pytest.mark.parametrize("wrong", [(0.0, 98.0), (100.1, 98.0), (95.0, 0.0), (95.0, 201.0)])
def test_percentages_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match="volume_percent must lie in 0 to 100, dose_percent in 0 to 200"):
        Normalization(*wrong)


def test_the_rule_is_read_from_a_configuration():
    config = from_plain(PlanningConfig, {"normalization": {"rule": "wished-mean"}}, "here")
    assert config.normalization == Normalization(rule="wished-mean")
    with pytest.raises(
        InputError, match=r"here, normalization.rule: expected one of coverage, wished-mean, got 'mean'"
    ):
        from_plain(PlanningConfig, {"normalization": {"rule": "mean"}}, "here")
