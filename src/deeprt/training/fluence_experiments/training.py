"""How the networks were trained, and on what."""

from __future__ import annotations

from typing import Any

from deeprt.progress import Progress
from deeprt.training.fluence import DEFAULT_SETTINGS, PAPER_SETTINGS, FluenceNetworkName
from deeprt.training.fluence_experiments.results import DEFAULT
from deeprt.training.fluence_experiments.setup import REFERENCE, Setup
from deeprt.training.loop import CURVE, LAST, RESULT_FILE
from deeprt.training.measuring.results import Json, read_result
from deeprt.training.measuring.times import hardware
from deeprt.training.measuring.trainings import curve_of, settings_of, settings_text, train_options


def training(setup: Setup, progress: Progress) -> dict[str, Any]:
    """Curves and budgets of the networks that are trained, or under way, and the patients."""
    cohort = setup.cohort
    learned, validated = cohort.training_and_validation()
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
    folder = setup.runs / name
    if (folder / CURVE).exists():
        found["curve"] = curve_of(folder)
    if (folder / LAST).exists():
        own, usual = settings_of(folder), DEFAULT_SETTINGS if name == DEFAULT else PAPER_SETTINGS
        found |= {"settings": settings_text(own), "options": train_options(own, usual)}
    return found | {"result": read_result(folder / RESULT_FILE)}
