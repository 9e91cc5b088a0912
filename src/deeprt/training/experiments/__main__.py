"""The experiments behind Docs/results/deepboo.md: ``python -m deeprt.training.experiments --help``.

Each leaves one file in the folder of the results and is not run again while that file is there. What takes long is kept
patient by patient under ``parts``, so that a run that was stopped goes on; to measure anew, for example with other
networks, remove a file and its parts.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeprt.errors import InputError
from deeprt.files import write_arrays, write_whole
from deeprt.progress import Bars, Progress
from deeprt.training.experiments.dose import dose
from deeprt.training.experiments.examples import examples
from deeprt.training.experiments.losses import squared_errors, training
from deeprt.training.experiments.plans import exchanged, forced, plans
from deeprt.training.experiments.real import real
from deeprt.training.experiments.setup import Setup
from deeprt.training.experiments.times import search, times


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Parameters
    ----------
    file : that it leaves, JSON or arrays
    make : what the file holds
    """

    file: str
    make: Callable[[Setup, Progress], Any]


EXPERIMENTS = {
    "training": Experiment("training.json", training),
    "mse": Experiment("mse.json", squared_errors),
    "plans": Experiment("plans.json", plans),
    "exchanged": Experiment("exchanged.json", exchanged),
    "forced": Experiment("forced.json", forced),
    "examples": Experiment("examples.json", examples),
    "dose": Experiment("dose.npz", dose),
    "search": Experiment("search.json", search),
    "real": Experiment("real.json", real),
    "times": Experiment("times.json", times),
}


def run_experiments(setup: Setup, names: Sequence[str], progress: Progress) -> list[Path]:
    """Run the experiments whose file is not there yet, in order; returns the files written."""
    written = []
    for name in names:
        file = setup.out / EXPERIMENTS[name].file
        if not file.exists():
            _write(file, EXPERIMENTS[name].make(setup, progress))
            written.append(file)
    return written


def _write(file: Path, content: Any) -> None:
    if file.suffix == ".json":
        write_whole(file, json.dumps(content, indent=1) + "\n")
    else:
        write_arrays(file, content)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deeprt.training.experiments", description=__doc__)
    add = parser.add_argument
    add("--data", required=True, type=Path, metavar="DIR", help="cohort with labels, see deeprt cohort")
    add("--runs", required=True, type=Path, metavar="DIR", help="trained networks, DIR/<network>/fold-<k>")
    add("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    add("--only", nargs="+", choices=tuple(EXPERIMENTS), default=[], metavar="NAME", help=", ".join(EXPERIMENTS))
    add("--jobs", type=int, default=1, metavar="N", help="processes, of one thread each (1)")
    add("--planned", type=int, default=0, metavar="N", help="full runs of a test patient to plan; 0 for all (0)")
    add("--folds", type=int, default=6, metavar="N", help="number of rolling folds of the trainings (6)")
    real_case = Path("..") / "shared" / "cases" / "cort_prostate"
    add("--real", type=Path, default=real_case, metavar="DIR", help=f"real prostate case ({real_case})")
    add("--openkbp", type=Path, metavar="DIR", help="labeled cohort of OpenKBP, trained in <runs>/openkbp")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiments; returns the exit status."""
    options = _options(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    setup = Setup(
        data=options.data,
        runs=options.runs,
        out=options.out,
        real=options.real,
        openkbp=options.openkbp,
        n_folds=options.folds,
        n_jobs=options.jobs,
        n_planned=options.planned,
    )
    try:
        with Bars() as progress:
            written = run_experiments(setup, options.only or tuple(EXPERIMENTS), progress)
    except InputError as error:
        print(f"experiments: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("experiments: cancelled; finished experiments and parts are kept.", file=sys.stderr)
        return 130
    print("\n".join(f"{file} written." for file in written) or f"All results are in {options.out} already.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
