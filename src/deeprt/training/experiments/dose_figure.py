"""Figure 8 of the paper: DVHs and dose of column generation's plan and of the network's in one scenario."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from functools import partial
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deeprt.case import PatientCase
from deeprt.evaluation.dose_figure import NIGHT, NIGHT_STYLE, PALE, DoseScale, body_box, draw_dose, draw_plane
from deeprt.evaluation.views import planes_through
from deeprt.roles import propose_role
from deeprt.structures import Role, Structure
from deeprt.training.measuring.dose_figure import DvhPair, draw_dvhs, slice_case

GRID_MM = 3.0
_METHODS = {"teacher": "column generation", "network": "network"}
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
    case = slice_case(arrays["ct_hu"], _structures(arrays), GRID_MM)
    target = case.targets[0].fraction
    plane = planes_through(case.grid, np.average(case.grid.points_lps(), axis=0, weights=target.ravel()))[0]
    doses = {m: np.asarray(arrays[f"dose_{m}"], np.float32)[None] for m in _METHODS}
    scale = DoseScale.of(case, *doses.values())
    box = body_box(case, plane, doses["teacher"])
    slice_in = _SLICE_IN * (box[3] - box[2]) / (box[1] - box[0])
    figure = Figure(figsize=(2 * _SLICE_IN + 0.4, _DVH_IN + slice_in + _AROUND_IN), layout="constrained")
    rows = figure.add_gridspec(2, 1, height_ratios=(_DVH_IN, slice_in + _AROUND_IN))
    top = figure.add_subfigure(rows[0])
    names = _METHODS["teacher"], _METHODS["network"]
    draw_dvhs(top.subplots(), case, _dvhs(arrays, case), names, prescriptions=True)
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


def _structures(arrays: Mapping[str, NDArray[Any]]) -> list[Structure]:
    """Structures of the slice; their names say what they are for."""
    structures = []
    for key in arrays:
        if key.startswith(_CONTOUR):
            name = key.removeprefix(_CONTOUR)
            proposed = propose_role(name)
            fraction = np.clip(np.asarray(arrays[key], np.float32)[None], 0, 1)
            structures.append(Structure(name, proposed.role, fraction, proposed.prescription_gy, proposed.organ))
    return structures


def _dvhs(arrays: Mapping[str, NDArray[Any]], case: PatientCase) -> list[DvhPair]:
    shown = [s.name for s in case.structures if f"dvh_{s.name}_teacher" in arrays and s.role is not Role.EXTERNAL]
    return [
        DvhPair(name, *(np.asarray(arrays[f"dvh_{name}_{method}"], float) for method in _METHODS)) for name in shown
    ]
