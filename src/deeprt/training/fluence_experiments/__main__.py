"""The experiments behind Docs/results/deepfluence.md: ``python -m deeprt.training.fluence_experiments --help``.

What is measured of a patient with a method is kept under ``parts`` and is not measured again, so that a run that was
stopped goes on, and networks that were trained later are added. To measure anew, remove parts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from deeprt.progress import Progress
from deeprt.training.fluence_experiments.examples import examples
from deeprt.training.fluence_experiments.maps import maps
from deeprt.training.fluence_experiments.openkbp import openkbp
from deeprt.training.fluence_experiments.plans import plans
from deeprt.training.fluence_experiments.predicted_dose import dose, dose_example
from deeprt.training.fluence_experiments.setup import SHIPPED_NETWORKS, Setup
from deeprt.training.fluence_experiments.times import times
from deeprt.training.fluence_experiments.training import training
from deeprt.training.measuring.command_line import run_command
from deeprt.training.measuring.results import write_result

EXPERIMENTS: dict[str, Callable[[Setup, Progress], Any]] = {
    "training.json": training,
    "maps.json": maps,
    "plans.json": plans,
    "examples.npz": examples,
    "openkbp.json": openkbp,
    "dose.json": dose,
    "dose.npz": dose_example,
    "times.json": times,
}


def run_experiments(setup: Setup, names: Sequence[str], progress: Progress) -> list[Path]:
    """Run experiments in the order of `EXPERIMENTS`; returns the files written."""
    written = []
    for file_name, make in EXPERIMENTS.items():
        file = setup.out / file_name
        if file.stem in names:
            write_result(file, make(setup, progress))
            written.append(file)
    return written


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = tuple(dict.fromkeys(Path(file).stem for file in EXPERIMENTS))
    parser = argparse.ArgumentParser(prog="python -m deeprt.training.fluence_experiments", description=__doc__)
    add = parser.add_argument
    add("--data", required=True, type=Path, metavar="DIR", help="cohort with reference plans, see deeprt cohort plan")
    add("--runs", required=True, type=Path, metavar="DIR", help="trained networks, DIR/<network>")
    add("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    add("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    add("--jobs", type=int, default=1, metavar="N", help="processes, of one thread each (1)")
    add("--patients", type=int, default=0, metavar="N", help="test patients, the first ones; 0 for all (0)")
    add("--network", type=Path, metavar="FILE", help="default network as released, in place of DIR/default")
    where = "those that predict dose, by the names they ship with"
    add("--dose-networks", type=Path, default=SHIPPED_NETWORKS, metavar="DIR", help=where)
    add("--openkbp", type=Path, metavar="DIR", help="cohort of OpenKBP, see deeprt cohort make")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiments; returns the exit status."""
    options = _options(arguments)
    setup = Setup(
        data=options.data,
        runs=options.runs,
        out=options.out,
        released=options.network,
        dose_networks=options.dose_networks,
        openkbp=options.openkbp,
        n_jobs=options.jobs,
        n_patients=options.patients,
    )
    measure = partial(run_experiments, setup, options.only)
    return run_command(measure, setup.out, kept="what was measured of single patients is kept")


if __name__ == "__main__":
    sys.exit(main())
