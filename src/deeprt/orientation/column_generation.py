"""Column generation: choose beams one by one by the exact reduced cost of every candidate.

A. Sadeghnejad Barkousaraie, O. Ogunmolu, S. Jiang and D. Nguyen, Med. Phys. 47, 880 (2020), sections II.B and II.C.
The problem P(B) is solved for the beams B so far; its multipliers ``z = ∂F(y)`` price every candidate b:

    v_b = D_bᵀ z,   r_b = Σ_i max(0, −v_b,i),   fitness = (r − min r) / (max r − min r),   next beam = argmax.

Where the paper's algorithm 2 and its equations 9 and 10 differ in sign, the equations hold. Fitness is kept for all
candidates; chosen, excluded and too close ones are masked at the choice only. Several weightings of one patient are
solved together as a batch, each with beams of its own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeprt.beams import BeamAngles, BeamSelection
from deeprt.dose.influence import DoseInfluence
from deeprt.fluence.problem import FluenceProblem, Term
from deeprt.fluence.solvers import SolverSettings, solve
from deeprt.orientation.candidates import separations_deg
from deeprt.orientation.pool import CandidatePool
from deeprt.progress import Progress, Silent

_NO_GAIN = 1e-6  # a reduced cost below this share of the first step's largest counts as none


@dataclass(frozen=True, eq=False)
class SelectionProblem:
    """Candidates, their influences and the objectives they are chosen for.

    Parameters
    ----------
    candidates : angles, in the pool's order
    pool : their dose influences
    terms : objectives on the pool's voxels, with one weight per problem of the batch
    n_fractions : of the course
    start_mu : fluence that a new beam's beamlets start from
    selectable : (n_candidates,) bool; others have a fitness but are never chosen
    min_separation_deg : between central axes of chosen beams
    solver : of P(B)
    """

    candidates: tuple[BeamAngles, ...]
    pool: CandidatePool
    terms: tuple[Term, ...]
    n_fractions: int
    start_mu: float
    selectable: NDArray[np.bool_]
    min_separation_deg: float = 0.0
    solver: SolverSettings = field(default_factory=SolverSettings)

    @property
    def n_batch(self) -> int:
        """Number of weightings solved together."""
        return self.terms[0].weight.shape[0]

    def only(self, number: int) -> SelectionProblem:
        """One problem of the batch, by itself."""
        terms = tuple(replace(t, weight=t.weight[number : number + 1]) for t in self.terms)
        return replace(self, terms=terms)

    def limited(self, beams: Sequence[int], chosen: Sequence[Sequence[int]]) -> FluenceProblem:
        """P(B) over the union ``beams``, where each problem of the batch may use its own ``chosen`` ones only."""
        operator = DoseInfluence(tuple(self.pool[b] for b in beams), self.pool.voxels, self.pool.grid_shape)
        sizes = [b.beam.n_open for b in operator.beams]
        allowed = np.stack([np.repeat([b in own for b in beams], sizes) for own in chosen])
        return FluenceProblem(
            operator, self.terms, self.n_fractions, allowed=torch.from_numpy(allowed).to(operator.device)
        )

    def reduced_costs(self, multipliers: Tensor) -> NDArray[np.float64]:
        """R of every candidate for z, (n_batch, n_voxels) -> (n_batch, n_candidates)."""
        costs = []
        for candidate in range(len(self.candidates)):
            v = self.n_fractions * self.pool[candidate].adjoint(multipliers)
            costs.append((-v).clamp(min=0).sum(1, dtype=torch.float64))
        return np.asarray(torch.stack(costs, dim=1).cpu().numpy())


def fitness_of(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Reduced costs brought to 0 to 1 along the last axis (equation 9); zero where all are equal."""
    low, high = costs.min(axis=-1, keepdims=True), costs.max(axis=-1, keepdims=True)
    return np.asarray((costs - low) / np.where(high > low, high - low, 1.0))


