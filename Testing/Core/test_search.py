from dataclasses import replace
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from Core.selection_samples import CancelAt, a_batch, a_selection_problem, with_objectives
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.fluence.objectives import SquaredOverdose
from deeprt.orientation import search as module
from deeprt.orientation.beam_sets import Budget, solved
from deeprt.orientation.candidates import separations_deg
from deeprt.orientation.column_generation import generate_columns, solve_limited
from deeprt.orientation.search import beam_search, exchanged, improve_by_exchange

AMPLE_S = 600.0
ACCURACY = 1e-4  # to which the solver's tolerance of 1e-7 gives an objective, whatever it started from


SELECTABLE = (0, 2, 5, 6, 7, 8, 9, 10)


def a_misleading_problem():
    """Eight candidates among which the greedy choice of three beams is not the best."""
    return replace(a_selection_problem(), selectable=np.isin(range(12), SELECTABLE))


@cache
def the_optima():
    """Objective of every set of three beams of the misleading problem."""
    return {s: objective_of(s) for s in combinations(SELECTABLE, 3)}


def objective_of(beams):
    """Minimum of P(B)."""
    return solve_limited(a_selection_problem(), [beams], {})[1][0]


def a_poor_selection(problem, n_beams, given=()):
    """The first candidates, whatever their reduced cost."""
    others = [b for b in np.flatnonzero(problem.selectable) if b not in given][: n_beams - len(given)]
    return generate_columns(replace(problem, selectable=np.isin(range(12), others)), n_beams, given=given)[0]


def assert_steps_are_those_of_the_set(problem, selection):
    """Objectives and fitness of a selection are what P(B) of its first beams gives."""
    n_given = selection.n_given
    assert selection.fitness.shape == (len(selection.chosen) - n_given, len(problem.candidates))
    assert len(selection.objectives) == selection.fitness.shape[0] + 1
    assert np.all(np.diff(selection.objectives) < 0)
    for n, objective in enumerate(selection.objectives):
        assert_allclose(objective, objective_of(selection.chosen[: n_given + n]), rtol=ACCURACY)
    for n, row in enumerate(selection.fitness):
        before = generate_columns(problem, n_given + n + 1, given=selection.chosen[: n_given + n])[0]
        assert_allclose(row, before.fitness[0], atol=0.01)


@pytest.mark.parametrize("given", [(), (10,)])
def test_exchange_improves_a_poor_set_and_keeps_given_beams(given):
    problem = a_selection_problem()
    poor = a_poor_selection(problem, 4, given)
    better = improve_by_exchange(problem, poor, budget_s=AMPLE_S)
    assert better.objectives[-1] < 0.95 * poor.objectives[-1]
    assert better.chosen[: len(given)] == given and better.n_given == len(given)
    assert len(set(better.chosen)) == 4
    assert better.source == "column generation, exchange search"
    assert set(better.timing_s) == {"set-up", "pricing", "optimization", "exchange search"}
    assert better.timing_s["exchange search"] > 0
    assert_steps_are_those_of_the_set(problem, better)


@pytest.mark.parametrize("n_beams", [1, 2, 4])
def test_exchange_is_never_worse_than_column_generation(n_beams):
    problem = a_selection_problem()
    greedy = generate_columns(problem, n_beams)[0]
    improved = improve_by_exchange(problem, greedy, budget_s=AMPLE_S)
    assert improved.objectives[-1] <= greedy.objectives[-1]
    assert (improved.chosen == greedy.chosen) == (improved.source == greedy.source)


def test_exchange_finds_what_column_generation_missed():
    problem = a_misleading_problem()
    greedy = generate_columns(problem, 3)[0]
    improved = improve_by_exchange(problem, greedy, budget_s=AMPLE_S)
    assert improved.objectives[-1] < 0.97 * greedy.objectives[-1]


def test_exchange_ends_where_no_exchange_helps():
    problem = a_misleading_problem()
    end = improve_by_exchange(problem, a_poor_selection(problem, 3), budget_s=AMPLE_S)
    again = improve_by_exchange(problem, end, budget_s=AMPLE_S)
    assert again.chosen == end.chosen and again.objectives == end.objectives and again.source == end.source
    assert end.objectives[-1] <= 1.05 * min(the_optima().values())  # near the best of all 56 sets


def test_exchange_without_time_returns_the_set_that_it_was_given():
    problem = a_selection_problem()
    poor = a_poor_selection(problem, 3)
    same = improve_by_exchange(problem, poor, budget_s=0.0)
    assert same.chosen == poor.chosen and same.objectives == poor.objectives and same.source == poor.source
    assert_array_equal(same.fitness, poor.fitness)


def exchanges(problem, beams, **options):
    """The set after exchanges without end of time."""
    start = solved(problem, beams, {})
    return start, exchanged(problem, start, **{"n_given": 0, "budget": Budget(AMPLE_S), **options})


def test_no_exchange_is_tried_beyond_the_number_allowed(monkeypatch):
    problem, poor = a_misleading_problem(), (0, 2, 5)
    objectives, removed, whole = [], [], module._without

    def noted(problem, current, beam, budget):
        removed.append(beam)
        return whole(problem, current, beam, budget)

    monkeypatch.setattr(module, "_without", noted)
    for n in range(5):
        removed.clear()
        start, found = exchanges(problem, poor, max_tried=n)
        assert len(removed) <= n
        assert removed[:3] == list(poor[: len(removed[:3])]), "each of the set is tried once before any other"
        objectives.append(found.objective)
        if n == 0:
            assert found is start
    assert all(np.diff(objectives) <= 0) and objectives[3] < objectives[0]


