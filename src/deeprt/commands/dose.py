"""``deeprt dose``: the dose of an existing plan, as an independent second check."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deeprt.commands import options as shared
from deeprt.errors import InputError
from deeprt.progress import Bars

if TYPE_CHECKING:
    from deeprt.case import PatientCase
    from deeprt.delivery.existing_dose import BeamDose, ExistingPlanDose
    from deeprt.delivery.existing_plan import ExistingPlan
    from deeprt.machine import Machine

DOSE_FILE, NUMBERS_FILE = "RTDOSE.dcm", "dose.json"


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
    from deeprt.export import check_output_folder
    from deeprt.pipeline import torch_device
    from deeprt.preparation import load_case

    if options.fractions is not None:
        raise InputError("The number of fractions is the plan's own; leave out --fractions.")
    config = shared.config_of(options)
    check_output_folder(options.out, overwrite=options.overwrite, file=NUMBERS_FILE)
    plan, machines = with_machines(
        read_plan(options.plan), _machines(options.machines), machines_are_chosen=bool(options.machines)
    )
    _check_whole(plan, may_skip=options.skip_unsupported)
    progress = shared.progress_of(options)
    case = load_case(options.case, config, progress, needs_target=False)
    if options.case.startswith("virtual:"):
        plan = centered(plan, case)
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


def _machines(names: list[str] | None) -> list[Machine]:
    from deeprt.machine_file import machine_names, read_machine

    return [read_machine(name) for name in names or machine_names()]


def centered(plan: ExistingPlan, case: PatientCase) -> ExistingPlan:
    """Move a plan, as a whole, so that its first isocenter lies at the center of a phantom's grid."""
    if not plan.beams:
        return plan
    shift = case.grid.center_lps - plan.beams[0].isocenter_lps
    words = ", ".join(f"{x:.1f}" for x in shift)
    note = f"The plan was moved by ({words}) mm, so that its first isocenter lies at the center of the phantom."
    # A phantom has no head or feet: it lies as the plan wants its patient to lie.
    return replace(plan.moved(shift), position=case.position, notes=(*plan.notes, note))


def write_dose_folder(case: PatientCase, plan: ExistingPlan, result: ExistingPlanDose, folder: Path) -> None:
    """Write ``RTDOSE.dcm`` and ``dose.json``; they appear only when both are complete, the JSON last.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    from pydicom.dataset import Dataset

    from deeprt.dicom.common import with_new_dicom_identity, write_dataset
    from deeprt.dicom.write_dose import dose_dataset

    referred = Dataset()
    referred.SOPClassUID, referred.SOPInstanceUID = plan.sop_class_uid, plan.sop_instance_uid
    identified = with_new_dicom_identity(case) if case.dicom is None else case
    if plan.unsupported:
        only = plan.beams[0].group_number, [b.number for b in plan.beams]
        dataset = dose_dataset(identified, result.dose_gy, referred, only_beams=only, comment=_comment(plan))
    else:
        dataset = dose_dataset(identified, result.dose_gy, referred)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=".part", dir=folder.parent))
        try:
            write_dataset(dataset, scratch / DOSE_FILE)
            content = json.dumps(numbers(case, plan, result), indent=1, ensure_ascii=False)
            (scratch / NUMBERS_FILE).write_text(content + "\n", encoding="utf-8")
            (folder / NUMBERS_FILE).unlink(missing_ok=True)
            for name in (DOSE_FILE, NUMBERS_FILE):
                os.replace(scratch / name, folder / name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise InputError(f"Cannot write the dose to '{folder}': {error.strerror}.") from error


def _comment(plan: ExistingPlan) -> str:
    """What is missing, in the 64 characters of a dose comment."""
    left_out = ", ".join(str(b.number) for b in plan.unsupported)
    full = f"WITHOUT beam {left_out} of the plan; not for clinical use"
    return full if len(full) <= 64 else f"WITHOUT {len(plan.unsupported)} beams of the plan; not for clinical use"


def numbers(case: PatientCase, plan: ExistingPlan, result: ExistingPlanDose) -> dict[str, object]:
    """What a second check compares, as plain values for JSON."""
    return {
        "case": case.case_id,
        "plan": {"label": plan.label, "system": plan.system, "sop_instance_uid": plan.sop_instance_uid},
        "beams": [_beam_numbers(b) for b in result.beams],
        "isocenters": [
            {"position_lps": [round(float(x), 3) for x in position], "dose_gy": round(float(dose), 5)}
            for position, dose in zip(result.isocenters_lps, result.isocenters_gy, strict=True)
        ],
        "total_mu_per_fraction": {
            str(g): round(sum(b.mu for b in plan.beams if b.group_number == g), 3)
            for g in dict.fromkeys(b.group_number for b in plan.beams)
        },
        "max_dose_gy": round(float(result.dose_gy.max()), 5),
        "left_out": [{"number": b.number, "name": b.name, "reason": b.reason} for b in plan.unsupported],
        "notes": [*case.notes, *plan.notes, *result.notes],
        "warning": shared.RESEARCH_ONLY,
    }


def _beam_numbers(part: BeamDose) -> dict[str, object]:
    beam, angles = part.beam, part.beam.angles

    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 5)

    return {
        "number": beam.number,
        "name": beam.name,
        "fraction_group": beam.group_number,
        "n_fractions": beam.n_fractions,
        "technique": beam.technique,
        "machine": part.machine_name,
        "energy_mv": beam.energy_mv,
        "gantry_deg": angles.gantry_deg,
        "collimator_deg": angles.collimator_deg,
        "couch_deg": angles.couch_deg,
        "mu_per_fraction": beam.mu,
        "isocenter_gy_per_fraction": rounded(part.isocenter_gy),
        "ssd_mm": rounded(part.ssd_mm),
        "plan_ssd_mm": beam.ssd_mm,
        "effective_depth_mm": rounded(part.effective_depth_mm),
        "equivalent_square_mm": rounded(part.equivalent_square_mm),
        "point_lps": None if beam.point_lps is None else beam.point_lps.tolist(),
        "point_gy_per_fraction": rounded(part.point_gy),
        "plan_point_gy_per_fraction": beam.point_dose_gy,
    }


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
        point, stated = (f"{x:.4f}" if x is not None else "-" for x in (b.point_gy, b.beam.point_dose_gy))
        print(f"  {b.beam.name:<{width}}  {a.gantry_deg:6.1f} {a.collimator_deg:6.1f} {a.couch_deg:6.1f} "
              f"{b.beam.n_fractions:4d} {b.beam.mu:7.1f}  {ssd:>7} {stated_ssd:>7}  {b.effective_depth_mm:13.1f}  "
              f"{b.equivalent_square_mm:13.1f}  {b.isocenter_gy:12.4f}  {point:>8}  {stated:>6}")  # fmt: skip
    for position, dose in zip(result.isocenters_lps, result.isocenters_gy, strict=True):
        at = ", ".join(f"{x:.1f}" for x in position)
        print(f"  Isocenter ({at}) mm: {dose:.3f} Gy in the whole course, all beams")
    print("  Doses of beams are per fraction.")
