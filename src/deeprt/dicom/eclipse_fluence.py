"""Varian's text files of fluence, one a beam, which Eclipse imports as optimal fluence.

A header gives size, spacing and the center of the top left pixel at the isocenter plane, mm, along +Xb and +Yb; then
come the rows, from the top, which is the largest Yb, to the bottom, their pixels separated by tabs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeprt.beams import Beam, FluenceImage
from deeprt.errors import InputError
from deeprt.files import write_whole

SUFFIX = ".optimal_fluence"
_KIND, _VALUES = "optimalfluence", "values"
_KEYS = ("SizeX", "SizeY", "SpacingX", "SpacingY", "OriginX", "OriginY")


def write_eclipse_fluence(path: Path, beam: Beam, fluence_mu: NDArray[np.floating]) -> None:
    """Write the fluence of a beam, on pixels of the size of its smallest beamlets.

    Parameters
    ----------
    fluence_mu : (n_rows, n_cols), MU per fraction

    Raises
    ------
    ValueError
        If the map is not of the beam's beamlets.
    OSError
        If the file cannot be written.
    """
    image = FluenceImage.of(beam, fluence_mu)
    n_rows, n_cols = image.values.shape
    (x_mm, y_mm), (width_mm, height_mm) = image.first_mm, image.pixel_mm
    header = (n_cols, n_rows, width_mm, height_mm, x_mm, y_mm + (n_rows - 1) * height_mm)
    lines = [_KIND, *(f"{key}\t{value:.10g}" for key, value in zip(_KEYS, header, strict=True)), _VALUES.capitalize()]
    lines += ["\t".join(f"{value:.7g}" for value in row) for row in image.values[::-1]]
    write_whole(path, "\n".join(lines) + "\n")


def read_eclipse_fluence(path: Path) -> FluenceImage:
    """Read the fluence of a beam; its unit is what the file has.

    Raises
    ------
    InputError
        If the file cannot be read or is not of this kind.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read '{path}': {getattr(error, 'strerror', None) or 'it is not text'}.") from error
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines or lines[0].lower() != _KIND or _VALUES not in (names := [line.lower() for line in lines]):
        raise InputError(f"'{path}' is not a fluence file of Varian, which begin with '{_KIND}'.")
    end = names.index(_VALUES)
    try:
        header = {key: float(value) for key, value in (line.split() for line in names[1:end])}
        n_cols, n_rows, width_mm, height_mm, x_mm, top_mm = (header[key.lower()] for key in _KEYS)
        values = np.array([line.split() for line in lines[end + 1 :]], np.float64)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"'{path}': the header must give {', '.join(_KEYS)}, a number each, and rows of equal length follow."
        ) from error
    if values.shape != (n_rows, n_cols) or min(width_mm, height_mm) <= 0 or not np.isfinite(values).all():
        raise InputError(
            f"'{path}' has {' x '.join(map(str, values.shape))} values, its header says {n_rows:g} x {n_cols:g}, all "
            "finite, on pixels of positive size."
        )
    return FluenceImage(values[::-1], (x_mm, top_mm - (values.shape[0] - 1) * height_mm), (width_mm, height_mm))
