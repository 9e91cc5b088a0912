"""Dose mimicking: the fluence whose dose comes nearest to a given one."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from deeprt.case import PatientCase
from deeprt.fluence.objectives import SquaredDeviation
from deeprt.fluence.problem import DoseOperator, FluenceProblem, Term


def mimicked_voxels(
    case: PatientCase, wished_gy: NDArray[np.float32], *, n_voxels: int, least_share: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw voxels whose dose is to be mimicked.

    Parameters
    ----------
    wished_gy : (n_k, n_j, n_i), on the case's grid
    n_voxels : at most
    least_share : of the largest wished dose; voxels of less are left out

    Returns
    -------
    (n,) flat indices into the grid, increasing
    """
    counts = (case.external.fraction > 0.5) & (wished_gy > least_share * wished_gy.max())
    voxels = np.flatnonzero(counts)
    return voxels if voxels.size <= n_voxels else np.sort(rng.choice(voxels, n_voxels, replace=False))


def mimicking_problem(operator: DoseOperator, wished_gy: NDArray[np.float32], n_fractions: int) -> FluenceProblem:
    """Mean squared difference to a wished dose, on the operator's voxels.

    Parameters
    ----------
    wished_gy : (n_k, n_j, n_i) whole course, on the grid of the operator
    """
    wished = torch.from_numpy(wished_gy.ravel()[operator.voxels].astype(np.float32)).to(operator.device)
    n = wished.numel()
    everywhere = torch.arange(n, device=operator.device)
    measure = torch.full((n,), 1 / n, device=operator.device)
    weight = torch.ones(1, 1, device=operator.device)
    term = Term("wished dose", SquaredDeviation(wished), weight, everywhere, measure)
    return FluenceProblem(operator, (term,), n_fractions)
