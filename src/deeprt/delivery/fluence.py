"""Fluence that passes between leaves and jaws, standing or moving, in closed form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deeprt.delivery.segments import DeliverablePlan
from deeprt.machine import HeadScatter, Mlc

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Openings:
    """What leaves and jaws leave open, interval by interval; tips move linearly within one, jaws stand.

    Lengths at the isocenter plane, in IEC beam-limiting-device axes.

    Parameters
    ----------
    mu : (n_intervals,) per fraction
    left_mm, right_mm : (n_intervals, 2, n_pairs) nominal tips at the start and the end, ``left <= right``
    jaws_mm : (n_intervals, 4) x1, x2, y1, y2
    leaf_travel : axis along which the leaves move
    """

    mu: Float
    left_mm: Float
    right_mm: Float
    jaws_mm: Float
    leaf_travel: Literal["x", "y"] = "x"

    def __post_init__(self) -> None:
        n = self.mu.size
        if self.left_mm.shape != self.right_mm.shape or self.left_mm.shape[:2] != (n, 2) or self.jaws_mm.shape[0] != n:
            raise ValueError(
                f"Openings of {n} intervals need tips (n, 2, n_pairs) and jaws (n, 4), got {self.left_mm.shape}, "
                f"{self.right_mm.shape} and {self.jaws_mm.shape}."
            )

    @property
    def jaw_sizes_mm(self) -> tuple[Float, Float]:
        """Width along x and height along y between the jaws, (n_intervals,) each."""
        x1, x2, y1, y2 = self.jaws_mm.T
        return x2 - x1, y2 - y1

    @property
    def bounds_mm(self) -> tuple[float, float, float, float]:
        """x1, x2, y1, y2 of the rectangle around all jaw openings."""
        low, high = self.jaws_mm.min(axis=0), self.jaws_mm.max(axis=0)
        return float(low[0]), float(high[1]), float(low[2]), float(high[3])


def segment_openings(plan: DeliverablePlan, beam_index: int) -> Openings:
    """Openings of a beam's segments, one interval a segment; the jaws stand."""
    segments, jaws = plan.segments_of(beam_index), plan.jaws[beam_index]
    shape = (-1, 2, plan.machine.mlc.n_pairs)
    return Openings(
        np.array([s.mu for s in segments], dtype=np.float64),
        np.array([s.ends_mm[0] for s in segments]).reshape(shape),
        np.array([s.ends_mm[1] for s in segments]).reshape(shape),
        np.tile([jaws.x1_mm, jaws.x2_mm, jaws.y1_mm, jaws.y2_mm], (len(segments), 1)),
    )


def delivered_fluence(plan: DeliverablePlan, beam_index: int, x_edges_mm: Float, y_edges_mm: Float) -> Float:
    """Fluence of one beam's segments on pixels, (n_rows, n_cols), MU per fraction: see `fluence_of`."""
    return fluence_of(segment_openings(plan, beam_index), plan.machine.mlc, x_edges_mm, y_edges_mm)


def fluence_of(openings: Openings, mlc: Mlc, x_edges_mm: Float, y_edges_mm: Float) -> Float:
    """Fluence of openings, averaged exactly over time and over pixels of any size.

    Behind the jaws nothing passes, under the leaves their transmission. Rounded tips let through more than their
    nominal positions say: each stands back by ``mlc.tip_offset_mm``.

    Parameters
    ----------
    mlc : whose leaf edges are those of the openings' pairs
    x_edges_mm, y_edges_mm : (n_cols + 1,), (n_rows + 1,) increasing, along +Xb and +Yb

    Returns
    -------
    (n_rows, n_cols) float64, MU per fraction; rows follow +Yb

    Raises
    ------
    ValueError
        If the leaves are not those of the openings.
    """
    if openings.left_mm.shape[2] != mlc.n_pairs:
        raise ValueError(f"Openings of {openings.left_mm.shape[2]} leaf pairs do not fit an MLC of {mlc.n_pairs}.")
    if openings.leaf_travel == "y":
        turned = replace(openings, jaws_mm=openings.jaws_mm[:, [2, 3, 0, 1]], leaf_travel="x")
        return fluence_of(turned, mlc, y_edges_mm, x_edges_mm).T
    fluence = np.zeros((y_edges_mm.size - 1, x_edges_mm.size - 1))
    left, right = openings.left_mm - mlc.tip_offset_mm, openings.right_mm + mlc.tip_offset_mm
    # Intervals with the same jaws, mostly all of them, share what follows from these.
    jaws, jaws_of = np.unique(openings.jaws_mm, axis=0, return_inverse=True)
    for number, opening in enumerate(jaws):
        intervals = np.flatnonzero(jaws_of.reshape(-1) == number)
        columns = np.clip(x_edges_mm, *opening[:2])
        open_mm = np.zeros((mlc.n_pairs, columns.size))
        for i in intervals:
            between = mean_beyond(left[i, 0], left[i, 1], columns) - mean_beyond(right[i, 0], right[i, 1], columns)
            open_mm += openings.mu[i] * between
        open_mu = np.diff(open_mm, axis=1) / np.diff(x_edges_mm)  # (n_pairs, n_cols)
        pair_share, jaw_share = _shares(opening, mlc, x_edges_mm, y_edges_mm)
        leaking_mu = mlc.transmission * openings.mu[intervals].sum()
        fluence += leaking_mu * jaw_share + (1 - mlc.transmission) * pair_share @ open_mu
    return fluence


