"""The training loop of every network: read it top to bottom.

One run trains one network on one split. Its folder holds ``last.pt`` (all that is needed to go on), ``best.pt`` (of the
least validation loss) and ``curve.csv``, one row an epoch; a run that was stopped goes on from ``last.pt``.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from deeprt.config import from_plain
from deeprt.errors import InputError
from deeprt.files import write_whole
from deeprt.networks.checkpoint import load_training_state, save_training_state
from deeprt.progress import Progress, Silent

logger = logging.getLogger(__name__)

LAST, BEST, CURVE = "last.pt", "best.pt", "curve.csv"
RUN_FILE, RESULT_FILE = "run.json", "result.json"  # of those who train: what a folder belongs to, how it ended


class TrainingData(Protocol):
    """States with labels, from which batches are drawn."""

    def __len__(self) -> int:
        """Number of states."""

    def loss(self, network: nn.Module, states: Sequence[int], rng: np.random.Generator | None) -> Tensor:
        """Mean loss of some states; augmented where there is a generator."""


@dataclass(frozen=True)
class TrainSettings:
    """How a network is trained.

    Parameters
    ----------
    epochs : at most
    steps_per_epoch : batches between two looks at the validation data
    batch : states
    rate : learning rate of Adam
    final_rate : share of ``rate`` that a cosine over all epochs ends at; 1 keeps it
    rate_drop, drop_epochs : factor on the rate after every so many epochs, in place of the cosine; 1 keeps it
    clip : largest norm of the gradient of each weight tensor, see `clip_kernel_gradients`; none if 0
    patience : epochs without a better validation loss after which training ends
    budget_s : of training time, after which it ends; none if 0
    n_validation : states of the validation data that are looked at after an epoch, the same ones each time; all if 0
    seed : of weights, batches and augmentation
    """

    epochs: int = 400
    steps_per_epoch: int = 2500
    batch: int = 1
    rate: float = 1e-5
    final_rate: float = 1.0
    rate_drop: float = 1.0
    drop_epochs: int = 10
    clip: float = 0.0
    patience: int = 400
    budget_s: float = 0.0
    n_validation: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.epochs, self.steps_per_epoch, self.batch, self.patience) < 1 or self.n_validation < 0:
            raise InputError("Training: epochs, steps, batch and patience must be at least 1, counts not negative.")
        if self.rate <= 0 or not 0 < self.final_rate <= 1 or not 0 < self.rate_drop <= 1:
            raise InputError("Training: rate must be positive, final_rate and rate_drop lie above 0 and up to 1.")
        if min(self.budget_s, self.clip, self.seed) < 0 or self.drop_epochs < 1:
            raise InputError("Training: budget_s, clip and seed must not be negative, drop_epochs be at least 1.")


class Stateful(Protocol):
    """Part of a training whose state is saved."""

    def state_dict(self) -> dict[str, Any]:
        """The state; empty if there is none."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object:
        """Take up a state."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: mean losses, and the training time so far."""

    number: int
    training: float
    validation: float
    seconds: float


@dataclass(frozen=True)
class TrainResult:
    """How a training ended; losses of the best epoch's weights.

    Parameters
    ----------
    best_epoch, n_epochs : that of the least validation loss, and how many there were
    seconds : of training
    training : mean over what was drawn, augmented
    validation : mean over the validation data
    even : validation loss of the dose of even beams, of dose networks only
    """

    best_epoch: int
    n_epochs: int
    seconds: float
    training: float
    validation: float
    even: float | None = None


