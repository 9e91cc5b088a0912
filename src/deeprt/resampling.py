"""A volume onto a grid of the same axes by averaging."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deeprt.geometry import Grid


def average_onto(values: NDArray[np.float32], source: Grid, target: Grid) -> NDArray[np.float32]:
    """Average a volume onto a grid made by ``source.resampled``.

    Along an axis on which the target is coarser, each voxel is the mean over its extent; on which it is finer, values
    are interpolated linearly between voxel centers and constant beyond the outermost.

    Parameters
    ----------
    values : (n_k, n_j, n_i) of ``source``

    Returns
    -------
    float32, shape of ``target``
    """
    if source.same_as(target):
        return values
    along_k, along_j, along_i = (
        _axis_weights(source.shape[a], target.shape[a], target.spacing_mm[2 - a] / source.spacing_mm[2 - a])
        for a in range(3)
    )
    n_k, n_j, n_i = source.shape
    # Slices first: it shrinks the volume before the two costlier steps.
    layers: NDArray[np.float32] = (along_k @ values.reshape(n_k, n_j * n_i)).reshape(-1, n_j, n_i)
    return np.ascontiguousarray((along_j @ layers) @ along_i.T)


def _axis_weights(n_source: int, n_target: int, ratio: float) -> NDArray[np.float32]:
    """Share of each source voxel in each target voxel, (n_target, n_source); rows sum to 1.

    ``ratio`` is the target's spacing over the source's; both boxes have the same center.
    """
    voxel = np.arange(n_source)
    center = (n_source - 1) / 2 + (np.arange(n_target)[:, None] - (n_target - 1) / 2) * ratio
    if ratio > 1:
        weights = np.minimum(center + ratio / 2, voxel + 0.5) - np.maximum(center - ratio / 2, voxel - 0.5)
    else:
        weights = 1 - np.abs(np.clip(center, 0, n_source - 1) - voxel)
    weights = np.maximum(weights, 0)
    shares = weights / weights.sum(axis=1, keepdims=True)
    return np.asarray(shares, dtype=np.float32)
