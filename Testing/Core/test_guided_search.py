from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from Core.plan_samples import a_case
from Core.selection_samples import (
    MACHINE,
    CancelAt,
    a_batch,
    a_selection_problem,
    some_settings,
    with_objectives,
)
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.beams import BeamAngles
from deeprt.fluence.objectives import SquaredOverdose
from deeprt.orientation import guided_search as module
from deeprt.orientation.candidates import separations_deg
from deeprt.orientation.column_generation import fitness_of, generate_columns, solve_limited
from deeprt.orientation.guided_search import guided_search
from deeprt.orientation.teacher import selection_problem

AMPLE_S = 600.0
ACCURACY = 1e-4  # to which the solver's tolerance of 1e-7 gives an objective, whatever it started from
MISLEADING = np.isin(range(12), (0, 2, 5, 6, 7, 8, 9, 10))  # of these the greedy choice of three is not the best


class Oracle:
    """Predicts what column generation would find."""

    def __init__(self, problem):
        self.problem, self.candidates = problem, problem.candidates

    def fitness(self, chosen):
        multipliers, _ = solve_limited(self.problem, [[self.candidates.index(a) for a in chosen]], {})
        return fitness_of(self.problem.reduced_costs(multipliers))[0].astype(np.float32)


@dataclass
class Ignorant:
    """Predicts at random, but the same for the same set."""

    candidates: tuple
    seed: int = 0

    def fitness(self, chosen):
        members = sorted(round(10 * a.gantry_deg) for a in chosen)
        return np.random.default_rng([self.seed, *members]).random(len(self.candidates)).astype(np.float32)


@dataclass
class Opinionated:
    """Predicts the same, whatever is chosen."""

    candidates: tuple
    curve: np.ndarray

    def fitness(self, chosen):
        return self.curve.astype(np.float32)


@pytest.fixture
def tried(monkeypatch):
    """The sets that P(B) is solved for, but for the steps of the result."""
    sets, solved = [], module.solved

    def noted(problem, beams, start):
        sets.append(beams)
        return solved(problem, beams, start)

    monkeypatch.setattr(module, "solved", noted)
    monkeypatch.setattr(module, "_recorded", lambda problem, guide, found, *others: found)
    return sets


@cache
def objective_of(beams):
    """Minimum of P(B)."""
    return solve_limited(a_selection_problem(), [beams], {})[1][0]


@pytest.mark.parametrize("given", [(), (10,)])
def test_the_first_set_is_the_networks_own(given):
    problem = a_selection_problem()
    network = Ignorant(problem.candidates)
    found = guided_search(problem, network, 4, given=given, budget_s=AMPLE_S, max_sets=1)
    chosen = given
    while len(chosen) < 4:
        fitness = network.fitness([problem.candidates[b] for b in chosen])
        chosen = (*chosen, int(np.argmax(np.where(np.isin(range(12), chosen), -1.0, fitness))))
    assert found.chosen == chosen and found.n_given == len(given)


def test_a_selection_has_the_objective_and_the_predicted_fitness_of_each_step():
    problem = replace(a_selection_problem(), selectable=MISLEADING)
    network = Ignorant(problem.candidates)
    found = guided_search(problem, network, 3, budget_s=AMPLE_S, max_sets=15)
    assert found.source == "network, guided search" and found.candidates == problem.candidates
    assert found.n_given == 0 and len(set(found.chosen)) == 3
    assert found.fitness.shape == (3, 12) and found.fitness.dtype == np.float32
    assert len(found.objectives) == 4
    for n, objective in enumerate(found.objectives):
        assert_allclose(objective, objective_of(found.chosen[:n]), rtol=ACCURACY)
    for n, fitness in enumerate(found.fitness):
        assert_array_equal(fitness, network.fitness(found.angles[:n]))
    assert set(found.timing_s) == {"set-up", "pricing", "optimization", "prediction", "guided search"}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("max_sets", [2, 8])
