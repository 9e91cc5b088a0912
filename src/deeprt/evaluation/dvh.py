"""Cumulative dose-volume histograms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, sobel

# A volume is reached if it is short of it by no more than the rounding of a sum over a million voxels.
_ROUNDING = 1e-9
_FULL = 0.999  # a fraction from which on a voxel has no edge in it
# Points of a voxel and the generator of their Korobov lattice, the one with the largest least distance of points.
_LATTICES = ((127, 25), (31, 11), (1, 1))
_FLAT = 1e-3  # a gradient of fractions below which no direction leads inside
_MOST_SAMPLES = 200_000  # of a structure's edge, and of its inside


@dataclass(frozen=True, eq=False)
class Dvh:
    """How much of a structure receives at least a dose.

    Nothing is binned: every voxel, or sample of one, with a part in the structure is a step of the curve, as high as
    that part.

    Parameters
    ----------
    dose_gy : (n_samples,) float64, whole course, increasing
    volume_fraction : (n_samples,) float64, share of the volume that receives at least ``dose_gy``; begins with 1
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
        """Smallest dose of any sample with a part in the structure."""
        return float(self.dose_gy[0])

    @property
    def max_gy(self) -> float:
        """Largest dose of any sample with a part in the structure."""
        return float(self.dose_gy[-1])

    @property
    def mean_gy(self) -> float:
        """Mean dose over the volume."""
        return float(self.dose_gy @ -np.diff(self.volume_fraction, append=0.0))


def dvh(dose_gy: NDArray[np.float32], fraction: NDArray[np.float32], voxel_volume_cc: float) -> Dvh:
    """Make the cumulative DVH of voxels that have one dose each and count by their share.

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


def structure_dvh(dose_gy: NDArray[np.float32], fraction: NDArray[np.float32], voxel_volume_cc: float) -> Dvh:
    """Make the cumulative DVH of a structure, resolved below the size of a voxel.

    A dose that changes by several Gy from voxel to voxel, and an edge that leaves only a part of a voxel inside, make
    the DVH of a small structure wrong when voxels are taken as a whole: the part inside lies on one side, where the
    dose is not that of the center. So each voxel is sampled on the 127 points of a lattice around its center (31,
    or the center alone, where there would be more than 200,000 at the structure's edge, or inside it). A point has the
    dose between the centers of voxels, by trilinear interpolation. In a voxel at the edge those points count that lie
    on the inner side of a plane perpendicular to the gradient of the fractions, as many as make up its fraction.

    Parameters
    ----------
    dose_gy : (n_k, n_j, n_i), whole course, at the centers of voxels
    fraction : (n_k, n_j, n_i), share of each voxel inside the structure, 0 to 1
    voxel_volume_cc : of one voxel

    Raises
    ------
    ValueError
        If the shapes differ or the structure is empty.

    Notes
    -----
    The edge is reconstructed as a fluid's surface is from volume fractions: D. L. Youngs, Time-dependent
    multi-material flow with large fluid distortion, in Numerical Methods for Fluid Dynamics (1982), p. 273. A plane
    in voxel indices is one in space, so the voxels' size plays no part. The points of a rank-1 lattice (N. M. Korobov,
    1959) have as many different coordinates along each axis as there are points, so that a dose that rises along an
    axis is not sampled in a few coarse steps.

    Examples
    --------
    >>> dose = np.broadcast_to(np.float32([0, 10, 20, 30]), (1, 1, 4))
    >>> curve = structure_dvh(dose, np.float32([[[0, 0.5, 1, 0]]]), 0.008)  # half of the voxel of 10 Gy: 10 to 15
    >>> [round(gy, 1) for gy in (curve.min_gy, curve.mean_gy, curve.max_gy)]
    [10.0, 17.5, 25.0]
    """
    if dose_gy.shape != fraction.shape:
        raise ValueError(f"Dose has shape {dose_gy.shape}, the structure {fraction.shape}; they need one grid.")
    if not fraction.any():
        raise ValueError("An empty structure has no DVH.")
    box = tuple(slice(max(0, n.min() - 1), n.max() + 2) for n in np.nonzero(fraction))
    dose, part = dose_gy[box], fraction[box]
    at_edge = (part > 0) & (part < _FULL)
    edge, inside = np.argwhere(at_edge), np.argwhere(part >= _FULL)
    inward = np.stack([sobel(part, axis=axis, mode="nearest")[at_edge] for axis in range(3)], axis=1)
    points = _points_in_voxel(len(edge))
    weights = _inner_points(part[at_edge], inward, points) / len(points)
    doses = _dose_at(dose, edge, points)
    counts = weights > 0
    points = _points_in_voxel(len(inside))
    doses_inside = _dose_at(dose, inside, points)
    weights_inside = np.full(doses_inside.shape, 1 / len(points), np.float32)
    return dvh(
        np.concatenate([doses[counts], doses_inside.ravel()]),
        np.concatenate([weights[counts], weights_inside.ravel()]),
        voxel_volume_cc,
    )


def _points_in_voxel(n_voxels: int) -> NDArray[np.float64]:
    """Points of a lattice about a voxel's center, (n, 3), in voxels from -0.5 to 0.5; fewer for more voxels."""
    n_points, generator = next((n, g) for n, g in _LATTICES if n == 1 or n * n_voxels <= _MOST_SAMPLES)
    index = np.arange(n_points) - n_points // 2
    points = np.stack([index, index * generator, index * generator**2], axis=1) / n_points
    return np.asarray(points - np.round(points))


def _inner_points(
    share: NDArray[np.float32], inward: NDArray[np.float32], points: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Weight of each point of each voxel, (n_voxels, n_points), 0 to 1, whose mean is the voxel's share inside.

    The plane moves in along ``inward``, (n_voxels, 3); without a direction all points have the same weight.
    """
    height = inward @ points.T.astype(np.float32)
    rank = np.argsort(np.argsort(-height, axis=1), axis=1)
    weight = np.clip(share[:, None] * len(points) - rank, 0, 1)
    has_direction = np.abs(inward).max(axis=1, keepdims=True, initial=0) > _FLAT
    return np.where(has_direction, weight, share[:, None]).astype(np.float32)


def _dose_at(
    dose_gy: NDArray[np.float32], voxels: NDArray[np.int64], points: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Dose at points of voxels, (n_voxels, n_points); beyond the outermost centers it stays the same."""
    where = (voxels[:, None, :] + points).reshape(-1, 3).T
    dose: NDArray[np.float32] = map_coordinates(dose_gy, where, order=1, mode="nearest")
    return dose.reshape(len(voxels), len(points))
