"""Pictures show what the nodes of a scene say, in places that are known."""

import os
import subprocess
import sys

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from PIL import Image
from Screenshots.render_scene import render_3d, render_chart, render_slice

from deeprt.geometry import Grid
from deeprt_mrml.isodoses import show_isodoses
from deeprt_mrml.plots import show_fitness
from deeprt_mrml.volumes import dose_node, set_scale, volume_node

CENTER_LPS = np.array([20.0, -60.0, 300.0])
SIZE = 240  # pixels for as many millimeters


def can_render():
    """Asked of another process, which a missing driver may end."""
    environment = os.environ | {"VTK_DEFAULT_OPENGL_WINDOW": "vtkEGLRenderWindow"}
    code = "import vtk; vtk.vtkRenderWindow().Render()"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment).returncode == 0


pytestmark = pytest.mark.skipif(not can_render(), reason="there is no EGL to render with")


@pytest.fixture
def scene():
    scene, application = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    application.GetColorLogic().SetMRMLScene(scene)
    slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    yield scene
    scene.Clear(True)


@pytest.fixture
def grid():
    return Grid.axial((60, 80, 80), 2.0, CENTER_LPS - (79.0, 79.0, 59.0))


def a_ct(scene, grid):
    """Gray, with a bright block to the left, anterior and superior of the middle."""
    values = np.full(grid.shape, 20.0, np.float32)
    values[40:50, 10:30, 50:70] = 100.0  # S, A, L of the center
    node = volume_node(scene, "CT", values, grid)
    set_scale([node], 0.0, 100.0)
    return node


def bright(path):
    """Middle of the bright block, from the middle of the picture, mm to the right and up."""
    gray = np.asarray(Image.open(path).convert("L")).astype(int)[30:-30, 30:-30]
    row, column = np.nonzero(gray > 200)
    return column.mean() + 30 - (SIZE - 1) / 2, (SIZE - 1) / 2 - row.mean() - 30


@pytest.mark.parametrize(
    ("orientation", "right", "up"), [("Axial", 40, 40), ("Sagittal", -40, 30), ("Coronal", 40, 30)]
)
def test_slices_lie_as_slicer_shows_them(scene, grid, tmp_path, orientation, right, up):
    """Anterior is up and the left on the right; sagittal planes have anterior on the left. A pixel is a millimeter."""
    ct = a_ct(scene, grid)
    at_lps = np.add(CENTER_LPS, (40.0, -40.0, 30.0))
    middle = np.where(np.arange(3) == {"Axial": 2, "Sagittal": 0, "Coronal": 1}[orientation], at_lps, CENTER_LPS)
    render_slice(
        scene, tmp_path / "slice.png", orientation, at_ras=middle * (-1, -1, 1), background=ct,
        field_of_view_mm=SIZE, size=(SIZE, SIZE),
    )  # fmt: skip
    assert bright(tmp_path / "slice.png") == (pytest.approx(right, abs=1.5), pytest.approx(up, abs=1.5))


def test_isodoses_are_drawn_in_their_color_and_the_scene_is_left_as_it_was(scene, grid, tmp_path):
    distance = np.linalg.norm(grid.points_lps() - CENTER_LPS, axis=1).reshape(grid.shape)
    dose = dose_node(scene, "Plan", "Dose", (60.0 - distance).clip(0).astype(np.float32), grid)
    (model,) = show_isodoses(scene, "Plan", dose, [20.0])
    nodes = [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]
    for _ in range(2):
        render_slice(
            scene, tmp_path / "slice.png", at_ras=CENTER_LPS * (-1, -1, 1), field_of_view_mm=SIZE, size=(SIZE, SIZE)
        )
    assert [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())] == nodes
    rgb = np.asarray(Image.open(tmp_path / "slice.png")).astype(float)
    color = 255 * np.array(model.GetDisplayNode().GetColor())
    row, column = np.nonzero(np.abs(rgb - color).max(axis=2) < 40)
    radius = np.hypot(row - (SIZE - 1) / 2, column - (SIZE - 1) / 2)
    assert np.median(radius) == pytest.approx(40.0, abs=1.5)


def test_3d_views_show_what_is_visible_there(scene, grid, tmp_path):
    distance = np.linalg.norm(grid.points_lps() - CENTER_LPS, axis=1).reshape(grid.shape)
    dose = dose_node(scene, "Plan", "Dose", (60.0 - distance).clip(0).astype(np.float32), grid)
    seen = []
    for visible in (False, True):
        (model,) = show_isodoses(scene, "Plan", dose, [20.0])
        model.GetDisplayNode().SetVisibility3D(visible)
        render_3d(scene, tmp_path / "view.png", at_ras=CENTER_LPS * (-1, -1, 1), height_mm=SIZE, size=(SIZE, SIZE))
        rgb = np.asarray(Image.open(tmp_path / "view.png")).astype(int)
        seen.append((np.abs(rgb - rgb[5, 5]).max(axis=2) > 10)[30:-30].sum())
    assert seen[0] == 0
    assert seen[1] == pytest.approx(np.pi * 40**2, rel=0.15)  # perspective makes it a little larger


def test_charts_are_drawn_in_the_colors_of_their_series(scene, tmp_path):
    from deeprt.beams import BeamAngles

    candidates = [BeamAngles(g) for g in range(0, 360, 10)]
    chart = show_fitness(scene, "Plan", candidates, np.linspace(0, 1, 36), [BeamAngles(90.0)])
    render_chart(chart, tmp_path / "chart.png")
    rgb = np.asarray(Image.open(tmp_path / "chart.png").convert("RGB")).astype(int)
    for n in range(chart.GetNumberOfPlotSeriesNodes()):
        color = np.rint(255 * np.array(chart.GetNthPlotSeriesNode(n).GetColor()))
        assert (np.abs(rgb - color).max(axis=2) <= 1).sum() > 20
