"""Two doses of a patient, their difference and DVHs: figures 9 and 10 of the paper, and predicted doses."""

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
from deeprt.evaluation.views import Plane, planes_through
from deeprt.structures import Role, Structure
from deeprt.training.measuring.dose_figure import DvhPair, draw_dvhs, slice_case

Arrays = Mapping[str, NDArray[Any]]

_WIDTH_IN, _DVH_IN, _AROUND_IN = 11.4, 3.4, 0.95
_DIFFERENCE_COLORS = "RdBu_r"


def dose_comparison(
    arrays: Arrays, names: tuple[str, str] = ("reference", "synthetic"), *, difference_share: float = 0.05
) -> Figure:
    """Draw DVHs, solid for the first dose and dashed for the second, and one axial slice.

    Parameters
    ----------
    arrays : as `deeprt.training.fluence_experiments.examples.shown_doses` makes them, and ``caption``
    names : of both doses
    difference_share : of the prescription, at both ends of the difference's scale
    """
    case = _slice_case(arrays)
    first, second = (np.asarray(arrays[f"dose_{n}"], np.float32)[None] for n in names)
    body, difference = case.external.fraction, second - first
    plane = planes_through(case.grid, np.average(case.grid.points_lps(), axis=0, weights=body.ravel()))[0]
    scale, box = DoseScale.of(case, first, second), body_box(case, plane, first)
    limit_gy = difference_share * float(arrays["prescription_gy"])
    panels = (
        (names[0].capitalize(), partial(draw_dose, first, scale)),
        (names[1].capitalize(), partial(draw_dose, second, scale)),
        (
            f"{names[1].capitalize()} minus {names[0]}",
            partial(_draw_difference, np.where(body > 0.5, difference, np.nan), limit_gy),
        ),
    )
    slice_in = _WIDTH_IN / len(panels) * (box[3] - box[2]) / (box[1] - box[0])
    figure = Figure(figsize=(_WIDTH_IN, _DVH_IN + slice_in + _AROUND_IN), layout="constrained")
    parts = figure.add_gridspec(2, 1, height_ratios=(_DVH_IN, slice_in + _AROUND_IN))
    top = figure.add_subfigure(parts[0])
    draw_dvhs(top.subplots(), case, _dvhs(arrays, names), names)
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
    structures = []
    for name, value, contour in zip(arrays["names"], arrays["roles"], arrays["contours"], strict=True):
        role = Role(str(value))
        prescription_gy = float(arrays["prescription_gy"]) if role is Role.TARGET else None
        structures.append(Structure(str(name), role, np.asarray(contour, np.float32)[None], prescription_gy))
    return slice_case(arrays["ct_hu"], structures, float(arrays["pixel_mm"]))


def _dvhs(arrays: Arrays, names: tuple[str, str]) -> list[DvhPair]:
    gy, curves = arrays["dvh_gy"], (arrays["dvh_names"], *(arrays[f"dvh_{n}"] for n in names))
    return [
        DvhPair(str(name), *(np.stack([gy, percent], axis=1) for percent in pair))
        for name, *pair in zip(*curves, strict=True)
    ]


def _draw_difference(difference_gy: NDArray[np.float32], limit_gy: float, axes: Axes, plane: Plane) -> None:
    """Draw a difference voxel by voxel; clear where it is NaN."""
    image = np.ma.masked_invalid(plane.cut(difference_gy))
    axes.imshow(
        image, cmap=_DIFFERENCE_COLORS, norm=Normalize(-limit_gy, limit_gy), extent=plane.edges_mm,
        interpolation="nearest",
    )  # fmt: skip
