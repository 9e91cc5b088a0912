import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from Core.plan_samples import an_oblique_grid
from Mrml.samples import a_rigid_transform, in_lps
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.errors import InputError
from deeprt.geometry import Grid
from deeprt_mrml.coordinates import grid_of
from deeprt_mrml.subject_hierarchy import place, subject_hierarchy
from deeprt_mrml.volumes import array_of, color_table, dose_node, dose_on, set_scale, set_volume, volume_node

GRID = an_oblique_grid()


@pytest.fixture
def dose_gy():
    """Linear in space, so that interpolation has a closed form."""
    return linear(GRID.points_lps()).reshape(GRID.shape).astype(np.float32)


def linear(points_lps):
    return 40 + (points_lps - GRID.center_lps) @ [0.2, -0.1, 0.15]


@pytest.mark.parametrize("kind", [np.float32, np.int16, np.uint8])
def test_an_array_comes_back_from_its_volume_as_it_was(scene, kind):
    values = np.random.default_rng(2).integers(0, 200, GRID.shape).astype(kind)
    node = volume_node(scene, "Image", values, GRID)
    assert node.GetName() == "Image"
    assert slicer.util.arrayFromVolume(node).dtype == kind
    assert array_of(node).dtype == np.float32
    assert_array_equal(array_of(node), values)


def test_what_was_copied_does_not_change_the_volume(scene, dose_gy):
    node = volume_node(scene, "Image", dose_gy, GRID)
    array_of(node)[:] = 0
    assert_array_equal(array_of(node), dose_gy)


def test_a_volume_takes_other_voxels_on_another_grid(scene, dose_gy):
    node = volume_node(scene, "Image", dose_gy, GRID)
    other = Grid.axial((2, 3, 4), (1.0, 2.0, 3.0), (5.0, 6.0, 7.0))
    set_volume(node, np.ones(other.shape, np.float32), other)
    assert grid_of(node).same_as(other)
    assert_array_equal(array_of(node), 1)


def test_values_that_are_not_on_the_grid_are_refused(scene, dose_gy):
    with pytest.raises(ValueError, match=r"'Image': the values have shape \(25, 32, 44\), the grid \(26, 32, 44\)"):
        volume_node(scene, "Image", dose_gy[1:], GRID)


def test_a_volume_without_voxels_has_no_array(scene):
    with pytest.raises(InputError, match="'Nothing' has no voxels"):
        array_of(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing"))


# Dose


def test_a_dose_has_what_slicer_rt_knows_it_by(scene, dose_gy):
    node = dose_node(scene, "Plan", "Dose", dose_gy, GRID)
    attributes = {name: node.GetAttribute(f"DicomRtImport.{name}") for name in ("DoseVolume", "DoseUnitName")}
    assert attributes == {"DoseVolume": "1", "DoseUnitName": "GY"}
    assert float(node.GetAttribute("DicomRtImport.DoseUnitValue")) == 1
    assert_array_equal(array_of(node), dose_gy)


def test_the_unit_is_stated_for_the_study_where_slicer_rt_looks_for_it(scene, dose_gy):
    hierarchy = subject_hierarchy(scene)
    node = dose_node(scene, "Plan", "Dose", dose_gy, GRID)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study")
    place(scene, node, study)
    assert hierarchy.GetItemAttribute(study, "DicomRtImport.DoseUnitName") == ""
    dose_node(scene, "Plan", "Dose", dose_gy, GRID)
    assert hierarchy.GetItemAttribute(study, "DicomRtImport.DoseUnitName") == "GY"


def test_a_dose_is_shown_from_zero_to_the_top_without_its_lowest_tenth(scene, dose_gy):
    node = dose_node(scene, "Plan", "Dose", dose_gy, GRID, top_gy=50.0)
    display = node.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0, 50)
    assert (display.GetApplyThreshold(), display.GetLowerThreshold()) == (True, 5)
    assert display.GetUpperThreshold() >= dose_gy.max()
    assert display.GetColorNode() is color_table(scene, "turbo")


def test_a_dose_of_the_same_name_is_replaced_in_its_plan_only(scene, dose_gy):
    node = dose_node(scene, "Plan", "Dose", dose_gy, GRID)
    other = dose_node(scene, "Other plan", "Dose", dose_gy, GRID)
    assert dose_node(scene, "Plan", "Dose", 2 * dose_gy, GRID) is node
    assert_array_equal(array_of(node), 2 * dose_gy)
    assert_array_equal(array_of(other), dose_gy)
    assert node.GetDisplayNode().GetWindowLevelMax() == pytest.approx(2 * dose_gy.max())


def test_a_dose_is_interpolated_on_another_grid_where_it_lies_in_the_scene(scene, dose_gy):
    node = dose_node(scene, "Plan", "Dose", dose_gy, GRID)
    transform, matrix = a_rigid_transform(scene)
    node.SetAndObserveTransformNodeID(transform.GetID())
    inside = Grid.axial((5, 6, 7), (3.0, 2.0, 4.0), GRID.center_lps - 8)
    moved = Grid(inside.shape, in_lps(matrix) @ inside.index_to_lps)
    expected = linear(inside.points_lps()).reshape(inside.shape)
    assert_allclose(dose_on(node, moved), expected, rtol=1e-5)  # float32


def test_beyond_the_dose_there_is_none(scene, dose_gy):
    node = dose_node(scene, "Plan", "Dose", dose_gy, GRID)
    far = Grid.axial((2, 2, 2), 3.0, GRID.center_lps + 500)
    assert_array_equal(dose_on(node, far), 0)


# Colors


def test_volumes_share_a_scale_and_one_color_table(scene, dose_gy):
    nodes = [volume_node(scene, name, factor * dose_gy, GRID) for name, factor in (("A", 1), ("B", 5))]
    set_scale(nodes, 1.0, 7.0, color_table(scene, "viridis"))
    for node in nodes:
        display = node.GetDisplayNode()
        assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (1, 7)
        assert display.GetColorNode() is color_table(scene, "viridis")


def test_a_color_table_has_the_colors_of_the_colormap_and_is_there_once(scene):
    from matplotlib import colormaps

    table = color_table(scene, "turbo")
    assert color_table(scene, "turbo") is table
    rgba = [0.0] * 4
    for n in (0, 100, 255):
        table.GetColor(n, rgba)
        assert_allclose(rgba, colormaps["turbo"](n / 255), atol=1 / 255)  # kept in bytes
