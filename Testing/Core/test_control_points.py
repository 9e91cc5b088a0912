"""Fluence of moving leaves in closed form, against openings that stand for short whiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from Core.existing_plan_samples import EDGES, a_moving_beam, turned
from Core.samples import MACHINE
from numpy.testing import assert_allclose

from deeprt.delivery.control_points import beam_openings
from deeprt.delivery.existing_plan import PlannedBeam
from deeprt.delivery.fluence import Openings, coverage, fluence_of, mean_beyond, with_head_scatter
from deeprt.machine import HeadScatter, Mlc

LEAVES = replace(MACHINE.mlc, leaf_edges_mm=EDGES, transmission=0.03, tip_offset_mm=0.0)
X = np.array([-70.0, -41.0, -22.3, -22.0, -7.0, 3.0, 4.5, 20.0, 36.0, 80.0])  # unequal, some cut by the jaws
Y = np.array([-50.0, -23.0, -21.0, -5.0, 2.0, 15.0, 30.0, 45.0])
N_MOMENTS = 4000


def fluence(beam: PlannedBeam, mlc: Mlc = LEAVES) -> np.ndarray:
    return fluence_of(beam_openings(beam, tip_offset_mm=mlc.tip_offset_mm), mlc, X, Y)


def fluence_moment_by_moment(beam: PlannedBeam, mlc: Mlc = LEAVES) -> np.ndarray:
    """Sum over moments in the middle of equal shares of the meterset, nothing in closed form but standing openings."""
    moments = (np.arange(N_MOMENTS) + 0.5) / N_MOMENTS

    def at(values: np.ndarray) -> np.ndarray:
        return np.array([np.interp(moments, beam.meterset, column) for column in values.T]).T

    left, right, jaws = (at(values) for values in (beam.left_mm, beam.right_mm, beam.jaws_mm))
    total = np.zeros((Y.size - 1, X.size - 1))
    for n in range(N_MOMENTS):
        x1, x2, y1, y2 = jaws[n]
        tips = np.maximum(left[n] - mlc.tip_offset_mm, x1), np.minimum(right[n] + mlc.tip_offset_mm, x2)
        rows = coverage(np.maximum(EDGES[:-1], y1), np.minimum(EDGES[1:], y2), Y)
        between = np.outer(
            coverage(np.array([y1]), np.array([y2]), Y)[0], coverage(np.array([x1]), np.array([x2]), X)[0]
        )
        opened = rows.T @ coverage(*tips, X)
        total += beam.mu / N_MOMENTS * (mlc.transmission * between + (1 - mlc.transmission) * opened)
    return total


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tip_offset_mm", [0.0, 1.3])
def test_moving_leaves_open_each_pixel_as_long_as_dense_steps_say(seed: int, tip_offset_mm: float) -> None:
    beam = a_moving_beam(np.random.default_rng(seed))
    mlc = replace(LEAVES, tip_offset_mm=tip_offset_mm)
    # A moment lasts 0.02 MU; a narrow pixel that a tip enters and leaves is off by about one of them.
    assert_allclose(fluence(beam, mlc), fluence_moment_by_moment(beam, mlc), atol=0.05)


def test_moving_jaws_are_followed_to_within_half_a_millimeter() -> None:
    beam = a_moving_beam(np.random.default_rng(5), moving_jaws=True)
    # Jaws stand for each millimeter of their way: 0.5 mm of the narrowest pixel but one, 2 mm, for the time of a step.
    assert_allclose(fluence(beam), fluence_moment_by_moment(beam), atol=0.01 * beam.mu)


def test_the_mean_beyond_a_tip_is_the_integral_over_its_way() -> None:
    rng = np.random.default_rng(1)
    start, end, at = rng.uniform(-10, 10, 50), rng.uniform(-10, 10, 50), np.linspace(-12, 12, 9)
    end[:5] = start[:5]  # tips that stand
    time = (np.arange(20000) + 0.5) / 20000
    tips = start[:, None] + (end - start)[:, None] * time
    expected = np.maximum(at - tips[..., None], 0).mean(axis=1)
    assert_allclose(mean_beyond(start, end, at), expected, atol=1e-6)  # midpoints err at the kink alone


def test_the_direction_of_a_movement_does_not_matter() -> None:
    beam = a_moving_beam(np.random.default_rng(2), n_points=2)
    back = replace(beam, left_mm=beam.left_mm[::-1], right_mm=beam.right_mm[::-1])
    assert_allclose(fluence(back), fluence(beam), atol=1e-12)


def test_a_control_point_in_the_middle_of_a_movement_changes_nothing() -> None:
    beam = a_moving_beam(np.random.default_rng(3), n_points=2)
    middle = np.array([0.0, 0.3, 1.0])

    def divided(values: np.ndarray) -> np.ndarray:
        return (1 - middle)[:, None] * values[0] + middle[:, None] * values[1]

    finer = replace(
        beam,
        meterset=middle,
        jaws_mm=divided(beam.jaws_mm),
        left_mm=divided(beam.left_mm),
        right_mm=divided(beam.right_mm),
    )
    assert_allclose(fluence(finer), fluence(beam), atol=1e-11)


def test_leaves_that_move_while_no_meterset_passes_deliver_nothing() -> None:
    beam = a_moving_beam(np.random.default_rng(4), n_points=4)
    stepping = replace(
        beam,
        meterset=np.array([0.0, 0.4, 0.4, 1.0]),
        left_mm=beam.left_mm[[0, 0, 2, 2]],
        right_mm=beam.right_mm[[0, 0, 2, 2]],
    )
    openings = beam_openings(stepping, tip_offset_mm=0.0)
    assert_allclose(openings.mu, [0.4 * beam.mu, 0.6 * beam.mu])
    assert stepping.technique == "step and shoot" and beam.technique == "sliding window"
    assert_allclose(fluence(stepping), fluence_moment_by_moment(stepping), atol=0.05)


def test_leaves_along_y_give_the_same_fluence_turned() -> None:
    beam = a_moving_beam(np.random.default_rng(6), moving_jaws=True)
    openings = beam_openings(turned(beam), tip_offset_mm=0.0)
    assert_allclose(fluence_of(openings, LEAVES, Y, X).T, fluence(beam), atol=1e-12)


@pytest.mark.parametrize("turn", [False, True])
def test_without_jaws_along_the_leaves_the_tips_bound_the_field(turn: bool) -> None:
    beam = a_moving_beam(np.random.default_rng(7), n_points=3)
    bare = replace(beam, jaws_mm=np.tile([-np.inf, np.inf, -19.0, 31.0], (3, 1)))
    openings = beam_openings(turned(bare) if turn else bare, tip_offset_mm=0.7)
    along = openings.jaws_mm[:, 2:] if turn else openings.jaws_mm[:, :2]
    inside = slice(1, 5)  # the pairs between the Y jaws; the first lies behind one
    for n in range(2):
        ends = slice(n, n + 2)
        assert_allclose(along[n, 0], beam.left_mm[ends, inside].min() - 0.7)
        assert_allclose(along[n, 1], beam.right_mm[ends, inside].max() + 0.7)


def test_without_any_jaws_the_edges_of_the_open_pairs_bound_the_field_too() -> None:
    beam = a_moving_beam(np.random.default_rng(8), n_points=2)
    left, right = beam.left_mm.copy(), beam.right_mm.copy()
    left[:, [0, 4]] = right[:, [0, 4]] = 0.0
    bare = replace(beam, jaws_mm=np.tile([-np.inf, np.inf] * 2, (2, 1)), left_mm=left, right_mm=right)
    assert_allclose(beam_openings(bare, tip_offset_mm=0.0).jaws_mm[0, 2:], [EDGES[1], EDGES[4]])


def test_head_scatter_follows_the_jaws_of_each_interval() -> None:
    tips = np.zeros((2, 2, 5))
    jaws = np.array([[-50.0, 50.0, -50.0, 50.0], [-20.0, 20.0, -20.0, 20.0]])
    openings = Openings(np.array([10.0, 10.0]), tips, tips, jaws)
    scatter = HeadScatter(np.array([40.0, 100.0]), np.array([0.9, 1.0]))
    assert_allclose(with_head_scatter(openings, scatter).mu, [10.0, 9.0])


def test_openings_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"need tips \(n, 2, n_pairs\)"):
        Openings(np.ones(2), np.zeros((2, 5)), np.zeros((2, 5)), np.zeros((2, 4)))


def test_leaves_of_another_machine_are_refused() -> None:
    openings = beam_openings(a_moving_beam(np.random.default_rng(1)), tip_offset_mm=0.0)
    with pytest.raises(ValueError, match="Openings of 5 leaf pairs do not fit an MLC of 60"):
        fluence_of(openings, MACHINE.mlc, X, Y)
