"""``deeprt train``: train a network on a labeled cohort."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path

from deeprt.commands import options as shared
from deeprt.errors import InputError
from deeprt.files import check_writable
from deeprt.progress import Bars


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its options."""
    train = commands.add_parser("train", help="train a network", description="Train a network on a labeled cohort.")
    what = train.add_subparsers(required=True, metavar="WHAT")
    beams = what.add_parser(
        "beams",
        help="the network that proposes beams",
        description="Train a network that proposes beams, once a fold; a run that was stopped goes on.",
    )
    beams.set_defaults(run=run)
    add = beams.add_argument
    add("--data", required=True, type=Path, metavar="DIR", help="cohort with labels, see deeprt cohort")
    add("--out", required=True, type=Path, metavar="DIR", help="folder for checkpoints and curves, one folder a fold")
    add("--network", choices=("default", "paper", "full"), default="default", help="which network")
    add("--folds", type=int, default=6, metavar="N", help="number of rolling folds of the development patients")
    add("--fold", type=int, action="append", default=[], metavar="K", help="train only this fold, from 1")
    add("--epochs", type=int, metavar="N", help="epochs at most")
    add("--steps", dest="steps_per_epoch", type=int, metavar="N", help="batches an epoch")
    add("--batch", type=int, metavar="N", help="scenarios a batch")
    add("--rate", type=float, metavar="RATE", help="learning rate of Adam")
    add("--patience", type=int, metavar="N", help="epochs without a better validation loss before it ends")
    add("--budget", dest="budget_s", type=float, metavar="SECONDS", help="training time of a fold after which it ends")
    looked_at = "scenarios of the validation data looked at after each epoch"
    add("--validate", dest="n_validation", type=int, metavar="N", help=looked_at)
    add("--evaluate", type=int, default=0, metavar="N", help="scenarios drawn for each of the final losses; 0 for all")
    add("--seed", type=int, metavar="N", help="seed of weights, batches and augmentation")
    add("--release", type=Path, metavar="FILE", help="also write the best fold's network, for deeprt beams --network")
    add("--overwrite", action="store_true", help="replace the file of --release")
    add("--jobs", type=int, default=1, metavar="N", help="processes that prepare the inputs")
    shared.add_run_options(beams)


def _check_release(options: argparse.Namespace) -> None:
    """Refuse, before the training, a file that the network could not be written to."""
    file: Path = options.release
    if options.network != "default" or file.suffix != ".safetensors":
        raise InputError("--release writes the default network only, into a file that ends in .safetensors.")
    for written in (file, file.with_suffix(".json")):
        if written.exists() and not options.overwrite:
            raise InputError(f"'{written}' exists already; choose another file for --release or add --overwrite.")
    check_writable(file.parent)


def run(options: argparse.Namespace) -> int:
    """Train, and print a row a fold."""
    from deeprt.pipeline import torch_device
    from deeprt.training.beams import DEFAULT_SETTINGS, PAPER_SETTINGS, train_beams
    from deeprt.training.release import release_beams

    usual = DEFAULT_SETTINGS if options.network == "default" else PAPER_SETTINGS
    given = {name: value for name, value in vars(options).items() if name in asdict(usual) and value is not None}
    settings = replace(usual, **given)
    if options.release is not None:
        _check_release(options)
    if options.jobs < 1 or options.evaluate < 0:
        raise InputError("--jobs must be at least 1, --evaluate not negative.")
    progress = shared.progress_of(options)
    try:
        results = train_beams(
            options.data,
            options.network,
            options.out,
            settings,
            n_folds=options.folds,
            folds=options.fold,
            n_evaluated=options.evaluate,
            n_jobs=options.jobs,
            device=torch_device(options.device or "auto"),
            progress=progress,
        )
        if options.release is not None:
            release_beams(options.data, options.out, results, settings, n_folds=options.folds, file=options.release)
    except OSError as error:
        raise InputError(f"Cannot read or write '{error.filename or options.out}': {error.strerror}.") from error
    except KeyboardInterrupt:
        print("deeprt: cancelled; the last complete epoch is kept, the same command goes on.", file=sys.stderr)
        return 130
    if isinstance(progress, Bars):
        progress.close()
        print("Fold  Best epoch  Training / %  Validation / %  Test / %")
        for r in results:
            errors = (r.training_best, r.validation_best, r.test_best)
            print(f"{r.fold:>4}  {r.best_epoch:>10}  " + "  ".join(f"{100 * e:>12.3f}" for e in errors))
        print(f"Checkpoints and curves are in {options.out}. {shared.RESEARCH_ONLY}")
    return 0
