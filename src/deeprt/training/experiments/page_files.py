"""Writing a generated page with its numbers and pictures, and the command line of its generator."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deeprt.errors import InputError
from deeprt.files import whole_file, write_all_whole
from deeprt.training.experiments.page import Section, paragraphs
from deeprt.training.release import commit_of_code


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


def run_report(
    write_report: Callable[[Path, Path], None], description: str | None, arguments: Sequence[str] | None
) -> int:
    """Write a report as the command line asks; returns the exit status.

    Parameters
    ----------
    write_report : from the folder of the results into another one
    description : docstring of the generator, of which the first line is shown
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0] if description else None)
    parser.add_argument("--results", required=True, type=Path, metavar="DIR", help="folder of the experiments' results")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for page, numbers and pictures")
    options = parser.parse_args(arguments)
    try:
        write_report(options.results, options.out)
    except InputError as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    return 0
