"""The picture of two doses side by side, with their difference and gamma."""

from __future__ import annotations

from functools import partial

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deeprt.case import PatientCase
from deeprt.evaluation.compare import DoseComparison
from deeprt.evaluation.dose_figure import NIGHT, NIGHT_STYLE, PALE, DoseScale, body_box, draw_dose, draw_plane
from deeprt.evaluation.figure_style import inline_svg
from deeprt.evaluation.views import Plane, planes_through

_DIFFERENCE_COLORS, _GAMMA_COLORS = "RdBu_r", "inferno"
_UNSEEN_PERCENT = 0.5  # of the largest dose; smaller differences are left clear
_WIDTH_INCH = 12.0
_BARS_INCH, _TITLE_INCH, _GAP_INCH = 0.65, 0.3, 0.05


def comparison_planes(
    case: PatientCase,
    dose_gy: NDArray[np.float32],
    reference_gy: NDArray[np.float32],
    comparison: DoseComparison,
    point_lps: NDArray[np.float64],
) -> str:
    """Dose, reference, difference and gamma from left to right, on three planes through a point from top to bottom."""
    planes = planes_through(case.grid, point_lps)
    higher = np.maximum(dose_gy, reference_gy)
    boxes = [body_box(case, plane, higher) for plane in planes]
    scale = DoseScale.of(case, reference_gy, dose_gy)
    limit = difference_limit_gy(comparison, higher)
    result = comparison.gamma[0]
    difference_norm, gamma_norm = Normalize(-limit, limit), Normalize(0.0, comparison.settings.max_gamma)
    unseen = _UNSEEN_PERCENT / 100 * float(higher.max())
    seen = np.where(np.abs(comparison.difference_gy) > unseen, comparison.difference_gy, np.nan)
    columns = (
        ("Dose", partial(draw_dose, dose_gy, scale)),
        ("Reference", partial(draw_dose, reference_gy, scale)),
        ("Dose minus reference", partial(_draw_values, seen, _DIFFERENCE_COLORS, difference_norm)),
        (f"Gamma {result.criterion}", partial(_draw_values, result.gamma, _GAMMA_COLORS, gamma_norm)),
    )
    mm_per_inch = max(box[1] - box[0] for box in boxes) * len(columns) / _WIDTH_INCH
    heights = [(box[3] - box[2]) / mm_per_inch for box in boxes]
    total = sum(heights) + 2 * _GAP_INCH + _TITLE_INCH + _BARS_INCH
    with matplotlib.rc_context(NIGHT_STYLE):
        figure = Figure(figsize=(_WIDTH_INCH, total), facecolor=NIGHT)
        grid = figure.add_gridspec(3, len(columns), height_ratios=heights, wspace=0.02, hspace=3 * _GAP_INCH / total)
        grid.update(left=0.004, right=0.996, bottom=_BARS_INCH / total, top=1 - _TITLE_INCH / total)
        for row, (plane, box) in enumerate(zip(planes, boxes, strict=True)):
            for column, (title, overlay) in enumerate(columns):
                axes = figure.add_subplot(grid[row, column])
                draw_plane(axes, case, plane, box, overlay)
                if row == 0:
                    axes.set_title(title, fontsize=9, color=PALE, pad=4)
        bottom, height = 0.7 * _BARS_INCH / total, 0.1 / total
        scale.draw_bar(figure, figure.add_axes((0.05, bottom, 0.4, height)), horizontal=True)
        for left, colors, norm, label in (
            (0.53, _DIFFERENCE_COLORS, difference_norm, "Difference / Gy"),
            (0.78, _GAMMA_COLORS, gamma_norm, "Gamma"),
        ):
            axes = figure.add_axes((left, bottom, 0.19, height))
            bar = figure.colorbar(ScalarMappable(norm, colors), cax=axes, orientation="horizontal")
            bar.set_label(label, fontsize=8)
        return inline_svg(figure, "Dose, reference, difference and gamma on an axial, coronal and sagittal plane")


def difference_limit_gy(comparison: DoseComparison, higher_gy: NDArray[np.float32]) -> float:
    """End of the difference's scale: 99.5 % of the voxels with dose differ by less; at least 1 % of the largest."""
    highest = float(higher_gy.max())
    with_dose = np.abs(comparison.difference_gy[higher_gy > 0.1 * highest])
    return max(float(np.quantile(with_dose, 0.995)) if with_dose.size else 0.0, 0.01 * highest, 1e-3)


def _draw_values(values: NDArray[np.floating], colors: str, norm: Normalize, axes: Axes, plane: Plane) -> None:
    """Draw values voxel by voxel, so that none is made up between them; clear where they are NaN."""
    image = plane.cut(values.astype(np.float32))
    axes.imshow(np.ma.masked_invalid(image), cmap=colors, norm=norm, alpha=0.8, extent=plane.edges_mm,
                interpolation="nearest")  # fmt: skip
