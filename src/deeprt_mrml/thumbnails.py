"""All fluence maps of a plan in one picture, for a panel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeprt.beams import Beam
from deeprt.files import whole_file

Maps = Sequence[NDArray[np.floating]]

_INK = "#868686"  # legible on white and on black, as the picture has no background
_COLUMN_INCH, _BAR_INCH, _LABEL_INCH, _FOOT_INCH, _DPI = 0.95, 0.75, 0.34, 0.2, 110
_WORDS = "For research, not for clinical use"


def write_fluence_strip(
    path: Path,
    beams: Sequence[Beam],
    maps: Maps,
    *,
    top_mu: float | None = None,
    titles: Sequence[str] | None = None,
    n_columns: int = 9,
) -> None:
    """Write a PNG of fluence maps on one scale, seen along their beams from the source, +Yb up and +Xb to the right.

    Parameters
    ----------
    maps : one (n_rows, n_cols) of each beam's beamlets, MU per fraction
    top_mu : upper end of the scale; the highest fluence of all beams if None
    titles : under the maps; name and gantry angle of the beams if None
    n_columns : maps in a row

    Raises
    ------
    ValueError
        If a map is not of its beam's beamlets.
    """
    top = top_mu or _highest(maps) or 1.0
    _write(path, beams, maps, titles, n_columns, (0.0, top), "cividis", "MU per fraction")


def write_difference_strip(
    path: Path,
    beams: Sequence[Beam],
    differences: Maps,
    *,
    top_mu: float | None = None,
    titles: Sequence[str] | None = None,
    n_columns: int = 9,
) -> None:
    """Write a PNG of differences of fluence maps, on a scale that is symmetric about zero; as `write_fluence_strip`."""
    top = top_mu or _highest([np.abs(d) for d in differences]) or 1.0
    _write(path, beams, differences, titles, n_columns, (-top, top), "coolwarm", "Difference (MU)")


def _write(
    path: Path,
    beams: Sequence[Beam],
    maps: Maps,
    titles: Sequence[str] | None,
    n_columns: int,
    limits: tuple[float, float],
    colors: str,
    unit: str,
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    _check(beams, maps)
    titles = [_title(b) for b in beams] if titles is None else titles
    n_columns = max(1, min(n_columns, len(beams)))
    n_rows = max(1, math.ceil(len(beams) / n_columns))
    x_mm = _limits([b.x_edges_mm for b in beams])
    y_mm = _limits([b.y_edges_mm for b in beams])
    map_inch = _COLUMN_INCH * (y_mm[1] - y_mm[0]) / (x_mm[1] - x_mm[0])
    width, height = n_columns * _COLUMN_INCH + _BAR_INCH, n_rows * (map_inch + _LABEL_INCH) + _FOOT_INCH
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="none")
    FigureCanvasAgg(figure)
    for n, (beam, fluence, title) in enumerate(zip(beams, maps, titles, strict=True)):
        left = n % n_columns * _COLUMN_INCH
        bottom = height - (n // n_columns + 1) * (map_inch + _LABEL_INCH) + _LABEL_INCH
        frame = (left / width, bottom / height, 0.94 * _COLUMN_INCH / width, map_inch / height)
        axes = figure.add_axes(frame, xlim=x_mm, ylim=y_mm)
        axes.set_axis_off()
        shown = np.ma.masked_array(fluence, ~beam.open_beamlets & (fluence == 0))
        axes.pcolormesh(beam.x_edges_mm, beam.y_edges_mm, shown, cmap=colors, vmin=limits[0], vmax=limits[1])
        axes.text(0.5, -0.03, title, transform=axes.transAxes, ha="center", va="top", fontsize=7, color=_INK)
    bar_inch = min(height - _FOOT_INCH - _LABEL_INCH, 1.6)
    bar_frame = ((width - _BAR_INCH + 0.1) / width, (height - 0.06 - bar_inch) / height, 0.1 / width, bar_inch / height)
    bar = figure.colorbar(ScalarMappable(Normalize(*limits), colors), cax=figure.add_axes(bar_frame))
    bar.set_label(unit, fontsize=7, color=_INK)
    bar.ax.tick_params(labelsize=7, colors=_INK, length=2)
    bar.outline.set_visible(False)
    figure.text(0.5, 0.04 / height, _WORDS, ha="center", va="bottom", fontsize=6, color=_INK)
    with whole_file(path) as scratch:
        figure.savefig(scratch)


def _check(beams: Sequence[Beam], maps: Maps) -> None:
    for beam, fluence in zip(beams, maps, strict=True):
        if fluence.shape != beam.open_beamlets.shape:
            raise ValueError(
                f"{beam.name}: the fluence has shape {fluence.shape}, its beamlets {beam.open_beamlets.shape}."
            )


def _title(beam: Beam) -> str:
    gantry, couch = (f"{round(a, 1) % 360:g}°" for a in (beam.angles.gantry_deg, beam.angles.couch_deg))
    return f"{beam.name}\nG {gantry}" + ("" if couch == "0°" else f"  T {couch}")


def _limits(edges_mm: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Least and greatest of all edges."""
    return min((float(e[0]) for e in edges_mm), default=-50.0), max((float(e[-1]) for e in edges_mm), default=50.0)


def _highest(maps: Maps) -> float:
    return max((float(np.max(m)) for m in maps), default=0.0)
