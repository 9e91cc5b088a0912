"""Beam sets better than column generation's: a network orders them, the exact objective decides.

After A. Sadeghnejad Barkousaraie, G. Bohara, S. Jiang and D. Nguyen, Mach. Learn.: Sci. Technol. 2, 035013 (2021),
doi:10.1088/2632-2153/abe528, whose tree search is guided by a network that has learned column generation's fitness.
There a Monte Carlo search draws sets by their predicted probability. Here they are tried in the order of what is lost
by not following the prediction, and a better set becomes a new place to start from, which repeats exactly.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from deeprt.beams import BeamSelection
from deeprt.orientation.beam_sets import BeamSet, Budget, check_single, is_lower, solved
from deeprt.orientation.candidates import separations_deg
from deeprt.orientation.column_generation import SelectionProblem, best_priced, generate_columns
from deeprt.orientation.predictor import FitnessPredictor
from deeprt.progress import Progress, Silent

_BRANCHING = 4  # most candidates that continue a set, no two of them within _APART_DEG
_APART_DEG = 10.0  # of alternatives: a neighbor of a fitter candidate is hardly another choice
_ROUNDING_DEG = 1e-6


def guided_search(
    problem: SelectionProblem,
    predictor: FitnessPredictor,
    n_beams: int,
    *,
    given: Sequence[int] = (),
    budget_s: float,
    max_sets: int | None = None,
    progress: Progress | None = None,
) -> BeamSelection:
    """Choose beams by trying the sets that a network thinks most of.

    First comes the set that always takes the fittest candidate, then column generation's. From there on the best set
    so far loses one beam at a time and is completed otherwise; when this is exhausted, the search falls back on the
    sets before and at last on the whole tree. P(B) is solved for complete sets only.

    The result is never worse than column generation's, which is returned unless a set is better by more than the
    solver's tolerance. This is not guaranteed where, by an estimate made after the first set, the budget has no time
    for column generation; the source then says so. Once begun, column generation is finished.

    Parameters
    ----------
    predictor : of the problem's candidates; only further ones that were given may come behind them
    n_beams : in all, the given ones included
    given : candidates that every set begins with
    budget_s : for the search, looked at between two sets; solving the steps of the found set comes on top
    max_sets : most sets to solve, column generation's counted as one; unlimited if None

    Returns
    -------
    The best set, with the fitness and the objective of each of its steps; the fitness is the predicted one, with a
    candidate that the predictor does not know taken for the nearest one that it does

    Raises
    ------
    ValueError
        If the problem is a batch, the predictor has other candidates, or ``max_sets`` is not positive.
    """
    check_single(problem)
    if max_sets is not None and max_sets < 1:
        raise ValueError(f"Guided search: max_sets must be at least 1, got {max_sets}.")
    report, budget, most_sets = progress or Silent(), Budget(budget_s), max_sets or math.inf
    guide = _Guide(problem, predictor)
    tree, greedy = _Tree(guide, tuple(given), n_beams), None
    report.step("guided search", 0.0, "first set")
    best, column_generation_s = _first_set(problem, tree, len(given))
    if most_sets > 1 and column_generation_s < budget.left_s:
        greedy = generate_columns(problem, n_beams, given=given, progress=progress)[0]
        if not is_lower(problem, best.objective, greedy.objectives[-1]):
            best = solved(problem, greedy.chosen, best.fluence)
        tree.tried.add(frozenset(greedy.chosen))
    best = _improved(problem, tree, best, most_sets - (2 if greedy else 1), budget, report)
    timing = {**(greedy.timing_s if greedy else {}), "prediction": round(guide.spent_s, 3)}
    timing["guided search"] = round(budget.spent_s - sum(timing.values()), 3)
    if greedy and not is_lower(problem, best.objective, greedy.objectives[-1]):
        return replace(greedy, timing_s=timing)
    source = "network, guided search" if greedy else "network, guided search without column generation"
    return _recorded(problem, guide, best, len(given), source, timing)


class _Guide:
    """Predicted fitness of the problem's candidates, and what continues a set by it."""

    def __init__(self, problem: SelectionProblem, predictor: FitnessPredictor) -> None:
        known = predictor.candidates
        if known != problem.candidates[: len(known)]:
            raise ValueError("Guided search: the predictor's candidates are not those of the problem.")
        self.spent_s = 0.0
        self._problem, self._predictor = problem, predictor
        further = [int(separations_deg(known, a).argmin()) for a in problem.candidates[len(known) :]]
        self._columns = [*range(len(known)), *further]

    def fitness(self, beams: Sequence[int]) -> NDArray[np.float32]:
        """Fitness with these beams chosen, (n_candidates,)."""
        start = time.perf_counter()
        fitness = self._predictor.fitness([self._problem.candidates[b] for b in beams])
        self.spent_s += time.perf_counter() - start
        return fitness[self._columns]

    def children(self, beams: tuple[int, ...]) -> list[tuple[float, int]]:
        """Candidates that continue a set, the fittest ones that lie apart, with the fitness lost by each."""
        fitness, candidates = self.fitness(beams).astype(np.float64), self._problem.candidates
        # Unlike a reduced cost of zero, a predicted fitness of zero does not mean that nothing is gained.
        ranked = best_priced(self._problem, fitness, beams, first=-math.inf)
        fittest: list[int] = []
        while ranked and len(fittest) < _BRANCHING:
            fittest.append(ranked[0])
            away_deg = separations_deg([candidates[b] for b in ranked], candidates[ranked[0]])
            ranked = [b for b, deg in zip(ranked, away_deg, strict=True) if deg >= _APART_DEG - _ROUNDING_DEG]
        return [(float(fitness[fittest[0]] - fitness[b]), b) for b in fittest]


