"""The experiments behind Docs/results/deepboo.md: ``python -m deeprt.training.experiments --help``.

Each leaves one file in the folder of the results and is not run again while that file is there. What takes long is kept
patient by patient under ``parts``, so that a run that was stopped goes on; to measure anew, for example with other
networks, remove a file and its parts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from deeprt.progress import Progress
from deeprt.training.experiments.dose import dose
from deeprt.training.experiments.examples import examples
from deeprt.training.experiments.losses import squared_errors, training
from deeprt.training.experiments.plans import exchanged, forced, plans
from deeprt.training.experiments.real import real
from deeprt.training.experiments.setup import Setup
from deeprt.training.experiments.times import search, times
from deeprt.training.measuring.command_line import run_command
from deeprt.training.measuring.results import write_result


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
            write_result(file, EXPERIMENTS[name].make(setup, progress))
            written.append(file)
    return written


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
    measure = partial(run_experiments, setup, options.only or tuple(EXPERIMENTS))
    return run_command(measure, setup.out, kept="finished experiments and parts are kept")


if __name__ == "__main__":
    sys.exit(main())
