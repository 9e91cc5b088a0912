"""Beams that the methods of the experiments propose."""

import numpy as np
from Core.selection_samples import MACHINE, a_selection_problem
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_array_equal

from deeprt.orientation.candidates import candidate_beams
from deeprt.training.experiments.proposals import (
    AskedViews,
    by_coarse,
    equispaced_beams,
    propose,
    random_beams,
)


def test_no_beam_is_proposed_twice():
    assert propose(lambda chosen: np.zeros(6, np.float32), 6) == (0, 1, 2, 3, 4, 5)
    rng = np.random.default_rng(3)
    drawn = propose(lambda chosen: rng.random(9).astype(np.float32), 9, given=(4, 2))
    assert drawn[:2] == (4, 2)
    assert sorted(drawn) == list(range(9))
    assert len(set(random_beams(7, 7, (1, 2)))) == 7


def test_proposals_are_asked_for_with_the_beams_chosen_before():
    asked = []

    def fitness(chosen):
        asked.append(chosen)
        return np.array([0.1, 0.5, 0.9, 0.7], np.float32)

    assert propose(fitness, 3) == (2, 3, 1)
    assert asked == [(), (2,), (2, 3)]


def test_equispaced_beams_are_the_nearest_candidates():
    candidates = candidate_beams("coplanar:2", MACHINE.clearance)
    assert [candidates[b].gantry_deg for b in equispaced_beams(candidates, 5)] == [0.0, 72.0, 144.0, 216.0, 288.0]
    assert [candidates[b].gantry_deg for b in equispaced_beams(candidates, 7)][1] == 52.0


def test_random_beams_follow_their_seed():
    assert random_beams(180, 5, (7, 0)) == random_beams(180, 5, (7, 0))
    assert random_beams(180, 5, (7, 0)) != random_beams(180, 5, (7, 1))


class CountedViews:
    def __init__(self, problem):
        self.problem, self.asked = problem, []

    def of(self, chosen):
        self.asked.append([a.gantry_deg for a in chosen])
        return np.random.default_rng(len(chosen)).random((len(self.problem.candidates), 2)).astype(np.float32)


def test_views_of_a_set_are_computed_once_for_all_methods():
    counted = CountedViews(a_selection_problem())
    views = AskedViews(counted)
    first = propose(by_coarse(views), 3)
    assert propose(by_coarse(views), 3) == first
    assert len(counted.asked) == 3
    assert_array_equal(views.of((2, 5)), views.of((5, 2)))
