"""Whether a machine can deliver a plan's segments, limit by limit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from deeprt.delivery.fluence import mean_beyond
from deeprt.delivery.segments import DeliverablePlan, JawOpening, Segment
from deeprt.machine import Machine

Float = NDArray[np.float64]

_TOLERANCE_MM = 1e-6  # rounding in sums of leaf positions
_TOLERANCE_MU = 1e-9  # rounding in sums of monitor units


def violations(plan: DeliverablePlan) -> tuple[str, ...]:
    """Name every limit of the machine that a plan breaks.

    Returns
    -------
    One sentence each with beam, segment, leaf pair (all counted from 1) and limit; empty if the plan is deliverable.
    """
    return tuple(_of_plan(plan))


def _of_plan(plan: DeliverablePlan) -> Iterator[str]:
    machine = plan.machine
    for index, (beam, jaws) in enumerate(zip(plan.beams, plan.jaws, strict=True)):
        where = f"Beam '{beam.name}'"
        yield from _of_jaws(where, jaws, machine)
        segments = plan.segments_of(index)
        if not segments:
            yield f"{where} has no segment."
        if (mu := plan.beam_mu(index)) > machine.max_mu_per_beam + _TOLERANCE_MU:
            yield f"{where}: {mu:.1f} MU are above the {machine.max_mu_per_beam:g} MU a beam may have."
        for number, segment in enumerate(segments, start=1):
            yield from _of_segment(f"{where}, segment {number}", segment, jaws, machine)


def _of_jaws(where: str, jaws: JawOpening, machine: Machine) -> Iterator[str]:
    ends = (
        ("X", jaws.x1_mm, jaws.x2_mm, machine.jaws.max_x_mm),
        ("Y", jaws.y1_mm, jaws.y2_mm, machine.jaws.max_y_mm),
    )
    for axis, low, high, limit in ends:
        if not low < high:
            yield f"{where}: {axis} jaws at {low:.1f} and {high:.1f} mm leave no opening."
        if low < -limit - _TOLERANCE_MM or high > limit + _TOLERANCE_MM:
            yield f"{where}: {axis} jaws at {low:.1f} and {high:.1f} mm are beyond ±{limit:g} mm."


def _of_segment(where: str, segment: Segment, jaws: JawOpening, machine: Machine) -> Iterator[str]:
    mlc = machine.mlc
    left, right = segment.ends_mm  # in between, tips keep what they keep at both
    if segment.moves:
        yield from _of_speed(where, segment, machine)
    else:
        yield from _of_size(where, segment, jaws, machine)

    out = (left < -mlc.max_position_mm - _TOLERANCE_MM) | (right > mlc.max_position_mm + _TOLERANCE_MM)
    yield from _pairs(where, out, f"a tip is more than {mlc.max_position_mm:g} mm out on its own side")
    over = (left > mlc.max_overtravel_mm + _TOLERANCE_MM) | (right < -mlc.max_overtravel_mm - _TOLERANCE_MM)
    yield from _pairs(where, over, f"a tip is more than {mlc.max_overtravel_mm:g} mm beyond the axis")
    narrow = (right - left < mlc.min_gap_mm - _TOLERANCE_MM) & ~_hidden(left, right, jaws, mlc.leaf_edges_mm)
    yield from _pairs(where, narrow, f"the gap between the tips is below {mlc.min_gap_mm:g} mm in the open field")
    for bank, tips in (("left", left), ("right", right)):
        at = tips[np.ptp(tips, axis=1).argmax()]
        if np.ptp(at) > mlc.max_span_mm + _TOLERANCE_MM:
            pairs = f"leaf pairs {at.argmin() + 1} and {at.argmax() + 1}"
            yield f"{where}, {pairs}: the {bank} tips lie {np.ptp(at):.1f} mm apart, above {mlc.max_span_mm:g} mm."
    if not mlc.interdigitation:
        collides = (left[:, :-1] > right[:, 1:] + _TOLERANCE_MM) | (left[:, 1:] > right[:, :-1] + _TOLERANCE_MM)
        yield from _pairs(where, collides, "a leaf passes the opposing leaf of the next pair, which must not be")


def _of_size(where: str, segment: Segment, jaws: JawOpening, machine: Machine) -> Iterator[str]:
    if segment.mu < machine.min_segment_mu - _TOLERANCE_MU:
        yield f"{where}: {segment.mu:.2f} MU are below the {machine.min_segment_mu:g} MU a segment must have."
    area = open_area_mm2(segment, jaws, machine)
    if area < machine.min_segment_area_mm2 - _TOLERANCE_MM:
        yield f"{where}: its open area of {area:.0f} mm² is below {machine.min_segment_area_mm2:g} mm²."


def _of_speed(where: str, segment: Segment, machine: Machine) -> Iterator[str]:
    """Leaves must not be faster than they can while the machine delivers at its dose rate."""
    way = np.abs(np.diff(segment.ends_mm, axis=1)).max(axis=(0, 1))
    time_s = 60 * segment.mu / machine.dose_rate_mu_per_min
    limit = machine.mlc.max_speed_mm_per_s
    for pair in np.flatnonzero(way > limit * time_s + _TOLERANCE_MM):
        yield f"{where}, leaf pair {pair + 1}: a leaf moves {way[pair]:.1f} mm in {time_s:.2f} s, above {limit:g} mm/s."


def _pairs(where: str, broken: NDArray[np.bool_], rule: str) -> Iterator[str]:
    """Name the pairs that break a rule at the start or the end; (n_ends, n_pairs)."""
    for pair in np.flatnonzero(broken.any(axis=0)):
        yield f"{where}, leaf pair {pair + 1}: {rule}."


def _hidden(left: Float, right: Float, jaws: JawOpening, leaf_edges_mm: Float) -> NDArray[np.bool_]:
    """Leaf pairs whose tips stay behind one jaw, (n_pairs,)."""
    behind_x2 = np.all(left >= jaws.x2_mm - _TOLERANCE_MM, axis=0)
    behind_x1 = np.all(right <= jaws.x1_mm + _TOLERANCE_MM, axis=0)
    behind_y = (leaf_edges_mm[:-1] >= jaws.y2_mm - _TOLERANCE_MM) | (leaf_edges_mm[1:] <= jaws.y1_mm + _TOLERANCE_MM)
    return np.asarray(behind_x2 | behind_x1 | behind_y)


def open_area_mm2(segment: Segment, jaws: JawOpening, machine: Machine) -> float:
    """Area between leaves and jaws at the isocenter plane, rounded tips standing back by their offset.

    Of a segment that moves, the mean over its time.
    """
    edges, offset = machine.mlc.leaf_edges_mm, machine.mlc.tip_offset_mm
    (left, left_end), (right, right_end) = segment.ends_mm
    x = np.array([jaws.x1_mm, jaws.x2_mm])
    beyond = mean_beyond(left - offset, left_end - offset, x) - mean_beyond(right + offset, right_end + offset, x)
    height = np.minimum(edges[1:], jaws.y2_mm) - np.maximum(edges[:-1], jaws.y1_mm)
    return float((beyond[:, 1] - beyond[:, 0]) @ np.maximum(height, 0.0))
