"""Writing a plan to a folder: a complete DICOM study, the report, and the configuration it came from."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pydicom
import tomli_w
import torch
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from deeprt import __version__
from deeprt.beams import BeamSelection
from deeprt.case import PatientCase
from deeprt.config import to_plain
from deeprt.delivery.existing_dose import BeamDose, ExistingPlanDose
from deeprt.delivery.existing_plan import ExistingPlan
from deeprt.dicom.check_plan import check_plan
from deeprt.dicom.common import (
    MANUFACTURER,
    identity_of,
    new_roi_numbers,
    with_new_dicom_identity,
    write_dataset,
)
from deeprt.dicom.eclipse_fluence import SUFFIX, write_eclipse_fluence
from deeprt.dicom.write_dose import MAX_COMMENT, dose_dataset
from deeprt.dicom.write_images import ct_datasets, ct_references
from deeprt.dicom.write_plan import plan_dataset
from deeprt.dicom.write_structures import structure_set_dataset
from deeprt.errors import InputError
from deeprt.evaluation.report import RESEARCH_ONLY, ReportContents, write_report
from deeprt.files import write_whole
from deeprt.pipeline import PlanResult

PLAN_FILE = "RTPLAN.dcm"
SELECTION_FILE = "beams.json"
DOSE_FILE, DOSE_NUMBERS_FILE = "RTDOSE.dcm", "dose.json"
_FLUENCE = "deeprt_fluence_"  # begins the names of fluence files
_VERSIONED = ("numpy", "scipy", "torch", "numba", "pydicom", "SimpleITK", "scikit-image", "matplotlib")


def check_output_folder(folder: Path, *, overwrite: bool, file: str = PLAN_FILE) -> None:
    """Refuse a folder that already holds a plan (or another result), unless it may be replaced.

    Raises
    ------
    InputError
        If the folder holds the file, or is a file itself.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"'{folder}' is a file; give a folder.")
    if (folder / file).exists() and not overwrite:
        what = "a plan" if file == PLAN_FILE else f"'{file}'"
        raise InputError(f"'{folder}' already holds {what}; choose another folder or add --overwrite.")