@pytest.mark.parametrize("given", [(), (10,), (10, 3)])
def test_exchanged_sets_keep_their_first_beams_and_never_a_higher_objective(given):
    problem = a_misleading_problem()
    start, found = exchanges(problem, (*given, 0, 2), n_given=len(given), max_tried=2)
    assert found.beams[: len(given)] == given
    assert len(set(found.beams)) == len(start.beams)
    assert found.objective <= start.objective
    assert_allclose(found.objective, objective_of(found.beams), rtol=ACCURACY)


def test_exchange_has_nothing_to_do_with_given_beams_only():
    problem = a_selection_problem()
    fixed = generate_columns(problem, 2, given=(0, 1))[0]
    assert improve_by_exchange(problem, fixed, budget_s=AMPLE_S).chosen == (0, 1)


@pytest.mark.parametrize("search", ["exchange", "beam search"])
def test_searches_keep_away_from_excluded_and_too_close_candidates(search):
    selectable = ~np.isin(range(12), (4, 7))
    problem = replace(a_selection_problem(), selectable=selectable, min_separation_deg=55.0)
    if search == "exchange":
        found = improve_by_exchange(problem, generate_columns(problem, 4, given=(0,))[0], budget_s=AMPLE_S)
    else:
        found = beam_search(problem, 4, width=2, branching=3, given=(0,), budget_s=AMPLE_S)
    assert found.chosen[0] == 0 and not {4, 7} & set(found.chosen)
    for a, b in combinations(found.angles, 2):
        assert separations_deg([a], b)[0] > 55.0


def test_the_widest_beam_search_finds_the_best_of_all_sets():
    problem = a_misleading_problem()
    found = beam_search(problem, 3, width=56, branching=8, budget_s=AMPLE_S)
    best = min(the_optima(), key=the_optima().get)
    assert generate_columns(problem, 3)[0].objectives[-1] > 1.05 * the_optima()[best]
    assert tuple(sorted(found.chosen)) == best
    assert_allclose(found.objectives[-1], the_optima()[best], rtol=ACCURACY)


@pytest.mark.parametrize(("width", "branching"), [(1, 1), (2, 2), (3, 4)])
def test_beam_search_is_never_worse_than_column_generation(width, branching):
    problem = a_selection_problem()
    greedy = generate_columns(problem, 4)[0]
    found = beam_search(problem, 4, width=width, branching=branching, budget_s=AMPLE_S)
    assert found.objectives[-1] <= greedy.objectives[-1] * (1 + ACCURACY)
    assert found.n_given == 0 and len(found.chosen) == 4
    assert "beam search" in found.timing_s and "pricing" in found.timing_s
    if found.source == "beam search":
        assert_steps_are_those_of_the_set(problem, found)
    else:
        assert found.chosen == greedy.chosen


def test_the_narrowest_beam_search_is_column_generation():
    problem = a_selection_problem()
    found = beam_search(problem, 4, width=1, branching=1, given=(3,), budget_s=AMPLE_S)
    assert found.chosen == generate_columns(problem, 4, given=(3,))[0].chosen
    assert found.source == "column generation" and found.n_given == 1


def test_beam_search_without_time_returns_column_generation():
    problem = a_selection_problem()
    found = beam_search(problem, 3, width=3, branching=3, budget_s=0.0)
    assert found.chosen == generate_columns(problem, 3)[0].chosen
    assert found.source == "column generation"


def test_beam_search_ends_where_nothing_improves():
    problem = with_objectives(a_selection_problem(), ("Tube", SquaredOverdose(10.0), [1.0]))
    assert beam_search(problem, 3, width=2, branching=2, budget_s=AMPLE_S).chosen == ()


def test_searches_repeat():
    problem = a_misleading_problem()
    poor = a_poor_selection(problem, 3)
    first, again = (improve_by_exchange(problem, poor, budget_s=AMPLE_S) for _ in range(2))
    assert first.chosen == again.chosen and first.objectives == again.objectives
    first, again = (beam_search(problem, 3, width=2, branching=2, budget_s=AMPLE_S) for _ in range(2))
    assert first.chosen == again.chosen and first.objectives == again.objectives


def test_progress_may_cancel_a_search():
    problem = a_selection_problem()
    greedy = generate_columns(problem, 3)[0]
    with pytest.raises(InterruptedError, match="exchange search"):
        improve_by_exchange(problem, greedy, budget_s=AMPLE_S, progress=CancelAt(2))
    with pytest.raises(InterruptedError, match="beam search"):
        beam_search(problem, 3, width=2, branching=2, budget_s=AMPLE_S, progress=CancelAt(6))


def test_searches_refuse_what_they_cannot_do():
    problem = a_selection_problem()
    greedy = generate_columns(problem, 1)[0]
    with pytest.raises(ValueError, match="searched for one weighting at a time, the problem has 3"):
        improve_by_exchange(a_batch(), greedy, budget_s=1.0)
    with pytest.raises(ValueError, match="searched for one weighting at a time, the problem has 3"):
        beam_search(a_batch(), 2, width=1, branching=1, budget_s=1.0)
    with pytest.raises(ValueError, match="the selection's candidates are not those of the problem"):
        improve_by_exchange(a_selection_problem("coplanar:45"), greedy, budget_s=1.0)
    with pytest.raises(ValueError, match="width and branching must be at least 1, got 0 and 2"):
        beam_search(problem, 2, width=0, branching=2, budget_s=1.0)
