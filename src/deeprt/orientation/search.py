"""Beam sets better than the greedy one: exchange of single beams, and beam search over the best-priced candidates.

Column generation takes the candidate of the largest reduced cost and never looks back. Here reduced costs propose and
the objective of P(B) decides: a set is better where its objective is lower by more than the solver's tolerance. Both
searches are deterministic but for the time budget, which they look at between two solutions of P(B).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from deeprt.beams import BeamSelection
from deeprt.orientation.beam_sets import BeamSet, Budget, check_single, is_lower, solved
from deeprt.orientation.column_generation import SelectionProblem, best_priced, fitness_of, generate_columns
from deeprt.progress import Progress, Silent

_N_TRIED = 3  # candidates tried in place of a beam: a reduced cost is a slope, the gain may rank them otherwise


def improve_by_exchange(
    problem: SelectionProblem, selection: BeamSelection, *, budget_s: float, progress: Progress | None = None
) -> BeamSelection:
    """Exchange beams one at a time until no exchange lowers the objective or the time is spent.

    In turn each chosen beam is removed, the candidates are priced for the rest, and the best-priced ones are tried in
    its place; the first that lowers the objective stays. Given beams are never removed.

    Parameters
    ----------
    selection : of the problem's candidates
    budget_s : for the search; pricing the steps of an improved set anew comes on top

    Returns
    -------
    The improved selection, its new beams last; the same beams where none was found

    Raises
    ------
    ValueError
        If the problem is a batch, or the selection is one of other candidates.
    """
    budget = Budget(budget_s)
    if selection.candidates != problem.candidates:
        raise ValueError("Exchange search: the selection's candidates are not those of the problem.")
    start = solved(problem, selection.chosen, {})
    best = exchanged(problem, start, n_given=selection.n_given, budget=budget, progress=progress)
    given = min((start.objective, *selection.objectives[-1:]))
    found = selection
    if is_lower(problem, best.objective, given):
        found = _recorded(problem, best, selection, f"{selection.source}, exchange search")
    return replace(found, timing_s={**selection.timing_s, "exchange search": round(budget.spent_s, 3)})


def exchanged(
    problem: SelectionProblem,
    start: BeamSet,
    *,
    n_given: int,
    budget: Budget,
    max_tried: int | None = None,
    progress: Progress | None = None,
) -> BeamSet:
    """Exchange beams as `improve_by_exchange` does.

    Parameters
    ----------
    n_given : first beams of the set, which are never removed
    max_tried : most beams to remove; unlimited if None

    Raises
    ------
    ValueError
        If the problem is a batch.
    """
    check_single(problem)
    report, best, free = progress or Silent(), start, deque(start.beams[n_given:])
    n_tried, n_in_vain = 0, 0
    while n_in_vain < len(free) and n_tried != max_tried and not budget.is_spent:
        message = f"{len(best.beams)} beams, {n_tried} exchanges tried, objective {best.objective:.5g}"
        report.step("exchange search", n_in_vain / len(free), message)
        removed = free.popleft()
        better = _without(problem, best, removed, budget)
        free.append(removed if better is None else better.beams[-1])
        n_tried, n_in_vain = n_tried + 1, 0 if better else n_in_vain + 1
        best = better or best
    report.step("exchange search", 1.0)
    return best


def beam_search(
    problem: SelectionProblem,
    n_beams: int,
    *,
    width: int,
    branching: int,
    given: Sequence[int] = (),
    budget_s: float,
    progress: Progress | None = None,
) -> BeamSelection:
    """Choose beams by keeping the best partial sets of each size.

    Every kept set is extended by each of its best-priced candidates. Column generation runs first, and its
    selection is returned unless the search, finished in time, finds a better one.

    Parameters
    ----------
    n_beams : in all, the given ones included
    width : partial sets kept of each size
    branching : candidates that extend a set
    given : candidates that every set begins with
    budget_s : for the search; column generation before it and pricing the steps of the found set come on top

    Raises
    ------
    ValueError
        If the problem is a batch, or width or branching are not positive.
    """
    check_single(problem)
    if min(width, branching) < 1:
        raise ValueError(f"Beam search: width and branching must be at least 1, got {width} and {branching}.")
    greedy = generate_columns(problem, n_beams, given=given, progress=progress)[0]
    report, budget = progress or Silent(), Budget(budget_s)
    kept, first = [solved(problem, tuple(given), {})], 0.0
    for size in range(len(given) + 1, n_beams + 1):
        extended: dict[frozenset[int], BeamSet] = {}
        for n, part in enumerate(kept):
            report.step("beam search", (size - 1 + n / len(kept)) / n_beams, f"{size} of {n_beams}, set {n + 1}")
            costs = problem.reduced_costs(part.multipliers)[0]
            first = first or float(costs.max())
            for candidate in best_priced(problem, costs, part.beams, first=first)[:branching]:
                members = frozenset((*part.beams, candidate))
                if members not in extended and not budget.is_spent:
                    extended[members] = solved(problem, (*part.beams, candidate), part.fluence)
        if not extended or budget.is_spent:
            break
        kept = sorted(extended.values(), key=lambda s: s.objective)[:width]
    found = greedy
    if is_lower(problem, kept[0].objective, greedy.objectives[-1]):
        found = _recorded(problem, kept[0], greedy, "beam search")
    report.step("beam search", 1.0)
    return replace(found, timing_s={**greedy.timing_s, "beam search": round(budget.spent_s, 3)})


def _without(problem: SelectionProblem, current: BeamSet, removed: int, budget: Budget) -> BeamSet | None:
    """A better set with another beam instead of one, that beam last, if one is found."""
    rest = solved(problem, tuple(b for b in current.beams if b != removed), current.fluence)
    costs = problem.reduced_costs(rest.multipliers)[0]
    others = [b for b in best_priced(problem, costs, rest.beams, first=0.0) if b != removed]
    for candidate in others[:_N_TRIED]:
        if budget.is_spent:
            break
        trial = solved(problem, (*rest.beams, candidate), rest.fluence)
        if is_lower(problem, trial.objective, current.objective):
            return trial
    return None


def _recorded(problem: SelectionProblem, found: BeamSet, before: BeamSelection, source: str) -> BeamSelection:
    """The found set as a selection, with the objective and fitness of each of its steps."""
    fitness, objectives = [], []
    for n in range(before.n_given, len(found.beams)):
        part = solved(problem, found.beams[:n], found.fluence)
        fitness.append(fitness_of(problem.reduced_costs(part.multipliers)[0]).astype(np.float32))
        objectives.append(part.objective)
    return replace(
        before,
        chosen=found.beams,
        fitness=np.stack(fitness),
        objectives=(*objectives, found.objective),
        source=source,
    )
