"""Files that appear under their names only when they are whole, and arrays in such files."""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeprt.errors import InputError

# What numpy and zipfile raise; RuntimeError, of which NotImplementedError is one, where a flag or a method is unknown.
_DAMAGED = (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)


def write_all_whole(folder: Path, files: Mapping[str, str]) -> None:
    """Write files into a folder, made if it is missing; all are complete before the first gets its name.

    Parameters
    ----------
    files : text by file name
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".deeprt-", suffix=".part") as scratch:
        for name, text in files.items():
            (Path(scratch) / name).write_text(text, encoding="utf-8")
        for name in files:
            os.replace(Path(scratch) / name, folder / name)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary file to write, in the same folder, that takes the name of ``path`` once it was written.

    It gets the permissions that new files usually have, also from writers that keep theirs to their owner.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".deeprt-", suffix=".part") as folder:
        scratch = Path(folder) / path.name
        scratch.touch()
        usual = scratch.stat().st_mode
        scratch.unlink()
        yield scratch
        scratch.chmod(usual)
        os.replace(scratch, path)


def check_writable(folder: Path) -> None:
    """See that files can be written into a folder, which may be missing yet.

    Raises
    ------
    InputError
        If the nearest folder that is there is a file, or may not be written to.
    """
    there = next(f for f in (folder, *folder.absolute().parents) if f.exists())
    if not there.is_dir():
        raise InputError(f"Cannot write into '{folder}': '{there}' is a file; choose another folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"Cannot write into '{folder}': '{there}' is not yours to write to; choose another folder.")


def write_whole(path: Path, text: str) -> None:
    """Write one file; as `write_all_whole`."""
    write_all_whole(path.parent, {path.name: text})


def write_arrays(path: Path, arrays: Mapping[str, Any], *, compressed: bool = True) -> None:
    """Write arrays, or what numpy makes arrays of, by name into one ``.npz`` file; as `whole_file`."""
    write = np.savez_compressed if compressed else np.savez
    with whole_file(path) as scratch:
        write(scratch, **arrays)


def read_arrays(path: Path, *, only: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """Read the arrays of an ``.npz`` file, all or those of some names that it has; the file cannot run code.

    Raises
    ------
    InputError
        If the file is not whole; a file that is missing is a `FileNotFoundError`.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files if only is None or name in only}
    except FileNotFoundError:
        raise
    except _DAMAGED as error:
        raise InputError(f"'{path}' cannot be read ({str(error).rstrip('.')}).") from error
