"""What the cards of released networks have in common: what was seen in training, on which plans, at what budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from deeprt.case import PatientCase
from deeprt.networks.beyond_training import targets_extent_mm
from deeprt.structures import Role
from deeprt.training.beams import FoldResult
from deeprt.training.cohort import CohortPatient
from deeprt.training.loop import TrainResult, TrainSettings
from deeprt.training.reference_plans import ReferenceSettings

VIRTUAL_LIMIT = "It has seen virtual patients only."
PLANS_LIMIT = "It imitates plans of DeepRT's optimizer for drawn preferences, not those of a physician."


@dataclass(frozen=True)
class Seen:
    """What a network has seen of patients.

    Parameters
    ----------
    extent_mm : box around the targets, along L, P and S: the largest one of each
    organs : TG-263 names of the organs at risk that all of them have
    prescription_levels : of the targets, over the highest of the patient
    """

    extent_mm: tuple[float, float, float]
    organs: tuple[str, ...]
    prescription_levels: tuple[float, ...]


def seen_in(cases: Iterable[PatientCase]) -> Seen:
    """Go through the cases of a training."""
    boxes, organs, levels = [], [], set()
    for case in cases:
        boxes.append(targets_extent_mm(case))
        organs.append({s.organ for s in case.with_role(Role.ORGAN_AT_RISK) if s.organ})
        doses_gy = [t.prescription_gy or 0.0 for t in case.targets]
        levels |= {round(dose / doses_gy[0], 3) for dose in doses_gy}
    x, y, z = np.max(boxes, axis=0).round(1).tolist()
    return Seen((x, y, z), tuple(sorted(set.intersection(*organs))), tuple(sorted(levels)))


def budget_text(result: FoldResult | TrainResult, settings: TrainSettings) -> str:
    """What a training took, in words."""
    return (
        f"{result.n_epochs} epochs of {settings.steps_per_epoch} batches of {settings.batch}, Adam with rate "
        f"{settings.rate:g}, {result.seconds:.0f} s of training; best epoch {result.best_epoch}; seed {settings.seed}."
    )


def plans_text(patients: Sequence[CohortPatient], plans: ReferenceSettings) -> str:
    """Patients with reference plans, in words."""
    return (
        f"{len(patients)} patients, {sum(p.is_virtual for p in patients)} of them virtual, a reference plan each: "
        f"{plans.prescription_gy:g} Gy in {plans.n_fractions} fractions to the union of the targets, "
        f"{plans.machine}, {min(plans.n_beams)} to {max(plans.n_beams)} equispaced beams, sliding window."
    )


def site_of(training: Sequence[CohortPatient]) -> str:
    """Where the patients of a training were treated, as far as the cohort says it."""
    return "virtual prostate" if all(p.is_virtual for p in training) else "the cohort's"
