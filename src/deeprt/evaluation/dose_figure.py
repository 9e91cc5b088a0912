"""The picture of the dose: three planes through a point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import zoom

from deeprt.case import PatientCase
from deeprt.evaluation.figure_style import STYLE, inline_svg, outline, structure_colors
from deeprt.evaluation.report import RESEARCH_ONLY
from deeprt.evaluation.views import Plane, extent, planes_through
from deeprt.structures import Role

WASH_FROM_PERCENT = 10
_ISODOSE_COLORS = {30: "#58b0ff", 50: "#3fe0d0", 80: "#86f060", 95: "#ffe14a", 100: "#ffffff", 107: "#ff7ae0"}
_WASH_COLORS = "turbo"
_CT_WINDOW_HU = (-210.0, 290.0)  # width 500, level 40: soft tissue
NIGHT, PALE = "#101317", "#d8dde4"  # pictures of the patient are dark on a light page too
NIGHT_STYLE: dict[Any, Any] = {
    **STYLE,
    "text.color": PALE,
    "xtick.color": PALE,
    "ytick.color": PALE,
    "axes.labelcolor": PALE,
}
_BACKING = {"facecolor": "black", "alpha": 0.45, "linewidth": 0, "pad": 1.5}
_MARGIN_MM = 8.0
_PAST_DOSE_MM = 40.0

Box = tuple[float, float, float, float]
Overlay = Callable[[Axes, Plane], None]


def dose_planes(case: PatientCase, dose_gy: NDArray[np.float32], point_lps: NDArray[np.float64]) -> str:
    """Dose wash, isodose lines and outlines on three planes through a point, at one scale."""
    planes = planes_through(case.grid, point_lps)
    boxes = [body_box(case, plane, dose_gy) for plane in planes]
    widths = [box[1] - box[0] for box in boxes]
    mm_per_inch = sum(widths) / 10.6
    height = max(box[3] - box[2] for box in boxes) / mm_per_inch + 0.35
    scale = DoseScale.of(case, dose_gy)
    with matplotlib.rc_context(NIGHT_STYLE):
        figure = Figure(figsize=(12.0, height), facecolor=NIGHT)
        grid = figure.add_gridspec(1, 4, width_ratios=[*widths, 0.14 * mm_per_inch], wspace=0.02)
        grid.update(left=0.004, right=0.925, bottom=0.01, top=1 - 0.3 / height)
        for n, (plane, box) in enumerate(zip(planes, boxes, strict=True)):
            axes = figure.add_subplot(grid[n])
            draw_plane(axes, case, plane, box, partial(draw_dose, dose_gy, scale))
            axes.set_title(plane.name, fontsize=9, color=PALE, pad=4)
        scale.draw_bar(figure, figure.add_subplot(grid[3]))
        return inline_svg(figure, "Dose on an axial, coronal and sagittal plane")


@dataclass(frozen=True)
class DoseScale:
    """Colors of doses and of isodose lines.

    Parameters
    ----------
    full_gy : dose of the isodose line of 100 %
    norm : from Gy to the color map
    """

    full_gy: float
    norm: Normalize

    @classmethod
    def of(cls, case: PatientCase, *doses_gy: NDArray[np.float32]) -> DoseScale:
        """Scale for doses shown together; 100 % is the highest prescription, or else the largest dose of the first."""
        targets = case.targets
        full = (targets[0].prescription_gy if targets else None) or max(float(doses_gy[0].max()), 1e-3)
        return cls(full, Normalize(0.0, max(1.1 * full, *(float(d.max()) for d in doses_gy))))

    def draw_bar(self, figure: Figure, axes: Axes, *, horizontal: bool = False) -> None:
        """Draw the scale, marked and labeled at the isodose lines."""
        bar = figure.colorbar(
            ScalarMappable(self.norm, _WASH_COLORS), cax=axes, orientation="horizontal" if horizontal else "vertical"
        )
        levels = {p: p / 100 * self.full_gy for p in _ISODOSE_COLORS}
        if horizontal:  # labels with doses would run into each other
            bar.set_ticks(list(levels.values()), labels=[f"{p}" for p in levels], fontsize=7)
            bar.set_label(f"Dose / % of {self.full_gy:.4g} Gy", fontsize=8)
        else:
            bar.set_ticks(list(levels.values()), labels=[f"{gy:.1f} Gy  {p} %" for p, gy in levels.items()], fontsize=7)
        bar.ax.tick_params(length=7, width=2)
        ticks = (bar.ax.xaxis if horizontal else bar.ax.yaxis).get_major_ticks()
        for tick, color in zip(ticks, _ISODOSE_COLORS.values(), strict=True):
            (tick.tick1line if horizontal else tick.tick2line).set_markeredgecolor(color)


def draw_plane(axes: Axes, case: PatientCase, plane: Plane, box: Box, overlay: Overlay) -> None:
    """Draw the CT of a plane, something over it, then outlines, the point asked for, directions and the disclaimer."""
    low, high = _CT_WINDOW_HU
    axes.imshow(
        plane.cut(case.ct_hu), cmap="gray", vmin=low, vmax=high, extent=plane.edges_mm, interpolation="bilinear"
    )
    overlay(axes, plane)
    colors = structure_colors(case)
    for s in case.structures:
        if s.role is not Role.TUNING:
            outline(axes, plane, s, colors[s.name], 1.9 if s.role is Role.TARGET else 1.2)
    axes.plot(0, 0, "+", color="white", markersize=7, markeredgewidth=0.8)
    axes.set(xlim=box[:2], ylim=(box[3], box[2]), aspect="equal", anchor="C")
    axes.set_axis_off()
    _write_on(axes, plane)


def draw_dose(dose_gy: NDArray[np.float32], scale: DoseScale, axes: Axes, plane: Plane) -> None:
    """Draw color wash and isodose lines of a dose."""
    dose = plane.cut(dose_gy)
    fine = zoom(dose, np.maximum(1, np.rint(plane.pixel_mm)), order=1, mode="nearest", grid_mode=True)
    wash = matplotlib.colormaps[_WASH_COLORS](scale.norm(fine))
    wash[..., 3] = np.where(fine >= WASH_FROM_PERCENT / 100 * scale.full_gy, 0.4, 0.0)
    axes.imshow(wash, extent=plane.edges_mm)
    for percent, color in _ISODOSE_COLORS.items():
        level = percent / 100 * scale.full_gy
        if dose.min() < level <= dose.max():
            axes.contour(plane.x_mm, plane.y_mm, dose, levels=[level], colors=[color], linewidths=0.8)


def _write_on(axes: Axes, plane: Plane) -> None:
    """Put the patient directions at the edges, and what the picture is not for."""
    places = (
        (0.015, 0.5, "left", "center"),
        (0.985, 0.5, "right", "center"),
        (0.5, 0.985, "center", "top"),
        (0.5, 0.008, "center", "bottom"),
    )
    for letters, (x, y, ha, va) in zip(plane.letters, places, strict=True):
        above = 11 if va == "bottom" else 0  # points, so that the words below stay free however small the picture
        axes.annotate(
            letters, (x, y), (0, above), xycoords="axes fraction", textcoords="offset points", ha=ha, va=va,
            fontsize=10, fontweight="bold", color="white", bbox=_BACKING,
        )  # fmt: skip
    axes.text(
        0.5, 0.008, RESEARCH_ONLY, transform=axes.transAxes, ha="center", va="bottom",
        fontsize=6.5, color=PALE, bbox=_BACKING,
    )  # fmt: skip


def body_box(case: PatientCase, plane: Plane, dose_gy: NDArray[np.float32]) -> Box:
    """The body in this plane, with a margin; of a long scan only the part that has dose."""
    body = plane.cut(case.external.fraction) >= 0.5
    if plane.name != "Axial":
        wash = plane.cut(dose_gy) >= WASH_FROM_PERCENT / 100 * DoseScale.of(case, dose_gy).full_gy
        _, _, top, bottom = extent(wash, plane)
        near = (plane.y_mm > top - _PAST_DOSE_MM) & (plane.y_mm < bottom + _PAST_DOSE_MM)
        body = body & near[:, None]
    x1, x2, y1, y2 = extent(body, plane)
    return x1 - _MARGIN_MM, x2 + _MARGIN_MM, y1 - _MARGIN_MM, y2 + _MARGIN_MM
