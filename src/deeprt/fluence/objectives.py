"""Objectives of fluence optimization: functions of the dose in one structure.

Each objective has a value and its gradient; the convex ones have a proximal map as well. All act on batches and
weigh voxel *i* by its measure ``m_i``: its share in the structure times its volume's weight, so that edge voxels
count partly, overlapping structures are exact, and sampled voxels stand for those that were left out.

Shapes: ``dose`` (n_batch, n_voxels) Gy of the whole course; ``measure`` (n_voxels,), not negative;
``step`` broadcastable to ``dose``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


class Objective(Protocol):
    """A differentiable function of dose; smaller is better."""

    def value(self, dose: Tensor, measure: Tensor) -> Tensor:
        """Value, (n_batch,)."""

    def gradient(self, dose: Tensor, measure: Tensor) -> Tensor:
        """Derivative by the dose of each voxel, (n_batch, n_voxels)."""


@runtime_checkable
class ConvexObjective(Objective, Protocol):
    """An objective that primal-dual solvers can use."""

    def prox(self, dose: Tensor, measure: Tensor, step: Tensor) -> Tensor:
        """``argmin_y value(y) + Σ_i (y_i − dose_i)² / (2 step_i)``, (n_batch, n_voxels)."""


@dataclass(frozen=True)
class SquaredDeviation:
    """``Σ_i m_i (y_i − p)²``.

    Times ``w²/2`` and with ``m_i = 1`` it is the objective of Sadeghnejad Barkousaraie et al., Med. Phys. 47, 880
    (2020), equation 16.

    Parameters
    ----------
    dose_gy : p, of the structure or, (n_voxels,), of each of its voxels
    """

    dose_gy: float | Tensor

    def value(self, dose: Tensor, measure: Tensor) -> Tensor:
        return _total(measure * (dose - self.dose_gy) ** 2)

    def gradient(self, dose: Tensor, measure: Tensor) -> Tensor:
        return 2 * measure * (dose - self.dose_gy)

    def prox(self, dose: Tensor, measure: Tensor, step: Tensor) -> Tensor:
        stiffness = 2 * step * measure
        return (dose + stiffness * self.dose_gy) / (1 + stiffness)


@dataclass(frozen=True)
class SquaredOverdose:
    """``Σ_i m_i max(0, y_i − p)²``."""

    dose_gy: float

    def value(self, dose: Tensor, measure: Tensor) -> Tensor:
        return _total(measure * (dose - self.dose_gy).clamp(min=0) ** 2)

    def gradient(self, dose: Tensor, measure: Tensor) -> Tensor:
        return 2 * measure * (dose - self.dose_gy).clamp(min=0)

    def prox(self, dose: Tensor, measure: Tensor, step: Tensor) -> Tensor:
        excess = (dose - self.dose_gy).clamp(min=0)
        return dose - excess + excess / (1 + 2 * step * measure)


@dataclass(frozen=True)
class SquaredUnderdose:
    """``Σ_i m_i max(0, p − y_i)²``."""

    dose_gy: float

    def value(self, dose: Tensor, measure: Tensor) -> Tensor:
        return _total(measure * (self.dose_gy - dose).clamp(min=0) ** 2)

    def gradient(self, dose: Tensor, measure: Tensor) -> Tensor:
        return -2 * measure * (self.dose_gy - dose).clamp(min=0)

    def prox(self, dose: Tensor, measure: Tensor, step: Tensor) -> Tensor:
        lack = (self.dose_gy - dose).clamp(min=0)
        return dose + lack - lack / (1 + 2 * step * measure)


@dataclass(frozen=True)
class MeanDose:
    """``Σ_i m_i y_i``: the mean dose where the measure sums to one."""

    def value(self, dose: Tensor, measure: Tensor) -> Tensor:
        return _total(measure * dose)

    def gradient(self, dose: Tensor, measure: Tensor) -> Tensor:
        return measure.expand_as(dose)

    def prox(self, dose: Tensor, measure: Tensor, step: Tensor) -> Tensor:
        return dose - step * measure


@dataclass(frozen=True)
class Geud:
    """``max(0, gEUD − p)²`` with ``gEUD = (Σ_i m_i y_i^a / Σ_i m_i)^{1/a}``, of the dose above zero.

    Niemierko, Med. Phys. 26, 1100 (1999). Convex for ``a ≥ 1``.
    """

    dose_gy: float
    exponent: float

    def __post_init__(self) -> None:
        if self.exponent < 1:
            raise ValueError(f"gEUD objective: the exponent must be at least 1 to be convex, got {self.exponent}.")

    def geud_gy(self, dose: Tensor, measure: Tensor) -> Tensor:
        """Generalized equivalent uniform dose, (n_batch, 1)."""
        top = dose.clamp(min=0).amax(dim=1, keepdim=True).clamp(min=1e-12)  # scaled: large powers overflow
        share = measure / measure.sum()
        mean: Tensor = (share * (dose.clamp(min=0) / top) ** self.exponent).sum(1, keepdim=True)
        return top * mean ** (1 / self.exponent)

    def value(self, dose: Tensor, measure: Tensor) -> Tensor:
        return (self.geud_gy(dose, measure) - self.dose_gy).clamp(min=0)[:, 0].double() ** 2

    def gradient(self, dose: Tensor, measure: Tensor) -> Tensor:
        s = self.geud_gy(dose, measure).clamp(min=1e-12)
        slope = measure / measure.sum() * (dose.clamp(min=0) / s) ** (self.exponent - 1) * (dose >= 0)
        return 2 * (s - self.dose_gy).clamp(min=0) * slope

    def prox(self, dose: Tensor, measure: Tensor, step: Tensor) -> Tensor:
        """Bisection on ``s = gEUD(y)``: given s, each y_i solves ``y_i + c_i(s) y_i^{a−1} = dose_i``."""
        high = self.geud_gy(dose, measure)
        low = torch.minimum(high, torch.full_like(high, self.dose_gy))
        push = 2 * step * measure / measure.sum()
        for _ in range(30):
            s = (low + high) / 2
            y = self._shrunk(dose, push * (s - self.dose_gy).clamp(min=0), s)
            too_low = self.geud_gy(y, measure) > s
            low, high = torch.where(too_low, s, low), torch.where(too_low, high, s)
        return self._shrunk(dose, push * (high - self.dose_gy).clamp(min=0), high)

    def _shrunk(self, dose: Tensor, push: Tensor, s: Tensor) -> Tensor:
        """Root of ``y + push (y/s)^{a−1} = dose`` where the dose is positive."""
        v, n = dose.clamp(min=0), self.exponent - 1
        push, s = push.clamp(min=1e-30), s.clamp(min=1e-12)
        if n == 0:
            y = (v - push).clamp(min=0)
        elif n < 1:  # in the variable (y/s)^n, in which the function is convex
            y = s * _root(v / push, s / push, 1 / n) ** (1 / n)
        else:
            y = s * _root(v / s, push / s, n)
        return torch.where(dose > 0, y, dose)


@dataclass(frozen=True)
class MaxDvh:
    """At most ``volume_percent`` of the structure above ``dose_gy``: ``Σ m_i (y_i − p)²`` over p < y_i < D_v.

    Wu and Mohan, Med. Phys. 27, 701 (2000), doi:10.1118/1.598932. Not convex.
    """

    dose_gy: float
    volume_percent: float

    def value(self, dose: Tensor, measure: Tensor) -> Tensor:
        return _total(measure * self._excess(dose, measure) ** 2)

    def gradient(self, dose: Tensor, measure: Tensor) -> Tensor:
        return 2 * measure * self._excess(dose, measure)

    def _excess(self, dose: Tensor, measure: Tensor) -> Tensor:
        threshold = dose_at_volume(dose, measure, self.volume_percent)
        return torch.where(dose <= threshold, (dose - self.dose_gy).clamp(min=0), 0)


@dataclass(frozen=True)
class MinDvh:
    """At least ``volume_percent`` of the structure above ``dose_gy``: ``Σ m_i (p − y_i)²`` over D_v < y_i < p.

    Wu and Mohan, Med. Phys. 27, 701 (2000), doi:10.1118/1.598932. Not convex.
    """

    dose_gy: float
    volume_percent: float

    def value(self, dose: Tensor, measure: Tensor) -> Tensor:
        return _total(measure * self._lack(dose, measure) ** 2)

    def gradient(self, dose: Tensor, measure: Tensor) -> Tensor:
        return -2 * measure * self._lack(dose, measure)

    def _lack(self, dose: Tensor, measure: Tensor) -> Tensor:
        threshold = dose_at_volume(dose, measure, self.volume_percent)
        return torch.where(dose >= threshold, (self.dose_gy - dose).clamp(min=0), 0)


def dose_at_volume(dose: Tensor, measure: Tensor, volume_percent: float) -> Tensor:
    """Dose that the hottest ``volume_percent`` of the structure receives at least, (n_batch, 1)."""
    ordered, order = dose.sort(dim=1, descending=True)
    above = measure[order].cumsum(1)
    index = (above < volume_percent / 100 * above[:, -1:]).sum(1, keepdim=True).clamp(max=dose.shape[1] - 1)
    return ordered.gather(1, index)


def _root(total: Tensor, factor: Tensor, power: float) -> Tensor:
    """Root of ``x + factor · x^power = total`` for a power of at least 1, by Newton from at most twice the root."""
    x = torch.minimum(total, (total / factor) ** (1 / power))
    for _ in range(6):
        other = factor * x**power
        x = (x - (x + other - total) / (1 + power * other / x.clamp(min=1e-30))).clamp(min=0)
    return x


def _total(per_voxel: Tensor) -> Tensor:
    return per_voxel.sum(1, dtype=torch.float64)
