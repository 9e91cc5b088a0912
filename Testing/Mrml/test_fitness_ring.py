import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import vtk
from Mrml.samples import a_case
from numpy.testing import assert_allclose
from vtk.util.numpy_support import vtk_to_numpy

from deeprt.beams import BeamAngles
from deeprt.geometry import bld_to_lps_rotation
from deeprt_mrml.beam_models import BEAM_COLORS
from deeprt_mrml.coordinates import points_to_lps
from deeprt_mrml.fitness_ring import (
    on_peak_clicked,
    peak_of_click,
    radius_beyond_mm,
    remove_ring,
    show_peaks,
    show_ring,
)
from deeprt_mrml.subject_hierarchy import plan_node, plan_nodes, subject_hierarchy

CENTER_LPS = np.array([31.0, -204.5, 812.0])
RADIUS_MM, HEIGHT_MM, HALF_MM = 180.0, 50.0, 35.0
CANDIDATES = [BeamAngles(5.0 * k) for k in range(72)]
FITNESS = np.array([0.5 + 0.5 * np.sin(np.radians(a.gantry_deg)) for a in CANDIDATES], np.float32)
ROUNDING_MM = 1e-3  # models have their points in float32


def a_ring(scene, position="HFS", **changes):
    settings = {
        "candidates": CANDIDATES,
        "fitness": FITNESS,
        "chosen": [BeamAngles(42.5), BeamAngles(200.0)],
        "excluded_deg": [(350.0, 20.0)],
    }
    return show_ring(
        scene, "Plan", center_lps=CENTER_LPS, position=position, radius_mm=RADIUS_MM, half_length_mm=HALF_MM,
        height_mm=HEIGHT_MM, **(settings | changes),
    )  # fmt: skip


def model_of(scene, what):
    (model,) = plan_nodes(scene, "Plan", f"ring/{what}")
    return model


def cut(model, position="HFS", along_mm=0.0):
    """Where a plane across the patient's axis cuts a model: points by gantry angle, degrees, and distance, mm."""
    axis, up, side = (
        bld_to_lps_rotation(0, position=position)[:, 1],
        bld_to_lps_rotation(0, position=position)[:, 2],
        bld_to_lps_rotation(90, position=position)[:, 2],
    )
    plane, cutter = vtk.vtkPlane(), vtk.vtkCutter()
    plane.SetOrigin(*points_to_lps(CENTER_LPS + along_mm * axis))
    plane.SetNormal(*points_to_lps(axis))
    cutter.SetCutFunction(plane)
    cutter.SetInputData(model.GetPolyData())
    cutter.Update()
    offset = points_to_lps(vtk_to_numpy(cutter.GetOutput().GetPoints().GetData())) - CENTER_LPS
    assert_allclose(offset @ axis, along_mm, atol=ROUNDING_MM)
    return np.degrees(np.arctan2(offset @ side, offset @ up)) % 360, np.hypot(offset @ side, offset @ up)


@pytest.mark.parametrize("position", ["HFS", "HFP", "FFS", "FFP"])
def test_slices_cut_the_ring_where_the_sources_are_and_as_far_out_as_they_are_fit(scene, position):
    a_ring(scene, position)
    for along_mm in (-30.0, 0.0, 30.0):
        gantry, distance = cut(model_of(scene, "fitness"), position, along_mm)
        assert_allclose(
            distance, RADIUS_MM + HEIGHT_MM * (0.5 + 0.5 * np.sin(np.radians(gantry))), atol=0.1
        )  # chords of 1°, a line between candidates 5° apart
        assert np.diff(np.sort(gantry)).max() <= 1.01


def test_the_circle_stands_for_no_fitness_and_is_closed(scene):
    a_ring(scene)
    gantry, distance = cut(model_of(scene, "circle"))
    on_circle = distance > RADIUS_MM - 0.1
    assert_allclose(distance[on_circle], RADIUS_MM, atol=0.01)
    assert np.diff(np.sort(gantry[on_circle])).max() <= 1.01
    ticks = np.unique(np.round(gantry[~on_circle]))
    assert set(ticks) == set(np.arange(0, 360, 30))


