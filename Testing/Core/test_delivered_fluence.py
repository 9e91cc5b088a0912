"""The delivered fluence is exact for openings anywhere on pixels of any size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.testing import assert_allclose

from deeprt.beams import Beam, BeamAngles
from deeprt.delivery.fluence import (
    Openings,
    coverage,
    delivered_fluence,
    fluence_derivatives,
    fluence_of,
    segment_openings,
)
from deeprt.delivery.segments import DeliverablePlan, JawOpening, Segment
from deeprt.delivery.violations import open_area_mm2
from deeprt.machine_file import read_machine


def a_plan(transmission: float, tip_offset_mm: float = 0.0) -> DeliverablePlan:
    """Three slanted, off-center segments whose edges meet no pixel's."""
    machine = read_machine("generic_6mv")
    machine = replace(machine, mlc=replace(machine.mlc, transmission=transmission, tip_offset_mm=tip_offset_mm))
    pair = np.arange(machine.mlc.n_pairs, dtype=float)
    segments = tuple(Segment(0, 13.3 - 0.71 * k - 0.2 * pair, 31.7 + 0.37 * pair, 4.0 + k) for k in range(3))
    edges = np.array([0.0, 10.0])
    beam = Beam("A", BeamAngles(0.0), np.zeros(3), "HFS", 1000.0, edges, edges, np.ones((1, 1), bool))
    return DeliverablePlan(machine, (beam,), (JawOpening(5.2, 47.9, -23.4, 61.3),), segments, 20)


X = np.array([-20.0, -3.0, 6.1, 8.0, 22.0, 23.0, 40.0, 55.0, 90.0])
Y = np.array([-60.0, -31.0, -22.0, -4.0, 3.0, 4.0, 17.0, 40.0, 80.0])


def test_fluence_times_area_is_monitor_units_times_open_area() -> None:
    plan = a_plan(transmission=0.0)
    total = np.diff(Y) @ delivered_fluence(plan, 0, X, Y) @ np.diff(X)
    expected = sum(s.mu * open_area_mm2(s, plan.jaws[0], plan.machine) for s in plan.segments)
    assert_allclose(total, expected, rtol=1e-12)


def test_the_open_area_of_a_moving_segment_is_its_mean_over_time() -> None:
    plan = a_plan(transmission=0.0, tip_offset_mm=0.6)
    first, second, third = plan.segments
    moves = replace(first, left_mm=np.stack([first.left_mm, third.left_mm]), right_mm=np.stack([first.right_mm] * 2))
    plan = replace(plan, segments=(moves,))
    total = np.diff(Y) @ delivered_fluence(plan, 0, X, Y) @ np.diff(X)
    assert_allclose(total, moves.mu * open_area_mm2(moves, plan.jaws[0], plan.machine), rtol=1e-12)
    between = open_area_mm2(second, plan.jaws[0], plan.machine)  # its left tips stand halfway, its right ones the same
    assert_allclose(open_area_mm2(moves, plan.jaws[0], plan.machine), between, rtol=1e-3)  # but for jaws


def test_leaves_add_their_transmission_between_the_jaws_only() -> None:
    plan, leaking = a_plan(transmission=0.0), a_plan(transmission=0.02)
    added = delivered_fluence(leaking, 0, X, Y) - 0.98 * delivered_fluence(plan, 0, X, Y)
    jaws = plan.jaws[0]
    share_x = coverage(np.array([jaws.x1_mm]), np.array([jaws.x2_mm]), X)[0]
    share_y = coverage(np.array([jaws.y1_mm]), np.array([jaws.y2_mm]), Y)[0]
    assert_allclose(added, 0.02 * plan.total_mu * np.outer(share_y, share_x), atol=1e-12)
    assert delivered_fluence(leaking, 0, X, Y)[0].max() == 0  # wholly behind the lower jaw


def test_coarse_pixels_hold_the_mean_of_fine_ones() -> None:
    plan = a_plan(transmission=0.02)
    fine_x, fine_y = np.linspace(-20, 90, 111), np.linspace(-60, 80, 281)
    fine = delivered_fluence(plan, 0, fine_x, fine_y)
    coarse = delivered_fluence(plan, 0, fine_x[::10], fine_y[::20])
    assert_allclose(fine.reshape(14, 20, 11, 10).mean(axis=(1, 3)), coarse, atol=1e-12)


def test_a_beam_without_segments_delivers_nothing() -> None:
    plan = a_plan(transmission=0.02)
    assert_allclose(delivered_fluence(replace(plan, segments=()), 0, X, Y), np.zeros((8, 8)))


def test_derivatives_by_tips_and_monitor_units_are_those_of_differences() -> None:
    plan, rng = a_plan(transmission=0.02, tip_offset_mm=0.63), np.random.default_rng(3)
    openings, mlc, weight = segment_openings(plan, 0), plan.machine.mlc, rng.normal(size=(Y.size - 1, X.size - 1))

    def value(changed: Openings) -> float:
        return float((weight * fluence_of(changed, mlc, X, Y)).sum())

    by_left, by_right, by_mu = fluence_derivatives(openings, mlc, X, Y, weight)
    way = 1e-4  # no tip is that near to an edge of a pixel or a jaw, so that the fluence is linear in between
    for name, found in (("left_mm", by_left), ("right_mm", by_right), ("mu", by_mu)):
        differences = np.zeros(found.shape)
        for place in np.ndindex(found.shape):
            where = (place[0], slice(None), *place[1:]) if found.ndim == 2 else place
            ends = []
            for sign in (1, -1):
                moved = getattr(openings, name).copy()
                moved[where] += sign * way
                ends.append(value(replace(openings, **{name: moved})))
            differences[place] = (ends[0] - ends[1]) / (2 * way)
        assert_allclose(found, differences, atol=1e-7)
        assert np.count_nonzero(found) > 2