def fluence_derivatives(
    openings: Openings, mlc: Mlc, x_edges_mm: Float, y_edges_mm: Float, by_fluence: Float
) -> tuple[Float, Float, Float]:
    """Derivatives of a function of `fluence_of` by tips and monitor units of openings that stand.

    A tip that moves changes the pixel that it stands in, by the height of its leaf. Where it stands at an edge, the
    pixel towards +Xb counts.

    Parameters
    ----------
    openings : whose tips and jaws stand, the jaws alike in all intervals; leaves along x
    by_fluence : (n_rows, n_cols) derivatives by the fluence

    Returns
    -------
    By left and right tips, (n_intervals, n_pairs) per mm, and by monitor units, (n_intervals,)
    """
    x1, x2 = openings.jaws_mm[0, :2]
    pair_share, jaw_share = _shares(openings.jaws_mm[0], mlc, x_edges_mm, y_edges_mm)
    per_mm = (1 - mlc.transmission) * pair_share.T @ (by_fluence / np.diff(x_edges_mm))
    padded, pair = np.pad(per_mm, ((0, 0), (1, 1))), np.arange(mlc.n_pairs)

    def under(tips_mm: Float) -> Float:
        inside = (tips_mm > x1) & (tips_mm < x2)
        return np.where(inside, padded[pair, np.searchsorted(x_edges_mm, tips_mm, side="right")], 0.0)

    left, right = openings.left_mm[:, 0] - mlc.tip_offset_mm, openings.right_mm[:, 0] + mlc.tip_offset_mm
    mu = openings.mu[:, None]
    covered_mm = coverage(np.maximum(left, x1), np.minimum(right, x2), x_edges_mm) * np.diff(x_edges_mm)
    by_mu = mlc.transmission * np.sum(jaw_share * by_fluence) + np.einsum("kpc,pc->k", covered_mm, per_mm)
    return -mu * under(left), mu * under(right), by_mu


def _shares(jaws_mm: Float, mlc: Mlc, x_edges_mm: Float, y_edges_mm: Float) -> tuple[Float, Float]:
    """Share of each row under each leaf pair, (n_rows, n_pairs), and of each pixel between the jaws."""
    low, high = jaws_mm[::2], jaws_mm[1::2]  # along x and y
    rows = np.clip(mlc.leaf_edges_mm, low[1], high[1])
    jaw_share = np.outer(coverage(low, high, y_edges_mm)[1], coverage(low, high, x_edges_mm)[0])
    return coverage(rows[:-1], rows[1:], y_edges_mm).T, jaw_share


def mean_beyond(start_mm: Float, end_mm: Float, at_mm: Float) -> Float:
    """Mean over time of ``[x - p]``, the length up to *x* beyond a tip *p* that moves evenly from start to end.

    With ``[q] = max(q, 0)`` and ``q = x - p`` going linearly from q0 to q1, the mean is ``([q0] + [q1]) / 2`` where q
    keeps its sign and ``([q1]² - [q0]²) / (2 (q1 - q0))`` where it does not.

    Parameters
    ----------
    start_mm, end_mm : (...,)
    at_mm : (n,)

    Returns
    -------
    (..., n) float64, mm

    Examples
    --------
    >>> mean_beyond(np.array([0.0]), np.array([4.0]), np.array([2.0, 6.0]))
    array([[0.5, 4. ]])
    """
    q0, q1 = at_mm - start_mm[..., None], at_mm - end_mm[..., None]
    before, after = np.maximum(q0, 0.0), np.maximum(q1, 0.0)
    mean = (before + after) / 2
    np.divide(after**2 - before**2, 2 * (q1 - q0), out=mean, where=(q0 < 0) != (q1 < 0))
    return np.asarray(mean)


def with_head_scatter(openings: Openings, head_scatter: HeadScatter) -> Openings:
    """Weight each interval's monitor units by S_c of its jaws, relative to that of the rectangle around all.

    The dose influence applies S_c of all its pixels together; where jaws move, this makes up the difference.
    """
    x1, x2, y1, y2 = openings.bounds_mm
    whole = head_scatter.of_opening(x2 - x1, y2 - y1)
    sizes = zip(*openings.jaw_sizes_mm, strict=True)
    factors = [head_scatter.of_opening(w, h) / whole if w > 0 and h > 0 else 0.0 for w, h in sizes]
    return replace(openings, mu=openings.mu * factors)


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
