"""Solvers of the fluence map optimization problem."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize
from torch import Tensor

from deeprt.fluence.objectives import ConvexObjective
from deeprt.fluence.problem import FluenceProblem

SolverName = Literal["l-bfgs-b", "chambolle-pock"]
_CHECK_EVERY = 10  # iterations between two looks at the objective in Chambolle-Pock


@dataclass(frozen=True)
class SolverSettings:
    """How to solve.

    Parameters
    ----------
    solver : ``l-bfgs-b`` takes any objectives, one problem at a time; ``chambolle-pock`` convex ones, in batches
    max_iterations : upper bound
    tolerance : stop when the objective falls by less than this share of itself (in ten iterations for
        Chambolle-Pock, in one for L-BFGS-B)
    step_ratio : of Chambolle-Pock, dual over primal step; unitless, best between 1 and 10 on all problems measured
    """

    solver: SolverName = "l-bfgs-b"
    max_iterations: int = 500
    tolerance: float = 1e-5
    step_ratio: float = 2.0

    def __post_init__(self) -> None:
        if self.solver not in ("l-bfgs-b", "chambolle-pock"):
            raise ValueError(f"Solver '{self.solver}' is unknown; use 'l-bfgs-b' or 'chambolle-pock'.")
        if self.max_iterations < 1 or self.tolerance <= 0 or self.step_ratio <= 0:
            raise ValueError("Solver settings: max_iterations, tolerance and step_ratio must be positive.")


@dataclass(frozen=True, eq=False)
class Optimum:
    """What a solver found.

    Parameters
    ----------
    fluence_mu : (n_batch, n_beamlets), not negative
    objective : (n_batch,) float64
    history : objective over the iterations, summed over the batch
    converged : whether the tolerance was reached
    """

    fluence_mu: Tensor
    objective: Tensor
    history: tuple[float, ...]
    converged: bool


def solve(
    problem: FluenceProblem,
    start: Tensor,
    settings: SolverSettings = SolverSettings(),
    on_iteration: Callable[[int, float], None] = lambda iteration, objective: None,
) -> Optimum:
    """Minimize the problem from a start.

    Parameters
    ----------
    start : (n_batch, n_beamlets) MU, not negative
    on_iteration : told the iteration and the objective; may raise to cancel

    Raises
    ------
    ValueError
        If Chambolle-Pock meets an objective without a proximal map, or L-BFGS-B a batch.
    """
    method = _chambolle_pock if settings.solver == "chambolle-pock" else _lbfgsb
    return method(problem, start, settings, on_iteration)


def _lbfgsb(
    problem: FluenceProblem, start: Tensor, settings: SolverSettings, on_iteration: Callable[[int, float], None]
) -> Optimum:
    """Limited-memory BFGS with bounds: Byrd, Lu, Nocedal and Zhu, SIAM J. Sci. Comput. 16, 1190 (1995)."""
    if start.shape[0] != 1:
        raise ValueError("L-BFGS-B solves one problem at a time; use 'chambolle-pock' for a batch.")
    scale = float(start.mean()) or 1.0
    history: list[float] = []

    def value_and_gradient(scaled: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        x = torch.from_numpy((scaled * scale).astype(np.float32))[None].to(start.device)
        dose = problem.dose(x)
        gradient = problem.gradient(x, dose)[0].cpu().numpy().astype(np.float64)
        return float(problem.value(x, dose)[0]), gradient * scale

    def record(intermediate_result: object) -> None:
        history.append(float(intermediate_result.fun))  # type: ignore[attr-defined]
        on_iteration(len(history), history[-1])

    result = minimize_bounded(
        value_and_gradient,
        (start[0].cpu().numpy() / scale).astype(np.float64),
        bounds=[(0, None) if free else (0, 0) for free in _allowed(problem, start)[0].tolist()],
        max_iterations=settings.max_iterations,
        tolerance=settings.tolerance,
        callback=record,
    )
    best = torch.from_numpy((result.x * scale).astype(np.float32))[None].to(start.device)
    # Status 2: the line search met the limit of float32, which is as converged as it gets.
    converged = result.status in (0, 2)
    return Optimum(best, problem.value(best, problem.dose(best)), tuple(history), converged)


def minimize_bounded(
    value_and_gradient: Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]],
    start: NDArray[np.float64],
    *,
    bounds: Sequence[tuple[float, float | None]] | NDArray[np.float64],
    max_iterations: int,
    tolerance: float,
    callback: Callable[[object], None] | None = None,
) -> OptimizeResult:
    """SciPy's L-BFGS-B; it ends when an iteration lowers the value by less than a share of it.

    Parameters
    ----------
    tolerance : that share; of the first value where this is below 1, since SciPy's own is absolute there
    """
    first = value_and_gradient(start)

    def with_first_known(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        return first if np.array_equal(x, start) else value_and_gradient(x)

    return minimize(
        with_first_known,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        callback=callback,
        options={"maxiter": max_iterations, "ftol": tolerance * min(1.0, first[0]), "gtol": 0.0, "maxcor": 20},
    )


def _chambolle_pock(
    problem: FluenceProblem, start: Tensor, settings: SolverSettings, on_iteration: Callable[[int, float], None]
) -> Optimum:
    """First-order primal-dual algorithm with diagonal preconditioning.

    Solves ``min_x Σ_t F_t(K_t x) + h(x) + indicator(x ≥ 0)`` with K_t the rows of K = n_fractions · D in term t's
    structure and h the roughness; a dual block per term makes overlapping structures exact:

        z_t ← prox_{σ F_t*}(z_t + σ K_t x̄),  x' ← max(0, x − τ (∇h(x) + Σ_t K_tᵀ z_t)),  x̄ ← 2 x' − x

    A. Chambolle and T. Pock, J. Math. Imaging Vis. 40, 120 (2011), doi:10.1007/s10851-010-0251-1; steps after
    T. Pock and A. Chambolle, ICCV (2011), doi:10.1109/ICCV.2011.6126441, see `_step_sizes`. The dual proximal map
    follows from Moreau's identity ``prox_{σF*}(v) = v − σ prox_{F/σ}(v/σ)``. The smooth h enters by its gradient,
    which half its curvature in 1/τ pays for (L. Condat, J. Optim. Theory Appl. 158, 460, 2013,
    doi:10.1007/s10957-012-0245-9).
    """
    terms = [(t, t.objective) for t in problem.terms]
    for t, objective in terms:
        if not isinstance(objective, ConvexObjective):
            raise ValueError(f"'{type(objective).__name__}' of {t.structure} is not convex; use the solver 'l-bfgs-b'.")
    convex = [(t, o) for t, o in terms if isinstance(o, ConvexObjective)]
    sigma, tau = _step_sizes(problem, start, settings.step_ratio)
    rough = problem.roughness
    if rough is not None:
        tau = 1 / (1 / tau + rough.curvature(start.shape[1]) / 2)

    allowed = _allowed(problem, start)
    x = start * allowed
    x_bar = x
    z = [torch.zeros(start.shape[0], t.index.numel(), device=start.device) for t in problem.terms]
    history: list[float] = []
    converged = False
    for iteration in range(1, settings.max_iterations + 1):
        dose = problem.dose(x_bar)
        pull = torch.zeros_like(dose)
        for n, (t, objective) in enumerate(convex):
            s = sigma[n]
            v = z[n] / s + dose[:, t.index]
            z[n] = s * (v - objective.prox(v, t.measure, t.weight / s))
            pull.index_add_(1, t.index, z[n])
        slope = problem.n_fractions * problem.operator.adjoint(pull)
        if rough is not None:
            slope = slope + rough.gradient(x)
        x_new = (x - tau * slope).clamp(min=0) * allowed
        x, x_bar = x_new, 2 * x_new - x
        if iteration % _CHECK_EVERY == 0:
            history.append(float(problem.value(x, problem.dose(x)).sum()))
            on_iteration(iteration, history[-1])
            if len(history) > 1 and abs(history[-2] - history[-1]) <= settings.tolerance * abs(history[-1]):
                converged = True
                break
    return Optimum(x, problem.value(x, problem.dose(x)), tuple(history), converged)


def _allowed(problem: FluenceProblem, start: Tensor) -> Tensor:
    return torch.ones_like(start, dtype=torch.bool) if problem.allowed is None else problem.allowed


def _step_sizes(problem: FluenceProblem, start: Tensor, step_ratio: float) -> tuple[list[Tensor], Tensor]:
    """Dual steps of each term, (n_batch, n), and primal steps, (n_batch, n_beamlets).

    ``σ_ti = ρ_t / Σ_j K_ij`` and ``τ_j = 1 / Σ_t ρ_t Σ_{i in t} K_ij``: the diagonal preconditioning of Pock and
    Chambolle with α = 1, the rows of each term scaled by ρ_t first, which keeps its condition for convergence.
    ``ρ_t`` is the step ratio times what the term's multipliers change by at a deviation of 1 Gy over the size of the
    fluence. So the step ratio is unitless, and terms of very unequal weight or size converge alike.
    """
    row_sum = problem.dose(torch.ones_like(start[:1]))
    # A voxel that no beamlet reaches, or a beamlet that reaches no voxel, must not divide by zero.
    row_sum = row_sum.clamp(min=1e-6 * float(row_sum.max()))
    scaled_rows = torch.zeros(start.shape[0], row_sum.shape[1], device=start.device)
    # Nor must a problem of the batch without any fluence, or one in which a term does not count.
    fluence = start.mean(1, keepdim=True)
    fluence = torch.where(fluence > 0, fluence, 1.0)
    sigma = []
    for t in problem.terms:
        weight = t.weight.clamp(min=1e-6 * (float(t.weight.max()) or 1.0))
        rho = step_ratio * weight * t.measure.mean() / fluence
        sigma.append(rho / row_sum[:, t.index])
        scaled_rows.index_add_(1, t.index, rho.expand(-1, t.index.numel()).contiguous())
    column_sum = problem.n_fractions * problem.operator.adjoint(scaled_rows)
    return sigma, 1 / column_sum.clamp(min=1e-6 * float(column_sum.max()))
