"""The report as one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources

from deeprt.evaluation import report_figures as figures
from deeprt.evaluation.criteria import Criterion, CriterionResult
from deeprt.evaluation.dose_figure import WASH_FROM_PERCENT, dose_planes
from deeprt.evaluation.evaluate import StructureReport
from deeprt.evaluation.figure_style import structure_colors
from deeprt.evaluation.metrics import DEFINITIONS
from deeprt.evaluation.report import RESEARCH_ONLY, ReportContents, metrics_entry
from deeprt.structures import Role

_DOSES = ("D98", "D95", "D50", "D2", "Dmin", "Dmax", "Dmean")
_INDICES = {
    "homogeneity": "Homogeneity",
    "homogeneity_index": "Homogeneity index",
    "conformity_index": "Conformity index",
    "van_t_riet": "van 't Riet",
    "r50": "R50",
}
_ROLES = {
    Role.TARGET: "target",
    Role.ORGAN_AT_RISK: "organ at risk",
    Role.EXTERNAL: "external",
    Role.TUNING: "tuning",
    Role.OTHER: "other",
}


def html_page(contents: ReportContents) -> str:
    """Make the page: everything inline, nothing loaded from elsewhere."""
    case = contents.case
    css = (resources.files("deeprt") / "data" / "report.css").read_text(encoding="utf-8")
    prescriptions = "; ".join(f"{t.name} {t.prescription_gy:g} Gy" for t in case.targets)
    fractions = f"{case.n_fractions} fraction{'s' if case.n_fractions > 1 else ''}"
    colors = structure_colors(case)
    sections = (
        _dose_section(contents, colors),
        _dvh_section(contents, colors),
        _goals_section(contents),
        _metrics_section(contents, colors),
        _beams_section(contents),
        _section("Fluence maps", _figure(figures.fluence_maps(contents), _FLUENCE_CAPTION)),
        _comparison_section(contents, colors),
        _notes_section(contents),
        _run_section(contents),
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(case.case_id)} – plan report</title>
<style>
{css}</style>
</head>
<body>
<header><h1>{escape(case.case_id)}</h1>
<p>{escape(prescriptions)} in {fractions} · {escape(case.position)} · {escape(contents.plan.machine.name)}</p></header>
<p class="banner">{RESEARCH_ONLY}</p>
{_summary(contents)}
{"".join(sections)}
</body>
</html>
"""


_FLUENCE_CAPTION = (
    "Above, the ideal fluence map on its beamlets; below, what the segments deliver (open area times MU, and the "
    "leaves' transmission within the jaws). Seen from the source, at the isocenter plane; one scale for all."
)


def _summary(contents: ReportContents) -> str:
    plan, report = contents.plan, contents.report
    tiles = []
    for target in report.targets:
        m, prescription = target.metrics, target.prescription_gy or 1.0
        d95, d2 = 100 * m.d95_gy / prescription, 100 * m.d2_gy / prescription
        tiles.append((f"{m.d95_gy:.1f} Gy", f"{target.name} D95, {d95:.1f} %; D2 {m.d2_gy:.1f} Gy, {d2:.1f} %"))
    tiles.append((f"{plan.total_mu:.0f} MU", "per fraction, all beams"))
    tiles.append((f"{len(plan.segments)}", f"segments in {len(plan.beams)} beams"))
    if report.goals:
        tiles.append((f"{sum(g.met for g in report.goals)} of {len(report.goals)}", "goals met"))
    tiles.append((f"{sum(contents.timing_s.values()):.1f} s", "planning time"))
    boxes = "".join(f"<div><b>{escape(value)}</b><span>{escape(meaning)}</span></div>" for value, meaning in tiles)
    return f'<div class="strip">{boxes}</div>'


