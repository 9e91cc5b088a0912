"""From a training to a dose network that others can use: weights, and a card that says what they are worth."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import deeprt
from deeprt.cohort.openkbp import is_openkbp
from deeprt.fluence.dose_prediction import KIND
from deeprt.machine_file import read_machine
from deeprt.networks.beyond_training import COPLANAR
from deeprt.networks.checkpoint import ModelCard, load_training_state, save_checkpoint
from deeprt.training.cohort import CohortPatient, read_cohort
from deeprt.training.dose import CONFIGS, DoseResult, Site, new_network
from deeprt.training.dose_data import OPENKBP_BEAMS, OPENKBP_MACHINE, TARGET_WEIGHT
from deeprt.training.fluence import split
from deeprt.training.loop import BEST, TrainSettings
from deeprt.training.reference_plans import ReferenceSettings, read_all_plans, reference_case
from deeprt.training.release import budget_text, commit_of_code, seen_in

LIMITS = (
    "For research, not for clinical use.",
    "It predicts what plans like those of its training would give, not what is best for a patient.",
    "It has seen equispaced, coplanar beams only, and no energy, number of beams or levels of prescription but those "
    "named here.",
    "To organs at risk that it does not know it gives the dose of any other tissue.",
)
VIRTUAL_LIMIT = "It has seen virtual patients only."
PLANS_LIMIT = "It imitates plans of DeepRT's optimizer for drawn preferences, not those of a physician."
OPENKBP_LIMIT = "It imitates the doses of one data set, whose machine and planning system are not those of DeepRT."


def release_dose(
    data: Path, site: Site, out: Path, result: DoseResult, settings: TrainSettings, *, file: Path
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
    training, validation = split(cohort)
    seen = seen_in(p.load() if _is_openkbp(p) else reference_case(p, plans) for p in training)
    n_beams = {OPENKBP_BEAMS if _is_openkbp(p) else read_all_plans(data, plans, [p])[0].n_beams for p in training}
    energies_mv = {read_machine(OPENKBP_MACHINE if _is_openkbp(p) else plans.machine).energy_mv for p in training}
    all_virtual = all(_is_virtual(p) for p in training)
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
    """What the patients and their doses are, with the licence of those that are not ours."""
    n_openkbp = sum(_is_openkbp(p) for p in patients)
    parts = []
    if n_planned := len(patients) - n_openkbp:
        parts.append(
            f"{n_planned} patients, {sum(_is_virtual(p) for p in patients)} of them virtual, a reference plan each: "
            f"{plans.prescription_gy:g} Gy in {plans.n_fractions} fractions to the union of the targets, "
            f"{plans.machine}, {min(plans.n_beams)} to {max(plans.n_beams)} equispaced beams, sliding window."
        )
    if n_openkbp:
        parts.append(
            f"{n_openkbp} head-and-neck patients of OpenKBP with their doses: 70, 63 and 56 Gy in 35 fractions, "
            f"{OPENKBP_BEAMS} equispaced beams of 6 MV, even beams by {OPENKBP_MACHINE}. Licence of the data: MIT, "
            "A. Babier et al., Med. Phys. 48, 5549 (2021), doi:10.1002/mp.14845."
        )
    return " ".join(parts)


def _limits(training: Sequence[CohortPatient]) -> tuple[str, ...]:
    limits: tuple[str, ...] = LIMITS
    if all(_is_virtual(p) for p in training):
        limits += (VIRTUAL_LIMIT,)
    if not all(_is_openkbp(p) for p in training):
        limits += (PLANS_LIMIT,)
    if any(_is_openkbp(p) for p in training):
        limits += (OPENKBP_LIMIT,)
    return limits


def _is_virtual(patient: CohortPatient) -> bool:
    return patient.source.startswith("virtual:")


def _is_openkbp(patient: CohortPatient) -> bool:
    return is_openkbp(Path(patient.source))
