"""Figures of the report besides the dose: DVHs, beam directions, fluence maps."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deeprt.beams import Beam
from deeprt.case import PatientCase
from deeprt.delivery.fluence import delivered_fluence
from deeprt.evaluation.evaluate import PlanReport
from deeprt.evaluation.figure_style import INK, STYLE, inline_svg, outline, structure_colors
from deeprt.evaluation.report import RESEARCH_ONLY, ReportContents
from deeprt.evaluation.views import Plane, extent, orientation_letters, planes_through
from deeprt.geometry import bld_to_lps_rotation
from deeprt.structures import Role

_BEAM_COLOR = "#2f7fd6"
_MAPS_PER_ROW = 5


def dvh_plot(case: PatientCase, solid: PlanReport, dashed: PlanReport | None) -> str:
    """DVHs of one dose, solid, and of another, dashed; targets drawn heavier, with their prescriptions."""
    colors = structure_colors(case)
    shown = [s for s in solid.structures if s.role not in (Role.TUNING, Role.EXTERNAL)]
    reports = [solid] if dashed is None else [solid, dashed]
    top = max((r.structure(s.name).dvh.max_gy for s in shown for r in reports), default=1.0)
    dose = np.linspace(0.0, 1.05 * max(top, 1e-3), 500)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 5.2), layout="constrained", facecolor="none")
        axes = figure.add_subplot(facecolor="none")
        for s in shown:
            is_target = s.role is Role.TARGET
            axes.plot(
                dose, 100 * s.dvh.curve(dose),
                color=colors[s.name], linewidth=2.4 if is_target else 1.4, zorder=3 if is_target else 2,
            )  # fmt: skip
            if dashed is not None:
                other = dashed.structure(s.name).dvh
                axes.plot(dose, 100 * other.curve(dose), color=colors[s.name], linewidth=0.9, dashes=(5, 3))
        for target in solid.targets:
            axes.axvline(target.prescription_gy or 0.0, color=colors[target.name], linewidth=0.8, linestyle=":")
        axes.grid(color=INK, alpha=0.13, linewidth=0.5)
        axes.set(xlim=(0, dose[-1]), ylim=(0, 101), xlabel="Dose, whole course / Gy", ylabel="Volume / %")
        axes.text(1.0, -0.085, RESEARCH_ONLY, transform=axes.transAxes, ha="right", va="top", fontsize=7, alpha=0.7)
        return inline_svg(figure, "Cumulative dose-volume histograms")


def beam_drawing(contents: ReportContents) -> str:
    """Directions of the beams around the axial outline of the patient, numbered as in the table."""
    case = contents.case
    plane = planes_through(case.grid, contents.plan.beams[0].isocenter_lps)[0]
    colors = structure_colors(case)
    body = extent(plane.cut(case.external.fraction) >= 0.5, plane)
    radius = 1.08 * max(float(np.hypot(x, y)) for x in body[:2] for y in body[2:])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 4.4), facecolor="none")
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        for s in (case.external, *case.targets):
            outline(axes, plane, s, INK if s.role is Role.EXTERNAL else colors[s.name], 1.0, filled=True)
        turn = np.linspace(0, 2 * np.pi, 181)
        axes.plot(radius * np.cos(turn), radius * np.sin(turn), color=INK, alpha=0.35, linewidth=0.6)
        for gantry in range(0, 360, 30):
            towards_source = bld_to_lps_rotation(float(gantry), position=case.position)[:, 2]
            x, y = _on_plane(plane, towards_source)
            axes.plot([radius * x, 1.03 * radius * x], [radius * y, 1.03 * radius * y], color=INK, alpha=0.5, lw=0.6)
            if gantry % 90 == 0:
                label = f"{gantry}° {orientation_letters(towards_source)}"
                axes.text(1.32 * radius * x, 1.28 * radius * y, label, ha="center", va="center", fontsize=8, alpha=0.75)
        for number, beam in enumerate(contents.plan.beams, start=1):
            _draw_beam(axes, plane, beam, number, radius)
        axes.set(xlim=(-1.5 * radius, 1.5 * radius), ylim=(1.4 * radius, -1.4 * radius), aspect="equal")
        axes.set_axis_off()
        return inline_svg(figure, "Beam directions around the patient's axial outline")


def _draw_beam(axes: Axes, plane: Plane, beam: Beam, number: int, radius: float) -> None:
    x, y = _on_plane(plane, beam.rotation[:, 2])
    lies_in_plane = bool(np.hypot(x, y) > 0.999)
    arrow = {"arrowstyle": "-|>", "color": _BEAM_COLOR, "lw": 1.3, "shrinkA": 0, "shrinkB": 0}
    arrow["linestyle"] = "-" if lies_in_plane else (0, (3, 2))
    axes.annotate("", (0.0, 0.0), (radius * x, radius * y), arrowprops=arrow)
    axes.text(
        1.13 * radius * x, 1.13 * radius * y, str(number), ha="center", va="center",
        fontsize=9, fontweight="bold", color=_BEAM_COLOR,
    )  # fmt: skip


def _on_plane(plane: Plane, direction_lps: NDArray[np.float64]) -> tuple[float, float]:
    return float(plane.right_lps @ direction_lps), float(plane.down_lps @ direction_lps)


def fluence_maps(contents: ReportContents) -> str:
    """Ideal fluence of each beam above what its segments deliver, all on one scale."""
    plan, ideal = contents.plan, contents.solution.fluence_mu
    edges = [(_pixel_edges(j.x1_mm, j.x2_mm), _pixel_edges(j.y1_mm, j.y2_mm)) for j in plan.jaws]
    delivered = [delivered_fluence(plan, b, x, y) for b, (x, y) in enumerate(edges)]
    top = max(*(float(m.max()) for m in ideal), *(float(m.max()) for m in delivered), 1e-9)
    n_columns = min(len(ideal), _MAPS_PER_ROW)
    n_blocks = -(-len(ideal) // n_columns)
    x_reach = max(float(np.abs(x).max()) for x, _ in edges)
    y_reach = max(float(np.abs(y).max()) for _, y in edges)
    panel = 2.0 if n_columns == _MAPS_PER_ROW else 2.5
    size = (n_columns * (panel + 0.15) + 1.2, n_blocks * 2 * (panel * y_reach / x_reach + 0.45) + 0.3)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained", facecolor="none")
        grid = figure.subplots(2 * n_blocks, n_columns, squeeze=False)
        for axes in grid.flat[:]:
            axes.set_visible(False)
        for b, beam in enumerate(plan.beams):
            row, column = 2 * (b // n_columns), b % n_columns
            images = (
                ("ideal", beam.x_edges_mm, beam.y_edges_mm, ideal[b]),
                ("delivered", *edges[b], delivered[b]),
            )
            for axes, (kind, x, y, fluence) in zip(grid[row : row + 2, column], images, strict=True):
                mesh = axes.pcolormesh(x, y, fluence, cmap="cividis", vmin=0, vmax=top, rasterized=True)
                axes.set(
                    visible=True, aspect="equal", facecolor="none", xlim=(-x_reach, x_reach), ylim=(-y_reach, y_reach),
                    xticks=_ticks(x_reach), yticks=_ticks(y_reach),
                )  # fmt: skip
                axes.set_title(f"{b + 1} · {beam.angles.gantry_deg:g}° · {kind}", fontsize=8, pad=3)
                axes.tick_params(length=2, labelleft=column == 0)
        figure.supxlabel("Xb / mm", fontsize=9)
        figure.supylabel("Yb / mm", fontsize=9)
        bar = figure.colorbar(mesh, ax=grid, shrink=min(1.0, 3.0 / size[1]), pad=0.01, aspect=25)
        bar.set_label("Fluence / MU per fraction")
        return inline_svg(figure, "Fluence maps, ideal and delivered")


def _pixel_edges(low_mm: float, high_mm: float) -> NDArray[np.float64]:
    """Edges of pixels of about 1 mm between two jaws."""
    return np.linspace(low_mm, high_mm, max(1, round(high_mm - low_mm)) + 1)


def _ticks(reach_mm: float) -> list[float]:
    """Zero and one round number to each side."""
    side = 10 * np.floor(0.09 * reach_mm) or np.floor(0.9 * reach_mm)
    return [-float(side), 0.0, float(side)]