def test_with_time_for_column_generation_even_an_ignorant_network_ends_no_worse(seed, max_sets):
    problem = a_selection_problem()
    greedy = generate_columns(problem, 4)[0]
    found = guided_search(problem, Ignorant(problem.candidates, seed), 4, budget_s=AMPLE_S, max_sets=max_sets)
    assert found.objectives[-1] <= greedy.objectives[-1]
    assert (found.source == "column generation") == (found.chosen == greedy.chosen)


def test_column_generation_is_returned_with_its_own_fitness():
    problem = a_selection_problem()
    greedy = generate_columns(problem, 3)[0]
    worst = Opinionated(problem.candidates, -greedy.fitness.sum(axis=0))
    found = guided_search(problem, worst, 3, budget_s=AMPLE_S, max_sets=2)
    assert found.chosen == greedy.chosen and found.source == "column generation"
    assert found.objectives == greedy.objectives
    assert_array_equal(found.fitness, greedy.fitness)


def test_a_budget_without_time_for_column_generation_is_told():
    problem = a_selection_problem()
    found = guided_search(problem, Ignorant(problem.candidates), 3, budget_s=0.0)
    first = guided_search(problem, Ignorant(problem.candidates), 3, budget_s=AMPLE_S, max_sets=1)
    assert found.chosen == first.chosen
    assert found.source == first.source == "network, guided search without column generation"
    assert set(found.timing_s) == {"prediction", "guided search"}


def test_a_good_network_finds_what_column_generation_missed():
    problem = replace(a_selection_problem(), selectable=MISLEADING)
    greedy = generate_columns(problem, 3)[0]
    found = guided_search(problem, Oracle(problem), 3, budget_s=AMPLE_S, max_sets=12)
    assert found.objectives[-1] < 0.97 * greedy.objectives[-1]


def test_an_exhausted_search_has_found_the_best_of_all_sets(tried, monkeypatch):
    monkeypatch.setattr(module, "_BRANCHING", 8)  # all candidates
    problem = replace(a_selection_problem(), selectable=MISLEADING)
    found = guided_search(problem, Ignorant(problem.candidates), 2, budget_s=AMPLE_S)
    sets = list(combinations(np.flatnonzero(MISLEADING).tolist(), 2))
    solved = [tuple(sorted(s)) for s in (*tried, generate_columns(problem, 2)[0].chosen)]
    assert set(solved) == set(sets) and len(tried) <= len(sets)
    assert_allclose(found.objective, min(objective_of(s) for s in sets), rtol=ACCURACY)


def test_only_complete_sets_are_solved_and_none_twice(tried):
    problem = a_selection_problem()
    guided_search(problem, Ignorant(problem.candidates), 4, given=(3,), budget_s=AMPLE_S, max_sets=20)
    assert len(tried) == len({frozenset(s) for s in tried}) == 20
    assert {len(set(s)) for s in tried} == {4} and {s[0] for s in tried} == {3}


def test_a_better_set_is_where_the_search_goes_on(tried):
    problem = a_selection_problem()
    network = Ignorant(problem.candidates)
    guided_search(problem, network, 4, budget_s=AMPLE_S, max_sets=12)
    objectives = [objective_of(s) for s in tried]
    best = tried[int(np.argmin(objectives[:2]))]
    for beams, objective in zip(tried[2:], objectives[2:], strict=True):
        assert len(set(beams) & set(best)) == 3
        best = beams if objective < objective_of(best) else best


def test_alternatives_lie_apart(tried):
    problem = a_selection_problem("coplanar:5")
    gantry = np.array([a.gantry_deg for a in problem.candidates])
    peak = Opinionated(problem.candidates, 1 - np.abs(gantry - 91) / 180)
    guided_search(problem, peak, 1, budget_s=AMPLE_S)
    found = gantry[[b for (b,) in tried]]
    greedy = gantry[generate_columns(problem, 1)[0].chosen]
    assert_array_equal(found[found != greedy], [90.0, 100.0, 80.0, 110.0])


