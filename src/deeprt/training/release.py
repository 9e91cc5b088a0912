"""From a training to a network that others can use: weights, and a card that says what they are worth."""

from __future__ import annotations

import datetime
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

import deeprt
from deeprt.networks.angle_network import AngleNetwork
from deeprt.networks.checkpoint import ModelCard, save_checkpoint
from deeprt.orientation.network_prediction import KIND, targets_extent_mm
from deeprt.structures import Role
from deeprt.training.beams import FoldResult, trained_network
from deeprt.training.cohort import Cohort, CohortPatient, read_cohort
from deeprt.training.loop import TrainSettings

LIMITS = (
    "For research, not for clinical use.",
    "It predicts what column generation would choose for the paper's quadratic objective, not what a physician would.",
    "It has seen no patient, machine or number of beams but those named here.",
    "Collisions, couch and immobilization devices are not seen by it.",
)


def release_beams(
    data: Path, out: Path, results: Sequence[FoldResult], settings: TrainSettings, *, n_folds: int, file: Path
) -> ModelCard:
    """Write the default network of the fold with the least validation loss, in half precision, and its card.

    Parameters
    ----------
    data, out, settings, n_folds : of `deeprt.training.beams.train_beams`, which gave the results
    file : to write, ending in ``.safetensors``; one that is there is replaced
    """
    cohort, best = read_cohort(data), min(results, key=lambda r: r.validation_best)
    network = trained_network(out, "default", best.fold)
    assert isinstance(network, AngleNetwork)
    training, validation = list(cohort.folds(n_folds))[best.fold - 1]
    least = "" if len(results) == 1 else f", that with the least validation loss of {len(results)} trained"
    evaluated = f"{best.n_evaluated} states drawn from each part" if best.n_evaluated else "all states of each part"
    extent, organs = seen_patients(training)
    card = ModelCard(
        network=KIND,
        config=asdict(network.config),
        data=_data(cohort, training),
        split=f"By patient: {len(training)} for training, {len(validation)} for validation (fold {best.fold} of "
        f"{n_folds}{least}), {len(cohort.of('test'))} for test. The metrics are of {evaluated}.",
        budget=f"{best.n_epochs} epochs of {settings.steps_per_epoch} batches of {settings.batch}, "
        f"{best.seconds:.0f} s of training; best epoch {best.best_epoch}; seed {settings.seed}.",
        metrics={
            "training_mse": best.training_best,
            "validation_mse": best.validation_best,
            "test_mse": best.test_best,
        },
        limits=LIMITS,
        trained=datetime.date.today().isoformat(),
        commit=commit_of_code(),
        code_version=deeprt.__version__,
        site="virtual prostate" if all(p.source.startswith("virtual:") for p in training) else "the cohort's",
        organs=organs,
        n_beams_max=cohort.labels.scenarios.n_beams,
        candidates=cohort.labels.selection.candidates,
        extent_mm=extent,
    )
    return save_checkpoint(file, network, card)


def _data(cohort: Cohort, training: Sequence[CohortPatient]) -> str:
    virtual = sum(p.source.startswith("virtual:") for p in cohort.patients)
    scenarios = cohort.labels.scenarios
    n_states = len(training) * (scenarios.n_runs * scenarios.n_beams + scenarios.n_starts)
    return (
        f"{len(cohort.patients)} patients, {virtual} of them virtual; {scenarios.n_runs} runs of {scenarios.n_beams} "
        f"beams and {scenarios.n_starts} random starts a patient, labeled by column generation on machine "
        f"{cohort.machine}; {n_states} states for training."
    )


def seen_patients(patients: Sequence[CohortPatient]) -> tuple[tuple[float, float, float], tuple[str, ...]]:
    """Largest box around the targets along L, P and S, mm, and the organs at risk that all patients have."""
    boxes, organs = [], []
    for patient in patients:
        case = patient.load()
        boxes.append(targets_extent_mm(case))
        organs.append({s.organ for s in case.structures if s.role is Role.ORGAN_AT_RISK and s.organ})
    x, y, z = np.max(boxes, axis=0).round(1).tolist()
    return (x, y, z), tuple(sorted(set.intersection(*organs)))


def commit_of_code() -> str:
    """Commit of the checkout the code runs from; empty where it is none."""
    folder = Path(__file__).parent
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
