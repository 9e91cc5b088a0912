"""The fluence that segments deliver, as an image beside the ideal fluence map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deeprt.delivery.segments import DeliverablePlan


@dataclass(frozen=True, eq=False)
class FluenceImage:
    """Fluence on a raster of the isocenter plane.

    Parameters
    ----------
    x_edges_mm : (n_cols + 1,) along +Xb
    y_edges_mm : (n_rows + 1,) along +Yb
    fluence_mu : (n_rows, n_cols), MU per fraction
    """

    x_edges_mm: NDArray[np.float64]
    y_edges_mm: NDArray[np.float64]
    fluence_mu: NDArray[np.float64]


def delivered_fluence(plan: DeliverablePlan, beam_index: int, *, pixel_mm: float = 1.0) -> FluenceImage:
    """Sum the segments of one beam: open area times MU, and the leaves' transmission elsewhere within the jaws.

    A pixel holds the mean over its area; outside the jaws there is nothing.
    """
    jaws, mlc = plan.jaws[beam_index], plan.machine.mlc
    x_edges = pixel_mm * np.arange(np.floor(jaws.x1_mm / pixel_mm), np.ceil(jaws.x2_mm / pixel_mm) + 1)
    y_edges = pixel_mm * np.arange(np.floor(jaws.y1_mm / pixel_mm), np.ceil(jaws.y2_mm / pixel_mm) + 1)
    leaf_low = np.clip(mlc.leaf_edges_mm[:-1], jaws.y1_mm, jaws.y2_mm)
    leaf_high = np.clip(mlc.leaf_edges_mm[1:], jaws.y1_mm, jaws.y2_mm)
    rows = np.stack([_covered(y_edges, low, high) for low, high in zip(leaf_low, leaf_high, strict=True)], axis=1)
    jaw_columns = _covered(x_edges, jaws.x1_mm, jaws.x2_mm)
    fluence = np.zeros((y_edges.size - 1, x_edges.size - 1))
    for segment in plan.segments_of(beam_index):
        left = np.clip(segment.left_mm, jaws.x1_mm, jaws.x2_mm)
        right = np.clip(segment.right_mm, jaws.x1_mm, jaws.x2_mm)
        opening = np.stack([_covered(x_edges, a, b) for a, b in zip(left, right, strict=True)])
        passed = opening + mlc.transmission * (jaw_columns - opening)
        fluence += segment.mu * (rows @ passed)
    return FluenceImage(x_edges, y_edges, fluence)


def _covered(edges: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Share of each pixel that lies within [low, high], (n,)."""
    overlap = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
    return np.asarray(np.maximum(overlap, 0.0) / np.diff(edges))
