"""``deeprt step``: one step of a plan, between the files of a work folder."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deeprt.commands import options as shared
from deeprt.errors import InputError
from deeprt.progress import Bars, TimedSteps

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from deeprt.beams import Beam
    from deeprt.dose.influence import DoseInfluence
    from deeprt.machine import Machine
    from deeprt.preparation import PlanningTask
    from deeprt.work_folder import WorkFolder


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command, its parts and their options."""
    step = commands.add_parser(
        "step",
        help="do one step of a plan in a work folder",
        description="Do one step of a plan; steps read and write the files of a work folder (see deeprt.work_folder).",
    )
    parts = step.add_subparsers(required=True, metavar="STEP")
    _add_part(parts, "fluence", run_fluence, "optimize or predict fluence, as plan.toml says; writes fluence.npz")
    refine = _add_part(parts, "refine", run_refine, "pull the dose of fluence.npz to that of wished.npz")
    refine.add_argument("--iterations", type=int, required=True, metavar="N", help="how far")
    _add_part(parts, "segments", run_segments, "sequence fluence.npz; writes segments.json")
    _add_part(parts, "dose", run_dose, "compute and normalize the dose of segments.json; writes dose.npz")
    _add_part(parts, "compare", run_compare, "compare dose.npz with wished.npz; writes comparison.npz")
    export = _add_part(parts, "export", run_export, "write DICOM study and report of segments.json and dose.npz")
    shared.add_output_options(export, "plan")
    shared.add_export_options(export)


def _add_part(
    parts: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    help_text: str,
) -> argparse.ArgumentParser:
    part = parts.add_parser(name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}.")
    part.set_defaults(run=run)
    part.add_argument("work", type=Path, metavar="WORK", help="work folder, which holds case.npz and plan.toml")
    shared.add_progress_option(part)
    return part


def run_fluence(options: argparse.Namespace) -> int:
    """Optimize or predict fluence, and write it, and the wished dose if that was made."""
    from deeprt.fluence_finding import find_fluence
    from deeprt.work_folder import FLUENCE

    folder, task, steps = _begun(options)
    settings = task.config.fluence
    is_made = settings.method == "network" and settings.wished != "given"
    wished_gy = None if is_made else _wished(folder, task)
    influence = _influence(task, _beams(folder, task), task.machine, steps)
    with steps.timed("fluence"):
        found = find_fluence(task, influence, wished_gy, steps.progress)
    folder.write_fluence(found.solution)
    if is_made and found.wished_gy is not None:
        folder.write_wished(found.wished_gy, task.case.grid)
    return _done(steps, folder.path / FLUENCE)


def run_refine(options: argparse.Namespace) -> int:
    """Pull the dose of fluence to the wished one, and write it."""
    from deeprt.fluence.predict import refine_fluence
    from deeprt.fluence_finding import normalized_fluence
    from deeprt.work_folder import FLUENCE

    folder, task, steps = _begun(options)
    given, wished_gy = folder.read_fluence(), _needed_wished(folder)
    influence = _influence(task, _beams(folder, task), task.machine, steps)
    with steps.timed("fluence"):
        solution = refine_fluence(task.case, influence, task.machine, wished_gy, given.fluence_mu, options.iterations)
        solution = normalized_fluence(task, solution, wished_gy)
    folder.write_fluence(replace(solution, source=f"{given.source}, {solution.source}", notes=given.notes))
    return _done(steps, folder.path / FLUENCE)


def run_segments(options: argparse.Namespace) -> int:
    """Sequence fluence, and write the segments."""
    from deeprt.fluence_finding import known_fluence
    from deeprt.pipeline import find_segments
    from deeprt.work_folder import SEGMENTS

    folder, task, steps = _begun(options)
    solution, wished_gy = folder.read_fluence(), _wished(folder, task)
    influence = _influence(task, _beams(folder, task), task.machine, steps)
    with steps.timed("segments"):
        found = known_fluence(task, influence, solution, wished_gy)
        folder.write_segments(find_segments(task, influence, found, steps.progress))
    return _done(steps, folder.path / SEGMENTS)


def run_dose(options: argparse.Namespace) -> int:
    """Compute and normalize the dose of segments, and write both."""
    from deeprt.pipeline import normalized_plan
    from deeprt.work_folder import DOSE

    folder, task, steps = _begun(options)
    plan, wished_gy = folder.read_segments(), _wished(folder, task)
    influence = _influence(task, plan.beams, plan.machine, steps)
    with steps.timed("dose"):
        plan, dose_gy = normalized_plan(task, influence, plan, wished_gy)
    folder.write_segments(plan)
    folder.write_dose(dose_gy)
    return _done(steps, folder.path / DOSE)


