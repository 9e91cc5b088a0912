"""Numbers that sum up the dose of a structure, and of a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from deeprt.evaluation.dvh import Dvh
from deeprt.structures import Structure

DEFINITIONS: Mapping[str, str] = MappingProxyType({
    "D98": "largest dose that at least 98 % of the volume receives, Gy, whole course (near-minimum)",
    "D95": "largest dose that at least 95 % of the volume receives, Gy, whole course",
    "D50": "largest dose that at least 50 % of the volume receives, Gy, whole course (median)",
    "D2": "largest dose that at least 2 % of the volume receives, Gy, whole course (near-maximum)",
    "Dmin": "smallest dose at any sample of the structure, Gy, whole course",
    "Dmax": "largest dose at any sample of the structure, Gy, whole course",
    "Dmean": "mean dose over the volume, voxels weighted by their share inside, Gy, whole course",
    "volume_cc": "sum of the voxels' shares inside the structure times the voxel volume, cc",
    "homogeneity": "(D2 - D98) / D50",
    "homogeneity_index": "(D5 - D95) / prescription",
    "conformity_index": "V(>= 95 % of the prescription, within the external structure) / V(target)",
    "van_t_riet": "V(target receiving >= prescription)^2 / (V(target) * V(external receiving >= prescription))",
    "r50": "V(>= 50 % of the prescription, within the external structure) / V(target)",
})  # fmt: skip


@dataclass(frozen=True)
class StructureMetrics:
    """Doses, whole course, and volume of one structure; defined in ``DEFINITIONS``."""

    d98_gy: float
    d95_gy: float
    d50_gy: float
    d2_gy: float
    dmin_gy: float
    dmax_gy: float
    dmean_gy: float
    volume_cc: float


@dataclass(frozen=True)
class TargetMetrics:
    """Homogeneity and conformity of one target, without unit; defined in ``DEFINITIONS``.

    The conformity number is that of A. van't Riet et al., Int. J. Radiat. Oncol. Biol. Phys. 37, 731 (1997),
    doi:10.1016/S0360-3016(96)00601-3; the homogeneity (D2 - D98)/D50 that of ICRU Report 83 (2010).
    """

    homogeneity: float
    homogeneity_index: float
    conformity_index: float
    van_t_riet: float
    r50: float


def structure_metrics(curve: Dvh) -> StructureMetrics:
    """Read the doses and the volume of a structure from its DVH."""
    return StructureMetrics(
        d98_gy=curve.dose_at_volume(98),
        d95_gy=curve.dose_at_volume(95),
        d50_gy=curve.dose_at_volume(50),
        d2_gy=curve.dose_at_volume(2),
        dmin_gy=curve.min_gy,
        dmax_gy=curve.max_gy,
        dmean_gy=curve.mean_gy,
        volume_cc=curve.volume_cc,
    )


def target_metrics(dose_gy: NDArray[np.float32], target: Structure, curve: Dvh, external: Structure) -> TargetMetrics:
    """Homogeneity and conformity of a prescribed target; isodose volumes are those within the external structure.

    Parameters
    ----------
    dose_gy : (n_k, n_j, n_i), whole course
    curve : DVH of the target

    Raises
    ------
    ValueError
        If the target has no prescription, or its median dose is zero.
    """
    prescription = target.prescription_gy
    if prescription is None:
        raise ValueError(f"Structure '{target.name}' has no prescription, so it has no conformity.")
    median = curve.dose_at_volume(50)
    if median <= 0:
        raise ValueError(f"Target '{target.name}' has a median dose of {median} Gy, so it has no homogeneity.")
    volume = float(target.fraction.sum(dtype=np.float64))
    covered = curve.volume_at_dose(prescription) * volume

    def isodose_volume(gy: float) -> float:
        return float(external.fraction[dose_gy >= gy].sum(dtype=np.float64))

    reference = isodose_volume(prescription)
    return TargetMetrics(
        homogeneity=(curve.dose_at_volume(2) - curve.dose_at_volume(98)) / median,
        homogeneity_index=(curve.dose_at_volume(5) - curve.dose_at_volume(95)) / prescription,
        conformity_index=isodose_volume(0.95 * prescription) / volume,
        van_t_riet=covered**2 / (volume * reference) if reference > 0 else 0.0,
        r50=isodose_volume(0.5 * prescription) / volume,
    )
