"""Whether a machine can deliver a plan's segments, limit by limit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from deeprt.delivery.segments import DeliverablePlan, JawOpening, Segment
from deeprt.machine import Machine

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
    mlc, left, right = machine.mlc, segment.left_mm, segment.right_mm
    if segment.mu < machine.min_segment_mu - _TOLERANCE_MU:
        yield f"{where}: {segment.mu:.2f} MU are below the {machine.min_segment_mu:g} MU a segment must have."
    area = open_area_mm2(segment, jaws, machine)
    if area < machine.min_segment_area_mm2 - _TOLERANCE_MM:
        yield f"{where}: its open area of {area:.0f} mm² is below {machine.min_segment_area_mm2:g} mm²."

    out = (left < -mlc.max_position_mm - _TOLERANCE_MM) | (right > mlc.max_position_mm + _TOLERANCE_MM)
    yield from _pairs(where, out, f"a tip is more than {mlc.max_position_mm:g} mm out on its own side")
    over = (left > mlc.max_overtravel_mm + _TOLERANCE_MM) | (right < -mlc.max_overtravel_mm - _TOLERANCE_MM)
    yield from _pairs(where, over, f"a tip is more than {mlc.max_overtravel_mm:g} mm beyond the axis")
    narrow = (right - left < mlc.min_gap_mm - _TOLERANCE_MM) & ~_hidden(segment, jaws, mlc.leaf_edges_mm)
    yield from _pairs(where, narrow, f"the gap between the tips is below {mlc.min_gap_mm:g} mm in the open field")
    for bank, tips in (("left", left), ("right", right)):
        if np.ptp(tips) > mlc.max_span_mm + _TOLERANCE_MM:
            pairs = f"leaf pairs {tips.argmin() + 1} and {tips.argmax() + 1}"
            yield f"{where}, {pairs}: the {bank} tips lie {np.ptp(tips):.1f} mm apart, above {mlc.max_span_mm:g} mm."
    if not mlc.interdigitation:
        collides = (left[:-1] > right[1:] + _TOLERANCE_MM) | (left[1:] > right[:-1] + _TOLERANCE_MM)
        yield from _pairs(where, collides, "a leaf passes the opposing leaf of the next pair, which must not be")


def _pairs(where: str, broken: NDArray[np.bool_], rule: str) -> Iterator[str]:
    for pair in np.flatnonzero(broken):
        yield f"{where}, leaf pair {pair + 1}: {rule}."


def _hidden(segment: Segment, jaws: JawOpening, leaf_edges_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Leaf pairs whose tips meet behind a jaw, (n_pairs,)."""
    behind_x = (segment.left_mm >= jaws.x2_mm - _TOLERANCE_MM) | (segment.right_mm <= jaws.x1_mm + _TOLERANCE_MM)
    behind_y = (leaf_edges_mm[:-1] >= jaws.y2_mm - _TOLERANCE_MM) | (leaf_edges_mm[1:] <= jaws.y1_mm + _TOLERANCE_MM)
    return np.asarray(behind_x | behind_y)


def open_area_mm2(segment: Segment, jaws: JawOpening, machine: Machine) -> float:
    """Area between leaves and jaws at the isocenter plane, rounded tips standing back by their offset."""
    edges, offset = machine.mlc.leaf_edges_mm, machine.mlc.tip_offset_mm
    width = np.minimum(segment.right_mm + offset, jaws.x2_mm) - np.maximum(segment.left_mm - offset, jaws.x1_mm)
    height = np.minimum(edges[1:], jaws.y2_mm) - np.maximum(edges[:-1], jaws.y1_mm)
    return float(np.maximum(width, 0.0) @ np.maximum(height, 0.0))