def _dose_section(contents: ReportContents, colors: Mapping[str, str]) -> str:
    shown = [s.name for s in contents.case.structures if s.role is not Role.TUNING and not s.is_empty]
    caption = (
        "Delivered dose, whole course, on the planes of voxels nearest to the isocenter (cross). Color wash from "
        f"{WASH_FROM_PERCENT} % of the highest prescription; isodose lines at the marks of the scale."
    )
    picture = _figure(dose_planes(contents), caption, kind="night")
    return _section("Dose", picture + _legend(shown, colors))


def _dvh_section(contents: ReportContents, colors: Mapping[str, str]) -> str:
    shown = [s.name for s in contents.report.structures if s.role not in (Role.TUNING, Role.EXTERNAL)]
    caption = "Solid: delivered dose. Thin dashed: dose of the ideal fluence. Dotted: prescriptions."
    plot = _figure(figures.dvh_plot(contents), caption)
    indices = [
        _table(
            [_label(target.name, colors), ""],
            [[_defined(label, key), f"{metrics_entry(target)[key]:.3f}"] for key, label in _INDICES.items()],
        )
        for target in contents.report.targets
    ]
    return _section(
        "Dose-volume histograms",
        f'<div class="pair"><div>{plot}{_legend(shown, colors)}</div><div>{"".join(indices)}</div></div>',
    )


def _goals_section(contents: ReportContents) -> str:
    report = contents.report
    if not report.goals and not report.not_applicable:
        return ""
    skipped = "".join(
        f"<li>{escape(n.criterion.structure)} {escape(_goal(n.criterion))}: {escape(n.reason)}</li>"
        for n in report.not_applicable
    )
    table = _table(
        ["Structure", "Goal", "", "Value", "Priority", "Source, note"],
        [_goal_row(r) for r in report.goals],
        text_columns=(0, 1, 2, 4, 5),
    )
    return _section(
        "Goals",
        table + (f"<h3>Not applicable</h3><ul class='notes soft'>{skipped}</ul>" if skipped else ""),
    )


def _goal_row(result: CriterionResult) -> list[str]:
    verdict = '<span class="met">✓ met</span>' if result.met else '<span class="missed">✗ missed</span>'
    remarks = "; ".join(filter(None, (result.criterion.source, result.note)))
    return [
        escape(result.structure),
        escape(_goal(result.criterion)),
        verdict,
        f"{result.value:.1f} {result.criterion.unit}",
        escape(result.criterion.priority),
        escape(remarks),
    ]


def _goal(criterion: Criterion) -> str:
    relation = {"<=": "≤", ">=": "≥"}[criterion.relation]
    return f"{criterion.metric} {relation} {criterion.limit:g} {criterion.unit}"


def _metrics_section(contents: ReportContents, colors: Mapping[str, str]) -> str:
    structures = contents.report.structures
    shown = [s for s in structures if s.role is not Role.TUNING]
    tuning = [s for s in structures if s.role is Role.TUNING]
    definitions = "".join(f"<dt>{escape(key)}</dt><dd>{escape(text)}</dd>" for key, text in DEFINITIONS.items())
    return _section(
        "Metrics of the delivered dose",
        _metrics_table(shown, colors)
        + (_details("Tuning structures, which steer the optimizer", _metrics_table(tuning, colors)) if tuning else "")
        + _details("Definitions", f"<dl>{definitions}</dl>"),
    )


def _metrics_table(structures: Sequence[StructureReport], colors: Mapping[str, str]) -> str:
    rows = []
    for s in structures:
        entry = metrics_entry(s)
        doses = (f"{entry[key]:.2f}" for key in _DOSES)
        rows.append([_label(s.name, colors), _ROLES[s.role], f"{entry['volume_cc']:.1f}", *doses])
    head = [_defined(f"{key} / Gy", key) for key in _DOSES]
    return _table(["Structure", "Role", _defined("Volume / cc", "volume_cc"), *head], rows, text_columns=(0, 1))


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
        f"<p class='soft'>{escape(plan.machine.name)}, {plan.machine.energy_mv:g} MV, step and shoot. "
        f"Isocenter of beam 1 at ({isocenter}) mm LPS. Angles after IEC 61217.</p>"
    )
    drawing = _figure(
        figures.beam_drawing(contents),
        "Directions seen from the feet, gantry scale outside; dashed: not in this plane.",
    )
    return _section(
        "Beams", f'<div class="pair"><div>{_table(head, rows, text_columns=(1,))}{facts}</div>{drawing}</div>'
    )


