"""Read a case: CT and structures from DICOM, or from NRRD and NIfTI, onto one grid."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeprt.case import GENERIC_HU_TABLE, HuTable, PatientCase
from deeprt.density import with_densities
from deeprt.dicom.ct import patient_position, read_ct
from deeprt.dicom.external import external_from_ct
from deeprt.dicom.scan import identity_of_study, scan_folder, text_of
from deeprt.dicom.source import AIR_HU, CaseSource, DrawnStructure
from deeprt.dicom.structure_set import read_structures
from deeprt.dicom.volumes import SUFFIXES, is_volume, read_volumes
from deeprt.dicom.water import water_source
from deeprt.errors import InputError
from deeprt.geometry import Grid
from deeprt.progress import Progress, Silent
from deeprt.resampling import average_onto
from deeprt.roles import RoleProposal, StructureChoice, propose_role, propose_roles, with_choices
from deeprt.structures import BESIDE_PATIENT, Role, Structure

logger = logging.getLogger(__name__)

_OUTSIDE_CC, _OUTSIDE_SHARE = 1.0, 0.01  # of a target outside the external; more of both is an error


@dataclass(frozen=True)
class ReadOptions:
    """What to read and how.

    Parameters
    ----------
    spacing_mm : voxel size of the case's grid; None keeps the CT's own grid
    n_fractions : of the whole course
    series_uid, structure_set_uid : which to take if there are several; the full UID or a unique ending
    hu_table : the scanner's calibration
    structures : what the user sets, by name of structure; the rest is proposed
    water_equivalent : whether to make a body of water from a structure set without CT
    needs_target : whether a case without target is an error

    Raises
    ------
    InputError
        If the voxel size is not within 0.5 to 20 mm.
    """

    spacing_mm: float | None = None
    n_fractions: int = 1
    series_uid: str | None = None
    structure_set_uid: str | None = None
    hu_table: HuTable = GENERIC_HU_TABLE
    structures: Mapping[str, StructureChoice] = field(default_factory=dict)
    water_equivalent: bool = False
    needs_target: bool = True

    def __post_init__(self) -> None:
        if self.spacing_mm is not None and not 0.5 <= self.spacing_mm <= 20:
            raise InputError(f"The grid's voxel size must be within 0.5 to 20 mm, got {self.spacing_mm:g} mm.")


_DEFAULTS = ReadOptions()
_SILENT = Silent()


def read_case(source: Path, options: ReadOptions = _DEFAULTS, progress: Progress = _SILENT) -> PatientCase:
    """Read a case.

    Parameters
    ----------
    source : folder with the DICOM files of one CT series and one RTSTRUCT, or a CT in NRRD or NIfTI that lies beside
        one ``.seg.nrrd``
    options : which series, which grid, and the roles the user sets

    Returns
    -------
    The case on the CT's grid, or on that box with the voxel size of the options: the CT averaged, the structures as
    volume fractions. Where a support or bolus is drawn beyond the CT, the box is larger.

    Raises
    ------
    InputError
        If the input does not make a case that can be planned; the message says what is wrong and what to do.
    """
    start = time.perf_counter()
    found = _read_source(Path(source), options, progress)
    proposals, assumed = _resolve_roles(found.structures, options)
    drawn_beside = [s for s, p in zip(found.structures, proposals, strict=True) if p.role in BESIDE_PATIENT]
    found = found.around([s.bounds_lps for s in drawn_beside if s.bounds_lps is not None])
    grid = found.grid if options.spacing_mm is None else found.grid.resampled(options.spacing_mm)
    ct_hu = average_onto(found.ct_hu, found.grid, grid)
    structures, notes = _draw(
        found.structures, proposals, options.structures, grid, progress, needs_target=options.needs_target
    )
    if options.water_equivalent:
        ct_hu = _water(structures)
    elif not any(s.role is Role.EXTERNAL for s in structures):
        name = "BODY" if all(s.name != "BODY" for s in found.structures) else "BODY (CT)"
        structures.append(_external(name, ct_hu, grid))
        notes.append(f"No structure is the external; '{name}' was made from the CT above -400 HU.")
    case = PatientCase(
        found.case_id,
        found.position,
        grid,
        ct_hu,
        tuple(structures),
        options.n_fractions,
        options.hu_table,
        found.dicom,
        (*found.notes, *assumed, *notes),
    )
    if options.needs_target:
        _check_targets(case)
    case = with_densities(case)
    seconds = time.perf_counter() - start
    logger.info("Case read: %d x %d x %d voxels, %d structures, %.1f s", *grid.shape, len(structures), seconds)
    return case


def read_hu_table(path: Path) -> HuTable:
    """Read a scanner's calibration from a CSV file.

    Parameters
    ----------
    path : one header line, then lines of ``HU, relative electron density`` with rising HU

    Raises
    ------
    InputError
        If the file is missing or not such a table.
    """
    try:
        lines = [line for line in csv.reader(path.read_text(encoding="utf-8-sig").splitlines()) if line]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"HU table '{path}' cannot be read: {error}.") from error
    try:
        rows = [(float(hu), float(density)) for hu, density in lines[1:]]
    except ValueError as error:
        raise InputError(
            f"HU table '{path}' must have one header line, then lines of two numbers 'hu,relative_electron_density' "
            f"({error})."
        ) from error
    values = np.array(rows, dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(values).all():
        raise InputError(f"HU table '{path}' holds values that are not finite numbers.")
    try:
        return HuTable(path.name, values[:, 0], values[:, 1])
    except ValueError as error:
        raise InputError(str(error)) from error


def _read_source(source: Path, options: ReadOptions, progress: Progress) -> CaseSource:
    if not source.exists():
        raise InputError(f"'{source}' does not exist; give a folder of DICOM files or a CT in NRRD or NIfTI.")
    if source.is_dir():
        return _read_dicom(source, options, progress)
    if is_volume(source):
        if options.water_equivalent:
            raise InputError(f"'{source}' is a CT; leave out --water-equivalent, which is for a folder without one.")
        return read_volumes(source, progress)
    raise InputError(
        f"'{source}' is neither a folder of DICOM files nor a CT in NRRD or NIfTI ({', '.join(SUFFIXES)}); "
        "for DICOM give the folder."
    )


def _read_dicom(folder: Path, options: ReadOptions, progress: Progress) -> CaseSource:
    study = scan_folder(
        folder,
        series_uid=options.series_uid,
        structure_set_uid=options.structure_set_uid,
        water_equivalent=options.water_equivalent,
        progress=progress,
    )
    if options.water_equivalent:
        return water_source(folder, study, options.spacing_mm)
    position = patient_position(study.slices)
    ct = read_ct(study.slices, progress)
    first = ct.slices[0]
    structures, roi_numbers, notes = read_structures(
        study.structure_set,
        frame_of_reference_uid=text_of(first, "FrameOfReferenceUID"),
        slice_spacing_mm=float(ct.grid.spacing_mm[2]),
    )
    identity = replace(
        identity_of_study(first),
        ct_series_uid=text_of(first, "SeriesInstanceUID"),
        ct_sop_instance_uids=tuple(text_of(s, "SOPInstanceUID") for s in ct.slices),
        structure_set_uid=text_of(study.structure_set, "SOPInstanceUID"),
        roi_numbers=roi_numbers,
    )
    all_notes = [*study.notes, *ct.notes, *notes]
    if identity.patient_id != text_of(study.structure_set, "PatientID"):
        all_notes.append("The CT and the structure set state different patient IDs; the CT's is kept.")
    return CaseSource(folder.resolve().name, position, ct.grid, ct.hu, structures, identity, tuple(all_notes))


def _resolve_roles(
    structures: Sequence[DrawnStructure], options: ReadOptions
) -> tuple[tuple[RoleProposal, ...], tuple[str, ...]]:
    """Proposed roles with what the user set in their place, and notes on targets that are no PTV."""
    names, choices = [s.name for s in structures], options.structures
    proposed = propose_roles([(s.name, s.interpreted_type) for s in structures])
    resolved = with_choices(names, proposed, choices)
    if options.needs_target and not any(p.role is Role.TARGET for p in resolved):
        raise InputError(
            f"No structure is a target; name the one to treat, with its dose, out of {', '.join(names) or 'none'}."
        )
    notes = tuple(
        f"Structure '{s.name}' is planned as a target: {p.reason}."
        for s, p in zip(structures, proposed, strict=True)
        if p.role is not propose_role(s.name, s.interpreted_type).role
        and p.role is Role.TARGET
        and s.name not in choices
    )
    return resolved, notes


def _draw(
    drawn: Sequence[DrawnStructure],
    proposals: Sequence[RoleProposal],
    choices: Mapping[str, StructureChoice],
    grid: Grid,
    progress: Progress,
    *,
    needs_target: bool,
) -> tuple[list[Structure], list[str]]:
    """Structures on the grid, and notes on those left out."""
    structures, notes = [], []
    for n, (source, proposal) in enumerate(zip(drawn, proposals, strict=True)):
        progress.step("Reading case", 0.75 + 0.25 * (n + 1) / len(drawn), source.name)
        fraction = source.fraction_on(grid) if source.fraction_on else np.zeros(grid.shape, np.float32)
        if fraction.any():
            dose_gy, stated = proposal.prescription_gy, choices.get(source.name, StructureChoice()).density
            density = source.density if stated is None else stated
            structures.append(
                Structure(source.name, proposal.role, fraction, dose_gy, proposal.organ, source.color, density)
            )
        elif proposal.role is Role.TARGET and needs_target:
            what = "lies outside the CT" if source.fraction_on else "has no contours"
            raise InputError(f"Target '{source.name}' {what}; draw it, or give it the role 'other'.")
        else:
            notes.append(f"Structure '{source.name}' is empty and left out.")
    return structures, notes


def _external(name: str, ct_hu: NDArray[np.float32], grid: Grid) -> Structure:
    fraction = external_from_ct(ct_hu, grid)
    if not fraction.any():
        raise InputError("No structure is the external, and the CT shows no patient above -400 HU; draw the external.")
    return Structure(name, Role.EXTERNAL, fraction)


def _water(structures: Sequence[Structure]) -> NDArray[np.float32]:
    """CT of a body of water; a voxel that the external only touches counts by its share later."""
    external = next((s.fraction for s in structures if s.role is Role.EXTERNAL), None)
    if external is None:
        raise InputError("No structure is the external, which a water-equivalent body is made of; name one.")
    return np.where(external > 0, np.float32(0), np.float32(AIR_HU))


def _check_targets(case: PatientCase) -> None:
    """Refuse a target that lies outside the patient."""
    external = case.external
    for target in case.with_role(Role.TARGET):
        # At least this share of a voxel that both boundaries cut lies outside.
        outside = np.maximum(target.fraction - external.fraction, 0).sum(dtype=np.float64) * case.grid.voxel_volume_cc
        share = outside / case.volume_cc(target)
        if outside > _OUTSIDE_CC and share > _OUTSIDE_SHARE:
            raise InputError(
                f"Target '{target.name}' lies outside the external '{external.name}' with {outside:.1f} cc "
                f"({share:.0%}); correct the contours or name another external."
            )
