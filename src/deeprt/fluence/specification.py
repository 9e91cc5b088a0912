"""Objectives as a planner writes them down, bound to the structures of a case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from deeprt.case import PatientCase, outside_higher_targets
from deeprt.errors import InputError
from deeprt.fluence.objectives import (
    Geud,
    MaxDvh,
    MeanDose,
    MinDvh,
    Objective,
    SquaredDeviation,
    SquaredOverdose,
    SquaredUnderdose,
)
from deeprt.fluence.problem import Term, VoxelSample, make_term
from deeprt.structures import Role, Structure


@dataclass(frozen=True)
class ObjectiveSpec:
    """One line of a protocol's objectives.

    Parameters
    ----------
    structure : name or TG-263 organ of a structure; or ``targets``, ``organs_at_risk`` or ``external`` for all of
        that role. A line whose structure the case does not have is left out
    type : squared_deviation, squared_overdose, squared_underdose, mean_dose, max_dvh, min_dvh or gEUD
    weight : of the objective, which is a mean over the structure's volume (Gy², mean_dose Gy)
    dose_gy, dose_percent : reference dose, whole course; percent of the target's own prescription, for other
        structures of the highest one. All types but mean_dose need one of them
    volume_percent : of max_dvh and min_dvh
    exponent : of gEUD

    Raises
    ------
    InputError
        If the type is unknown or a parameter is missing, contradictory or without meaning for the type.
    """

    structure: str
    type: str
    weight: float
    dose_gy: float | None = None
    dose_percent: float | None = None
    volume_percent: float | None = None
    exponent: float | None = None

    def __post_init__(self) -> None:
        line = f"Objective '{self.type}' of '{self.structure}'"
        if self.type not in _NEEDS:
            raise InputError(f"{line}: unknown type; known are {', '.join(_NEEDS)}.")
        if not self.weight > 0:
            raise InputError(f"{line}: the weight must be positive, got {self.weight}.")
        for name in ("dose_gy", "dose_percent"):
            dose = getattr(self, name)
            if dose is not None and self.type == "mean_dose":
                raise InputError(f"{line}: {name} is without meaning for this type.")
            if dose is not None and not dose >= 0:
                raise InputError(f"{line}: the dose must not be negative, got {dose}.")
        if self.type != "mean_dose" and (self.dose_gy is None) == (self.dose_percent is None):
            raise InputError(f"{line}: give either dose_gy or dose_percent.")
        for name in ("volume_percent", "exponent"):
            given, needed = getattr(self, name) is not None, name in _NEEDS[self.type]
            if given != needed:
                raise InputError(f"{line}: {name} is {'needed' if needed else 'without meaning for this type'}.")
        if self.volume_percent is not None and not 0 <= self.volume_percent <= 100:
            raise InputError(f"{line}: volume_percent must lie in 0 to 100, got {self.volume_percent}.")
        if self.exponent is not None and self.exponent < 1:
            raise InputError(f"{line}: the exponent must be at least 1, got {self.exponent}.")

    def objective(self, prescription_gy: float) -> Objective:
        """Make the objective, percents referring to this prescription."""
        dose = self.dose_gy if self.dose_gy is not None else (self.dose_percent or 0.0) / 100 * prescription_gy
        return _MAKE[self.type](self, dose)


_NEEDS: dict[str, tuple[str, ...]] = {
    "squared_deviation": (),
    "squared_overdose": (),
    "squared_underdose": (),
    "mean_dose": (),
    "max_dvh": ("volume_percent",),
    "min_dvh": ("volume_percent",),
    "gEUD": ("exponent",),
}
_MAKE: dict[str, Callable[[ObjectiveSpec, float], Objective]] = {
    "squared_deviation": lambda spec, dose: SquaredDeviation(dose),
    "squared_overdose": lambda spec, dose: SquaredOverdose(dose),
    "squared_underdose": lambda spec, dose: SquaredUnderdose(dose),
    "mean_dose": lambda spec, dose: MeanDose(),
    "max_dvh": lambda spec, dose: MaxDvh(dose, spec.volume_percent or 0.0),
    "min_dvh": lambda spec, dose: MinDvh(dose, spec.volume_percent or 0.0),
    "gEUD": lambda spec, dose: Geud(dose, spec.exponent or 1.0),
}


def make_terms(
    case: PatientCase, specs: Sequence[ObjectiveSpec], sample: VoxelSample, device: torch.device
) -> tuple[Term, ...]:
    """Bind objectives to the structures of a case; lines without a structure in the case are left out.

    Where targets are nested, what limits dose in one of lower prescription applies outside those of higher
    prescription and a margin around them (`outside_higher_targets`).

    Raises
    ------
    InputError
        If no line finds a target, so that no dose at all would be optimal.
    """
    terms = []
    for spec in specs:
        for structure in _meant(case, spec.structure):
            prescription = structure.prescription_gy or case.targets[0].prescription_gy or 0.0
            if spec.type in ("squared_deviation", "squared_overdose", "max_dvh", "gEUD"):
                structure = outside_higher_targets(case, structure)
            if not (structure.fraction.ravel()[sample.voxels] > 0).any():
                continue
            objective = spec.objective(prescription)
            terms.append(make_term(structure, objective, [spec.weight], sample, device=device, per_volume=True))
    targets = {t.name for t in case.targets}
    if not any(t.structure in targets for t in terms):
        raise InputError("No objective refers to a target; add one with structure = 'targets'.")
    return tuple(terms)


def _meant(case: PatientCase, word: str) -> tuple[Structure, ...]:
    """Structures that a line of a protocol means."""
    if word == "targets":
        return case.targets
    if word == "organs_at_risk":
        return case.with_role(Role.ORGAN_AT_RISK)
    if word == "external":
        return (case.external,)
    named = tuple(s for s in case.structures if s.name == word)
    return named or tuple(s for s in case.structures if s.organ == word)
