"""The dose of an existing plan, and what a second check of it compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from deeprt.beams import Beam, source_to_surface_mm
from deeprt.case import PatientCase
from deeprt.delivery.control_points import beam_openings
from deeprt.delivery.dose_of_plan import dose_of_openings
from deeprt.delivery.existing_plan import ExistingPlan, PlannedBeam
from deeprt.delivery.fluence import Openings
from deeprt.dose.influence import beam_influence
from deeprt.dose.raytrace import radiological_depth
from deeprt.errors import InputError
from deeprt.machine import Machine, equivalent_square_mm
from deeprt.progress import Progress, Silent
from deeprt.structures import Role

Float = NDArray[np.float64]

_FAR_MM = 300.0  # an isocenter this far outside the case's grid belongs to another case


@dataclass(frozen=True, eq=False)
class BeamDose:
    """One beam's contribution, and the numbers that explain it.

    Parameters
    ----------
    beam : as planned
    machine_name : of the machine its dose was computed with
    isocenter_gy_per_fraction : dose per fraction of this beam at its isocenter
    point_gy_per_fraction : the same at the point for which the plan states the beam's dose, None if it states none
    ssd_mm : source to the external structure along the axis, None if the axis misses it
    effective_depth_mm : radiological depth of the isocenter, mm of water
    equivalent_square_mm : side, of the jaw openings, each counted by its monitor units
    """

    beam: PlannedBeam
    machine_name: str
    isocenter_gy_per_fraction: float
    point_gy_per_fraction: float | None
    ssd_mm: float | None
    effective_depth_mm: float
    equivalent_square_mm: float


@dataclass(frozen=True, eq=False)
class ExistingPlanDose:
    """Dose of an existing plan on a case.

    Parameters
    ----------
    dose_gy : (n_k, n_j, n_i) float32, whole course, on the case's grid, zero outside the external structure
    beams : in the plan's order
    isocenters_lps : (n_isocenters, 3), mm, each once
    isocenters_gy : (n_isocenters,) dose of all beams there, whole course
    notes : what a reader should know, one sentence each
    """

    dose_gy: NDArray[np.float32]
    beams: tuple[BeamDose, ...]
    isocenters_lps: Float
    isocenters_gy: Float
    notes: tuple[str, ...]


def dose_of_existing_plan(
    case: PatientCase,
    plan: ExistingPlan,
    machines: Sequence[Machine],
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> ExistingPlanDose:
    """Compute the dose of a plan's beams on a case, whole course, each with its own number of fractions.

    Parameters
    ----------
    machines : one a beam, with the plan's leaf edges, as `with_machines` gives them

    Raises
    ------
    InputError
        If there is no beam, or the plan cannot be one for this case.
    """
    _check(case, plan)
    report = progress or Silent()
    without_bolus = _without_bolus(case)
    voxels = np.flatnonzero(case.external.fraction > 0)
    isocenters = np.unique([b.isocenter_lps for b in plan.beams], axis=0)
    # Dose at isocenters and stated points comes from the model itself, not from interpolation between voxels.
    stated = [b.isocenter_lps if b.point_lps is None else b.point_lps for b in plan.beams]
    points = np.vstack([case.grid.points_lps(voxels), isocenters, stated])
    first_stated = voxels.size + len(isocenters)
    total, parts = torch.zeros(len(points), device=device), []
    for number, (planned, machine) in enumerate(zip(plan.beams, machines, strict=True)):
        report.step("dose", number / len(plan.beams), f"{planned.name}, {number + 1} of {len(plan.beams)}")
        openings = beam_openings(planned, tip_offset_mm=machine.mlc.tip_offset_mm)
        seen = case if planned.has_bolus else without_bolus
        beam = _beam(planned, seen, machine, openings)
        try:
            influence = beam_influence(seen, beam, machine, points, torch.device(device))
        except ValueError as error:
            raise InputError(f"Beam {planned.number} cannot be computed: {error}") from error
        dose = dose_of_openings(openings, influence, machine)
        total += planned.n_fractions * dose
        at_own = int(np.flatnonzero((isocenters == planned.isocenter_lps).all(axis=1))[0])
        point_gy_per_fraction = None if planned.point_lps is None else float(dose[first_stated + number])
        at_isocenter = float(dose[voxels.size + at_own])
        parts.append(_beam_dose(seen, planned, beam, machine, openings, at_isocenter, point_gy_per_fraction))
    report.step("dose", 1.0)
    volume = np.zeros(case.grid.n_voxels, np.float32)
    volume[voxels] = total[: voxels.size].cpu().numpy()
    at_isocenters = total[voxels.size : first_stated].cpu().numpy().astype(np.float64)
    return ExistingPlanDose(
        volume.reshape(case.grid.shape), tuple(parts), isocenters, at_isocenters, _notes(case, plan, parts)
    )


def _without_bolus(case: PatientCase) -> PatientCase:
    """Return the case as beams without bolus see it: a bolus that the CT shows stays, one of a given density goes."""
    kept = tuple(s for s in case.structures if s.role is not Role.BOLUS or s.density is None)
    return case if len(kept) == len(case.structures) else replace(case, structures=kept)


def _check(case: PatientCase, plan: ExistingPlan) -> None:
    if not plan.beams:
        raise InputError("No beam of the plan is left whose dose can be computed.")
    if plan.position and plan.position != case.position:
        raise InputError(
            f"The plan treats the patient in position {plan.position}, the case is {case.position}; "
            "give the case that the plan was made for."
        )
    if not case.with_role(Role.BOLUS) and (with_bolus := [b for b in plan.beams if b.has_bolus]):
        raise InputError(
            f"Beam {with_bolus[0].number} '{with_bolus[0].name}' has a bolus, but no structure of the case is one; "
            'give it the role with [structures.NAME] role = "bolus" in a configuration.'
        )
    upper = np.array(case.grid.shape[::-1]) - 0.5
    for beam in plan.beams:
        index = case.grid.lps_to_index(beam.isocenter_lps)[0]
        outside = np.maximum(np.maximum(-0.5 - index, index - upper), 0) * case.grid.spacing_mm
        if outside.max() > _FAR_MM:
            at = ", ".join(f"{x:.0f}" for x in beam.isocenter_lps)
            raise InputError(
                f"Beam {beam.number} '{beam.name}' has its isocenter at ({at}) mm, {outside.max():.0f} mm outside the "
                "case; give the case that the plan was made for."
            )


def _beam(planned: PlannedBeam, case: PatientCase, machine: Machine, openings: Openings) -> Beam:
    """The beam with one pixel between its jaws, which the dose of its openings divides further."""
    x1, x2, y1, y2 = openings.bounds_mm
    if not (x1 < x2 and y1 < y2):
        raise InputError(f"Beam {planned.number} '{planned.name}' is closed: its jaws leave no opening.")
    edges = np.array([x1, x2]), np.array([y1, y2])
    return Beam(
        planned.name,
        planned.angles,
        planned.isocenter_lps,
        case.position,
        machine.sad_mm,
        *edges,
        np.ones((1, 1), bool),
    )


def _beam_dose(
    case: PatientCase,
    planned: PlannedBeam,
    beam: Beam,
    machine: Machine,
    openings: Openings,
    isocenter_gy_per_fraction: float,
    point_gy_per_fraction: float | None,
) -> BeamDose:
    depth = radiological_depth(case.density, case.grid, beam.source_lps, beam.isocenter_lps[None])[0]
    square = float(np.average(equivalent_square_mm(*openings.jaw_sizes_mm), weights=openings.mu))
    return BeamDose(
        planned,
        machine.name,
        isocenter_gy_per_fraction,
        point_gy_per_fraction,
        source_to_surface_mm(case, beam),
        float(depth),
        square,
    )


def _notes(case: PatientCase, plan: ExistingPlan, parts: Sequence[BeamDose]) -> tuple[str, ...]:
    notes = []
    if case.dicom is not None:
        frame = case.dicom.frame_of_reference_uid
        if not plan.frame_of_reference_uid or not frame:
            notes.append("The plan or the case states no frame of reference; they are taken to share one.")
        elif plan.frame_of_reference_uid != frame:
            notes.append(f"The plan lies in the frame of reference {plan.frame_of_reference_uid}, the case in {frame}.")
        if plan.patient_id != case.dicom.patient_id:
            notes.append("The plan and the case state different patient IDs.")
    if not plan.position:
        notes.append(f"The plan states no patient position; that of the case, {case.position}, is taken.")
    for part in parts:
        if part.ssd_mm is None or part.ssd_mm > part.beam.sad_mm:
            notes.append(f"Beam {part.beam.number} '{part.beam.name}': the isocenter lies in front of the patient.")
    return tuple(notes)
