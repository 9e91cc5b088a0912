"""``deeprt train``: train a network on a cohort."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from deeprt.commands import options as shared
from deeprt.errors import InputError
from deeprt.files import check_writable
from deeprt.progress import Bars, Progress

if TYPE_CHECKING:
    from deeprt.training.beams import FoldResult
    from deeprt.training.loop import TrainResult, TrainSettings

_Result = TypeVar("_Result")


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its options."""
    train = commands.add_parser("train", help="train a network", description="Train a network on a cohort.")
    what = train.add_subparsers(required=True, metavar="WHAT")
    beams = what.add_parser(
        "beams",
        help="the network that proposes beams",
        description="Train a network that proposes beams, once a fold; a run that was stopped goes on.",
    )
    beams.set_defaults(run=run_beams)
    _add_network_option(beams, ("default", "paper", "full"))
    _add_training_options(beams)
    add = beams.add_argument
    add("--folds", type=int, default=6, metavar="N", help="number of rolling folds of the development patients")
    add("--fold", type=int, action="append", default=[], metavar="K", help="train only this fold, from 1")
    add("--evaluate", type=int, default=0, metavar="N", help="scenarios drawn for each of the final losses; 0 for all")
    fluence = what.add_parser(
        "fluence",
        help="the network that predicts fluence",
        description="Train a network that predicts fluence from dose, on the reference plans of deeprt cohort plan; a "
        "run that was stopped goes on.",
    )
    fluence.set_defaults(run=run_fluence)
    _add_network_option(fluence, ("default", "paper", "dose-only", "reversed"))
    _add_training_options(fluence)
    dose = what.add_parser(
        "dose",
        help="the network that predicts dose",
        description="Train a network that predicts dose from contours and prescription, on the reference plans of "
        "deeprt cohort plan or on patients of OpenKBP with their doses; a run that was stopped goes on.",
    )
    dose.set_defaults(run=run_dose)
    dose.add_argument(
        "--site", required=True, choices=("pelvis", "head_and_neck"), help="whose organs at risk the network sees"
    )
    _add_training_options(dose)


def _add_network_option(command: argparse.ArgumentParser, networks: Sequence[str]) -> None:
    command.add_argument("--network", choices=networks, default="default", help="which network")


def _add_training_options(command: argparse.ArgumentParser) -> None:
    """Add the options that every training has."""
    add = command.add_argument
    add("--data", required=True, type=Path, metavar="DIR", help="cohort with labels or plans, see deeprt cohort")
    add("--out", required=True, type=Path, metavar="DIR", help="folder for checkpoints and curves")
    add("--epochs", type=int, metavar="N", help="epochs at most")
    add("--steps", dest="steps_per_epoch", type=int, metavar="N", help="batches an epoch")
    add("--batch", type=int, metavar="N", help="states a batch")
    add("--rate", type=float, metavar="RATE", help="learning rate of Adam")
    add("--patience", type=int, metavar="N", help="epochs without a better validation loss before it ends")
    add("--budget", dest="budget_s", type=float, metavar="SECONDS", help="training time after which it ends")
    looked_at = "states of the validation data looked at after each epoch"
    add("--validate", dest="n_validation", type=int, metavar="N", help=looked_at)
    add("--seed", type=int, metavar="N", help="seed of weights, batches and augmentation")
    add("--release", type=Path, metavar="FILE", help="also write the best network, with its card, for use")
    add("--overwrite", action="store_true", help="replace the file of --release")
    add("--jobs", type=int, default=1, metavar="N", help="processes that prepare the inputs")
    shared.add_run_options(command)


def _check_release(options: argparse.Namespace) -> None:
    """Refuse, before the training, a file that the network could not be written to."""
    file: Path = options.release
    if file.suffix != ".safetensors":
        raise InputError(f"--release writes into a file that ends in .safetensors, not '{file}'.")
    for written in (file, file.with_suffix(".json")):
        if written.exists() and not options.overwrite:
            raise InputError(f"'{written}' exists already; choose another file for --release or add --overwrite.")
    check_writable(file.parent)


