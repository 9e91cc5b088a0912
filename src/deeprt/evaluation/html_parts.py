"""Pieces of HTML that the pages of plans and evaluations are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources

from deeprt.evaluation.criteria import Criterion, CriterionResult
from deeprt.evaluation.evaluate import PlanReport, StructureReport
from deeprt.evaluation.metrics import DEFINITIONS
from deeprt.evaluation.report import RESEARCH_ONLY, metrics_entry
from deeprt.structures import Role

DOSES = ("D98", "D95", "D50", "D2", "Dmin", "Dmax", "Dmean")
INDICES = {
    "homogeneity": "Homogeneity",
    "homogeneity_index": "Homogeneity index",
    "conformity_index": "Conformity index",
    "van_t_riet": "van 't Riet",
    "r50": "R50",
}
ROLES = {
    Role.TARGET: "target",
    Role.ORGAN_AT_RISK: "organ at risk",
    Role.EXTERNAL: "external",
    Role.TUNING: "tuning",
    Role.SUPPORT: "support",
    Role.BOLUS: "bolus",
    Role.OTHER: "other",
}


def page(title: str, subtitle: str, kind: str, body: str) -> str:
    """A whole page: everything inline, nothing loaded from elsewhere.

    Parameters
    ----------
    title, subtitle, kind : text, such as the case, its prescription, and *plan report*
    body : HTML
    """
    css = (resources.files("deeprt") / "data" / "report.css").read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} – {escape(kind)}</title>
<style>
{css}</style>
</head>
<body>
<header><h1>{escape(title)}</h1>
<p>{escape(subtitle)}</p></header>
<p class="banner">{RESEARCH_ONLY}</p>
{body}
</body>
</html>
"""


def tiles(facts: Sequence[tuple[str, str]]) -> str:
    """A strip of boxes, each a value with what it means."""
    boxes = "".join(f"<div><b>{escape(value)}</b><span>{escape(meaning)}</span></div>" for value, meaning in facts)
    return f'<div class="strip">{boxes}</div>'


def section(title: str, body: str) -> str:
    """A titled section of the page; its body is HTML."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>\n"


def details(summary: str, body: str) -> str:
    """HTML that is folded away behind a summary."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def figure(svg: str, caption: str, *, kind: str = "") -> str:
    """A picture with its caption."""
    return f'<figure class="{kind}">{svg}<figcaption>{escape(caption)}</figcaption></figure>'


def structure_label(name: str, colors: Mapping[str, str]) -> str:
    """A structure's name behind its color."""
    return f'<span class="swatch" style="background:{colors[name]}"></span>{escape(name)}'


def legend(names: Sequence[str], colors: Mapping[str, str]) -> str:
    """Names of structures behind their colors."""
    return f'<ul class="legend">{"".join(f"<li>{structure_label(n, colors)}</li>" for n in names)}</ul>'


def defined(label: str, key: str) -> str:
    """A label that shows the definition of a metric when pointed at."""
    return f'<abbr title="{escape(DEFINITIONS[key])}">{escape(label)}</abbr>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: Sequence[int] = (0,)) -> str:
    """A table of cells that are HTML already; all but the text columns are aligned to the right."""

    def row(tag: str, cells: Sequence[str]) -> str:
        return "".join(
            f'<{tag} class="text">{c}</{tag}>' if n in text_columns else f"<{tag}>{c}</{tag}>"
            for n, c in enumerate(cells)
        )

    body = "".join(f"<tr>{row('td', r)}</tr>" for r in rows)
    return f'<div class="scroll"><table><thead><tr>{row("th", head)}</tr></thead><tbody>{body}</tbody></table></div>'


def notes_section(notes: Sequence[str]) -> str:
    """What was assumed on the way; nothing where there is nothing to say."""
    return (
        section("Notes", f"<ul class='notes'>{''.join(f'<li>{escape(n)}</li>' for n in notes)}</ul>") if notes else ""
    )


