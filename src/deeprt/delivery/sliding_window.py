"""Sliding-window sequencing: from fluence maps to leaf sweeps that the machine can deliver."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deeprt.beams import Beam
from deeprt.delivery.decomposition import uncovering_times
from deeprt.delivery.fluence import Openings, fluence_of
from deeprt.delivery.leaf_fitting import Field
from deeprt.delivery.segments import DeliverablePlan, JawOpening, Segment
from deeprt.delivery.sequencing import SequencingSettings, check_maps, field_of, for_all_pairs, with_margin
from deeprt.delivery.violations import violations
from deeprt.machine import Machine

logger = logging.getLogger(__name__)
Float = NDArray[np.float64]

_SPEED_RESERVE = 0.02  # of the leaves: for normalizing monitor units, and for leaf positions rounded in files
_N_CORRECTIONS = 2  # of a map by what its sweep delivers otherwise; further ones change little
_DEFAULT = SequencingSettings(technique="sliding-window")


def sequence_sliding_window(
    beams: Sequence[Beam],
    fluence_mu: Sequence[Float],
    machine: Machine,
    *,
    n_fractions: int,
    settings: SequencingSettings = _DEFAULT,
) -> DeliverablePlan:
    """Sequence fluence maps into sweeps of the leaves along +Xb, with the fewest monitor units that their speed allows.

    A point x of a row is open from when the right tip passes it, after R(x) monitor units, until the left tip does,
    after L(x), so that its fluence is ``A = L − R``. With κ the monitor units in which a leaf at full speed moves by
    1 mm, ``dR/dx = κ, dL/dx = κ + dA/dx`` where A rises and ``dL/dx = κ, dR/dx = κ − dA/dx`` where it falls deliver a
    row of width W in ``κ W + Σ max(ΔA, 0)``, which is the least: S. V. Spirou and C. S. Chui, Med. Phys. 21, 1031
    (1994), doi:10.1118/1.597345; J. Stein et al., Radiother. Oncol. 32, 163 (1994). There profiles are piecewise
    linear; here they are the beamlets' steps, at whose edges a tip waits.

    All rows share the time of the longest one, and wait closed behind the jaws (`_middle_times`); where leaves must not
    pass opposing neighbors, some wait in the open field, and the gap lets through more there. Two tips never come
    closer than the gap: the left one is held back. What leaf transmission, rounded tips, that gap and the straight way
    between control points change is taken off the map beforehand, as far as fluence can be taken off.

    Parameters
    ----------
    fluence_mu : one (n_rows, n_cols) array a beam, MU per fraction; its rows are leaf pairs of the machine

    Returns
    -------
    Plan whose segments move, each beam's ``n_control_points − 1`` of equal monitor units

    Raises
    ------
    ValueError
        If a map does not fit its beam or the leaves, is empty, or cannot be delivered within the machine's limits.
    """
    check_maps(beams, fluence_mu)
    jaws, segments = [], []
    for index, (beam, wished) in enumerate(zip(beams, fluence_mu, strict=True)):
        field, first_pair = field_of(beam, np.asarray(wished, np.float64), machine, settings)
        _check_field(field, beam, machine)
        jaws.append(_jaws(field, first_pair, machine))
        sweep = _corrected(field, first_pair, jaws[-1], machine, settings.n_control_points)
        left, right = (for_all_pairs(tips, first_pair, machine.mlc) for tips in (sweep.left_mm, sweep.right_mm))
        segments += [Segment(index, left[n : n + 2], right[n : n + 2], mu) for n, mu in enumerate(sweep.mu.tolist())]
        logger.info("%s: sliding window, %.0f MU", beam.name, sweep.mu.sum())
    plan = DeliverablePlan(machine, tuple(beams), tuple(jaws), tuple(segments), n_fractions)
    if broken := violations(plan):
        raise ValueError(f"{machine.name} cannot deliver this fluence: {broken[0]}")
    return plan


@dataclass(frozen=True, eq=False)
class _Sweep:
    """Nominal tips at control points, (n_points, n_rows) each, and the monitor units between them, (n_points - 1,)."""

    left_mm: Float
    right_mm: Float
    mu: Float


def _slowness_mu_per_mm(machine: Machine) -> float:
    """Monitor units while a leaf at nearly full speed moves by 1 mm: κ."""
    return machine.dose_rate_mu_per_min / (60 * machine.mlc.max_speed_mm_per_s * (1 - _SPEED_RESERVE))


def _check_field(field: Field, beam: Beam, machine: Machine) -> None:
    """Refuse a field that the leaves cannot sweep over, or only with more fluence than is wished."""
    low, high, reach = field.x_edges_mm[0], field.x_edges_mm[-1], field.mlc.max_overtravel_mm
    if low < -reach or high > reach:
        raise ValueError(
            f"Beam '{beam.name}': its fluence reaches from {low:.1f} to {high:.1f} mm, and both leaves of a pair must "
            f"sweep over it, but get only {machine.mlc.max_overtravel_mm:g} mm beyond the axis; use step and shoot."
        )
    least = _slowness_mu_per_mm(machine) * field.mlc.min_gap_mm
    if field.fluence_mu.max() <= least:
        raise ValueError(
            f"Beam '{beam.name}': its fluence is nowhere above the {least:.2f} MU that closed leaves let through where "
            "they sweep; leave the beam out or use fewer fractions."
        )


def _jaws(field: Field, first_pair: int, machine: Machine) -> JawOpening:
    """The rectangle around the field, with the margin of the jaws."""
    edges, jaws = machine.mlc.leaf_edges_mm, machine.jaws
    y1, y2 = edges[first_pair], edges[first_pair + field.heights_mm.size - 2]
    return JawOpening(field.x1_mm, field.x2_mm, *with_margin(y1, y2, jaws.margin_mm, jaws.max_y_mm))


def _corrected(field: Field, first_pair: int, jaws: JawOpening, machine: Machine, n_points: int) -> _Sweep:
    """Sweep of a field's map, corrected by what it delivers otherwise."""
    wished = field.fluence_mu[1:-1]
    edges = machine.mlc.leaf_edges_mm[first_pair : first_pair + len(wished) + 1]
    mlc = replace(machine.mlc, leaf_edges_mm=edges)  # of the field's rows
    slowness = _slowness_mu_per_mm(machine)
    jaws_mm = np.tile([jaws.x1_mm, jaws.x2_mm, jaws.y1_mm, jaws.y2_mm], (n_points - 1, 1))
    corrected = field.fluence_mu
    sweep = _sweep(field, slowness, n_points)
    for _ in range(_N_CORRECTIONS):
        left, right = (np.stack([t[:-1, 1:-1], t[1:, 1:-1]], axis=1) for t in (sweep.left_mm, sweep.right_mm))
        delivered = fluence_of(Openings(sweep.mu, left, right, jaws_mm), mlc, field.x_edges_mm, edges)
        corrected = np.maximum(corrected + np.pad(wished - delivered, ((1, 1), (0, 0))), 0)
        sweep = _sweep(replace(field, fluence_mu=corrected), slowness, n_points)
    return sweep