def test_chosen_beams_are_marked_on_the_curve_in_their_colors(scene):
    a_ring(scene)
    for number, gantry_deg in ((1, 42.5), (2, 200.0)):
        model = model_of(scene, f"beam/{number}")
        gantry, distance = cut(model)
        middle = RADIUS_MM + HEIGHT_MM * np.interp(gantry_deg, [a.gantry_deg for a in CANDIDATES], FITNESS)
        assert (distance.min() + distance.max()) / 2 == pytest.approx(middle, abs=0.1)
        assert np.abs(gantry - gantry_deg).max() < 3
        assert_allclose(255 * np.array(model.GetDisplayNode().GetColor()), BEAM_COLORS[number - 1], atol=1e-9)


def test_avoided_sectors_are_hatched_also_across_zero(scene):
    a_ring(scene)
    gantry, distance = cut(model_of(scene, "excluded"))
    from_start = (gantry - 350.0 + 1e-3) % 360
    assert from_start.max() == pytest.approx(30.0, abs=0.01)
    assert np.diff(np.unique(np.round(from_start, 2))).max() <= 1.51
    assert (distance.min(), distance.max()) == (
        pytest.approx(RADIUS_MM, abs=0.01),
        pytest.approx(RADIUS_MM + HEIGHT_MM, abs=0.01),
    )


def test_without_avoided_sectors_and_beams_only_circle_and_curve_are_seen(scene):
    a_ring(scene, chosen=[], excluded_deg=[])
    assert model_of(scene, "excluded").GetPolyData().GetNumberOfCells() == 0
    assert plan_nodes(scene, "Plan", "ring/beam/") == ()


def test_of_several_couch_angles_the_fittest_counts(scene):
    turned = [BeamAngles(a.gantry_deg, 30.0) for a in CANDIDATES]
    a_ring(scene, candidates=[*CANDIDATES, *turned], fitness=np.concatenate([0.2 * FITNESS, FITNESS]))
    gantry, distance = cut(model_of(scene, "fitness"))
    assert distance[np.abs(gantry - 90).argmin()] == pytest.approx(RADIUS_MM + HEIGHT_MM, abs=0.1)


def test_the_ring_is_changed_in_place_and_keeps_what_the_user_chose(scene):
    circle = a_ring(scene)
    nodes = plan_nodes(scene, "Plan")
    model_of(scene, "fitness").GetDisplayNode().SetOpacity(0.9)
    assert a_ring(scene, fitness=0 * FITNESS) is circle
    assert plan_nodes(scene, "Plan") == nodes
    assert model_of(scene, "fitness").GetDisplayNode().GetOpacity() == 0.9
    assert_allclose(cut(model_of(scene, "fitness"))[1], RADIUS_MM, atol=0.01)
    a_ring(scene, chosen=[BeamAngles(10.0)])
    assert len(plan_nodes(scene, "Plan", "ring/beam/")) == 1


def test_the_parts_stand_below_the_ring_in_the_folder_of_the_plan_and_go_with_it(scene):
    dose = plan_node(scene, "Plan", "dose/Dose", "vtkMRMLScalarVolumeNode", "Dose")
    n_nodes = scene.GetNumberOfNodes()
    circle = a_ring(scene)
    hierarchy = subject_hierarchy(scene)
    item = hierarchy.GetItemByDataNode(circle)
    assert hierarchy.GetItemName(hierarchy.GetItemParent(item)) == "Plan"
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(model_of(scene, "beam/1"))) == item
    some_peaks(scene)
    remove_ring(scene, "Plan")
    assert plan_nodes(scene, "Plan") == (dose,)
    assert scene.GetNumberOfNodes() == n_nodes


