"""Training of the networks that predict dose from contours: which network, on which patients."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch

from deeprt.config import read_settings
from deeprt.errors import InputError
from deeprt.networks.dose_network import FEATURES, DoseConfig, DoseNetwork
from deeprt.progress import Progress, Silent
from deeprt.training.cohort import read_cohort
from deeprt.training.dose_data import dose_volumes, prepare_doses
from deeprt.training.loop import RESULT_FILE, TrainResult, TrainSettings, claim, evaluate_loss, keep_result, train
from deeprt.training.reference_plans import ReferenceSettings

Site = Literal["pelvis", "head_and_neck"]
CONFIGS: dict[Site, DoseConfig] = {
    "pelvis": DoseConfig(("Bladder", "Rectum", "Femur_Head_L", "Femur_Head_R", "PenileBulb", "Bag_Bowel")),
    "head_and_neck": DoseConfig(
        ("Brainstem", "SpinalCord", "Parotid_L", "Parotid_R", "Esophagus", "Larynx", "Bone_Mandible"), voxel_mm=5.0
    ),
}
DEFAULT_SETTINGS = TrainSettings(epochs=40, steps_per_epoch=250, batch=2, rate=2e-3, final_rate=0.02, patience=40)


def new_network(config: DoseConfig, seed: int) -> DoseNetwork:
    """An untrained network."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return DoseNetwork(config)


def train_dose(
    data: Path,
    config: DoseConfig,
    out: Path,
    settings: TrainSettings,
    *,
    n_jobs: int = 1,
    device: str = "cpu",
    progress: Progress | None = None,
) -> TrainResult:
    """Train a network on a cohort's development patients; a training that was stopped goes on.

    Losses are over the highest prescription: in training those of parts of patients, in validation of whole ones.

    Parameters
    ----------
    data : folder of the cohort, of OpenKBP's patients, or planned by `deeprt.training.reference_plans.plan_cohort`
    out : gets checkpoints, curve and result

    Raises
    ------
    InputError
        If no patient has an organ at risk of the configuration, or as `deeprt.training.loop.train`.
    """
    report, cohort, plans = progress or Silent(), read_cohort(data), ReferenceSettings()
    about = {"network": asdict(config), "settings": asdict(settings), "plans": plans.digest()}
    claim(out, {**about, "patients": [p.id for p in cohort.patients]})
    if (out / RESULT_FILE).exists():
        return read_settings(TrainResult, out / RESULT_FILE)
    patients = cohort.training_and_validation()
    prepare_doses(data, config, plans, (*patients[0], *patients[1]), n_jobs=n_jobs, report=report)
    training, validation = (dose_volumes(data, config, plans, own) for own in patients)
    if not any(features[len(FEATURES) :].any() for features in training.features):
        raise InputError(
            f"No patient of '{data}' has an organ at risk that the network is to learn ({', '.join(config.organs)}); "
            "choose the site of these patients."
        )
    network = new_network(config, settings.seed)
    even = evaluate_loss(network.to(device), validation, range(len(validation)))
    epochs = train(network, training, validation, settings, out, device=device, progress=report)
    return keep_result(out, epochs, even=even)
