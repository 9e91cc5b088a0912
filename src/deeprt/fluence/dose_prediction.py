"""Dose from contours and prescription, by a network: what a plan of given beams would reach, before it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, distance_transform_edt
from scipy.optimize import linear_sum_assignment

from deeprt.beams import Beam
from deeprt.case import PatientCase, union
from deeprt.dose.influence import beam_influence
from deeprt.errors import InputError
from deeprt.geometry import Grid
from deeprt.machine import Machine
from deeprt.networks.beyond_training import larger_targets, missing_organs, other_beams
from deeprt.networks.checkpoint import ModelCard, load_network
from deeprt.networks.dose_network import BODY, DoseConfig, DoseNetwork, symmetric_dose
from deeprt.structures import BESIDE_PATIENT, Role

KIND = "dose network"  # as in its model card
SHIPPED = ("deepdose_pelvis.safetensors", "deepdose_head_and_neck.safetensors")

_DISTANCE_MM, _DISTANCE_LIMITS = 50.0, (-0.5, 2.0)
_SAME_LEVEL = 0.02  # difference of prescriptions over the highest one that does not count
_IMAGE_PIXEL_MM = 2.5  # sampling of the convolved fluence, fine enough for voxels of 5 mm

Volume = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class DoseInputs:
    """What the dose network is given of a case.

    Parameters
    ----------
    grid : box around the body; its axes i, j, k are those of the case that run nearest to L, P and S
    features : (n_features, n_k, n_j, n_i) float32, see `deeprt.networks.dose_network.FEATURES`
    prescription_gy : the highest one, which is 1 in features and prediction
    """

    grid: Grid
    features: Volume
    prescription_gy: float


def dose_inputs(case: PatientCase, beams: Sequence[Beam], machine: Machine, config: DoseConfig) -> DoseInputs:
    """Prepare a case for the network.

    Parameters
    ----------
    beams : placed on the targets; what counts of them is which beamlets are open

    Raises
    ------
    InputError
        If there is no target with a prescription, or a beam misses the one of highest prescription.
    """
    if not case.targets:
        raise InputError("Dose prediction needs a target with a prescription; give one.")
    coarse = _coarse(case, config)
    highest_gy = coarse.targets[0].prescription_gy or 0.0
    features = np.stack(
        [
            np.maximum.reduce([t.fraction * ((t.prescription_gy or 0.0) / highest_gy) for t in coarse.targets]),
            _distance(coarse),
            coarse.density,
            coarse.external.fraction,
            even_dose(coarse, beams, machine),
            *(_organ(coarse, name) for name in config.organs),
        ]
    )
    return DoseInputs(*_upright(*_around_body(coarse, features.astype(np.float32))), highest_gy)


def wished_dose(
    case: PatientCase, beams: Sequence[Beam], machine: Machine, file: Path | None = None
) -> tuple[Volume, tuple[str, ...]]:
    """Predict the dose that fluence is to be predicted from.

    Parameters
    ----------
    file : of the network; the shipped one that fits the case if None

    Returns
    -------
    The dose as `predict_dose` gives it, and notes: which network it is from, where the case lies outside its training

    Raises
    ------
    InputError
        As `dose_inputs`, `network_for` and `network_of`.
    """
    card, network = network_for(case) if file is None else network_of(file)
    source = f"the dose network for {card.site}" if file is None else f"the dose network '{file}'"
    note = f"The wished dose, from which fluence was predicted, comes from {source}."
    return predict_dose(case, beams, machine, network), (note, *beyond_training(card, network, case, beams, machine))


def predict_dose(
    case: PatientCase,
    beams: Sequence[Beam],
    machine: Machine,
    network: DoseNetwork,
    *,
    where: NDArray[np.bool_] | None = None,
) -> Volume:
    """Predict the dose of a plan.

    Parameters
    ----------
    where : (n_k, n_j, n_i) voxels that get dose; those of the external structure if None

    Returns
    -------
    (n_k, n_j, n_i) float32 Gy, whole course, on the case's grid; not negative

    Raises
    ------
    InputError
        As `dose_inputs`.
    """
    inputs = dose_inputs(case, beams, machine, network.config)
    with torch.inference_mode():
        relative = symmetric_dose(network, torch.from_numpy(inputs.features)).clamp(min=0).numpy()
    return to_case(relative * np.float32(inputs.prescription_gy), inputs, case, where=where)


def to_case(
    dose_gy: Volume, inputs: DoseInputs, case: PatientCase, *, where: NDArray[np.bool_] | None = None
) -> Volume:
    """Bring a dose from the network's voxels to the case's; parameters and result as in `predict_dose`.

    Voxels outside the body take the dose of the nearest one inside, so that the skin's is not mixed with zeros.
    """
    outside = inputs.features[BODY] == 0
    nearest = distance_transform_edt(outside, return_distances=False, return_indices=True)
    dosed = case.external.fraction > 0 if where is None else where
    return np.where(dosed, sampled(dose_gy[tuple(nearest)], inputs.grid, case.grid), np.float32(0))


def even_dose(case: PatientCase, beams: Sequence[Beam], machine: Machine) -> Volume:
    """Dose of beams of equal fluence in their open beamlets, (n_k, n_j, n_i).

    Every beam gives the target of highest prescription the same mean dose, all together 1.
    """
    target = case.targets[0]
    voxels = np.flatnonzero(case.external.fraction > 0)
    points, share = case.grid.points_lps(voxels), torch.from_numpy(target.fraction.ravel()[voxels])
    total = torch.zeros(voxels.size)
    for beam in beams:
        influence = beam_influence(case, beam, machine, points, torch.device("cpu"), pixel_mm=_IMAGE_PIXEL_MM)
        dose = influence.dose(torch.ones(1, beam.n_open))[0]
        mean = float((dose * share).sum() / share.sum())
        if not mean > 0:
            raise InputError(f"{beam.name} gives no dose to '{target.name}'; place it on the targets.")
        total += dose / mean / len(beams)
    volume = np.zeros(case.grid.shape, np.float32)
    volume.flat[voxels] = total.numpy()
    return volume


def sampled(values: Volume, source: Grid, target: Grid) -> Volume:
    """Interpolate a volume linearly on another grid; beyond the outermost voxels it is constant.

    Parameters
    ----------
    values : (n_k, n_j, n_i) of ``source``

    Returns
    -------
    float32, shape of ``target``
    """
    matrix = source.lps_to_index_matrix @ target.index_to_lps
    offset = matrix[2::-1, 3]  # array axes are k, j, i
    shape, turn = target.shape, matrix[2::-1, 2::-1]
    made: Volume = affine_transform(values, turn, offset, shape, np.float32, order=1, mode="nearest")
    return made


def network_of(file: Path) -> tuple[ModelCard, DoseNetwork]:
    """Read a network and its card."""
    card, network = load_network(file, {KIND: (DoseConfig, DoseNetwork)})
    assert isinstance(network, DoseNetwork)
    return card, network


def network_for(case: PatientCase) -> tuple[ModelCard, DoseNetwork]:
    """The shipped network that knows most of a case's organs at risk.

    Raises
    ------
    InputError
        If none knows any, or none is there.
    """
    if not _shipped():
        raise InputError("No dose network ships with this version; train one with deeprt train dose and name its file.")
    organs = {s.organ for s in case.with_role(Role.ORGAN_AT_RISK)}
    known = [(len(organs & set(network.config.organs)), card, network) for card, network in _shipped()]
    n_common, card, network = max(known, key=lambda k: k[0])
    if n_common == 0:
        sites = ", ".join(c.site for _, c, _ in known)
        raise InputError(f"No dose network has seen the organs at risk of this case; there are ones for {sites}.")
    return card, network


@cache
def _shipped() -> tuple[tuple[ModelCard, DoseNetwork], ...]:
    with resources.as_file(resources.files("deeprt") / "data" / "models") as folder:
        return tuple(network_of(folder / name) for name in SHIPPED if (folder / name).is_file())


def beyond_training(
    card: ModelCard, network: DoseNetwork, case: PatientCase, beams: Sequence[Beam], machine: Machine
) -> tuple[str, ...]:
    """Where a case and its beams lie outside what the network was trained on, one sentence each."""
    notes, at_risk, known_organs = missing_organs(card, case), case.with_role(Role.ORGAN_AT_RISK), network.config.organs
    shared = [o for o in known_organs if any(s.organ == o for s in at_risk)]
    if 2 * len(shared) < len(known_organs):
        only = ", ".join(shared) or "none"
        notes += (f"Of the organs at risk that the {card.network} knows, this case has {only} only.",)
    if unknown := [s.name for s in at_risk if s.organ not in known_organs]:
        notes += (f"The {card.network} does not know these organs at risk: {', '.join(unknown)}.",)
    highest_gy = case.targets[0].prescription_gy or 0.0
    levels = {(t.prescription_gy or 0.0) / highest_gy for t in case.targets}
    known = sorted(card.prescription_levels)
    if unseen := [n for n in sorted(levels) if known and min(abs(n - k) for k in known) > _SAME_LEVEL]:
        learned, other = (" and ".join(f"{100 * n:.0f}" for n in each) for each in (known, unseen))
        notes += (
            f"The {card.network} has learned from targets of {learned} % of the highest prescription, not {other} %.",
        )
    return (*notes, *larger_targets(card, case), *other_beams(card, beams, machine))


def _coarse(case: PatientCase, config: DoseConfig) -> PatientCase:
    """The case on the network's voxels, with the structures that count."""
    kept = tuple(
        s
        for s in case.structures
        if s.prescription_gy is not None
        or s.role is Role.EXTERNAL
        or s.role in BESIDE_PATIENT
        or s.density is not None
        or s.organ in config.organs
    )
    return replace(case, structures=kept).resampled(config.voxel_mm)


