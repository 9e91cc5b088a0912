"""Structures check what they are given and know their centroid."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from deeprt.structures import Role, Structure


def test_the_centroid_weighs_voxels_by_their_share():
    fraction = np.zeros((4, 5, 6), np.float32)
    fraction[1, 2, 3], fraction[3, 4, 5] = 1.0, 0.25
    expected = np.average([(3, 2, 1), (5, 4, 3)], axis=0, weights=[1.0, 0.25])
    assert_allclose(Structure("a", Role.OTHER, fraction).centroid_index(), expected)


def test_a_structure_is_empty_only_without_any_share():
    fraction = np.zeros((2, 2, 2), np.float32)
    assert Structure("a", Role.OTHER, fraction).is_empty
    fraction = fraction.copy()
    fraction[0, 0, 1] = 1e-3
    assert not Structure("a", Role.OTHER, fraction).is_empty


@pytest.mark.parametrize(
    ("fraction", "message"),
    [
        (np.zeros((3, 3), np.float32), r"'Ball': fraction must be 3-D, got shape \(3, 3\)"),
        (np.full((2, 2, 2), 1.5, np.float32), r"'Ball': fractions must lie in 0 to 1, got 1.5 to 1.5"),
        (np.full((2, 2, 2), -0.5, np.float32), r"'Ball': fractions must lie in 0 to 1, got -0.5 to -0.5"),
        (np.full((2, 2, 2), np.nan, np.float32), r"'Ball': fractions must lie in 0 to 1, got nan to nan"),
    ],
)
def test_wrong_fractions_are_an_error(fraction, message):
    with pytest.raises(ValueError, match=message):
        Structure("Ball", Role.TARGET, fraction)


def test_fractions_of_another_type_are_an_error():
    with pytest.raises(TypeError, match="'Ball': fraction must be float32, got bool"):
        Structure("Ball", Role.TARGET, np.zeros((2, 2, 2), bool))


def test_only_targets_are_prescribed_a_positive_dose():
    fraction = np.ones((2, 2, 2), np.float32)
    assert Structure("Ball", Role.TARGET, fraction, 60.0).prescription_gy == 60.0
    with pytest.raises(ValueError, match="'Ball': only a target has a prescription, its role is organ_at_risk"):
        Structure("Ball", Role.ORGAN_AT_RISK, fraction, 60.0)
    for dose in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="'Ball': the prescription must be positive, got"):
            Structure("Ball", Role.TARGET, fraction, dose)


@pytest.mark.parametrize("density", [-0.1, np.nan, np.inf])
def test_an_impossible_density_is_an_error(density):
    with pytest.raises(ValueError, match="'Rod': a density must be finite and not negative"):
        Structure("Rod", Role.OTHER, np.ones((1, 1, 1), np.float32), density=density)
