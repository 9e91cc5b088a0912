"""A plan that another system made: its beams as their control points deliver them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deeprt.beams import BeamAngles
from deeprt.case import PatientCase
from deeprt.errors import InputError
from deeprt.machine import Machine

Float = NDArray[np.float64]

WITHDRAWN_MM = 1000.0  # tips of leaves that are out of the field, and edges of the one pair of a beam without leaves
_ENERGY_TOLERANCE_MV = 0.05
_SAD_TOLERANCE_MM = 1.0


@dataclass(frozen=True, eq=False)
class PlannedBeam:
    """One beam at fixed angles; leaves and jaws move linearly with the meterset between control points.

    All lengths at the isocenter plane, in IEC beam-limiting-device axes.

    Parameters
    ----------
    number, name : as in the plan
    group_number : of the fraction group
    angles : IEC 61217
    isocenter_lps : (3,), mm
    sad_mm : source to isocenter
    energy_mv : nominal
    is_flattened : whether a flattening filter is in the beam
    machine_name : what the plan calls its machine
    mu : per fraction
    n_fractions : of its fraction group
    meterset : (n_points,) share of ``mu`` delivered before each control point, from 0 to 1
    jaws_mm : (n_points, 4) x1, x2, y1, y2 along +Xb and +Yb; infinite where the machine has no such jaws
    leaf_edges_mm : (n_pairs + 1,) increasing, across the leaves' travel
    left_mm, right_mm : (n_points, n_pairs) tips along the leaves' travel, ``left <= right``; a beam without leaves
        has one pair, out of the field
    leaf_travel : axis of the leaves' travel, x for MLCX, y for MLCY
    has_bolus : whether the beam passes a bolus, which is a structure of the case
    ssd_mm : source to surface as the plan states it, None if it does not
    point_lps, stated_point_gy_per_fraction : the beam's dose as the plan states it, at its point; None if it does not
    """

    number: int
    name: str
    group_number: int
    angles: BeamAngles
    isocenter_lps: Float
    sad_mm: float
    energy_mv: float
    is_flattened: bool
    machine_name: str
    mu: float
    n_fractions: int
    meterset: Float
    jaws_mm: Float
    leaf_edges_mm: Float
    left_mm: Float
    right_mm: Float
    leaf_travel: Literal["x", "y"] = "x"
    has_bolus: bool = False
    ssd_mm: float | None = None
    point_lps: Float | None = None
    stated_point_gy_per_fraction: float | None = None

    def __post_init__(self) -> None:
        if self.n_fractions < 1 or not self.mu > 0:
            raise ValueError(
                f"Beam '{self.name}' needs a fraction and monitor units; it has {self.n_fractions}, {self.mu}."
            )
        n_points, n_pairs = self.meterset.size, self.leaf_edges_mm.size - 1
        if n_points < 2 or self.meterset[0] != 0 or self.meterset[-1] != 1 or np.any(np.diff(self.meterset) < 0):
            raise ValueError(f"Beam '{self.name}': the meterset must rise from 0 to 1, with two or more points.")
        if self.jaws_mm.shape != (n_points, 4) or np.any(self.jaws_mm[:, ::2] > self.jaws_mm[:, 1::2]):
            raise ValueError(f"Beam '{self.name}': every control point needs jaws with x1 <= x2 and y1 <= y2.")
        if n_pairs < 1 or np.any(np.diff(self.leaf_edges_mm) <= 0):
            raise ValueError(f"Beam '{self.name}': leaf edges must increase and bound at least one leaf pair.")
        if self.left_mm.shape != (n_points, n_pairs) or self.right_mm.shape != (n_points, n_pairs):
            raise ValueError(f"Beam '{self.name}': every control point must place all {n_pairs} leaf pairs.")
        if np.any(self.left_mm > self.right_mm):
            raise ValueError(f"Beam '{self.name}': left tips must not lie beyond right tips.")

    @property
    def has_leaves(self) -> bool:
        """Whether leaves shape the beam."""
        return bool(np.any(np.abs(self.left_mm) < WITHDRAWN_MM))

    @property
    def technique(self) -> str:
        """How the beam is delivered: open field, static, step and shoot, or sliding window."""
        moves = np.any(np.diff(self.left_mm, axis=0) != 0, axis=1) | np.any(np.diff(self.right_mm, axis=0) != 0, axis=1)
        jaws = np.where(np.isfinite(self.jaws_mm), self.jaws_mm, 0.0)
        moves |= np.any(np.diff(jaws, axis=0) != 0, axis=1)
        if np.any(moves & (np.diff(self.meterset) > 0)):
            return "sliding window"
        if np.any(moves):
            return "step and shoot"
        return "static" if self.has_leaves else "open field"


@dataclass(frozen=True)
class UnsupportedBeam:
    """A beam whose dose cannot be computed; ``reason`` is a sentence that names it."""

    number: int
    name: str
    group_number: int
    reason: str


@dataclass(frozen=True, eq=False)
class ExistingPlan:
    """A plan as another system exported it.

    Parameters
    ----------
    label, system : of the plan and of what wrote it, shown in reports
    sop_class_uid, sop_instance_uid : which a dose of it refers to
    patient_id, frame_of_reference_uid : empty if the plan states none
    position : DICOM Patient Position
    beams : whose dose can be computed, in the order of the fraction groups
    unsupported : the other ones
    notes : what was left out or assumed, one sentence each
    """

    label: str
    system: str
    sop_class_uid: str
    sop_instance_uid: str
    patient_id: str
    frame_of_reference_uid: str
    position: str
    beams: tuple[PlannedBeam, ...]
    unsupported: tuple[UnsupportedBeam, ...]
    notes: tuple[str, ...]

    def moved(self, shift_mm: Float) -> ExistingPlan:
        """Return the plan with every isocenter and dose point moved, (3,), LPS, mm."""
        beams = tuple(
            replace(
                b,
                isocenter_lps=b.isocenter_lps + shift_mm,
                point_lps=None if b.point_lps is None else b.point_lps + shift_mm,
            )
            for b in self.beams
        )
        return replace(self, beams=beams)

    def centered(self, case: PatientCase) -> ExistingPlan:
        """Return the plan as a whole moved so that its first isocenter lies at the center of a phantom's grid."""
        if not self.beams:
            return self
        shift = case.grid.center_lps - self.beams[0].isocenter_lps
        words = ", ".join(f"{x:.1f}" for x in shift)
        note = f"The plan was moved by ({words}) mm, so that its first isocenter lies at the center of the phantom."
        # A phantom has no head or feet: it lies as the plan wants its patient to lie.
        return replace(self.moved(shift), position=case.position, notes=(*self.notes, note))


