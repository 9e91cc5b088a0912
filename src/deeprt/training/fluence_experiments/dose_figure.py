"""Figures 9 and 10 of the paper: dose of a reference and a synthetic plan, their difference, and DVHs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deeprt.case import PatientCase
from deeprt.evaluation.dose_figure import NIGHT, NIGHT_STYLE, PALE, DoseScale, body_box, draw_dose, draw_plane
from deeprt.evaluation.figure_style import INK, structure_colors
from deeprt.evaluation.report import RESEARCH_ONLY
from deeprt.evaluation.views import Plane, planes_through
from deeprt.geometry import Grid
from deeprt.structures import Role, Structure

Arrays = Mapping[str, NDArray[Any]]

_WIDTH_IN, _DVH_IN, _AROUND_IN = 11.4, 3.4, 0.95
_DIFFERENCE_COLORS, _DIFFERENCE_SHARE = "RdBu_r", 0.05  # of the prescription, at both ends of the scale
_DASHES = (0, (4, 1.5))
_MARKERS = "osD^vP*Xh<"


def dose_comparison(arrays: Arrays) -> Figure:
    """Draw DVHs, solid for the reference and dashed for the synthetic plan, and one axial slice.

    Parameters
    ----------
    arrays : of one plan, as `deeprt.training.fluence_experiments.examples` makes them
    """
    case = _slice_case(arrays)
    reference, synthetic = (np.asarray(arrays[f"dose_{n}"], np.float32)[None] for n in ("reference", "synthetic"))
    body, difference = case.external.fraction, synthetic - reference
    plane = planes_through(case.grid, np.average(case.grid.points_lps(), axis=0, weights=body.ravel()))[0]
    scale, box = DoseScale.of(case, reference, synthetic), body_box(case, plane, reference)
    limit_gy = _DIFFERENCE_SHARE * float(arrays["prescription_gy"])
    panels = (
        ("Reference", partial(draw_dose, reference, scale)),
        ("Synthetic", partial(draw_dose, synthetic, scale)),
        ("Synthetic minus reference", partial(_draw_difference, np.where(body > 0.5, difference, np.nan), limit_gy)),
    )
    slice_in = _WIDTH_IN / len(panels) * (box[3] - box[2]) / (box[1] - box[0])
    figure = Figure(figsize=(_WIDTH_IN, _DVH_IN + slice_in + _AROUND_IN), layout="constrained")
    parts = figure.add_gridspec(2, 1, height_ratios=(_DVH_IN, slice_in + _AROUND_IN))
    top = figure.add_subfigure(parts[0])
    _draw_dvhs(top.subplots(), arrays, case)
    top.suptitle(str(arrays["caption"]), fontsize=9)
    with matplotlib.rc_context(NIGHT_STYLE):
        bottom = figure.add_subfigure(parts[1], facecolor=NIGHT)
        grid = bottom.add_gridspec(2, 3, height_ratios=(slice_in, 0.1))
        for column, (title, overlay) in enumerate(panels):
            axes = bottom.add_subplot(grid[0, column])
            draw_plane(axes, case, plane, box, overlay)
            axes.set_title(title, fontsize=9, color=PALE)
        scale.draw_bar(figure, bottom.add_subplot(grid[1, :2]), horizontal=True)
        bar = figure.colorbar(
            ScalarMappable(Normalize(-limit_gy, limit_gy), _DIFFERENCE_COLORS), cax=bottom.add_subplot(grid[1, 2]),
            orientation="horizontal", extend="both",
        )  # fmt: skip
        bar.set_label("Difference / Gy", fontsize=8)
    return figure


def _slice_case(arrays: Arrays) -> PatientCase:
    """The slice as a case of its own, for what draws cases."""
    ct_hu = np.asarray(arrays["ct_hu"], np.float32)[None]
    structures = []
    for name, value, contour in zip(arrays["names"], arrays["roles"], arrays["contours"], strict=True):
        role = Role(str(value))
        prescription_gy = float(arrays["prescription_gy"]) if role is Role.TARGET else None
        structures.append(Structure(str(name), role, np.asarray(contour, np.float32)[None], prescription_gy))
    grid = Grid.axial(ct_hu.shape, float(arrays["pixel_mm"]), (0.0, 0.0, 0.0))
    return PatientCase("slice", "HFS", grid, ct_hu, tuple(structures), n_fractions=1)


def _draw_difference(difference_gy: NDArray[np.float32], limit_gy: float, axes: Axes, plane: Plane) -> None:
    """Draw a difference voxel by voxel; clear where it is NaN."""
    image = np.ma.masked_invalid(plane.cut(difference_gy))
    axes.imshow(
        image, cmap=_DIFFERENCE_COLORS, norm=Normalize(-limit_gy, limit_gy), extent=plane.edges_mm,
        interpolation="nearest",
    )  # fmt: skip


def _draw_dvhs(axes: Axes, arrays: Arrays, case: PatientCase) -> None:
    colors, gy = structure_colors(case), arrays["dvh_gy"]
    curves = zip(arrays["dvh_names"], arrays["dvh_reference"], arrays["dvh_synthetic"], strict=True)
    for (name, reference, synthetic), marker in zip(curves, _MARKERS, strict=False):
        is_target = case.structure(str(name)).role is Role.TARGET
        for percent, dashes in ((reference, "-"), (synthetic, _DASHES)):
            axes.plot(
                gy, percent, color=colors[str(name)], linestyle=dashes, linewidth=2.2 if is_target else 1.4,
                marker=marker, markevery=max(1, gy.size // 9), markersize=5, zorder=3 if is_target else 2,
                fillstyle="full" if dashes == "-" else "none", label=str(name) if dashes == "-" else None,
            )  # fmt: skip
    axes.plot([], [], color=INK, label="reference")
    axes.plot([], [], color=INK, linestyle=_DASHES, label="synthetic")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axes.set(xlim=(0, None), ylim=(0, 101), xlabel="Dose, whole course / Gy", ylabel="Volume / %")
    axes.grid(color=INK, alpha=0.13, linewidth=0.5)
    axes.text(1.0, 1.01, RESEARCH_ONLY, transform=axes.transAxes, ha="right", va="bottom", fontsize=7, alpha=0.7)
