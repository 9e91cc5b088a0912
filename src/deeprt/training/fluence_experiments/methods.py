"""Fluence maps of each method, and the synthetic dose of what is sequenced from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeprt.beams import Beam
from deeprt.case import PatientCase
from deeprt.delivery.dose_of_plan import dose_of_plan
from deeprt.delivery.segments import DeliverablePlan
from deeprt.delivery.sliding_window import sequence_sliding_window
from deeprt.dose.influence import dose_influence
from deeprt.evaluation.gamma import gamma_index, pass_rate
from deeprt.evaluation.normalization import Normalization
from deeprt.fluence.inversion import Inversion, invert
from deeprt.fluence.predict import corrected_maps, monitor_units, refined, view_maps
from deeprt.machine import Machine
from deeprt.networks.beams_eye_view import map_to_fluence
from deeprt.networks.case_views import case_views
from deeprt.networks.dual_frame import DualFrameConfig, DualFrameNetwork
from deeprt.pipeline import normalize
from deeprt.training.fluence_experiments.setup import Method, Setup

SAME_MEAN = Normalization(rule="wished-mean")
_DOSE_PERCENT, _DISTANCE_MM, _THRESHOLD_PERCENT = 3.0, 3.0, 10.0
_MAX_GAMMA = 1.1  # whether it passes is all that is asked


def predicted_maps(
    setup: Setup,
    method: Method,
    case: PatientCase,
    beams: Sequence[Beam],
    machine: Machine,
    wished_gy: NDArray[np.float32],
) -> Tensor:
    """Maps of a method that finds monitor units, (n_beams, n_pixels, n_pixels) MU per fraction.

    Parameters
    ----------
    wished_gy : (n_k, n_j, n_i) whole course, on the case's grid
    """
    inversion = invert(case, beams, machine, wished_gy)
    if method.network is None:
        return inversion.to_maps(inversion.fluence_mu)
    network = setup.network(method.network)
    if isinstance(network, DualFrameNetwork):
        fmu = view_maps(network, case, beams, wished_gy)
        return fmu * torch.from_numpy(monitor_units(inversion, fmu)).float()[:, None, None]
    maps_mu = corrected_maps(network, inversion)
    if method.n_refinements == 0:
        return maps_mu
    if not inversion.is_of_this_model:
        maps_mu = inversion.to_maps(inversion.fluence_mu)  # as `predict_fluence` begins then
    return refined_maps(inversion, maps_mu, method.n_refinements, case, machine, wished_gy)


def refined_maps(
    inversion: Inversion,
    maps_mu: Tensor,
    n_refinements: int,
    case: PatientCase,
    machine: Machine,
    wished_gy: NDArray[np.float32],
) -> Tensor:
    """Maps whose dose was pulled to the wished one, (n_beams, n_pixels, n_pixels) MU per fraction."""
    _, fluence = refined(case, machine, wished_gy, inversion, inversion.to_fluence(maps_mu), n_refinements)
    return inversion.to_maps(fluence)


def central_slices(case: PatientCase, beams: Sequence[Beam], dose_gy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Dose on the isocenter plane of each beam, (n_beams, n_pixels, n_pixels) Gy per fraction."""
    config = DualFrameConfig(n_contour_volumes=0)
    views = case_views(config, case, dose_gy)
    return np.stack([views.of(beam)[config.sampling.central_slice].numpy() for beam in beams])


def synthetic_plan(
    case: PatientCase, beams: Sequence[Beam], machine: Machine, maps_mu: Tensor, wished_gy: NDArray[np.float32]
) -> tuple[DeliverablePlan, NDArray[np.float32], float]:
    """Sequence maps (sliding window) and compute their dose, scaled to the wished mean dose of the highest target.

    Returns
    -------
    The plan, its dose (n_k, n_j, n_i) float32, whole course, and what both were multiplied with
    """
    plan = sequence_sliding_window(beams, open_fluence(beams, maps_mu), machine, n_fractions=case.n_fractions)
    dose_gy = dose_of_plan(plan, dose_influence(case, beams, machine))
    factor = SAME_MEAN.factor(case, dose_gy, wished_gy)
    return *normalize(plan, dose_gy, factor), factor


def open_fluence(beams: Sequence[Beam], maps_mu: Tensor) -> list[NDArray[np.float64]]:
    """Maps on the open beamlets of their beams, one (n_rows, n_cols) a beam, MU per fraction."""
    return [map_to_fluence(b, m).double().numpy() for b, m in zip(beams, maps_mu, strict=True)]


def gamma_pass_rate(
    reference: NDArray[np.float32],
    evaluated: NDArray[np.float32],
    spacing_mm: tuple[float, float, float],
    *,
    within: NDArray[np.bool_] | None = None,
) -> float:
    """Share of voxels that agree within 3 % of the reference's maximum or 3 mm, of those above 10 % of it.

    Parameters
    ----------
    reference, evaluated : (n_k, n_j, n_i)
    spacing_mm : along k, j, i
    within : (n_k, n_j, n_i), voxels to compare; all if None
    """
    gamma = gamma_index(
        reference, evaluated, spacing_mm, dose_percent=_DOSE_PERCENT, distance_mm=_DISTANCE_MM,
        threshold_percent=_THRESHOLD_PERCENT, max_gamma=_MAX_GAMMA, within=within,
    )  # fmt: skip
    return pass_rate(gamma)
