"""Training of the networks that predict dose from contours: which network, on which patients."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from deeprt.config import read_settings
from deeprt.files import write_whole
from deeprt.networks.dose_network import DoseConfig, DoseNetwork
from deeprt.progress import Progress, Silent
from deeprt.training.cohort import read_cohort
from deeprt.training.dose_data import dose_volumes, prepare_doses
from deeprt.training.fluence import split
from deeprt.training.loop import RESULT_FILE, TrainSettings, claim, evaluate_loss, train
from deeprt.training.reference_plans import ReferenceSettings

Site = Literal["pelvis", "head_and_neck"]
CONFIGS: dict[Site, DoseConfig] = {
    "pelvis": DoseConfig(("Bladder", "Rectum", "Femur_Head_L", "Femur_Head_R", "PenileBulb", "Bag_Bowel")),
    "head_and_neck": DoseConfig(
        ("Brainstem", "SpinalCord", "Parotid_L", "Parotid_R", "Esophagus", "Larynx", "Bone_Mandible"), voxel_mm=5.0
    ),
}
DEFAULT_SETTINGS = TrainSettings(epochs=40, steps_per_epoch=250, batch=2, rate=2e-3, final_rate=0.02, patience=40)


@dataclass(frozen=True)
class DoseResult:
    """How a training ended; losses over the highest prescription, of the best epoch's weights.

    Parameters
    ----------
    best_epoch, n_epochs : that of the least validation loss, and how many there were
    seconds : of training
    training : mean over parts of patients, augmented
    validation : mean over whole patients
    even : of the dose of even beams, on the validation patients
    """

    best_epoch: int
    n_epochs: int
    seconds: float
    training: float
    validation: float
    even: float


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
) -> DoseResult:
    """Train a network on a cohort's development patients; a training that was stopped goes on.

    Parameters
    ----------
    data : folder of the cohort, of OpenKBP's patients, or planned by `deeprt.training.reference_plans.plan_cohort`
    out : gets checkpoints, curve and result
    """
    report, cohort, plans = progress or Silent(), read_cohort(data), ReferenceSettings()
    about = {"network": asdict(config), "settings": asdict(settings), "plans": plans.digest()}
    claim(out, {**about, "patients": [p.id for p in cohort.patients]})
    if (out / RESULT_FILE).exists():
        return read_settings(DoseResult, out / RESULT_FILE)
    patients = split(cohort)
    prepare_doses(data, config, plans, (*patients[0], *patients[1]), n_jobs=n_jobs, report=report)
    training, validation = (dose_volumes(data, config, plans, own) for own in patients)
    network = new_network(config, settings.seed)
    even = evaluate_loss(network.to(device), validation, range(len(validation)))
    epochs = train(network, training, validation, settings, out, device=device, progress=report)
    best = min(epochs, key=lambda e: e.validation)
    result = DoseResult(best.number, len(epochs), epochs[-1].seconds, best.training, best.validation, even)
    write_whole(out / RESULT_FILE, json.dumps(asdict(result), indent=1))
    return result
