"""Least-squares fit of leaf positions and monitor units to a fluence map.

The fluence of K segments is linear in their monitor units and, for one segment with all else fixed, separates into
leaf pairs. So the two are improved in turn, each step being the exact optimum of its part: monitor units by
non-negative least squares, a leaf pair by the best interval of its row. Tips move continuously; a pixel under a tip
counts partly. This is the alternation of direct aperture optimization (Shepard et al., Med. Phys. 29, 1007, 2002,
doi:10.1118/1.1477415) in fluence space, with exact steps in the place of random ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from deeprt.delivery.fluence import coverage
from deeprt.machine import Mlc

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Field:
    """A wished fluence between the jaws, to be fitted.

    Parameters
    ----------
    fluence_mu : (n_rows, n_cols), one row a leaf pair; the first and last row hold no fluence and stand for all
        pairs beside the field, which must keep the limits too
    x_edges_mm : (n_cols + 1,)
    heights_mm : (n_rows,) leaf widths, zero for the first and last row
    x1_mm, x2_mm : jaws, behind which closed pairs hide
    mlc : limits of the edges of the leaves' fluence
    """

    fluence_mu: Float
    x_edges_mm: Float
    heights_mm: Float
    x1_mm: float
    x2_mm: float
    mlc: Mlc

    @cached_property
    def root_area(self) -> Float:
        """Square root of each pixel's area, (n_rows, n_cols), mm: the weight of its residual."""
        return np.asarray(np.sqrt(np.outer(self.heights_mm, np.diff(self.x_edges_mm))))


@dataclass(frozen=True, eq=False)
class Shapes:
    """Leaf tips and monitor units of K segments on the rows of a field: (K, n_rows), (K, n_rows), (K,)."""

    left_mm: Float
    right_mm: Float
    mu: Float

    def kept(self, which: NDArray[np.bool_]) -> Shapes:
        """The segments where ``which`` is true."""
        return Shapes(self.left_mm[which], self.right_mm[which], self.mu[which])


def fitted_mu(field: Field, shapes: Shapes) -> Shapes:
    """Fit the monitor units by non-negative least squares, leaf transmission included; drop unused segments."""
    if shapes.mu.size == 0:
        return shapes  # nnls must not see an empty matrix
    patterns, wished = _weighted(field, shapes)
    mu, _ = nnls(patterns.T, wished)
    return Shapes(shapes.left_mm, shapes.right_mm, mu).kept(mu > 0)


def fit_error(field: Field, shapes: Shapes) -> float:
    """Root of the area-weighted squared deviation, relative to that of no fluence at all."""
    patterns, wished = _weighted(field, shapes)
    return float(np.linalg.norm(shapes.mu @ patterns - wished) / np.linalg.norm(wished))


def without_least(field: Field, shapes: Shapes) -> Shapes:
    """Drop the segment whose loss costs least, the others' monitor units adapting.

    Leaving out k from a least-squares fit with normal matrix G adds ``mu_k² / (G⁻¹)_kk`` to the squared deviation.
    """
    patterns, _ = _weighted(field, shapes)
    normal = patterns @ patterns.T
    normal += 1e-9 * np.trace(normal) * np.eye(len(normal))  # shapes may be linearly dependent
    cost = shapes.mu**2 / np.diag(np.linalg.inv(normal))
    return fitted_mu(field, shapes.kept(np.arange(cost.size) != cost.argmin()))


def fitted_leaves(field: Field, shapes: Shapes) -> Shapes:
    """Move every leaf pair of every segment once to its best position, all else fixed."""
    t = field.mlc.transmission
    left, right = shapes.left_mm.copy(), shapes.right_mm.copy()
    residual = field.fluence_mu - t * shapes.mu.sum()
    residual = residual - np.tensordot((1 - t) * shapes.mu, coverage(left, right, field.x_edges_mm), 1)
    # Neighbors that must not collide bound each other, so they move in two halves.
    parities = (slice(None),) if field.mlc.interdigitation else (slice(0, None, 2), slice(1, None, 2))
    for k, mu in enumerate((1 - t) * shapes.mu):
        for rows in parities:
            limits = _tip_limits(field, left[k], right[k], rows)
            alone = residual[rows] + mu * coverage(left[k, rows], right[k, rows], field.x_edges_mm)
            left[k, rows], right[k, rows] = _best_positions(field, alone, mu, left[k, rows], right[k, rows], limits)
            residual[rows] = alone - mu * coverage(left[k, rows], right[k, rows], field.x_edges_mm)
    return Shapes(left, right, shapes.mu)


@dataclass(frozen=True, eq=False)
class _TipLimits:
    """Where the tips of some leaf pairs may go, all four (n_rows,), mm."""

    left_low: Float
    left_high: Float
    right_low: Float
    right_high: Float

    def closed_at(self, position_mm: float, gap_mm: float) -> tuple[Float, NDArray[np.bool_]]:
        """Left tips of pairs closed to the gap as near to a position as allowed, and where they may close at all."""
        low = np.maximum(self.left_low, self.right_low - gap_mm)
        high = np.minimum(self.left_high, self.right_high - gap_mm)
        return np.clip(position_mm, low, np.maximum(low, high)), low <= high