def run_beams(options: argparse.Namespace) -> int:
    """Train, and print a row a fold."""
    from deeprt.training.beams import DEFAULT_SETTINGS, PAPER_SETTINGS, train_beams
    from deeprt.training.beams_release import release_beams

    if options.release is not None and options.network != "default":
        raise InputError(
            "--release writes the default network only; the others of beams cannot be used by --select network."
        )
    if options.evaluate < 0:
        raise InputError("--evaluate must not be negative.")
    settings = _settings(options, DEFAULT_SETTINGS if options.network == "default" else PAPER_SETTINGS)

    def train(device: str, progress: Progress) -> tuple[FoldResult, ...]:
        results = train_beams(
            options.data,
            options.network,
            options.out,
            settings,
            n_folds=options.folds,
            folds=options.fold,
            n_evaluated=options.evaluate,
            n_jobs=options.jobs,
            device=device,
            progress=progress,
        )
        if options.release is not None:
            release_beams(options.data, options.out, results, settings, n_folds=options.folds, file=options.release)
        return results

    def show(results: tuple[FoldResult, ...]) -> None:
        print("Fold  Best epoch  Training / %  Validation / %  Test / %")
        for r in results:
            errors = (r.training_best, r.validation_best, r.test_best)
            print(f"{r.fold:>4}  {r.best_epoch:>10}  " + "  ".join(f"{100 * e:>12.3f}" for e in errors))
        print(f"Checkpoints and curves are in {options.out}. {shared.RESEARCH_ONLY}")

    return _trained(options, train, show)


def run_fluence(options: argparse.Namespace) -> int:
    """Train, and print the losses."""
    from deeprt.training.fluence import DEFAULT_SETTINGS, PAPER_SETTINGS, train_fluence
    from deeprt.training.fluence_release import release_fluence

    settings = _settings(options, DEFAULT_SETTINGS if options.network == "default" else PAPER_SETTINGS)

    def train(device: str, progress: Progress) -> TrainResult:
        result = train_fluence(
            options.data,
            options.network,
            options.out,
            settings,
            n_jobs=options.jobs,
            device=device,
            progress=progress,
        )
        if options.release is not None:
            release_fluence(options.data, options.network, options.out, result, settings, file=options.release)
        return result

    return _trained(options, train, lambda result: _show_losses(result, options.out))


def run_dose(options: argparse.Namespace) -> int:
    """Train, and print the losses."""
    from deeprt.training.dose import CONFIGS, DEFAULT_SETTINGS, train_dose
    from deeprt.training.dose_release import release_dose

    settings = _settings(options, DEFAULT_SETTINGS)

    def train(device: str, progress: Progress) -> TrainResult:
        result = train_dose(
            options.data,
            CONFIGS[options.site],
            options.out,
            settings,
            n_jobs=options.jobs,
            device=device,
            progress=progress,
        )
        if options.release is not None:
            release_dose(options.data, options.site, options.out, result, settings, file=options.release)
        return result

    return _trained(options, train, lambda result: _show_losses(result, options.out))


def _show_losses(result: TrainResult, out: Path) -> None:
    if result.even is not None:
        print(f"Dose of even beams: validation loss {result.even:.5f}")
    print(f"Best epoch {result.best_epoch} of {result.n_epochs}: "
          f"training loss {result.training:.5f}, validation loss {result.validation:.5f}")  # fmt: skip
    print(f"Checkpoints and curve are in {out}. {shared.RESEARCH_ONLY}")


def _trained(
    options: argparse.Namespace, train: Callable[[str, Progress], _Result], show: Callable[[_Result], None]
) -> int:
    """Train on the device that was asked for, and show the result; returns the exit status."""
    from deeprt.pipeline import torch_device

    progress = shared.progress_of(options)
    try:
        result = train(torch_device(options.device or "auto"), progress)
    except OSError as error:
        raise InputError(f"Cannot read or write '{error.filename or options.out}': {error.strerror}.") from error
    except KeyboardInterrupt:
        print("deeprt: cancelled; the last complete epoch is kept, the same command goes on.", file=sys.stderr)
        return 130
    if isinstance(progress, Bars):
        progress.close()
        show(result)
    return 0


def _settings(options: argparse.Namespace, usual: TrainSettings) -> TrainSettings:
    """Usual settings with those that were given; what else every training needs is checked."""
    if options.jobs < 1:
        raise InputError(f"--jobs must be at least 1, got {options.jobs}.")
    if options.release is not None:
        _check_release(options)
    given = {name: value for name, value in vars(options).items() if name in asdict(usual) and value is not None}
    return replace(usual, **given)
