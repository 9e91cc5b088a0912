"""Every limit of the machine is checked: a good plan is broken rule by rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deeprt.beams import Beam, BeamAngles
from deeprt.delivery.segments import DeliverablePlan, JawOpening, Segment
from deeprt.delivery.violations import violations
from deeprt.machine_file import read_machine

JAWS = JawOpening(-45.0, 50.0, -25.0, 25.0)


@pytest.fixture
def a_good_plan() -> DeliverablePlan:
    """Two segments of a 40 mm high field; the pairs beside it are closed behind the jaw."""
    machine = read_machine("generic_6mv")
    edges = machine.mlc.leaf_edges_mm
    inside = (edges[:-1] >= -20) & (edges[1:] <= 20)
    segments = tuple(
        Segment(0, np.where(inside, left, 50.0), np.where(inside, right, 50.5), mu)
        for left, right, mu in ((-40.0, 5.0, 30.0), (-10.0, 45.0, 12.0))
    )
    x_edges, y_edges = np.array([-40.0, 45.0]), np.array([-20.0, 20.0])
    beam = Beam("AP", BeamAngles(0.0), np.zeros(3), "HFS", 1000.0, x_edges, y_edges, np.ones((1, 1), bool))
    return DeliverablePlan(machine, (beam,), (JAWS,), segments, 20)


def with_pair(plan: DeliverablePlan, pair: int, left: float, right: float) -> DeliverablePlan:
    """The plan with one leaf pair (from 1) of its second segment moved."""
    first, second = plan.segments
    lefts, rights = second.left_mm.copy(), second.right_mm.copy()
    lefts[pair - 1], rights[pair - 1] = left, right
    return replace(plan, segments=(first, replace(second, left_mm=lefts, right_mm=rights)))


def without_interdigitation(plan: DeliverablePlan) -> DeliverablePlan:
    return replace(plan, machine=replace(plan.machine, mlc=replace(plan.machine.mlc, interdigitation=False)))


def test_a_good_plan_has_no_violation(a_good_plan: DeliverablePlan) -> None:
    assert violations(a_good_plan) == ()


@pytest.mark.parametrize(
    ("pair", "left", "right", "message"),
    [
        (30, -201.0, 45.0, "leaf pair 30: a tip is more than 200 mm out on its own side."),
        (30, 40.0, 201.0, "leaf pair 30: a tip is more than 200 mm out on its own side."),
        (30, 151.0, 152.0, "leaf pair 30: a tip is more than 150 mm beyond the axis."),
        (30, -152.0, -151.0, "leaf pair 30: a tip is more than 150 mm beyond the axis."),
        (30, 0.0, 0.3, "leaf pair 30: the gap between the tips is below 0.5 mm in the open field."),
        (30, -101.0, 45.0, "leaf pairs 30 and 1: the left tips lie 151.0 mm apart, above 150 mm."),
        (30, -10.0, 199.0, "leaf pairs 27 and 30: the right tips lie 154.0 mm apart, above 150 mm."),
    ],
)
def test_a_leaf_out_of_its_limits_is_named(
    a_good_plan: DeliverablePlan, pair: int, left: float, right: float, message: str
) -> None:
    found = violations(with_pair(a_good_plan, pair, left, right))
    assert f"Beam 'AP', segment 2, {message}" in found


@pytest.mark.parametrize(("pair", "left"), [(30, 50.0), (30, -45.3), (24, 0.0)])
def test_a_pair_may_close_fully_behind_any_jaw(a_good_plan: DeliverablePlan, pair: int, left: float) -> None:
    assert violations(with_pair(a_good_plan, pair, left, left)) == ()


def test_colliding_neighbors_are_named_where_they_must_not_pass(a_good_plan: DeliverablePlan) -> None:
    found = violations(without_interdigitation(a_good_plan))
    rule = "a leaf passes the opposing leaf of the next pair, which must not be"
    assert found == tuple(
        f"Beam 'AP', segment {segment}, leaf pair {pair}: {rule}." for segment in (1, 2) for pair in (26, 34)
    )


def moving(plan: DeliverablePlan, pair: int, left: tuple[float, float], right: tuple[float, float]) -> DeliverablePlan:
    """The second segment alone, one of its pairs (from 1) moving from the first to the second tips."""
    second = plan.segments[1]
    lefts, rights = np.tile(second.left_mm, (2, 1)), np.tile(second.right_mm, (2, 1))
    lefts[:, pair - 1], rights[:, pair - 1] = left, right
    return replace(plan, segments=(replace(second, left_mm=lefts, right_mm=rights),))


def test_a_moving_segment_may_be_short_and_closed(a_good_plan: DeliverablePlan) -> None:
    plan = moving(a_good_plan, 30, (-10.0, -9.0), (-9.0, -8.0))
    (segment,) = plan.segments
    closed = replace(segment, left_mm=np.full((2, 60), 50.0), right_mm=np.full((2, 60), 50.5), mu=0.1)
    assert violations(plan) == ()
    assert violations(replace(plan, segments=(closed,))) == ()


def test_a_moving_leaf_is_as_fast_as_it_may(a_good_plan: DeliverablePlan) -> None:
    # 12 MU at 600 MU/min are 1.2 s, in which a leaf of 25 mm/s moves by 30 mm.
    assert violations(moving(a_good_plan, 30, (-30.0, 0.0), (10.0, 10.0))) == ()
    assert violations(moving(a_good_plan, 30, (-30.0, -30.0), (10.0, 40.5))) == (
        "Beam 'AP', segment 1, leaf pair 30: a leaf moves 30.5 mm in 1.20 s, above 25 mm/s.",
    )


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        ((-10.0, -9.0), (-9.0, -8.7), "leaf pair 30: the gap between the tips is below 0.5 mm in the open field."),
        ((50.0, 45.0), (50.0, 46.0), "leaf pair 30: the gap between the tips is below 0.5 mm in the open field."),
        ((-90.0, -101.0), (45.0, 45.0), "leaf pairs 30 and 1: the left tips lie 151.0 mm apart, above 150 mm."),
    ],
)
def test_a_moving_leaf_keeps_the_limits_at_its_start_and_its_end(
    a_good_plan: DeliverablePlan, left: tuple[float, float], right: tuple[float, float], message: str
) -> None:
    assert violations(moving(a_good_plan, 30, left, right)) == (f"Beam 'AP', segment 1, {message}",)


def test_a_pair_may_stay_closed_behind_a_jaw_while_others_move(a_good_plan: DeliverablePlan) -> None:
    assert violations(moving(a_good_plan, 30, (50.0, 52.0), (50.0, 52.0))) == ()


@pytest.mark.parametrize(
    ("jaws", "message"),
    [
        (replace(JAWS, x1_mm=-201.0), "Beam 'AP': X jaws at -201.0 and 50.0 mm are beyond ±200 mm."),
        (replace(JAWS, y2_mm=200.5), "Beam 'AP': Y jaws at -25.0 and 200.5 mm are beyond ±200 mm."),
        (replace(JAWS, y2_mm=-25.0), "Beam 'AP': Y jaws at -25.0 and -25.0 mm leave no opening."),
    ],
)
def test_jaws_out_of_their_limits_are_named(a_good_plan: DeliverablePlan, jaws: JawOpening, message: str) -> None:
    assert message in violations(replace(a_good_plan, jaws=(jaws,)))


@pytest.mark.parametrize(
    ("segment_mu", "message"),
    [
        (0.6, "Beam 'AP', segment 2: 0.60 MU are below the 1 MU a segment must have."),
        (970.0, "Beam 'AP': 1000.0 MU are above the 999 MU a beam may have."),
    ],
)
def test_monitor_units_out_of_their_limits_are_named(
    a_good_plan: DeliverablePlan, segment_mu: float, message: str
) -> None:
    first, second = a_good_plan.segments
    assert violations(replace(a_good_plan, segments=(first, replace(second, mu=segment_mu)))) == (message,)


def test_a_segment_of_too_small_an_area_is_named(a_good_plan: DeliverablePlan) -> None:
    jaws = replace(JAWS, x1_mm=44.0, y1_mm=-20.0, y2_mm=20.0)
    assert "Beam 'AP', segment 2: its open area of 68 mm² is below 100 mm²." in violations(
        replace(a_good_plan, jaws=(jaws,))
    )


def test_a_beam_without_segments_is_named(a_good_plan: DeliverablePlan) -> None:
    assert violations(replace(a_good_plan, segments=())) == ("Beam 'AP' has no segment.",)


def test_a_plan_of_mismatched_parts_is_refused(a_good_plan: DeliverablePlan) -> None:
    segment = a_good_plan.segments[0]
    with pytest.raises(ValueError, match=r"one jaw opening a beam, got 0 for 1 beams"):
        replace(a_good_plan, jaws=())
    with pytest.raises(ValueError, match="at least one fraction, got 0"):
        replace(a_good_plan, n_fractions=0)
    with pytest.raises(ValueError, match="ordered by beam and belong to its beams"):
        replace(a_good_plan, segments=(replace(segment, beam_index=1),))
    with pytest.raises(ValueError, match="must place all 60 leaf pairs of generic_6mv"):
        replace(a_good_plan, segments=(replace(segment, left_mm=np.zeros(3), right_mm=np.ones(3)),))
    (moves,) = moving(a_good_plan, 30, (-10.0, -9.0), (10.0, 10.0)).segments
    with pytest.raises(ValueError, match="must all stand or all move"):
        replace(a_good_plan, segments=(segment, moves))
    with pytest.raises(ValueError, match="beam 1 must each begin where the last one ends"):
        replace(a_good_plan, segments=(moves, moves))


def test_a_segment_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"equally long rows, got shapes \(3,\) and \(2,\)"):
        Segment(0, np.zeros(3), np.zeros(2), 1.0)
    with pytest.raises(ValueError, match=r"two such rows each, at start and end"):
        Segment(0, np.zeros((3, 4)), np.zeros((3, 4)), 1.0)
    with pytest.raises(ValueError, match="left_mm <= right_mm in every leaf pair"):
        Segment(0, np.ones(3), np.zeros(3), 1.0)
    with pytest.raises(ValueError, match="not negative, got -1"):
        Segment(0, np.zeros(3), np.zeros(3), -1.0)
