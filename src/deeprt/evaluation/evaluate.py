"""The evaluation step: from a dose to everything a report says about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deeprt.case import PatientCase
from deeprt.errors import InputError
from deeprt.evaluation.criteria import Criterion, CriterionResult, NotApplicable, judge
from deeprt.evaluation.dvh import Dvh, structure_dvh
from deeprt.evaluation.metrics import StructureMetrics, TargetMetrics, structure_metrics, target_metrics
from deeprt.structures import BESIDE_PATIENT, Role


@dataclass(frozen=True, eq=False)
class StructureReport:
    """Dose of one structure; ``target`` holds the indices of a prescribed target, else None."""

    name: str
    role: Role
    prescription_gy: float | None
    dvh: Dvh
    metrics: StructureMetrics
    target: TargetMetrics | None


@dataclass(frozen=True, eq=False)
class PlanReport:
    """What a dose does to every structure, and which goals it meets.

    Parameters
    ----------
    structures : in the case's order; empty ones, support and bolus are left out
    goals : results in the order of the criteria
    not_applicable : criteria that could not be evaluated, and why
    """

    structures: tuple[StructureReport, ...]
    goals: tuple[CriterionResult, ...]
    not_applicable: tuple[NotApplicable, ...]

    def structure(self, name: str) -> StructureReport:
        """Return the report of one structure; KeyError names the known ones."""
        for s in self.structures:
            if s.name == name:
                return s
        raise KeyError(f"No structure '{name}' in the report; it has {', '.join(s.name for s in self.structures)}.")

    @property
    def targets(self) -> tuple[StructureReport, ...]:
        """Prescribed targets, highest prescription first."""
        prescribed = [s for s in self.structures if s.target is not None]
        return tuple(sorted(prescribed, key=lambda s: -(s.prescription_gy or 0.0)))


def evaluate(case: PatientCase, dose_gy: NDArray[np.float32], criteria: Sequence[Criterion] = ()) -> PlanReport:
    """Evaluate a dose: DVH and metrics of every structure, indices of every target, goals.

    Parameters
    ----------
    dose_gy : (n_k, n_j, n_i) float32, whole course, on the case's grid
    criteria : goals to judge

    Raises
    ------
    ValueError
        If the dose is not on the case's grid or not finite.
    """
    if dose_gy.shape != case.grid.shape:
        raise ValueError(f"Dose has shape {dose_gy.shape}, the case's grid {case.grid.shape}; resample it.")
    if not np.isfinite(dose_gy).all():
        raise ValueError("The dose must be finite in every voxel.")
    reports = []
    for s in case.structures:
        if s.is_empty or s.role in BESIDE_PATIENT:
            continue
        curve = structure_dvh(dose_gy, s.fraction, case.grid.voxel_volume_cc)
        indices = target_metrics(dose_gy, s, curve, case.external) if s.prescription_gy is not None else None
        reports.append(StructureReport(s.name, s.role, s.prescription_gy, curve, structure_metrics(curve), indices))
    curves = {r.name: r.dvh for r in reports}
    results = [r for criterion in criteria for r in judge(case, dose_gy, criterion, curves)]
    return PlanReport(
        tuple(reports),
        tuple(r for r in results if isinstance(r, CriterionResult)),
        tuple(r for r in results if isinstance(r, NotApplicable)),
    )


def check_dose_of_case(case: PatientCase, dose_gy: NDArray[np.float32], name: str) -> None:
    """Refuse a dose, (n_k, n_j, n_i) on the case's grid, that misses the patient or a target.

    Parameters
    ----------
    name : of the dose, in messages

    Raises
    ------
    InputError
        If it has no dose inside the external, or half of a prescribed target gets none.
    """
    if not (dose_gy * case.external.fraction).any():
        raise InputError(f"Dose '{name}' has no dose inside '{case.external.name}'; it belongs to another case.")
    for target in case.targets:
        if structure_dvh(dose_gy, target.fraction, case.grid.voxel_volume_cc).dose_at_volume(50) <= 0:
            raise InputError(f"Dose '{name}' does not reach half of the target '{target.name}'.")
