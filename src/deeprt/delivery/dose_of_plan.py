"""The dose of what is delivered: openings with leaf transmission, not the ideal fluence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeprt.delivery.fluence import Openings, fluence_of, segment_openings, with_head_scatter
from deeprt.delivery.segments import DeliverablePlan
from deeprt.dose.influence import BeamInfluence, DoseInfluence
from deeprt.machine import Machine

_PIXEL_MM = 1.0  # along leaf travel, and along jaws that move; edges inside a pixel count partly
_ROW_MM = 10.0  # largest height of a pixel; horns, taken at its center, hardly bend over that


def dose_of_plan(plan: DeliverablePlan, influence: DoseInfluence) -> NDArray[np.float32]:
    """Whole-course dose of the segments.

    Parameters
    ----------
    influence : of the plan's beams, in their order, on every voxel whose dose is wanted

    Returns
    -------
    (n_k, n_j, n_i) float32, Gy, zero outside the influence's voxels
    """
    total = torch.zeros(influence.voxels.size, device=influence.device)
    for index, beam in enumerate(influence.beams):
        if plan.segments_of(index):
            total += dose_of_openings(segment_openings(plan, index), beam, plan.machine)
    return influence.to_volume(total * plan.n_fractions)


def dose_of_openings(openings: Openings, influence: BeamInfluence, machine: Machine) -> Tensor:
    """Dose per fraction of one beam's openings, (n_voxels,) float32, Gy.

    Parameters
    ----------
    influence : of the beam, on any pixels; here it is set up for those between the jaws
    machine : whose leaf edges are those of the openings' pairs
    """
    pixels = between_jaws(openings, influence, machine)
    return dose_on(pixels, openings, machine)


@dataclass(frozen=True, eq=False)
class SegmentInfluence:
    """Dose influence of a plan's segments, whose variables are their monitor units.

    Parameters
    ----------
    matrix : (n_segments, n_voxels) float32, Gy per MU
    voxels : (n_voxels,) flat indices into the case's grid
    """

    matrix: Tensor
    voxels: NDArray[np.int64]

    @property
    def n_beamlets(self) -> int:
        """Number of segments."""
        return self.matrix.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the matrix lives."""
        return self.matrix.device

    def dose(self, mu: Tensor) -> Tensor:
        """Dose per fraction: (n_batch, n_segments) MU -> (n_batch, n_voxels) Gy."""
        return mu @ self.matrix

    def adjoint(self, voxel_values: Tensor) -> Tensor:
        """Transpose of ``dose``: (n_batch, n_voxels) -> (n_batch, n_segments)."""
        return voxel_values @ self.matrix.T


def segment_influence(plan: DeliverablePlan, influence: DoseInfluence) -> SegmentInfluence:
    """Dose of one MU of each segment of a plan, in the plan's order."""
    rows = []
    for index, beam in enumerate(influence.beams):
        openings = segment_openings(plan, index)
        if openings.mu.size == 0:
            continue
        pixels = between_jaws(openings, beam, plan.machine)
        for n in range(openings.mu.size):
            one = slice(n, n + 1)
            one_mu = replace(
                openings,
                mu=np.ones(1),
                left_mm=openings.left_mm[one],
                right_mm=openings.right_mm[one],
                jaws_mm=openings.jaws_mm[one],
            )
            rows.append(dose_on(pixels, one_mu, plan.machine))
    return SegmentInfluence(torch.stack(rows), influence.voxels)


def with_segment_mu(plan: DeliverablePlan, mu: Sequence[float]) -> DeliverablePlan:
    """Return the plan with other monitor units, one a segment; segments of none are left out."""
    segments = tuple(replace(s, mu=float(m)) for s, m in zip(plan.segments, mu, strict=True) if m > 0)
    return replace(plan, segments=segments)


def between_jaws(openings: Openings, influence: BeamInfluence, machine: Machine) -> BeamInfluence:
    """The beam's influence on pixels between the jaws: 1 mm along the leaves, across them their widths or less."""
    x1, x2, y1, y2 = openings.bounds_mm
    jaws_stand = bool(np.all(openings.jaws_mm == openings.jaws_mm[0]))
    if openings.leaf_travel == "x":
        return influence.on_pixels(_even(x1, x2), _by_leaves(y1, y2, machine, jaws_stand))
    return influence.on_pixels(_by_leaves(x1, x2, machine, jaws_stand), _even(y1, y2))


def _even(low_mm: float, high_mm: float, step_mm: float = _PIXEL_MM) -> NDArray[np.float64]:
    """Edges of equal pixels, none wider than the step but for rounding."""
    return np.linspace(low_mm, high_mm, max(1, int(np.ceil((high_mm - low_mm) / step_mm - 1e-6))) + 1)


def _by_leaves(low_mm: float, high_mm: float, machine: Machine, jaws_stand: bool) -> NDArray[np.float64]:
    leaves = machine.mlc.leaf_edges_mm
    edges = np.concatenate([[low_mm], leaves[(leaves > low_mm) & (leaves < high_mm)], [high_mm]])
    step_mm = _ROW_MM if jaws_stand else _PIXEL_MM
    parts = [_even(a, b, step_mm)[:-1] for a, b in pairwise(edges)]
    return np.concatenate([*parts, [high_mm]])


def dose_on(pixels: BeamInfluence, openings: Openings, machine: Machine) -> Tensor:
    """Dose per fraction of openings, (n_voxels,), by an influence on the pixels of `between_jaws`."""
    counted = with_head_scatter(openings, machine.head_scatter)
    fluence = fluence_of(counted, machine.mlc, pixels.beam.x_edges_mm, pixels.beam.y_edges_mm)
    row = torch.from_numpy(fluence.astype(np.float32)).to(pixels.depth_factors.device).reshape(1, -1)
    return pixels.dose(row)[0]
