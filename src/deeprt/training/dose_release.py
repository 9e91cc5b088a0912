"""From a training to a dose network that others can use: weights, and a card that says what they are worth."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import deeprt
from deeprt.fluence.dose_prediction import KIND
from deeprt.machine_file import read_machine
from deeprt.networks.beyond_training import COPLANAR
from deeprt.networks.checkpoint import ModelCard, load_training_state, save_checkpoint
from deeprt.training.cohort import CohortPatient, read_cohort
from deeprt.training.commit import commit_of_code
from deeprt.training.dose import CONFIGS, Site, new_network
from deeprt.training.dose_data import OPENKBP_BEAMS, OPENKBP_MACHINE, TARGET_WEIGHT
from deeprt.training.loop import BEST, TrainResult, TrainSettings
from deeprt.training.reference_plans import ReferenceSettings, read_all_plans, reference_case
from deeprt.training.release import PLANS_LIMIT, VIRTUAL_LIMIT, budget_text, plans_text, seen_in

LIMITS = (
    "For research, not for clinical use.",
    "It predicts what plans like those of its training would give, not what is best for a patient.",
    "It has seen equispaced, coplanar beams only, and no energy, number of beams or levels of prescription but those "
    "named here.",
    "To organs at risk that it does not know it gives the dose of any other tissue.",
)
OPENKBP_LIMIT = "It imitates the doses of one data set, whose machine and planning system are not those of DeepRT."


def release_dose(
    data: Path, site: Site, out: Path, result: TrainResult, settings: TrainSettings, *, file: Path
) -> ModelCard:
    """Write a network with the weights of its best epoch, in half precision, and its card.

    Parameters
    ----------
    data, out, settings : of `deeprt.training.dose.train_dose`, which gave the result
    site : whose configuration was trained
    file : to write, ending in ``.safetensors``
    """
    cohort, plans, network = read_cohort(data), ReferenceSettings(), new_network(CONFIGS[site], settings.seed)
    network.load_state_dict(load_training_state(out / BEST)["network"])
    training, validation = cohort.training_and_validation()
    assert result.even is not None  # `train_dose` finds it
    seen = seen_in(p.load() if p.is_openkbp else reference_case(p, plans) for p in training)
    n_beams = {OPENKBP_BEAMS if p.is_openkbp else read_all_plans(data, plans, [p])[0].n_beams for p in training}
    energies_mv = {read_machine(OPENKBP_MACHINE if p.is_openkbp else plans.machine).energy_mv for p in training}
    all_virtual = all(p.is_virtual for p in training)
    card = ModelCard(
        network=KIND,
        config=asdict(network.config),
        data=_data(cohort.patients, plans),
        split=f"By patient: {len(training)} for training, {len(validation)} for validation, "
        f"{len(cohort.of('test'))} for test. The metrics are mean absolute errors over the highest prescription, in "
        f"which voxels of targets count {TARGET_WEIGHT:g} times, in the training those of parts of patients; "
        "even_beams_validation_loss is that of the dose of even beams, which the network corrects.",
        budget=budget_text(result, settings),
        metrics={
            "training_loss": result.training,
            "validation_loss": result.validation,
            "even_beams_validation_loss": result.even,
        },
        limits=_limits(training),
        trained=datetime.date.today().isoformat(),
        commit=commit_of_code(),
        code_version=deeprt.__version__,
        site=("virtual " if all_virtual else "") + site.replace("_", " "),
        organs=seen.organs,
        n_beams_max=max(n_beams),
        candidates=COPLANAR,
        extent_mm=seen.extent_mm,
        n_beams_min=min(n_beams),
        energy_mv=energies_mv.pop() if len(energies_mv) == 1 else None,
        prescription_levels=seen.prescription_levels,
    )
    return save_checkpoint(file, network, card)


def _data(patients: Sequence[CohortPatient], plans: ReferenceSettings) -> str:
    """What the patients and their doses are, with the license of those that are not ours."""
    planned = [p for p in patients if not p.is_openkbp]
    parts = [plans_text(planned, plans)] if planned else []
    if n_openkbp := len(patients) - len(planned):
        parts.append(
            f"{n_openkbp} head-and-neck patients of OpenKBP with their doses: 70, 63 and 56 Gy in 35 fractions, "
            f"{OPENKBP_BEAMS} equispaced beams of 6 MV, even beams by {OPENKBP_MACHINE}. License of the data: MIT, "
            "A. Babier et al., Med. Phys. 48, 5549 (2021), doi:10.1002/mp.14845."
        )
    return " ".join(parts)


def _limits(training: Sequence[CohortPatient]) -> tuple[str, ...]:
    limits: tuple[str, ...] = LIMITS
    if all(p.is_virtual for p in training):
        limits += (VIRTUAL_LIMIT,)
    if not all(p.is_openkbp for p in training):
        limits += (PLANS_LIMIT,)
    if any(p.is_openkbp for p in training):
        limits += (OPENKBP_LIMIT,)
    return limits