def test_more_sets_are_never_worse():
    problem = replace(a_selection_problem(), selectable=MISLEADING)
    network = Ignorant(problem.candidates)
    runs = [guided_search(problem, network, 3, budget_s=AMPLE_S, max_sets=n) for n in (1, 2, 4, 8)]
    assert np.all(np.diff([r.objectives[-1] for r in runs]) <= 0)


def test_a_guided_search_repeats():
    problem = a_selection_problem()
    first, again = (
        guided_search(problem, Ignorant(problem.candidates), 3, budget_s=AMPLE_S, max_sets=6) for _ in range(2)
    )
    assert first.chosen == again.chosen and first.objectives == again.objectives


def test_excluded_and_too_close_candidates_are_never_chosen(tried):
    problem = replace(a_selection_problem(), selectable=~np.isin(range(12), (4, 7)), min_separation_deg=55.0)
    guided_search(problem, Ignorant(problem.candidates), 4, given=(0,), budget_s=AMPLE_S, max_sets=10)
    for beams in tried:
        assert beams[0] == 0 and not {4, 7} & set(beams)
        for a, b in combinations(beams, 2):
            assert separations_deg([problem.candidates[a]], problem.candidates[b])[0] > 55.0


def test_a_set_that_nothing_can_continue_is_complete():
    problem = replace(a_selection_problem(), min_separation_deg=150.0)
    found = guided_search(problem, Ignorant(problem.candidates), 4, budget_s=AMPLE_S, max_sets=6)
    assert len(found.chosen) == 2


@pytest.mark.parametrize("given", [(0, 1), ()])
def test_there_may_be_nothing_to_choose(given):
    problem = replace(a_selection_problem(), selectable=np.zeros(12, bool))
    found = guided_search(problem, Ignorant(problem.candidates), 2, given=given, budget_s=AMPLE_S)
    assert found.chosen == given and found.fitness.shape == (0, 12)
    assert_allclose(found.objectives, [objective_of(given)], rtol=ACCURACY)


def test_no_beam_is_added_that_improves_nothing():
    problem = with_objectives(a_selection_problem(), ("Tube", SquaredOverdose(10.0), [1.0]))
    found = guided_search(problem, Ignorant(problem.candidates), 3, budget_s=AMPLE_S, max_sets=4)
    assert found.chosen == () and found.source == "column generation"


def test_a_given_beam_that_is_no_candidate_has_the_fitness_of_the_nearest_one():
    given = (BeamAngles(100.0),)
    problem, positions = selection_problem(a_case(), MACHINE, some_settings(), given=given)
    network = Ignorant(problem.candidates[:12])
    found = guided_search(problem, network, 3, given=positions, budget_s=AMPLE_S, max_sets=1)
    assert found.angles[0] == given[0] and found.fitness.shape == (2, 13)
    assert_array_equal(found.fitness[0], network.fitness(given)[[*range(12), 3]])  # 90° is nearest to 100°


def test_progress_may_cancel_a_guided_search():
    problem = a_selection_problem()
    for call in (1, 8):  # before the first set, and after column generation
        with pytest.raises(InterruptedError, match="guided search"):
            guided_search(problem, Ignorant(problem.candidates), 4, budget_s=AMPLE_S, progress=CancelAt(call))


def test_a_guided_search_refuses_what_it_cannot_do():
    problem = a_selection_problem()
    network = Ignorant(problem.candidates)
    with pytest.raises(ValueError, match="searched for one weighting at a time, the problem has 3"):
        guided_search(a_batch(), network, 2, budget_s=1.0)
    with pytest.raises(ValueError, match="the predictor's candidates are not those of the problem"):
        guided_search(problem, Ignorant(a_selection_problem("coplanar:45").candidates), 2, budget_s=1.0)
    with pytest.raises(ValueError, match="max_sets must be at least 1, got 0"):
        guided_search(problem, network, 2, max_sets=0, budget_s=1.0)
