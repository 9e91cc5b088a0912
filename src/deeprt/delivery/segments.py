"""Segments and the deliverable plan they make up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deeprt.beams import Beam
from deeprt.machine import Machine


@dataclass(frozen=True, eq=False)
class Segment:
    """One static field shape.

    Parameters
    ----------
    beam_index : into the plan's beams
    left_mm, right_mm : (n_pairs,) leaf tips along +Xb at the isocenter plane, ``left <= right``, for all leaf
        pairs of the machine in the order of its ``leaf_edges_mm``
    mu : per fraction
    """

    beam_index: int
    left_mm: NDArray[np.float64]
    right_mm: NDArray[np.float64]
    mu: float

    def __post_init__(self) -> None:
        left, right = self.left_mm, self.right_mm
        if left.ndim != 1 or left.shape != right.shape:
            raise ValueError(f"Segment tips must be two equally long rows, got shapes {left.shape} and {right.shape}.")
        if not (np.all(np.isfinite(left)) and np.all(np.isfinite(right)) and np.all(left <= right)):
            raise ValueError("Segment tips must be finite with left_mm <= right_mm in every leaf pair.")
        if not (np.isfinite(self.mu) and self.mu >= 0):
            raise ValueError(f"Segment monitor units must be finite and not negative, got {self.mu}.")


@dataclass(frozen=True)
class JawOpening:
    """Jaw positions of a beam at the isocenter plane, mm, along +Xb and +Yb."""

    x1_mm: float
    x2_mm: float
    y1_mm: float
    y2_mm: float


@dataclass(frozen=True, eq=False)
class DeliverablePlan:
    """Static step-and-shoot beams that the machine can deliver.

    Parameters
    ----------
    machine : that delivers
    beams : in delivery order
    jaws : one a beam, the same for all its segments
    segments : ordered by beam, then by delivery
    n_fractions : of the whole course
    """

    machine: Machine
    beams: tuple[Beam, ...]
    jaws: tuple[JawOpening, ...]
    segments: tuple[Segment, ...]
    n_fractions: int

    def __post_init__(self) -> None:
        if len(self.jaws) != len(self.beams):
            raise ValueError(f"A plan needs one jaw opening a beam, got {len(self.jaws)} for {len(self.beams)} beams.")
        if self.n_fractions < 1:
            raise ValueError(f"A plan needs at least one fraction, got {self.n_fractions}.")
        order = [s.beam_index for s in self.segments]
        if order != sorted(order) or not set(order) <= set(range(len(self.beams))):
            raise ValueError("A plan's segments must be ordered by beam and belong to its beams.")
        n_pairs = self.machine.mlc.n_pairs
        if any(s.left_mm.size != n_pairs for s in self.segments):
            raise ValueError(f"Every segment must place all {n_pairs} leaf pairs of {self.machine.name}.")

    def segments_of(self, beam_index: int) -> tuple[Segment, ...]:
        """Segments of one beam in delivery order."""
        return tuple(s for s in self.segments if s.beam_index == beam_index)

    def beam_mu(self, beam_index: int) -> float:
        """Monitor units of one beam per fraction."""
        return float(sum(s.mu for s in self.segments_of(beam_index)))

    @property
    def total_mu(self) -> float:
        """Monitor units of all beams per fraction."""
        return float(sum(s.mu for s in self.segments))
