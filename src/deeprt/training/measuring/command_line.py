"""The command lines of experiments, and of the reports that are made of their results."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from deeprt.errors import InputError
from deeprt.progress import Bars, Progress


def run_command(measure: Callable[[Progress], Sequence[Path]], out: Path, *, kept: str) -> int:
    """Measure, with progress on the terminal; returns the exit status.

    Parameters
    ----------
    measure : gives the files that it has written
    out : folder of the results
    kept : what is kept where it is cancelled, in words
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        with Bars() as progress:
            written = measure(progress)
    except InputError as error:
        print(f"experiments: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"experiments: cancelled; {kept}.", file=sys.stderr)
        return 130
    print("\n".join(f"{file} written." for file in written) or f"All results are in {out} already.")
    return 0


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
