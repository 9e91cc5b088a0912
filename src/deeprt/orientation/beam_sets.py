"""Beam sets whose P(B) is solved, and what searches over them share."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from deeprt.orientation.column_generation import SelectionProblem, solve_limited


@dataclass(frozen=True, eq=False)
class BeamSet:
    """Candidates in the order of choice and the solution of P(B) for them.

    Parameters
    ----------
    fluence : by candidate, (1, n_open) MU
    multipliers : z, (1, n_voxels)
    """

    beams: tuple[int, ...]
    fluence: Mapping[int, Tensor]
    multipliers: Tensor
    objective: float


class Budget:
    """Time since the start against the time that may be spent."""

    def __init__(self, budget_s: float) -> None:
        self._start, self._budget_s = time.perf_counter(), budget_s

    @property
    def spent_s(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    @property
    def left_s(self) -> float:
        """Seconds that may still be spent; negative beyond the budget."""
        return self._budget_s - self.spent_s

    @property
    def share(self) -> float:
        """Part of the budget that is spent, 0 to 1."""
        return min(1.0, self.spent_s / self._budget_s) if self._budget_s > 0 else 1.0

    @property
    def is_spent(self) -> bool:
        """Whether no time is left."""
        return self.left_s <= 0


def solved(problem: SelectionProblem, beams: tuple[int, ...], start: Mapping[int, Tensor]) -> BeamSet:
    """Solve P(B), from the fluence of other beams where they are the same."""
    fluence = {b: start[b] for b in beams if b in start}
    multipliers, objective = solve_limited(problem, [beams], fluence)
    return BeamSet(beams, fluence, multipliers, float(objective[0]))


def is_lower(problem: SelectionProblem, objective: float, than: float) -> bool:
    """Whether an objective is lower by more than two solutions of one problem may differ."""
    return objective < than - problem.solver.tolerance * abs(than)


def check_single(problem: SelectionProblem) -> None:
    """Refuse a batch of weightings.

    Raises
    ------
    ValueError
        If the problem has more than one.
    """
    if problem.n_batch != 1:
        raise ValueError(f"Beam sets are searched for one weighting at a time, the problem has {problem.n_batch}.")