def run_compare(options: argparse.Namespace) -> int:
    """Compare the dose of segments with the wished one; write numbers, volumes and the page."""
    from deeprt.evaluation.compare import ComparisonSettings, compare
    from deeprt.evaluation.comparison_report import EvaluationContents, NamedDose, write_evaluation
    from deeprt.export import versions_of
    from deeprt.work_folder import COMPARISON

    folder, task, steps = _begun(options)
    synthetic, wished = (
        NamedDose("synthetic dose", folder.read_dose()),
        NamedDose("wished dose", _needed_wished(folder)),
    )
    with steps.timed("comparison"):
        comparison = compare(task.case, synthetic.dose_gy, wished.dose_gy, ComparisonSettings(task.goals))
    folder.write_comparison(comparison)
    notes = task.case.notes + task.notes
    contents = EvaluationContents(task.case, synthetic, comparison.report, wished, comparison, versions_of(), notes)
    with steps.timed("report"):
        try:
            write_evaluation(folder.path, contents)
        except OSError as error:
            raise InputError(f"Cannot write the comparison to '{folder.path}': {error.strerror}.") from error
    return _done(steps, folder.path / COMPARISON)


def run_export(options: argparse.Namespace) -> int:
    """Evaluate the dose of segments, and write the plan's folder."""
    from deeprt.export import check_output_folder, write_plan_folder
    from deeprt.pipeline import evaluated, selection_of

    check_output_folder(options.out, overwrite=options.overwrite)
    folder, task, steps = _begun(options)
    plan, dose_gy, solution = folder.read_segments(), folder.read_dose(), folder.read_fluence()
    if [f.shape for f in solution.fluence_mu] != [b.open_beamlets.shape for b in plan.beams]:
        raise InputError(f"Fluence and segments in '{folder.path}' are of different beams; run deeprt step segments.")
    with steps.timed("evaluation"):
        selection = selection_of([b.angles for b in plan.beams])
        result = evaluated(task, selection, solution, plan, dose_gy, folder.read_wished(), {})
    with steps.timed("export"):
        write_plan_folder(result, options.out, image_case=folder.read_images(), eclipse_fluence=options.eclipse_fluence)
    return _done(steps, options.out)


def _begun(options: argparse.Namespace) -> tuple[WorkFolder, PlanningTask, TimedSteps]:
    """Work folder, what is to be planned in it, and progress."""
    from deeprt.preparation import prepared
    from deeprt.work_folder import WorkFolder

    folder = WorkFolder(options.work)
    return folder, prepared(folder.read_case(), folder.read_config()), TimedSteps(shared.progress_of(options))


def _beams(folder: WorkFolder, task: PlanningTask) -> tuple[Beam, ...]:
    from deeprt.pipeline import given_beams, placed_beams
    from deeprt.work_folder import CONFIG

    if not task.config.beams.gantry_deg:
        raise InputError(f"'{folder.path / CONFIG}' names no beams; give their angles as beams.gantry_deg.")
    return placed_beams(task, given_beams(task.config.beams).angles)


def _influence(task: PlanningTask, beams: Sequence[Beam], machine: Machine, steps: TimedSteps) -> DoseInfluence:
    from deeprt.dose.influence import dose_influence
    from deeprt.pipeline import torch_device

    with steps.timed("dose influence"):
        device = torch_device(task.config.device)
        return dose_influence(task.case, beams, machine, device=device, progress=steps.progress)


def _wished(folder: WorkFolder, task: PlanningTask) -> NDArray[np.float32] | None:
    """Dose to mimic, which must be there if fluence is predicted from it."""
    return folder.read_wished() if task.config.fluence.method == "optimize" else _needed_wished(folder)


def _needed_wished(folder: WorkFolder) -> NDArray[np.float32]:
    from deeprt.work_folder import WISHED

    wished_gy = folder.read_wished()
    if wished_gy is None:
        raise InputError(
            f"There is no '{folder.path / WISHED}'; give a dose, or let deeprt step fluence predict from one that it "
            "makes."
        )
    return wished_gy


def _done(steps: TimedSteps, written: Path) -> int:
    if isinstance(steps.progress, Bars):
        steps.progress.close()
        print(f"Written to {written}. {shared.RESEARCH_ONLY}")
    return 0
