"""Step-and-shoot sequencing: from fluence maps to segments that the machine can deliver."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deeprt.beams import Beam
from deeprt.delivery.decomposition import decompose
from deeprt.delivery.fluence import coverage
from deeprt.delivery.leaf_fitting import (
    Field,
    Shapes,
    fit_error,
    fitted_leaves,
    fitted_mu,
    hiding_place,
    without_least,
)
from deeprt.delivery.segments import DeliverablePlan, JawOpening, Segment
from deeprt.delivery.sequencing import SequencingSettings, check_maps, field_of, for_all_pairs, with_margin
from deeprt.delivery.violations import violations
from deeprt.machine import Machine

logger = logging.getLogger(__name__)
Float = NDArray[np.float64]

_DEFAULT = SequencingSettings()


def sequence(
    beams: Sequence[Beam],
    fluence_mu: Sequence[Float],
    machine: Machine,
    *,
    n_fractions: int,
    settings: SequencingSettings = _DEFAULT,
) -> DeliverablePlan:
    """Sequence fluence maps into static segments.

    A map's levels are decomposed by a leaf sweep (`decompose`). The segments are thinned out to the budget, each time
    by the one whose loss costs least, while leaf tips and monitor units are fitted to the wished fluence in turn,
    leaf transmission included (`leaf_fitting`). Every step keeps the limits of the leaves. Rounded tips are thought of
    where their fluence has its edge, and set back to their nominal positions at the end.

    Parameters
    ----------
    fluence_mu : one (n_rows, n_cols) array a beam, MU per fraction; its rows are leaf pairs of the machine

    Raises
    ------
    ValueError
        If a map does not fit its beam or the leaves, is empty, or cannot be delivered within the machine's limits.
    """
    check_maps(beams, fluence_mu)
    jaws, segments = [], []
    for index, (beam, wished) in enumerate(zip(beams, fluence_mu, strict=True)):
        field, first_pair = field_of(beam, np.asarray(wished, np.float64), machine, settings)
        shapes = _sequenced(field, beam, machine, settings)
        jaws.append(_jaws(field, first_pair, shapes, machine))
        segments += _segments(index, first_pair, shapes, machine)
        logger.info(
            "%s: %d segments, %.0f MU, fluence error %.1f %%",
            beam.name, shapes.mu.size, shapes.mu.sum(), 100 * fit_error(field, shapes),
        )  # fmt: skip
    plan = DeliverablePlan(machine, tuple(beams), tuple(jaws), tuple(segments), n_fractions)
    if broken := violations(plan):
        raise ValueError(f"{machine.name} cannot deliver this fluence: {broken[0]}")
    return plan


def _sequenced(field: Field, beam: Beam, machine: Machine, settings: SequencingSettings) -> Shapes:
    """Fit segments to a field within the budget and the limits of segments."""
    shapes = fitted_mu(field, _start(field, settings))
    while shapes.mu.size > settings.max_segments_per_beam:
        shapes = _round(field, without_least(field, shapes))
    shapes = _converged(field, shapes, settings)
    while (small := _too_small(field, shapes, machine)).any():
        value = np.where(small, shapes.mu * _area_mm2(field, shapes), np.inf)
        shapes = _converged(field, fitted_mu(field, shapes.kept(np.arange(value.size) != value.argmin())), settings)
    if shapes.mu.size == 0:
        raise ValueError(
            f"Beam '{beam.name}': its fluence is too little for a segment of {machine.min_segment_mu:g} MU and "
            f"{machine.min_segment_area_mm2:g} mm²; leave the beam out or use fewer fractions."
        )
    return shapes


def _converged(field: Field, shapes: Shapes, settings: SequencingSettings) -> Shapes:
    """Move leaves and fit monitor units until neither helps."""
    error = fit_error(field, shapes)
    for _ in range(settings.max_rounds):
        shapes, last = _round(field, shapes), error
        error = fit_error(field, shapes)
        if last - error <= settings.tolerance * last:
            break
    return shapes


def _round(field: Field, shapes: Shapes) -> Shapes:
    return fitted_mu(field, fitted_leaves(field, shapes))


def _area_mm2(field: Field, shapes: Shapes) -> Float:
    return coverage(shapes.left_mm, shapes.right_mm, field.x_edges_mm) @ np.diff(field.x_edges_mm) @ field.heights_mm


def _too_small(field: Field, shapes: Shapes, machine: Machine) -> NDArray[np.bool_]:
    area = _area_mm2(field, shapes)
    return (shapes.mu < machine.min_segment_mu) | (area < machine.min_segment_area_mm2) | (area <= 0)


def _start(field: Field, settings: SequencingSettings) -> Shapes:
    """Decompose the map into as many levels as the budget lets it start from.

    A field wider than a bank can span is decomposed in parts side by side, so that each segment keeps the span.
    """
    mlc = field.mlc
    n_parts = int(np.ceil((field.x2_mm - field.x1_mm + 2 * mlc.min_gap_mm) / mlc.max_span_mm))
    parts = np.array_split(np.arange(field.x_edges_mm.size - 1), n_parts)
    share = field.fluence_mu / field.fluence_mu.max()
    limit = settings.start_ratio * settings.max_segments_per_beam
    found = [_sweep(field, share, cols, 1) for cols in parts]
    for n_levels in range(2, settings.max_levels + 1):
        finer = [_sweep(field, share, cols, n_levels) for cols in parts]
        if sum(s.mu.size for s in finer) > limit:
            break
        found = finer
    return Shapes(*(np.concatenate([getattr(s, name) for s in found]) for name in ("left_mm", "right_mm", "mu")))


def _sweep(field: Field, share: Float, cols: NDArray[np.int64], n_levels: int) -> Shapes:
    """Shapes of a leaf sweep over some columns, closed pairs hidden as well as the limits allow."""
    mlc = field.mlc
    opening = decompose(np.rint(share[:, cols] * n_levels).astype(np.int64), interdigitation=mlc.interdigitation)
    edges = field.x_edges_mm[cols[0] : cols[-1] + 2]
    left, right = edges[opening.left], edges[opening.right]
    # Widening both ways never makes neighbors collide; where they must not, each tip needs room for its offset.
    least = 0.0 if mlc.interdigitation else mlc.tip_offset_mm
    widening = np.maximum(least, (mlc.min_gap_mm - (right - left)) / 2)
    left = np.clip(left - widening, -mlc.max_position_mm, mlc.max_overtravel_mm)
    right = np.clip(right + widening, -mlc.max_overtravel_mm, mlc.max_position_mm)
    if mlc.interdigitation:
        for k, closed in enumerate(opening.left == opening.right):
            left[k, closed] = hiding_place(field, left[k, ~closed], right[k, ~closed])
            right[k, closed] = left[k, closed] + mlc.min_gap_mm
    return Shapes(left, right, opening.count.astype(np.float64))


def _jaws(field: Field, first_pair: int, shapes: Shapes, machine: Machine) -> JawOpening:
    """The rectangle around all openings of a beam, with the margin of the jaws."""
    edges, jaws = machine.mlc.leaf_edges_mm, machine.jaws
    is_open = coverage(shapes.left_mm, shapes.right_mm, field.x_edges_mm).sum(axis=2) > 0
    is_open[:, [0, -1]] = False
    pairs = first_pair - 1 + np.flatnonzero(is_open.any(axis=0))
    x1, x2 = with_margin(shapes.left_mm[is_open].min(), shapes.right_mm[is_open].max(), jaws.margin_mm, jaws.max_x_mm)
    y1, y2 = with_margin(edges[pairs[0]], edges[pairs[-1] + 1], jaws.margin_mm, jaws.max_y_mm)
    return JawOpening(x1, x2, y1, y2)


def _segments(beam_index: int, first_pair: int, shapes: Shapes, machine: Machine) -> list[Segment]:
    """Segments for all pairs of the machine, in the order in which the openings' centers lie along +Xb."""
    width = shapes.right_mm - shapes.left_mm
    center = np.sum(width * (shapes.left_mm + shapes.right_mm), axis=1) / width.sum(axis=1)
    mlc, offset = machine.mlc, machine.mlc.tip_offset_mm
    left = shapes.left_mm + offset
    right = np.maximum(shapes.right_mm - offset, left)  # rounding
    left, right = (for_all_pairs(tips, first_pair, mlc) for tips in (left, right))
    return [Segment(beam_index, left[k], right[k], float(shapes.mu[k])) for k in np.argsort(center, kind="stable")]
