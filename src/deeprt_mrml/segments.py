"""Segments of a scene as structures: the share of each voxel inside, whatever the segment is made of."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from deeprt.dicom.source import Color, DrawnStructure
from deeprt.dicom.volumes import sampled_fraction
from deeprt.errors import InputError
from deeprt.geometry import Grid
from deeprt.roles import StructureChoice
from deeprt.structures import Role, Structure
from deeprt_mrml.coordinates import Float, grid_in_scene, matrix_to_ras, to_scene
from deeprt_mrml.volumes import array_of, set_volume, values_on

_LABELMAP, _SURFACE = "Binary labelmap", "Closed surface"
_OVERSAMPLING = 3  # of a grid, along each axis, where a surface is filled
_ROLE, _ORGAN, _PRESCRIPTION, _DENSITY = "DeepRT.Role", "DeepRT.Organ", "DeepRT.PrescriptionGy", "DeepRT.Density"
_SHARES = "DeepRT.Shares."  # node reference of a segment, which follows, to the volume of its exact shares

Mask = NDArray[np.bool_]


def segments_of(node: slicer.vtkMRMLSegmentationNode) -> tuple[DrawnStructure, ...]:
    """Segments of a segmentation as drawn structures, each on its own: they may overlap.

    A labelmap, of any geometry, counts by the share of a voxel inside it. A segment without one, such as the surface
    of an imported structure set, is filled on three times the resolution of the grid that is asked for; the node is
    not changed. What `add_segment` wrote comes back with the same shares as long as its labelmap is the same.

    Raises
    ------
    InputError
        If two segments have one name, or the segmentation's transforms are not linear.
    """
    segmentation = node.GetSegmentation()
    found: list[DrawnStructure] = []
    for n in range(segmentation.GetNumberOfSegments()):
        name, segment_id = segmentation.GetNthSegment(n).GetName(), segmentation.GetNthSegmentID(n)
        if any(s.name == name for s in found):
            raise InputError(f"Segmentation '{node.GetName()}' has two segments called '{name}'; rename one.")
        draw = None if _is_empty(node, segment_id) else partial(_fraction_on, node, segment_id)
        found.append(DrawnStructure(name, "", _color(segmentation.GetSegment(segment_id)), draw))
    to_scene(node)  # refuses a transform that is not linear
    return tuple(found)


def add_segment(node: slicer.vtkMRMLSegmentationNode, structure: Structure, grid: Grid, color: Color) -> str:
    """Add a structure to a segmentation as a labelmap of the voxels that are at least half inside.

    Where voxels are partly inside, a volume that no list shows keeps the exact shares.

    Parameters
    ----------
    grid : of the structure
    color : RGB, 0 to 255

    Returns
    -------
    The segment's ID
    """
    segmentation = node.GetSegmentation()
    segment = slicer.vtkSegment()
    segment.SetName(structure.name)
    segment.SetColor(*(channel / 255 for channel in color))
    segment.AddRepresentation(_LABELMAP, _image(structure.fraction >= 0.5, _node_matrix(node, grid)))
    segment_id = segmentation.GenerateUniqueSegmentID("Structure")
    segmentation.AddSegment(segment, segment_id)
    set_choices(node, {structure.name: _choice_of(structure)})
    if ((structure.fraction > 0) & (structure.fraction < 1)).any():
        shares = slicer.vtkMRMLScalarVolumeNode()
        shares.SetName(f"{structure.name} shares")
        shares.SetHideFromEditors(True)
        shares = node.GetScene().AddNode(shares)
        shares.SetAndObserveTransformNodeID(node.GetTransformNodeID())
        set_volume(shares, structure.fraction, grid)
        node.SetNodeReferenceID(_SHARES + segment_id, shares.GetID())
    return str(segment_id)


def choices_of(node: slicer.vtkMRMLSegmentationNode) -> dict[str, StructureChoice]:
    """What is kept with the segments of their roles, organs, prescriptions and densities, by name of segment."""
    segmentation, choices = node.GetSegmentation(), {}
    for n in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(n)
        role, organ, prescription, density = (_tag(segment, t) for t in (_ROLE, _ORGAN, _PRESCRIPTION, _DENSITY))
        choice = StructureChoice(
            Role(role) if role else None,
            organ,
            float(prescription) if prescription else None,
            float(density) if density else None,
        )
        if choice != StructureChoice():
            choices[segment.GetName()] = choice
    return choices


def set_choices(node: slicer.vtkMRMLSegmentationNode, choices: Mapping[str, StructureChoice]) -> None:
    """Keep roles, organs, prescriptions and densities with the segments of these names, also in a saved scene.

    Raises
    ------
    KeyError
        If there is no segment of a name.
    """
    segmentation = node.GetSegmentation()
    for name, choice in choices.items():
        segment = segmentation.GetSegment(segmentation.GetSegmentIdBySegmentName(name))
        if segment is None:
            raise KeyError(f"No segment '{name}' in '{node.GetName()}'.")
        values = (choice.role, choice.organ, choice.prescription_gy, choice.density)
        for tag, value in zip((_ROLE, _ORGAN, _PRESCRIPTION, _DENSITY), values, strict=True):
            if value is None:
                segment.RemoveTag(tag)
            else:
                segment.SetTag(tag, str(value))


def stamp_of_segments(node: slicer.vtkMRMLSegmentationNode) -> tuple[object, ...]:
    """What changes when segments, their names or tags, or their place in the scene do, and otherwise does not."""
    segmentation = node.GetSegmentation()
    stamps = []
    for n in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(n)
        source = segment.GetRepresentation(segmentation.GetSourceRepresentationName())
        stamps.append((segment.GetName(), segment.GetMTime(), 0 if source is None else source.GetMTime()))
    return node.GetID(), tuple(stamps), to_scene(node).tobytes()


def segment_colors(node: slicer.vtkMRMLSegmentationNode) -> dict[str, Color]:
    """Colors of the segments by name, RGB, 0 to 255."""
    segmentation = node.GetSegmentation()
    segments = [segmentation.GetNthSegment(n) for n in range(segmentation.GetNumberOfSegments())]
    return {s.GetName(): _color(s) for s in segments}


def _fraction_on(node: slicer.vtkMRMLSegmentationNode, segment_id: str, grid: Grid) -> NDArray[np.float32]:
    """Share of each voxel of a grid inside a segment, (n_k, n_j, n_i) float32."""
    segment = node.GetSegmentation().GetSegment(segment_id)
    labelmap = segment.GetRepresentation(_LABELMAP)
    if labelmap is None:
        labelmap = _filled(node, segment, grid)
    mask, to_node = _mask_of(labelmap, segment.GetLabelValue())
    if shares := _shares_of(node, segment_id, mask, to_node):
        return np.clip(values_on(*shares, grid), 0, 1)
    return sampled_fraction(mask, grid_in_scene(node, mask.shape, to_node), grid)


def _mask_of(labelmap: slicer.vtkOrientedImageData, label: int) -> tuple[Mask, Float]:
    """Voxels of a label, cut to what they fill, and the matrix from their indices to the node's RAS."""
    low, n = labelmap.GetExtent()[::2], labelmap.GetDimensions()
    matrix = vtk.vtkMatrix4x4()
    labelmap.GetImageToWorldMatrix(matrix)
    to_node = np.array(slicer.util.arrayFromVTKMatrix(matrix), np.float64)
    if 0 in n:
        return np.zeros((1, 1, 1), bool), to_node
    mask = vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(n[::-1]) == label
    if not mask.any():
        return np.zeros((1, 1, 1), bool), to_node
    box = tuple(slice(at.min(), at.max() + 1) for at in np.nonzero(mask))
    to_node[:3, 3] += to_node[:3, :3] @ [first + s.start for first, s in zip(low, box[::-1], strict=True)]
    return mask[box], to_node


