"""Files that appear under their names only when they are whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


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
    """Give a temporary file to write, in the same folder, that takes the name of ``path`` once it was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".deeprt-", suffix=".part") as folder:
        scratch = Path(folder) / path.name
        yield scratch
        os.replace(scratch, path)


def write_whole(path: Path, text: str) -> None:
    """Write one file; as `write_all_whole`."""
    write_all_whole(path.parent, {path.name: text})
