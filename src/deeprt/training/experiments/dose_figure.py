"""Figure 8 of the paper: DVHs and dose of column generation's plan and of the network's in one scenario."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from functools import partial
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deeprt.case import PatientCase
from deeprt.evaluation.dose_figure import NIGHT, NIGHT_STYLE, PALE, DoseScale, body_box, draw_dose, draw_plane
from deeprt.evaluation.figure_style import INK, structure_colors
from deeprt.evaluation.report import RESEARCH_ONLY
from deeprt.evaluation.views import planes_through
from deeprt.geometry import Grid
from deeprt.roles import propose_role
from deeprt.structures import Role, Structure

GRID_MM = 3.0
_METHODS = {"teacher": "column generation", "network": "network"}
_MARKERS = "osD^vP*Xh<"
_CONTOUR = "contour_"
_SLICE_IN, _DVH_IN, _AROUND_IN = 4.6, 3.6, 1.1
_LINE = 130  # characters of the caption


def dose_comparison(arrays: Mapping[str, NDArray[Any]]) -> Figure:
    """Draw DVHs, solid for column generation and dashed for the network, and the dose of both on one axial slice.

    Parameters
    ----------
    arrays : what ``dose.npz`` holds.
        ``ct_hu``, ``dose_teacher``, ``dose_network``: (n_rows, n_cols) of one axial slice of 3 mm pixels, rows from
        anterior to posterior, columns from the patient's right to left; Hounsfield units, and Gy, whole course.
        ``contour_<structure>``: (n_rows, n_cols), share of each pixel inside; the body and a target of which the name
        states the dose must be among them.
        ``dvh_<structure>_teacher``, ``dvh_<structure>_network``: (n, 2), Gy and percent of the volume.
        ``caption``: text for the top, such as organ weights, beams and objectives; may be missing
    """
    case = _slice_case(arrays)
    target = case.targets[0].fraction
    plane = planes_through(case.grid, np.average(case.grid.points_lps(), axis=0, weights=target.ravel()))[0]
    doses = {m: np.asarray(arrays[f"dose_{m}"], np.float32)[None] for m in _METHODS}
    scale = DoseScale.of(case, *doses.values())
    box = body_box(case, plane, doses["teacher"])
    slice_in = _SLICE_IN * (box[3] - box[2]) / (box[1] - box[0])
    figure = Figure(figsize=(2 * _SLICE_IN + 0.4, _DVH_IN + slice_in + _AROUND_IN), layout="constrained")
    rows = figure.add_gridspec(2, 1, height_ratios=(_DVH_IN, slice_in + _AROUND_IN))
    top = figure.add_subfigure(rows[0])
    _draw_dvhs(top.subplots(), arrays, case)
    if "caption" in arrays:
        lines = [part for line in str(arrays["caption"]).splitlines() for part in textwrap.wrap(line, _LINE)]
        top.suptitle("\n".join(lines), fontsize=8)
    with matplotlib.rc_context(NIGHT_STYLE):
        bottom = figure.add_subfigure(rows[1], facecolor=NIGHT)
        grid = bottom.add_gridspec(2, 2, height_ratios=(slice_in, 0.12))
        for column, (method, name) in enumerate(_METHODS.items()):
            axes = bottom.add_subplot(grid[0, column])
            draw_plane(axes, case, plane, box, partial(draw_dose, doses[method], scale))
            axes.set_title(f"Dose, {name}", fontsize=9, color=PALE)
        scale.draw_bar(figure, bottom.add_subplot(grid[1, :]), horizontal=True)
    return figure


def _slice_case(arrays: Mapping[str, NDArray[Any]]) -> PatientCase:
    """The slice as a case of its own, for what draws cases."""
    ct_hu = np.asarray(arrays["ct_hu"], np.float32)[None]
    structures = []
    for key in arrays:
        if key.startswith(_CONTOUR):
            name = key.removeprefix(_CONTOUR)
            proposed = propose_role(name)
            fraction = np.clip(np.asarray(arrays[key], np.float32)[None], 0, 1)
            structures.append(Structure(name, proposed.role, fraction, proposed.prescription_gy, proposed.organ))
    grid = Grid.axial(ct_hu.shape, GRID_MM, (0.0, 0.0, 0.0))
    return PatientCase("slice", "HFS", grid, ct_hu, tuple(structures), n_fractions=1)


def _draw_dvhs(axes: Axes, arrays: Mapping[str, NDArray[Any]], case: PatientCase) -> None:
    """Solid for column generation, dashed for the network; a marker and a color a structure."""
    shown = [s for s in case.structures if f"dvh_{s.name}_teacher" in arrays and s.role is not Role.EXTERNAL]
    colors = structure_colors(case)
    for s, marker in zip(shown, _MARKERS, strict=False):
        is_target = s.role is Role.TARGET
        for method, dashes in (("teacher", "-"), ("network", (0, (4, 1.5)))):
            gy, percent = np.asarray(arrays[f"dvh_{s.name}_{method}"], float).T
            axes.plot(
                gy, percent, color=colors[s.name], linestyle=dashes, linewidth=2.2 if is_target else 1.4,
                marker=marker, markevery=max(1, gy.size // 9), markersize=5, zorder=3 if is_target else 2,
                fillstyle="full" if method == "teacher" else "none",
                label=s.name if method == "teacher" else None,
            )  # fmt: skip
    for target in case.targets:
        axes.axvline(target.prescription_gy or 0.0, color=colors[target.name], linewidth=0.9, linestyle=":")
    axes.plot([], [], color=INK, label="column generation")
    axes.plot([], [], color=INK, linestyle=(0, (4, 1.5)), label="network")
    axes.plot([], [], color=INK, linewidth=0.9, linestyle=":", label="prescription")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axes.set(xlim=(0, None), ylim=(0, 101), xlabel="Dose, whole course / Gy", ylabel="Volume / %")
    axes.grid(color=INK, alpha=0.13, linewidth=0.5)
    axes.text(1.0, 1.01, RESEARCH_ONLY, transform=axes.transAxes, ha="right", va="bottom", fontsize=7, alpha=0.7)