@pytest.mark.parametrize("position", ["HFS", "FFP"])
def test_the_ring_clears_the_patient_near_the_isocenter(position):
    case = a_case(position)
    center = np.add(case.grid.center_lps, (10.0, -20.0, 0.0))
    to_axis = bld_to_lps_rotation(0, position=position)[:, 1]
    points = case.grid.points_lps(np.flatnonzero(case.external.fraction >= 0.5)) - center
    near = points[np.abs(points @ to_axis) <= 12.0]
    beside = np.linalg.norm(near - np.outer(near @ to_axis, to_axis), axis=1)
    assert radius_beyond_mm(case, center, 12.0) == pytest.approx(beside.max() + 15.0)


# Peaks


PEAKS = [BeamAngles(40.0), BeamAngles(281.5, 344.5), BeamAngles(160.0)]


def some_peaks(scene, peaks=PEAKS, position="HFS", radius_mm=220.0):
    labels = [f"{a.gantry_deg:g}°" for a in peaks]
    return show_peaks(
        scene, "Plan", center_lps=CENTER_LPS, position=position, radius_mm=radius_mm, peaks=peaks, labels=labels
    )


def click(node, number):
    """What Slicer does when a point is clicked on."""
    node.GetDisplayNode().SetActiveControlPoint(number)
    node.GetDisplayNode().InvokeEvent(node.GetDisplayNode().JumpToPointEvent)


@pytest.mark.parametrize("position", ["HFS", "FFP"])
def test_peaks_lie_towards_their_sources(scene, position):
    node = some_peaks(scene, position=position, radius_mm=[200.0, 210.0, 220.0])
    points = points_to_lps(slicer.util.arrayFromMarkupsControlPoints(node))
    for point, angles, distance in zip(points, PEAKS, (200.0, 210.0, 220.0), strict=True):
        to_source = bld_to_lps_rotation(angles.gantry_deg, angles.couch_deg, position=position)[:, 2]
        assert_allclose(point, CENTER_LPS + distance * to_source, atol=1e-6)
    assert [node.GetNthControlPointLabel(n) for n in range(3)] == ["40°", "281.5°", "160°"]


def test_peaks_can_be_clicked_on_but_not_moved_or_deleted(scene):
    node = some_peaks(scene)
    assert not node.GetLocked()  # it would take no clicks
    assert all(node.GetNthControlPointLocked(n) for n in range(3))
    assert node.GetFixedNumberOfControlPoints()


def test_a_click_tells_which_peak_and_leaves_the_views_where_they_are(scene):
    node, clicked, jumps = some_peaks(scene), [], []
    display = node.GetDisplayNode()
    display.AddObserver(display.JumpToPointEvent, lambda caller, event: jumps.append(event))  # as Slicer does
    end = on_peak_clicked(node, clicked.append)
    click(node, 1)
    click(node, 0)
    assert (clicked, jumps) == ([1, 0], [])
    end()
    click(node, 2)
    assert clicked == [1, 0]
    assert len(jumps) == 1


def test_a_click_on_no_peak_is_none(scene):
    node = some_peaks(scene)
    assert peak_of_click(node) is None
    node.GetDisplayNode().SetActiveControlPoint(2)
    assert peak_of_click(node) == 2
    some_peaks(scene, PEAKS[:1])
    assert peak_of_click(node) is None


def test_peaks_can_change_while_a_click_on_them_is_answered(scene):
    node, clicked = some_peaks(scene), []

    def answer(number):
        clicked.append(number)
        some_peaks(scene, PEAKS[:2])

    on_peak_clicked(node, answer)
    click(node, 2)
    assert clicked == [2]
    assert node.GetNumberOfControlPoints() == 2


def test_peaks_are_changed_in_place(scene):
    node = some_peaks(scene)
    n_nodes = scene.GetNumberOfNodes()
    assert some_peaks(scene, PEAKS[:2]) is node
    assert (node.GetNumberOfControlPoints(), scene.GetNumberOfNodes()) == (2, n_nodes)
    assert some_peaks(scene, []).GetNumberOfControlPoints() == 0
