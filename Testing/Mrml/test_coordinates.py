import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import vtk
from Core.plan_samples import an_oblique_grid
from Core.samples import random_grid
from Mrml.samples import a_bend, a_rigid_transform, a_transform, in_lps
from numpy.testing import assert_allclose

from deeprt.errors import InputError
from deeprt_mrml.coordinates import (
    grid_of,
    matrix_to_lps,
    matrix_to_ras,
    points_to_lps,
    points_to_ras,
    set_grid,
)
from deeprt_mrml.volumes import volume_node

ROUNDING_MM = 1e-9  # of products of a few matrices with entries up to a thousand


@pytest.fixture
def volume(scene):
    grid = an_oblique_grid()
    return volume_node(scene, "CT", np.zeros(grid.shape, np.float32), grid)


def test_left_and_posterior_are_negative_right_and_anterior():
    assert_allclose(points_to_ras([[1.0, 2.0, 3.0]]), [[-1.0, -2.0, 3.0]])
    assert_allclose(points_to_lps(points_to_ras([4.0, -5.0, 6.0])), [4.0, -5.0, 6.0])


def test_the_matrix_of_voxels_gives_the_same_points_as_flipping_them():
    grid = an_oblique_grid()
    index = np.array([3.0, 7.0, 11.0, 1.0])
    assert_allclose((matrix_to_ras(grid.index_to_lps) @ index)[:3], points_to_ras((grid.index_to_lps @ index)[:3]))
    assert_allclose(matrix_to_lps(matrix_to_ras(grid.index_to_lps)), grid.index_to_lps)


@pytest.mark.parametrize("seed", range(5))
def test_a_volume_says_the_grid_that_it_was_laid_on(scene, seed):
    grid = random_grid(np.random.default_rng(seed))
    node = volume_node(scene, "CT", np.zeros(grid.shape, np.float32), grid)
    assert grid_of(node).shape == grid.shape
    assert_allclose(grid_of(node).index_to_lps, grid.index_to_lps, atol=ROUNDING_MM)


def test_the_scene_has_a_voxel_where_its_center_lies_in_ras(volume):
    """The matrix is asked of MRML, a voxel of the grid, without anything of this package in between."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    left, posterior, superior = an_oblique_grid().points_lps(np.array([0]))[0]
    assert_allclose(matrix.MultiplyPoint((0, 0, 0, 1))[:3], [-left, -posterior, superior], atol=ROUNDING_MM)


def test_parent_transforms_move_the_grid_all_of_them(scene, volume):
    inner, inner_ras = a_rigid_transform(scene)
    outer, outer_ras = a_rigid_transform(scene, angles_deg=(-10.0, 5.0, 80.0), shift_ras=(-40.0, 3.0, 22.0))
    inner.SetAndObserveTransformNodeID(outer.GetID())
    volume.SetAndObserveTransformNodeID(inner.GetID())
    expected = in_lps(outer_ras @ inner_ras) @ an_oblique_grid().index_to_lps
    assert_allclose(grid_of(volume).index_to_lps, expected, atol=ROUNDING_MM)


def test_setting_a_grid_makes_up_for_the_parent_transform(scene, volume):
    transform, _ = a_rigid_transform(scene)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    set_grid(volume, an_oblique_grid())
    assert_allclose(grid_of(volume).index_to_lps, an_oblique_grid().index_to_lps, atol=ROUNDING_MM)
    assert volume.GetParentTransformNode() is transform


def test_a_transform_that_bends_is_refused(scene, volume):
    volume.SetAndObserveTransformNodeID(a_bend(scene).GetID())
    with pytest.raises(InputError, match=r"'CT' lies under the transform 'Bend', which is not linear"):
        grid_of(volume)


def test_a_transform_that_shears_is_refused(scene, volume):
    volume.SetAndObserveTransformNodeID(
        a_transform(scene, [[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]).GetID()
    )
    with pytest.raises(InputError, match=r"The axes of 'CT' are not orthogonal"):
        grid_of(volume)


def test_a_volume_without_voxels_is_refused(scene):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing")
    with pytest.raises(InputError, match="Volume 'Nothing' has no voxels"):
        grid_of(node)
