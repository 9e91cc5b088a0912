"""The gamma index: how well two doses agree in dose or in distance."""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

_STEPS_PER_DISTANCE = 10  # lattice on which the evaluated dose is searched


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
) -> NDArray[np.float64]:
    """Compare two doses on one grid by the gamma index.

    ``γ(r) = min over r' of sqrt(|r' − r|²/distance² + (D_eval(r') − D_ref(r))²/tolerance²)`` after
    D. A. Low, W. B. Harms, S. Mutic and J. A. Purdy, Med. Phys. 25, 656 (1998), doi:10.1118/1.598248. The
    evaluated dose is interpolated linearly at ``r'`` on a lattice of a tenth of the distance; outside the grid
    it is unknown and not searched.

    Parameters
    ----------
    reference_gy, evaluated_gy : (n_k, n_j, n_i)
    spacing_mm : along k, j, i
    dose_percent : tolerance, of the reference's maximum, or of the dose at the voxel if ``local``
    distance_mm : distance to agreement
    threshold_percent : voxels below this share of the reference's maximum are left out
    max_gamma : no search beyond it; larger values are reported as this

    Returns
    -------
    (n_k, n_j, n_i) float64, NaN below the threshold

    Raises
    ------
    ValueError
        If the shapes differ, the reference has no dose, or a tolerance is not positive.
    """
    if reference_gy.ndim != 3 or reference_gy.shape != evaluated_gy.shape:
        raise ValueError(
            f"Gamma needs two doses on one 3-D grid, got shapes {reference_gy.shape} and {evaluated_gy.shape}."
        )
    if not (dose_percent > 0 and distance_mm > 0 and max_gamma > 0 and min(spacing_mm) > 0):
        raise ValueError("Gamma needs a positive dose and distance tolerance, largest gamma and spacing.")
    maximum = float(reference_gy.max())
    if maximum <= 0:
        raise ValueError("Gamma needs a reference dose that is positive somewhere.")
    voxels = np.argwhere((reference_gy >= threshold_percent / 100 * maximum) & (reference_gy > 0))
    reference = reference_gy[tuple(voxels.T)].astype(np.float64)
    tolerance = dose_percent / 100 * (reference if local else np.full_like(reference, maximum))
    offsets_mm, distance2 = _lattice(distance_mm, max_gamma)
    gamma = np.full(reference_gy.shape, np.nan)
    gamma[tuple(voxels.T)] = _search(
        evaluated_gy.astype(np.float64),
        voxels,
        reference,
        tolerance,
        offsets_mm / np.asarray(spacing_mm, float),
        distance2,
        max_gamma,
    )
    return gamma


def pass_rate(gamma: NDArray[np.float64]) -> float:
    """Share of the compared voxels, 0 to 1, whose gamma is at most 1."""
    compared = gamma[~np.isnan(gamma)]
    if compared.size == 0:
        raise ValueError("No voxel was compared, so there is no pass rate.")
    return float(np.mean(compared <= 1))


def _lattice(distance_mm: float, max_gamma: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Offsets within the search sphere, nearest first: (n, 3) mm, and (n,) squared in units of the distance."""
    reach = int(np.ceil(max_gamma * _STEPS_PER_DISTANCE))
    steps = np.stack(np.meshgrid(*3 * [np.arange(-reach, reach + 1)], indexing="ij"), axis=-1).reshape(-1, 3)
    distance2 = (steps**2).sum(axis=1) / _STEPS_PER_DISTANCE**2
    order = np.argsort(distance2, kind="stable")
    order = order[distance2[order] <= max_gamma**2]
    return steps[order] * (distance_mm / _STEPS_PER_DISTANCE), distance2[order]


def _search_loop(
    evaluated: NDArray[np.float64],
    voxels: NDArray[np.int64],
    reference: NDArray[np.float64],
    tolerance: NDArray[np.float64],
    offsets: NDArray[np.float64],
    distance2: NDArray[np.float64],
    max_gamma: float,
) -> NDArray[np.float64]:
    """Gamma of each voxel, (n,); offsets in voxels, and the search ends where distance alone is no better."""
    n_k, n_j, n_i = evaluated.shape
    gamma = np.empty(voxels.shape[0])
    for p in range(voxels.shape[0]):
        best = max_gamma**2
        for o in range(offsets.shape[0]):
            if distance2[o] >= best:
                break
            k, j, i = voxels[p, 0] + offsets[o, 0], voxels[p, 1] + offsets[o, 1], voxels[p, 2] + offsets[o, 2]
            if k < 0 or j < 0 or i < 0 or k > n_k - 1 or j > n_j - 1 or i > n_i - 1:
                continue
            k0, j0, i0 = int(k), int(j), int(i)
            k1, j1, i1 = min(k0 + 1, n_k - 1), min(j0 + 1, n_j - 1), min(i0 + 1, n_i - 1)
            fk, fj, fi = k - k0, j - j0, i - i0
            dose = (1 - fk) * (
                (1 - fj) * ((1 - fi) * evaluated[k0, j0, i0] + fi * evaluated[k0, j0, i1])
                + fj * ((1 - fi) * evaluated[k0, j1, i0] + fi * evaluated[k0, j1, i1])
            ) + fk * (
                (1 - fj) * ((1 - fi) * evaluated[k1, j0, i0] + fi * evaluated[k1, j0, i1])
                + fj * ((1 - fi) * evaluated[k1, j1, i0] + fi * evaluated[k1, j1, i1])
            )
            best = min(best, distance2[o] + ((dose - reference[p]) / tolerance[p]) ** 2)
        gamma[p] = np.sqrt(best)
    return gamma


_search = nb.njit(cache=True)(_search_loop)
