"""Training of the networks that predict fluence from dose: which network, on which plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch

from deeprt.config import read_settings
from deeprt.networks.dual_frame import DualFrameConfig, DualFrameNetwork
from deeprt.networks.fluence_network import FluenceNetwork
from deeprt.progress import Progress, Silent
from deeprt.training.cohort import CohortPatient, read_cohort
from deeprt.training.fluence_data import BeamViews, InvertedMaps, beam_views, inverted_maps, prepare_inversions
from deeprt.training.loop import RESULT_FILE, TrainResult, TrainSettings, claim, keep_result, train
from deeprt.training.reference_plans import ReferenceSettings, read_all_plans

FluenceNetworkName = Literal["default", "paper", "dose-only", "reversed"]
FluenceData = InvertedMaps | BeamViews
PAPER_CONFIGS: dict[FluenceNetworkName, DualFrameConfig] = {
    "paper": DualFrameConfig(),
    "dose-only": DualFrameConfig(n_contour_volumes=0),
    "reversed": DualFrameConfig(reverse_labels=True),
}
# 100 epochs of 115,800 beams, shifts included, in batches of 15.
PAPER_SETTINGS = TrainSettings(
    epochs=100, steps_per_epoch=7720, batch=15, rate=1e-3, rate_drop=0.8, drop_epochs=10, clip=1e-4, patience=100
)
DEFAULT_SETTINGS = TrainSettings(epochs=40, steps_per_epoch=150, batch=14, rate=1e-3, final_rate=0.02, patience=40)


def new_network(name: FluenceNetworkName, seed: int) -> FluenceNetwork | DualFrameNetwork:
    """An untrained network."""
    if name == "default":
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return FluenceNetwork()
    return DualFrameNetwork(PAPER_CONFIGS[name], generator=torch.Generator().manual_seed(seed))


def train_fluence(
    data: Path,
    name: FluenceNetworkName,
    out: Path,
    settings: TrainSettings,
    *,
    n_jobs: int = 1,
    device: str = "cpu",
    progress: Progress | None = None,
) -> TrainResult:
    """Train a network on the reference plans of a cohort's development patients; one that was stopped goes on.

    Parameters
    ----------
    data : folder of the cohort, planned by `deeprt.training.reference_plans.plan_cohort`
    out : gets checkpoints, curve and result
    """
    report, cohort, plans = progress or Silent(), read_cohort(data), ReferenceSettings()
    about = {"network": name, "settings": asdict(settings), "plans": plans.digest(), "cohort": asdict(cohort)}
    claim(out, about)
    if (out / RESULT_FILE).exists():
        return read_settings(TrainResult, out / RESULT_FILE)
    patients = cohort.training_and_validation()
    training, validation = (fluence_data(name, data, plans, own, n_jobs=n_jobs, report=report) for own in patients)
    network = new_network(name, settings.seed)
    epochs = train(network, training, validation, settings, out, device=device, progress=report)
    return keep_result(out, epochs)


def fluence_data(
    name: FluenceNetworkName,
    folder: Path,
    plans: ReferenceSettings,
    patients: Sequence[CohortPatient],
    *,
    n_jobs: int,
    report: Progress,
) -> FluenceData:
    """Plans of patients as a network takes them."""
    if name != "default":
        return beam_views(PAPER_CONFIGS[name], folder, plans, patients)
    read_all_plans(folder, plans, patients)
    prepare_inversions(folder, plans, patients, n_jobs=n_jobs, report=report)
    return inverted_maps(folder, plans, patients)
