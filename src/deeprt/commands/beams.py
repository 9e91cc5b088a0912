"""``deeprt beams``: choose beam angles."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from deeprt.commands import options as shared
from deeprt.progress import Bars

if TYPE_CHECKING:
    from deeprt.beams import BeamSelection


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its options."""
    beams = commands.add_parser(
        "beams", help="choose beam angles", description="Choose beam angles; writes beams.json."
    )
    beams.set_defaults(run=run)
    shared.add_case_options(beams)
    shared.add_output_options(beams, "beams.json")
    shared.add_beam_options(beams)
    shared.add_run_options(beams)


def run(options: argparse.Namespace) -> int:
    """Choose beams, and write ``beams.json``."""
    from deeprt.config import DEFAULT_MACHINE
    from deeprt.export import SELECTION_FILE, check_output_folder, write_selection
    from deeprt.machine_file import read_machine
    from deeprt.pipeline import choose_beams, torch_device
    from deeprt.preparation import load_case, with_prescriptions

    config = shared.with_beam_options(shared.config_of(options), options)
    if options.dose_grid is None:
        config = replace(config, dose_grid_mm=config.selection.voxel_mm)
    check_output_folder(options.out, overwrite=options.overwrite, file=SELECTION_FILE)
    progress = shared.progress_of(options)
    case = load_case(options.case, config, progress)
    if not options.json_progress:
        shared.show_case(case)
    _, case, _ = with_prescriptions(case, config)
    machine = read_machine(config.machine or DEFAULT_MACHINE)
    selection = choose_beams(case, machine, config, torch_device(config.device), progress)
    write_selection(selection, options.out / SELECTION_FILE)
    progress.step("export", 1.0, str(options.out))
    if isinstance(progress, Bars):
        progress.close()
        _show_selection(selection)
        print(f"Beams written to {options.out / SELECTION_FILE}. {shared.RESEARCH_ONLY}")
    return 0


def _show_selection(selection: BeamSelection) -> None:
    given = selection.n_given
    for number, a in enumerate(selection.angles):
        couch = f", couch {a.couch_deg:.1f}°" if a.couch_deg else ""
        after = (
            f", objective {selection.objectives[number - given + 1]:.5g}"
            if selection.objectives and selection.n_steps > number - given >= 0
            else ""
        )
        print(f"  Beam {number + 1}: gantry {a.gantry_deg:.1f}°{couch}{after}{' (given)' if number < given else ''}")
    for note in selection.notes:
        print(f"  Note: {note}")
    if selection.timing_s:
        print("  " + ", ".join(f"{kind} {seconds:.1f} s" for kind, seconds in selection.timing_s.items()))