def train(
    network: nn.Module,
    training: TrainingData,
    validation: TrainingData,
    settings: TrainSettings,
    folder: Path,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> tuple[Epoch, ...]:
    """Train a network, or go on where a run into this folder was stopped.

    Mixed precision is used on CUDA. The network is left with the weights of the best epoch.

    Raises
    ------
    InputError
        If the folder holds a run of other settings or a damaged one, or the training diverges.
    """
    report = progress or Silent()
    network.to(device)
    optimizer = torch.optim.Adam(network.parameters(), settings.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: _rate_share(epoch, settings))
    scaler = torch.amp.GradScaler(device, enabled=device == "cuda")
    parts: dict[str, Stateful] = {"network": network, "optimizer": optimizer, "schedule": schedule, "scaler": scaler}
    epochs = _resume(folder, parts, settings)
    looked_at = some_states(len(validation), settings.n_validation, settings.seed)
    while not _is_done(epochs, settings):
        number, start = len(epochs) + 1, time.perf_counter()
        rng = np.random.default_rng((settings.seed, number))  # the same batches, stopped in between or not
        network.train()
        losses = []
        for step in range(settings.steps_per_epoch):
            states = rng.integers(len(training), size=settings.batch)
            with torch.autocast(device, torch.float16, enabled=device == "cuda"):
                loss = training.loss(network, states.tolist(), rng)
            _descend(loss, network, optimizer, scaler, clip=settings.clip)
            losses.append(float(loss.detach()))
            if step % 20 == 0:
                done = (number - 1 + step / settings.steps_per_epoch) / settings.epochs
                report.step("training", done, f"epoch {number} of {settings.epochs}, loss {np.mean(losses[-200:]):.5f}")
        schedule.step()
        before_s = epochs[-1].seconds if epochs else 0.0
        trained_s = before_s + time.perf_counter() - start
        epochs.append(Epoch(number, float(np.mean(losses)), evaluate_loss(network, validation, looked_at), trained_s))
        if not np.isfinite(epochs[-1].validation):
            raise InputError(f"The training diverged in epoch {number}; lower the rate.")
        if epochs[-1].validation == min(e.validation for e in epochs):
            save_training_state(folder / BEST, {"network": network.state_dict(), "epoch": number})
        state = {name: part.state_dict() for name, part in parts.items()}
        about = {"settings": asdict(settings), "epochs": [asdict(e) for e in epochs]}
        save_training_state(folder / LAST, {**state, **about})
        _write_curve(folder / CURVE, epochs)
        logger.info("Epoch %d: training %.5f, validation %.5f", number, epochs[-1].training, epochs[-1].validation)
    network.load_state_dict(load_training_state(folder / BEST)["network"])
    report.step("training", 1.0)
    return tuple(epochs)


def _descend(
    loss: Tensor, network: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, *, clip: float
) -> None:
    """One step of the optimizer."""
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(scaler.scale(loss))
    if clip > 0:
        scaler.unscale_(optimizer)
        clip_kernel_gradients(network, limit=clip)
    scaler.step(optimizer)
    scaler.update()


@torch.no_grad()
def clip_kernel_gradients(network: nn.Module, *, limit: float = 1e-4) -> None:
    """Scale down, in place, the gradient of every weight tensor whose Euclidean norm is larger than a limit.

    H. Lee et al., Sci. Rep. 9, 15671 (2019), doi:10.1038/s41598-019-52262-x, clip "the norm of the gradient of each
    kernel", which is read here as a layer's whole weight tensor; biases, scales and normalizations count as kernels
    too. Gradients that are smaller stay as they are.
    """
    for parameter in network.parameters():
        if parameter.grad is not None:
            parameter.grad *= (limit / parameter.grad.norm()).clamp(max=1)


def keep_result(folder: Path, epochs: Sequence[Epoch], *, even: float | None = None) -> TrainResult:
    """Write how a training ended."""
    best = min(epochs, key=lambda e: e.validation)
    result = TrainResult(best.number, len(epochs), epochs[-1].seconds, best.training, best.validation, even)
    write_whole(folder / RESULT_FILE, json.dumps(asdict(result), indent=1))
    return result


def claim(folder: Path, about: Mapping[str, Any]) -> None:
    """Note what the trainings in a folder belong to.

    Parameters
    ----------
    about : plain data; under ``settings`` those of `TrainSettings`, which may have become more since it was noted

    Raises
    ------
    InputError
        If they belong to something else, or what was noted is damaged.
    """
    noted = claimed(folder)
    if noted is None:
        write_whole(folder / RUN_FILE, json.dumps(about, indent=1))
    elif noted != json.loads(json.dumps(about)):
        raise InputError(f"'{folder}' holds a training of another network, cohort or settings; choose another folder.")


def claimed(folder: Path) -> dict[str, Any] | None:
    """What `claim` has noted of a folder; None if it has not.

    Raises
    ------
    InputError
        If the note is damaged.
    """
    file = folder / RUN_FILE
    if not file.exists():
        return None
    try:
        noted = dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"'{file}' is damaged ({error}); choose another folder, or remove this one.") from error
    return noted | {"settings": asdict(from_plain(TrainSettings, noted.get("settings", {}), str(file)))}


def evaluate_loss(network: nn.Module, data: TrainingData, states: Sequence[int], *, n_batch: int = 16) -> float:
    """Mean loss over states, without augmentation."""
    network.eval()
    total = 0.0
    with torch.no_grad():
        for first in range(0, len(states), n_batch):
            part = states[first : first + n_batch]
            total += float(data.loss(network, part, None)) * len(part)
    return total / len(states)


def some_states(n_states: int, n_wanted: int, seed: int) -> Sequence[int]:
    """Positions of ``n_wanted`` states drawn at random, in order; all if 0."""
    if n_wanted in (0, n_states):
        return range(n_states)
    rng = np.random.default_rng(seed)
    drawn: list[int] = np.sort(rng.choice(n_states, min(n_wanted, n_states), replace=False)).tolist()
    return drawn


def _rate_share(epoch: int, settings: TrainSettings) -> float:
    """Share of the learning rate in an epoch: a cosine from 1 to ``final_rate``, or steps of ``rate_drop``."""
    if settings.rate_drop < 1:
        return float(settings.rate_drop ** (epoch // settings.drop_epochs))
    along = min(1.0, epoch / settings.epochs)
    return settings.final_rate + (1 - settings.final_rate) * (1 + float(np.cos(np.pi * along))) / 2


def _is_done(epochs: Sequence[Epoch], settings: TrainSettings) -> bool:
    if not epochs:
        return False
    best = min(epochs, key=lambda e: e.validation)
    in_vain = len(epochs) - best.number
    spent = settings.budget_s > 0 and epochs[-1].seconds >= settings.budget_s
    return len(epochs) >= settings.epochs or in_vain >= settings.patience or spent


def _resume(folder: Path, parts: Mapping[str, Stateful], settings: TrainSettings) -> list[Epoch]:
    """Take up the state of a stopped run, if there is one; otherwise begin the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / LAST).exists():
        return []
    state = load_training_state(folder / LAST)
    if not (folder / BEST).exists():
        raise InputError(f"'{folder}' has {LAST} but no {BEST}; remove the folder to begin anew.")
    if TrainSettings(**state["settings"]) != settings:  # a run of an earlier version may not know all of them
        raise InputError(f"'{folder}' holds a run of other settings; choose another folder, or remove it.")
    for name, part in parts.items():
        if state[name]:  # a scaler has no state on a CPU, where the run may have begun
            part.load_state_dict(state[name])
    return [Epoch(**e) for e in state["epochs"]]


def _write_curve(file: Path, epochs: Sequence[Epoch]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("epoch", "training_loss", "validation_loss", "seconds"))
    writer.writerows((e.number, f"{e.training:.6g}", f"{e.validation:.6g}", f"{e.seconds:.1f}") for e in epochs)
    write_whole(file, text.getvalue())