def _sweep(field: Field, slowness_mu_per_mm: float, n_points: int) -> _Sweep:
    """Sweep of a field's map; pairs without fluence stay behind a jaw if the other limits allow."""
    mlc = field.mlc
    # The tips come from behind the left jaw and go to behind the right one, closed up to the gap.
    edges = np.concatenate([[field.x1_mm], field.x_edges_mm, [field.x2_mm + mlc.min_gap_mm]])
    fluence = np.pad(field.fluence_mu, ((0, 0), (1, 1)))
    crossing = slowness_mu_per_mm * np.diff(edges)
    span = mlc.max_span_mm - mlc.min_gap_mm
    uncovered, last = _middle_times(fluence, edges, crossing, span, mlc.interdigitation)
    # Beam on is when the first pair reaches the field, beam off when the last one has left it.
    time = np.linspace(crossing[0], last - crossing[-1], n_points)
    right = _positions(time, uncovered, edges, crossing)
    left = _positions(time, uncovered + fluence, edges, crossing)
    if mlc.interdigitation and edges[-1] - edges[0] <= span:
        is_empty = ~fluence.any(axis=1)
        left[:, is_empty] = right[:, is_empty] = edges[0]
    left = np.clip(left, -mlc.max_position_mm, mlc.max_overtravel_mm)
    right = np.clip(right, -mlc.max_overtravel_mm, mlc.max_position_mm)
    room = right.copy()
    if not mlc.interdigitation:
        room[:, 1:] = np.minimum(room[:, 1:], right[:, :-1])
        room[:, :-1] = np.minimum(room[:, :-1], right[:, 1:])
    left = np.minimum(np.minimum(left, right - mlc.min_gap_mm), room - 2 * mlc.tip_offset_mm) + mlc.tip_offset_mm
    return _Sweep(left, np.maximum(right - mlc.tip_offset_mm, left), np.diff(time))  # the maximum is for rounding


def _middle_times(
    fluence: Float, edges: Float, crossing: Float, span_mm: float, interdigitation: bool
) -> tuple[Float, float]:
    """Times at which right tips set out over each column, and when the last left tip has crossed the last one.

    They are midway between the earliest and the latest ones, so that rows that need less time wait as long before the
    sweep as after it, and keep together where a bank's span is less than the field. The latest ones are the earliest
    ones of the sweep that runs backwards, in which left and right tips change places, and first and last columns. All
    that is asked of the times are bounds of differences, which the middle keeps as both do.
    """

    def earliest(fluence: Float, edges: Float, crossing: Float) -> Float:
        behind = np.searchsorted(edges, edges[1:] - span_mm)
        return uncovering_times(fluence, crossing, interdigitation=interdigitation, behind=behind)

    first = earliest(fluence, edges, crossing)
    backwards = earliest(fluence[:, ::-1], -edges[::-1], crossing[::-1])[:, ::-1]
    whole = fluence + crossing
    last = max(float((first + whole)[:, -1].max()), float((backwards + whole)[:, 0].max()))
    return (first + last - backwards - whole) / 2, last


def _positions(time: Float, setting_out: Float, edges: Float, crossing: Float) -> Float:
    """Positions at times, (n_times, n_rows), of tips that cross columns from when they set out over each."""
    moments = np.stack([setting_out, setting_out + crossing], axis=2).reshape(len(setting_out), -1)
    places = np.stack([edges[:-1], edges[1:]], axis=1).ravel()
    return np.stack([np.interp(time, row, places) for row in moments], axis=1)
