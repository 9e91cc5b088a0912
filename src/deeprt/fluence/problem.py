"""The fluence map optimization problem P(B): objectives of the dose, fluence not negative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeprt.case import PatientCase
from deeprt.fluence.objectives import Objective
from deeprt.structures import Structure


class DoseOperator(Protocol):
    """A linear map from non-negative variables (beamlets or segments) to the dose of voxels, with its transpose."""

    @property
    def n_beamlets(self) -> int:
        """Number of variables."""

    @property
    def voxels(self) -> NDArray[np.int64]:
        """Flat indices of the voxels, (n_voxels,)."""

    @property
    def device(self) -> torch.device:
        """Where its tensors live."""

    def dose(self, fluence_mu: Tensor) -> Tensor:
        """(n_batch, n_beamlets) MU -> (n_batch, n_voxels) Gy per fraction."""

    def adjoint(self, voxel_values: Tensor) -> Tensor:
        """(n_batch, n_voxels) -> (n_batch, n_beamlets)."""


@dataclass(frozen=True, eq=False)
class Term:
    """One objective of one structure.

    Parameters
    ----------
    structure : name, for reports
    objective : function of the dose in the structure
    weight : (n_batch, 1) float32, one objective weight per problem of the batch
    index : (n,) positions of the structure's voxels among the operator's voxels
    measure : (n,) float32, weight of each voxel
    """

    structure: str
    objective: Objective
    weight: Tensor
    index: Tensor
    measure: Tensor


@dataclass(frozen=True, eq=False)
class Roughness:
    """``weight · Σ_pairs (x_first − x_second)²``: keeps neighboring beamlets alike, so that fewer MU deliver the map.

    Parameters
    ----------
    first, second : (n_pairs,) positions of neighbors in the fluence vector
    weight : Gy² per MU²
    origin : (1, n_beamlets) fluence from which only the change is to be smooth; none if None
    """

    first: Tensor
    second: Tensor
    weight: float
    origin: Tensor | None = None

    def differences(self, fluence_mu: Tensor) -> Tensor:
        """(n_batch, n_beamlets) -> (n_batch, n_pairs)."""
        return fluence_mu[:, self.first] - fluence_mu[:, self.second]

    def adjoint(self, pair_values: Tensor, n_beamlets: int) -> Tensor:
        """Transpose of ``differences``: (n_batch, n_pairs) -> (n_batch, n_beamlets)."""
        out = pair_values.new_zeros(pair_values.shape[0], n_beamlets)
        return out.index_add_(1, self.first, pair_values).index_add_(1, self.second, -pair_values)

    def curvature(self, n_beamlets: int) -> Tensor:
        """Bound of the second derivative by each beamlet (Gershgorin), (1, n_beamlets)."""
        degree = torch.zeros(1, n_beamlets, device=self.first.device)
        ones = torch.ones(1, self.first.numel(), device=self.first.device)
        return 4 * self.weight * degree.index_add_(1, self.first, ones).index_add_(1, self.second, ones)

    def value(self, fluence_mu: Tensor) -> Tensor:
        """(n_batch,) float64."""
        return self.weight * (self.differences(self._change(fluence_mu)) ** 2).sum(1, dtype=torch.float64)

    def gradient(self, fluence_mu: Tensor) -> Tensor:
        """(n_batch, n_beamlets)."""
        return self.adjoint(2 * self.weight * self.differences(self._change(fluence_mu)), fluence_mu.shape[1])

    def _change(self, fluence_mu: Tensor) -> Tensor:
        return fluence_mu if self.origin is None else fluence_mu - self.origin


@dataclass(frozen=True, eq=False)
class FluenceProblem:
    """``min_x Σ_t weight_t · objective_t(dose_t(x)) + roughness(x)``, ``x ≥ 0``, ``dose = n_fractions · D x``.

    Parameters
    ----------
    operator : D, dose per fraction
    terms : all on the operator's voxels
    n_fractions : of the whole course
    roughness : of the fluence, if it counts
    allowed : (n_batch, n_beamlets) bool, variables that may differ from zero; all if None
    """

    operator: DoseOperator
    terms: tuple[Term, ...]
    n_fractions: int
    roughness: Roughness | None = None
    allowed: Tensor | None = None

    def dose(self, fluence_mu: Tensor) -> Tensor:
        """Whole-course dose, (n_batch, n_voxels) Gy."""
        return self.n_fractions * self.operator.dose(fluence_mu)

    def value(self, fluence_mu: Tensor, dose_gy: Tensor) -> Tensor:
        """Objective of fluences and the dose they give, (n_batch,) float64."""
        terms = self.terms_value(dose_gy)
        return terms if self.roughness is None else terms + self.roughness.value(fluence_mu)

    def terms_value(self, dose_gy: Tensor) -> Tensor:
        """Objective of a dose, (n_batch,) float64: what does not depend on the fluence otherwise."""
        parts = [t.weight[:, 0].double() * t.objective.value(dose_gy[:, t.index], t.measure) for t in self.terms]
        return torch.stack(parts).sum(0)

    def dose_gradient(self, dose_gy: Tensor) -> Tensor:
        """Derivative of the terms by dose, (n_batch, n_voxels): the multipliers z of the paper's equation 11."""
        gradient = torch.zeros_like(dose_gy)
        for t in self.terms:
            gradient.index_add_(1, t.index, t.weight * t.objective.gradient(dose_gy[:, t.index], t.measure))
        return gradient

    def gradient(self, fluence_mu: Tensor, dose_gy: Tensor) -> Tensor:
        """Derivative of the objective by fluence, (n_batch, n_beamlets)."""
        by_dose = self.n_fractions * self.operator.adjoint(self.dose_gradient(dose_gy))
        return by_dose if self.roughness is None else by_dose + self.roughness.gradient(fluence_mu)

    def uniform_start(self, dose_gy: float, structure: Structure) -> Tensor:
        """Equal fluence everywhere that gives a structure this mean dose, (1, n_beamlets)."""
        share = torch.from_numpy(structure.fraction.ravel()[self.operator.voxels]).to(self.operator.device)
        ones = torch.ones(1, self.operator.n_beamlets, device=self.operator.device)
        mean = float((self.dose(ones) @ share)[0] / share.sum())
        return ones * (dose_gy / mean)


