"""What attenuates besides the plain CT: stated densities, couch, bolus, and metal beyond the scanner's table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deeprt.case import PatientCase
from deeprt.structures import BESIDE_PATIENT, Role, Structure

_NOTHING = 0.05  # mean density of a support below which the CT shows none: air, noise and a sheet over the table
_NO_BOLUS = 0.5  # mean density of a bolus below which it was not there when the CT was taken


def with_densities(case: PatientCase) -> PatientCase:
    """Settle the density of bolus and support that none was stated for, and say what attenuates in the notes.

    A bolus is water where the CT shows air, since it is often laid on for treatment only; elsewhere it is what the CT
    shows. A support is what the CT shows. Values above the end of the HU table keep its last density.
    """
    settled = [_settled(case, s) for s in case.structures]
    case = replace(case, structures=tuple(s for s, _ in settled))
    notes = [note for _, note in settled if note]
    return replace(case, notes=(*case.notes, *notes, *_beyond_table(case)))


def _settled(case: PatientCase, s: Structure) -> tuple[Structure, str]:
    """A structure with the density that it attenuates with, and a note on it; empty for plain anatomy."""
    if s.density is not None:
        return s, f"Structure '{s.name}' has the relative electron density {s.density:g} in place of the CT's."
    if s.role not in BESIDE_PATIENT:
        return s, ""
    of_ct = _density_of_ct(case, s)
    if s.role is Role.BOLUS and of_ct < _NO_BOLUS:
        note = f"The CT shows air in the bolus '{s.name}'; it is water, with a relative electron density of 1."
        return replace(s, density=1.0), note
    if s.role is Role.SUPPORT and of_ct < _NOTHING:
        return s, (
            f"The CT shows air in the support '{s.name}', so it does not attenuate; "
            f"give its density under [structures.{s.name}]."
        )
    return s, f"The {s.role} '{s.name}' attenuates as the CT shows it, with a mean density of {of_ct:.2f}."


def _density_of_ct(case: PatientCase, structure: Structure) -> float:
    """Mean relative electron density that the CT shows in a structure."""
    inside = structure.fraction > 0
    return float(np.average(case.hu_table.to_density(case.ct_hu[inside]), weights=structure.fraction[inside]))


def _beyond_table(case: PatientCase) -> tuple[str, ...]:
    """Note on voxels of the patient above the end of the HU table that no structure gives a density."""
    table = case.hu_table
    stated = [s.fraction for s in case.structures if s.density is not None]
    left = case.external.fraction * (1 - np.maximum.reduce(stated)) if stated else case.external.fraction
    volume_cc = float(left[case.ct_hu > table.hu[-1]].sum(dtype=np.float64)) * case.grid.voxel_volume_cc
    if volume_cc == 0:
        return ()
    return (
        f"{volume_cc:.2g} cc of the patient lie above {table.hu[-1]:g} HU, the end of the HU table '{table.name}', and "
        f"have its last density, {table.density[-1]:g}; if it is metal, give the structure drawn around it a density.",
    )
