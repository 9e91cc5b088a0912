"""Files of results: plain data as JSON, or arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deeprt.errors import InputError
from deeprt.files import read_arrays, write_arrays, write_whole

Json = dict[str, Any]


def write_result(file: Path, content: Any) -> None:
    """Write plain data into a ``.json`` file, or arrays by name into an ``.npz`` file."""
    if file.suffix == ".json":
        write_whole(file, json.dumps(content, indent=1) + "\n")
    else:
        write_arrays(file, content)


def read_result(file: Path) -> Any:
    """What `write_result` has written; None without the file.

    Raises
    ------
    InputError
        If it is damaged.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.suffix == ".json" else read_arrays(file)
    except FileNotFoundError:
        return None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"'{file}' is not valid JSON: {error}; remove it and run that experiment again.") from error


def check_folder(folder: Path) -> None:
    """See that there is a folder with results.

    Raises
    ------
    InputError
        If there is none.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder '{folder}' with results of experiments.")
