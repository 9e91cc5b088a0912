"""The picture of the dose: three planes through the isocenter."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from scipy.ndimage import zoom

from deeprt.evaluation.figure_style import STYLE, inline_svg, outline, structure_colors
from deeprt.evaluation.report import RESEARCH_ONLY, ReportContents
from deeprt.evaluation.views import Plane, extent, planes_through
from deeprt.structures import Role

WASH_FROM_PERCENT = 10
_ISODOSE_COLORS = {30: "#58b0ff", 50: "#3fe0d0", 80: "#86f060", 95: "#ffe14a", 100: "#ffffff", 107: "#ff7ae0"}
_WASH_COLORS = "turbo"
_CT_WINDOW_HU = (-210.0, 290.0)  # width 500, level 40: soft tissue
_NIGHT, _PALE = "#101317", "#d8dde4"  # pictures of the patient are dark on a light page too
_BACKING = {"facecolor": "black", "alpha": 0.45, "linewidth": 0, "pad": 1.5}
_MARGIN_MM = 8.0
_PAST_DOSE_MM = 40.0

Box = tuple[float, float, float, float]


def dose_planes(contents: ReportContents) -> str:
    """Dose wash, isodose lines and outlines on three planes through the isocenter, at one scale."""
    planes = planes_through(contents.case.grid, contents.plan.beams[0].isocenter_lps)
    boxes = [_body_box(contents, plane) for plane in planes]
    widths = [box[1] - box[0] for box in boxes]
    mm_per_inch = sum(widths) / 10.6
    height = max(box[3] - box[2] for box in boxes) / mm_per_inch + 0.35
    reference = _reference_gy(contents)
    norm = Normalize(0.0, max(1.1 * reference, float(contents.dose_gy.max())))
    with matplotlib.rc_context({**STYLE, "text.color": _PALE, "ytick.color": _PALE}):
        figure = Figure(figsize=(12.0, height), facecolor=_NIGHT)
        grid = figure.add_gridspec(1, 4, width_ratios=[*widths, 0.14 * mm_per_inch], wspace=0.02)
        grid.update(left=0.004, right=0.925, bottom=0.01, top=1 - 0.3 / height)
        for n, (plane, box) in enumerate(zip(planes, boxes, strict=True)):
            _draw_plane(figure.add_subplot(grid[n]), contents, plane, box, norm)
        bar = figure.colorbar(ScalarMappable(norm, _WASH_COLORS), cax=figure.add_subplot(grid[3]))
        bar.set_ticks(
            [p / 100 * reference for p in _ISODOSE_COLORS],
            labels=[f"{p / 100 * reference:.1f} Gy  {p} %" for p in _ISODOSE_COLORS],
        )
        bar.ax.tick_params(labelsize=7, length=7, width=2)
        for tick, color in zip(bar.ax.yaxis.get_major_ticks(), _ISODOSE_COLORS.values(), strict=True):
            tick.tick2line.set_markeredgecolor(color)
        return inline_svg(figure, "Dose on the axial, coronal and sagittal plane through the isocenter")


def _draw_plane(axes: Axes, contents: ReportContents, plane: Plane, box: Box, norm: Normalize) -> None:
    case, reference = contents.case, _reference_gy(contents)
    dose = plane.cut(contents.dose_gy)
    low, high = _CT_WINDOW_HU
    axes.imshow(
        plane.cut(case.ct_hu), cmap="gray", vmin=low, vmax=high, extent=plane.edges_mm, interpolation="bilinear"
    )
    fine = zoom(dose, np.maximum(1, np.rint(plane.pixel_mm)), order=1, mode="nearest", grid_mode=True)
    wash = matplotlib.colormaps[_WASH_COLORS](norm(fine))
    wash[..., 3] = np.where(fine >= WASH_FROM_PERCENT / 100 * reference, 0.4, 0.0)
    axes.imshow(wash, extent=plane.edges_mm)
    for percent, color in _ISODOSE_COLORS.items():
        level = percent / 100 * reference
        if dose.min() < level <= dose.max():
            axes.contour(plane.x_mm, plane.y_mm, dose, levels=[level], colors=[color], linewidths=0.8)
    colors = structure_colors(case)
    for s in case.structures:
        if s.role is not Role.TUNING:
            outline(axes, plane, s, colors[s.name], 1.9 if s.role is Role.TARGET else 1.2)
    axes.plot(0, 0, "+", color="white", markersize=7, markeredgewidth=0.8)
    axes.set(xlim=box[:2], ylim=(box[3], box[2]), aspect="equal", anchor="C")
    axes.set_axis_off()
    axes.set_title(plane.name, fontsize=9, color=_PALE, pad=4)
    _write_on(axes, plane)


def _write_on(axes: Axes, plane: Plane) -> None:
    """Put the patient directions at the edges, and what the picture is not for."""
    places = (
        (0.015, 0.5, "left", "center"),
        (0.985, 0.5, "right", "center"),
        (0.5, 0.985, "center", "top"),
        (0.5, 0.055, "center", "bottom"),
    )
    for letters, (x, y, ha, va) in zip(plane.letters, places, strict=True):
        axes.text(
            x, y, letters, transform=axes.transAxes, ha=ha, va=va,
            fontsize=10, fontweight="bold", color="white", bbox=_BACKING,
        )  # fmt: skip
    axes.text(
        0.5, 0.008, RESEARCH_ONLY, transform=axes.transAxes, ha="center", va="bottom",
        fontsize=6.5, color=_PALE, bbox=_BACKING,
    )  # fmt: skip


def _body_box(contents: ReportContents, plane: Plane) -> Box:
    """The body in this plane; of a long scan only the part that has dose."""
    body = plane.cut(contents.case.external.fraction) >= 0.5
    if plane.name != "Axial":
        wash = plane.cut(contents.dose_gy) >= WASH_FROM_PERCENT / 100 * _reference_gy(contents)
        _, _, top, bottom = extent(wash, plane)
        near = (plane.y_mm > top - _PAST_DOSE_MM) & (plane.y_mm < bottom + _PAST_DOSE_MM)
        body = body & near[:, None]
    x1, x2, y1, y2 = extent(body, plane)
    return x1 - _MARGIN_MM, x2 + _MARGIN_MM, y1 - _MARGIN_MM, y2 + _MARGIN_MM


def _reference_gy(contents: ReportContents) -> float:
    """Highest prescription; the largest dose where nothing is prescribed."""
    targets = contents.case.targets
    return (targets[0].prescription_gy if targets else None) or float(contents.dose_gy.max())
