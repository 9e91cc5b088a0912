"""How networks were trained, from the folders that `deeprt.training.loop.train` leaves."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from deeprt.networks.checkpoint import load_training_state
from deeprt.training.loop import CURVE, LAST, TrainSettings

_FLAGS = {
    "epochs": "--epochs",
    "steps_per_epoch": "--steps",
    "batch": "--batch",
    "rate": "--rate",
    "patience": "--patience",
    "budget_s": "--budget",
    "n_validation": "--validate",
    "seed": "--seed",
}


def curve_of(folder: Path) -> list[list[float]]:
    """Epoch, training loss, validation loss and seconds so far, a row an epoch."""
    rows: list[list[float]] = np.loadtxt(folder / CURVE, delimiter=",", skiprows=1, ndmin=2).tolist()
    return rows


def settings_of(folder: Path) -> TrainSettings:
    """Settings of a training."""
    return TrainSettings(**load_training_state(folder / LAST)["settings"])


def settings_text(settings: TrainSettings) -> str:
    """Settings of a training in words."""
    s = settings
    decay = "" if s.final_rate == 1 else f", falling to {s.final_rate:g} of it"
    budget = f", {s.budget_s:g} s at most" if s.budget_s else ""
    looked_at = f", validated on {s.n_validation} states" if s.n_validation else ""
    drop = "" if s.rate_drop == 1 else f", rate × {s.rate_drop:g} every {s.drop_epochs} epochs"
    clip = f", gradient norm of each tensor at most {s.clip:g}" if s.clip else ""
    return (
        f"at most {s.epochs} epochs of {s.steps_per_epoch} steps, batches of {s.batch}, "
        f"Adam with rate {s.rate:g}{decay}, patience of {s.patience} epochs{budget}{looked_at}, "
        f"seed {s.seed}{drop}{clip}"
    )


def train_options(settings: TrainSettings, usual: TrainSettings) -> str:
    """Options of deeprt train that make these settings of the usual ones."""
    own, others = asdict(settings), asdict(usual)
    return "".join(f" {flag} {own[field]:g}" for field, flag in _FLAGS.items() if own[field] != others[field])
