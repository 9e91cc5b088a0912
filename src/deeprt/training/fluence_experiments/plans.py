"""Synthetic plans, sequenced from predicted maps, beside the reference plans: table 2, figures 11 and 12."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from deeprt.case import PatientCase
from deeprt.delivery.segments import DeliverablePlan
from deeprt.evaluation.compare import residual_sum_of_squares
from deeprt.evaluation.dvh import Dvh, structure_dvh
from deeprt.evaluation.metrics import target_metrics
from deeprt.progress import Progress
from deeprt.structures import Role, Structure
from deeprt.training.fluence_experiments.methods import predicted_maps, synthetic_plan
from deeprt.training.fluence_experiments.results import N_REFINED
from deeprt.training.fluence_experiments.setup import (
    Method,
    PlannedPatient,
    Setup,
    load_planned_patient,
    measure_patients,
)
from deeprt.training.measuring.results import Json

COURSE_GY = 72.6  # with the boost, which the paper's criteria are for: 44 Gy are scaled to it


def plans(setup: Setup, progress: Progress) -> list[Json]:
    """Criteria and DVH distances of every method's plans, one row a patient."""
    methods, ids = setup.methods(N_REFINED), setup.test_ids(setup.cohort)
    return measure_patients(setup, "plans", _plan_row, methods, ids, progress)


def _plan_row(setup: Setup, method: Method, patient_id: str) -> Json:
    patient = load_planned_patient(setup, patient_id)
    case, reference_gy = patient.case, patient.plan.dose_gy
    maps_mu = predicted_maps(setup, method, case, patient.beams, patient.machine, reference_gy)
    return synthetic_row(patient, method, *synthetic_plan(case, patient.beams, patient.machine, maps_mu, reference_gy))


def synthetic_row(
    patient: PlannedPatient, method: Method, plan: DeliverablePlan, dose_gy: NDArray[np.float32], factor: float
) -> Json:
    """A synthetic plan of a method beside the reference plan; what `synthetic_plan` gives comes last."""
    case, reference_gy = patient.case, patient.plan.dose_gy
    curves, references = (structure_curves(case, d) for d in (dose_gy, reference_gy))
    return {
        "patient": patient.about.id,
        "method": method.name,
        "factor": factor,
        "mu": sum(plan.beam_mu(n) for n in range(len(patient.beams))),
        "reference_mu": float(patient.plan.beam_mu.sum()),
        "reference": plan_criteria(case, reference_gy),
        "synthetic": plan_criteria(case, dose_gy),
        "rss": {
            name: residual_sum_of_squares(curve, references[name], case.targets[0].prescription_gy or 0.0)
            for name, curve in curves.items()
        },
    }


def structure_curves(case: PatientCase, dose_gy: NDArray[np.float32]) -> dict[str, Dvh]:
    """DVHs of targets, then of organs at risk, by name."""
    shown = [*case.targets, *case.with_role(Role.ORGAN_AT_RISK)]
    return {s.name: structure_dvh(dose_gy, s.fraction, case.grid.voxel_volume_cc) for s in shown if not s.is_empty}


def plan_criteria(case: PatientCase, dose_gy: NDArray[np.float32]) -> dict[str, float]:
    """The criteria of the paper's table 2, as `METRICS` names them, of a dose scaled to 72.6 Gy.

    Parameters
    ----------
    dose_gy : (n_k, n_j, n_i) float32, whole course as prescribed
    """
    target = case.targets[0]
    assert target.prescription_gy is not None
    scaled = (dose_gy * (COURSE_GY / target.prescription_gy)).astype(np.float32)
    curve = structure_dvh(scaled, target.fraction, case.grid.voxel_volume_cc)
    indices = target_metrics(scaled, replace(target, prescription_gy=COURSE_GY), curve, case.external)
    found = {
        "HI": indices.homogeneity_index,
        "CI": indices.conformity_index,
        "PTV V72.6Gy": 100 * curve.volume_at_dose(COURSE_GY),
    }
    for s in case.with_role(Role.ORGAN_AT_RISK):
        if not s.is_empty:
            found |= _organ_criteria(s, structure_dvh(scaled, s.fraction, case.grid.voxel_volume_cc))
    return found


def _organ_criteria(structure: Structure, curve: Dvh) -> dict[str, float]:
    """Criteria of an organ at risk, by its TG-263 name; none for organs without one."""
    organ = structure.organ
    if organ in ("Rectum", "Bladder"):
        return {f"{organ} V60Gy": 100 * curve.volume_at_dose(60.0)}
    if organ == "Bag_Bowel":
        return {f"{organ} V45Gy": curve.volume_cc * curve.volume_at_dose(45.0)}
    if organ in ("Femur_Head_L", "Femur_Head_R"):
        return {f"{organ} Dmax": curve.max_gy}
    return {f"{organ} Dmean": curve.mean_gy} if organ == "PenileBulb" else {}
