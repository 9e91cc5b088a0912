"""A dose from RTDOSE, NRRD or NIfTI onto the grid of a case."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RTDoseStorage
from scipy.ndimage import map_coordinates

from deeprt.case import PatientCase
from deeprt.dicom.scan import text_of
from deeprt.dicom.volumes import is_volume, read_image
from deeprt.errors import InputError
from deeprt.geometry import Grid
from deeprt.structures import Role

_SPACING_TOLERANCE_MM = 0.05  # of frame positions, which files round to 0.01 or 0.1 mm
_ON_THE_FACE = 1e-3  # of a voxel; a point on the outermost face lies inside whatever the rounding
_UNCOVERED_SHARE = 1e-3  # of a structure's volume outside the dose grid that is worth a note
_WHOLE = ("PLAN", "FRACTION", "MULTI_PLAN", "PLAN_OVERVIEW")


@dataclass(frozen=True, eq=False)
class StoredDose:
    """A dose as a file holds it.

    Parameters
    ----------
    name : of the file
    grid : of the file's voxels
    dose_gy : (n_k, n_j, n_i) float32, taken for the whole course
    notes : what the file says of its dose, or what was assumed, one sentence each
    frame_of_reference_uid : of its coordinates; empty if the file states none
    """

    name: str
    grid: Grid
    dose_gy: NDArray[np.float32]
    notes: tuple[str, ...] = ()
    frame_of_reference_uid: str = ""

    def on(self, grid: Grid) -> NDArray[np.float32]:
        """Interpolate linearly onto another grid.

        Between the centers of the outermost voxels and their faces the dose is constant, beyond them it is zero.

        Returns
        -------
        (n_k, n_j, n_i) float32, Gy, shape of ``grid``
        """
        if grid.same_as(self.grid):
            return self.dose_gy
        resampled = np.empty(grid.shape, dtype=np.float32)
        for k in range(grid.shape[0]):  # slice by slice, since three coordinates a voxel of a whole CT fill gigabytes
            index = self._index_in(grid, k)
            values = map_coordinates(self.dose_gy, index.T[::-1], order=1, mode="nearest", output=np.float32)
            resampled[k] = np.where(self._is_inside(index), values, 0).reshape(grid.shape[1:])
        return resampled

    def notes_for(self, case: PatientCase) -> tuple[str, ...]:
        """All notes, with those on what of a case this dose does not cover, where it counts as zero."""
        notes = list(self.notes)
        frame = case.dicom.frame_of_reference_uid if case.dicom else ""
        if frame and self.frame_of_reference_uid and frame != self.frame_of_reference_uid:
            notes.append(
                f"'{self.name}' has another frame of reference than the case; its positions are used as they are."
            )
        slices = [self._is_inside(self._index_in(case.grid, k)) for k in range(case.grid.shape[0])]
        outside = ~np.concatenate(slices).reshape(case.grid.shape)
        for s in case.structures:
            share = float(s.fraction[outside].sum(dtype=np.float64) / max(s.fraction.sum(dtype=np.float64), 1e-9))
            if s.role is not Role.TUNING and share > _UNCOVERED_SHARE:
                notes.append(f"The grid of '{self.name}' leaves out {share:.1%} of {s.name}; its dose counts as zero.")
        return tuple(notes)

    def _index_in(self, grid: Grid, k: int) -> NDArray[np.float64]:
        """Continuous indices (i, j, k) of this dose at slice ``k`` of another grid, (n_j n_i, 3)."""
        n = grid.shape[1] * grid.shape[2]
        return self.grid.lps_to_index(grid.points_lps(np.arange(k * n, (k + 1) * n)))

    def _is_inside(self, index: NDArray[np.float64]) -> NDArray[np.bool_]:
        reach = 0.5 + _ON_THE_FACE
        return np.asarray(((index >= -reach) & (index <= np.array(self.grid.shape[::-1]) - 1 + reach)).all(axis=1))


def read_dose(path: Path, grid: Grid) -> NDArray[np.float32]:
    """Read a dose onto the grid of a case: `read_stored_dose`, then `StoredDose.on`.

    Returns
    -------
    (n_k, n_j, n_i) float32, Gy, taken for the whole course; zero outside the file's dose grid
    """
    return read_stored_dose(path).on(grid)


def read_stored_dose(path: Path) -> StoredDose:
    """Read a dose from an RTDOSE object, or from a volume in NRRD or NIfTI whose values are Gy.

    Nothing is multiplied by a number of fractions: DICOM defines the dose of the summation type PLAN as that of the
    entire delivery of all fraction groups, and FRACTION as that of one fraction group with all of its fractions
    (PS3.3, C.8.8.3). Other types are taken as stored, and a note says so.

    Raises
    ------
    InputError
        If the file holds no three-dimensional physical dose in Gy.
    """
    if path.is_dir():
        raise InputError(f"'{path}' is a folder; give one dose file.")
    if not path.is_file():
        raise InputError(f"'{path}' does not exist; give a dose as RTDOSE, NRRD or NIfTI.")
    stored = _from_volume(path) if is_volume(path) else _from_dicom(path)
    if not np.isfinite(stored.dose_gy).all() or stored.dose_gy.min() < 0:
        raise InputError(f"'{path}' holds negative or undefined values; a dose has none.")
    return stored


def _from_volume(path: Path) -> StoredDose:
    image = read_image(path)
    if image.values.ndim != 3:
        raise InputError(f"'{path}' has {image.values.shape[-1]} values a voxel; a dose has one.")
    note = f"'{path.name}' states no unit; its values are taken for Gy of the whole course."
    return StoredDose(path.name, image.grid, image.values.astype(np.float32), (note,))


def _from_dicom(path: Path) -> StoredDose:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(path, force=True)
            sop_class = data.get("SOPClassUID")
    except Exception as error:  # pydicom raises many kinds on broken bytes
        raise InputError(f"'{path}' cannot be read ({error}); give a dose as RTDOSE, NRRD or NIfTI.") from error
    if sop_class != RTDoseStorage:
        kind = f"a DICOM {data.get('Modality', 'object')}" if sop_class else "no DICOM file"
        raise InputError(f"'{path}' is {kind}; give a dose as RTDOSE, NRRD or NIfTI.")
    notes = _what_it_says(path, data)
    grid = _grid(path, data)
    counts = _counts(path, data)
    if counts.shape != grid.shape:
        raise InputError(f"RTDOSE '{path}' has voxels of shape {counts.shape}, its header says {grid.shape}.")
    scaling = _numbers(path, data, "DoseGridScaling", 1)[0]
    frame = text_of(data, "FrameOfReferenceUID")
    return StoredDose(path.name, grid, (counts * scaling).astype(np.float32), notes, frame)


def _what_it_says(path: Path, data: Dataset) -> tuple[str, ...]:
    """Check unit and type of an RTDOSE; notes on what its dose is the sum of."""
    if (unit := data.get("DoseUnits", "")) != "GY":
        raise InputError(
            f"RTDOSE '{path}' has the unit {unit or 'none'} (DoseUnits); only an absolute dose in GY can be evaluated."
        )
    kind = text_of(data, "DoseType")
    if kind == "ERROR":
        raise InputError(f"RTDOSE '{path}' holds the difference of two doses (DoseType ERROR), not a dose.")
    notes = []
    if kind != "PHYSICAL":
        notes.append(f"'{path.name}' has the dose type {kind or 'none'}, not PHYSICAL; it is evaluated as stored.")
    summation = text_of(data, "DoseSummationType")
    if summation in _WHOLE:
        notes.append(f"'{path.name}' has the summation type {summation}, which is taken for the whole course.")
    else:
        notes.append(
            f"'{path.name}' has the summation type {summation or 'none'}; it is evaluated as stored, which may be a "
            "part of the course."
        )
    return tuple(notes)


def _grid(path: Path, data: Dataset) -> Grid:
    """Grid of an RTDOSE, its k axis along the frames.

    Frame offsets that begin with zero run along the normal of rows and columns; those that begin with the height of
    the first frame are heights themselves, which DICOM allows for axial frames only (PS3.3, C.8.8.3.2).
    """
    offsets = _numbers(path, data, "GridFrameOffsetVector", int(data.get("NumberOfFrames", 1) or 1))
    if offsets.size < 2:
        raise InputError(f"RTDOSE '{path}' is a single plane; export a three-dimensional dose.")
    position = _numbers(path, data, "ImagePositionPatient", 3)
    along_i, along_j = _numbers(path, data, "ImageOrientationPatient", 6).reshape(2, 3)
    normal = np.cross(along_i, along_j)
    if offsets[0] != 0:
        if abs(offsets[0] - position[2]) > _SPACING_TOLERANCE_MM or abs(normal[2]) < 1 - 1e-4:
            raise InputError(
                f"RTDOSE '{path}': the frame offsets begin with {offsets[0]:g} mm, which is neither zero nor the "
                f"height {position[2]:g} mm of axial frames; export the dose again."
            )
        offsets, normal = offsets - offsets[0], np.array([0.0, 0.0, 1.0])
    step = offsets[-1] / (offsets.size - 1)
    if step == 0 or np.abs(offsets - step * np.arange(offsets.size)).max() > _SPACING_TOLERANCE_MM:
        raise InputError(f"RTDOSE '{path}' has frames at uneven distances; export it on a regular grid.")
    row_mm, column_mm = _numbers(path, data, "PixelSpacing", 2)  # DICOM gives the spacing of rows first
    index_to_lps = np.eye(4)
    index_to_lps[:3] = np.stack([along_i * column_mm, along_j * row_mm, normal * step, position], axis=1)
    try:
        return Grid((offsets.size, int(data.Rows), int(data.Columns)), index_to_lps)
    except (AttributeError, ValueError) as error:
        raise InputError(f"RTDOSE '{path}' has no valid grid: {error}") from error


def _counts(path: Path, data: Dataset) -> NDArray[np.float64]:
    if "TransferSyntaxUID" not in data.file_meta:  # files of some planning systems
        data.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if data.original_encoding[0] else ExplicitVRLittleEndian
        )
    try:
        return np.asarray(data.pixel_array, dtype=np.float64)
    except Exception as error:  # pydicom and its decoders raise many kinds on broken bytes
        raise InputError(f"RTDOSE '{path}': the dose cannot be decoded ({error}); export it again.") from error


def _numbers(path: Path, data: Dataset, keyword: str, count: int) -> NDArray[np.float64]:
    """Numeric attribute of an RTDOSE, (count,)."""
    try:
        value = np.atleast_1d(np.array(data[keyword].value, dtype=np.float64))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"RTDOSE '{path}' has no valid {keyword}; export it again.") from error
    if value.size != count or not np.isfinite(value).all():
        raise InputError(f"RTDOSE '{path}' has {value.size} values of {keyword}, {count} are needed; export it again.")
    return value
