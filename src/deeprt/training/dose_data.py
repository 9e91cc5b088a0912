"""What dose networks learn from: reference plans of a cohort, or the clinical doses of OpenKBP's patients."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from deeprt.beams import Beam, place_beams
from deeprt.case import PatientCase
from deeprt.cohort.openkbp import read_openkbp, read_openkbp_dose
from deeprt.errors import InputError
from deeprt.files import read_arrays, write_arrays
from deeprt.fluence.dose_prediction import dose_inputs, sampled
from deeprt.geometry import Grid
from deeprt.machine import Machine
from deeprt.machine_file import read_machine
from deeprt.networks.dose_network import (
    BODY,
    PRESCRIPTION,
    DoseConfig,
    DoseNetwork,
    dose_loss,
    mirrored,
    symmetric_dose,
)
from deeprt.orientation.selection import equispaced_angles
from deeprt.progress import Progress
from deeprt.resampling import average_onto
from deeprt.training.cohort import CohortPatient
from deeprt.training.processes import in_processes
from deeprt.training.reference_plans import ReferenceSettings, read_all_plans, reference_beams, reference_case

DOSES_FOLDER = "doses"
TARGET_WEIGHT = 2.0  # of a target's voxel in the loss, over that of another
# Nine coplanar, equidistant fields of 6 MV: Babier et al., Med. Phys. 48, 5549 (2021), doi:10.1002/mp.14845.
OPENKBP_BEAMS, OPENKBP_MACHINE = 9, "generic_6mv"
_CROP = (32, 48, 48)  # voxels of a part that a step of the training sees

Volume = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PlannedCase:
    """A case whose dose is known.

    Parameters
    ----------
    dose_gy : (n_k, n_j, n_i) whole course
    known : (n_k, n_j, n_i) bool, voxels whose dose counts
    """

    case: PatientCase
    beams: tuple[Beam, ...]
    machine: Machine
    dose_gy: Volume
    known: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class DoseVolumes:
    """Features of patients and their doses; a `TrainingData`.

    Parameters
    ----------
    features : (n_features, n_k, n_j, n_i) float16 of each patient, see `deeprt.networks.dose_network.FEATURES`
    dose : (n_k, n_j, n_i) float16 of each, over the highest prescription
    weight : (n_k, n_j, n_i) float16 of each: share of the voxel whose dose is known, in targets `TARGET_WEIGHT` times
    """

    features: tuple[Tensor, ...]
    dose: tuple[Tensor, ...]
    weight: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.dose)

    def loss(self, network: nn.Module, states: Sequence[int], rng: np.random.Generator | None) -> Tensor:
        """Mean absolute error of some patients; with a generator, of a part of each, mirrored every other time."""
        assert isinstance(network, DoseNetwork)
        device = next(network.parameters()).device
        if rng is None:
            losses = []
            for n in states:
                features, dose, weight = (v[n].float().to(device) for v in (self.features, self.dose, self.weight))
                losses.append(dose_loss(symmetric_dose(network, features)[None], dose[None], weight[None]))
            return torch.stack(losses).mean()
        parts = [self._part(network.config, n, rng) for n in states]
        features, dose, weight = (torch.stack(part).float().to(device) for part in zip(*parts, strict=True))
        return dose_loss(network(features), dose, weight)

    def _part(self, config: DoseConfig, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Features, dose and weight of a box around some voxel of a patient whose dose is known."""
        weight = self.weight[n]
        counting = torch.nonzero(weight.flatten() > 0).flatten()
        voxel = np.unravel_index(int(counting[rng.integers(len(counting))]), weight.shape)
        first = [
            int(np.clip(at - rng.integers(size), 0, max(n_all - size, 0)))
            for at, size, n_all in zip(voxel, _CROP, weight.shape, strict=True)
        ]
        features = cropped(self.features[n], first, mode="replicate")
        dose, weight = (cropped(v[n][None], first, mode="constant")[0] for v in (self.dose, self.weight))
        if rng.random() < 0.5:
            return mirrored(features, config), dose.flip(-1), weight.flip(-1)
        return features, dose, weight


