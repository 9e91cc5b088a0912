"""A body of water from a structure set that came without its CT."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from deeprt.dicom.scan import DicomStudy, identity_of_study, text_of
from deeprt.dicom.source import CaseSource
from deeprt.dicom.structure_set import contour_points, read_structures
from deeprt.errors import InputError
from deeprt.geometry import PATIENT_POSITIONS, Grid

_MARGIN_MM = 6.0  # of air around all that is drawn, so that no structure ends with the grid
_SAME_PLANE_MM = 0.1  # contours this close lie in one plane
_USUAL_MM = 3.0  # of voxels, and of contours that lie in a single plane


def water_source(folder: Path, study: DicomStudy, spacing_mm: float | None) -> CaseSource:
    """Read the structures of a set and make the grid that the CT would have given.

    The grid reaches a few millimeters beyond all structures, has a layer on each of the contours' planes, and in them
    the given spacing, else 3 mm. The CT is 0 HU throughout.

    Raises
    ------
    InputError
        If nothing is drawn, or the plans beside it state no single patient position that is supported.
    """
    frame = _frame(study.structure_set)
    slice_mm = _slice_spacing(study.structure_set)
    drawn, roi_numbers, notes = read_structures(
        study.structure_set, frame_of_reference_uid=frame, slice_spacing_mm=slice_mm
    )
    bounds = [s.bounds_lps for s in drawn if s.bounds_lps is not None]
    if not bounds:
        raise InputError(f"Folder '{folder}': the structure set holds no closed contours, so it has no body of water.")
    low, high = np.min([b[0] for b in bounds], axis=0), np.max([b[1] for b in bounds], axis=0)
    pixel_mm = spacing_mm or _USUAL_MM
    spacing = np.array([pixel_mm, pixel_mm, slice_mm])
    before = np.ceil(_MARGIN_MM / spacing)
    size = (np.ceil((high - low) / spacing - 1e-6) + 1 + 2 * before).astype(int)
    grid = Grid.axial((int(size[2]), int(size[1]), int(size[0])), spacing, low - before * spacing)
    position, position_note = _position(folder, study)
    identity = replace(
        identity_of_study(study.structure_set),
        frame_of_reference_uid=frame,
        structure_set_uid=text_of(study.structure_set, "SOPInstanceUID"),
        roi_numbers=roi_numbers,
    )
    water = "There is no CT: the body is taken for water within the external, the rest for air."
    all_notes = (*study.notes, *notes, water, *position_note)
    hu = np.zeros(grid.shape, np.float32)
    return CaseSource(folder.resolve().name, position, grid, hu, drawn, identity, all_notes)


def _frame(structure_set: Dataset) -> str:
    """Frame of reference of the first structure that states one."""
    rois = structure_set.get("StructureSetROISequence") or []
    return next((f for f in (text_of(r, "ReferencedFrameOfReferenceUID") for r in rois) if f), "")


def _slice_spacing(structure_set: Dataset) -> float:
    """Usual spacing of the planes that hold contours, mm."""
    heights = {
        round(float(contour_points(contour)[0, 2]), 2)
        for drawing in structure_set.get("ROIContourSequence") or []
        for contour in drawing.get("ContourSequence") or []
        if contour.get("ContourGeometricType") != "POINT" and contour.get("NumberOfContourPoints")
    }
    gaps = np.diff(sorted(heights))
    gaps = gaps[gaps > _SAME_PLANE_MM]
    return float(np.median(gaps)) if gaps.size else _USUAL_MM


def _position(folder: Path, study: DicomStudy) -> tuple[str, tuple[str, ...]]:
    """Patient position that the plans beside the structure set state, else head first supine with a note."""
    stated = study.plan_positions
    if not stated:
        return "HFS", ("Nothing states how the patient lay; head first supine (HFS) is assumed.",)
    if len(stated) > 1 or not stated <= set(PATIENT_POSITIONS):
        raise InputError(
            f"The plans in folder '{folder}' state the patient position {' and '.join(sorted(stated))}; it must be one "
            f"of {', '.join(PATIENT_POSITIONS)}."
        )
    return next(iter(stated)), ()
