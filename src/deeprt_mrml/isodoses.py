"""Isodose surfaces of a dose volume, which slices show as lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer
import vtk

from deeprt_mrml.coordinates import grid_of
from deeprt_mrml.subject_hierarchy import keep_only, plan_node
from deeprt_mrml.volumes import color_table

_PART = "isodoses/"
_OPACITY = 0.3  # in 3-D
_THICKNESS = 2  # pixels, in slices


def show_isodoses(
    scene: slicer.vtkMRMLScene,
    plan: str,
    dose_node: slicer.vtkMRMLScalarVolumeNode,
    levels_gy: Sequence[float],
    *,
    visible_3d: bool = False,
) -> tuple[slicer.vtkMRMLModelNode, ...]:
    """Show where a dose has certain levels; models of an earlier call are changed, those left over removed.

    The surfaces are closed, also where the dose reaches the end of its grid, and move with the volume's transform.
    Their colors are those of turbo over the volume's window, as in the wash of a dose that `dose_node` made.

    Parameters
    ----------
    levels_gy : above zero
    visible_3d : of models that are new; the user's choice for the others stays

    Returns
    -------
    One model a level that the dose reaches, in the order of levels, such as ``47.5 Gy``

    Raises
    ------
    InputError
        If the dose has no voxels.
    """
    grid_of(dose_node)  # refuses a volume without voxels
    part = f"{_PART}{dose_node.GetName()}/"
    models = []
    for level_gy in levels_gy:
        surface = _surface(dose_node, level_gy)
        if surface.GetNumberOfCells() == 0:
            continue
        name = f"{level_gy:g} Gy"
        model = plan_node(scene, plan, part + name, "vtkMRMLModelNode", name)
        if model.GetDisplayNode() is None:
            model.CreateDefaultDisplayNodes()
            _style(model.GetDisplayNode(), visible_3d=visible_3d)
        model.SetAndObservePolyData(surface)
        model.SetAndObserveTransformNodeID(dose_node.GetTransformNodeID())
        model.GetDisplayNode().SetColor(*_color(scene, dose_node, level_gy))
        models.append(model)
    keep_only(scene, plan, part, models)
    return tuple(models)


def remove_isodoses(scene: slicer.vtkMRMLScene, plan: str) -> None:
    """Remove what `show_isodoses` made for all doses of a plan."""
    keep_only(scene, plan, _PART, ())


def _style(display: slicer.vtkMRMLModelDisplayNode, *, visible_3d: bool) -> None:
    display.SetVisibility2D(True)
    display.SetVisibility3D(visible_3d)
    display.SetSliceIntersectionThickness(_THICKNESS)
    display.SetOpacity(_OPACITY)
    display.SetBackfaceCulling(False)


def _surface(dose_node: slicer.vtkMRMLScalarVolumeNode, level_gy: float) -> vtk.vtkPolyData:
    """Surface of a level in the volume's own RAS, normals towards lower dose."""
    n_i, n_j, n_k = dose_node.GetImageData().GetDimensions()
    padded = vtk.vtkImageConstantPad()  # without dose around, surfaces would be open at the end of the grid
    padded.SetInputData(dose_node.GetImageData())
    padded.SetOutputWholeExtent(-1, n_i, -1, n_j, -1, n_k)
    edges = vtk.vtkFlyingEdges3D()
    edges.SetInputConnection(padded.GetOutputPort())
    edges.SetValue(0, level_gy)
    edges.ComputeScalarsOff()  # views would color the surface by them
    edges.ComputeNormalsOff()
    edges.ComputeGradientsOff()
    matrix, to_ras = vtk.vtkMatrix4x4(), vtk.vtkTransform()
    dose_node.GetIJKToRASMatrix(matrix)
    to_ras.SetMatrix(matrix)
    moved = vtk.vtkTransformPolyDataFilter()
    moved.SetInputConnection(edges.GetOutputPort())
    moved.SetTransform(to_ras)
    source = moved
    if matrix.Determinant() < 0:  # a left-handed matrix turns triangles inside out
        source = vtk.vtkReverseSense()
        source.SetInputConnection(moved.GetOutputPort())
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputConnection(source.GetOutputPort())
    normals.SplittingOff()
    normals.ConsistencyOff()
    normals.Update()
    return normals.GetOutput()


def _color(
    scene: slicer.vtkMRMLScene, dose_node: slicer.vtkMRMLScalarVolumeNode, level_gy: float
) -> tuple[float, float, float]:
    """Color of a dose: that of turbo where the dose stands in the volume's window, the scale of `dose_node`."""
    table, display = color_table(scene, "turbo"), dose_node.GetDisplayNode()
    low, high = 0.0, dose_node.GetImageData().GetScalarRange()[1]
    if display is not None:
        low, high = display.GetWindowLevelMin(), display.GetWindowLevelMax()
    place = np.clip((level_gy - low) / ((high - low) or 1.0), 0.0, 1.0)
    color = [0.0] * 4
    table.GetColor(round(float(place) * (table.GetNumberOfColors() - 1)), color)
    return color[0], color[1], color[2]
