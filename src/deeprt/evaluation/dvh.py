"""Cumulative dose-volume histograms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A volume is reached if it is short of it by no more than the rounding of a sum over a million voxels.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Dvh:
    """How much of a structure receives at least a dose.

    Nothing is binned: every voxel with a part in the structure is a step of the curve, as high as that part, so
    look-ups are exact for a dose that is constant in each voxel.

    Parameters
    ----------
    dose_gy : (n_voxels,) float64, whole course, increasing
    volume_fraction : (n_voxels,) float64, share of the volume that receives at least ``dose_gy``; begins with 1
    volume_cc : of the structure
    """

    dose_gy: NDArray[np.float64]
    volume_fraction: NDArray[np.float64]
    volume_cc: float

    def dose_at_volume(self, percent: float) -> float:
        """Largest dose, Gy, that at least ``percent`` of the volume receives: D95 is ``dose_at_volume(95)``."""
        if not 0 <= percent <= 100:
            raise ValueError(f"A volume of a DVH must lie in 0 to 100 %, got {percent}.")
        above = np.searchsorted(-self.volume_fraction, _ROUNDING - percent / 100, side="right")
        return float(self.dose_gy[above - 1])

    def dose_at_volume_cc(self, cc: float) -> float:
        """Largest dose, Gy, that at least ``cc`` cubic centimeters receive; the minimum if there are fewer."""
        if cc < 0:
            raise ValueError(f"A volume of a DVH must not be negative, got {cc} cc.")
        return self.dose_at_volume(min(100.0, 100 * cc / self.volume_cc))

    def volume_at_dose(self, gy: float) -> float:
        """Share of the volume, 0 to 1, that receives at least ``gy``."""
        return float(self.curve(np.array([gy]))[0])

    def curve(self, dose_gy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of the volume that receives at least each dose, (n,) -> (n,); for plots and files."""
        first = np.searchsorted(self.dose_gy, dose_gy, side="left")
        return np.append(self.volume_fraction, 0.0)[first]

    @property
    def min_gy(self) -> float:
        """Smallest dose of any voxel with a part in the structure."""
        return float(self.dose_gy[0])

    @property
    def max_gy(self) -> float:
        """Largest dose of any voxel with a part in the structure."""
        return float(self.dose_gy[-1])

    @property
    def mean_gy(self) -> float:
        """Mean dose over the volume."""
        return float(self.dose_gy @ -np.diff(self.volume_fraction, append=0.0))


def dvh(dose_gy: NDArray[np.float32], fraction: NDArray[np.float32], voxel_volume_cc: float) -> Dvh:
    """Make the cumulative DVH of a structure; voxels at its edge count by their share.

    Parameters
    ----------
    dose_gy : (n_k, n_j, n_i), whole course
    fraction : (n_k, n_j, n_i), share of each voxel inside the structure, 0 to 1
    voxel_volume_cc : of one voxel

    Raises
    ------
    ValueError
        If the shapes differ or the structure is empty.

    Examples
    --------
    >>> curve = dvh(np.float32([[[10, 20, 30, 40]]]), np.float32([[[0.5, 1, 1, 0]]]), 0.008)
    >>> curve.volume_at_dose(20), curve.dose_at_volume(95), curve.mean_gy
    (0.8, 10.0, 22.0)
    """
    if dose_gy.shape != fraction.shape:
        raise ValueError(f"Dose has shape {dose_gy.shape}, the structure {fraction.shape}; they need one grid.")
    inside = fraction > 0
    if not inside.any():
        raise ValueError("An empty structure has no DVH.")
    dose = dose_gy[inside].astype(np.float64)
    order = np.argsort(dose)
    volume = np.cumsum(fraction[inside][order][::-1], dtype=np.float64)[::-1]
    return Dvh(dose[order], volume / volume[0], float(volume[0]) * voxel_volume_cc)
