"""The experiments behind Docs/results/deepfluence.md: ``python -m deeprt.training.fluence_experiments --help``.

What is measured of a patient with a method is kept under ``parts`` and is not measured again, so that a run that was
stopped goes on, and networks that were trained later are added. To measure anew, remove parts.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from deeprt.errors import InputError
from deeprt.files import write_arrays, write_whole
from deeprt.progress import Bars, Progress
from deeprt.training.fluence_experiments.examples import examples
from deeprt.training.fluence_experiments.maps import maps
from deeprt.training.fluence_experiments.openkbp import openkbp
from deeprt.training.fluence_experiments.plans import plans
from deeprt.training.fluence_experiments.setup import Setup
from deeprt.training.fluence_experiments.times import times
from deeprt.training.fluence_experiments.training import training

EXPERIMENTS: dict[str, Callable[[Setup, Progress], Any]] = {
    "training.json": training,
    "maps.json": maps,
    "plans.json": plans,
    "examples.npz": examples,
    "openkbp.json": openkbp,
    "times.json": times,
}


def run_experiments(setup: Setup, names: Sequence[str], progress: Progress) -> list[Path]:
    """Run experiments in the order of `EXPERIMENTS`; returns the files written."""
    written = []
    for file_name, make in EXPERIMENTS.items():
        file = setup.out / file_name
        if file.stem not in names:
            continue
        content = make(setup, progress)
        if file.suffix == ".json":
            write_whole(file, json.dumps(content, indent=1) + "\n")
        else:
            write_arrays(file, content)
        written.append(file)
    return written


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = tuple(Path(file).stem for file in EXPERIMENTS)
    parser = argparse.ArgumentParser(prog="python -m deeprt.training.fluence_experiments", description=__doc__)
    add = parser.add_argument
    add("--data", required=True, type=Path, metavar="DIR", help="cohort with reference plans, see deeprt cohort plan")
    add("--runs", required=True, type=Path, metavar="DIR", help="trained networks, DIR/<network>")
    add("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    add("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    add("--jobs", type=int, default=1, metavar="N", help="processes, of one thread each (1)")
    add("--patients", type=int, default=0, metavar="N", help="test patients, the first ones; 0 for all (0)")
    add("--network", type=Path, metavar="FILE", help="default network as released, in place of DIR/default")
    add("--openkbp", type=Path, metavar="DIR", help="cohort of OpenKBP, see deeprt cohort make")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiments; returns the exit status."""
    options = _options(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    setup = Setup(
        data=options.data,
        runs=options.runs,
        out=options.out,
        released=options.network,
        openkbp=options.openkbp,
        n_jobs=options.jobs,
        n_patients=options.patients,
    )
    try:
        with Bars() as progress:
            written = run_experiments(setup, options.only, progress)
    except InputError as error:
        print(f"experiments: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("experiments: cancelled; what was measured of single patients is kept.", file=sys.stderr)
        return 130
    print("\n".join(f"{file} written." for file in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
