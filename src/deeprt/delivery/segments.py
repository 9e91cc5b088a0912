"""Segments and the deliverable plan they make up."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from deeprt.beams import Beam
from deeprt.machine import Machine


@dataclass(frozen=True, eq=False)
class Segment:
    """One field shape, standing, or moving evenly while its monitor units are delivered.

    Parameters
    ----------
    beam_index : into the plan's beams
    left_mm, right_mm : leaf tips along +Xb at the isocenter plane, ``left <= right``, for all leaf pairs of the
        machine in the order of its ``leaf_edges_mm``: (n_pairs,) of a segment that stands, (2, n_pairs) at the start
        and the end of one that moves
    mu : per fraction
    """

    beam_index: int
    left_mm: NDArray[np.float64]
    right_mm: NDArray[np.float64]
    mu: float

    def __post_init__(self) -> None:
        left, right = self.left_mm, self.right_mm
        if left.shape != right.shape or not (left.ndim == 1 or (left.ndim == 2 and len(left) == 2)):
            raise ValueError(
                f"Segment tips must be two equally long rows, got shapes {left.shape} and {right.shape}; "
                "tips that move are two such rows each, at start and end."
            )
        if not (np.all(np.isfinite(left)) and np.all(np.isfinite(right)) and np.all(left <= right)):
            raise ValueError("Segment tips must be finite with left_mm <= right_mm in every leaf pair.")
        if not (np.isfinite(self.mu) and self.mu >= 0):
            raise ValueError(f"Segment monitor units must be finite and not negative, got {self.mu}.")

    @property
    def moves(self) -> bool:
        """Whether the leaves move while it is delivered."""
        return self.left_mm.ndim == 2

    @property
    def ends_mm(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Left and right tips at the start and the end, (2, n_pairs) each; the same twice if it stands."""
        shape = (2, self.left_mm.shape[-1])
        return np.broadcast_to(self.left_mm, shape), np.broadcast_to(self.right_mm, shape)


@dataclass(frozen=True)
class JawOpening:
    """Jaw positions of a beam at the isocenter plane, mm, along +Xb and +Yb."""

    x1_mm: float
    x2_mm: float
    y1_mm: float
    y2_mm: float


@dataclass(frozen=True, eq=False)
class DeliverablePlan:
    """Step-and-shoot or sliding-window beams that the machine can deliver.

    Parameters
    ----------
    machine : that delivers
    beams : in delivery order
    jaws : one a beam, the same for all its segments
    segments : ordered by beam, then by delivery; all stand, or all move, each of a beam from where the last one ends
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
        if any(s.left_mm.shape[-1] != n_pairs for s in self.segments):
            raise ValueError(f"Every segment must place all {n_pairs} leaf pairs of {self.machine.name}.")
        if len({s.moves for s in self.segments}) > 1:
            raise ValueError("A plan's segments must all stand or all move.")
        for a, b in pairwise(self.segments):
            if a.moves and a.beam_index == b.beam_index and not _joined(a, b):
                raise ValueError(f"Moving segments of beam {a.beam_index + 1} must each begin where the last one ends.")

    @property
    def technique(self) -> str:
        """How the beams are delivered: step and shoot, or sliding window."""
        return "sliding window" if any(s.moves for s in self.segments) else "step and shoot"

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


def _joined(first: Segment, second: Segment) -> bool:
    return all(np.array_equal(a[1], b[0]) for a, b in zip(first.ends_mm, second.ends_mm, strict=True))