def _distance(case: PatientCase) -> Volume:
    """Distance to the targets between voxel centers, negative inside, as `FEATURES` scales it."""
    inside = union("targets", case.targets).fraction >= 0.5
    if not inside.any():
        raise InputError(f"The targets of '{case.case_id}' are smaller than a voxel of the dose network.")
    sampling = case.grid.spacing_mm[::-1]
    away = distance_transform_edt(~inside, sampling=sampling) - distance_transform_edt(inside, sampling=sampling)
    return np.asarray((away / _DISTANCE_MM).clip(*_DISTANCE_LIMITS), np.float32)


def _organ(case: PatientCase, name: str) -> Volume:
    """Share of each voxel inside the organs at risk of that name; zero where there is none."""
    members = tuple(s for s in case.structures if s.organ == name)
    return union(name, members).fraction if members else np.zeros(case.grid.shape, np.float32)


def _around_body(case: PatientCase, features: Volume) -> tuple[Grid, Volume]:
    """The smallest box that holds the body."""
    body = case.external.fraction > 0
    used = [np.flatnonzero(body.any(tuple(b for b in range(3) if b != a))) for a in range(3)]
    box = tuple(slice(int(u[0]), int(u[-1]) + 1) for u in used)
    matrix = case.grid.index_to_lps.copy()
    matrix[:3, 3] = matrix[:3] @ [*(s.start for s in box[::-1]), 1]
    cut = features[:, *box]
    return Grid((cut.shape[1], cut.shape[2], cut.shape[3]), matrix), cut


def _upright(grid: Grid, features: Volume) -> tuple[Grid, Volume]:
    """Turn by right angles, and mirror if need be, so that i, j and k run nearest to L, P and S."""
    _, axes = linear_sum_assignment(-np.abs(grid.index_to_lps[:3, :3] / grid.spacing_mm))  # one each for L, P and S
    turned = features.transpose(0, *(3 - axes[::-1]))  # array axes are k, j, i, behind that of the features
    matrix = grid.index_to_lps[:, [*axes, 3]]
    for n in range(3):
        if matrix[n, n] < 0:
            matrix[:3, 3] += matrix[:3, n] * (turned.shape[3 - n] - 1)
            matrix[:3, n] *= -1
            turned = np.flip(turned, 3 - n)
    return Grid((turned.shape[1], turned.shape[2], turned.shape[3]), matrix), np.ascontiguousarray(turned)