def generate_columns(
    problem: SelectionProblem,
    n_beams: int,
    *,
    given: Sequence[int] = (),
    progress: Progress | None = None,
) -> tuple[BeamSelection, ...]:
    """Choose beams for every weighting of the batch.

    Parameters
    ----------
    n_beams : in all, the given ones included
    given : candidates that every selection begins with

    Returns
    -------
    One selection a weighting; shorter than ``n_beams`` where no further beam improves the objective
    """
    report, start, set_up_before_s = progress or Silent(), time.perf_counter(), problem.pool.set_up_s
    chosen = [list(given) for _ in range(problem.n_batch)]
    fluence: dict[int, Tensor] = {}
    fitness: list[NDArray[np.float32]] = []
    objectives: list[NDArray[np.float64]] = []
    first_cost, optimization_s = np.zeros(problem.n_batch), 0.0
    while True:
        begun, set_up_s = time.perf_counter(), problem.pool.set_up_s
        multipliers, objective = solve_limited(problem, chosen, fluence)
        optimization_s += time.perf_counter() - begun - (problem.pool.set_up_s - set_up_s)
        objectives.append(objective)
        n_chosen = max(len(c) for c in chosen)
        report.step("beams", min(1.0, n_chosen / n_beams), f"{n_chosen} of {n_beams}, objective {objective[0]:.5g}")
        if n_chosen >= n_beams:
            break
        costs = problem.reduced_costs(multipliers)
        if not fitness:
            first_cost = costs.max(axis=1)
        best = [best_priced(problem, c, own, first=f) for c, own, f in zip(costs, chosen, first_cost, strict=True)]
        # A problem that once met no gain stays as it is, whatever rounding makes of its costs later.
        going_on = [bool(b) and len(own) == n_chosen for b, own in zip(best, chosen, strict=True)]
        if not any(going_on):
            break
        fitness.append(fitness_of(costs).astype(np.float32))
        for own, candidates, goes_on in zip(chosen, best, going_on, strict=True):
            if goes_on:
                own.append(candidates[0])
    set_up_s = problem.pool.set_up_s - set_up_before_s
    pricing_s = time.perf_counter() - start - optimization_s - set_up_s
    timing = {"set-up": round(set_up_s, 3), "pricing": round(pricing_s, 3), "optimization": round(optimization_s, 3)}
    stacked = np.stack(fitness) if fitness else np.zeros((0, problem.n_batch, len(problem.candidates)), np.float32)
    return tuple(
        _selection(problem, own, stacked[:, n], [float(o[n]) for o in objectives], len(given), timing)
        for n, own in enumerate(chosen)
    )


def _selection(
    problem: SelectionProblem,
    chosen: Sequence[int],
    fitness: NDArray[np.float32],
    objectives: Sequence[float],
    n_given: int,
    timing_s: Mapping[str, float],
) -> BeamSelection:
    """What is reported of one problem of the batch, up to its own last choice."""
    n_steps = len(chosen) - n_given
    return BeamSelection(
        candidates=problem.candidates,
        chosen=tuple(chosen),
        fitness=fitness[:n_steps],
        objectives=tuple(objectives[: n_steps + 1]),
        n_given=n_given,
        source="column generation",
        timing_s=timing_s,
    )


def solve_limited(
    problem: SelectionProblem, chosen: Sequence[Sequence[int]], fluence: dict[int, Tensor]
) -> tuple[Tensor, NDArray[np.float64]]:
    """Solve P(B) for the beams of every weighting.

    Parameters
    ----------
    chosen : candidates in B, one sequence a problem of the batch
    fluence : by candidate, (n_batch, n_open) MU, from which the solver starts; brought up to date here

    Returns
    -------
    multipliers : z, (n_batch, n_voxels)
    objective : F, (n_batch,)
    """
    beams = sorted(set().union(*chosen)) or [0]  # without any beam, one that no problem may use
    limited = problem.limited(beams, chosen)
    sizes = [problem.pool.beams[b].n_open for b in beams]
    first = 0.0 if fluence else problem.start_mu  # a later beam starts from none: the dose is nearly right without it
    new = torch.full((problem.n_batch, max(sizes)), first, device=limited.operator.device)
    x = torch.cat([fluence.get(b, new[:, :n]) for b, n in zip(beams, sizes, strict=True)], dim=1)
    if any(chosen):
        x = solve(limited, x, problem.solver).fluence_mu
        fluence |= dict(zip(beams, torch.split(x, sizes, dim=1), strict=True))
    else:
        x = torch.zeros_like(x)
    dose = limited.dose(x)
    return limited.dose_gradient(dose), np.asarray(limited.value(x, dose).cpu().numpy())


def best_priced(
    problem: SelectionProblem, costs: NDArray[np.float64], chosen: Sequence[int], *, first: float
) -> list[int]:
    """Candidates that may still be chosen and improve the objective, the largest reduced cost first.

    Parameters
    ----------
    costs : (n_candidates,) reduced costs, with ``chosen`` as B
    first : largest reduced cost without any chosen beam, against which the gain is judged
    """
    open_ = problem.selectable & (costs > _NO_GAIN * first)
    for c in chosen:
        open_[c] = False
        if problem.min_separation_deg > 0:
            open_ &= separations_deg(problem.candidates, problem.candidates[c]) >= problem.min_separation_deg - 1e-6
    return [int(b) for b in np.argsort(-costs, kind="stable") if open_[b]]
