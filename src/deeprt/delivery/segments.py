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
