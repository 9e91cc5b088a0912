"""How the networks were trained, and on what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from deeprt.networks.checkpoint import load_training_state
from deeprt.progress import Progress
from deeprt.training.experiments.losses import hardware, settings_text
from deeprt.training.experiments.statistics import read_json
from deeprt.training.fluence import FluenceNetworkName, split
from deeprt.training.fluence_experiments.results import Json
from deeprt.training.fluence_experiments.setup import REFERENCE, Setup
from deeprt.training.loop import CURVE, LAST, RESULT_FILE, TrainSettings


def training(setup: Setup, progress: Progress) -> dict[str, Any]:
    """Curves and budgets of the networks that are trained, or under way, and the patients."""
    cohort = setup.cohort
    learned, validated = split(cohort)
    return {
        "networks": {name: _network(setup, name) for name in setup.trained},
        "cohort": {
            "n_patients": len(cohort.patients),
            "n_training": len(learned),
            "n_validation": len(validated),
            "n_test": len(cohort.of("test")),
        },
        "reference": {
            "machine": REFERENCE.machine,
            "prescription_gy": REFERENCE.prescription_gy,
            "n_fractions": REFERENCE.n_fractions,
            "spacing_mm": REFERENCE.spacing_mm,
            "n_beams": [min(REFERENCE.n_beams), max(REFERENCE.n_beams)],
        },
        "hardware": hardware(),
    }


def _network(setup: Setup, name: FluenceNetworkName) -> Json:
    """Size of a network, and what its run left; a released network has no run."""
    n_weights = sum(p.numel() for p in setup.network(name).parameters())
    found: Json = {"n_weights": n_weights, "megabytes": 2e-6 * n_weights}  # in half precision
    folder: Path = setup.runs / name
    if (folder / CURVE).exists():
        found["curve"] = np.loadtxt(folder / CURVE, delimiter=",", skiprows=1, ndmin=2).tolist()
    if (folder / LAST).exists():
        found["settings"] = _settings_text(TrainSettings(**load_training_state(folder / LAST)["settings"]))
    return found | {"result": read_json(folder / RESULT_FILE)}


def _settings_text(settings: TrainSettings) -> str:
    """As `settings_text`, with what the paper's schedule and gradients have beyond."""
    drop = "" if settings.rate_drop == 1 else f", rate × {settings.rate_drop:g} every {settings.drop_epochs} epochs"
    clip = f", gradient norm of each tensor at most {settings.clip:g}" if settings.clip else ""
    return settings_text(settings) + drop + clip