def _shares_of(
    node: slicer.vtkMRMLSegmentationNode, segment_id: str, mask: Mask, to_node: Float
) -> tuple[NDArray[np.float32], Grid] | None:
    """Exact shares of a segment and their grid; None if there are none, or the labelmap is no longer theirs."""
    kept = node.GetNodeReference(_SHARES + segment_id)
    if kept is None:
        return None
    matrix = vtk.vtkMatrix4x4()
    kept.GetIJKToRASMatrix(matrix)
    shares, shares_to_node = array_of(kept), np.array(slicer.util.arrayFromVTKMatrix(matrix))
    half = shares >= 0.5
    start = np.rint(np.linalg.solve(shares_to_node, to_node[:, 3])[:3]).astype(int)
    shifted = shares_to_node.copy()
    shifted[:3, 3] += shares_to_node[:3, :3] @ start
    box = tuple(slice(max(first, 0), first + n) for first, n in zip(start[::-1], mask.shape, strict=True))
    if mask.any() and not (np.allclose(shifted, to_node, atol=1e-3) and np.array_equal(half[box], mask)):
        return None
    if np.count_nonzero(half) != np.count_nonzero(mask):
        return None
    return shares, grid_in_scene(node, shares.shape, shares_to_node)


def _filled(
    node: slicer.vtkMRMLSegmentationNode, segment: slicer.vtkSegment, grid: Grid
) -> slicer.vtkOrientedImageData:
    """Labelmap of a segment that has none, on a finer grid than the one it is for."""
    segmentation = slicer.vtkSegmentation()
    segmentation.SetSourceRepresentationName(node.GetSegmentation().GetSourceRepresentationName())
    copy = slicer.vtkSegment()
    copy.DeepCopy(segment)
    geometry = _image(np.zeros(grid.shape, bool), _node_matrix(node, grid))
    converter, rule = slicer.vtkSegmentationConverter, slicer.vtkClosedSurfaceToBinaryLabelmapConversionRule
    parameters = {
        converter.GetReferenceImageGeometryParameterName(): converter.SerializeImageGeometry(geometry),
        rule.GetOversamplingFactorParameterName(): str(_OVERSAMPLING),
    }
    for name, value in parameters.items():
        segmentation.SetConversionParameter(name, value)
    segmentation.AddSegment(copy)
    if not segmentation.CreateRepresentation(_LABELMAP):
        source = segmentation.GetSourceRepresentationName()
        raise InputError(
            f"Segment '{segment.GetName()}' is a {source.lower()}, which cannot be filled here; "
            "create its binary labelmap in the Segmentations module."
        )
    return copy.GetRepresentation(_LABELMAP)


