"""Results that are kept part by part, so that an experiment that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from deeprt.files import write_whole
from deeprt.progress import Progress, Silent
from deeprt.training.processes import in_processes


def in_parts(
    folder: Path,
    names: Sequence[str],
    make: Callable[[str], Any],
    *,
    n_jobs: int = 1,
    progress: Progress | None = None,
) -> list[Any]:
    """Results by name, in order; each is written once it is there and never made again.

    Parameters
    ----------
    folder : of the parts, ``<name>.json``
    make : plain data of a name; importable, since processes are spawned for it
    n_jobs : processes, of one thread each; one job runs in this one
    """
    missing = [name for name in names if not (folder / f"{name}.json").exists()]
    work = partial(_make_part, folder, make)
    in_processes(folder.name, work, missing, n_all=len(names), n_jobs=n_jobs, report=progress or Silent())
    return [json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in names]


def _make_part(folder: Path, make: Callable[[str], Any], name: str) -> None:
    write_whole(folder / f"{name}.json", json.dumps(make(name)))
