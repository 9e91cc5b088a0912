"""The page of an evaluated dose, alone or side by side with a reference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from deeprt.case import PatientCase
from deeprt.evaluation.compare import DoseComparison
from deeprt.evaluation.comparison_figure import comparison_planes
from deeprt.evaluation.comparison_report import EvaluationContents, NamedDose
from deeprt.evaluation.dose_figure import WASH_FROM_PERCENT, dose_planes
from deeprt.evaluation.evaluate import PlanReport
from deeprt.evaluation.figure_style import structure_colors
from deeprt.evaluation.html_parts import (
    DOSES,
    defined,
    definitions,
    dvh_section,
    figure,
    goals_section,
    legend,
    metrics_table,
    notes_section,
    page,
    section,
    signed_difference,
    structure_label,
    table,
    tiles,
    versions_table,
)
from deeprt.evaluation.report import metrics_entry
from deeprt.evaluation.report_figures import dvh_plot
from deeprt.structures import Role


def html_page(contents: EvaluationContents) -> str:
    """Make the page: everything inline, nothing loaded from elsewhere."""
    case = contents.case
    colors = structure_colors(case)
    subtitle = contents.dose.name
    if contents.reference is not None:
        subtitle += f" against {contents.reference.name}"
    if contents.reference is not None and contents.comparison is not None:
        body = _side_by_side(contents, contents.reference, contents.comparison, colors)
    else:
        body = _alone(contents, colors)
    body += notes_section(contents.notes)
    if contents.versions:
        body += section("How it was made", versions_table(contents.versions))
    return page(case.case_id, subtitle, "evaluation of a dose", body)


def _alone(contents: EvaluationContents, colors: Mapping[str, str]) -> str:
    case, report = contents.case, contents.report
    caption = (
        f"Dose, whole course, on the planes of voxels nearest to the cross. {_WASH} Isodose lines at the marks of the "
        "scale."
    )
    picture = figure(dose_planes(case, contents.dose.dose_gy, point_of_interest(contents)), caption, kind="night")
    shown = [s for s in report.structures if s.role is not Role.TUNING]
    return (
        _summary(report, None)
        + section("Dose", picture + _outlines(case, colors))
        + _dvh_section(case, report, None, colors)
        + goals_section(report)
        + section("Metrics", metrics_table(shown, colors) + definitions())
    )


_WASH = f"Color wash from {WASH_FROM_PERCENT} % of the highest prescription (without one, of the largest dose)."


def _side_by_side(
    contents: EvaluationContents, reference: NamedDose, comparison: DoseComparison, colors: Mapping[str, str]
) -> str:
    case = contents.case
    settings = comparison.settings
    caption = (
        "Whole-course doses on the planes of voxels nearest to the cross, both on one scale. "
        f"{_WASH} Difference: red where the dose is higher than the reference, blue where it is lower; the scale ends "
        "where 99.5 % of the voxels with dose lie within. "
        f"Gamma {comparison.gamma[0].criterion} inside the external structure above {settings.threshold_percent:g} % "
        "of the reference's largest dose."
    )
    picture = comparison_planes(case, contents.dose.dose_gy, reference.dose_gy, comparison, point_of_interest(contents))
    return (
        _summary(contents.report, comparison)
        + section("Doses side by side", figure(picture, caption, kind="night") + _outlines(case, colors))
        + _dvh_section(case, contents.report, comparison, colors)
        + goals_section(comparison.report, comparison.reference_report)
        + _metrics_section(comparison, colors)
        + _difference_section(comparison, colors)
        + _gamma_section(comparison)
    )


def point_of_interest(contents: EvaluationContents) -> NDArray[np.float64]:
    """Where the planes cross, (3,), LPS, mm: the targets' centroid, or that of the dose above half its peak."""
    case = contents.case
    if case.targets:
        return case.isocenter_lps()
    dose = contents.dose.dose_gy
    return np.asarray(case.grid.points_lps(np.flatnonzero(dose >= 0.5 * dose.max())).mean(axis=0))


