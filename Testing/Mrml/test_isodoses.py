import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import vtk
from Mrml.samples import a_rigid_transform
from numpy.testing import assert_allclose
from vtk.util.numpy_support import vtk_to_numpy

from deeprt.errors import InputError
from deeprt.geometry import Grid
from deeprt_mrml.coordinates import points_to_lps
from deeprt_mrml.isodoses import remove_isodoses, show_isodoses
from deeprt_mrml.subject_hierarchy import plan_node, plan_nodes
from deeprt_mrml.volumes import dose_node, set_scale, volume_node

TOP_GY, FALL_MM = 60.0, 40.0


def a_grid(*, left_handed=False):
    """Oblique and off-center."""
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    axes = Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix() * (2.0, 2.5, 3.0)
    matrix[:3, :3] = axes * ((1, 1, -1) if left_handed else 1)
    matrix[:3, 3] = (31.0, -204.5, 812.0)
    return Grid((40, 48, 60), matrix)


def a_cone(grid, center_lps):
    """Dose that falls off linearly with the distance from a point."""
    distance = np.linalg.norm(grid.points_lps() - center_lps, axis=1).reshape(grid.shape)
    return (TOP_GY * np.maximum(0, 1 - distance / FALL_MM)).astype(np.float32)


def points_lps(model):
    """Points of a model as they lie in the scene."""
    to_world = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(model.GetParentTransformNode(), None, to_world)
    filtered = vtk.vtkTransformPolyDataFilter()
    filtered.SetTransform(to_world)
    filtered.SetInputData(model.GetPolyData())
    filtered.Update()
    return points_to_lps(vtk_to_numpy(filtered.GetOutput().GetPoints().GetData()))


def volume_cc(model):
    """Inside a surface, negative if it is inside out."""
    surface = model.GetPolyData()
    points = vtk_to_numpy(surface.GetPoints().GetData()).astype(float)
    a, b, c = points[vtk_to_numpy(surface.GetPolys().GetConnectivityArray()).reshape(-1, 3)].transpose(1, 0, 2)
    return float((a * np.cross(b, c)).sum() / 6 / 1000)


@pytest.mark.parametrize("left_handed", [False, True])
def test_isodoses_lie_where_the_dose_has_their_level_and_face_outwards(scene, left_handed):
    """Spheres of known radius; linear interpolation bends them by less than a twentieth of a voxel."""
    grid = a_grid(left_handed=left_handed)
    center = np.add(grid.center_lps, (3.0, -2.0, 1.0))
    dose = dose_node(scene, "Plan", "Dose", a_cone(grid, center), grid)
    for model, level in zip(show_isodoses(scene, "Plan", dose, (15.0, 40.0)), (15.0, 40.0), strict=True):
        radius = FALL_MM * (1 - level / TOP_GY)
        assert_allclose(np.linalg.norm(points_lps(model) - center, axis=1), radius, atol=0.15)
        assert volume_cc(model) == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.03)


def test_normals_point_to_lower_dose(scene):
    grid = a_grid(left_handed=True)
    dose = dose_node(scene, "Plan", "Dose", a_cone(grid, grid.center_lps), grid)
    (model,) = show_isodoses(scene, "Plan", dose, [20.0])
    normals = points_to_lps(vtk_to_numpy(model.GetPolyData().GetPointData().GetNormals()))
    outwards = points_lps(model) - grid.center_lps
    assert ((normals * outwards).sum(axis=1) / np.linalg.norm(outwards, axis=1)).min() > 0.9


def test_a_surface_is_closed_also_where_the_dose_reaches_the_end_of_the_grid(scene):
    grid = a_grid()
    dose = dose_node(scene, "Plan", "Dose", a_cone(grid, grid.points_lps(np.array([0]))[0]), grid)
    (model,) = show_isodoses(scene, "Plan", dose, [20.0])
    borders = vtk.vtkFeatureEdges()
    borders.SetInputData(model.GetPolyData())
    borders.FeatureEdgesOff()
    borders.ManifoldEdgesOff()
    borders.NonManifoldEdgesOff()
    borders.Update()
    assert borders.GetOutput().GetNumberOfCells() == 0


