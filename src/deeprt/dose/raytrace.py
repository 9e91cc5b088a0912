"""Radiological depth along rays from the source."""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from deeprt.geometry import Grid

_NEVER = 1e30  # ray parameter of a face that is not met; fast math allows no infinity


def radiological_depth(
    density: NDArray[np.float32], grid: Grid, source_lps: NDArray[np.float64], points_lps: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Integrate density from the source to each point, exactly for voxels of constant density.

    Parameters
    ----------
    density : (n_k, n_j, n_i) relative electron density on ``grid``; nothing attenuates outside
    source_lps : (3,), mm
    points_lps : (n, 3), mm

    Returns
    -------
    (n,) float32, mm of water

    Notes
    -----
    R. L. Siddon, Med. Phys. 12, 252 (1985), doi:10.1118/1.595715, in the incremental form of
    J. Amanatides and A. Woo, Eurographics (1987).
    """
    occupied = [np.flatnonzero(density.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if occupied[0].size == 0:
        return np.zeros(len(points_lps), np.float32)
    low = np.array([o[0] for o in occupied])
    high = np.array([o[-1] + 1 for o in occupied])
    block = np.ascontiguousarray(density[low[0] : high[0], low[1] : high[1], low[2] : high[2]])
    # Voxel faces at integers: continuous index + 0.5, from the first occupied voxel.
    offset = 0.5 - low[::-1]
    start = grid.lps_to_index(source_lps)[0] + offset
    ends = grid.lps_to_index(points_lps) + offset
    length_mm = np.linalg.norm(points_lps - source_lps, axis=1)
    return _trace(block, start, ends, length_mm)


@nb.njit(parallel=True, cache=True, fastmath=True, error_model="numpy")
def _trace(
    density: NDArray[np.float32], start: NDArray[np.float64], ends: NDArray[np.float64], length_mm: NDArray[np.float64]
) -> NDArray[np.float32]:
    size = (density.shape[2], density.shape[1], density.shape[0])
    depth = np.zeros(ends.shape[0], np.float32)
    for p in nb.prange(ends.shape[0]):
        t_in, t_out = 0.0, 1.0
        for a in range(3):
            d = ends[p, a] - start[a]
            if abs(d) < 1e-12:
                if start[a] < 0 or start[a] >= size[a]:
                    t_out = -1.0
            else:
                t0, t1 = -start[a] / d, (size[a] - start[a]) / d
                t_in, t_out = max(t_in, min(t0, t1)), min(t_out, max(t0, t1))
        if t_in >= t_out:
            continue
        dx, dy, dz = ends[p, 0] - start[0], ends[p, 1] - start[1], ends[p, 2] - start[2]
        i, next_x, step_x, move_x = _enter(start[0], dx, t_in, size[0])
        j, next_y, step_y, move_y = _enter(start[1], dy, t_in, size[1])
        k, next_z, step_z, move_z = _enter(start[2], dz, t_in, size[2])
        t, sum_ = t_in, 0.0
        while t < t_out:
            value = density[k, j, i]
            if next_x <= next_y and next_x <= next_z:
                t_next = min(next_x, t_out)
                i, next_x = i + move_x, next_x + step_x
            elif next_y <= next_z:
                t_next = min(next_y, t_out)
                j, next_y = j + move_y, next_y + step_y
            else:
                t_next = min(next_z, t_out)
                k, next_z = k + move_z, next_z + step_z
            sum_ += (t_next - t) * value
            t = t_next
            if i < 0 or j < 0 or k < 0 or i >= size[0] or j >= size[1] or k >= size[2]:
                break
        depth[p] = sum_ * length_mm[p]
    return depth


@nb.njit(inline="always")
def _enter(start: float, d: float, t_in: float, size: int) -> tuple[int, float, float, int]:
    """First voxel along one axis, the ray parameter at its far face, the parameter per voxel, the direction."""
    if abs(d) < 1e-12:
        return int(np.floor(start)), _NEVER, _NEVER, 0
    voxel = min(max(int(np.floor(start + t_in * d)), 0), size - 1)
    move = 1 if d > 0 else -1
    face = voxel + 1 if d > 0 else voxel
    return voxel, (face - start) / d, abs(1.0 / d), move
