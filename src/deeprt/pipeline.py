"""The whole flow: case, beams, dose influence, fluence, segments, dose, evaluation. Read it top to bottom."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeprt.beams import Beam, BeamAngles, BeamSelection, place_beams
from deeprt.case import PatientCase, with_tuning_structures
from deeprt.config import DEFAULT_MACHINE, PlanningConfig, Protocol
from deeprt.delivery.dose_of_plan import dose_of_plan, with_segment_mu
from deeprt.delivery.segments import DeliverablePlan
from deeprt.delivery.sequencing import SequencingSettings
from deeprt.delivery.sliding_window import sequence_sliding_window
from deeprt.delivery.step_and_shoot import sequence
from deeprt.delivery.violations import violations
from deeprt.dose.influence import DoseInfluence, dose_influence
from deeprt.errors import InputError
from deeprt.evaluation.evaluate import PlanReport, evaluate
from deeprt.fluence.dose_prediction import wished_dose
from deeprt.fluence.mimicking import mimicking_problem
from deeprt.fluence.predict import predict_fluence
from deeprt.fluence.problem import FluenceProblem, Roughness, sample_voxels
from deeprt.fluence.solution import FluenceSolution
from deeprt.fluence.solvers import SolverSettings, solve
from deeprt.fluence.specification import make_terms
from deeprt.machine import Machine
from deeprt.machine_file import read_machine
from deeprt.orientation.selection import select_beams
from deeprt.preparation import with_prescriptions
from deeprt.progress import Progress, Silent, TimedSteps
from deeprt.segment_optimization import optimize_segments, with_enough_mu
from deeprt.structures import Role


@dataclass(frozen=True, eq=False)
class PlanResult:
    """Everything planning made, in the order it was made.

    Parameters
    ----------
    config, protocol : what was asked for
    case : with prescriptions, fractions and tuning structures
    selection : beams and, where they were chosen by it, the fitness of all candidates
    solution : ideal fluence and its dose
    plan : deliverable segments
    dose_gy : (n_k, n_j, n_i) float32, whole course, of the segments
    report, ideal_report : evaluation of the dose of the segments, and of the ideal fluence
    timing_s : seconds by step
    peak_memory_mb : of the process so far
    notes : what was assumed, one sentence each
    wished_gy : (n_k, n_j, n_i) whole course, the dose that fluence was predicted from; None where it was optimized
    """

    config: PlanningConfig
    protocol: Protocol
    case: PatientCase
    selection: BeamSelection
    solution: FluenceSolution
    plan: DeliverablePlan
    dose_gy: NDArray[np.float32]
    report: PlanReport
    ideal_report: PlanReport
    timing_s: dict[str, float]
    peak_memory_mb: float
    notes: tuple[str, ...]
    wished_gy: NDArray[np.float32] | None = None


def plan_case(
    case: PatientCase,
    config: PlanningConfig,
    progress: Progress | None = None,
    *,
    wished_gy: NDArray[np.float32] | None = None,
) -> PlanResult:
    """Plan a case: choose beams, find fluence, sequence it, compute and evaluate the dose of the segments.

    Parameters
    ----------
    wished_gy : (n_k, n_j, n_i) whole course, on the case's grid, from which a network predicts fluence; made as the
        configuration says if None. It is not used where fluence is optimized

    Raises
    ------
    InputError
        If the case or the configuration does not allow a plan; the message says why.
    """
    steps = TimedSteps(progress or Silent())
    machine = read_machine(config.machine or DEFAULT_MACHINE)
    device = torch_device(config.device)
    protocol, case, notes = with_prescriptions(case, config)
    case = with_tuning_structures(case)
    normalization = config.normalization or protocol.normalization

    with steps.timed("beams"):
        selection = choose_beams(case, machine, config, device, steps.progress)
        beams = _placed(case, selection, machine, config)
    with steps.timed("dose influence"):
        influence = dose_influence(case, beams, machine, device=device, progress=steps.progress)
    with steps.timed("fluence"):
        found = find_fluence(case, influence, machine, protocol, config, wished_gy, steps.progress)
        factor = partial(normalization.factor, case, wished_gy=found.wished_gy)
        solution = _scaled(found.solution, factor(found.solution.dose_gy))
    with steps.timed("segments"):
        plan = _sequenced(case, beams, solution, machine, config.sequencing)
        if config.sequencing.technique == "step-and-shoot":
            n_iterations = config.sequencing.n_dose_iterations
            plan = optimize_segments(plan, influence, found.problem, n_iterations=n_iterations, progress=steps.progress)
        else:  # Fewer monitor units alone would need faster leaves: scale the fluence by the dose it gives.
            delivered = _scaled(solution, factor(dose_of_plan(plan, influence)))
            plan = _sequenced(case, beams, delivered, machine, config.sequencing)
    with steps.timed("dose"):
        plan, dose_gy = _normalized(plan, influence, factor)
    with steps.timed("evaluation"):
        goals = config.goals or protocol.goals
        report = evaluate(case, dose_gy, goals)
        ideal_report = evaluate(case, solution.dose_gy, goals)

    if problems := violations(plan):
        raise InputError(f"The plan cannot be delivered by {machine.name}: {problems[0]}")
    return PlanResult(
        config, protocol, case, selection, solution, plan, dose_gy, report, ideal_report,
        steps.timing_s, peak_memory_mb(), case.notes + notes + selection.notes + found.notes,
        found.wished_gy,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class FoundFluence:
    """Fluence, and what it was found for.

    Parameters
    ----------
    problem : that it solves, and that monitor units of segments are fitted to
    wished_gy : dose it was predicted from, None where it was optimized
    notes : what was assumed, one sentence each
    """

    problem: FluenceProblem
    solution: FluenceSolution
    wished_gy: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()


def find_fluence(
    case: PatientCase,
    influence: DoseInfluence,
    machine: Machine,
    protocol: Protocol,
    config: PlanningConfig,
    wished_gy: NDArray[np.float32] | None,
    progress: Progress | None = None,
) -> FoundFluence:
    """Optimize the fluence of all beams, or let a network predict it from a wished dose."""
    settings, problem = config.fluence, fluence_problem(case, influence, protocol, config)
    if settings.method == "optimize":
        return FoundFluence(problem, optimize_fluence(case, influence, problem, settings.solver, progress))
    beams = [b.beam for b in influence.beams]
    notes: tuple[str, ...] = ()
    if wished_gy is None and settings.wished == "given":
        raise InputError(
            "The configuration says that a wished dose is given; name it with deeprt fluence --dose, or let it be "
            "made: wished = 'optimize' or 'predict'."
        )
    if wished_gy is None and settings.wished == "predict":
        dose_network = None if settings.dose_network is None else Path(settings.dose_network)
        wished_gy, notes = wished_dose(case, beams, machine, dose_network)
    elif wished_gy is None:
        wished_gy = optimize_fluence(case, influence, problem, settings.quick, progress).dose_gy
        notes = ("The wished dose, from which fluence was predicted, comes from a quick optimization.",)
    network = None if settings.network is None else Path(settings.network)
    solution = predict_fluence(
        case, influence, machine, wished_gy,
        network=network, n_refinements=settings.n_refinements, progress=progress,
    )  # fmt: skip
    mimicking = mimicking_problem(problem.operator, wished_gy, case.n_fractions)
    return FoundFluence(mimicking, solution, wished_gy, (*notes, *solution.notes))


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


def _normalized(
    plan: DeliverablePlan, influence: DoseInfluence, factor: Callable[[NDArray[np.float32]], float]
) -> tuple[DeliverablePlan, NDArray[np.float32]]:
    """Scale a plan as its dose asks for; segments that this leaves with too few monitor units are left out."""
    while True:
        dose_gy = dose_of_plan(plan, influence)
        scaled, scaled_gy = normalize(plan, dose_gy, factor(dose_gy))
        plan = with_enough_mu(scaled)
        if len(plan.segments) == len(scaled.segments):
            return scaled, scaled_gy


def normalize(
    plan: DeliverablePlan, dose_gy: NDArray[np.float32], factor: float
) -> tuple[DeliverablePlan, NDArray[np.float32]]:
    """Scale monitor units and dose."""
    mu = [s.mu * factor for s in plan.segments]
    return with_segment_mu(plan, mu), (dose_gy * factor).astype(np.float32)


def _scaled(solution: FluenceSolution, factor: float) -> FluenceSolution:
    return replace(
        solution,
        fluence_mu=tuple(m * factor for m in solution.fluence_mu),
        dose_gy=(solution.dose_gy * factor).astype(np.float32),
    )


def choose_beams(
    case: PatientCase, machine: Machine, config: PlanningConfig, device: str, progress: Progress | None = None
) -> BeamSelection:
    """Take the angles of the configuration, or choose them."""
    b = config.beams
    if b.gantry_deg:
        couch = b.couch_deg or (0.0,) * len(b.gantry_deg)
        angles = tuple(BeamAngles(g, c) for g, c in zip(b.gantry_deg, couch, strict=True))
        return BeamSelection(
            angles, tuple(range(len(angles))), np.zeros((0, len(angles)), np.float32), (), 0, "user", {}
        )
    return select_beams(
        case,
        machine,
        b.select,
        b.n_beams,
        config.selection,
        given=tuple(BeamAngles(g) for g in b.start_gantry_deg),
        first_gantry_deg=b.first_gantry_deg,
        device=device,
        seed=config.seed,
        progress=progress,
    )


def _placed(case: PatientCase, selection: BeamSelection, machine: Machine, config: PlanningConfig) -> tuple[Beam, ...]:
    fluence = config.fluence
    angles = [replace(a, collimator_deg=config.beams.collimator_deg) for a in selection.angles]
    return place_beams(case, angles, machine, beamlet_width_mm=fluence.beamlet_width_mm, margin_mm=fluence.margin_mm)


def _sequenced(
    case: PatientCase,
    beams: Sequence[Beam],
    solution: FluenceSolution,
    machine: Machine,
    settings: SequencingSettings,
) -> DeliverablePlan:
    sequencer = sequence if settings.technique == "step-and-shoot" else sequence_sliding_window
    try:
        return sequencer(beams, solution.fluence_mu, machine, n_fractions=case.n_fractions, settings=settings)
    except ValueError as error:  # fluence that these settings and this machine cannot deliver
        raise InputError(str(error)) from error


def torch_device(name: str) -> str:
    """Device that a setting means: auto is CUDA where there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("No CUDA device is available; use --device cpu.")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def peak_memory_mb() -> float:
    """Peak resident memory of this process so far, MB."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 1e6
    import resource  # which Windows lacks

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3  # macOS counts bytes, Linux kilobytes
