"""The comparison step: from two doses of one case to everything a report says about their difference."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deeprt.case import PatientCase
from deeprt.errors import InputError
from deeprt.evaluation.criteria import Criterion
from deeprt.evaluation.dvh import Dvh
from deeprt.evaluation.evaluate import PlanReport, StructureReport, evaluate
from deeprt.evaluation.gamma import gamma_index, pass_rate
from deeprt.structures import Role, Structure

_RSS_STEP = 0.01  # of the relative dose
_GAMMA = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*/\s*(\d+(?:\.\d+)?)\s*mm\s*", re.ASCII)


@dataclass(frozen=True)
class GammaCriterion:
    """Tolerances of dose and distance, such as 3 % and 2 mm."""

    dose_percent: float
    distance_mm: float

    def __post_init__(self) -> None:
        if not (self.dose_percent > 0 and self.distance_mm > 0):
            raise InputError(f"A gamma criterion needs positive tolerances, got {self}.")

    @classmethod
    def parse(cls, text: str) -> GammaCriterion:
        """Read a criterion written like ``3%/2mm``; InputError if it is not."""
        parsed = _GAMMA.fullmatch(text)
        if parsed is None:
            raise InputError(f"Gamma criterion '{text}' is not understood; write it like 3%/2mm.")
        return cls(float(parsed[1]), float(parsed[2]))

    def __str__(self) -> str:
        return f"{self.dose_percent:g}%/{self.distance_mm:g}mm"


@dataclass(frozen=True)
class ComparisonSettings:
    """What two doses are compared by.

    Parameters
    ----------
    goals : judged for both doses
    gamma : criteria, of which the first is drawn
    threshold_percent : voxels below this share of the reference's maximum are left out of gamma
    local : whether the dose tolerance is a share of the dose at the voxel, not of the reference's maximum
    interpolation : steps of gamma's search lattice per distance to agreement
    max_gamma : larger values are reported as this
    """

    goals: tuple[Criterion, ...] = ()
    gamma: tuple[GammaCriterion, ...] = (GammaCriterion(3, 2), GammaCriterion(2, 2))
    threshold_percent: float = 10.0
    local: bool = False
    interpolation: int = 10
    max_gamma: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold_percent < 100:
            raise InputError(f"The gamma threshold must lie in 0 to 100 %, got {self.threshold_percent:g} %.")
        if not 1 <= self.interpolation <= 50:
            raise InputError(f"The steps of the gamma search must lie in 1 to 50, got {self.interpolation}.")


@dataclass(frozen=True, eq=False)
class GammaResult:
    """Gamma of one criterion inside the external structure.

    Parameters
    ----------
    gamma : (n_k, n_j, n_i) float64, NaN where not compared
    pass_rate : share of the compared voxels, 0 to 1, whose gamma is at most 1
    mean : of the compared voxels
    n_voxels : that were compared
    """

    criterion: GammaCriterion
    gamma: NDArray[np.float64]
    pass_rate: float
    mean: float
    n_voxels: int


@dataclass(frozen=True)
class StructureDifference:
    """Dose minus reference in one structure, Gy, whole course; voxels count by their share inside.

    Parameters
    ----------
    mean_gy, mean_absolute_gy, rms_gy : of the difference over the volume
    min_gy, max_gy : of any voxel with a part in the structure
    rss : residual sum of squares of the two DVHs, see `residual_sum_of_squares`
    """

    name: str
    role: Role
    mean_gy: float
    mean_absolute_gy: float
    rms_gy: float
    min_gy: float
    max_gy: float
    rss: float


@dataclass(frozen=True, eq=False)
class DoseComparison:
    """How a dose differs from a reference.

    Parameters
    ----------
    settings : it was made by
    report, reference_report : evaluation of the dose and of the reference, goals included
    difference_gy : (n_k, n_j, n_i) float32, dose minus reference, whole course
    structures : in the order of the reports
    gamma : in the order of the settings' criteria
    relative_to_gy : dose that counts as 1 in the residual sums of squares
    """

    settings: ComparisonSettings
    report: PlanReport
    reference_report: PlanReport
    difference_gy: NDArray[np.float32]
    structures: tuple[StructureDifference, ...]
    gamma: tuple[GammaResult, ...]
    relative_to_gy: float


def compare(
    case: PatientCase,
    dose_gy: NDArray[np.float32],
    reference_gy: NDArray[np.float32],
    settings: ComparisonSettings,
) -> DoseComparison:
    """Compare two doses of a case: metrics and goals of both, differences, gamma, distance of the DVHs.

    Parameters
    ----------
    dose_gy, reference_gy : (n_k, n_j, n_i) float32, whole course, on the case's grid; gamma searches ``dose_gy``

    Raises
    ------
    ValueError
        If a dose is not on the case's grid or not finite.
    InputError
        If the reference has no dose inside the external structure, which leaves nothing to compare.
    """
    report, reference_report = (evaluate(case, d, settings.goals) for d in (dose_gy, reference_gy))
    relative_to_gy = (case.targets[0].prescription_gy if case.targets else None) or float(reference_gy.max())
    difference = dose_gy - reference_gy
    structures = tuple(
        _difference(case.structure(a.name), difference, a, b, relative_to_gy)
        for a, b in zip(report.structures, reference_report.structures, strict=True)
    )
    gamma = tuple(_gamma(case, dose_gy, reference_gy, criterion, settings) for criterion in settings.gamma)
    return DoseComparison(settings, report, reference_report, difference, structures, gamma, relative_to_gy)


def residual_sum_of_squares(curve: Dvh, reference: Dvh, relative_to_gy: float) -> float:
    """Distance of two DVHs: ``RSS = sum over D of (DVH_reference(D) - DVH(D))²``.

    Equation (3) of H. Lee et al., Sci. Rep. 9, 15671 (2019), doi:10.1038/s41598-019-52262-x: *D* is the relative dose
    and DVH(D) the share of the volume, 0 to 1, that receives at least *D*. The sum depends on the step of *D*,
    which the paper does not state; here it is 1 % from zero to the largest dose of either curve.

    Parameters
    ----------
    relative_to_gy : the dose that counts as 1, such as the prescription
    """
    top = max(curve.max_gy, reference.max_gy) / relative_to_gy
    dose_gy = np.arange(0.0, top + _RSS_STEP, _RSS_STEP) * relative_to_gy
    return float(((reference.curve(dose_gy) - curve.curve(dose_gy)) ** 2).sum())


def _difference(
    structure: Structure,
    difference_gy: NDArray[np.float32],
    report: StructureReport,
    reference: StructureReport,
    relative_to_gy: float,
) -> StructureDifference:
    inside = structure.fraction > 0
    share = structure.fraction[inside].astype(np.float64)
    share /= share.sum()
    difference = difference_gy[inside].astype(np.float64)
    return StructureDifference(
        structure.name,
        structure.role,
        float(share @ difference),
        float(share @ np.abs(difference)),
        float(np.sqrt(share @ difference**2)),
        float(difference.min()),
        float(difference.max()),
        residual_sum_of_squares(report.dvh, reference.dvh, relative_to_gy),
    )


def _gamma(
    case: PatientCase,
    dose_gy: NDArray[np.float32],
    reference_gy: NDArray[np.float32],
    criterion: GammaCriterion,
    settings: ComparisonSettings,
) -> GammaResult:
    body = case.external.fraction >= 0.5
    if not (reference_gy[body] > settings.threshold_percent / 100 * reference_gy.max()).any():
        raise InputError("The reference has no dose inside the external structure that gamma could compare.")
    spacing_i, spacing_j, spacing_k = (float(s) for s in case.grid.spacing_mm)
    gamma = gamma_index(
        reference_gy,
        dose_gy,
        (spacing_k, spacing_j, spacing_i),
        dose_percent=criterion.dose_percent,
        distance_mm=criterion.distance_mm,
        threshold_percent=settings.threshold_percent,
        local=settings.local,
        max_gamma=settings.max_gamma,
        interpolation=settings.interpolation,
        within=body,
    )
    compared = gamma[~np.isnan(gamma)]
    return GammaResult(criterion, gamma, pass_rate(gamma), float(compared.mean()), int(compared.size))
