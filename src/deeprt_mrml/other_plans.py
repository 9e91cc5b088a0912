"""Beams and fluence of a plan that another system made, to plan with and to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeprt.beams import Beam, BeamAngles
from deeprt.case import PatientCase
from deeprt.delivery.control_points import beam_openings
from deeprt.delivery.existing_plan import ExistingPlan, PlannedBeam
from deeprt.delivery.fluence import fluence_of
from deeprt.dicom.eclipse_fluence import read_eclipse_fluence
from deeprt.dicom.read_plan import read_plan
from deeprt.errors import InputError
from deeprt.machine import Machine
from deeprt.orientation.candidates import SAME_DEG, separations_deg

_SAME_ANGLE_DEG = 0.5  # between a beam and its counterpart, to which angles of plans are rounded at most
_SAME_ISOCENTER_MM = 1.0


@dataclass(frozen=True)
class OtherBeams:
    """Angles of a plan's beams.

    Parameters
    ----------
    angles : of the beams, one for each direction
    collimator_deg : of all of them; None if they differ
    notes : what DeepRT does otherwise, one sentence each
    """

    angles: tuple[BeamAngles, ...]
    collimator_deg: float | None
    notes: tuple[str, ...]


def beams_of(path: Path, case: PatientCase) -> OtherBeams:
    """Read the angles of the treatment beams of an RTPLAN file for planning a case.

    Raises
    ------
    InputError
        If the file is no RTPLAN, a beam is not at fixed angles, or the plan is for another patient position.
    """
    plan = _fixed_beams(path, case)
    angles: list[BeamAngles] = []
    notes = list(plan.notes)
    for beam in plan.beams:
        if angles and separations_deg(angles, beam.angles).min() < SAME_DEG:
            notes.append(f"Beam {beam.number} '{beam.name}' comes from the direction of another one and is left out.")
        else:
            angles.append(beam.angles)
    collimators_deg = sorted({round(a.collimator_deg, 1) for a in angles})
    if len(collimators_deg) > 1:
        listed = ", ".join(f"{c:g}°" for c in collimators_deg)
        notes.append(f"The beams have collimator angles of {listed}; DeepRT has one for all, which was not changed.")
    notes += _isocenter_notes(plan, case.isocenter_lps())
    return OtherBeams(tuple(angles), collimators_deg[0] if len(collimators_deg) == 1 else None, tuple(notes))


def fluence_of_plan_file(
    path: Path, case: PatientCase, beams: Sequence[Beam], machine: Machine
) -> tuple[tuple[NDArray[np.float64], ...], tuple[str, ...]]:
    """Fluence that the segments of an RTPLAN file deliver, on the beamlets of other beams of the same angles.

    Parameters
    ----------
    machine : whose leaves, but for their edges, the plan is taken to have

    Returns
    -------
    maps : one (n_rows, n_cols) a beam, MU per fraction, zero where closed
    notes : what was assumed, one sentence each

    Raises
    ------
    InputError
        As `beams_of`, and if a beam has no counterpart in the file.
    """
    plan = _fixed_beams(path, case)
    maps = []
    for beam in beams:
        planned = _counterpart(beam, plan, path)
        mlc = replace(machine.mlc, leaf_edges_mm=planned.leaf_edges_mm)
        openings = beam_openings(planned, tip_offset_mm=mlc.tip_offset_mm)
        delivered = fluence_of(openings, mlc, beam.x_edges_mm, beam.y_edges_mm)
        maps.append(np.where(beam.open_beamlets, delivered, 0.0))
    isocenter_lps = beams[0].isocenter_lps if beams else case.isocenter_lps()
    return tuple(maps), (*plan.notes, *_isocenter_notes(plan, isocenter_lps))


def fluence_of_eclipse_files(paths: Sequence[Path], beams: Sequence[Beam]) -> tuple[NDArray[np.float64], ...]:
    """Fluence of Varian's text files, one a beam in their order, on the beams' beamlets, zero where closed.

    Raises
    ------
    InputError
        If a file is not of this kind, or there is not one for each beam.
    """
    if len(paths) != len(beams):
        raise InputError(f"There are {len(paths)} fluence files for {len(beams)} beams; choose one for each, in order.")
    images = [read_eclipse_fluence(p) for p in paths]
    return tuple(np.where(b.open_beamlets, i.on_beamlets(b), 0.0) for b, i in zip(beams, images, strict=True))


def _fixed_beams(path: Path, case: PatientCase) -> ExistingPlan:
    plan = read_plan(path)
    if plan.unsupported:
        raise InputError(f"{plan.unsupported[0].reason} Choose a plan of photon beams at fixed angles.")
    if plan.position and plan.position != case.position:
        raise InputError(
            f"Plan '{path}' treats the patient {plan.position}, the CT shows {case.position}; choose the plan of this "
            "CT."
        )
    return plan


def _counterpart(beam: Beam, plan: ExistingPlan, path: Path) -> PlannedBeam:
    """Beam of a plan with the same angles."""
    for planned in plan.beams:
        pairs = (
            (planned.angles.gantry_deg, beam.angles.gantry_deg),
            (planned.angles.couch_deg, beam.angles.couch_deg),
            (planned.angles.collimator_deg, beam.angles.collimator_deg),
        )
        if all(abs((a - b + 180) % 360 - 180) < _SAME_ANGLE_DEG for a, b in pairs):
            return planned
    a = beam.angles
    raise InputError(
        f"Plan '{path}' has no beam at gantry {a.gantry_deg:.1f}°, couch {a.couch_deg:.1f}°, collimator "
        f"{a.collimator_deg:.1f}° like {beam.name}; take its beams first."
    )


def _isocenter_notes(plan: ExistingPlan, isocenter_lps: NDArray[np.float64]) -> tuple[str, ...]:
    """Note where isocenters of a plan lie elsewhere than DeepRT's."""
    away_mm = max(float(np.linalg.norm(b.isocenter_lps - isocenter_lps)) for b in plan.beams)
    if away_mm <= _SAME_ISOCENTER_MM:
        return ()
    return (
        f"The plan's isocenter lies {away_mm:.1f} mm from the center of the targets, where DeepRT puts it; maps are "
        "not moved by that.",
    )
