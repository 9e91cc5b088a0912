"""Voxel grids and rotations against independent constructions, on oblique grids far from the origin."""

import re

import numpy as np
import pytest
from Core.samples import an_oblique_grid, axes_of, random_grid
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.transform import Rotation

from deeprt.geometry import PATIENT_POSITIONS, Grid, bld_to_lps_rotation

# Anatomical directions of IEC 61217 fixed X, Y, Z (to the right hand of one who faces the gantry, to the gantry, up).
LEFT, POSTERIOR, SUPERIOR = np.eye(3)
LYING = {
    "HFS": (LEFT, SUPERIOR, -POSTERIOR),
    "HFP": (-LEFT, SUPERIOR, POSTERIOR),
    "FFS": (-LEFT, -SUPERIOR, -POSTERIOR),
    "FFP": (LEFT, -SUPERIOR, POSTERIOR),
}
ROUNDING = 1e-12  # of float64 sines and products of order one


def turned(axes, axis, angle_deg):
    """Directions, as columns, after a right-handed turn about an axis."""
    return Rotation.from_rotvec(np.deg2rad(angle_deg) * axis).as_matrix() @ axes


@pytest.mark.parametrize(
    ("gantry", "couch", "source_to_isocenter"),
    [(0, 0, (0, 1, 0)), (90, 0, (-1, 0, 0)), (180, 0, (0, -1, 0)), (270, 0, (1, 0, 0)), (90, 90, (0, 0, 1))],
)
def test_head_first_supine_beams_come_from_where_iec_61217_says(gantry, couch, source_to_isocenter):
    assert_allclose(-bld_to_lps_rotation(gantry, couch)[:, 2], source_to_isocenter, atol=ROUNDING)


@pytest.mark.parametrize(
    ("collimator", "leaf_travel", "across_leaves"),
    [
        (0, (1, 0, 0), (0, 0, 1)),
        (90, (0, 0, 1), (-1, 0, 0)),
        (180, (-1, 0, 0), (0, 0, -1)),
        (270, (0, 0, -1), (1, 0, 0)),
    ],
)
def test_the_collimator_turns_the_leaves_at_gantry_0(collimator, leaf_travel, across_leaves):
    rotation = bld_to_lps_rotation(0, 0, collimator)
    assert_allclose(rotation[:, 0], leaf_travel, atol=ROUNDING)
    assert_allclose(rotation[:, 1], across_leaves, atol=ROUNDING)


@pytest.mark.parametrize("position", PATIENT_POSITIONS)
def test_the_rotation_is_that_of_turning_collimator_gantry_and_patient_one_after_another(position):
    rng = np.random.default_rng(5)
    x, y, z = LYING[position]
    for gantry, couch, collimator in rng.uniform(-400, 400, (50, 3)):
        expected = np.column_stack([x, y, z])
        expected = turned(expected, z, collimator)  # the beam still points down
        expected = turned(expected, y, gantry)
        expected = turned(expected, z, -couch)  # the couch takes the patient along; seen from him, the beam turns back
        assert_allclose(bld_to_lps_rotation(gantry, couch, collimator, position=position), expected, atol=ROUNDING)


@pytest.mark.parametrize(
    ("position", "gantry", "couch"),
    [
        ("HFP", lambda g: g + 180, lambda c: -c),
        ("FFS", lambda g: g, lambda c: c + 180),
        ("FFP", lambda g: g + 180, lambda c: 180 - c),
    ],
)
def test_turning_the_patient_is_the_same_as_turning_gantry_and_couch(position, gantry, couch):
    rng = np.random.default_rng(6)
    for g, c, collimator in rng.uniform(0, 360, (20, 3)):
        supine = bld_to_lps_rotation(g, c, collimator)
        assert_allclose(bld_to_lps_rotation(gantry(g), couch(c), collimator, position=position), supine, atol=ROUNDING)


def test_rotations_are_right_handed_in_every_position():
    for position in PATIENT_POSITIONS:
        rotation = bld_to_lps_rotation(33, 44, 55, position=position)
        assert_allclose(rotation.T @ rotation, np.eye(3), atol=ROUNDING)
        assert_allclose(np.linalg.det(rotation), 1)


def test_an_unsupported_position_is_named():
    with pytest.raises(ValueError, match="position 'HFDL' is not supported; use one of HFS, HFP, FFS, FFP"):
        bld_to_lps_rotation(0, position="HFDL")


