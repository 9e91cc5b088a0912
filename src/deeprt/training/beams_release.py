"""From a training to a network of beams that others can use: weights, and a card that says what they are worth."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import deeprt
from deeprt.networks.angle_network import AngleNetwork
from deeprt.networks.checkpoint import ModelCard, save_checkpoint
from deeprt.orientation.network_prediction import KIND
from deeprt.training.beams import FoldResult, trained_network
from deeprt.training.cohort import Cohort, CohortPatient, read_cohort
from deeprt.training.commit import commit_of_code
from deeprt.training.loop import TrainSettings
from deeprt.training.release import budget_text, seen_in, site_of

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
    seen = seen_in(p.load() for p in training)
    card = ModelCard(
        network=KIND,
        config=asdict(network.config),
        data=_data(cohort, training),
        split=f"By patient: {len(training)} for training, {len(validation)} for validation (fold {best.fold} of "
        f"{n_folds}{least}), {len(cohort.of('test'))} for test. The metrics are of {evaluated}.",
        budget=budget_text(best, settings),
        metrics={
            "training_mse": best.training_best,
            "validation_mse": best.validation_best,
            "test_mse": best.test_best,
        },
        limits=LIMITS,
        trained=datetime.date.today().isoformat(),
        commit=commit_of_code(),
        code_version=deeprt.__version__,
        site=site_of(training),
        organs=seen.organs,
        n_beams_max=cohort.labels.scenarios.n_beams,
        candidates=cohort.labels.selection.candidates,
        extent_mm=seen.extent_mm,
    )
    return save_checkpoint(file, network, card)


def _data(cohort: Cohort, training: Sequence[CohortPatient]) -> str:
    virtual = sum(p.is_virtual for p in cohort.patients)
    scenarios = cohort.labels.scenarios
    n_states = len(training) * (scenarios.n_runs * scenarios.n_beams + scenarios.n_starts)
    return (
        f"{len(cohort.patients)} patients, {virtual} of them virtual; {scenarios.n_runs} runs of {scenarios.n_beams} "
        f"beams and {scenarios.n_starts} random starts a patient, labeled by column generation on machine "
        f"{cohort.machine}; {n_states} states for training."
    )
