"""The page of a commissioned machine: every measured curve with the model's over it."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from deeprt.commissioning.agreement import DISTANCE_MM, DOSE_PERCENT, Agreement, CurveAgreement
from deeprt.commissioning.measurements import Measurements
from deeprt.evaluation.figure_style import INK, STYLE, inline_svg
from deeprt.evaluation.html_parts import figure, page, section, table, tiles
from deeprt.machine import Machine

_COLORS = ("#2f8fd0", "#3aa655", "#e8853a", "#9a6bd1", "#b08a1e", "#1fa5a5", "#d65aa0", "#6f7fe0", "#e0403a")


def commissioning_page(machine: Machine, data: Measurements, agreed: Agreement) -> str:
    """Make the page: figures of depth doses, profiles, head scatter and horns, and the table of deviations."""
    depth_of_maximum = next(
        c.position_mm[c.measured_percent.argmax()] for c in agreed.depth_doses if c.field_mm == machine.output.field_mm
    )
    judged = np.concatenate([c.gamma[c.judged] for c in agreed.curves])
    facts = [
        (f"{agreed.largest_percent:.2f} %", "largest deviation of a depth dose beyond its maximum"),
        (f"{max(abs(o.deviation_percent) for o in agreed.outputs):.2f} %", "largest deviation of an output factor"),
        (f"{100 * np.mean(judged <= 1):.1f} %", f"of all points within gamma {DOSE_PERCENT:g} %/{DISTANCE_MM:g} mm"),
        (f"{depth_of_maximum:g} mm", "measured depth of maximum of the reference field"),
    ]
    body = tiles(facts)
    body += section("Depth doses", figure(_depth_doses(agreed.depth_doses), _CAPTION))
    body += section(
        "Profiles", figure(_profiles(agreed), "Lines: model. Points: measurements, normalized on the axis.")
    )
    body += section(
        "Head scatter and horns", figure(_scatter_and_horns(machine, data), "As they stand in the machine file.")
    )
    body += section("Deviations", _deviations(agreed))
    subtitle = f"{machine.energy_mv:g} MV; {data.conditions.source}"
    return page(machine.name, subtitle, "commissioning", body)


_CAPTION = (
    "Lines: model. Points: measurements in percent of each curve's maximum, compared absolutely: the model's output"
    " factor is part of its curve. Points before the maximum are not judged."
)


def deviation_rows(agreed: Agreement) -> list[list[str]]:
    """Kind, field, depth, largest and mean deviation in percent of the maximum, pass rate; a row a curve, as text."""
    rows = []
    for c in agreed.curves:
        depth = "" if c.depth_mm is None else f"{c.depth_mm:g}"
        deviation = np.abs(c.deviation_percent)
        rows.append([c.kind, f"{c.field_mm:g}", depth, f"{deviation.max():.2f}", f"{deviation.mean():.2f}",
                     f"{100 * c.pass_rate:.1f}"])  # fmt: skip
    return rows


def _deviations(agreed: Agreement) -> str:
    criteria = f"Gamma {DOSE_PERCENT:g} %/{DISTANCE_MM:g} mm passed / %"
    head = ["Curve", "Field / mm", "Depth / mm", "Largest deviation / %", "Mean deviation / %", criteria]
    outputs = [[f"{o.field_mm:g}", f"{o.measured:.4f}", f"{o.model:.4f}", f"{o.deviation_percent:+.2f}"]
               for o in agreed.outputs]  # fmt: skip
    return (
        table(head, deviation_rows(agreed))
        + "<h3>Output factors</h3>"
        + table(["Field / mm", "Measured", "Model", "Deviation / %"], outputs, text_columns=())
    )


def _depth_doses(curves: Sequence[CurveAgreement]) -> str:
    with matplotlib.rc_context(STYLE):
        drawing = Figure(figsize=(8.6, 4.6), layout="constrained", facecolor="none")
        axes = drawing.add_subplot(facecolor="none")
        for c, color in zip(curves, _cycled(len(curves)), strict=True):
            axes.plot(c.position_mm, c.model_percent, color=color, linewidth=1.2, label=f"{c.field_mm:g} mm")
            axes.plot(c.position_mm, c.measured_percent, ".", color=color, markersize=4)
        axes.grid(color=INK, alpha=0.13, linewidth=0.5)
        axes.set(xlabel="Depth / mm", ylabel="Dose / % of the maximum", ylim=(0, None), xlim=(0, None))
        axes.legend(title="Field side", frameon=False, ncols=2)
        return inline_svg(drawing, "Depth doses of the square fields, measured and modeled")


def _profiles(agreed: Agreement) -> str:
    fields = sorted({c.field_mm for c in agreed.profiles})
    with matplotlib.rc_context(STYLE):
        n_rows = (len(fields) + 1) // 2
        drawing = Figure(figsize=(8.6, 2.9 * n_rows), layout="constrained", facecolor="none")
        for place, field in enumerate(fields, start=1):
            axes = drawing.add_subplot(n_rows, 2, place, facecolor="none")
            curves = [c for c in agreed.profiles if c.field_mm == field]
            for c, color in zip(curves, _cycled(len(curves)), strict=True):
                axes.plot(c.position_mm, c.model_percent, color=color, linewidth=1.2, label=f"{c.depth_mm:g} mm deep")
                axes.plot(c.position_mm, c.measured_percent, ".", color=color, markersize=3)
            axes.grid(color=INK, alpha=0.13, linewidth=0.5)
            axes.set_title(f"Field of {field:g} mm", fontsize=9)
            axes.set(xlabel="Distance from the axis / mm", ylabel="Dose / %", ylim=(0, None))
            axes.legend(frameon=False, fontsize=7, loc="lower center")
        return inline_svg(drawing, "Profiles of the square fields, measured and modeled")


def _scatter_and_horns(machine: Machine, data: Measurements) -> str:
    with matplotlib.rc_context(STYLE):
        drawing = Figure(figsize=(8.6, 2.9), layout="constrained", facecolor="none")
        scatter, horns = (drawing.add_subplot(1, 2, place, facecolor="none") for place in (1, 2))
        scatter.plot(machine.head_scatter.field_mm, machine.head_scatter.factor, ".-", color=_COLORS[0], label="model")
        if data.in_air_factor:
            fields = sorted(data.in_air_factor)
            in_air = [data.in_air_factor[f] for f in fields]
            scatter.plot(fields, in_air, "x", color=INK, markersize=5, label="measured in air")
        scatter.legend(frameon=False)
        scatter.set(xlabel="Side of the collimator opening / mm", ylabel="In-air output ratio S_c")
        horns.plot(machine.off_axis.radius_mm, machine.off_axis.ratio, ".-", color=_COLORS[0])
        horns.set(xlabel="Distance from the axis at the isocenter / mm", ylabel="Off-axis ratio Ψ")
        for axes in (scatter, horns):
            axes.grid(color=INK, alpha=0.13, linewidth=0.5)
        return inline_svg(drawing, "In-air output ratio and off-axis ratio")


def _cycled(n: int) -> list[str]:
    return [_COLORS[i % len(_COLORS)] for i in range(n)]
