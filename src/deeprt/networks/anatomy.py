"""Inputs of the paper's network: a patient's structures on a cube around the isocenter, and its two channels.

A. Sadeghnejad Barkousaraie, O. Ogunmolu, S. Jiang and D. Nguyen, Med. Phys. 47, 880 (2020), section II.A.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from deeprt.case import PatientCase
from deeprt.geometry import Grid, bld_to_lps_rotation
from deeprt.resampling import average_onto
from deeprt.structures import Role

_WEIGHTED = (Role.ORGAN_AT_RISK, Role.TUNING, Role.EXTERNAL)  # roles that can have an organ weight
_FULL = 255  # share of a voxel that lies inside a structure


@dataclass(frozen=True, eq=False)
class AnatomyInput:
    """A patient's structures on the cube; organ weights come in later, see `channels`.

    Parameters
    ----------
    names : of the structures: prescribed targets, highest prescription first, then all others in the case's order
    relative_prescription : (n_structures,) float32, over the highest one; 0 for structures that are no targets
    shares : (n_structures, n, n, n) uint8, share of each voxel inside, 255 for all of it; axes k, j, i
    """

    names: tuple[str, ...]
    relative_prescription: NDArray[np.float32]
    shares: NDArray[np.uint8]


def anatomy_shares(case: PatientCase, *, voxel_mm: float = 7.0, n: int = 64) -> AnatomyInput:
    """Sample structures on a cube of n³ voxels whose middle is the isocenter; what lies outside of it is left out.

    The axes i, j, k run along the room's X, downwards, and Y (IEC 61217): for a patient head first supine to the left,
    posterior and superior, and for every other position such that a beam comes from where it does for that one.
    Structures whose voxels are finer are first averaged, along the case's own axes, onto voxels of half the size of
    the cube's; then they are interpolated at eight points of each voxel of the cube.

    Parameters
    ----------
    case : with prescribed targets and tuning structures
    """
    targets = case.targets
    structures = (*targets, *(s for s in case.structures if s.role in _WEIGHTED))
    fine = case.grid.resampled(np.maximum(case.grid.spacing_mm, voxel_mm / 2))
    points = _sampling_points(_cube(case, voxel_mm / 2, 2 * n), fine)
    shares = np.empty((len(structures), n, n, n), np.uint8)
    for share, s in zip(shares, structures, strict=True):
        volume = torch.from_numpy(average_onto(s.fraction, case.grid, fine))[None, None]
        sampled = functional.avg_pool3d(functional.grid_sample(volume, points, align_corners=True), 2)
        share[:] = (sampled[0, 0] * _FULL).round().clamp(0, _FULL).byte().numpy()
    prescribed = [s.prescription_gy or 0.0 for s in structures]
    relative = np.array(prescribed, np.float32) / np.float32(max(prescribed))
    return AnatomyInput(tuple(s.name for s in structures), relative, shares)


def _cube(case: PatientCase, voxel_mm: float, n: int) -> Grid:
    """Grid of n³ voxels around the isocenter, along the axes of the room."""
    x, y, z = bld_to_lps_rotation(0.0, position=case.position).T
    matrix = np.eye(4)
    matrix[:3, :3] = voxel_mm * np.stack([x, -z, y], axis=1)
    matrix[:3, 3] = case.isocenter_lps() - matrix[:3, :3] @ np.full(3, (n - 1) / 2)
    return Grid((n, n, n), matrix)


def _sampling_points(cube: Grid, grid: Grid) -> Tensor:
    """Voxel centers of a cube as `functional.grid_sample` wants them: -1 to 1 between a grid's outermost centers."""
    last = np.maximum(np.array(grid.shape[::-1]) - 1, 1)
    index = grid.lps_to_index(cube.points_lps())
    return torch.from_numpy((2 * index / last - 1).astype(np.float32)).reshape(1, *cube.shape, 3)


def channels(anatomy: AnatomyInput, weights: Tensor) -> Tensor:
    """Make the network's two channels for a batch of weightings.

    The first holds the targets: weight 1, times the prescription over the highest one, so that nested targets of
    several doses can be told apart (the paper's patients have one target). The second holds everything else by its
    organ weight. A voxel partly inside a structure has that share of its weight; where structures overlap, the larger
    product holds.

    Parameters
    ----------
    anatomy : of one patient
    weights : (n_batch, n_structures) float32, organ weights in the order of the names, 1 for targets

    Returns
    -------
    (n_batch, 2, n, n, n) float32, on the device of the weights
    """
    shares = torch.from_numpy(anatomy.shares).to(weights.device).float() / _FULL
    n = shares.shape[-1]
    made = weights.new_zeros(len(weights), 2, n, n, n)
    for share, relative, weight in zip(shares, anatomy.relative_prescription.tolist(), weights.T, strict=True):
        channel, level = (0, weight * relative) if relative > 0 else (1, weight)
        made[:, channel] = torch.maximum(made[:, channel], level[:, None, None, None] * share)
    return made


def rotated(images: Tensor, quarter_turns: int) -> Tensor:
    """Turn images about the axis along k so that what gantry angle g saw is then seen from g + 90°, once a turn.

    The source stands at (sin g, -cos g) in the plane of i and j, so the turn takes (i, j) to (-j, i). The fitness of
    candidates that are evenly spaced over the circle, and the chosen ones, roll by a quarter of their number.

    Parameters
    ----------
    images : (..., n_k, n, n)
    quarter_turns : of any sign
    """
    return torch.rot90(images, quarter_turns, dims=(-1, -2))
