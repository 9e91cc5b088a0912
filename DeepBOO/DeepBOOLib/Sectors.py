"""Sectors of gantry angles as text."""

import re

from slicer.i18n import tr as _

from deeprt.errors import InputError

_SECTOR = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*°?\s*[-–]\s*(-?\d+(?:\.\d+)?)\s*°?\s*")


def sectorsOf(text):
    """Read sectors of gantry angles, (from, to) clockwise, written like ``80-100, 260-280``.

    Raises
    ------
    InputError
        If it is not written like this.
    """
    parts = [part for part in re.split("[,;]", text) if part.strip()]
    matches = [_SECTOR.fullmatch(part) for part in parts]
    for part, match in zip(parts, matches, strict=True):
        if match is None:
            problem = _("'{part}' is not a sector of gantry angles; write it like 80-100, 260-280.")
            raise InputError(problem.format(part=part.strip()))
    return tuple((float(m[1]), float(m[2])) for m in matches)


def textOf(sectors):
    """Write sectors so that `sectorsOf` reads them."""
    return ", ".join(f"{low:g}-{high:g}" for low, high in sectors)