def _image(mask: Mask, to_node: Float) -> slicer.vtkOrientedImageData:
    """Labelmap of a mask."""
    image = slicer.vtkOrientedImageData()
    n_k, n_j, n_i = mask.shape
    image.SetExtent(0, n_i - 1, 0, n_j - 1, 0, n_k - 1)
    scalars = numpy_to_vtk(mask.ravel().astype(np.uint8), deep=True, array_type=vtk.VTK_UNSIGNED_CHAR)
    image.GetPointData().SetScalars(scalars)
    image.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(to_node))
    return image


def _node_matrix(node: slicer.vtkMRMLSegmentationNode, grid: Grid) -> Float:
    """Matrix from voxel indices of a grid in the scene to a node's own RAS."""
    return np.asarray(np.linalg.inv(to_scene(node)) @ matrix_to_ras(grid.index_to_lps))


def _is_empty(node: slicer.vtkMRMLSegmentationNode, segment_id: str) -> bool:
    segment = node.GetSegmentation().GetSegment(segment_id)
    labelmap = segment.GetRepresentation(_LABELMAP)
    if labelmap is not None:
        return (
            node.GetNodeReference(_SHARES + segment_id) is None
            and not _mask_of(labelmap, segment.GetLabelValue())[0].any()
        )
    source = segment.GetRepresentation(node.GetSegmentation().GetSourceRepresentationName())
    return source is None or source.GetNumberOfPoints() == 0


def _choice_of(structure: Structure) -> StructureChoice:
    return StructureChoice(structure.role, structure.organ, structure.prescription_gy, structure.density)


def _color(segment: slicer.vtkSegment) -> Color:
    red, green, blue = (round(255 * channel) for channel in segment.GetColor())
    return red, green, blue


def _tag(segment: slicer.vtkSegment, name: str) -> str | None:
    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else None
