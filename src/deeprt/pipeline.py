"""The whole flow: case, beams, dose influence, fluence, segments, dose, evaluation. Read it top to bottom."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from deeprt.beams import Beam, BeamAngles, BeamSelection, place_beams
from deeprt.case import PatientCase
from deeprt.config import BeamSettings, PlanningConfig, Protocol
from deeprt.delivery.dose_of_plan import dose_of_plan, with_segment_mu
from deeprt.delivery.segments import DeliverablePlan
from deeprt.delivery.sliding_window import sequence_sliding_window
from deeprt.delivery.step_and_shoot import sequence
from deeprt.delivery.violations import violations
from deeprt.dose.influence import DoseInfluence, dose_influence
from deeprt.errors import InputError
from deeprt.evaluation.evaluate import PlanReport, evaluate
from deeprt.fluence.solution import FluenceSolution
from deeprt.fluence_finding import FoundFluence, find_fluence, scaled_fluence
from deeprt.machine import Machine
from deeprt.orientation.selection import improve_beams, select_beams
from deeprt.preparation import PlanningTask, prepared
from deeprt.progress import Progress, Silent, TimedSteps
from deeprt.segment_optimization import optimize_segments, with_enough_mu


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
    wished_gy : (n_k, n_j, n_i) whole course, the dose that fluence was predicted from, or the one that was given
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
        configuration says if None. Where fluence is optimized, its mean may be kept, and no more

    Raises
    ------
    InputError
        If the case or the configuration does not allow a plan; the message says why.
    """
    steps = TimedSteps(progress or Silent())
    device = torch_device(config.device)
    task = prepared(case, config)

    with steps.timed("beams"):
        selection = choose_beams(task.case, task.machine, config, device, steps.progress)
        beams = placed_beams(task, selection.angles)
    with steps.timed("dose influence"):
        influence = dose_influence(task.case, beams, task.machine, device=device, progress=steps.progress)
    with steps.timed("fluence"):
        found = find_fluence(task, influence, wished_gy, steps.progress)
    with steps.timed("segments"):
        plan = find_segments(task, influence, found, steps.progress)
    with steps.timed("dose"):
        plan, dose_gy = normalized_plan(task, influence, plan, found.wished_gy)
    with steps.timed("evaluation"):
        return evaluated(task, selection, found.solution, plan, dose_gy, found.wished_gy, steps.timing_s)


def find_segments(
    task: PlanningTask, influence: DoseInfluence, found: FoundFluence, progress: Progress | None = None
) -> DeliverablePlan:
    """Sequence fluence; the segments are then fitted to the dose, or the fluence is scaled by the dose they give."""
    settings = task.config.sequencing
    plan = _sequenced(task, influence, found.solution)
    if settings.technique == "step-and-shoot":
        n_iterations = settings.n_dose_iterations
        return optimize_segments(plan, influence, found.problem, n_iterations=n_iterations, progress=progress)
    # Fewer monitor units alone would need faster leaves: scale the fluence by the dose it gives.
    factor = task.factor(dose_of_plan(plan, influence), found.wished_gy)
    return _sequenced(task, influence, scaled_fluence(found.solution, factor))


def _sequenced(task: PlanningTask, influence: DoseInfluence, solution: FluenceSolution) -> DeliverablePlan:
    settings, beams = task.config.sequencing, [b.beam for b in influence.beams]
    sequencer = sequence if settings.technique == "step-and-shoot" else sequence_sliding_window
    try:
        return sequencer(beams, solution.fluence_mu, task.machine, n_fractions=task.case.n_fractions, settings=settings)
    except ValueError as error:  # fluence that these settings and this machine cannot deliver
        raise InputError(str(error)) from error


def normalized_plan(
    task: PlanningTask, influence: DoseInfluence, plan: DeliverablePlan, wished_gy: NDArray[np.float32] | None
) -> tuple[DeliverablePlan, NDArray[np.float32]]:
    """Scale a plan as its dose asks for; segments that this leaves with too few monitor units are left out."""
    while True:
        dose_gy = dose_of_plan(plan, influence)
        scaled, scaled_gy = normalize(plan, dose_gy, task.factor(dose_gy, wished_gy))
        plan = with_enough_mu(scaled)
        if len(plan.segments) == len(scaled.segments):
            return scaled, scaled_gy


def normalize(
    plan: DeliverablePlan, dose_gy: NDArray[np.float32], factor: float
) -> tuple[DeliverablePlan, NDArray[np.float32]]:
    """Scale monitor units and dose."""
    mu = [s.mu * factor for s in plan.segments]
    return with_segment_mu(plan, mu), (dose_gy * factor).astype(np.float32)


def evaluated(
    task: PlanningTask,
    selection: BeamSelection,
    solution: FluenceSolution,
    plan: DeliverablePlan,
    dose_gy: NDArray[np.float32],
    wished_gy: NDArray[np.float32] | None,
    timing_s: dict[str, float],
) -> PlanResult:
    """Evaluate the dose of a plan that can be delivered, and that of its ideal fluence.

    Raises
    ------
    InputError
        If the machine cannot deliver the plan; the message says why.
    """
    if problems := violations(plan):
        raise InputError(f"The plan cannot be delivered by {plan.machine.name}: {problems[0]}")
    report, ideal_report = (evaluate(task.case, dose, task.goals) for dose in (dose_gy, solution.dose_gy))
    return PlanResult(
        task.config, task.protocol, task.case, selection, solution, plan, dose_gy, report, ideal_report,
        timing_s, peak_memory_mb(), task.case.notes + task.notes + selection.notes + solution.notes, wished_gy,
    )  # fmt: skip


def choose_beams(
    case: PatientCase, machine: Machine, config: PlanningConfig, device: str, progress: Progress | None = None
) -> BeamSelection:
    """Take the angles of the configuration, improved if it asks for that, or choose them."""
    b = config.beams
    if b.gantry_deg:
        given = given_beams(b)
        if config.selection.improve_s > 0:
            return improve_beams(
                case, machine, given.angles, config.selection,
                n_kept=b.n_kept, device=device, seed=config.seed, progress=progress,
            )  # fmt: skip
        return given
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


def given_beams(settings: BeamSettings) -> BeamSelection:
    """Beams whose angles the configuration gives."""
    couch_deg = settings.couch_deg or (0.0,) * len(settings.gantry_deg)
    return selection_of([BeamAngles(g, c) for g, c in zip(settings.gantry_deg, couch_deg, strict=True)])


def selection_of(angles: Sequence[BeamAngles]) -> BeamSelection:
    """Beams that the user chose."""
    return BeamSelection(
        tuple(angles), tuple(range(len(angles))), np.zeros((0, len(angles)), np.float32), (), 0, "user", {}
    )


def placed_beams(task: PlanningTask, angles: Sequence[BeamAngles]) -> tuple[Beam, ...]:
    """Place beams on the targets, with the collimator and the beamlets of the configuration."""
    fluence, collimator_deg = task.config.fluence, task.config.beams.collimator_deg
    return place_beams(
        task.case,
        [replace(a, collimator_deg=collimator_deg) for a in angles],
        task.machine,
        beamlet_width_mm=fluence.beamlet_width_mm,
        margin_mm=fluence.margin_mm,
    )


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
