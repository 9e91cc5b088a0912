"""What the sections of the experiments' report share: commands, methods and their summaries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from deeprt.training.experiments.statistics import METHOD_NAMES, TEACHER, Plan, Summary, compared, summarize
from deeprt.training.measuring.page import percent, table
from deeprt.training.measuring.results import Json

_FOLDERS = "--data work/prostate --runs work/boo --out work/experiments"
SUMMARY_HEADER = (
    "Plans", "Mean excess", "Median", "Worst", "Within 5 %", "Gap closed, mean", "Median", "Pooled", "No gap",
)  # fmt: skip


def command(experiment: str, options: str = "") -> str:
    """The command that an experiment's numbers were made with."""
    return f"python -m deeprt.training.experiments {_FOLDERS} --only {experiment}{options and ' '}{options}"


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
