"""Where a case and its beams lie outside what a network was trained on, one sentence each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deeprt.beams import Beam
from deeprt.case import PatientCase, union
from deeprt.machine import Machine
from deeprt.networks.checkpoint import ModelCard

COPLANAR = "coplanar"  # candidates of a card whose beams were not chosen from any
_COPLANAR_SINE = 0.02  # of the angle between a beam and its patient's transverse planes: a degree


def missing_organs(card: ModelCard, case: PatientCase) -> tuple[str, ...]:
    """Whether the case lacks organs that all patients of the training had."""
    present = {s.organ for s in case.structures}
    missing = " and no ".join(o for o in card.organs if o not in present)
    return (f"{_has_learned(card)} from {card.site} patients; this one has no {missing}.",) if missing else ()


def larger_targets(card: ModelCard, case: PatientCase) -> tuple[str, ...]:
    """Whether the targets extend further than those of any patient of the training."""
    extent = targets_extent_mm(case)
    if np.all(extent <= np.array(card.extent_mm) + 1):
        return ()
    own, known = (" x ".join(f"{e:.0f}" for e in size) for size in (extent, card.extent_mm))
    return (
        f"The targets extend over {own} mm (L, P, S), beyond the largest that the {card.network} has learned from, "
        f"{known} mm.",
    )


def other_number(card: ModelCard, n_beams: int) -> tuple[str, ...]:
    """Whether no plan of the training had that number of beams."""
    low, high = card.n_beams_min, card.n_beams_max
    if low <= n_beams <= high:
        return ()
    known = f"up to {high}" if low == 1 else f"{high}" if low == high else f"{low} to {high}"
    return (f"{_has_learned(card)} from plans of {known} beams, not {n_beams}.",)


def other_beams(card: ModelCard, beams: Sequence[Beam], machine: Machine) -> tuple[str, ...]:
    """Whether number, energy or plane of the beams differ from those of the training."""
    notes = other_number(card, len(beams))
    if card.energy_mv not in (None, machine.energy_mv):
        notes += (f"{_has_learned(card)} from beams of {card.energy_mv:g} MV, not {machine.energy_mv:g} MV.",)
    if card.candidates == COPLANAR and any(abs(b.rotation[2, 2]) > _COPLANAR_SINE for b in beams):
        notes += (f"{_has_learned(card)} from coplanar beams only.",)
    return notes


def targets_extent_mm(case: PatientCase) -> NDArray[np.float64]:
    """Box around the prescribed targets along L, P and S, (3,)."""
    share = union("targets", case.targets).fraction
    points = case.grid.points_lps(np.flatnonzero(share >= min(0.5, share.max())))
    voxel_mm = np.abs(case.grid.index_to_lps[:3, :3]).max(axis=1)
    return np.asarray(np.ptp(points, axis=0) + voxel_mm)


def _has_learned(card: ModelCard) -> str:
    return f"The {card.network} has learned"
