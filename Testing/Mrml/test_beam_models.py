from dataclasses import replace
from itertools import product

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import vtk
from Core.samples import MASK, X_EDGES, Y_EDGES, a_field
from Mrml.samples import a_case, beams_of
from numpy.testing import assert_allclose
from vtk.util.numpy_support import vtk_to_numpy

from deeprt.beams import BeamAngles
from deeprt.geometry import bld_to_lps_rotation
from deeprt_mrml.beam_models import BEAM_COLORS, beam_name, remove_beams, show_beams
from deeprt_mrml.coordinates import points_to_lps
from deeprt_mrml.subject_hierarchy import plan_node, plan_nodes, subject_hierarchy

ISOCENTER_LPS = np.array([31.0, -204.5, 812.0])
ROUNDING_MM = 1e-3  # models have their points in float32, up to a meter and a half from the isocenter


def model_of(scene, what, number=1, plan="Plan"):
    return next(n for n in plan_nodes(scene, plan, f"beam/{number}/{what}"))


def points_lps(model):
    """Points of a model as they lie in the scene, by MRML's own transform of them."""
    to_world = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(model.GetParentTransformNode(), None, to_world)
    filtered = vtk.vtkTransformPolyDataFilter()
    filtered.SetTransform(to_world)
    filtered.SetInputData(model.GetPolyData())
    filtered.Update()
    return points_to_lps(vtk_to_numpy(filtered.GetOutput().GetPoints().GetData()))


def a_beam(gantry=40.0, couch=0.0, collimator=0.0, *, position="HFS", name="Beam 1"):
    angles = BeamAngles(gantry, couch, collimator)
    return a_field(angles, ISOCENTER_LPS, X_EDGES, Y_EDGES, open_beamlets=MASK, position=position, name=name)


@pytest.mark.parametrize("angles", [(0, 0, 0), (90, 0, 0), (37.5, 20, 0), (281.5, 344.5, 95), (160, 90, 330)], ids=str)
@pytest.mark.parametrize("position", ["HFS", "HFP", "FFS", "FFP"])
def test_the_central_axis_runs_from_the_source_through_the_isocenter(scene, angles, position):
    beam = a_beam(*angles, position=position)
    show_beams(scene, "Plan", [beam])
    to_source = bld_to_lps_rotation(*angles, position=position)[:, 2]
    source = ISOCENTER_LPS + 1000.0 * to_source
    along = (points_lps(model_of(scene, "axis")) - ISOCENTER_LPS) @ to_source
    beside = points_lps(model_of(scene, "axis")) - ISOCENTER_LPS - np.outer(along, to_source)
    assert along.max() == pytest.approx(1000.0, abs=ROUNDING_MM)
    assert along.min() < -50
    assert np.linalg.norm(beside, axis=1).max() == pytest.approx(0.75, abs=ROUNDING_MM)
    field = points_lps(model_of(scene, "field"))
    assert np.linalg.norm(field - source, axis=1).min() == pytest.approx(0.0, abs=ROUNDING_MM)


@pytest.mark.parametrize("position", ["HFS", "FFP"])
def test_the_outline_lies_where_rays_from_the_source_see_the_edges_of_beamlets(scene, position):
    """Projected as the dose is, every point of the outline is at a corner of beamlets."""
    beam = a_beam(281.5, 344.5, 95.0, position=position)
    show_beams(scene, "Plan", [beam])
    points = points_lps(model_of(scene, "outline"))
    points = points[np.linalg.norm(points - beam.source_lps, axis=1) > 1]
    u, v, _ = beam.project(points)
    corners = np.array(list(product(X_EDGES, Y_EDGES)))
    nearest = np.abs(np.stack([u, v], axis=1)[:, None] - corners).max(axis=2).min(axis=1)
    assert_allclose(nearest, 0, atol=ROUNDING_MM)
    assert (u.min(), u.max()) == (pytest.approx(X_EDGES[0], abs=1e-3), pytest.approx(X_EDGES[-1], abs=1e-3))
    assert (v.min(), v.max()) == (pytest.approx(Y_EDGES[0], abs=1e-3), pytest.approx(Y_EDGES[-1], abs=1e-3))


def test_the_field_is_cut_by_the_isocenter_plane_in_the_borders_of_its_open_beamlets(scene):
    """Length of the cut against the borders counted beamlet by beamlet."""
    beam = a_beam(160.0, 20.0, 330.0)
    show_beams(scene, "Plan", [beam])
    plane, cutter = vtk.vtkPlane(), vtk.vtkCutter()
    plane.SetNormal(0, 0, 1)
    cutter.SetCutFunction(plane)
    cutter.SetInputData(model_of(scene, "field").GetPolyData())
    cutter.Update()
    cut = cutter.GetOutput()
    length = sum(
        np.linalg.norm(np.subtract(cut.GetCell(n).GetPoints().GetPoint(1), cut.GetCell(n).GetPoints().GetPoint(0)))
        for n in range(cut.GetNumberOfCells())
    )
    is_open, expected = np.pad(MASK, 1).astype(int), 0.0
    for row, column in np.argwhere(MASK):
        width, height = np.diff(X_EDGES)[column], np.diff(Y_EDGES)[row]
        expected += width * (2 - is_open[row, column + 1] - is_open[row + 2, column + 1])
        expected += height * (2 - is_open[row + 1, column] - is_open[row + 1, column + 2])
    assert length == pytest.approx(expected, rel=1e-5)