def test_resampling_keeps_the_box_center_and_the_axes():
    rng = np.random.default_rng(7)
    for _ in range(100):
        grid, spacing = random_grid(rng), rng.uniform(0.4, 9.0, 3)
        resampled = grid.resampled(spacing)
        assert_allclose(resampled.center_lps, grid.center_lps, atol=1e-9)  # mm, at 1000 mm from the origin
        assert_allclose(resampled.spacing_mm, spacing)
        assert_allclose(axes_of(resampled), axes_of(grid), atol=ROUNDING)


def test_resampling_covers_the_box_with_less_than_a_voxel_to_spare():
    rng = np.random.default_rng(8)
    for _ in range(100):
        grid, spacing = random_grid(rng), rng.uniform(0.4, 9.0, 3)
        box = np.array(grid.shape[::-1]) * grid.spacing_mm
        spare = np.array(grid.resampled(spacing).shape[::-1]) * spacing - box
        assert np.all(spare > -1e-5 * spacing)
        assert np.all(spare < spacing)


def test_resampling_to_its_own_spacing_gives_the_same_grid():
    rng = np.random.default_rng(9)
    for _ in range(20):
        grid = random_grid(rng)
        assert grid.resampled(grid.spacing_mm).same_as(grid)


def test_points_come_in_the_order_of_the_flattened_array():
    grid = an_oblique_grid()
    k, j, i = 3, 17, 40
    flat = (k * grid.shape[1] + j) * grid.shape[2] + i
    expected = grid.index_to_lps @ (i, j, k, 1)
    assert_allclose(grid.points_lps(np.array([flat]))[0], expected[:3])
    assert_allclose(grid.points_lps()[flat], expected[:3])
    assert grid.points_lps().shape == (grid.n_voxels, 3)


def test_points_and_indices_are_inverse():
    rng = np.random.default_rng(10)
    for _ in range(20):
        grid = random_grid(rng)
        index = rng.uniform(-50, 50, (30, 3))
        points = index @ grid.index_to_lps[:3, :3].T + grid.index_to_lps[:3, 3]
        assert_allclose(grid.lps_to_index(points), index, atol=1e-9)  # voxels, at 1000 mm from the origin
        voxels = rng.integers(0, grid.n_voxels, 30)
        i, j, k = grid.lps_to_index(grid.points_lps(voxels)).round().astype(int).T
        assert_array_equal(np.ravel_multi_index((k, j, i), grid.shape), voxels)


def test_one_point_has_one_index():
    grid = an_oblique_grid()
    assert_allclose(grid.lps_to_index(grid.center_lps), [(np.array(grid.shape[::-1]) - 1) / 2])


def test_size_and_volume_follow_the_spacing():
    grid = an_oblique_grid()
    assert_allclose(grid.spacing_mm, [2.5, 3.0, 4.0])
    assert_allclose(grid.voxel_volume_cc, 0.03)
    assert_allclose(grid.center_lps, grid.points_lps().mean(axis=0))


def test_grids_are_the_same_only_with_the_same_voxels():
    grid = an_oblique_grid()
    moved = grid.index_to_lps.copy()
    moved[:3, 3] += 0.01
    assert grid.same_as(Grid(grid.shape, grid.index_to_lps.copy()))
    assert not grid.same_as(Grid(grid.shape, moved))
    assert not grid.same_as(Grid((26, 44, 32), grid.index_to_lps))


def test_a_grid_does_not_change_with_the_matrix_it_was_made_from():
    matrix = np.eye(4)
    grid = Grid((2, 2, 2), matrix)
    matrix[0, 3] = 99
    assert grid.index_to_lps[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        grid.index_to_lps[0, 3] = 99


def a_sheared_matrix():
    matrix = np.eye(4)
    matrix[1, 2] = 0.1
    return matrix


@pytest.mark.parametrize(
    ("shape", "matrix", "message"),
    [
        ((0, 4, 4), np.eye(4), "three positive counts (n_k, n_j, n_i), got (0, 4, 4)"),
        ((4, 4), np.eye(4), "three positive counts (n_k, n_j, n_i), got (4, 4)"),
        ((4, 4, 4), np.eye(3), "4 x 4 affine matrix with last row (0, 0, 0, 1)"),
        ((4, 4, 4), 2 * np.eye(4), "4 x 4 affine matrix with last row (0, 0, 0, 1)"),
        ((4, 4, 4), a_sheared_matrix(), "no shear, no gantry tilt"),
        ((4, 4, 4), np.diag([1.0, 0.0, 1.0, 1.0]), "of positive length"),
    ],
)
def test_a_wrong_grid_is_an_error(shape, matrix, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Grid(shape, matrix)


def test_a_spacing_that_is_not_positive_is_an_error():
    with pytest.raises(ValueError, match=re.escape("spacing must be positive, got [1.0, 0.0, 2.0] mm")):
        an_oblique_grid().resampled((1.0, 0.0, 2.0))
