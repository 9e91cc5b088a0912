"""Beam selections kept on disk, found again by everything that they follow from."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
import platformdirs

from deeprt.beams import BeamAngles, BeamSelection
from deeprt.case import PatientCase
from deeprt.files import read_arrays, write_arrays
from deeprt.machine import Machine
from deeprt.orientation.teacher import CandidateSettings

logger = logging.getLogger(__name__)

_PREFIX = "selection-"  # only files of this name are ever removed


def selection_key(
    case: PatientCase,
    machine: Machine,
    settings: CandidateSettings,
    *,
    n_beams: int,
    given: Sequence[BeamAngles] = (),
    method: str = "column generation",
    seed: int = 0,
) -> str:
    """Hash of what a selection follows from, the package's code included, so that no change of it is overlooked.

    Of the case it takes part what is computed with: not its name, notes or DICOM identity.
    """
    structures = [(s.name, s.role, s.fraction, s.prescription_gy, s.organ) for s in case.structures]
    anatomy = (case.position, case.grid, case.ct_hu, case.hu_table, structures, case.n_fractions)
    digest = hashlib.sha256(_code_digest())
    _feed(digest.update, (anatomy, machine, settings, n_beams, tuple(given), method, seed))
    return digest.hexdigest()


def cached_selection(
    key: str, make: Callable[[], BeamSelection], *, folder: Path | None = None, max_mb: float = 200.0
) -> BeamSelection:
    """Return the selection kept under a key, saying so in its source and without timing, or make and keep it.

    A file that cannot be read is made anew; a folder that cannot be written only costs the time of the next run.

    Parameters
    ----------
    key : of `selection_key`
    folder : of the files; ``deeprt`` in the platform's folder for caches if None
    max_mb : of all files; the least recently used ones beyond it are removed
    """
    file = (folder or platformdirs.user_cache_path("deeprt")) / f"{_PREFIX}{key}.npz"
    try:
        selection = _read(file)
        os.utime(file)
        logger.info("Beam selection found in the cache: %s", file.name)
        return replace(selection, source=f"{selection.source}, from the cache", timing_s={})
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("Beam selection made anew, its cache file cannot be read: %s", error)
    selection = make()
    try:
        _write(selection, file)
        _remove_oldest(file.parent, max_mb)
    except OSError as error:
        logger.warning("Beam selection not cached: %s.", error)
    return selection


def _read(file: Path) -> BeamSelection:
    arrays = read_arrays(file)
    about = json.loads(str(arrays["about"]))
    return BeamSelection(
        candidates=tuple(BeamAngles(*a) for a in arrays["candidates_deg"].tolist()),
        chosen=tuple(arrays["chosen"].tolist()),
        fitness=arrays["fitness"],
        objectives=tuple(arrays["objectives"].tolist()),
        n_given=about["n_given"],
        source=about["source"],
        timing_s=about["timing_s"],
        notes=tuple(about["notes"]),
    )


def _write(selection: BeamSelection, file: Path) -> None:
    about = {
        "n_given": selection.n_given,
        "source": selection.source,
        "timing_s": dict(selection.timing_s),
        "notes": selection.notes,
    }
    arrays = {
        "candidates_deg": [(a.gantry_deg, a.couch_deg, a.collimator_deg) for a in selection.candidates],
        "chosen": np.array(selection.chosen, np.int64),
        "fitness": selection.fitness,
        "objectives": np.array(selection.objectives, np.float64),
        "about": json.dumps(about),
    }
    write_arrays(file, arrays)


def _remove_oldest(folder: Path, max_mb: float) -> None:
    """Remove the least recently used files until the others fit."""
    known = []
    for file in folder.glob(f"{_PREFIX}*"):
        try:
            status = file.stat()
        except FileNotFoundError:  # another process cleans up as well
            continue
        known.append((status.st_mtime_ns, status.st_size, file))
    total = sum(size for _, size, _ in known)
    for _, size, file in sorted(known):
        if total <= max_mb * 1e6:
            break
        file.unlink(missing_ok=True)
        total -= size


@cache
def _code_digest() -> bytes:
    """Hash of the package's source files."""
    digest = hashlib.sha256()

    def visit(folder: Traversable) -> None:
        for entry in sorted(folder.iterdir(), key=lambda e: e.name):
            if entry.is_dir() and entry.name != "__pycache__":
                visit(entry)
            elif entry.name.endswith(".py"):
                digest.update(entry.name.encode() + entry.read_bytes())

    visit(resources.files("deeprt"))
    return digest.digest()


def _feed(update: Callable[[bytes], None], value: object) -> None:
    """Feed a value to a hash, without ambiguity: type and length stand before what they hold."""
    if isinstance(value, np.ndarray):
        update(f"{value.dtype.str}{value.shape}".encode())
        update(np.ascontiguousarray(value).tobytes())
    elif is_dataclass(value):
        update(type(value).__name__.encode())
        for f in fields(value):
            _feed(update, (f.name, getattr(value, f.name)))
    elif isinstance(value, Mapping):
        _feed(update, sorted(value.items()))
    elif isinstance(value, (list, tuple)):
        update(f"({len(value)}".encode())
        for item in value:
            _feed(update, item)
    elif value is None or isinstance(value, (str, int, float)):
        update(f"{type(value).__name__}:{value!r};".encode())
    else:
        raise TypeError(f"A cache key cannot be made of a {type(value).__name__}.")
