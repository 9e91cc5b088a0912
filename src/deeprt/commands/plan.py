"""``deeprt plan``: plan a case end to end."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deeprt.commands import options as shared
from deeprt.errors import InputError
from deeprt.progress import Bars, Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deeprt.case import PatientCase
    from deeprt.config import PlanningConfig
    from deeprt.pipeline import PlanResult

PREDICT = "predict"  # in place of a dose: a network's


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its options."""
    plan = commands.add_parser("plan", help="plan a case end to end", description="Plan a case end to end.")
    plan.set_defaults(run=run)
    shared.add_case_options(plan)
    shared.add_output_options(plan, "plan")
    shared.add_beam_options(plan)
    add = plan.add_argument
    add("--fluence", choices=("optimize", "network"), help="how fluence is found")
    add("--dose", choices=("optimize", PREDICT), help="how the dose is made that a network predicts fluence from")
    add_fluence_options(plan)
    shared.add_run_options(plan)


def add_fluence_options(command: argparse.ArgumentParser) -> None:
    """Add the options that say how fluence is predicted and delivered."""
    add = command.add_argument
    add("--dose-network", metavar="FILE", help="network that predicts the wished dose; a shipped one if absent")
    add("--refine", type=int, metavar="N", help="iterations that pull the dose of predicted fluence to the wished one")
    add("--fluence-network", metavar="FILE", help="network that predicts fluence; the shipped one if absent")
    add("--technique", choices=("step-and-shoot", "sliding-window"), help="how fluence is delivered")
    shared.add_export_options(command)


def run(options: argparse.Namespace) -> int:
    """Plan, and write the plan's folder."""
    config = config_of(options, options.fluence, options.dose)
    progress = shared.progress_of(options)
    case = loaded(options, config, progress)
    result = planned(options, case, config, None, progress)
    if isinstance(progress, Bars):
        progress.close()
        show_result(result, options.out)
    return 0


def config_of(options: argparse.Namespace, method: str | None, wished: str | None) -> PlanningConfig:
    """Configuration with the options of beams and fluence laid over it.

    Parameters
    ----------
    method, wished : of `deeprt.config.FluenceSettings`, where they are asked for

    Raises
    ------
    InputError
        If an option would have no effect.
    """
    config = shared.with_beam_options(shared.config_of(options), options)
    given = {
        "method": method,
        "wished": wished,
        "dose_network": options.dose_network,
        "n_refinements": options.refine,
        "network": options.fluence_network,
    }
    fluence = replace(config.fluence, **{k: v for k, v in given.items() if v is not None})
    for option in ("dose", "dose_network", "refine", "fluence_network"):
        if fluence.method == "optimize" and getattr(options, option) is not None:
            name = option.replace("_", "-")
            raise InputError(f"--{name} has no effect where fluence is optimized; add --fluence network.")
    if options.dose_network is not None and fluence.wished != PREDICT:
        raise InputError(f"--dose-network '{options.dose_network}' would not be asked; add --dose {PREDICT}.")
    config = replace(config, fluence=fluence)
    if options.technique is not None:
        config = replace(config, sequencing=replace(config.sequencing, technique=options.technique))
    return config


def loaded(options: argparse.Namespace, config: PlanningConfig, progress: Progress) -> PatientCase:
    """Load and show the case, once the folder for the plan is known to be free."""
    # Here, not above: torch takes seconds to load, and --help and wrong options should not wait for it.
    from deeprt.export import check_output_folder
    from deeprt.preparation import load_case

    check_output_folder(options.out, overwrite=options.overwrite)
    case = load_case(options.case, config, progress)
    if not options.json_progress:
        shared.show_case(case)
    return case


def planned(
    options: argparse.Namespace,
    case: PatientCase,
    config: PlanningConfig,
    wished_gy: NDArray[np.float32] | None,
    progress: Progress,
) -> PlanResult:
    """Plan the case, and write the plan's folder."""
    from deeprt.export import write_plan_folder
    from deeprt.pipeline import plan_case
    from deeprt.preparation import VIRTUAL_PROSTATE, load_case

    result = plan_case(case, config, progress, wished_gy=wished_gy)
    image_case = None
    if case.dicom is None and options.case != VIRTUAL_PROSTATE:
        image_case = load_case(options.case, replace(config, dose_grid_mm=None), progress)
    progress.step("export", 0.0)
    write_plan_folder(result, options.out, image_case=image_case, eclipse_fluence=options.eclipse_fluence)
    progress.step("export", 1.0, str(options.out))
    return result


def show_result(result: PlanResult, folder: Path) -> None:
    """Print what the plan assumes, delivers and reaches."""
    for note in result.notes:
        print(f"  {note}")
    for beam, b in enumerate(result.plan.beams):
        print(f"  {b.name}: gantry {b.angles.gantry_deg:.1f}°, {result.plan.beam_mu(beam):.0f} MU,"
              f" {len(result.plan.segments_of(beam))} segments")  # fmt: skip
    for target in result.report.targets:
        percent = 100 / (target.prescription_gy or 1.0)
        m = target.metrics
        print(f"  {target.name}: D95 {m.d95_gy:.2f} Gy ({m.d95_gy * percent:.1f} %), "
              f"D2 {m.d2_gy:.2f} Gy ({m.d2_gy * percent:.1f} %)")  # fmt: skip
    missed = [g for g in result.report.goals if not g.met]
    print(f"  Goals: {len(result.report.goals) - len(missed)} met, {len(missed)} missed")
    for g in missed:
        c = g.criterion
        print(f"    missed: {g.structure} {c.metric} {c.relation} {c.limit:g} {c.unit}, is {g.value:.3g} {c.unit}")
    print(f"Plan and report written to {folder}. {shared.RESEARCH_ONLY}")