def dvh_section(
    plot: str, caption: str, reports: Sequence[PlanReport], heads: Sequence[str], colors: Mapping[str, str]
) -> str:
    """DVHs beside the indices of every target.

    Parameters
    ----------
    plot : SVG
    reports, heads : whose indices stand in a column each; the first one's structures are named below the plot
    """
    shown = [s.name for s in reports[0].structures if s.role not in (Role.TUNING, Role.EXTERNAL)]
    indices = []
    for target in reports[0].targets:
        entries = [metrics_entry(r.structure(target.name)) for r in reports]
        rows = [[defined(label, key), *(f"{e[key]:.3f}" for e in entries)] for key, label in INDICES.items()]
        indices.append(table([structure_label(target.name, colors), *heads], rows))
    left = figure(plot, caption) + legend(shown, colors)
    return section("Dose-volume histograms", f'<div class="pair"><div>{left}</div><div>{"".join(indices)}</div></div>')


def signed_difference(value: float, reference: float) -> str:
    """Difference to two decimals with its sign; no minus before zero."""
    return f"{round(value - reference, 2) + 0.0:+.2f}"


def versions_table(versions: Mapping[str, str]) -> str:
    """Table of package versions."""
    return table(["Package", "Version"], [[escape(name), escape(version)] for name, version in versions.items()])


def metrics_table(structures: Sequence[StructureReport], colors: Mapping[str, str]) -> str:
    """Volume and doses of structures."""
    rows = []
    for s in structures:
        entry = metrics_entry(s)
        doses = (f"{entry[key]:.2f}" for key in DOSES)
        rows.append([structure_label(s.name, colors), ROLES[s.role], f"{entry['volume_cc']:.1f}", *doses])
    head = [defined(f"{key} / Gy", key) for key in DOSES]
    return table(["Structure", "Role", defined("Volume / cc", "volume_cc"), *head], rows, text_columns=(0, 1))


def definitions() -> str:
    """What each metric is, folded away."""
    listing = "".join(f"<dt>{escape(key)}</dt><dd>{escape(text)}</dd>" for key, text in DEFINITIONS.items())
    return details("Definitions", f"<dl>{listing}</dl>")


def goals_section(report: PlanReport, reference: PlanReport | None = None) -> str:
    """Goals of a dose, and what they come to for a reference."""
    if not report.goals and not report.not_applicable:
        return ""
    skipped = "".join(
        f"<li>{escape(n.criterion.structure)} {escape(goal_text(n.criterion))}: {escape(n.reason)}</li>"
        for n in report.not_applicable
    )
    rows = [_goal_row(r, reference.goals[n] if reference else None) for n, r in enumerate(report.goals)]
    values = ["", "Value"] if reference is None else ["Dose", "Value", "Reference", "Value"]
    head = ["Structure", "Goal", *values, "Priority", "Source, note"]
    text_columns = [n for n, title in enumerate(head) if title != "Value"]
    body = table(head, rows, text_columns=text_columns)
    return section("Goals", body + (f"<h3>Not applicable</h3><ul class='notes soft'>{skipped}</ul>" if skipped else ""))


def goal_text(criterion: Criterion) -> str:
    """Write a goal, such as *V60Gy ≤ 35 %*."""
    relation = {"<=": "≤", ">=": "≥"}[criterion.relation]
    return f"{criterion.metric} {relation} {criterion.limit:g} {criterion.unit}"


def _goal_row(result: CriterionResult, reference: CriterionResult | None) -> list[str]:
    verdicts = []
    for r in filter(None, (result, reference)):
        verdicts.append('<span class="met">✓ met</span>' if r.met else '<span class="missed">✗ missed</span>')
        verdicts.append(f"{r.value:.1f} {r.criterion.unit}")
    remarks = "; ".join(filter(None, (result.criterion.source, result.note)))
    goal = escape(goal_text(result.criterion))
    return [escape(result.structure), goal, *verdicts, escape(result.criterion.priority), escape(remarks)]
