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
from deeprt.training.fluence import FluenceNetworkName, FluenceResult, fluence_data, new_network, split
from deeprt.training.loop import BEST, TrainSettings, evaluate_loss
from deeprt.training.reference_plans import ReferenceSettings
from deeprt.training.release import budget_text, commit_of_code, seen_in

LIMITS = (
    "For research, not for clinical use.",
    "It has seen virtual patients only, and doses of the engine that it inverts; a dose of another system agrees less "
    "with the model of the beam.",
    "It has seen maps of sliding-window beams of one machine, equispaced and coplanar, for targets with pelvic nodes.",
    "It imitates plans of DeepRT's optimizer for drawn preferences, not those of a physician.",
)


def release_fluence(
    data: Path,
    name: FluenceNetworkName,
    out: Path,
    result: FluenceResult,
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
    training, validation = split(cohort)
    test = fluence_data(name, data, plans, cohort.of("test"), n_jobs=1, report=Silent())
    seen = seen_in(p.load() for p in training)
    card = ModelCard(
        network=KIND if name == "default" else PAPER_KIND,
        config=asdict(network.config),
        data=f"{len(cohort.patients)} virtual prostate patients with nodal targets (seed of the cohort in its file), a "
        f"reference plan each: {plans.prescription_gy:g} Gy in {plans.n_fractions} fractions, {plans.machine}, "
        f"{min(plans.n_beams)} to {max(plans.n_beams)} equispaced beams, sliding window.",
        split=f"By patient: {len(training)} for training, {len(validation)} for validation, "
        f"{len(cohort.of('test'))} for test.",
        budget=budget_text(result, settings),
        metrics={
            "training_loss": result.training,
            "validation_loss": result.validation,
            "test_loss": evaluate_loss(network, test, range(len(test))),
        },
        limits=LIMITS,
        trained=datetime.date.today().isoformat(),
        commit=commit_of_code(),
        code_version=deeprt.__version__,
        site="virtual prostate with nodes",
        organs=seen.organs,
        n_beams_max=max(plans.n_beams),
        candidates=COPLANAR,
        extent_mm=seen.extent_mm,
        n_beams_min=min(plans.n_beams),
        energy_mv=read_machine(plans.machine).energy_mv,
    )
    return save_checkpoint(file, network, card)
