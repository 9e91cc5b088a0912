"""The gamma index: how well two doses agree in dose or in distance."""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

_UNKNOWN = 1e30  # Gy


def gamma_index(
    reference_gy: NDArray[np.float32],
    evaluated_gy: NDArray[np.float32],
    spacing_mm: tuple[float, float, float],
    *,
    dose_percent: float,
    distance_mm: float,
    threshold_percent: float = 10.0,
    local: bool = False,
    max_gamma: float = 2.0,
    interpolation: int = 10,
    within: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Compare two doses on one grid by the gamma index.

    ``γ(r) = min over r' of sqrt(|r' − r|²/distance² + (D_eval(r') − D_ref(r))²/tolerance²)`` after
    D. A. Low, W. B. Harms, S. Mutic and J. A. Purdy, Med. Phys. 25, 656 (1998), doi:10.1118/1.598248. The
    evaluated dose is interpolated linearly at ``r'`` on a cubic lattice of ``interpolation`` steps a distance;
    outside the grid it is unknown and not searched.

    Parameters
    ----------
    reference_gy, evaluated_gy : (n_k, n_j, n_i)
    spacing_mm : along k, j, i
    dose_percent : tolerance, of the reference's maximum, or of the dose at the voxel if ``local``
    distance_mm : distance to agreement
    threshold_percent : voxels below this share of the reference's maximum are left out
    max_gamma : no search beyond it; larger values are reported as this
    interpolation : steps of the search lattice per distance to agreement
    within : (n_k, n_j, n_i), voxels to compare; all if None

    Returns
    -------
    (n_k, n_j, n_i) float64, NaN below the threshold and outside ``within``

    Raises
    ------
    ValueError
        If the shapes differ, the reference has no dose, or a tolerance or the number of steps is not positive.
    """
    if reference_gy.ndim != 3 or reference_gy.shape != evaluated_gy.shape:
        raise ValueError(
            f"Gamma needs two doses on one 3-D grid, got shapes {reference_gy.shape} and {evaluated_gy.shape}."
        )
    if not (dose_percent > 0 and distance_mm > 0 and max_gamma > 0 and min(spacing_mm) > 0):
        raise ValueError("Gamma needs a positive dose and distance tolerance, largest gamma and spacing.")
    if interpolation < 1:
        raise ValueError(f"Gamma needs at least one step of its lattice per distance, got {interpolation}.")
    if (maximum := float(reference_gy.max())) <= 0:
        raise ValueError("Gamma needs a reference dose that is positive somewhere.")
    compared = (reference_gy >= threshold_percent / 100 * maximum) & (reference_gy > 0)
    voxels = np.argwhere(compared if within is None else compared & within)
    reference = reference_gy[tuple(voxels.T)].astype(np.float64)
    tolerance = dose_percent / 100 * (reference if local else np.full_like(reference, maximum))
    gamma = np.full(reference_gy.shape, np.nan)
    gamma[tuple(voxels.T)] = _gamma_of(
        voxels, reference, tolerance, evaluated_gy.astype(np.float64), np.asarray(spacing_mm, float),
        distance_mm=distance_mm, max_gamma=max_gamma, interpolation=interpolation,
    )  # fmt: skip
    return gamma


def pass_rate(gamma: NDArray[np.float64]) -> float:
    """Share of the compared voxels, 0 to 1, whose gamma is at most 1."""
    compared = gamma[~np.isnan(gamma)]
    if compared.size == 0:
        raise ValueError("No voxel was compared, so there is no pass rate.")
    return float(np.mean(compared <= 1))


def _gamma_of(
    voxels: NDArray[np.int64],
    reference: NDArray[np.float64],
    tolerance: NDArray[np.float64],
    evaluated: NDArray[np.float64],
    spacing_mm: NDArray[np.float64],
    *,
    distance_mm: float,
    max_gamma: float,
    interpolation: int,
) -> NDArray[np.float64]:
    """Gamma of voxels, (n, 3) indices k, j, i, with their reference doses and tolerances, (n,) Gy; -> (n,)."""
    offsets_mm, distance2 = _lattice(distance_mm, max_gamma, interpolation)
    corners, weights = _corners(offsets_mm / spacing_mm)
    reach = int(np.abs(corners).max())
    # Unknown dose around the grid is so large that it is never near; infinity would spoil corners of weight zero.
    padded = np.pad(evaluated, reach, constant_values=_UNKNOWN)
    strides = np.array(padded.strides) // padded.itemsize
    shells = np.append(np.flatnonzero(np.diff(distance2, prepend=-1.0)), distance2.size)
    steepest = _steepest(evaluated, spacing_mm, max_gamma * distance_mm)[tuple(voxels.T)] * distance_mm
    places = (voxels + reach) @ strides
    found: NDArray[np.float64] = _search(
        padded.ravel(), places, reference, tolerance, corners @ strides, weights, shells, distance2, steepest, max_gamma
    )
    return found


def _lattice(
    distance_mm: float, max_gamma: float, steps_per_distance: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Offsets within the search sphere, nearest first: (n, 3) mm, and (n,) squared in units of the distance."""
    reach = int(np.ceil(max_gamma * steps_per_distance))
    steps = np.stack(np.meshgrid(*3 * [np.arange(-reach, reach + 1)], indexing="ij"), axis=-1).reshape(-1, 3)
    distance2 = (steps**2).sum(axis=1) / steps_per_distance**2
    order = np.argsort(distance2, kind="stable")
    order = order[distance2[order] <= max_gamma**2]
    return steps[order] * (distance_mm / steps_per_distance), distance2[order]


def _corners(offsets: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Neighbors between which each offset from a voxel center lies: steps (n, 8, 3) and linear weights (n, 8)."""
    offsets = np.round(offsets, 9)  # an offset of whole voxels needs no neighbor beyond, which may be outside
    base = np.floor(offsets)
    share = offsets - base
    ends = np.stack(np.meshgrid(*3 * [[0, 1]], indexing="ij"), axis=-1).reshape(8, 3)
    weights = np.where(ends[None] == 1, share[:, None], 1 - share[:, None]).prod(axis=2)
    return (base[:, None] + ends).astype(np.int64), weights


def _steepest(dose: NDArray[np.float64], spacing_mm: NDArray[np.float64], reach_mm: float) -> NDArray[np.float64]:
    """Bound of the slope, Gy/mm, of the interpolated dose within a reach around each voxel, shape of the dose."""
    squared = np.zeros(dose.shape)
    n_voxels = np.ceil(reach_mm / spacing_mm - 1e-9).astype(int)
    for axis, step in enumerate(spacing_mm):
        rise = np.abs(np.diff(dose, axis=axis, append=np.take(dose, [-1], axis=axis))) / step
        # The rise to the next voxel stands at the first of the two, so the window reaches one further down.
        sizes = 2 * n_voxels + 1
        sizes[axis] = 2 * n_voxels[axis] + 2
        squared += maximum_filter(rise, size=tuple(sizes), mode="nearest") ** 2
    return np.asarray(np.sqrt(squared))


def _search_loop(
    evaluated: NDArray[np.float64],
    places: NDArray[np.int64],
    reference: NDArray[np.float64],
    tolerance: NDArray[np.float64],
    corners: NDArray[np.int64],
    weights: NDArray[np.float64],
    shells: NDArray[np.int64],
    distance2: NDArray[np.float64],
    steepest: NDArray[np.float64],
    max_gamma: float,
) -> NDArray[np.float64]:
    """Gamma of each voxel, (n,): shell by shell outwards, leaving out those that cannot hold anything better.

    At distance r the dose is no nearer than ``|D_eval(0) - D_ref| - steepest r``; the search ends where distance
    alone is no better.
    """
    gamma = np.empty(places.size)
    for p in range(places.size):
        place, tolerated = places[p], tolerance[p]
        gap = abs(evaluated[place] - reference[p])
        best = max_gamma**2
        for s in range(shells.size - 1):
            r2 = distance2[shells[s]]
            if r2 >= best:
                break
            least = max(0.0, gap - steepest[p] * np.sqrt(r2)) / tolerated
            if r2 + least * least >= best:
                continue
            for o in range(shells[s], shells[s + 1]):
                dose = 0.0
                for c in range(8):
                    dose += weights[o, c] * evaluated[place + corners[o, c]]
                best = min(best, r2 + ((dose - reference[p]) / tolerated) ** 2)
        gamma[p] = np.sqrt(best)
    return gamma


_search = nb.njit(cache=True)(_search_loop)
