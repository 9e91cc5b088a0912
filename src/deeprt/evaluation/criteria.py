"""Goals of a plan: how they are written, which structure they mean, whether a dose meets them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deeprt.case import NESTED_MARGIN_MM, PatientCase, outside_higher_targets
from deeprt.errors import InputError
from deeprt.evaluation.dvh import Dvh, structure_dvh
from deeprt.structures import Structure

Unit = Literal["Gy", "%", "cc"]
Relation = Literal["<=", ">="]

TARGETS = "targets"  # the word that stands for every prescribed target
GRAMMAR = (
    "write D95%, D2%, D0.03cc, Dmean, Dmax or Dmin (in Gy or % of the prescription), "
    "or V60Gy or V95% of the prescription (in % of the structure or cc)"
)
_METRIC = re.compile(
    r"(?P<quantity>[DV])(?:(?P<statistic>mean|max|min)|(?P<at>\d+(?:\.\d+)?)(?P<unit>%|cc|Gy))", re.ASCII
)
_ROUNDING = 1e-5  # a dose normalized to its goal in float32 meets it


@dataclass(frozen=True)
class Criterion:
    """One goal, such as *Rectum V60Gy <= 35 %*.

    Parameters
    ----------
    structure : a structure's name, its TG-263 organ, or ``targets`` for every prescribed target
    metric : ``D95%``, ``D0.03cc``, ``Dmean``, ``Dmax``, ``Dmin``, ``V60Gy``, ``V95%`` (of the prescription)
    relation : of the value to the limit
    limit : in ``unit``
    unit : Gy or % of the prescription for a dose; % of the structure or cc for a volume. The prescription is the
        target's own, and the highest of the case for other structures
    priority : shown in reports
    source : where the goal comes from

    Raises
    ------
    InputError
        If the metric, relation or unit is not of this grammar, or the limit is not a number.
    """

    structure: str
    metric: str
    relation: Relation
    limit: float
    unit: Unit
    priority: str = "goal"
    source: str = ""

    def __post_init__(self) -> None:
        goal = f"Goal '{self.metric}' of '{self.structure}'"
        parsed = _METRIC.fullmatch(self.metric)
        if parsed is None or (parsed["quantity"], parsed["unit"]) not in {
            ("D", "%"), ("D", "cc"), ("D", None), ("V", "Gy"), ("V", "%")
        }:  # fmt: skip
            raise InputError(f"{goal}: the metric is not understood; {GRAMMAR}.")
        if parsed["quantity"] == "D" and parsed["unit"] == "%" and float(parsed["at"]) > 100:
            raise InputError(f"{goal}: a structure has no {parsed['at']} % of its volume; {GRAMMAR}.")
        units = ("Gy", "%") if parsed["quantity"] == "D" else ("%", "cc")
        if self.unit not in units:
            raise InputError(f"{goal}: its unit must be {' or '.join(units)}, not '{self.unit}'; {GRAMMAR}.")
        if self.relation not in ("<=", ">="):
            raise InputError(f"{goal}: the relation must be <= or >=, not '{self.relation}'.")
        if not np.isfinite(self.limit):
            raise InputError(f"{goal}: the limit must be a finite number, got {self.limit}.")

    @property
    def needs_prescription(self) -> bool:
        """Whether a percent of dose occurs in it."""
        return self.unit == "%" if self.metric.startswith("D") else self.metric.endswith("%")

    def value(self, curve: Dvh, prescription_gy: float) -> float:
        """Read the metric from a DVH, in ``unit``.

        Parameters
        ----------
        curve : of the structure, whole course
        prescription_gy : what percents of dose refer to
        """
        parsed = _METRIC.fullmatch(self.metric)
        assert parsed is not None
        at = float(parsed["at"] or 0)
        if parsed["quantity"] == "V":
            share = curve.volume_at_dose(at if parsed["unit"] == "Gy" else at / 100 * prescription_gy)
            return 100 * share if self.unit == "%" else share * curve.volume_cc
        if parsed["statistic"]:
            dose = {"mean": curve.mean_gy, "max": curve.max_gy, "min": curve.min_gy}[parsed["statistic"]]
        else:
            dose = curve.dose_at_volume(at) if parsed["unit"] == "%" else curve.dose_at_volume_cc(at)
        return dose if self.unit == "Gy" else 100 * dose / prescription_gy

    def is_met_by(self, value: float) -> bool:
        """Whether a value, in ``unit``, keeps the limit (to 1e-5 relative, the rounding of a float32 dose)."""
        slack = _ROUNDING * abs(self.limit)
        return value <= self.limit + slack if self.relation == "<=" else value >= self.limit - slack


@dataclass(frozen=True)
class CriterionResult:
    """What one goal came to in one structure; ``value`` in the goal's unit, ``note`` says on what it was read."""

    criterion: Criterion
    structure: str
    value: float
    met: bool
    note: str = ""


@dataclass(frozen=True)
class NotApplicable:
    """A goal that was not evaluated, and why."""

    criterion: Criterion
    reason: str


def judge(
    case: PatientCase, dose_gy: NDArray[np.float32], criterion: Criterion, curves: Mapping[str, Dvh]
) -> Iterator[CriterionResult | NotApplicable]:
    """Evaluate one goal in every structure that it means.

    A maximum goal on a target is read outside targets of higher prescription and a margin around them, since
    their dose must fall off through it.

    Parameters
    ----------
    dose_gy : (n_k, n_j, n_i), whole course, on the case's grid
    curves : DVH by structure name, for all structures that are not empty
    """
    meant = _meant(case, criterion.structure)
    if not meant:
        yield NotApplicable(criterion, f"The case has no '{criterion.structure}'.")
    for structure in meant:
        prescription = structure.prescription_gy or (case.targets[0].prescription_gy if case.targets else None)
        if structure.name not in curves:
            yield NotApplicable(criterion, f"'{structure.name}' is empty.")
        elif prescription is None and criterion.needs_prescription:
            yield NotApplicable(criterion, "The case has no prescription that its percents could refer to.")
        else:
            curve, note = curves[structure.name], ""
            part = outside_higher_targets(case, structure) if criterion.relation == "<=" else structure
            if part is not structure:
                own = structure.prescription_gy or 0.0
                higher = [t.name for t in case.targets if (t.prescription_gy or 0.0) > own]
                note = f"outside {', '.join(higher)} and {NESTED_MARGIN_MM:g} mm around"
                if part.is_empty:
                    yield NotApplicable(criterion, f"Nothing of '{structure.name}' lies {note}.")
                    continue
                curve = structure_dvh(dose_gy, part.fraction, case.grid.voxel_volume_cc)
            value = criterion.value(curve, prescription or np.nan)
            yield CriterionResult(criterion, structure.name, value, criterion.is_met_by(value), note)


def _meant(case: PatientCase, structure: str) -> tuple[Structure, ...]:
    """Structures a goal applies to; a name goes before an organ, so that two of one organ can have own goals."""
    if structure == TARGETS:
        return case.targets
    named = tuple(s for s in case.structures if s.name == structure)
    return named or tuple(s for s in case.structures if s.organ == structure)
