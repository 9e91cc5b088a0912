"""What the sections of the experiments' report share: their form, and tables in Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from deeprt.training.experiments.statistics import METHOD_NAMES, TEACHER, Json, Plan, Summary, compared, summarize

ABSENT = "—"
_FOLDERS = "--data work/prostate --runs work/boo --out work/experiments"
_KEPT = ("|", "```", "![")


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Parameters
    ----------
    title : its heading
    text : Markdown below it
    numbers : quoted there, by name
    """

    title: str
    text: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


def not_run(title: str, file: str) -> Section:
    """The section of an experiment without results."""
    return Section(title, f"Not run: there is no `{file}` among the results.")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown table; the cells of the first column are text, the others numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shell(*lines: str) -> str:
    """Commands."""
    return "\n".join(("```sh", *lines, "```"))


def command(experiment: str, options: str = "") -> str:
    """The command that an experiment's numbers were made with."""
    return f"python -m deeprt.training.experiments {_FOLDERS} --only {experiment}{options and ' '}{options}"


def percent(share: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """A share in percent, or a dash."""
    return ABSENT if share is None else f"{100 * share:{'+' if signed else ''}.{digits}f} %"


def paragraphs(*parts: str) -> str:
    """Parts with an empty line between them; text is wrapped, tables, commands and pictures are not."""
    return "\n\n".join(p if p.startswith(_KEPT) else _wrapped(p) for p in parts if p)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


SUMMARY_HEADER = (
    "Plans", "Mean excess", "Median", "Worst", "Within 5 %", "Gap closed, mean", "Median", "Pooled", "No gap",
)  # fmt: skip


def summary_cells(s: Summary) -> list[str]:
    """Cells below `SUMMARY_HEADER`."""
    excess = [percent(v, signed=True) for v in (s.mean, s.median, s.worst)]
    gaps = [percent(v, 1) for v in (s.gap_mean, s.gap_median, s.gap_pooled)]
    return [str(s.n), *excess, percent(s.within, 1), *gaps, str(s.n_without_gap)]


def method_table(plans: Sequence[Plan]) -> tuple[dict[str, Json], str]:
    """Summaries of all methods but column generation, as numbers and as a table."""
    found = {m: compared(plans, m) for m in methods_of({p.method: None for p in plans}) if m != TEACHER}
    summaries = {m: summarize(rows) for m, rows in found.items()}
    lines = [[name_of(m), *summary_cells(s)] for m, s in summaries.items()]
    return {m: asdict(s) for m, s in summaries.items()}, table(["Method", *SUMMARY_HEADER], lines)


def methods_of(found: Iterable[str]) -> list[str]:
    """Methods in the order of the page; those it does not know come last."""
    there = list(found)
    return [m for m in METHOD_NAMES if m in there] + [m for m in there if m not in METHOD_NAMES]


def name_of(method: str) -> str:
    """What the page calls a method."""
    return METHOD_NAMES.get(method, method)