def test_a_beam_without_open_beamlets_is_drawn_as_its_rectangle(scene):
    beam = replace(a_beam(), open_beamlets=np.zeros_like(MASK))
    show_beams(scene, "Plan", [beam])
    assert model_of(scene, "outline").GetPolyData().GetNumberOfPoints() > 0


def test_names_say_the_angles(scene):
    assert beam_name(a_beam()) == "Beam 1 G40 C0 T0"
    assert beam_name(a_beam(359.96, 350.25, 12.5, name="LAO")) == "LAO G0 C12.5 T350.2"
    (transform,) = show_beams(scene, "Plan", [a_beam()])
    assert transform.GetName() == "Beam 1 G40 C0 T0"
    assert model_of(scene, "axis").GetName() == "Beam 1 G40 C0 T0 axis"


def test_beams_have_their_colors_and_are_cut_by_slices(scene):
    show_beams(scene, "Plan", beams_of(a_case()))
    for number in (1, 2, 3):
        for what in ("field", "outline", "axis"):
            display = model_of(scene, what, number).GetDisplayNode()
            assert_allclose(255 * np.array(display.GetColor()), BEAM_COLORS[number - 1], atol=1e-9)
            assert bool(display.GetVisibility2D()) == (what != "outline")
    assert model_of(scene, "field").GetDisplayNode().GetOpacity() < 0.5


def test_colors_begin_again_when_they_run_out(scene):
    show_beams(scene, "Plan", beams_of(a_case()), colors=[(255, 0, 0), (0, 255, 0)])
    colors = [model_of(scene, "axis", number).GetDisplayNode().GetColor() for number in (1, 2, 3)]
    assert colors == [(1, 0, 0), (0, 1, 0), (1, 0, 0)]


def test_other_angles_change_the_nodes_in_place(scene):
    first = show_beams(scene, "Plan", [a_beam(40.0), a_beam(100.0)])
    n_nodes = scene.GetNumberOfNodes()
    display = model_of(scene, "axis").GetDisplayNode()
    display.SetOpacity(0.3)  # as the user wants it
    again = show_beams(scene, "Plan", [a_beam(250.0, 10.0), a_beam(100.0)])
    assert again == first
    assert scene.GetNumberOfNodes() == n_nodes
    assert again[0].GetName() == "Beam 1 G250 C0 T10"
    assert display.GetOpacity() == 0.3
    to_source = bld_to_lps_rotation(250.0, 10.0)[:, 2]
    assert ((points_lps(model_of(scene, "axis")) - ISOCENTER_LPS) @ to_source).max() == pytest.approx(1000, abs=1e-2)


def test_beams_that_are_gone_leave_nothing_behind(scene):
    show_beams(scene, "Plan", [a_beam()])
    n_nodes = scene.GetNumberOfNodes()
    show_beams(scene, "Plan", [a_beam(), a_beam(70.0), a_beam(110.0)])
    show_beams(scene, "Plan", [a_beam()])
    assert scene.GetNumberOfNodes() == n_nodes


def test_two_plans_do_not_touch_each_other(scene):
    ours = show_beams(scene, "Plan A", [a_beam(10.0), a_beam(20.0)])
    theirs = show_beams(scene, "Plan B", [a_beam(30.0), a_beam(50.0), a_beam(70.0)])
    show_beams(scene, "Plan B", [a_beam(80.0)])
    assert show_beams(scene, "Plan A", [a_beam(10.0), a_beam(20.0)]) == ours
    remove_beams(scene, "Plan A")
    assert plan_nodes(scene, "Plan A") == ()
    assert theirs[0] in plan_nodes(scene, "Plan B")
    assert len(plan_nodes(scene, "Plan B")) == 4


def test_removing_beams_leaves_the_rest_of_the_plan(scene):
    dose = plan_node(scene, "Plan", "dose/Dose", "vtkMRMLScalarVolumeNode", "Dose")
    show_beams(scene, "Plan", [a_beam()])
    remove_beams(scene, "Plan")
    assert plan_nodes(scene, "Plan") == (dose,)


def test_models_stand_below_their_beam_in_the_folder_of_the_plan(scene):
    (transform,) = show_beams(scene, "Plan", [a_beam()])
    hierarchy = subject_hierarchy(scene)
    beam = hierarchy.GetItemByDataNode(transform)
    assert hierarchy.GetItemName(hierarchy.GetItemParent(beam)) == "Plan"
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(model_of(scene, "field"))) == beam
