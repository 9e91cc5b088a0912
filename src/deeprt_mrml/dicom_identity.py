"""Who the patient of a scene is, if CT and segmentation were loaded from DICOM: what an exported plan must repeat.

Slicer keeps with a volume which instances it was made of, and SlicerRT with a segmentation which structure set. The
rest is in the files, which the application finds in its database.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import slicer
import vtk
from pydicom.dataset import Dataset

from deeprt.case import DicomReferences
from deeprt.dicom.scan import identity_of_study, read_header, text_of
from deeprt.errors import InputError
from deeprt.geometry import Grid
from deeprt_mrml.coordinates import grid_of
from deeprt_mrml.subject_hierarchy import subject_hierarchy

INSTANCES = "DICOM.instanceUIDs"  # attribute of a volume: SOP Instance UIDs in the order of slices
_ROI_NUMBER = "DicomRtImport.RoiNumber"  # tag of a segment that SlicerRT read from a structure set
_CONTOURS = "Planar contour"  # source of segments as they were read; editing makes labelmaps the source
_SAME_PLACE_MM = 0.1  # files round positions to 0.01 or 0.1 mm
_OWN_STUDY = "a plan is exported as a study of its own, with a CT."


@dataclass(frozen=True)
class DicomIdentity:
    """What DICOM files say of a CT and its structures.

    Parameters
    ----------
    references : study, frame of reference and instances; None if the CT is not as its files have it. The structure
        set's UID is empty unless the segmentation is one of this study as it was read
    position : Patient Position of the CT's files; empty where there are none
    notes : what a plan of this patient will lack, one sentence each
    """

    references: DicomReferences | None = None
    position: str = ""
    notes: tuple[str, ...] = ()


def dicom_identity(
    ct_node: slicer.vtkMRMLScalarVolumeNode,
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    file_of_instance: Callable[[str], str],
) -> DicomIdentity:
    """Find out what a plan for a CT and a segmentation must repeat.

    Parameters
    ----------
    file_of_instance : path of the file of a SOP Instance UID, empty if it is not known

    Returns
    -------
    Nothing at all for a CT that did not come from DICOM

    Raises
    ------
    InputError
        If a file is corrupt, or the CT's transforms are not linear.
    """
    uids = str(ct_node.GetAttribute(INSTANCES) or "").split()
    if not uids:
        return DicomIdentity()
    name, grid = ct_node.GetName(), grid_of(ct_node)
    headers = [_header(file_of_instance(uid)) for uid in (uids[0], uids[-1])]
    first, last = headers
    if first is None or last is None:
        return DicomIdentity(notes=(f"The DICOM files of '{name}' are not in the database; {_OWN_STUDY}",))
    position = text_of(first, "PatientPosition")
    if len(uids) != grid.shape[0] or not _lies_as(first, last, grid):
        return DicomIdentity(
            position=position, notes=(f"'{name}' lies or is sampled otherwise than its DICOM files say; {_OWN_STUDY}",)
        )
    references = replace(
        identity_of_study(first),
        ct_series_uid=text_of(first, "SeriesInstanceUID"),
        ct_sop_instance_uids=tuple(uids),
        structure_set_uid=_structure_set_uid(segmentation_node),
    )
    if references.structure_set_uid:
        return DicomIdentity(replace(references, roi_numbers=_roi_numbers(segmentation_node)), position)
    note = f"The structures of '{segmentation_node.GetName()}' are exported as a new structure set on the CT's images."
    return DicomIdentity(references, position, (note,))


def _header(path: str) -> Dataset | None:
    file = Path(path)
    return read_header(file) if path and file.is_file() else None


def _lies_as(first: Dataset, last: Dataset, grid: Grid) -> bool:
    """Whether a grid has the pixels of its first and its last slice where their files have them."""
    try:
        along_i, along_j = np.array(first.ImageOrientationPatient, float).reshape(2, 3)
        row_mm, column_mm = (float(x) for x in first.PixelSpacing)  # DICOM gives the spacing of rows first
        n_rows, n_columns = int(first.Rows), int(first.Columns)
        corners = [np.array(header.ImagePositionPatient, float) for header in (first, last)]
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"'{first.filename}' does not state where its pixels lie ({error}).") from error
    if (n_rows, n_columns) != grid.shape[1:]:
        return False

    j, i, k = n_rows - 1, n_columns - 1, grid.shape[0] - 1
    along_row, along_column = i * column_mm * along_i, j * row_mm * along_j
    expected = [corners[0], corners[0] + along_row, corners[0] + along_column, corners[1]]
    found = np.array([(0, 0, 0), (i, 0, 0), (0, j, 0), (0, 0, k)]) @ grid.index_to_lps[:3, :3].T
    return bool(np.abs(found + grid.index_to_lps[:3, 3] - expected).max() < _SAME_PLACE_MM)


def _structure_set_uid(node: slicer.vtkMRMLSegmentationNode) -> str:
    """SOP Instance UID of the structure set that a segmentation still is; empty if it is none."""
    if node.GetSegmentation().GetSourceRepresentationName() != _CONTOURS:
        return ""
    hierarchy = subject_hierarchy(node.GetScene())
    item = hierarchy.GetItemByDataNode(node)
    uid = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMInstanceUIDName()
    return str(hierarchy.GetItemUID(item, uid) or "") if item else ""


def _roi_numbers(node: slicer.vtkMRMLSegmentationNode) -> dict[str, int]:
    """ROI Numbers by name of segment."""
    segmentation, numbers = node.GetSegmentation(), {}
    for n in range(segmentation.GetNumberOfSegments()):
        segment, number = segmentation.GetNthSegment(n), vtk.reference("")
        if segment.GetTag(_ROI_NUMBER, number) and str(number).isdigit():
            numbers[segment.GetName()] = int(str(number))
    return numbers