class _Tree:
    """Sets of beams, each continued by its fittest candidates, in the order in which they are worth trying.

    Of the latest start come first those that have lost least of the predicted fitness on the way to them.
    """

    def __init__(self, guide: _Guide, root: tuple[int, ...], n_beams: int) -> None:
        self._guide, self._n_given, self._n_beams = guide, len(root), n_beams
        self._start, self._number = 0, count()
        self._waiting: list[tuple[int, float, int, int, tuple[int, ...]]] = []
        self._met: set[tuple[int, frozenset[int]]] = set()
        self.tried: set[frozenset[int]] = set()
        self._add(root, self._start, 0.0)

    def _add(self, beams: tuple[int, ...], start: int, lost: float) -> None:
        # Later starts first; of equal loss the larger set, so that the first way down leads to a complete set.
        heapq.heappush(self._waiting, (-start, lost, -len(beams), next(self._number), beams))

    def restart(self, beams: tuple[int, ...]) -> None:
        """Go on from a set that loses one of its beams at a time, not a given one."""
        self._start += 1
        for n in range(self._n_given, len(beams)):
            self._add(beams[:n] + beams[n + 1 :], self._start, 0.0)

    def next_set(self) -> tuple[int, ...] | None:
        """The next set that is complete, or that no candidate can continue; none if all have been tried."""
        while self._waiting:
            minus_start, lost, _, _, beams = heapq.heappop(self._waiting)
            members = frozenset(beams)
            if (minus_start, members) in self._met:  # in another order
                continue
            self._met.add((minus_start, members))
            children = self._guide.children(beams) if len(beams) < self._n_beams else []
            for more, candidate in children:
                self._add((*beams, candidate), -minus_start, lost + more)
            if not children and members not in self.tried:
                self.tried.add(members)
                return beams
        return None


def _first_set(problem: SelectionProblem, tree: _Tree, n_given: int) -> tuple[BeamSet, float]:
    """The tree's first set, and an estimate of the seconds that column generation takes."""
    beams = tree.next_set() or ()
    start, set_up_s = time.perf_counter(), problem.pool.set_up_s
    first = solved(problem, beams, {})
    set_up_s = problem.pool.set_up_s - set_up_s
    solving_s = time.perf_counter() - start - set_up_s
    if not beams:
        return first, 0.0
    start = time.perf_counter()
    problem.pool[beams[-1]].adjoint(first.multipliers)
    adjoint_s = time.perf_counter() - start
    n_steps = len(beams) - n_given
    pricing_s = len(problem.candidates) * (set_up_s / len(beams) + n_steps * adjoint_s)
    return first, pricing_s + (n_steps + 1) / 2 * solving_s  # a set of n beams takes about n times as long as one


def _improved(
    problem: SelectionProblem, tree: _Tree, best: BeamSet, n_left: float, budget: Budget, report: Progress
) -> BeamSet:
    """The best of a set and of up to ``n_left`` others, which the tree proposes after it."""
    n_sets = 0
    tree.restart(best.beams)
    while n_sets < n_left and not budget.is_spent and (beams := tree.next_set()) is not None:
        done = max(budget.share, n_sets / n_left)
        report.step("guided search", done, f"{n_sets} sets tried, objective {best.objective:.5g}")
        trial = solved(problem, beams, best.fluence)
        n_sets += 1
        if is_lower(problem, trial.objective, best.objective):
            best = trial
            tree.restart(best.beams)
    report.step("guided search", 1.0)
    return best


def _recorded(
    problem: SelectionProblem,
    guide: _Guide,
    found: BeamSet,
    n_given: int,
    source: str,
    timing_s: Mapping[str, float],
) -> BeamSelection:
    """The found set as a selection, with the objective and predicted fitness of each of its steps."""
    before = [found.beams[:n] for n in range(n_given, len(found.beams))]
    fitness = [guide.fitness(beams) for beams in before]
    return BeamSelection(
        candidates=problem.candidates,
        chosen=found.beams,
        fitness=np.array(fitness, np.float32).reshape(-1, len(problem.candidates)),
        objectives=(*(solved(problem, beams, found.fluence).objective for beams in before), found.objective),
        n_given=n_given,
        source=source,
        timing_s=timing_s,
    )
