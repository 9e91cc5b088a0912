"""The report as one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape

from deeprt.evaluation import report_figures as figures
from deeprt.evaluation.dose_figure import WASH_FROM_PERCENT, dose_planes
from deeprt.evaluation.figure_style import structure_colors
from deeprt.evaluation.html_parts import (
    defined,
    definitions,
    details,
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
from deeprt.evaluation.report import ReportContents, metrics_entry
from deeprt.structures import Role


def html_page(contents: ReportContents) -> str:
    """Make the page: everything inline, nothing loaded from elsewhere."""
    case = contents.case
    prescriptions = "; ".join(f"{t.name} {t.prescription_gy:g} Gy" for t in case.targets)
    fractions = f"{case.n_fractions} fraction{'s' if case.n_fractions > 1 else ''}"
    colors = structure_colors(case)
    dvhs = figures.dvh_plot(case, contents.report, contents.ideal_report)
    sections = (
        _dose_section(contents, colors),
        dvh_section(dvhs, _DVH_CAPTION, [contents.report], [""], colors),
        goals_section(contents.report),
        _metrics_section(contents, colors),
        _beams_section(contents),
        section("Fluence maps", figure(figures.fluence_maps(contents), _FLUENCE_CAPTION)),
        _comparison_section(contents, colors),
        notes_section(contents.notes),
        _run_section(contents),
    )
    subtitle = f"{prescriptions} in {fractions} · {case.position} · {contents.plan.machine.name}"
    return page(case.case_id, subtitle, "plan report", _summary(contents) + "\n" + "".join(sections))


_DVH_CAPTION = "Solid: delivered dose. Thin dashed: dose of the ideal fluence. Dotted: prescriptions."
_FLUENCE_CAPTION = (
    "Above, the ideal fluence map on its beamlets; below, what the segments deliver (open area times MU, and the "
    "leaves' transmission within the jaws). Seen from the source, at the isocenter plane; one scale for all."
)


def _summary(contents: ReportContents) -> str:
    plan, report = contents.plan, contents.report
    facts = []
    for target in report.targets:
        m, prescription = target.metrics, target.prescription_gy or 1.0
        d95, d2 = 100 * m.d95_gy / prescription, 100 * m.d2_gy / prescription
        facts.append((f"{m.d95_gy:.1f} Gy", f"{target.name} D95, {d95:.1f} %; D2 {m.d2_gy:.1f} Gy, {d2:.1f} %"))
    facts.append((f"{plan.total_mu:.0f} MU", "per fraction, all beams"))
    facts.append((f"{len(plan.segments)}", f"segments in {len(plan.beams)} beams, {plan.technique}"))
    if report.goals:
        facts.append((f"{sum(g.met for g in report.goals)} of {len(report.goals)}", "goals met"))
    facts.append((f"{sum(contents.timing_s.values()):.1f} s", "planning time"))
    return tiles(facts)


def _dose_section(contents: ReportContents, colors: Mapping[str, str]) -> str:
    shown = [s.name for s in contents.case.structures if s.role is not Role.TUNING and not s.is_empty]
    caption = (
        "Delivered dose, whole course, on the planes of voxels nearest to the isocenter (cross). Color wash from "
        f"{WASH_FROM_PERCENT} % of the highest prescription; isodose lines at the marks of the scale."
    )
    picture = figure(
        dose_planes(contents.case, contents.dose_gy, contents.plan.beams[0].isocenter_lps), caption, kind="night"
    )
    return section("Dose", picture + legend(shown, colors))


def _metrics_section(contents: ReportContents, colors: Mapping[str, str]) -> str:
    structures = contents.report.structures
    shown = [s for s in structures if s.role is not Role.TUNING]
    tuning = [s for s in structures if s.role is Role.TUNING]
    return section(
        "Metrics of the delivered dose",
        metrics_table(shown, colors)
        + (details("Tuning structures, which steer the optimizer", metrics_table(tuning, colors)) if tuning else "")
        + definitions(),
    )


def _beams_section(contents: ReportContents) -> str:
    plan = contents.plan
    rows = [
        [
            str(number),
            escape(beam.name),
            *(f"{a:.1f}" for a in (beam.angles.gantry_deg, beam.angles.couch_deg, beam.angles.collimator_deg)),
            f"{plan.beam_mu(number - 1):.1f}",
            str(len(plan.segments_of(number - 1))),
        ]
        for number, beam in enumerate(plan.beams, start=1)
    ]
    rows.append(["", "All", "", "", "", f"{plan.total_mu:.1f}", str(len(plan.segments))])
    head = ["#", "Beam", "Gantry / °", "Couch / °", "Collimator / °", "MU per fraction", "Segments"]
    isocenter = ", ".join(f"{x:.1f}" for x in plan.beams[0].isocenter_lps)
    facts = (
        f"<p class='soft'>{escape(plan.machine.name)}, {plan.machine.energy_mv:g} MV, {plan.technique}. "
        f"Isocenter of beam 1 at ({isocenter}) mm LPS. Angles after IEC 61217.</p>"
    )
    drawing = figure(
        figures.beam_drawing(contents),
        "Directions seen from the feet, gantry scale outside; dashed: not in this plane.",
    )
    return section(
        "Beams", f'<div class="pair"><div>{table(head, rows, text_columns=(1,))}{facts}</div>{drawing}</div>'
    )


def _comparison_section(contents: ReportContents, colors: Mapping[str, str]) -> str:
    keys = ("D95", "D50", "D2", "Dmean")
    rows = []
    for s in contents.report.structures:
        if s.role is Role.TUNING:
            continue
        delivered, ideal = metrics_entry(s), metrics_entry(contents.ideal_report.structure(s.name))
        cells = (
            f"{delivered[k]:.2f} <span class='soft'>{signed_difference(delivered[k], ideal[k])}</span>" for k in keys
        )
        rows.append([structure_label(s.name, colors), *cells])
    rows_table = table(["Structure", *(defined(f"{k} / Gy", k) for k in keys)], rows)
    text = (
        "<p class='soft'>The delivered dose is that of the segments; the small number is its difference from the dose "
        f"of the ideal fluence. Ideal fluence: {escape(contents.solution.source)}, objective "
        f"{contents.solution.objective:.5g} after {len(contents.solution.history)} iterations, "
        f"{'converged' if contents.solution.converged else 'stopped before convergence'}.</p>"
    )
    return section("Delivered and ideal dose", rows_table + text)


def _run_section(contents: ReportContents) -> str:
    timing = [[escape(step), f"{seconds:.2f}"] for step, seconds in contents.timing_s.items()]
    timing.append(["All", f"{sum(contents.timing_s.values()):.2f}"])
    settings = escape(json.dumps(dict(contents.settings), indent=2, ensure_ascii=False, default=str))
    facts = f"<p class='soft'>Peak memory {contents.peak_memory_mb:.0f} MB. Seed {contents.seed}.</p>"
    return section(
        "How it was made",
        f'<div class="pair even"><div>{table(["Step", "Time / s"], timing)}{facts}</div>'
        f"<div>{versions_table(contents.versions)}</div></div>" + details("Settings", f"<pre>{settings}</pre>"),
    )
