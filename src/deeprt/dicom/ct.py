"""A CT series to Hounsfield units on a grid."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from deeprt.dicom.scan import file_name, text_of
from deeprt.errors import InputError
from deeprt.geometry import PATIENT_POSITIONS, Grid
from deeprt.progress import Progress

_AXIS_TOLERANCE = 1e-4  # of a direction cosine; 0.05 mm over half a meter
_POSITION_TOLERANCE_MM = 0.05  # of slice positions, which files round to 0.01 or 0.1 mm
_SAME_IN_ALL_SLICES = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient")


@dataclass(frozen=True, eq=False)
class CtVolume:
    """A CT in the order of its grid.

    Parameters
    ----------
    grid : i along image columns, j along rows, k along the slice normal
    hu : (n_k, n_j, n_i) float32
    slices : headers, in the order of k
    notes : what was assumed, one sentence each
    """

    grid: Grid
    hu: NDArray[np.float32]
    slices: tuple[Dataset, ...]
    notes: tuple[str, ...]


def read_ct(slices: tuple[Dataset, ...], progress: Progress) -> CtVolume:
    """Read the pixels of a CT series.

    Parameters
    ----------
    slices : headers of all slices, in any order

    Raises
    ------
    InputError
        If the slices do not make a regular axial volume, or a file is incomplete.
    """
    _check_same_in_all(slices)
    first = slices[0]
    orientation = _numbers(first, "ImageOrientationPatient", 6).reshape(2, 3)
    _check_axial(orientation, first)
    along_i, along_j = np.round(orientation)
    normal = np.cross(along_i, along_j)
    positions = np.array([_numbers(s, "ImagePositionPatient", 3) for s in slices])
    order = np.argsort(positions @ normal, kind="stable")
    ordered = tuple(slices[n] for n in order)
    positions = positions[order]
    spacing_k = _slice_spacing(ordered, positions, normal)
    row_mm, column_mm = _numbers(first, "PixelSpacing", 2)  # DICOM gives the spacing of rows first
    index_to_lps = np.eye(4)
    index_to_lps[:3] = np.stack([along_i * column_mm, along_j * row_mm, normal * spacing_k, positions[0]], axis=1)
    grid = Grid((len(ordered), int(first.Rows), int(first.Columns)), index_to_lps)
    hu = np.empty(grid.shape, dtype=np.float32)
    for k, header in enumerate(ordered):
        hu[k] = _slice_hu(header, grid.shape[1:])
        progress.step("Reading case", 0.3 + 0.4 * (k + 1) / len(ordered), f"CT slice {k + 1} of {len(ordered)}")
    return CtVolume(grid, hu, ordered, _tilt_note(ordered))


def patient_position(slices: tuple[Dataset, ...]) -> str:
    """Patient Position of a CT series, one of HFS, HFP, FFS, FFP."""
    found = {text_of(s, "PatientPosition") for s in slices}
    if len(found) != 1 or not found <= set(PATIENT_POSITIONS):
        stated = " and ".join(f"'{p}'" for p in sorted(found) if p) or "none"
        raise InputError(
            f"The CT states the patient position {stated} (0018,5100); it must be one of "
            f"{', '.join(PATIENT_POSITIONS)}, the same in every slice."
        )
    return found.pop()


def _check_same_in_all(slices: tuple[Dataset, ...]) -> None:
    first = slices[0]
    if len(slices) < 2:
        raise InputError(f"The CT has a single slice, '{file_name(first)}'; export the complete series.")
    for keyword in _SAME_IN_ALL_SLICES:
        expected = _numbers(first, keyword)
        for header in slices[1:]:
            value = _numbers(header, keyword)
            if value.shape != expected.shape or not np.allclose(value, expected, rtol=0, atol=_AXIS_TOLERANCE):
                raise InputError(
                    f"CT slices '{file_name(first)}' and '{file_name(header)}' differ in {keyword}: "
                    f"{expected.tolist()} and {value.tolist()}; all slices of a series must share it."
                )
    frames = {text_of(s, "FrameOfReferenceUID") for s in slices}
    if len(frames) > 1:
        raise InputError(f"The slices of the CT have {len(frames)} frames of reference; export one acquisition.")


def _check_axial(orientation: NDArray[np.float64], header: Dataset) -> None:
    axes = np.round(orientation)
    along_axes = np.abs(orientation - axes).max() < _AXIS_TOLERANCE and np.array_equal(axes @ axes.T, np.eye(2))
    if not along_axes or abs(np.cross(*axes)[2]) != 1:
        raise InputError(
            f"CT slice '{file_name(header)}' is not axial: its rows and columns run along "
            f"{orientation[0].tolist()} and {orientation[1].tolist()}, not along the patient's axes (gantry tilt or "
            "reformatted images); export an axial CT without tilt."
        )


def _slice_spacing(slices: tuple[Dataset, ...], positions: NDArray[np.float64], normal: NDArray[np.float64]) -> float:
    """Spacing of slices that lie regularly above each other, mm."""
    along = positions @ normal
    steps = np.diff(along)
    usual = float(np.median(steps))
    shift = np.abs(positions - positions[0] - np.outer(along - along[0], normal)).max(axis=1)
    if shift.max() > _POSITION_TOLERANCE_MM:
        name = file_name(slices[int(shift.argmax())])
        raise InputError(
            f"CT slice '{name}' is shifted by {shift.max():.2f} mm in its plane against the first (gantry tilt?); "
            "export an axial CT without tilt."
        )
    for n, step in enumerate(steps):
        below, above = file_name(slices[n]), file_name(slices[n + 1])
        if step < _POSITION_TOLERANCE_MM:
            z = positions[n, 2]
            raise InputError(f"CT slices '{below}' and '{above}' are duplicates: both lie at z = {z:g} mm; remove one.")
        if abs(step - usual) > _POSITION_TOLERANCE_MM:
            z0, z1 = positions[n, 2], positions[n + 1, 2]
            remedy = (
                "slices are missing there; export the complete series" if step > usual else "resample the CT evenly"
            )
            raise InputError(
                f"CT slices '{below}' and '{above}' at z = {z0:g} and {z1:g} mm lie {step:g} mm apart, the others "
                f"{usual:g} mm: {remedy}."
            )
    return float(along[-1] - along[0]) / (len(slices) - 1)


def _slice_hu(header: Dataset, shape: tuple[int, int]) -> NDArray[np.float32]:
    slope, intercept = (float(_numbers(header, k, 1)[0]) for k in ("RescaleSlope", "RescaleIntercept"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(str(header.filename), force=True)
            if "TransferSyntaxUID" not in dataset.file_meta:  # files of some planning systems
                implicit = dataset.original_encoding[0]
                dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
            pixels = dataset.pixel_array
    except Exception as error:  # pydicom and its decoders raise many kinds on broken bytes
        raise InputError(
            f"CT slice '{file_name(header)}': the pixels cannot be decoded ({error}); the file is truncated, "
            "corrupt, or compressed in a way not supported; export it again uncompressed."
        ) from error
    if pixels.shape != shape:
        raise InputError(f"CT slice '{file_name(header)}' has pixels of shape {pixels.shape}, its header says {shape}.")
    return pixels.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _numbers(header: Dataset, keyword: str, count: int | None = None) -> NDArray[np.float64]:
    """Numeric attribute of a slice, (n,)."""
    try:
        value = np.atleast_1d(np.array(header[keyword].value, dtype=np.float64))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"CT slice '{file_name(header)}' has no valid {keyword}; export the series again.") from error
    if not np.isfinite(value).all() or (count is not None and value.size != count):
        raise InputError(f"CT slice '{file_name(header)}' has {keyword} {value.tolist()}; export the series again.")
    return value


def _tilt_note(slices: tuple[Dataset, ...]) -> tuple[str, ...]:
    tilts_deg = {float(s.get("GantryDetectorTilt", 0) or 0) for s in slices} - {0.0}
    if not tilts_deg:
        return ()
    return (
        f"The CT states a gantry tilt of {tilts_deg.pop():g}°, but its slices lie axially; their positions are used.",
    )