def _tip_limits(field: Field, left: Float, right: Float, rows: slice) -> _TipLimits:
    """Limits of travel and span for one segment, and of the neighbors where these must not be passed.

    Each bank may spread over ``max_span_mm`` around the middle of its present tips, so that all rows that are no
    neighbors may move at once.
    """
    mlc = field.mlc
    left_low, left_high = _window(left, mlc.max_span_mm, -mlc.max_position_mm, mlc.max_overtravel_mm)
    right_low, right_high = _window(right, mlc.max_span_mm, -mlc.max_overtravel_mm, mlc.max_position_mm)
    limits = [np.full(left.size, x) for x in (left_low, left_high, right_low, right_high)]
    if not mlc.interdigitation:
        for here, there in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
            limits[1][here] = np.minimum(limits[1][here], right[there] - 2 * mlc.tip_offset_mm)
            limits[2][here] = np.maximum(limits[2][here], left[there] + 2 * mlc.tip_offset_mm)
    return _TipLimits(*(x[rows] for x in limits))


def hiding_place(field: Field, left: Float, right: Float) -> float:
    """Left tip of closed pairs behind one of the jaws, or as near to one as open pairs at (left, right) allow, mm."""
    mlc = field.mlc
    gap, span = mlc.min_gap_mm, mlc.max_span_mm
    low = max(left.max() - span, right.max() - span - gap, -mlc.max_position_mm, -mlc.max_overtravel_mm - gap)
    high = min(left.min() + span, right.min() + span - gap, mlc.max_overtravel_mm, mlc.max_position_mm - gap)
    behind_jaws = np.array([field.x2_mm, field.x1_mm - gap])
    allowed = np.clip(behind_jaws, low, max(low, high))
    return float(allowed[np.abs(allowed - behind_jaws).argmin()])


def _window(tips: Float, span_mm: float, low_mm: float, high_mm: float) -> tuple[float, float]:
    spare = max(0.0, span_mm - np.ptp(tips)) / 2
    return max(low_mm, float(tips.min() - spare)), min(high_mm, float(tips.max() + spare))


def _best_positions(
    field: Field, residual: Float, mu: float, left: Float, right: Float, limits: _TipLimits
) -> tuple[Float, Float]:
    """Choose for each row among staying, the best opening, and closing behind either jaw (or as near as allowed)."""
    gap = field.mlc.min_gap_mm
    opening = _best_opening(residual, mu, field.x_edges_mm, limits)
    is_open = np.isfinite(opening[0]) & (opening[1] - opening[0] >= gap)
    shut_1, is_shut_1 = limits.closed_at(field.x1_mm - gap, gap)
    shut_2, is_shut_2 = limits.closed_at(field.x2_mm, gap)
    lefts = np.stack([left, np.where(is_open, opening[0], left), shut_1, shut_2])
    rights = np.stack([right, np.where(is_open, opening[1], right), shut_1 + gap, shut_2 + gap])
    share = coverage(lefts, rights, field.x_edges_mm)
    gain = (mu * share * (2 * residual - mu * share)) @ np.diff(field.x_edges_mm)
    gain[1:][~np.stack([is_open, is_shut_1, is_shut_2])] = -np.inf
    best = gain.argmax(axis=0)
    row = np.arange(best.size)
    return lefts[best, row], rights[best, row]


def _best_opening(residual: Float, mu: float, x_edges_mm: Float, limits: _TipLimits) -> tuple[Float, Float]:
    """Find the interval of each row that lowers ``∫ (residual − mu · open)²`` most, tips in different pixels.

    The gain is additive over pixels: the left tip's, the right tip's, and those between them, so that the best pair
    of pixels follows from a running maximum. NaN where the limits allow no such interval.
    """
    width, low_edge, high_edge = np.diff(x_edges_mm), x_edges_mm[:-1], x_edges_mm[1:]
    wished = residual / mu

    def tip(least: Float, most: Float) -> tuple[Float, Float]:
        share = np.minimum(np.maximum(wished, least), most)
        gain = width * mu * share * (2 * residual - mu * share)
        return share, np.where(least <= most, gain, -np.inf)

    left_share, left_gain = tip(
        np.maximum(high_edge - limits.left_high[:, None], 0) / width,
        (high_edge - np.maximum(low_edge, limits.left_low[:, None])) / width,
    )
    right_share, right_gain = tip(
        np.maximum(limits.right_low[:, None] - low_edge, 0) / width,
        (np.minimum(high_edge, limits.right_high[:, None]) - low_edge) / width,
    )
    total = np.cumsum(width * mu * (2 * residual - mu), axis=1)
    start = left_gain - total
    gain = np.full_like(residual, -np.inf)
    gain[:, 1:] = np.maximum.accumulate(start, axis=1)[:, :-1] + total[:, :-1] + right_gain[:, 1:]
    row, last = np.arange(len(residual)), gain.argmax(axis=1)
    first = np.where(np.arange(width.size) < last[:, None], start, -np.inf).argmax(axis=1)
    left = high_edge[first] - left_share[row, first] * width[first]
    right = low_edge[last] + right_share[row, last] * width[last]
    found = np.isfinite(gain[row, last])
    return np.where(found, left, np.nan), np.where(found, right, np.nan)


def _weighted(field: Field, shapes: Shapes) -> tuple[Float, Float]:
    """Fluence per MU of each segment (K, n_pixels) and the wished one (n_pixels,), both times root area."""
    t = field.mlc.transmission
    patterns = t + (1 - t) * coverage(shapes.left_mm, shapes.right_mm, field.x_edges_mm)
    return (patterns * field.root_area).reshape(len(patterns), field.fluence_mu.size), (
        field.fluence_mu * field.root_area
    ).ravel()