def cropped(volumes: Tensor, first: Sequence[int], *, mode: str) -> Tensor:
    """A box of volumes (n, n_k, n_j, n_i) from a first voxel on, padded behind its end where they end."""
    k, j, i = (slice(f, f + size) for f, size in zip(first, _CROP, strict=True))
    part = volumes[:, k, j, i]
    lacks = [lack for size, n in zip(_CROP[::-1], part.shape[:0:-1], strict=True) for lack in (0, size - n)]
    return functional.pad(part.float(), lacks, mode=mode)


def planned_case(folder: Path, patient: CohortPatient, plans: ReferenceSettings) -> PlannedCase:
    """A patient of a cohort and its dose: the clinical one of OpenKBP, or that of the reference plan.

    Raises
    ------
    InputError
        If there is no reference plan of these settings.
    """
    if patient.is_openkbp:
        source = Path(patient.source)
        case, machine, dose_gy = read_openkbp(source), read_machine(OPENKBP_MACHINE), read_openkbp_dose(source)
        beams = place_beams(case, equispaced_angles(OPENKBP_BEAMS), machine)
        # The data set cuts the dose to zero outside the voxels that it says can get any.
        return PlannedCase(case, beams, machine, dose_gy, dose_gy > 0)
    case, machine = reference_case(patient, plans), read_machine(plans.machine)
    (plan,) = read_all_plans(folder, plans, [patient])
    beams = reference_beams(case, plan, machine)
    return PlannedCase(case, beams, machine, plan.dose_gy, case.external.fraction > 0)


def prepare_doses(
    folder: Path,
    config: DoseConfig,
    plans: ReferenceSettings,
    patients: Sequence[CohortPatient],
    *,
    n_jobs: int,
    report: Progress,
) -> None:
    """Bring the patients that are not prepared yet to the network's voxels; what is there is kept."""
    missing = [p for p in patients if not _file(folder, config, plans, p).exists()]
    work = partial(_prepare, folder, config, plans)
    in_processes("doses", work, missing, n_all=len(patients), n_jobs=n_jobs, report=report)


def dose_volumes(
    folder: Path, config: DoseConfig, plans: ReferenceSettings, patients: Sequence[CohortPatient]
) -> DoseVolumes:
    """Volumes of patients, all of which were prepared."""
    found = [read_arrays(_file(folder, config, plans, p)) for p in patients]
    features, dose, weight = (
        tuple(torch.from_numpy(f[name]) for f in found) for name in ("features", "dose", "weight")
    )
    return DoseVolumes(features, dose, weight)


def _file(folder: Path, config: DoseConfig, plans: ReferenceSettings, patient: CohortPatient) -> Path:
    """Where the volumes of a patient are kept; under another name for other settings."""
    about = json.dumps([plans.digest(), config.organs, config.voxel_mm, TARGET_WEIGHT])
    return folder / DOSES_FOLDER / hashlib.sha256(about.encode()).hexdigest()[:12] / f"{patient.id}.npz"


def _prepare(folder: Path, config: DoseConfig, plans: ReferenceSettings, patient: CohortPatient) -> None:
    planned = planned_case(folder, patient, plans)
    case, known = planned.case, planned.known.astype(np.float32)
    inputs = dose_inputs(case, planned.beams, planned.machine, config)
    share = _averaged(known, case.grid, inputs.grid)
    dose_gy = _averaged(planned.dose_gy * known, case.grid, inputs.grid) / np.maximum(share, 1e-6)
    counts = share * (inputs.features[BODY] > 0)
    if not counts.any():
        raise InputError(f"Patient {patient.id} has no dose inside the body.")
    weight = counts * np.where(inputs.features[PRESCRIPTION] > 0, TARGET_WEIGHT, 1.0)
    arrays = {"features": inputs.features, "dose": dose_gy / inputs.prescription_gy, "weight": weight}
    write_arrays(
        _file(folder, config, plans, patient), {name: values.astype(np.float16) for name, values in arrays.items()}
    )


def _averaged(values: Volume, source: Grid, target: Grid) -> Volume:
    """Mean of a volume over the voxels of a grid that `dose_inputs` made from the volume's one."""
    coarse = source.resampled(target.spacing_mm[0])
    return sampled(average_onto(values, source, coarse), coarse, target)
