"""What fluence networks learn from: reference plans, inverted for ours, in beam's-eye view for the paper's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from deeprt.beams import Beam
from deeprt.files import read_arrays, write_arrays
from deeprt.fluence.inversion import TRAINED_PIXELS, InversionSettings, invert
from deeprt.machine_file import read_machine
from deeprt.networks.beams_eye_view import ViewSampling
from deeprt.networks.case_views import CaseViews, case_views
from deeprt.networks.dual_frame import DualFrameConfig, fluence_loss
from deeprt.progress import Progress
from deeprt.training.cohort import CohortPatient
from deeprt.training.processes import in_processes
from deeprt.training.reference_plans import (
    ReferenceSettings,
    read_all_plans,
    reference_beams,
    reference_case,
)

INVERSIONS_FOLDER = "inversions"
_SHIFTS = tuple((x, y) for x in range(-16, 17, 4) for y in range(-16, 17, 4) if (x, y) != (0, 0))  # 80, pixels


@dataclass(frozen=True, eq=False)
class InvertedMaps:
    """Features of maps and the maps that gave the dose, in the features' scale; a `TrainingData`.

    Parameters
    ----------
    features : (n_maps, n_features, n_rows, n_columns) float16
    fluence : (n_maps, n_rows, n_columns) float16, of the reference plans
    """

    features: Tensor
    fluence: Tensor

    def __len__(self) -> int:
        return len(self.fluence)

    def loss(self, network: nn.Module, states: Sequence[int], rng: np.random.Generator | None) -> Tensor:
        """The paper's loss of some maps, each over its maximum; with a generator, they may be mirrored together."""
        device = next(network.parameters()).device
        features, fluence = (v[list(states)].float().to(device) for v in (self.features, self.fluence))
        if rng is not None:
            flips = [axis for axis in (-1, -2) if rng.random() < 0.5]
            features, fluence = features.flip(flips), fluence.flip(flips)
        highest = fluence.amax((1, 2), keepdim=True)
        return fluence_loss(network(features) / highest, fluence / highest, data_range=1.0)


def prepare_inversions(
    folder: Path, settings: ReferenceSettings, patients: Sequence[CohortPatient], *, n_jobs: int, report: Progress
) -> None:
    """Invert the doses of the reference plans that are not inverted yet; what is there is kept."""
    missing = [p for p in patients if not _inversion_file(folder, settings, p).exists()]
    work = partial(_invert, folder, settings)
    in_processes("inversions", work, missing, n_all=len(patients), n_jobs=n_jobs, report=report)


def inverted_maps(folder: Path, settings: ReferenceSettings, patients: Sequence[CohortPatient]) -> InvertedMaps:
    """Inverted maps of patients, all of which were prepared."""
    found = [read_arrays(_inversion_file(folder, settings, p)) for p in patients]
    features, fluence = (torch.from_numpy(np.concatenate([f[name] for f in found])) for name in ("features", "fluence"))
    return InvertedMaps(features, fluence)


def _inversion_file(folder: Path, settings: ReferenceSettings, patient: CohortPatient) -> Path:
    """Where the inverted dose of a patient's plan is kept; under another name for other settings."""
    about = json.dumps([settings.digest(), asdict(InversionSettings()), TRAINED_PIXELS])
    return folder / INVERSIONS_FOLDER / hashlib.sha256(about.encode()).hexdigest()[:12] / f"{patient.id}.npz"


def _invert(folder: Path, settings: ReferenceSettings, patient: CohortPatient) -> None:
    case, plan = reference_case(patient, settings), read_all_plans(folder, settings, [patient])[0]
    machine = read_machine(settings.machine)
    inversion = invert(case, reference_beams(case, plan, machine), machine, plan.dose_gy)
    fluence = torch.from_numpy(plan.fmu * plan.beam_mu[:, None, None].astype(np.float32))
    fluence = fluence / inversion.scale_mu[:, None, None]
    border = (ViewSampling().n_pixels - TRAINED_PIXELS) // 2
    kept = slice(border, -border)
    jaws = inversion.features[:, -1]
    whole = (jaws[:, kept, kept].sum((1, 2)) == jaws.sum((1, 2))).numpy()
    arrays = {"features": inversion.features[:, :, kept, kept], "fluence": fluence[:, kept, kept]}
    write_arrays(
        _inversion_file(folder, settings, patient),
        {name: values.numpy()[whole].astype(np.float16) for name, values in arrays.items()},
    )


@dataclass(frozen=True, eq=False)
class BeamViews:
    """Views of single beams and their maps, made when they are asked for; a `TrainingData`.

    Parameters
    ----------
    views : of each patient
    beams : patient and beam of each state
    fmu : (n_states, n_pixels, n_pixels) float16
    """

    views: tuple[CaseViews, ...]
    beams: tuple[tuple[int, Beam], ...]
    fmu: NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.beams)

    def loss(self, network: nn.Module, states: Sequence[int], rng: np.random.Generator | None) -> Tensor:
        """The paper's loss of some beams; with a generator, moved by one of 80 shifts that truncate no field."""
        device = next(network.parameters()).device
        views, maps = [], []
        for state in states:
            patient, beam = self.beams[state]
            seen, fmu = self.views[patient].of(beam), torch.from_numpy(self.fmu[state].astype(np.float32))
            if rng is not None:
                seen, fmu = _shifted(seen, fmu, rng)
            views.append(seen)
            maps.append(fmu)
        predicted = network(torch.stack(views).to(device))
        return fluence_loss(predicted, torch.stack(maps).to(device), data_range=1.0)


def beam_views(
    config: DualFrameConfig, folder: Path, settings: ReferenceSettings, patients: Sequence[CohortPatient]
) -> BeamViews:
    """Views of all beams of patients, as the paper's network takes them."""
    machine, views, beams, fmu = read_machine(settings.machine), [], [], []
    for n, (patient, plan) in enumerate(zip(patients, read_all_plans(folder, settings, patients), strict=True)):
        case = reference_case(patient, settings)
        views.append(case_views(config, case, plan.dose_gy))
        beams += [(n, beam) for beam in reference_beams(case, plan, machine)]
        fmu.append(plan.fmu.astype(np.float16))
    return BeamViews(tuple(views), tuple(beams), np.concatenate(fmu))


def _shifted(views: Tensor, fmu: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Move views and map together, by a shift that leaves the whole field on the map, or not at all."""
    rows, columns = (torch.nonzero(fmu.any(axis)).flatten() for axis in (1, 0))
    possible = [
        (x, y)
        for x, y in _SHIFTS
        if int(columns[0]) + x >= 0 and int(columns[-1]) + x < fmu.shape[1]
        and int(rows[0]) + y >= 0 and int(rows[-1]) + y < fmu.shape[0]
    ]  # fmt: skip
    if not possible:
        return views, fmu
    x, y = possible[int(rng.integers(len(possible)))]
    return _moved(views, x, y), _moved(fmu, x, y)


def _moved(images: Tensor, x: int, y: int) -> Tensor:
    """Images moved by whole pixels along columns and rows, zero where nothing comes in."""
    n_rows, n_columns = images.shape[-2:]
    padded = functional.pad(images, (max(x, 0), max(-x, 0), max(y, 0), max(-y, 0)))
    top, left = max(-y, 0), max(-x, 0)
    return padded[..., top : top + n_rows, left : left + n_columns]
