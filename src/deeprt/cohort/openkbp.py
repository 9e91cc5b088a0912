"""Head-and-neck patients of OpenKBP, as the public data set ships them or packed.

A. Babier et al., Med. Phys. 48, 5549 (2021), doi:10.1002/mp.14845. In both forms a volume has 128 x 128 x 128 voxels
that run anterior to posterior, right to left and superior to inferior.

- Public: a folder with ``ct.csv``, ``dose.csv``, ``voxel_dimensions.csv``, ``possible_dose_mask.csv`` and a file for
  each structure that the patient has. A line is a voxel that is not zero: its index in C order, and its value, which
  masks leave empty.
- Packed: one ``.npz`` with ``ct``, ``dose``, ``structs`` (a bit for each mask) and ``spacing``; ``index.json`` beside
  it names the bits.

CT values are Hounsfield units + 1000, and 0 outside the patient.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeprt.case import PatientCase
from deeprt.dicom.external import external_from_ct
from deeprt.errors import InputError
from deeprt.files import read_arrays
from deeprt.geometry import Grid
from deeprt.roles import propose_role
from deeprt.structures import Role, Structure

_SHAPE = (128, 128, 128)
_STRUCTURES = (
    *("PTV70", "PTV63", "PTV56"),
    *("Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Esophagus", "Larynx", "Mandible"),
)
_POSSIBLE_DOSE = "possible_dose_mask"
_CT, _PACKED, _INDEX = "ct.csv", ".npz", "index.json"
_CT_AT_0_HU = 1000.0
_CT_MAX = 4095.0  # 12 bits; some patients have a few voxels at up to 28,000, which would spoil averages around them
_N_FRACTIONS = 35  # 2 Gy each to the PTV of 70 Gy

Volume = NDArray[np.float32]


def is_openkbp(path: Path) -> bool:
    """Whether a path is a patient of OpenKBP: a folder with ``ct.csv``, or an ``.npz`` file."""
    return path.suffix == _PACKED or (path / _CT).is_file()


def read_openkbp(path: Path) -> PatientCase:
    """Read a patient of OpenKBP; the outline, which the data set lacks, is found in the CT.

    Parameters
    ----------
    path : folder of CSV files, or packed ``.npz``

    Returns
    -------
    The case on the data set's voxels; the grid begins at the origin, since the data set keeps no positions.

    Raises
    ------
    InputError
        If a file is missing or wrong, or the patient has no CT or target.
    """
    stored, masks, spacing_mm = _read_packed(path) if path.suffix == _PACKED else _read_folder(path)
    posterior, left, inferior = spacing_mm
    ct_hu = _slices_first(np.clip(stored, 0, _CT_MAX)) - np.float32(_CT_AT_0_HU)
    grid = Grid.axial(_SHAPE, (left, posterior, inferior), (0.0, 0.0, 0.0))
    body = external_from_ct(ct_hu, grid)
    structures = [Structure("BODY", Role.EXTERNAL, body)]
    for name, mask in masks.items():
        fraction, proposed = _slices_first(mask) * body, propose_role(name)
        if fraction.any():
            structures.append(Structure(name, proposed.role, fraction, proposed.prescription_gy, proposed.organ))
    if not any(s.role is Role.TARGET for s in structures):
        raise InputError(f"'{path}' has no PTV70, PTV63 or PTV56 inside the patient that its CT shows.")
    name = path.resolve().name.removesuffix(_PACKED)
    note = "OpenKBP has no external; 'BODY' was made from the CT above -400 HU."
    return PatientCase(name, "HFS", grid, ct_hu, tuple(structures), _N_FRACTIONS, notes=(note,))


def read_openkbp_dose(path: Path) -> Volume:
    """Read the clinical dose of a patient, Gy, whole course, on the grid of `read_openkbp`.

    Raises
    ------
    InputError
        If the file is missing or wrong.
    """
    if path.suffix == _PACKED:
        return _slices_first(_volume(_load_packed(path), "dose", path).astype(np.float32))
    return _slices_first(_read_voxels(path / "dose.csv", with_values=True))


def read_openkbp_possible_dose(path: Path) -> NDArray[np.bool_]:
    """Read which voxels can get dose, over which the data set takes means, on the grid of `read_openkbp`.

    Returns
    -------
    (n_k, n_j, n_i)

    Raises
    ------
    InputError
        If the file is missing or wrong, or a packed patient has no such mask.
    """
    if path.suffix != _PACKED:
        return _slices_first(_read_voxels(path / f"{_POSSIBLE_DOSE}.csv", with_values=False)) > 0
    masks = _packed_masks(_load_packed(path), path, (_POSSIBLE_DOSE,))
    if not masks:
        raise InputError(f"'{path.with_name(_INDEX)}' names no bit '{_POSSIBLE_DOSE}', the voxels that can get dose.")
    return _slices_first(masks[_POSSIBLE_DOSE]) > 0


def _slices_first(stored: Volume) -> Volume:
    """From the data set's axes to slices from inferior to superior, rows to posterior, columns to left."""
    return np.ascontiguousarray(stored.transpose(2, 0, 1)[::-1])