@dataclass(frozen=True)
class VoxelSample:
    """Voxels that take part in an optimization.

    Parameters
    ----------
    voxels : (n,) flat indices into the case's grid, increasing
    weight : (n,) float32, inverse of each voxel's sampling probability
    """

    voxels: NDArray[np.int64]
    weight: NDArray[np.float32]


def sample_voxels(
    case: PatientCase, whole: Sequence[Structure], *, background_share: float, rng: np.random.Generator
) -> VoxelSample:
    """Take every voxel of some structures and a random share of the rest of the patient.

    Parameters
    ----------
    whole : structures of which every voxel is taken
    background_share : probability, above 0 to 1, of every other voxel of the external structure
    """
    if not 0 < background_share <= 1:
        raise ValueError(f"The background share must lie above 0 and up to 1, got {background_share}.")
    certain = np.zeros(case.grid.shape, bool)
    for s in whole:
        certain |= s.fraction > 0
    rest = (case.external.fraction > 0) & ~certain
    drawn = rest & (rng.random(case.grid.shape) < background_share)
    weight = np.where(certain, 1, 1 / background_share).astype(np.float32)
    voxels = np.flatnonzero(certain | drawn)
    return VoxelSample(voxels, weight.ravel()[voxels])


def make_term(
    structure: Structure,
    objective: Objective,
    weights: Sequence[float],
    sample: VoxelSample,
    *,
    device: torch.device,
    per_volume: bool,
) -> Term:
    """Bind an objective to a structure's voxels.

    Parameters
    ----------
    weights : one per problem of the batch
    per_volume : whether the measure is normalized to sum to one, which makes weights comparable between
        structures of different size; the papers' objective sums over voxels instead

    Raises
    ------
    ValueError
        If no sampled voxel lies in the structure.
    """
    share = structure.fraction.ravel()[sample.voxels]
    index = np.flatnonzero(share > 0)
    if index.size == 0:
        raise ValueError(f"Structure '{structure.name}' has no voxel among those of the optimization.")
    measure = (share * sample.weight)[index].astype(np.float64)
    if per_volume:
        measure /= measure.sum()
    return Term(
        structure.name,
        objective,
        torch.tensor(weights, dtype=torch.float32, device=device)[:, None],
        torch.from_numpy(index).to(device),
        torch.from_numpy(measure.astype(np.float32)).to(device),
    )