def with_machines(
    plan: ExistingPlan, machines: Sequence[Machine], *, machines_are_chosen: bool = False
) -> tuple[ExistingPlan, tuple[Machine, ...]]:
    """Give each beam the machine of its energy, with the plan's own leaves.

    Parameters
    ----------
    machines_are_chosen : by the user, so that one may stand for a beam without flattening filter

    Returns
    -------
    plan : with beams that no machine can deliver among the unsupported ones, and notes on what was replaced
    machines : one a beam

    Raises
    ------
    InputError
        If two machines have one energy.
    """
    for n, one in enumerate(machines):
        for other in machines[:n]:
            if abs(one.energy_mv - other.energy_mv) < _ENERGY_TOLERANCE_MV:
                raise InputError(f"{other.name} and {one.name} both have {one.energy_mv:g} MV; give one of them.")
    beams, chosen, unsupported, notes = [], [], list(plan.unsupported), list(plan.notes)
    for beam in plan.beams:
        machine = next((m for m in machines if abs(m.energy_mv - beam.energy_mv) < _ENERGY_TOLERANCE_MV), None)
        if reason := _why_not(beam, machine, machines, machines_are_chosen):
            unsupported.append(UnsupportedBeam(beam.number, beam.name, beam.group_number, reason))
            continue
        assert machine is not None
        note = f"'{beam.machine_name}' is computed as {machine.name}, {machine.energy_mv:g} MV."
        if beam.has_leaves and not np.array_equal(beam.leaf_edges_mm, machine.mlc.leaf_edges_mm):
            note = note[:-1] + f", with the {beam.leaf_edges_mm.size - 1} leaf pairs of the plan."
        if note not in notes:
            notes.append(note)
        if not beam.is_flattened:
            notes.append(f"Beam {beam.number} '{beam.name}' has no flattening filter; {machine.name} stands for it.")
        beams.append(beam)
        chosen.append(replace(machine, mlc=replace(machine.mlc, leaf_edges_mm=beam.leaf_edges_mm)))
    return replace(plan, beams=tuple(beams), unsupported=tuple(unsupported), notes=tuple(notes)), tuple(chosen)


def _why_not(
    beam: PlannedBeam, machine: Machine | None, machines: Sequence[Machine], machines_are_chosen: bool
) -> str | None:
    """Sentence on why no machine delivers the beam, None if one does."""
    where = f"Beam {beam.number} '{beam.name}'"
    energies = ", ".join(f"{m.name} {m.energy_mv:g} MV" for m in machines)
    if not beam.is_flattened and not machines_are_chosen:
        return f"{where} has {beam.energy_mv:g} MV without flattening filter, which no shipped machine has."
    if machine is None:
        return f"{where} has {beam.energy_mv:g} MV, and there is no machine of that energy (there are: {energies})."
    if abs(machine.sad_mm - beam.sad_mm) > _SAD_TOLERANCE_MM:
        return f"{where} has its axis {beam.sad_mm:g} mm from the source, {machine.name} {machine.sad_mm:g} mm."
    return None
