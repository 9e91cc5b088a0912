"""Segments fitted to the objectives of the dose: lower objectives, the machine's limits, progress, cancelling."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from Core.samples import MACHINE, a_uniform_phantom, an_oblique_grid, some_angles
from numpy.testing import assert_array_equal

from deeprt.beams import place_beams
from deeprt.delivery.dose_of_plan import dose_of_plan, segment_influence
from deeprt.delivery.segments import DeliverablePlan, JawOpening, Segment
from deeprt.delivery.violations import open_area_mm2, violations
from deeprt.dose.influence import dose_influence
from deeprt.errors import InputError
from deeprt.fluence.mimicking import mimicking_problem
from deeprt.segment_optimization import optimize_segments

N_FRACTIONS = 11
JAWS = (JawOpening(-41.0, 40.5, -22.0, 27.0), JawOpening(-35.0, 40.0, -33.3, 20.0))


def a_plan(rng, machine=MACHINE, *, least_mm=5.0, n_segments=3):
    """Two placed beams with rough openings, which every kind of leaf can take."""
    beams = place_beams(a_uniform_phantom(an_oblique_grid()), some_angles()[:2], machine)
    segments = []
    for beam_index in np.repeat([0, 1], n_segments):
        left = rng.uniform(-30, -10, machine.mlc.n_pairs)
        segments.append(
            Segment(int(beam_index), left, left + 20 + rng.uniform(least_mm, 20, left.size), rng.uniform(5, 30))
        )
    return DeliverablePlan(machine, beams, JAWS, tuple(segments), N_FRACTIONS)


@cache
def an_influence():
    case = a_uniform_phantom(an_oblique_grid())
    return dose_influence(
        case, a_plan(np.random.default_rng(1)).beams, MACHINE, voxels=np.arange(0, case.grid.n_voxels, 11)
    )


def a_problem():
    """The dose of other segments is wished."""
    wished = dose_of_plan(a_plan(np.random.default_rng(2)), an_influence())
    return mimicking_problem(an_influence(), wished, N_FRACTIONS)


def error_of(plan, problem):
    operator = segment_influence(plan, an_influence())
    dose = N_FRACTIONS * operator.dose(operator.matrix.new_tensor([[s.mu for s in plan.segments]]))
    return float(problem.terms_value(dose)[0])


def test_moving_leaves_brings_the_dose_nearer_than_monitor_units_alone():
    start, problem = a_plan(np.random.default_rng(1)), a_problem()
    errors = [error_of(start, problem)]
    for n_iterations in (0, 15, 40):
        errors.append(error_of(optimize_segments(start, an_influence(), problem, n_iterations=n_iterations), problem))
    assert errors[0] > errors[1] > 4 * errors[2] > 4 * errors[3]


def test_segments_that_give_the_wished_dose_stay_as_they_are():
    given, problem = a_plan(np.random.default_rng(2)), a_problem()
    kept = optimize_segments(given, an_influence(), problem, n_iterations=10)
    for a, b in zip(given.segments, kept.segments, strict=True):
        np.testing.assert_allclose(b.left_mm, a.left_mm, atol=0.05)  # mm; doses are float32
        np.testing.assert_allclose(b.right_mm, a.right_mm, atol=0.05)
        np.testing.assert_allclose(b.mu, a.mu, rtol=0.01)


@pytest.mark.parametrize("interdigitation", [True, False])
def test_the_limits_of_the_leaves_are_kept(interdigitation):
    mlc = replace(
        MACHINE.mlc, interdigitation=interdigitation, min_gap_mm=4.0, max_span_mm=45.0, max_overtravel_mm=30.0
    )
    start = a_plan(np.random.default_rng(1), replace(MACHINE, mlc=mlc))
    assert violations(start) == ()
    found = optimize_segments(start, an_influence(), a_problem(), n_iterations=35)
    assert violations(found) == ()
    for a, b in zip(start.segments, found.segments, strict=True):
        assert np.abs(a.left_mm - b.left_mm).max() > 1.0  # mm
        assert np.abs(a.right_mm - b.right_mm).max() > 1.0


def test_only_pairs_between_the_jaws_move():
    start = a_plan(np.random.default_rng(1))
    found = optimize_segments(start, an_influence(), a_problem(), n_iterations=10)
    edges = MACHINE.mlc.leaf_edges_mm
    behind = (edges[1:] <= JAWS[0].y1_mm) | (edges[:-1] >= JAWS[0].y2_mm)
    for a, b in zip(start.segments_of(0), found.segments_of(0), strict=True):
        assert_array_equal(a.left_mm[behind], b.left_mm[behind])
        assert np.abs(a.left_mm - b.left_mm)[~behind].max() > 1.0  # mm


def test_a_beam_without_use_is_named():
    problem = a_problem()
    (term,) = problem.terms
    nothing = replace(problem, terms=(replace(term, objective=replace(term.objective, dose_gy=0.0)),))
    with pytest.raises(InputError, match="gets no monitor units worth delivering; leave it out"):
        optimize_segments(a_plan(np.random.default_rng(1)), an_influence(), nothing, n_iterations=3)


def test_segments_that_are_too_small_or_get_too_few_monitor_units_are_left_out():
    start = a_plan(np.random.default_rng(1))
    tiny = start.segments[1]
    middle = (tiny.left_mm + tiny.right_mm) / 2
    start = replace(
        start, segments=(start.segments[0], replace(tiny, left_mm=middle - 1, right_mm=middle + 1), *start.segments[2:])
    )
    areas = [open_area_mm2(s, start.jaws[s.beam_index], MACHINE) for s in start.segments]
    strict = replace(MACHINE, min_segment_area_mm2=np.sort(areas)[1] / 2, min_segment_mu=4.0)
    found = optimize_segments(replace(start, machine=strict), an_influence(), a_problem(), n_iterations=5)
    assert violations(found) == ()
    assert len(found.segments) < len(start.segments)
    assert len(optimize_segments(start, an_influence(), a_problem(), n_iterations=5).segments) == len(start.segments)


class Stops:
    """A caller who stops when leaves have moved for a while."""

    def step(self, name: str, fraction: float, message: str = "") -> None:
        if fraction > 0.4:
            raise KeyboardInterrupt(f"{name}: {message}")


def test_it_can_be_cancelled_while_leaves_move():
    start = a_plan(np.random.default_rng(1))
    with pytest.raises(KeyboardInterrupt, match="segments: leaves, iteration 30 of 60"):
        optimize_segments(start, an_influence(), a_problem(), n_iterations=60, progress=Stops())
