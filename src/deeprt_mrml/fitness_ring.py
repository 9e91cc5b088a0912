"""The fitness of candidate beams as a ring around the patient, and its peaks as points to click on.

Slices show where they cut a model, so the curves of the ring are drawn along the patient's axis: every slice across it
near the isocenter shows them, and in 3-D they are bands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from numpy.typing import ArrayLike, NDArray
from vtk.util.numpy_support import numpy_to_vtk

from deeprt.beams import BeamAngles
from deeprt.case import PatientCase
from deeprt.dicom.source import Color
from deeprt.geometry import bld_to_lps_rotation
from deeprt.orientation.candidates import fittest_by_gantry
from deeprt_mrml.beam_models import BEAM_COLORS
from deeprt_mrml.coordinates import Float, points_to_ras
from deeprt_mrml.subject_hierarchy import keep_only, plan_node

RING_HEIGHT_MM = 40.0  # of a fitness of one, above the radius
_PART, _PEAKS = "ring/", "peaks"
_SCALE_COLOR: Color = (150, 150, 150)
_CURVE_COLOR: Color = (255, 255, 255)
_AVOIDED_COLOR: Color = (220, 70, 60)
_PEAK_COLOR: Color = (255, 220, 80)
_CURVE_STEP_DEG, _TICK_STEP_DEG, _HATCH_STEP_DEG = 1.0, 30.0, 1.5
_TICK_MM, _LONG_TICK_MM = 4.0, 9.0  # outwards; the long ones at 0, 90, 180 and 270 degrees
_MARK_MM = 5.0  # from the middle to the corners of a chosen beam's mark
_GAP_MM = 15.0  # between patient and ring
_BEFORE_OTHERS = 1.0  # priority of an observer


@dataclass(frozen=True, eq=False)
class _Ring:
    """Places on a ring in the plane in which the gantry turns while the couch is at zero."""

    center_lps: Float
    position: str
    radius_mm: float
    height_mm: float
    half_length_mm: float

    def points_ras(self, gantry_deg: ArrayLike, beyond_mm: ArrayLike) -> Float:
        """Points towards the source at gantry angles, (n,), so far beyond the radius, (n,); (n, 3)."""
        g = np.radians(np.asarray(gantry_deg, float))[..., None]
        up, side = (bld_to_lps_rotation(d, position=self.position)[:, 2] for d in (0.0, 90.0))
        distance = self.radius_mm + np.asarray(beyond_mm, float)[..., None]
        return points_to_ras(self.center_lps + distance * (np.cos(g) * up + np.sin(g) * side))

    def bands(self, lines_ras: Sequence[Float], *, closed: bool = False) -> vtk.vtkPolyData:
        """Extend lines, each (n, 3) in the ring's plane, along the patient's axis to both sides."""
        flat, points, cells = vtk.vtkPolyData(), vtk.vtkPoints(), vtk.vtkCellArray()
        if not lines_ras:
            return flat
        along = points_to_ras(bld_to_lps_rotation(0.0, position=self.position)[:, 1])
        corners = np.concatenate(lines_ras)
        points.SetData(numpy_to_vtk((corners - self.half_length_mm * along).astype(np.float32), deep=True))
        first = 0
        for line in lines_ras:
            numbers = [*range(first, first + len(line)), *([first] if closed else [])]
            cells.InsertNextCell(len(numbers), numbers)
            first += len(line)
        flat.SetPoints(points)
        flat.SetLines(cells)
        extrusion = vtk.vtkLinearExtrusionFilter()
        extrusion.SetInputData(flat)
        extrusion.SetExtrusionTypeToVectorExtrusion()
        extrusion.SetVector(*along)
        extrusion.SetScaleFactor(2 * self.half_length_mm)
        triangles = vtk.vtkTriangleFilter()
        triangles.SetInputConnection(extrusion.GetOutputPort())
        triangles.PassLinesOff()
        triangles.Update()
        return triangles.GetOutput()


def show_ring(
    scene: slicer.vtkMRMLScene,
    plan: str,
    *,
    center_lps: NDArray[np.float64],
    position: str,
    radius_mm: float,
    half_length_mm: float,
    candidates: Sequence[BeamAngles],
    fitness: NDArray[np.floating],
    chosen: Sequence[BeamAngles],
    excluded_deg: Sequence[tuple[float, float]],
    height_mm: float = RING_HEIGHT_MM,
) -> slicer.vtkMRMLModelNode:
    """Show the fitness of candidate beams around the patient; nodes of an earlier call are changed.

    A gray circle with ticks every 30 degrees of the gantry stands for a fitness of zero. A curve lies beyond it by the
    fitness, a diamond in the color of the beam on it for each chosen beam; excluded sectors are hatched. Of candidates
    with one gantry angle, whose couch angles differ, the fittest counts, and chosen beams are marked at their gantry
    angle.

    Parameters
    ----------
    center_lps : (3,) isocenter, mm
    position : DICOM Patient Position
    half_length_mm : of the ring, along the patient's axis to both sides
    fitness : (n_candidates,), 0 to 1
    excluded_deg : gantry angles from, to; clockwise
    height_mm : of a fitness of one

    Returns
    -------
    The circle's model, below which the others stand
    """
    ring = _Ring(np.asarray(center_lps, float), position, radius_mm, height_mm, half_length_mm)
    gantry, fittest = fittest_by_gantry(candidates, fitness)
    around, chosen_deg = np.union1d(np.arange(0.0, 360.0, _CURVE_STEP_DEG), gantry), [a.gantry_deg for a in chosen]
    curve_mm, chosen_mm = (height_mm * np.interp(g, gantry, fittest, period=360.0) for g in (around, chosen_deg))
    curve = ring.bands([ring.points_ras(around, curve_mm)], closed=True)
    ribs = _hatching(ring, excluded_deg)

    circle = _band(scene, plan, "circle", "Fitness ring", _scale(ring), _SCALE_COLOR, opacity=0.15)
    shown = [
        circle,
        _band(scene, plan, "excluded", "Avoided sectors", ribs, _AVOIDED_COLOR, opacity=0.1, under=circle),
        _band(scene, plan, "fitness", "Fitness", curve, _CURVE_COLOR, thickness=3, opacity=0.2, under=circle),
    ]
    for number, (gantry_deg, beyond_mm) in enumerate(zip(chosen_deg, chosen_mm, strict=True), start=1):
        mark, color = _diamond(ring, gantry_deg, beyond_mm), BEAM_COLORS[(number - 1) % len(BEAM_COLORS)]
        shown.append(
            _band(scene, plan, f"beam/{number}", f"Beam {number} mark", mark, color, thickness=5, under=circle)
        )
    keep_only(scene, plan, _PART, shown)
    return circle


def remove_ring(scene: slicer.vtkMRMLScene, plan: str) -> None:
    """Remove what `show_ring` and `show_peaks` made for a plan."""
    keep_only(scene, plan, _PART, ())
    keep_only(scene, plan, _PEAKS, ())


def radius_beyond_mm(case: PatientCase, center_lps: NDArray[np.float64], half_length_mm: float) -> float:
    """Radius of a ring about the patient's axis through a point that clears the external structure by 15 mm.

    Parameters
    ----------
    center_lps : (3,)
    half_length_mm : how far along the axis, to both sides, the external counts
    """
    inside = np.flatnonzero(case.external.fraction >= 0.5)
    offset = case.grid.points_lps(inside) - center_lps
    along = offset @ bld_to_lps_rotation(0.0, position=case.position)[:, 1]
    distance = np.sqrt(np.maximum((offset**2).sum(axis=1) - along**2, 0.0))
    return float(distance[np.abs(along) <= half_length_mm].max(initial=0.0)) + _GAP_MM


def show_peaks(
    scene: slicer.vtkMRMLScene,
    plan: str,
    *,
    center_lps: NDArray[np.float64],
    position: str,
    radius_mm: float | Sequence[float],
    peaks: Sequence[BeamAngles],
    labels: Sequence[str],
) -> slicer.vtkMRMLMarkupsFiducialNode:
    """Show peaks of the fitness as points to click on, which cannot be moved or deleted; the earlier node is changed.

    Parameters
    ----------
    center_lps : (3,) isocenter, mm
    position : DICOM Patient Position
    radius_mm : distance of all points from the isocenter, or of each, towards the sources
    labels : beside the points
    """
    node = plan_node(scene, plan, _PEAKS, "vtkMRMLMarkupsFiducialNode", "Peaks of the fitness")
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
        _style_peaks(node.GetDisplayNode())
    node.SetFixedNumberOfControlPoints(False)
    node.RemoveAllControlPoints()
    for angles, distance, label in zip(peaks, np.broadcast_to(radius_mm, len(peaks)), labels, strict=True):
        to_source = bld_to_lps_rotation(angles.gantry_deg, angles.couch_deg, position=position)[:, 2]
        number = node.AddControlPoint(vtk.vtkVector3d(*points_to_ras(center_lps + distance * to_source)), label)
        # A node that is locked as a whole would not take clicks either.
        node.SetNthControlPointLocked(number, True)
    node.SetFixedNumberOfControlPoints(True)
    return node


def on_peak_clicked(node: slicer.vtkMRMLMarkupsFiducialNode, callback: Callable[[int], None]) -> Callable[[], None]:
    """Call back with the number of a peak, from 0, when it is clicked on; views then stay where they are.

    A click on a markup asks Slicer to move the slices of all views to it; this answers first and ends the event.

    Returns
    -------
    What ends the observation
    """
    display = node.GetDisplayNode()

    def clicked(caller: slicer.vtkMRMLMarkupsDisplayNode, event: str) -> None:
        display.GetCommand(tag).AbortFlagOn()
        number = peak_of_click(node)
        if number is not None:
            callback(number)

    tag = display.AddObserver(display.JumpToPointEvent, clicked, _BEFORE_OTHERS)
    return lambda: display.RemoveObserver(tag)


def peak_of_click(node: slicer.vtkMRMLMarkupsFiducialNode) -> int | None:
    """Return the number of the peak, from 0, that the mouse is on; None if it is on none."""
    number = int(node.GetDisplayNode().GetActiveControlPoint())
    return number if 0 <= number < node.GetNumberOfControlPoints() else None


def _band(
    scene: slicer.vtkMRMLScene,
    plan: str,
    part: str,
    name: str,
    surface: vtk.vtkPolyData,
    color: Color,
    *,
    thickness: int = 1,
    opacity: float = 1.0,
    under: slicer.vtkMRMLNode | None = None,
) -> slicer.vtkMRMLModelNode:
    model = plan_node(scene, plan, _PART + part, "vtkMRMLModelNode", name, under=under)
    if model.GetDisplayNode() is None:
        model.CreateDefaultDisplayNodes()
        display = model.GetDisplayNode()
        display.SetVisibility2D(True)
        display.SetSliceIntersectionThickness(thickness)
        display.SetBackfaceCulling(False)
        display.SetLighting(False)
        display.SetOpacity(opacity)
        display.SetColor(*(channel / 255 for channel in color))
    model.SetAndObservePolyData(surface)
    return model


def _style_peaks(display: slicer.vtkMRMLMarkupsDisplayNode) -> None:
    display.SetPropertiesLabelVisibility(False)
    display.SetPointLabelsVisibility(True)
    display.SetGlyphType(display.Circle2D)
    for set_color in (display.SetColor, display.SetSelectedColor):
        set_color(*(channel / 255 for channel in _PEAK_COLOR))


def _scale(ring: _Ring) -> vtk.vtkPolyData:
    """Circle of the radius with ticks."""
    around = np.arange(0.0, 360.0, _CURVE_STEP_DEG)
    lines = [ring.points_ras(np.append(around, 0.0), np.zeros(around.size + 1))]
    for tick in np.arange(0.0, 360.0, _TICK_STEP_DEG):
        lines.append(ring.points_ras([tick] * 2, [0.0, -(_TICK_MM if tick % 90 else _LONG_TICK_MM)]))
    return ring.bands(lines)


def _hatching(ring: _Ring, sectors_deg: Sequence[tuple[float, float]]) -> vtk.vtkPolyData:
    """Ribs from the circle to the height of a fitness of one, close to each other, in sectors."""
    lines = []
    for low, high in sectors_deg:
        width = (high - low) % 360
        n = max(1, int(np.ceil(width / _HATCH_STEP_DEG)))
        lines += [ring.points_ras([g] * 2, [0.0, ring.height_mm]) for g in low + np.linspace(0.0, width, n + 1)]
    return ring.bands(lines)


def _diamond(ring: _Ring, gantry_deg: float, beyond_mm: float) -> vtk.vtkPolyData:
    """Outline of a diamond with its middle on the curve."""
    turn = np.degrees(_MARK_MM / (ring.radius_mm + beyond_mm))
    gantry = gantry_deg + np.array([0.0, turn, 0.0, -turn])
    return ring.bands([ring.points_ras(gantry, beyond_mm + np.array([_MARK_MM, 0.0, -_MARK_MM, 0.0]))], closed=True)
