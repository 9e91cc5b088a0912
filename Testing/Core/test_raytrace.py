"""Radiological depth against closed forms and an independent exact integration."""

import numpy as np
import pytest
from Core.samples import a_centered_grid, an_oblique_grid, axes_of, depth_in_box, random_grid
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.dose.raytrace import radiological_depth

FLOAT32 = 2e-6  # relative rounding of a depth of some hundred millimeters


def integrated(density, grid, source, points):
    """Density along each ray: cut at every voxel face that it crosses, and looked up in the middle of each piece."""
    start, ends = grid.lps_to_index(source)[0], grid.lps_to_index(points)
    size = np.array(grid.shape[::-1])
    depth = []
    for end, length in zip(ends, np.linalg.norm(points - source, axis=1), strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            cuts = [(np.arange(n + 1) - 0.5 - s) / (e - s) for n, s, e in zip(size, start, end, strict=True)]
        cuts = np.concatenate([*cuts, [0.0, 1.0]])
        cuts = np.unique(cuts[(cuts >= 0) & (cuts <= 1)])
        middle = np.rint(start + ((cuts[1:] + cuts[:-1]) / 2)[:, None] * (end - start)).astype(int)
        inside = np.all((middle >= 0) & (middle < size), axis=1)
        i, j, k = middle[inside].T
        depth.append(np.diff(cuts)[inside] @ density[k, j, i] * length)
    return np.array(depth)


def patchy_density(grid, rng):
    """Random voxels in an inner block, with holes; nothing outside it."""
    density = rng.uniform(0, 2, grid.shape).astype(np.float32)
    density[rng.random(grid.shape) < 0.3] = 0
    inner = tuple(slice(n // 6, n - n // 5) for n in grid.shape)
    block = np.zeros_like(density)
    block[inner] = density[inner]
    return block


def test_a_uniform_box_gives_the_length_of_the_ray_inside_it():
    rng = np.random.default_rng(1)
    grid = an_oblique_grid()
    source = grid.center_lps + np.array([700.0, -520.0, 310.0])
    points = np.concatenate([grid.points_lps(), grid.center_lps + rng.uniform(-120, 120, (2000, 3))])
    density = np.full(grid.shape, 0.7, np.float32)
    depth = radiological_depth(density, grid, source, points)
    assert depth.dtype == np.float32
    assert_allclose(depth, 0.7 * depth_in_box(grid, source, points), rtol=FLOAT32, atol=1e-4)


def test_random_densities_on_random_grids_agree_with_an_exact_integration():
    rng = np.random.default_rng(2)
    for _ in range(20):
        grid = random_grid(rng)
        density = patchy_density(grid, rng)
        direction = rng.normal(size=3)
        source = grid.center_lps + 900.0 * direction / np.linalg.norm(direction)
        points = grid.center_lps + rng.uniform(-150, 150, (40, 3))
        expected = integrated(density, grid, source, points)
        assert_allclose(radiological_depth(density, grid, source, points), expected, rtol=FLOAT32, atol=1e-4)


def test_a_source_inside_the_patient_counts_from_there():
    rng = np.random.default_rng(3)
    grid = an_oblique_grid()
    density = patchy_density(grid, rng)
    source = grid.center_lps + np.array([3.1, -4.2, 5.3])
    points = grid.center_lps + rng.uniform(-90, 90, (200, 3))
    expected = integrated(density, grid, source, points)
    assert_allclose(radiological_depth(density, grid, source, points), expected, rtol=FLOAT32, atol=1e-4)


def test_matter_behind_the_source_or_beyond_the_point_does_not_attenuate():
    grid = an_oblique_grid()
    density = np.ones(grid.shape, np.float32)
    source = grid.center_lps + np.array([0.0, -300.0, 0.0])
    away = grid.center_lps + np.array([[0.0, -500.0, 0.0], [0.0, -250.0, 30.0], [400.0, -300.0, 0.0]])
    assert_array_equal(radiological_depth(density, grid, source, away), 0)


def test_points_beyond_the_grid_lie_behind_all_of_it():
    grid = an_oblique_grid()
    density = np.ones(grid.shape, np.float32)
    source = grid.center_lps + np.array([0.0, -800.0, 0.0])
    points = grid.center_lps + np.array([[0.0, 200.0, 0.0], [0.0, 900.0, 0.0]])
    depth = radiological_depth(density, grid, source, points)
    assert_allclose(depth[0], depth[1], rtol=FLOAT32)
    assert_allclose(depth, depth_in_box(grid, source, points), rtol=FLOAT32)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_ray_along_an_axis_of_the_grid_sums_one_row_of_voxels(axis, sign):
    grid = an_oblique_grid()
    density = np.random.default_rng(4).uniform(0.1, 2, grid.shape).astype(np.float32)
    row = [17, 9, 11]  # i, j, k
    inside = grid.index_to_lps[:3, :3] @ row + grid.index_to_lps[:3, 3]
    travel = sign * axes_of(grid)[:, axis]
    index = row[::-1]
    index[2 - axis] = slice(None)
    expected = density[tuple(index)].sum() * grid.spacing_mm[axis]
    depth = radiological_depth(density, grid, inside - 500.0 * travel, (inside + 500.0 * travel)[None])
    assert_allclose(depth, [expected], rtol=1e-5)
    beside = inside - 500.0 * travel + 300.0 * axes_of(grid)[:, (axis + 1) % 3]
    assert radiological_depth(density, grid, beside, (beside + 1000.0 * travel)[None])[0] == 0


def test_a_ray_exactly_parallel_to_an_axis_needs_no_crossing_of_the_other_faces():
    grid = a_centered_grid(9, 2.0)
    density = np.random.default_rng(5).uniform(0.1, 2, grid.shape).astype(np.float32)
    source = np.array([0.0, -1000.0, 0.0])
    points = np.array([[0.0, 2.0 * j, 0.0] for j in range(-4, 5)])
    passed = density[4, :, 4].cumsum() - density[4, :, 4] / 2  # to the middle of each voxel
    assert_allclose(radiological_depth(density, grid, source, points), 2.0 * passed, rtol=1e-5)


def test_a_ray_in_the_face_between_two_voxels_takes_one_of_them():
    grid = a_centered_grid(10, 2.0)  # its middle is a face
    density = np.ones(grid.shape, np.float32)
    density[:, :, :5] = 3.0
    depth = radiological_depth(density, grid, np.array([0.0, -500.0, 1.0]), np.array([[0.0, 500.0, 1.0]]))
    assert np.isclose(depth[0], 20.0) or np.isclose(depth[0], 60.0)


def test_a_point_at_the_source_has_no_depth():
    grid = an_oblique_grid()
    inside = grid.center_lps + 0.3
    assert_array_equal(radiological_depth(np.ones(grid.shape, np.float32), grid, inside, inside[None]), 0)


def test_nothing_attenuates_in_an_empty_grid():
    grid = an_oblique_grid()
    points = grid.points_lps(np.arange(50))
    depth = radiological_depth(np.zeros(grid.shape, np.float32), grid, grid.center_lps + 500.0, points)
    assert_array_equal(depth, np.zeros(50, np.float32))


def test_only_the_single_occupied_voxel_counts():
    grid = an_oblique_grid()
    density = np.zeros(grid.shape, np.float32)
    density[11, 9, 17] = 2.0
    voxel = np.ravel_multi_index((11, 9, 17), grid.shape)
    center = grid.points_lps(np.array([voxel]))
    source = center[0] - 700.0 * axes_of(grid)[:, 1]
    behind = center + 50.0 * axes_of(grid)[:, 1]
    assert_allclose(radiological_depth(density, grid, source, np.concatenate([center, behind])), [3.0, 6.0], rtol=1e-5)
