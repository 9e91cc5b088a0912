"""Training of the networks that propose beams: which network, on which patients, fold by fold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from deeprt.config import read_settings
from deeprt.errors import InputError
from deeprt.files import check_writable, write_whole
from deeprt.networks.angle_network import AngleNetwork
from deeprt.networks.checkpoint import load_training_state
from deeprt.networks.paper_network import PaperConfig, PaperNetwork
from deeprt.progress import Progress, Silent
from deeprt.training.cohort import Cohort, CohortPatient, read_cohort
from deeprt.training.dataset import AnatomyData, InputKind, ViewData, anatomy_data, prepare_inputs, view_data
from deeprt.training.loop import (
    BEST,
    LAST,
    RESULT_FILE,
    Epoch,
    TrainSettings,
    claim,
    claimed,
    evaluate_loss,
    some_states,
    train,
)

BeamNetworkName = Literal["default", "paper", "full"]
PAPER_SETTINGS = TrainSettings()  # 400 epochs of 2,500 scenarios, one at a time, Adam with 1e-5
DEFAULT_SETTINGS = TrainSettings(
    epochs=25, steps_per_epoch=160, batch=16, rate=3e-3, final_rate=0.01, patience=25
)  # minutes on a CPU


@dataclass(frozen=True)
class FoldResult:
    """How one fold ended; mean squared errors.

    Parameters
    ----------
    best_epoch, n_epochs : that of the least validation loss, and how many there were
    seconds : of training
    training_best, validation_best, test_best : of the best epoch's weights
    training_last, validation_last, test_last : of the last epoch's
    n_evaluated : states drawn for each of these losses; all if 0
    """

    fold: int
    best_epoch: int
    n_epochs: int
    seconds: float
    training_best: float
    validation_best: float
    test_best: float
    training_last: float
    validation_last: float
    test_last: float
    n_evaluated: int = 0


def input_kind(name: BeamNetworkName) -> InputKind:
    """What a network is fed with."""
    return "views" if name == "default" else "anatomy"


def new_network(name: BeamNetworkName, seed: int, n_candidates: int = 180) -> nn.Module:
    """An untrained network; the default one takes any number of candidates.

    Raises
    ------
    InputError
        If the paper's networks cannot have so many candidates.
    """
    if name == "default":
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return AngleNetwork()
    third_block: Literal["convolution", "full"] = "convolution" if name == "paper" else "full"
    try:
        config = PaperConfig(n_candidates, third_block=third_block)
    except ValueError as error:
        raise InputError(f"{str(error).rstrip('.')}; label the cohort with candidates such as coplanar:2.") from error
    return PaperNetwork(config, generator=torch.Generator().manual_seed(seed))


def trained_network(folder: Path, name: BeamNetworkName, fold: int) -> nn.Module:
    """A network of 180 candidates with the weights of a fold's best epoch, ready to predict.

    Parameters
    ----------
    folder : of the trained folds, the ``out`` of `train_beams`

    Raises
    ------
    InputError
        If the fold is not trained.
    """
    network = new_network(name, 0)
    try:
        network.load_state_dict(load_training_state(folder / f"fold-{fold}" / BEST)["network"])
    except FileNotFoundError as error:
        raise InputError(f"'{folder}' has no trained fold {fold}; train it with deeprt train beams.") from error
    return network.eval()


def states_of(name: BeamNetworkName, folder: Path, cohort: Cohort, patients: Sequence[CohortPatient]) -> BeamData:
    """Labeled states of patients as a network takes them."""
    return view_data(folder, cohort, patients) if name == "default" else anatomy_data(folder, cohort, patients)


BeamData = ViewData | AnatomyData


def train_beams(
    data: Path,
    name: BeamNetworkName,
    out: Path,
    settings: TrainSettings,
    *,
    n_folds: int = 6,
    folds: Sequence[int] = (),
    n_evaluated: int = 0,
    n_jobs: int = 1,
    device: str = "cpu",
    progress: Progress | None = None,
) -> tuple[FoldResult, ...]:
    """Train a network on the development patients of a labeled cohort, once a fold.

    A fold that is complete is not trained again, one that was stopped goes on; where other states are to be evaluated,
    the final losses are computed anew.

    Parameters
    ----------
    data : folder of the cohort
    out : gets a folder ``fold-1``, ``fold-2`` ... each
    folds : counted from 1; all if empty
    n_evaluated : states drawn for each of the final losses; all if 0

    Raises
    ------
    InputError
        If the cohort cannot be trained on, or ``out`` holds another training, is damaged or cannot be written.
    """
    report, cohort = progress or Silent(), read_cohort(data)
    splits = list(cohort.folds(n_folds))
    chosen = folds or range(1, n_folds + 1)
    if not set(chosen) <= set(range(1, n_folds + 1)):
        raise InputError(f"There are folds 1 to {n_folds}, not {', '.join(str(f) for f in chosen)}.")
    _check_circle(name, cohort)
    check_writable(out)
    prepare_inputs(data, cohort, input_kind(name), n_jobs=n_jobs, progress=report)
    claim(out, {"network": name, "settings": asdict(settings), "n_folds": n_folds, **_identity(cohort)})
    results = []
    for fold in chosen:
        folder, (training, validation) = out / f"fold-{fold}", splits[fold - 1]
        if (folder / RESULT_FILE).exists():
            known = read_settings(FoldResult, folder / RESULT_FILE)
            if known.n_evaluated == n_evaluated:
                results.append(known)
                continue
        parts = tuple(states_of(name, data, cohort, p) for p in (training, validation, cohort.of("test")))
        network = new_network(name, settings.seed, parts[0].n_candidates)
        epochs = train(network, parts[0], parts[1], settings, folder, device=device, progress=report)
        results.append(_fold_result(fold, network, parts, epochs, folder, n_evaluated))
        write_whole(folder / RESULT_FILE, json.dumps(asdict(results[-1]), indent=1))
    return tuple(results)


def check_cohort(folder: Path, cohort: Cohort) -> None:
    """See that the folds in a folder, where it says what they belong to, were trained on a cohort.

    Raises
    ------
    InputError
        If they were trained on another one.
    """
    noted = claimed(folder)
    if noted is not None and not _identity(cohort).items() <= noted.items():
        raise InputError(f"The networks in '{folder}' were trained on another cohort; name the one they belong to.")


def _identity(cohort: Cohort) -> dict[str, Any]:
    """What tells a cohort from others: labels, machine and patients, as plain data."""
    return {
        "labels": cohort.labels.digest(),
        "machine": cohort.machine,
        "patients": [asdict(p) for p in cohort.patients],
    }


def _check_circle(name: BeamNetworkName, cohort: Cohort) -> None:
    """Refuse candidates that do not stand around a circle to the networks for which they must."""
    candidates = cohort.labels.selection.candidates
    if name != "default" and not candidates.startswith("coplanar:"):
        raise InputError(
            f"The network '{name}' needs candidates around a circle, such as coplanar:2, but the cohort is labeled "
            f"with {candidates}; train the default one, or label another cohort."
        )


def _fold_result(
    fold: int, network: nn.Module, parts: Sequence[BeamData], epochs: Sequence[Epoch], folder: Path, n_evaluated: int
) -> FoldResult:
    def losses(file: str) -> tuple[float, float, float]:
        network.load_state_dict(load_training_state(folder / file)["network"])
        training, validation, test = (evaluate_loss(network, d, some_states(len(d), n_evaluated, 0)) for d in parts)
        return training, validation, test

    best = min(epochs, key=lambda e: e.validation)
    return FoldResult(fold, best.number, len(epochs), epochs[-1].seconds, *losses(BEST), *losses(LAST), n_evaluated)
