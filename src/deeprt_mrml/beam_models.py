"""Beams of a plan as models: one transform a beam, from its frame to the patient, with the models below it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray

from deeprt.beams import Beam
from deeprt.dicom.source import Color
from deeprt_mrml.coordinates import Float, beam_to_ras
from deeprt_mrml.subject_hierarchy import keep_only, plan_node

# Told apart also by the color-blind: M. Okabe and K. Ito, Color Universal Design (2008); their black is left out.
BEAM_COLORS: tuple[Color, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip
_PART = "beam/"
_BEHIND_MM = 200.0  # how far behind the isocenter a beam is drawn
_AXIS_RADIUS_MM = 0.75  # a tube, since slices would show a line as points only
_FIELD_OPACITY = 0.15


def show_beams(
    scene: slicer.vtkMRMLScene, plan: str, beams: Sequence[Beam], *, colors: Sequence[Color] = BEAM_COLORS
) -> tuple[slicer.vtkMRMLLinearTransformNode, ...]:
    """Show the beams of a plan; nodes of an earlier call are changed, and those of beams that are gone removed.

    Below a beam's transform lie three models in its frame: *field*, the surface in which the edges of its open
    beamlets diverge from the source, which slices cut; *outline*, these edges on the isocenter plane and the rectangle
    around them with its four divergent edges; *axis*, from the source through the isocenter.

    Parameters
    ----------
    colors : of the first beam, the second, and so on, from the beginning again when they run out; RGB, 0 to 255

    Returns
    -------
    The beams' transforms, whose names say gantry (G), collimator (C) and table (T) angle
    """
    transforms, models = [], []
    for number, beam in enumerate(beams, start=1):
        part, name = f"{_PART}{number}/", beam_name(beam)
        transform = plan_node(scene, plan, part, "vtkMRMLLinearTransformNode", name)
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(beam_to_ras(beam)))
        color = colors[(number - 1) % len(colors)]
        for what, surface in (("field", _field(beam)), ("outline", _outline(beam)), ("axis", _axis(beam))):
            model = plan_node(scene, plan, part + what, "vtkMRMLModelNode", f"{name} {what}", under=transform)
            if model.GetDisplayNode() is None:
                model.CreateDefaultDisplayNodes()
                model.SetAndObserveTransformNodeID(transform.GetID())
                _style(model.GetDisplayNode(), what)
            model.SetAndObservePolyData(surface)
            model.GetDisplayNode().SetColor(*(channel / 255 for channel in color))
            models.append(model)
        transforms.append(transform)
    keep_only(scene, plan, _PART, [*transforms, *models])
    return tuple(transforms)


def remove_beams(scene: slicer.vtkMRMLScene, plan: str) -> None:
    """Remove what `show_beams` made for a plan."""
    keep_only(scene, plan, _PART, ())


def beam_name(beam: Beam) -> str:
    """Name of a beam with its angles: gantry, collimator and table, such as ``Beam 1 G40 C0 T350.5``."""
    a = beam.angles
    angles = (("G", a.gantry_deg), ("C", a.collimator_deg), ("T", a.couch_deg))
    return " ".join([beam.name, *(f"{letter}{round(degrees, 1) % 360:g}" for letter, degrees in angles)])


def _style(display: slicer.vtkMRMLModelDisplayNode, what: str) -> None:
    display.SetVisibility2D(what != "outline")  # which slices would show as points
    display.SetSliceIntersectionThickness(2)
    display.SetBackfaceCulling(False)
    display.SetLineWidth(2)
    display.SetLighting(False)
    if what == "field":
        display.SetOpacity(_FIELD_OPACITY)


def _borders(beam: Beam) -> Float:
    """Sides of open beamlets that face closed ones, (n, 2 ends, 2) along +Xb and +Yb at the isocenter plane, mm."""
    x, y = beam.x_edges_mm, beam.y_edges_mm
    is_open = np.pad(beam.open_beamlets if beam.open_beamlets.any() else np.ones_like(beam.open_beamlets), 1)
    row, edge = np.nonzero(is_open[1:-1, 1:] != is_open[1:-1, :-1])
    along_y = np.stack([np.stack([x[edge], y[row]], 1), np.stack([x[edge], y[row + 1]], 1)], 1)
    edge, column = np.nonzero(is_open[1:, 1:-1] != is_open[:-1, 1:-1])
    along_x = np.stack([np.stack([x[column], y[edge]], 1), np.stack([x[column + 1], y[edge]], 1)], 1)
    return np.concatenate([along_y, along_x])


def _field(beam: Beam) -> vtk.vtkPolyData:
    """Triangles from the source through the borders of open beamlets, in the beam's frame."""
    far = _behind(beam, _borders(beam).reshape(-1, 2))
    ends = 1 + np.arange(len(far)).reshape(-1, 2)
    points = np.concatenate([[[0.0, 0.0, beam.sad_mm]], far])
    return _poly_data(points, triangles=np.insert(ends, 0, 0, axis=1))


def _outline(beam: Beam) -> vtk.vtkPolyData:
    """Lines of the borders of open beamlets, of the rectangle around them, and of its divergent edges."""
    borders = _borders(beam).reshape(-1, 2)
    (x0, y0), (x1, y1) = borders.min(axis=0), borders.max(axis=0)
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    rectangle = np.stack([corners, np.roll(corners, -1, axis=0)], axis=1).reshape(-1, 2)
    on_plane = np.pad(np.concatenate([borders, rectangle]), ((0, 0), (0, 1)))
    source = np.broadcast_to([0.0, 0.0, beam.sad_mm], (4, 3))
    edges = np.stack([source, _behind(beam, corners)], axis=1).reshape(-1, 3)
    points = np.concatenate([on_plane, edges])
    return _poly_data(points, lines=np.arange(len(points)).reshape(-1, 2))


def _axis(beam: Beam) -> vtk.vtkPolyData:
    """Tube along the central axis from the source, through the isocenter."""
    line = vtk.vtkLineSource()
    line.SetPoint1(0.0, 0.0, beam.sad_mm)
    line.SetPoint2(0.0, 0.0, -_BEHIND_MM)
    tube = vtk.vtkTubeFilter()
    tube.SetInputConnection(line.GetOutputPort())
    tube.SetRadius(_AXIS_RADIUS_MM)
    tube.SetNumberOfSides(8)
    tube.CappingOn()
    tube.Update()
    return tube.GetOutput()


def _behind(beam: Beam, on_plane_mm: Float) -> Float:
    """Where rays through points of the isocenter plane, (n, 2), end behind it, (n, 3)."""
    far = on_plane_mm * (1 + _BEHIND_MM / beam.sad_mm)
    return np.column_stack([far, np.full(len(far), -_BEHIND_MM)])


def _poly_data(
    points: Float, *, lines: NDArray[np.int64] | None = None, triangles: NDArray[np.int64] | None = None
) -> vtk.vtkPolyData:
    """Points, (n, 3), with lines, (m, 2), or triangles, (m, 3), of their indices."""
    data, vertices = vtk.vtkPolyData(), vtk.vtkPoints()
    vertices.SetData(numpy_to_vtk(points.astype(np.float32), deep=True))
    data.SetPoints(vertices)
    for cells, add in ((lines, data.SetLines), (triangles, data.SetPolys)):
        if cells is not None:
            array = vtk.vtkCellArray()
            array.SetData(cells.shape[1], numpy_to_vtkIdTypeArray(cells.ravel(), deep=True))
            add(array)
    return data
