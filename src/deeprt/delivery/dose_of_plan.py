"""The dose of what is delivered: segments with leaf transmission, not the ideal fluence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeprt.delivery.fluence import delivered_fluence
from deeprt.delivery.segments import DeliverablePlan
from deeprt.dose.influence import BeamInfluence, DoseInfluence

_PIXEL_MM = 1.0  # along leaf travel; leaf tips inside a pixel count partly


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
        pixels = _leaf_pixels(plan, index, beam)
        fluence = delivered_fluence(plan, index, pixels.beam.x_edges_mm, pixels.beam.y_edges_mm)
        total += pixels.dose(_row(fluence, influence.device))[0]
    return influence.to_volume(total * plan.n_fractions)


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
        pixels = _leaf_pixels(plan, index, beam)
        for segment in plan.segments_of(index):
            one_mu = replace(plan, segments=(replace(segment, mu=1.0),))
            fluence = delivered_fluence(one_mu, index, pixels.beam.x_edges_mm, pixels.beam.y_edges_mm)
            rows.append(pixels.dose(_row(fluence, influence.device)))
    return SegmentInfluence(torch.cat(rows), influence.voxels)


def with_segment_mu(plan: DeliverablePlan, mu: Sequence[float]) -> DeliverablePlan:
    """Return the plan with other monitor units, one a segment; segments of none are left out."""
    segments = tuple(replace(s, mu=float(m)) for s, m in zip(plan.segments, mu, strict=True) if m > 0)
    return replace(plan, segments=segments)


def _leaf_pixels(plan: DeliverablePlan, index: int, beam: BeamInfluence) -> BeamInfluence:
    """The beam's influence on pixels between the jaws: leaf widths by 1 mm."""
    jaws, leaves = plan.jaws[index], plan.machine.mlc.leaf_edges_mm
    inner = leaves[(leaves > jaws.y1_mm) & (leaves < jaws.y2_mm)]
    n_columns = max(1, int(np.ceil((jaws.x2_mm - jaws.x1_mm) / _PIXEL_MM)))
    return beam.on_pixels(
        np.linspace(jaws.x1_mm, jaws.x2_mm, n_columns + 1),
        np.concatenate([[jaws.y1_mm], inner, [jaws.y2_mm]]),
    )


def _row(fluence: NDArray[np.float64], device: torch.device) -> Tensor:
    return torch.from_numpy(fluence.astype(np.float32)).to(device).reshape(1, -1)