def check_dose_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder for the dose of an existing plan that holds another dose, or one that may not be replaced.

    Raises
    ------
    InputError
        As `check_output_folder`, and if the folder's dose belongs to something else, such as the plan itself.
    """
    check_output_folder(folder, overwrite=overwrite, file=DOSE_NUMBERS_FILE)
    if (folder / DOSE_FILE).exists() and not (folder / DOSE_NUMBERS_FILE).exists():
        raise InputError(f"'{folder / DOSE_FILE}' was not written by deeprt dose and stays; choose another folder.")


def write_plan_folder(
    result: PlanResult, folder: Path, *, image_case: PatientCase | None = None, eclipse_fluence: bool = False
) -> None:
    """Write everything about a plan; the files appear in the folder only when all of them are complete.

    Parameters
    ----------
    image_case : the case on its CT's own grid, whose CT and structures complete the study of a case that did not
        come from DICOM, and whose structures that of one without structure set; the planned case if None
    eclipse_fluence : whether to write the ideal fluence of each beam as Varian's text file too

    Raises
    ------
    InputError
        If the plan is inconsistent or the folder cannot be written.
    """
    try:
        with _scratch_beside(folder) as scratch:
            _write_study(result, scratch, image_case or result.case)
            _write_report(result, scratch)
            if result.selection.n_steps:
                write_selection(result.selection, scratch / SELECTION_FILE)
            if eclipse_fluence:
                for number, fluence in enumerate(result.solution.fluence_mu, start=1):
                    file = scratch / f"{_FLUENCE}{number}{SUFFIX}"
                    write_eclipse_fluence(file, result.plan.beams[number - 1], fluence)
            (scratch / "plan.toml").write_text(tomli_w.dumps(to_plain(result.config)), encoding="utf-8")
            _move_into(scratch, folder)
    except OSError as error:
        raise InputError(f"Cannot write the plan to '{folder}': {error.strerror}; nothing was kept of it.") from error


def write_selection(selection: BeamSelection, path: Path) -> None:
    """Write chosen beams, the fitness of every candidate before each choice, objectives and timing as JSON.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    content = {
        "source": selection.source,
        "chosen": [asdict(a) for a in selection.angles],
        "n_given": selection.n_given,
        "objectives": selection.objectives,
        "candidates": [asdict(a) for a in selection.candidates],
        "fitness": np.round(selection.fitness.astype(float), 5).tolist(),
        "timing_s": dict(selection.timing_s),
        "notes": selection.notes,
    }
    try:
        write_whole(path, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise InputError(f"Cannot write '{path}': {error.strerror}.") from error


def _write_study(result: PlanResult, folder: Path, image_case: PatientCase) -> None:
    case, structure_set = result.case, None
    if case.dicom is None:
        image_case = with_new_dicom_identity(image_case)
        case = replace(case, dicom=image_case.dicom)
        ct = ct_datasets(image_case)
        structure_set = structure_set_dataset(image_case, ct)
        (folder / "CT").mkdir()
        for number, image in enumerate(ct, start=1):
            write_dataset(image, folder / "CT" / f"CT.{number:04d}.dcm")
    elif not case.dicom.structure_set_uid:
        image_case = replace(image_case, dicom=replace(case.dicom, roi_numbers=new_roi_numbers(image_case)))
        case = replace(case, dicom=image_case.dicom)
        structure_set = structure_set_dataset(image_case, ct_references(image_case))
    structure_set_uid = identity_of(case).structure_set_uid
    if structure_set is not None:
        write_dataset(structure_set, folder / "RTSTRUCT.dcm")
        structure_set_uid = str(structure_set.SOPInstanceUID)
    plan = plan_dataset(case, result.plan, label="DeepRT", structure_set_uid=structure_set_uid)
    if problems := check_plan(plan):
        raise InputError(f"The RTPLAN would be inconsistent: {problems[0]}")
    write_dataset(dose_dataset(case, result.dose_gy, plan), folder / "RTDOSE.dcm")
    write_dataset(plan, folder / PLAN_FILE)


def _write_report(result: PlanResult, folder: Path) -> None:
    versions = versions_of() | {"threads": str(torch.get_num_threads())}
    contents = ReportContents(
        case=result.case,
        plan=result.plan,
        solution=result.solution,
        dose_gy=result.dose_gy,
        report=result.report,
        ideal_report=result.ideal_report,
        timing_s=result.timing_s,
        peak_memory_mb=result.peak_memory_mb,
        versions=versions,
        seed=result.config.seed,
        settings=to_plain(result.config),
        notes=result.notes,
    )
    write_report(folder, contents)


def versions_of(packages: Sequence[str] = _VERSIONED) -> dict[str, str]:
    """Versions of DeepRT, Python and some packages, by name."""
    versions = {"deeprt": __version__, "python": platform.python_version()}
    return versions | {name: importlib.metadata.version(name) for name in packages}


def write_dose_folder(case: PatientCase, plan: ExistingPlan, result: ExistingPlanDose, folder: Path) -> None:
    """Write ``RTDOSE.dcm`` and ``dose.json``; they appear only when both are complete, the JSON last.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    referred = Dataset()
    referred.SOPClassUID, referred.SOPInstanceUID = plan.sop_class_uid, plan.sop_instance_uid
    identified = with_new_dicom_identity(case) if case.dicom is None else case
    if plan.unsupported:
        only = plan.beams[0].group_number, [b.number for b in plan.beams]
        dataset = dose_dataset(identified, result.dose_gy, referred, only_beams=only, comment=_comment(plan))
    else:
        dataset = dose_dataset(identified, result.dose_gy, referred)
    try:
        with _scratch_beside(folder) as scratch:
            write_dataset(dataset, scratch / DOSE_FILE)
            content = json.dumps(dose_numbers(case, plan, result), indent=1, ensure_ascii=False)
            (scratch / DOSE_NUMBERS_FILE).write_text(content + "\n", encoding="utf-8")
            folder.mkdir(exist_ok=True)
            (folder / DOSE_NUMBERS_FILE).unlink(missing_ok=True)
            for name in (DOSE_FILE, DOSE_NUMBERS_FILE):
                os.replace(scratch / name, folder / name)
    except OSError as error:
        raise InputError(f"Cannot write the dose to '{folder}': {error.strerror}.") from error


def _comment(plan: ExistingPlan) -> str:
    """What is missing, in the few characters of a dose comment."""
    left_out = ", ".join(str(b.number) for b in plan.unsupported)
    full = f"WITHOUT beam {left_out} of the plan; not for clinical use"
    return (
        full if len(full) <= MAX_COMMENT else f"WITHOUT {len(plan.unsupported)} beams of the plan; not for clinical use"
    )


def dose_numbers(case: PatientCase, plan: ExistingPlan, result: ExistingPlanDose) -> dict[str, object]:
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
        "warning": RESEARCH_ONLY,
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
        "isocenter_gy_per_fraction": rounded(part.isocenter_gy_per_fraction),
        "ssd_mm": rounded(part.ssd_mm),
        "plan_ssd_mm": beam.ssd_mm,
        "effective_depth_mm": rounded(part.effective_depth_mm),
        "equivalent_square_mm": rounded(part.equivalent_square_mm),
        "point_lps": None if beam.point_lps is None else beam.point_lps.tolist(),
        "point_gy_per_fraction": rounded(part.point_gy_per_fraction),
        "plan_point_gy_per_fraction": beam.stated_point_gy_per_fraction,
    }


@contextmanager
def _scratch_beside(folder: Path) -> Iterator[Path]:
    """Make a folder to write into before the files move, beside their own; nothing is left of it afterwards."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=".part", dir=folder.parent))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _move_into(scratch: Path, folder: Path) -> None:
    """Move the finished files; the plan goes last, so that a folder with a plan is complete.

    Of CT, structures and dose that lie there already, those of an older plan go; those of others stay.
    """
    folder.mkdir(exist_ok=True)
    older = [*folder.glob("CT/*"), *folder.glob("RTSTRUCT.dcm"), *folder.glob("RTDOSE.dcm")]
    ours = [path for path in older if _is_ours(path)]
    for path in older:
        if path not in ours and (scratch / path.relative_to(folder).parts[0]).exists():
            raise InputError(f"'{path}' was not written by DeepRT and would be replaced; choose another folder.")
    fluence = folder.glob(f"{_FLUENCE}*{SUFFIX}")
    for path in (folder / PLAN_FILE, folder / SELECTION_FILE, *fluence, *ours):
        path.unlink(missing_ok=True)
    if older and not any((folder / "CT").glob("*")):
        shutil.rmtree(folder / "CT", ignore_errors=True)
    for path in sorted(scratch.iterdir(), key=lambda p: p.name == PLAN_FILE):
        os.replace(path, folder / path.name)


def _is_ours(path: Path) -> bool:
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Manufacturer"])
    except (InvalidDicomError, IsADirectoryError):
        return False
    return bool(header.get("Manufacturer") == MANUFACTURER)
