"""Scalar volumes of a scene: images and doses, from arrays and to arrays."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import slicer
from numpy.typing import NDArray

from deeprt.dicom.read_dose import StoredDose
from deeprt.errors import InputError
from deeprt.geometry import Grid
from deeprt.resampling import average_onto
from deeprt_mrml.coordinates import grid_of, set_grid
from deeprt_mrml.subject_hierarchy import plan_node, subject_hierarchy

DOSE_VOLUME = "DicomRtImport.DoseVolume"  # by which SlicerRT knows a dose
_DOSE_UNIT = {"DicomRtImport.DoseUnitName": "GY", "DicomRtImport.DoseUnitValue": "1"}
_N_COLORS = 256
_LOWEST_SHOWN = 0.1  # of the dose at the top of the scale


def volume_node(
    scene: slicer.vtkMRMLScene, name: str, values: NDArray[np.number], grid: Grid
) -> slicer.vtkMRMLScalarVolumeNode:
    """Add a scalar volume with its default display.

    Parameters
    ----------
    values : (n_k, n_j, n_i), of any type that VTK has but 64-bit integers

    Raises
    ------
    ValueError
        If the values are not on the grid.
    """
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    set_volume(node, values, grid)
    node.CreateDefaultDisplayNodes()
    return node


def set_volume(node: slicer.vtkMRMLScalarVolumeNode, values: NDArray[np.number], grid: Grid) -> None:
    """Give a volume other voxels; parameters and errors as `volume_node`."""
    if values.shape != grid.shape:
        raise ValueError(f"Volume '{node.GetName()}': the values have shape {values.shape}, the grid {grid.shape}.")
    set_grid(node, grid)
    slicer.util.updateVolumeFromArray(node, values)


def array_of(volume_node: slicer.vtkMRMLScalarVolumeNode) -> NDArray[np.float32]:
    """Copy the values of a volume, (n_k, n_j, n_i) float32.

    Raises
    ------
    InputError
        If there are none.
    """
    grid_of(volume_node)  # refuses a volume without voxels
    return np.array(slicer.util.arrayFromVolume(volume_node), np.float32)


def stamp_of_volume(volume_node: slicer.vtkMRMLScalarVolumeNode) -> tuple[object, ...]:
    """What changes when a volume's voxels or its place in the scene do, and otherwise does not."""
    image = volume_node.GetImageData()
    grid = grid_of(volume_node)
    return volume_node.GetID(), image.GetMTime(), grid.shape, grid.index_to_lps.tobytes()


def dose_node(
    scene: slicer.vtkMRMLScene,
    plan: str,
    name: str,
    dose_gy: NDArray[np.float32],
    grid: Grid,
    *,
    top_gy: float | None = None,
) -> slicer.vtkMRMLScalarVolumeNode:
    """Show a dose of a plan as a volume that SlicerRT knows for a dose; one of that name in the plan is replaced.

    Parameters
    ----------
    dose_gy : (n_k, n_j, n_i) float32, whole course
    top_gy : at the upper end of the color scale, such as the highest prescription; the highest dose if None. Less
        than a tenth of it is not shown
    """
    node = plan_node(scene, plan, f"dose/{name}", "vtkMRMLScalarVolumeNode", name)
    set_volume(node, dose_gy.astype(np.float32), grid)
    for attribute, value in {DOSE_VOLUME: "1", **_DOSE_UNIT}.items():
        node.SetAttribute(attribute, value)
    _state_unit(scene, node)
    top = top_gy or float(dose_gy.max()) or 1.0
    set_scale([node], 0.0, top, color_table(scene, "turbo"))
    display = node.GetDisplayNode()
    display.SetThreshold(_LOWEST_SHOWN * top, max(float(dose_gy.max()), top))
    display.SetApplyThreshold(True)
    return node


def dose_on(dose_node: slicer.vtkMRMLScalarVolumeNode, grid: Grid) -> NDArray[np.float32]:
    """Interpolate the dose of a volume, in Gy, linearly onto a grid; zero beyond the volume's outermost faces.

    Returns
    -------
    (n_k, n_j, n_i) float32, Gy

    Raises
    ------
    InputError
        If the volume has no voxels, some that are no numbers, or no place in the scene.
    """
    dose_gy = array_of(dose_node)
    if not np.isfinite(dose_gy).all():
        raise InputError(f"Dose '{dose_node.GetName()}' has voxels that are not finite; choose another volume.")
    return StoredDose(dose_node.GetName(), grid_of(dose_node), dose_gy).on(grid)


def values_on(values: NDArray[np.float32], source: Grid, target: Grid, *, beyond: float = 0.0) -> NDArray[np.float32]:
    """Bring values onto another grid: averaged where it is the same box with other voxels, else interpolated linearly.

    Parameters
    ----------
    values : (n_k, n_j, n_i) float32 of ``source``
    beyond : value outside the box of ``source``

    Returns
    -------
    (n_k, n_j, n_i) float32 of ``target``
    """
    if source.resampled(target.spacing_mm).same_as(target):
        return average_onto(values, source, target)
    return StoredDose("", source, values - np.float32(beyond)).on(target) + np.float32(beyond)


def set_scale(
    nodes: Iterable[slicer.vtkMRMLScalarVolumeNode],
    low: float,
    high: float,
    color_node: slicer.vtkMRMLColorNode | None = None,
) -> None:
    """Show volumes in one window, from ``low`` to ``high``, and with one color table if it is given."""
    for node in nodes:
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(low, high)
        if color_node is not None:
            display.SetAndObserveColorNodeID(color_node.GetID())


def color_table(scene: slicer.vtkMRMLScene, name: str) -> slicer.vtkMRMLColorTableNode:
    """Return the color table of a scene with the colors of a colormap of matplotlib, made if there is none."""
    tag = f"DeepRT {name}"
    node = scene.GetSingletonNode(tag, "vtkMRMLColorTableNode")
    if node is None:
        from matplotlib import colormaps

        node = slicer.vtkMRMLColorTableNode()
        node.SetSingletonTag(tag)
        node.SetTypeToUser()
        node.SetName(tag)
        node.SetNumberOfColors(_N_COLORS)
        for n, rgba in enumerate(colormaps[name](np.linspace(0, 1, _N_COLORS))):
            node.SetColor(n, str(n), *rgba)
        node = scene.AddNode(node)
    return node


def _state_unit(scene: slicer.vtkMRMLScene, node: slicer.vtkMRMLNode) -> None:
    """State the unit of dose for the study that a node lies in, if any, where SlicerRT looks for it."""
    hierarchy = subject_hierarchy(scene)
    level = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelStudy()
    study = hierarchy.GetItemAncestorAtLevel(hierarchy.GetItemByDataNode(node), level)
    if study:
        for attribute, value in _DOSE_UNIT.items():
            if not hierarchy.GetItemAttribute(study, attribute):
                hierarchy.SetItemAttribute(study, attribute, value)