def _summary(report: PlanReport, comparison: DoseComparison | None) -> str:
    facts = []
    for target in report.targets:
        percent = 100 / (target.prescription_gy or 1.0)
        text = f"{target.name} D95, {target.metrics.d95_gy * percent:.1f} %"
        if comparison is not None:
            text += f"; reference {comparison.reference_report.structure(target.name).metrics.d95_gy:.1f} Gy"
        facts.append((f"{target.metrics.d95_gy:.1f} Gy", text))
    if report.goals:
        text = "goals met"
        if comparison is not None:
            text += f"; reference {sum(g.met for g in comparison.reference_report.goals)}"
        facts.append((f"{sum(g.met for g in report.goals)} of {len(report.goals)}", text))
    if comparison is not None:
        kind = "local" if comparison.settings.local else "global"
        facts += [(f"{100 * g.pass_rate:.1f} %", f"gamma {g.criterion} pass rate, {kind}") for g in comparison.gamma]
    return tiles(facts) if facts else ""


def _outlines(case: PatientCase, colors: Mapping[str, str]) -> str:
    return legend([s.name for s in case.structures if s.role is not Role.TUNING and not s.is_empty], colors)


def _dvh_section(
    case: PatientCase, report: PlanReport, comparison: DoseComparison | None, colors: Mapping[str, str]
) -> str:
    if comparison is None:
        return dvh_section(dvh_plot(case, report, None), "Dotted: prescriptions.", [report], ["Dose"], colors)
    reference = comparison.reference_report
    caption = "Solid: dose. Dashed: reference. Dotted: prescriptions."
    return dvh_section(dvh_plot(case, report, reference), caption, [report, reference], ["Dose", "Reference"], colors)


def _metrics_section(comparison: DoseComparison, colors: Mapping[str, str]) -> str:
    rows = []
    for s in comparison.report.structures:
        if s.role is Role.TUNING:
            continue
        dose, reference = metrics_entry(s), metrics_entry(comparison.reference_report.structure(s.name))
        cells = (
            f"{dose[key]:.2f} | {reference[key]:.2f}<br><span class='soft'>"
            f"{signed_difference(dose[key], reference[key])}</span>"
            for key in DOSES
        )
        rows.append([structure_label(s.name, colors), f"{dose['volume_cc']:.1f}", *cells])
    head = ["Structure", defined("Volume / cc", "volume_cc"), *(defined(f"{key} / Gy", key) for key in DOSES)]
    note = "<p class='soft'>Dose | reference; the small number is the dose minus the reference.</p>"
    return section("Metrics side by side", table(head, rows) + note + definitions())


def _difference_section(comparison: DoseComparison, colors: Mapping[str, str]) -> str:
    rows = [
        [
            structure_label(s.name, colors),
            *(f"{v:+.2f}" for v in (s.mean_gy, s.min_gy, s.max_gy)),
            *(f"{v:.2f}" for v in (s.mean_absolute_gy, s.rms_gy)),
            f"{s.rss:.4f}",
        ]
        for s in comparison.structures
        if s.role is not Role.TUNING
    ]
    head = ["Structure", "Mean / Gy", "Least / Gy", "Largest / Gy", "Mean size / Gy", "Root mean square / Gy", "RSS"]
    note = (
        "<p class='soft'>Dose minus reference, voxels weighted by their share inside. RSS: residual sum of squares of "
        "the two DVHs, volumes from 0 to 1, over relative doses in steps of 1 % of "
        f"{comparison.relative_to_gy:.4g} Gy (Lee et al., Sci. Rep. 9, 15671, 2019, equation 3).</p>"
    )
    return section("Differences in the structures", table(head, rows) + note)


def _gamma_section(comparison: DoseComparison) -> str:
    settings = comparison.settings
    rows = [[str(g.criterion), f"{100 * g.pass_rate:.2f}", f"{g.mean:.3f}", f"{g.n_voxels}"] for g in comparison.gamma]
    kind = "of the dose at the voxel (local)" if settings.local else "of the reference's largest dose (global)"
    note = (
        f"<p class='soft'>Dose tolerance in percent {kind}; voxels inside the external structure with at least "
        f"{settings.threshold_percent:g} % of the reference's largest dose; the dose is interpolated in steps of "
        f"1/{settings.interpolation} of the distance; values above {settings.max_gamma:g} count as that.</p>"
    )
    return section("Gamma", table(["Criterion", "Pass rate / %", "Mean gamma", "Voxels"], rows) + note)