# Public form -----------------------------------------------------------------------------------------------------


def _read_folder(folder: Path) -> tuple[Volume, dict[str, Volume], NDArray[np.float64]]:
    """CT as stored, structures that are there, and voxel size, in the data set's axes."""
    ct = _read_voxels(folder / _CT, with_values=True)
    files = {name: folder / f"{name}.csv" for name in _STRUCTURES}
    masks = {name: _read_voxels(file, with_values=False) for name, file in files.items() if file.exists()}
    file = folder / "voxel_dimensions.csv"
    return ct, masks, _spacing(_table(file).ravel(), file)


def _read_voxels(file: Path, *, with_values: bool) -> Volume:
    """Volume of a list of voxels: their values, or 1."""
    table = _table(file, header=True, columns=(0, 1) if with_values else (0,))
    index = table[:, 0]
    if not np.all((index >= 0) & (index < np.prod(_SHAPE)) & (index == np.floor(index))):
        raise InputError(f"'{file}' has a voxel index that is no whole number from 0 to {np.prod(_SHAPE) - 1}.")
    volume = np.zeros(_SHAPE, np.float32)
    volume.flat[index.astype(np.int64)] = table[:, 1] if with_values else 1.0
    return volume


def _table(file: Path, *, header: bool = False, columns: tuple[int, ...] = (0,)) -> NDArray[np.float64]:
    """Columns of a CSV file, (n, n_columns), all finite; the public files' header has an unnamed column first."""
    try:
        with file.open(encoding="utf-8") as lines, warnings.catch_warnings():
            if header and not lines.readline().startswith(","):
                raise ValueError("its first line must be ',data'")
            warnings.filterwarnings("ignore", "loadtxt: input contained no data")  # a structure without a voxel
            table = np.loadtxt(lines, delimiter=",", usecols=columns, ndmin=2)
    except OSError as error:
        raise InputError(f"Cannot read '{file}' of an OpenKBP patient: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(f"'{file}' is no table of OpenKBP: {str(error).rstrip('.')}.") from error
    if not np.isfinite(table).all():
        raise InputError(f"'{file}' has a value that is not finite.")
    return table.reshape(-1, len(columns))


# Packed form -----------------------------------------------------------------------------------------------------


def _read_packed(file: Path) -> tuple[Volume, dict[str, Volume], NDArray[np.float64]]:
    """As `_read_folder`."""
    arrays = _load_packed(file)
    masks = _packed_masks(arrays, file, _STRUCTURES)
    return _volume(arrays, "ct", file).astype(np.float32), masks, _spacing(arrays.get("spacing", np.zeros(0)), file)


def _packed_masks(arrays: dict[str, NDArray[Any]], file: Path, names: Sequence[str]) -> dict[str, Volume]:
    """Those of the masks that have a bit."""
    bits, mask = _bit_names(file.with_name(_INDEX)), _volume(arrays, "structs", file)
    if not np.issubdtype(mask.dtype, np.integer):
        raise InputError(f"'{file}': structs must be whole numbers, a bit for each structure, not {mask.dtype}.")
    return {name: ((mask >> bits.index(name)) & 1).astype(np.float32) for name in names if name in bits}


def _load_packed(file: Path) -> dict[str, NDArray[Any]]:
    try:
        return read_arrays(file)
    except FileNotFoundError as error:
        raise InputError(f"'{file}' does not exist.") from error


def _volume(arrays: dict[str, NDArray[Any]], name: str, file: Path) -> NDArray[Any]:
    volume = arrays.get(name)
    if volume is None or volume.shape != _SHAPE or not _are_finite(volume):
        raise InputError(f"'{file}' must hold {name}, finite numbers of 128 x 128 x 128 voxels.")
    return volume


def _are_finite(values: NDArray[Any]) -> bool:
    return np.issubdtype(values.dtype, np.number) and bool(np.isfinite(values).all())


def _bit_names(file: Path) -> list[str]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read '{file}', which names packed structures: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(f"'{file}' is not valid JSON: {error}.") from error
    bits = content.get("bits") if isinstance(content, dict) else None
    if not isinstance(bits, list) or not set(_STRUCTURES) & set(map(str, bits)):
        raise InputError(f"'{file}' must list the structures of packed patients under 'bits'.")
    return [str(name) for name in bits]


def _spacing(values: NDArray[Any], file: Path) -> NDArray[np.float64]:
    if values.shape != (3,) or not _are_finite(values) or values.min() <= 0:
        raise InputError(f"'{file}' must give three positive voxel sizes in mm, got {values.tolist()}.")
    return values.astype(np.float64)
