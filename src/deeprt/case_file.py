"""A case in one ``.npz`` file, as it is planned: its grid, shares, roles and prescriptions are settled."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeprt.case import DicomReferences, HuTable, PatientCase
from deeprt.errors import InputError
from deeprt.files import read_arrays, write_arrays
from deeprt.geometry import Grid
from deeprt.structures import Role, Structure

_ABOUT = "deeprt_case"  # the entry by which such a file is known; texts and numbers as JSON
_SHAPE, _MATRIX = "shape", "index_to_lps"
_PLAIN = ("name", "role", "prescription_gy", "organ", "color", "density")  # of a structure, all but its shares


def is_case_file(path: Path) -> bool:
    """Whether a path is a file of `write_case_file`, by what it holds."""
    try:
        with zipfile.ZipFile(path) as file:
            return f"{_ABOUT}.npy" in file.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def write_case_file(case: PatientCase, path: Path) -> None:
    """Write a case without any loss.

    Shares are kept in the box of voxels around each structure, outside of which they are zero; nothing is compressed,
    which would take longer than the rest of a planning step.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    about = {
        "case_id": case.case_id,
        "position": case.position,
        "n_fractions": case.n_fractions,
        "hu_table": case.hu_table.name,
        "dicom": None if case.dicom is None else asdict(case.dicom),
        "notes": case.notes,
        "structures": [{name: getattr(s, name) for name in _PLAIN} for s in case.structures],
    }
    arrays: dict[str, Any] = {
        _ABOUT: json.dumps(about),
        _SHAPE: case.grid.shape,
        _MATRIX: case.grid.index_to_lps,
        "ct_hu": case.ct_hu,
        "hu": case.hu_table.hu,
        "density": case.hu_table.density,
    }
    for n, structure in enumerate(case.structures):
        box = _box(structure.fraction)
        arrays[f"box_{n}"], arrays[f"share_{n}"] = box, structure.fraction[_inside(box)]
    write_arrays(path, arrays, compressed=False)


def read_case_file(path: Path) -> PatientCase:
    """Read a case of `write_case_file`.

    Raises
    ------
    InputError
        If the file is missing, damaged, or not of a case.
    """
    arrays = _read(path)
    try:
        about = json.loads(str(arrays[_ABOUT]))
        grid = _grid(arrays)
        return PatientCase(
            case_id=about["case_id"],
            position=about["position"],
            grid=grid,
            ct_hu=arrays["ct_hu"],
            structures=tuple(_structure(e, arrays, n, grid.shape) for n, e in enumerate(about["structures"])),
            n_fractions=about["n_fractions"],
            hu_table=HuTable(about["hu_table"], arrays["hu"], arrays["density"]),
            dicom=None if about["dicom"] is None else _references(about["dicom"]),
            notes=tuple(about["notes"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _not_a_case(path, error) from error


def read_case_grid(path: Path) -> Grid:
    """Read the grid of a case alone, in no time; errors as `read_case_file`."""
    try:
        return _grid(_read(path, only=(_SHAPE, _MATRIX)))
    except (KeyError, TypeError, ValueError) as error:
        raise _not_a_case(path, error) from error


def _read(path: Path, only: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    try:
        return read_arrays(path, only=only)
    except FileNotFoundError:
        raise InputError(f"'{path}' does not exist.") from None


def _grid(arrays: dict[str, NDArray[Any]]) -> Grid:
    n_k, n_j, n_i = arrays[_SHAPE].tolist()
    return Grid((n_k, n_j, n_i), arrays[_MATRIX])


def _not_a_case(path: Path, error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    return InputError(f"'{path}' is not a case as DeepRT keeps it ({str(error).rstrip('.')}); write it anew.")


def _structure(entry: dict[str, Any], arrays: dict[str, NDArray[Any]], n: int, shape: tuple[int, ...]) -> Structure:
    fraction = np.zeros(shape, np.float32)
    fraction[_inside(arrays[f"box_{n}"])] = arrays[f"share_{n}"]
    plain = {name: entry[name] for name in _PLAIN}
    plain["role"], plain["color"] = Role(entry["role"]), None if entry["color"] is None else tuple(entry["color"])
    return Structure(fraction=fraction, **plain)


def _references(entry: dict[str, Any]) -> DicomReferences:
    return DicomReferences(**{**entry, "ct_sop_instance_uids": tuple(entry["ct_sop_instance_uids"])})


def _box(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """First voxel and one past the last along k, j, i of what is not zero, (3, 2); empty if all is zero."""
    taken = [np.flatnonzero(values.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    return np.array([(t[0], t[-1] + 1) if t.size else (0, 0) for t in taken], np.int64)


def _inside(box: NDArray[np.int64]) -> tuple[slice, ...]:
    return tuple(slice(int(low), int(high)) for low, high in box)
