"""A generated page: its sections, tables in Markdown, and how it is written with its numbers and pictures."""

from __future__ import annotations

import datetime
import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deeprt.files import whole_file, write_all_whole
from deeprt.training.commit import commit_of_code

ABSENT = "—"
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


def percent(share: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """A share in percent, or a dash."""
    return ABSENT if share is None else f"{100 * share:{'+' if signed else ''}.{digits}f} %"


def paragraphs(*parts: str) -> str:
    """Parts with an empty line between them; text is wrapped, tables, commands and pictures are not."""
    return "\n\n".join(p if p.startswith(_KEPT) else _wrapped(p) for p in parts if p)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def write_page(
    out: Path,
    name: str,
    *,
    opening: Sequence[str],
    program: str,
    sections: Mapping[str, Section],
    drawn: Mapping[str, bytes],
) -> None:
    """Write ``<name>.md``, the numbers it quotes as ``<name>.json``, and its pictures.

    Parameters
    ----------
    opening : heading and paragraphs at the top
    program : module that wrote it
    sections : by the name of their numbers
    drawn : pictures by file name
    """
    numbers_file = f"{name}.json"
    date, commit = datetime.date.today().isoformat(), commit_of_code()[:7] or "unknown"
    head = paragraphs(
        *opening,
        f"Written on {date} (commit {commit}) by `python -m {program}`; the numbers are in "
        f"[{numbers_file}]({numbers_file}) as well.",
    )
    page = "\n\n".join((head, *(f"## {s.title}\n\n{s.text}" for s in sections.values()))) + "\n"
    numbers = {"date": date, "commit": commit, **{key: s.numbers for key, s in sections.items()}}
    write_all_whole(out, {f"{name}.md": page, numbers_file: json.dumps(numbers, indent=1, allow_nan=False) + "\n"})
    for file_name, png in drawn.items():
        with whole_file(out / file_name) as part:
            part.write_bytes(png)
