"""An RTSTRUCT to drawn structures."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from deeprt.dicom.contours import rasterize
from deeprt.dicom.scan import file_name, text_of
from deeprt.dicom.source import Color, DrawnStructure
from deeprt.errors import InputError

_NO_VOLUME_TYPES = {"MARKER", "ISOCENTER", "REGISTRATION", "DOSE_MEASUREMENT", "BRACHY_SRC_APP", "BRACHY_CHNL"}
_CLOSED = {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"}
_CONTOUR_DATA = 0x30060050
_ELECTRONS, _MASS = "REL_ELEC_DENSITY", "REL_MASS_DENSITY"  # ROI Physical Property


def read_structures(
    structure_set: Dataset, *, frame_of_reference_uid: str, slice_spacing_mm: float, end_reach: float = 0.5
) -> tuple[tuple[DrawnStructure, ...], dict[str, int], tuple[str, ...]]:
    """Read the structures of an RTSTRUCT.

    Points and markers have no volume and are left out. A structure without closed contours is returned with nothing
    drawn. A name that occurs again gets its ROI number appended.

    Parameters
    ----------
    frame_of_reference_uid : of the CT
    slice_spacing_mm : of the CT
    end_reach : share of the slice spacing by which structures reach beyond their end contours, see `rasterize`

    Returns
    -------
    structures : in the order of the file
    roi_numbers : ROI Number by name of structure
    notes : what was left out or assumed, one sentence each

    Raises
    ------
    InputError
        If the structure set lies in another frame of reference or is incomplete.
    """
    file = file_name(structure_set)
    rois = structure_set.get("StructureSetROISequence") or []
    if not rois:
        raise InputError(f"Structure set '{file}' holds no structures; export it again.")
    notes = _check_frame(structure_set, frame_of_reference_uid)
    observations = {int(o.ReferencedROINumber): o for o in structure_set.get("RTROIObservationsSequence") or []}
    drawings = {int(c.ReferencedROINumber): c for c in structure_set.get("ROIContourSequence") or []}
    structures: list[DrawnStructure] = []
    roi_numbers: dict[str, int] = {}
    for roi in rois:
        number = int(roi.ROINumber)
        name = text_of(roi, "ROIName").strip() or f"ROI {number}"
        if name in roi_numbers:
            notes.append(f"A second structure '{name}' is called '{name} ({number})'.")
            name = f"{name} ({number})"
        drawing = drawings.get(number, Dataset())
        contours, n_open = _contours(drawing, name, file)
        observation = observations.get(number, Dataset())
        interpreted_type = text_of(observation, "RTROIInterpretedType").upper()
        if interpreted_type in _NO_VOLUME_TYPES or (n_open and not contours):
            notes.append(f"Structure '{name}' is left out: it marks a point or line ({interpreted_type or 'no type'}).")
            continue
        if n_open:
            notes.append(f"Structure '{name}': {n_open} contour(s) that are points or open lines are left out.")
        draw = None
        if contours:
            draw = partial(rasterize, contours, slice_spacing_mm=slice_spacing_mm, end_reach=end_reach, name=name)
        density, density_notes = _density(observation, name, file)
        notes += density_notes
        points = np.concatenate(contours) if contours else None
        bounds = np.stack([points.min(axis=0), points.max(axis=0)]) if points is not None else None
        structures.append(DrawnStructure(name, interpreted_type, _color(drawing), draw, density, bounds))
        roi_numbers[name] = number
    return tuple(structures), roi_numbers, tuple(notes)


def contour_points(contour: Dataset) -> NDArray[np.float64]:
    """Points of a contour, (n, 3), LPS, mm.

    Raises
    ------
    InputError
        If its numbers are no triples.
    """
    # Decoding the bytes here is ten times faster than pydicom's decimal strings.
    item = contour.get_item(_CONTOUR_DATA)
    raw = isinstance(item, RawDataElement) and isinstance(item.value, bytes)
    values = item.value.split(b"\\") if raw else contour.ContourData
    try:
        return np.array(values, dtype=np.float64).reshape(-1, 3)
    except ValueError as error:
        raise InputError(f"The structure set has a contour whose coordinates cannot be read ({error}).") from error


def _check_frame(structure_set: Dataset, frame_of_reference_uid: str) -> list[str]:
    """Notes if the frame of reference is not stated; an error if it is another one."""
    rois = structure_set.StructureSetROISequence
    frames = {text_of(r, "ReferencedFrameOfReferenceUID") for r in rois} - {""}
    if not frames:
        references = structure_set.get("ReferencedFrameOfReferenceSequence") or [structure_set]
        frames = {text_of(r, "FrameOfReferenceUID") for r in references} - {""}
    if not frames or not frame_of_reference_uid:
        return ["The CT or the structure set states no frame of reference; they are taken to share one."]
    other = frames - {frame_of_reference_uid}
    if other:
        raise InputError(
            f"Structure set '{file_name(structure_set)}' lies in the frame of reference {other.pop()}, the CT in "
            f"{frame_of_reference_uid}; give the structure set that was drawn on this CT."
        )
    return []


def _contours(drawing: Dataset, name: str, file: str) -> tuple[list[NDArray[np.float64]], int]:
    """Closed contours, each (n, 3), LPS, mm, and the number of points and open lines."""
    closed, n_open = [], 0
    for contour in drawing.get("ContourSequence") or []:
        if str(contour.get("ContourGeometricType", "")).upper() not in _CLOSED:
            n_open += 1
            continue
        try:
            points = contour_points(contour)
        except (AttributeError, TypeError, ValueError) as error:
            raise InputError(f"Structure set '{file}': a contour of '{name}' is corrupt ({error}).") from error
        if not np.isfinite(points).all():
            raise InputError(f"Structure set '{file}': a contour of '{name}' has points that are not numbers.")
        if len(points) > 2:
            closed.append(points)
    return closed, n_open


def _density(observation: Dataset, name: str, file: str) -> tuple[float | None, list[str]]:
    """Relative electron density that the structure set states, and notes on what it states besides and is not used.

    A mass density is not used, since the electron density that belongs to it depends on the material.
    """
    properties = {
        str(p.get("ROIPhysicalProperty", "")): p.get("ROIPhysicalPropertyValue")
        for p in observation.get("ROIPhysicalPropertiesSequence") or []
    }
    try:
        stated = {kind: float(properties[kind]) for kind in (_ELECTRONS, _MASS) if properties.get(kind) is not None}
    except (TypeError, ValueError) as error:
        raise InputError(f"Structure set '{file}': the density of '{name}' is corrupt ({error}).") from error
    density = stated.get(_ELECTRONS)
    if density is not None:
        if not 0 <= density < np.inf:
            raise InputError(f"Structure set '{file}': '{name}' has the relative electron density {density:g}.")
        return density, []
    material = text_of(observation, "MaterialID")
    unused = [f"the relative mass density {stated[_MASS]:g}"] if _MASS in stated else []
    unused += [f"the material '{material}'"] if material else []
    remedy = f"which is not used; give its relative electron density as density under [structures.{name}]"
    return None, [f"Structure '{name}' states {' and '.join(unused)}, {remedy}."] if unused else []


def _color(drawing: Dataset) -> Color | None:
    color = drawing.get("ROIDisplayColor")
    if color is None or len(color) != 3:
        return None
    red, green, blue = (int(c) for c in color)
    return red, green, blue