def _comparison_section(contents: ReportContents, colors: Mapping[str, str]) -> str:
    keys = ("D95", "D50", "D2", "Dmean")
    rows = []
    for s in contents.report.structures:
        if s.role is Role.TUNING:
            continue
        delivered, ideal = metrics_entry(s), metrics_entry(contents.ideal_report.structure(s.name))
        cells = (
            f"{delivered[k]:.2f} <span class='soft'>{round(delivered[k] - ideal[k], 2) + 0.0:+.2f}</span>" for k in keys
        )
        rows.append([_label(s.name, colors), *cells])
    table = _table(["Structure", *(_defined(f"{k} / Gy", k) for k in keys)], rows)
    text = (
        "<p class='soft'>The delivered dose is that of the segments; the small number is its difference from the dose "
        f"of the ideal fluence. Ideal fluence: {escape(contents.solution.source)}, objective "
        f"{contents.solution.objective:.5g} after {len(contents.solution.history)} iterations, "
        f"{'converged' if contents.solution.converged else 'stopped before convergence'}.</p>"
    )
    return _section("Delivered and ideal dose", table + text)


def _notes_section(contents: ReportContents) -> str:
    if not contents.notes:
        return ""
    return _section("Notes", f"<ul class='notes'>{''.join(f'<li>{escape(n)}</li>' for n in contents.notes)}</ul>")


def _run_section(contents: ReportContents) -> str:
    timing = [[escape(step), f"{seconds:.2f}"] for step, seconds in contents.timing_s.items()]
    timing.append(["All", f"{sum(contents.timing_s.values()):.2f}"])
    versions = [[escape(name), escape(version)] for name, version in contents.versions.items()]
    settings = escape(json.dumps(dict(contents.settings), indent=2, ensure_ascii=False, default=str))
    facts = f"<p class='soft'>Peak memory {contents.peak_memory_mb:.0f} MB. Seed {contents.seed}.</p>"
    return _section(
        "How it was made",
        f'<div class="pair even"><div>{_table(["Step", "Time / s"], timing)}{facts}</div>'
        f"<div>{_table(['Package', 'Version'], versions)}</div></div>" + _details("Settings", f"<pre>{settings}</pre>"),
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>\n"


def _details(summary: str, body: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def _figure(svg: str, caption: str, *, kind: str = "") -> str:
    return f'<figure class="{kind}">{svg}<figcaption>{escape(caption)}</figcaption></figure>'


def _label(name: str, colors: Mapping[str, str]) -> str:
    return f'<span class="swatch" style="background:{colors[name]}"></span>{escape(name)}'


def _legend(names: Sequence[str], colors: Mapping[str, str]) -> str:
    return f'<ul class="legend">{"".join(f"<li>{_label(n, colors)}</li>" for n in names)}</ul>'


def _defined(label: str, key: str) -> str:
    """A label that shows the definition of a metric when pointed at."""
    return f'<abbr title="{escape(DEFINITIONS[key])}">{escape(label)}</abbr>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: Sequence[int] = (0,)) -> str:
    """A table of cells that are HTML already; all but the text columns are aligned to the right."""

    def row(tag: str, cells: Sequence[str]) -> str:
        return "".join(
            f'<{tag} class="text">{c}</{tag}>' if n in text_columns else f"<{tag}>{c}</{tag}>"
            for n, c in enumerate(cells)
        )

    body = "".join(f"<tr>{row('td', r)}</tr>" for r in rows)
    return f'<div class="scroll"><table><thead><tr>{row("th", head)}</tr></thead><tbody>{body}</tbody></table></div>'
