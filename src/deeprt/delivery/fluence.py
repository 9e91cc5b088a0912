"""Fluence that a plan's segments deliver."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deeprt.delivery.segments import DeliverablePlan

Float = NDArray[np.float64]


def coverage(low_mm: Float, high_mm: Float, edges_mm: Float) -> Float:
    """Share of each pixel that lies between ``low`` and ``high``, exactly.

    Parameters
    ----------
    low_mm, high_mm : (...,); nothing is covered where ``low >= high``
    edges_mm : (n_pixels + 1,) increasing

    Returns
    -------
    (..., n_pixels) float64, 0 to 1

    Examples
    --------
    >>> coverage(np.array([1.0]), np.array([3.5]), np.array([0.0, 2.0, 4.0, 6.0]))
    array([[0.5 , 0.75, 0.  ]])
    """
    covered = np.minimum(high_mm[..., None], edges_mm[1:]) - np.maximum(low_mm[..., None], edges_mm[:-1])
    return np.asarray(np.maximum(covered, 0.0) / np.diff(edges_mm))


def delivered_fluence(plan: DeliverablePlan, beam_index: int, x_edges_mm: Float, y_edges_mm: Float) -> Float:
    """Fluence of one beam's segments, averaged over pixels of any size.

    Between the jaws a segment of M monitor units gives ``M`` where its leaves are open and ``transmission * M``
    where they cover the field; behind the jaws it gives nothing.

    Parameters
    ----------
    x_edges_mm, y_edges_mm : (n_cols + 1,), (n_rows + 1,) increasing, along +Xb and +Yb at the isocenter plane

    Returns
    -------
    (n_rows, n_cols) float64, MU per fraction; rows follow +Yb
    """
    mlc, jaws, segments = plan.machine.mlc, plan.jaws[beam_index], plan.segments_of(beam_index)
    if not segments:
        return np.zeros((y_edges_mm.size - 1, x_edges_mm.size - 1))
    mu = np.array([s.mu for s in segments])
    left = np.maximum([s.left_mm for s in segments], jaws.x1_mm)
    right = np.minimum([s.right_mm for s in segments], jaws.x2_mm)
    open_mu = np.tensordot(mu, coverage(left, right, x_edges_mm), 1)  # (n_pairs, n_cols)
    below = np.maximum(mlc.leaf_edges_mm[:-1], jaws.y1_mm)
    above = np.minimum(mlc.leaf_edges_mm[1:], jaws.y2_mm)
    pair_share = coverage(below, above, y_edges_mm).T  # (n_rows, n_pairs)
    between_jaws = np.outer(
        coverage(np.array([jaws.y1_mm]), np.array([jaws.y2_mm]), y_edges_mm)[0],
        coverage(np.array([jaws.x1_mm]), np.array([jaws.x2_mm]), x_edges_mm)[0],
    )
    return np.asarray(mlc.transmission * mu.sum() * between_jaws + (1 - mlc.transmission) * pair_share @ open_mu)
