"""The fluence step: optimize it, or let a network predict it from a wished dose; then normalize it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from deeprt.case import PatientCase
from deeprt.config import PlanningConfig, Protocol
from deeprt.dose.influence import DoseInfluence
from deeprt.errors import InputError
from deeprt.fluence.dose_prediction import wished_dose
from deeprt.fluence.mimicking import mimicking_problem
from deeprt.fluence.predict import predict_fluence
from deeprt.fluence.problem import FluenceProblem, Roughness, sample_voxels
from deeprt.fluence.solution import FluenceSolution
from deeprt.fluence.solvers import SolverSettings, solve
from deeprt.fluence.specification import make_terms
from deeprt.preparation import PlanningTask
from deeprt.progress import Progress, Silent
from deeprt.structures import Role


@dataclass(frozen=True, eq=False)
class FoundFluence:
    """Fluence, and what it was found for.

    Parameters
    ----------
    solution : normalized
    problem : that segments are fitted to
    wished_gy : dose it was predicted from, or the one that was given; None without one
    """

    solution: FluenceSolution
    problem: FluenceProblem
    wished_gy: NDArray[np.float32] | None = None


def find_fluence(
    task: PlanningTask,
    influence: DoseInfluence,
    wished_gy: NDArray[np.float32] | None,
    progress: Progress | None = None,
) -> FoundFluence:
    """Optimize the fluence of all beams, or let a network predict it from a wished dose."""
    case, settings = task.case, task.config.fluence
    problem = fluence_problem(case, influence, task.protocol, task.config)
    if settings.method == "optimize":
        solution = optimize_fluence(case, influence, problem, settings.solver, progress)
        return FoundFluence(normalized_fluence(task, solution, wished_gy), problem, wished_gy)
    notes: tuple[str, ...] = ()
    if wished_gy is None and settings.wished == "given":
        raise InputError(
            "The configuration says that a wished dose is given; name it with deeprt fluence --dose, or let it be "
            "made: wished = 'optimize' or 'predict'."
        )
    if wished_gy is None and settings.wished == "predict":
        dose_network = None if settings.dose_network is None else Path(settings.dose_network)
        wished_gy, notes = wished_dose(case, [b.beam for b in influence.beams], task.machine, dose_network)
    elif wished_gy is None:
        wished_gy = optimize_fluence(case, influence, problem, settings.quick, progress).dose_gy
        notes = ("The wished dose, from which fluence was predicted, comes from a quick optimization.",)
    network = None if settings.network is None else Path(settings.network)
    solution = predict_fluence(
        case, influence, task.machine, wished_gy,
        network=network, n_refinements=settings.n_refinements, progress=progress,
    )  # fmt: skip
    solution = normalized_fluence(task, replace(solution, notes=(*notes, *solution.notes)), wished_gy)
    return FoundFluence(solution, _fitted_to(task, problem, wished_gy), wished_gy)


def known_fluence(
    task: PlanningTask, influence: DoseInfluence, solution: FluenceSolution, wished_gy: NDArray[np.float32] | None
) -> FoundFluence:
    """Fluence of `find_fluence`, or an edited one, as it was found; the problem follows from the task."""
    problem = fluence_problem(task.case, influence, task.protocol, task.config)
    return FoundFluence(solution, _fitted_to(task, problem, wished_gy), wished_gy)


def _fitted_to(task: PlanningTask, problem: FluenceProblem, wished_gy: NDArray[np.float32] | None) -> FluenceProblem:
    """Problem that segments are fitted to: a wished dose that fluence was predicted from, else the objectives."""
    if task.config.fluence.method == "optimize" or wished_gy is None:
        return problem
    return mimicking_problem(problem.operator, wished_gy, task.case.n_fractions)


def fluence_problem(
    case: PatientCase, influence: DoseInfluence, protocol: Protocol, config: PlanningConfig
) -> FluenceProblem:
    """Bind the objectives to the case on all voxels of its structures and a sample of the rest."""
    whole = [s for s in case.structures if s.role in (Role.TARGET, Role.ORGAN_AT_RISK, Role.TUNING)]
    rng = np.random.default_rng(config.seed)
    sample = sample_voxels(case, whole, background_share=config.fluence.background_share, rng=rng)
    # Voxels outside the external structure get no dose and have no row in the influence.
    inside = np.isin(sample.voxels, influence.voxels, assume_unique=True)
    sample = replace(sample, voxels=sample.voxels[inside], weight=sample.weight[inside])
    terms = make_terms(case, config.objectives or protocol.objectives, sample, influence.device)
    problem = FluenceProblem(influence.restricted(sample.voxels), terms, case.n_fractions)
    mean_mu = float(uniform_start(case, problem).mean())
    first, second = influence.neighbors()
    weight = config.fluence.smoothness / (first.numel() * mean_mu**2)
    return replace(problem, roughness=Roughness(first, second, weight))


def uniform_start(case: PatientCase, problem: FluenceProblem) -> Tensor:
    """Equal fluence that gives the target of highest prescription its dose in the mean, (1, n_beamlets)."""
    return problem.uniform_start(case.targets[0].prescription_gy or 0.0, case.targets[0])


def optimize_fluence(
    case: PatientCase,
    influence: DoseInfluence,
    problem: FluenceProblem,
    settings: SolverSettings,
    progress: Progress | None = None,
) -> FluenceSolution:
    """Optimize the fluence of all beams.

    Parameters
    ----------
    influence : on every voxel whose dose is wanted
    problem : on some of these voxels, of the same beams
    """
    report = progress or Silent()

    def on_iteration(iteration: int, objective: float) -> None:
        report.step("fluence", iteration / settings.max_iterations, f"objective {objective:.4g}")

    optimum = solve(problem, uniform_start(case, problem), settings, on_iteration)
    dose = case.n_fractions * influence.dose(optimum.fluence_mu)[0]
    return FluenceSolution(
        fluence_mu=influence.to_maps(optimum.fluence_mu[0]),
        dose_gy=influence.to_volume(dose),
        objective=float(optimum.objective[0]),
        history=optimum.history,
        converged=optimum.converged,
        source=settings.solver,
    )


def normalized_fluence(
    task: PlanningTask, solution: FluenceSolution, wished_gy: NDArray[np.float32] | None
) -> FluenceSolution:
    """Scale fluence as its dose asks for."""
    return scaled_fluence(solution, task.factor(solution.dose_gy, wished_gy))


def scaled_fluence(solution: FluenceSolution, factor: float) -> FluenceSolution:
    """Scale fluence and its dose."""
    return replace(
        solution,
        fluence_mu=tuple(m * factor for m in solution.fluence_mu),
        dose_gy=(solution.dose_gy * factor).astype(np.float32),
    )