def test_isodoses_move_with_the_dose(scene):
    grid = a_grid()
    dose = dose_node(scene, "Plan", "Dose", a_cone(grid, grid.center_lps), grid)
    shift, matrix = a_rigid_transform(scene)
    dose.SetAndObserveTransformNodeID(shift.GetID())
    (model,) = show_isodoses(scene, "Plan", dose, [30.0])
    center = points_to_lps(matrix[:3, :3] @ points_to_lps(grid.center_lps) + matrix[:3, 3])
    assert_allclose(np.linalg.norm(points_lps(model) - center, axis=1), FALL_MM / 2, atol=0.15)


def test_names_say_the_dose_and_colors_are_those_of_the_wash(scene):
    grid = a_grid()
    dose = dose_node(scene, "Plan", "Dose", a_cone(grid, grid.center_lps), grid, top_gy=50.0)
    models = show_isodoses(scene, "Plan", dose, (12.5, 47.5))
    assert [m.GetName() for m in models] == ["12.5 Gy", "47.5 Gy"]
    from matplotlib import colormaps

    for model, level in zip(models, (12.5, 47.5), strict=True):
        assert_allclose(model.GetDisplayNode().GetColor(), colormaps["turbo"](level / 50.0)[:3], atol=0.02)


@pytest.mark.parametrize("has_display", [True, False])
def test_a_gray_dose_has_isodoses_in_color(scene, has_display):
    grid = a_grid()
    dose = volume_node(scene, "Imported", a_cone(grid, grid.center_lps), grid)
    set_scale([dose], 0.0, float(slicer.util.arrayFromVolume(dose).max()))
    if not has_display:
        scene.RemoveNode(dose.GetDisplayNode())
    (model,) = show_isodoses(scene, "Plan", dose, [30.0])
    from matplotlib import colormaps

    top = float(slicer.util.arrayFromVolume(dose).max())
    assert_allclose(model.GetDisplayNode().GetColor(), colormaps["turbo"](30.0 / top)[:3], atol=0.02)


def test_slices_show_isodoses_and_3d_views_do_not_until_asked(scene):
    grid = a_grid()
    dose = dose_node(scene, "Plan", "Dose", a_cone(grid, grid.center_lps), grid)
    (model,) = show_isodoses(scene, "Plan", dose, [30.0])
    display = model.GetDisplayNode()
    assert (bool(display.GetVisibility2D()), bool(display.GetVisibility3D())) == (True, False)
    assert model.GetPolyData().GetPointData().GetScalars() is None
    display.SetVisibility3D(True)
    show_isodoses(scene, "Plan", dose, [30.0])
    assert display.GetVisibility3D()


def test_models_are_used_again_and_those_left_over_removed(scene):
    grid = a_grid()
    dose = dose_node(scene, "Plan", "Dose", a_cone(grid, grid.center_lps), grid)
    other = dose_node(scene, "Plan", "Dose 2", a_cone(grid, grid.center_lps), grid)
    low, high = show_isodoses(scene, "Plan", dose, (10.0, 50.0))
    n_nodes = scene.GetNumberOfNodes()
    others = show_isodoses(scene, "Plan", other, [20.0])
    assert show_isodoses(scene, "Plan", dose, (10.0, 70.0)) == (low,)  # the dose does not reach the second
    assert high not in plan_nodes(scene, "Plan", "isodoses/")
    assert others[0] in plan_nodes(scene, "Plan", "isodoses/")
    assert scene.GetNumberOfNodes() == n_nodes
    remove_isodoses(scene, "Plan")
    assert plan_nodes(scene, "Plan") == (dose, other)


def test_a_dose_without_voxels_is_refused(scene):
    empty = plan_node(scene, "Plan", "dose/Dose", "vtkMRMLScalarVolumeNode", "Dose")
    with pytest.raises(InputError, match="Volume 'Dose' has no voxels"):
        show_isodoses(scene, "Plan", empty, [30.0])
