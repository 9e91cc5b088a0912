"""From control points to openings: the intervals of a beam in which meterset is delivered."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deeprt.delivery.existing_plan import WITHDRAWN_MM, PlannedBeam
from deeprt.delivery.fluence import Openings

Float = NDArray[np.float64]

_JAW_STEP_MM = 1.0  # an interval in which jaws move further is divided; leaves are exact however far they move


def beam_openings(beam: PlannedBeam, *, tip_offset_mm: float) -> Openings:
    """Openings of a beam between consecutive control points.

    Leaves move linearly with the meterset. Jaws stand in each interval midway; where they move, intervals are
    divided until that is within half a millimeter. Where the machine has no jaws along an axis, the opening ends at
    the outermost tips or leaf edges that are open in the interval. Intervals without meterset, in which the leaves of
    a step-and-shoot beam move, deliver nothing and are left out.

    Parameters
    ----------
    tip_offset_mm : of the machine's leaves, by which the outermost tips let through more
    """
    parts = [_interval(beam, int(n), tip_offset_mm) for n in np.flatnonzero(np.diff(beam.meterset) > 0)]
    mu, left, right, jaws = (np.concatenate(values) for values in zip(*parts, strict=True))
    return Openings(beam.mu * mu, left, right, jaws, beam.leaf_travel)


def _interval(beam: PlannedBeam, n: int, tip_offset_mm: float) -> tuple[Float, Float, Float, Float]:
    """Share of the monitor units, left and right tips and jaws between control points n and n + 1, divided evenly."""
    ends = slice(n, n + 2)
    jaws = _with_missing_jaws(beam.jaws_mm[ends], beam, ends, tip_offset_mm)
    n_parts = max(1, int(np.ceil(np.abs(jaws[1] - jaws[0]).max() / _JAW_STEP_MM)))
    time = np.linspace(0, 1, n_parts + 1)
    left, right = (_at(tips[ends], time) for tips in (beam.left_mm, beam.right_mm))
    share = np.diff(beam.meterset[ends])[0] / n_parts
    middle = (time[:-1] + time[1:]) / 2
    pairs_of_times = np.stack([np.arange(n_parts), np.arange(1, n_parts + 1)], axis=1)
    return np.full(n_parts, share), left[pairs_of_times], right[pairs_of_times], _at(jaws, middle)


def _at(ends: Float, time: Float) -> Float:
    """Linear interpolation between two rows, (2, n) -> (n_times, n)."""
    return np.asarray((1 - time)[:, None] * ends[0] + time[:, None] * ends[1])


def _with_missing_jaws(jaws_mm: Float, beam: PlannedBeam, ends: slice, tip_offset_mm: float) -> Float:
    """Jaws at both ends, (2, 4), with the outline of the open leaves where the machine has none."""
    if np.all(np.isfinite(jaws_mm)):
        return jaws_mm
    along, across = ([0, 1], [2, 3]) if beam.leaf_travel == "x" else ([2, 3], [0, 1])
    filled = jaws_mm.copy()
    left, right = beam.left_mm[ends].min(axis=0), beam.right_mm[ends].max(axis=0)
    is_open = (left < right) & (beam.leaf_edges_mm[1:] > jaws_mm[:, across[0]].min())
    is_open &= beam.leaf_edges_mm[:-1] < jaws_mm[:, across[1]].max()
    outline = np.zeros(4)
    if is_open.any():
        outline[along] = left[is_open].min() - tip_offset_mm, right[is_open].max() + tip_offset_mm
        outline[across] = beam.leaf_edges_mm[:-1][is_open].min(), beam.leaf_edges_mm[1:][is_open].max()
    missing = ~np.isfinite(jaws_mm)
    filled[missing] = np.broadcast_to(outline, (2, 4))[missing]
    return np.clip(filled, -WITHDRAWN_MM, WITHDRAWN_MM)
