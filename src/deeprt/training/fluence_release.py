"""From a training to a fluence network that others can use: weights, and a card that says what they are worth."""

from __future__ import annotations

import datetime
from dataclasses import asdict
from pathlib import Path

import deeprt
from deeprt.fluence.predict import KIND, PAPER_KIND
from deeprt.machine_file import read_machine
from deeprt.networks.beyond_training import COPLANAR
from deeprt.networks.checkpoint import ModelCard, load_training_state, save_checkpoint
from deeprt.progress import Silent
from deeprt.training.cohort import read_cohort
from deeprt.training.commit import commit_of_code
from deeprt.training.fluence import FluenceNetworkName, fluence_data, new_network
from deeprt.training.loop import BEST, TrainResult, TrainSettings, evaluate_loss
from deeprt.training.reference_plans import ReferenceSettings
from deeprt.training.release import PLANS_LIMIT, VIRTUAL_LIMIT, budget_text, plans_text, seen_in, site_of

LIMITS = (
    "For research, not for clinical use.",
    "It has seen doses of the engine that it inverts; a dose of another system agrees less with the model of the beam.",
    "It has seen maps of sliding-window beams of one machine, equispaced and coplanar.",
    PLANS_LIMIT,
)


def release_fluence(
    data: Path,
    name: FluenceNetworkName,
    out: Path,
    result: TrainResult,
    settings: TrainSettings,
    *,
    file: Path,
) -> ModelCard:
    """Write a network with the weights of its best epoch, in half precision, and its card.

    Parameters
    ----------
    data, out, settings : of `deeprt.training.fluence.train_fluence`, which gave the result
    file : to write, ending in ``.safetensors``
    """
    cohort, plans, network = read_cohort(data), ReferenceSettings(), new_network(name, settings.seed)
    network.load_state_dict(load_training_state(out / BEST)["network"])
    training, validation = cohort.training_and_validation()
    test = fluence_data(name, data, plans, cohort.of("test"), n_jobs=1, report=Silent())
    seen = seen_in(p.load() for p in training)
    card = ModelCard(
        network=KIND if name == "default" else PAPER_KIND,
        config=asdict(network.config),
        data=plans_text(cohort.patients, plans),
        split=f"By patient: {len(training)} for training, {len(validation)} for validation, "
        f"{len(cohort.of('test'))} for test.",
        budget=budget_text(result, settings),
        metrics={
            "training_loss": result.training,
            "validation_loss": result.validation,
            "test_loss": evaluate_loss(network, test, range(len(test))),
        },
        limits=(*LIMITS, VIRTUAL_LIMIT) if all(p.is_virtual for p in training) else LIMITS,
        trained=datetime.date.today().isoformat(),
        commit=commit_of_code(),
        code_version=deeprt.__version__,
        site=site_of(training),
        organs=seen.organs,
        n_beams_max=max(plans.n_beams),
        candidates=COPLANAR,
        extent_mm=seen.extent_mm,
        n_beams_min=min(plans.n_beams),
        energy_mv=read_machine(plans.machine).energy_mv,
    )
    return save_checkpoint(file, network, card)
