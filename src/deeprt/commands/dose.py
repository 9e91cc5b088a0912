"""``deeprt dose``: the dose of an existing plan, as an independent second check."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from deeprt.commands import options as shared
from deeprt.errors import InputError
from deeprt.progress import Bars

if TYPE_CHECKING:
    from deeprt.case import PatientCase
    from deeprt.delivery.existing_dose import ExistingPlanDose
    from deeprt.delivery.existing_plan import ExistingPlan


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its options."""
    dose = commands.add_parser(
        "dose",
        help="compute the dose of an existing RTPLAN",
        description="Compute the dose of an existing RTPLAN on a case; writes RTDOSE.dcm and dose.json.",
    )
    dose.set_defaults(run=run)
    shared.add_case_options(dose)
    shared.add_output_options(dose, "dose")
    add = dose.add_argument
    add("--plan", required=True, type=Path, metavar="FILE", help="RTPLAN whose dose is computed")
    add("--machine", dest="machines", action="append", metavar="NAME|FILE",
        help="machine for the beams of its energy, may be repeated; the shipped machines if absent")  # fmt: skip
    add("--skip-unsupported", action="store_true", help="leave out beams that are not supported, and say so")
    shared.add_run_options(dose)


def run(options: argparse.Namespace) -> int:
    """Compute the dose of the plan, and write it."""
    from deeprt.delivery.existing_dose import dose_of_existing_plan
    from deeprt.delivery.existing_plan import with_machines
    from deeprt.dicom.read_plan import read_plan
    from deeprt.export import check_dose_folder, write_dose_folder
    from deeprt.machine_file import machine_names, read_machine
    from deeprt.pipeline import torch_device
    from deeprt.preparation import load_case

    config = shared.config_of(options)
    if config.n_fractions is not None:
        raise InputError("The number of fractions is the plan's own; leave out --fractions and n_fractions.")
    check_dose_folder(options.out, overwrite=options.overwrite)
    chosen = options.machines or ([config.machine] if config.machine else [])
    known = [read_machine(name) for name in chosen or machine_names()]
    plan, machines = with_machines(read_plan(options.plan), known, machines_are_chosen=bool(chosen))
    _check_whole(plan, may_skip=options.skip_unsupported)
    progress = shared.progress_of(options)
    case = load_case(options.case, config, progress, needs_target=False)
    if options.case.startswith("virtual:"):
        plan = plan.centered(case)
    result = dose_of_existing_plan(case, plan, machines, device=torch_device(config.device), progress=progress)
    progress.step("export", 0.0)
    write_dose_folder(case, plan, result, options.out)
    progress.step("export", 1.0, str(options.out))
    if isinstance(progress, Bars):
        progress.close()
        _show(case, plan, result)
        print(f"Dose written to {options.out}. {shared.RESEARCH_ONLY}")
    return 0


def _check_whole(plan: ExistingPlan, *, may_skip: bool) -> None:
    """Refuse a plan of which only a part can be computed, unless the user agreed to that."""
    if not plan.unsupported:
        return
    first, others = plan.unsupported[0], [str(b.number) for b in plan.unsupported[1:]]
    if not may_skip:
        more = f" Nor can beam{'s' * (len(others) > 1)} {', '.join(others)} be computed." if others else ""
        raise InputError(
            f"{first.reason}{more} A part of a plan is not its dose; to compute the other beams alone, "
            "add --skip-unsupported."
        )
    if len({b.group_number for b in plan.beams}) > 1:
        raise InputError(f"{first.reason} DICOM cannot describe the dose of some beams of several fraction groups.")


def _show(case: PatientCase, plan: ExistingPlan, result: ExistingPlanDose) -> None:
    for note in [*case.notes, *plan.notes, *result.notes]:
        print(f"  {note}")
    for left_out in plan.unsupported:
        print(f"  LEFT OUT: {left_out.reason}")
    width = max(4, *(len(b.beam.name) for b in result.beams))
    print(f"  {'Beam':<{width}}  Gantry  Coll.  Couch  Fr.      MU   SSD/mm  plan's  Eff. depth/mm  Eq. square/mm"
          "  Isocenter/Gy  Point/Gy  plan's")  # fmt: skip
    for b in result.beams:
        a = b.beam.angles
        ssd, stated_ssd = (f"{x:.1f}" if x is not None else "-" for x in (b.ssd_mm, b.beam.ssd_mm))
        point, stated = (
            f"{x:.4f}" if x is not None else "-" for x in (b.point_gy_per_fraction, b.beam.stated_point_gy_per_fraction)
        )
        print(f"  {b.beam.name:<{width}}  {a.gantry_deg:6.1f} {a.collimator_deg:6.1f} {a.couch_deg:6.1f} "
              f"{b.beam.n_fractions:4d} {b.beam.mu:7.1f}  {ssd:>7} {stated_ssd:>7}  {b.effective_depth_mm:13.1f}  "
              f"{b.equivalent_square_mm:13.1f}  {b.isocenter_gy_per_fraction:12.4f}  "
              f"{point:>8}  {stated:>6}")  # fmt: skip
    for position, dose in zip(result.isocenters_lps, result.isocenters_gy, strict=True):
        at = ", ".join(f"{x:.1f}" for x in position)
        print(f"  Isocenter ({at}) mm: {dose:.3f} Gy in the whole course, all beams")
    print("  Doses of beams are per fraction.")
