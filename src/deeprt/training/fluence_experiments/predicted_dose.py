"""Doses predicted from contours and prescriptions, beside clinical and reference ones, and the plans they lead to."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeprt.case import PatientCase
from deeprt.cohort.openkbp import read_openkbp_possible_dose
from deeprt.evaluation.dvh import dvh
from deeprt.fluence.dose_prediction import SHIPPED, even_dose, predict_dose
from deeprt.progress import Progress
from deeprt.structures import Role
from deeprt.training.cohort import Cohort, read_cohort
from deeprt.training.dose_data import PlannedCase
from deeprt.training.fluence_experiments.examples import shown_doses
from deeprt.training.fluence_experiments.methods import predicted_maps, synthetic_plan
from deeprt.training.fluence_experiments.openkbp import agreement, clinical_case
from deeprt.training.fluence_experiments.plans import synthetic_row
from deeprt.training.fluence_experiments.results import DEFAULT, EVEN, N_REFINED, PREDICTED
from deeprt.training.fluence_experiments.setup import Method, Setup, load_planned_patient, measure_patients
from deeprt.training.measuring.results import Json, read_result

logger = logging.getLogger(__name__)

PELVIS, HEAD_AND_NECK = SHIPPED
_CLINICAL_METHOD = Method(PREDICTED, dose_network=HEAD_AND_NECK)

Volume = NDArray[np.float32]


def dose(setup: Setup, progress: Progress) -> Json:
    """Predicted doses, and those of even beams, beside the doses of test patients; rows of a patient and method.

    Returns
    -------
    ``openkbp``, beside clinical doses, and ``pelvis``, beside reference plans: how many patients trained and validated
    the network, its ``budget``, None if it is not trained, and ``rows``; ``openkbp`` is None without its cohort
    """
    even, reference_method = Method(EVEN), Method(PREDICTED, dose_network=PELVIS)
    if DEFAULT in setup.trained:
        reference_method = Method(PREDICTED, DEFAULT, N_REFINED, PELVIS)
    found: Json = {"openkbp": None}
    if setup.openkbp is None:
        logger.warning("Without --openkbp, the patients of OpenKBP are left out.")
    else:
        cohort, methods = read_cohort(setup.openkbp), (even, *_there(setup, _CLINICAL_METHOD))
        rows = measure_patients(setup, "dose/openkbp", _clinical_row, methods, setup.test_ids(cohort), progress)
        found["openkbp"] = {**_training(setup, cohort, HEAD_AND_NECK), "rows": rows}
    methods, ids = (even, *_there(setup, reference_method)), setup.test_ids(setup.cohort)
    rows = measure_patients(setup, "dose/pelvis", _reference_row, methods, ids, progress)
    return {**found, "pelvis": {**_training(setup, setup.cohort, PELVIS), "rows": rows}}


def dose_example(setup: Setup, progress: Progress) -> dict[str, NDArray[Any]]:
    """Clinical and predicted dose of the patient of OpenKBP with the median dose score; nothing if there is none."""
    measured = read_result(setup.out / "dose.json")["openkbp"] or {"rows": []}
    rows = sorted((r for r in measured["rows"] if r["method"] == PREDICTED), key=lambda r: float(r["dose_score_gy"]))
    if not rows:
        return {}
    row = rows[len(rows) // 2]
    progress.step("dose", 0.9, row["patient"])
    planned = _clinical(setup, row["patient"])
    doses_gy = {"clinical": planned.dose_gy, "predicted": _predicted(setup, _CLINICAL_METHOD, planned)}
    caption = f"{row['patient']}, dose score {row['dose_score_gy']:.2f} Gy"
    return {**shown_doses(planned.case, doses_gy), "caption": np.array(caption)}


def _there(setup: Setup, method: Method) -> tuple[Method, ...]:
    """A method whose dose network is there, or none."""
    return (method,) if setup.has_dose_network(method.dose_network) else ()


def _training(setup: Setup, cohort: Cohort, network: str) -> Json:
    learned, validated = cohort.training_and_validation()
    budget = setup.dose_network(network)[0].budget if setup.has_dose_network(network) else None
    return {"n_training": len(learned), "n_validation": len(validated), "budget": budget}


def _clinical(setup: Setup, patient_id: str) -> PlannedCase:
    """A patient of OpenKBP; the dose counts where the data set says that there can be any."""
    assert setup.openkbp is not None
    source = read_cohort(setup.openkbp).patient(patient_id).source
    return replace(clinical_case(setup, patient_id), known=read_openkbp_possible_dose(Path(source)))


def _clinical_row(setup: Setup, method: Method, patient_id: str) -> Json:
    planned = _clinical(setup, patient_id)
    dose_gy = _predicted(setup, method, planned)
    metrics, clinical = (dvh_metrics(planned.case, d) for d in (dose_gy, planned.dose_gy))
    return {
        "patient": patient_id,
        "method": method.name,
        "dose_score_gy": dose_score(dose_gy, planned.dose_gy, planned.known),
        "dvh_errors_gy": {
            name: {key: abs(value - clinical[name][key]) for key, value in own.items()} for name, own in metrics.items()
        },
    }


def _reference_row(setup: Setup, method: Method, patient_id: str) -> Json:
    """Errors, and with networks for dose and fluence the plan that they make without any dose given."""
    patient = load_planned_patient(setup, patient_id)
    case, beams, machine, reference_gy = patient.case, patient.beams, patient.machine, patient.plan.dose_gy
    planned = PlannedCase(case, beams, machine, reference_gy, case.external.fraction > 0)
    dose_gy = _predicted(setup, method, planned)
    row = {"patient": patient_id, "method": method.name, **_errors(case, dose_gy, reference_gy)}
    if method.network is None:
        return row
    maps_mu = predicted_maps(setup, method, case, beams, machine, dose_gy)
    plan, synthetic_gy, factor = synthetic_plan(case, beams, machine, maps_mu, dose_gy)
    return {
        **row,
        "plan": synthetic_row(patient, method, plan, synthetic_gy, factor),
        "to_predicted": _errors(case, synthetic_gy, dose_gy),
    }


def _predicted(setup: Setup, method: Method, planned: PlannedCase) -> Volume:
    """Dose of a method, (n_k, n_j, n_i) Gy, whole course."""
    case, beams, machine = planned.case, planned.beams, planned.machine
    if method.dose_network:
        return predict_dose(case, beams, machine, setup.dose_network(method.dose_network)[1], where=planned.known)
    return even_dose(case, beams, machine) * np.float32(case.targets[0].prescription_gy or 0.0)


def _errors(case: PatientCase, dose_gy: Volume, reference_gy: Volume) -> dict[str, float]:
    """As `agreement`, with the error in the body over the highest prescription too."""
    found = agreement(case, dose_gy, reference_gy)
    prescription_gy = case.targets[0].prescription_gy
    assert prescription_gy is not None
    return {**found, "body_error": found["body_error_gy"] / prescription_gy}


def dose_score(predicted_gy: Volume, dose_gy: Volume, possible: NDArray[np.bool_]) -> float:
    """The dose score of OpenKBP for one patient, Gy: mean absolute error over the voxels that can get dose.

    A. Babier et al., Med. Phys. 48, 5549 (2021), doi:10.1002/mp.14845. The challenge's score is the mean
    over patients.
    """
    return float(np.abs(predicted_gy - dose_gy)[possible].mean(dtype=np.float64))


def dvh_metrics(case: PatientCase, dose_gy: Volume) -> dict[str, dict[str, float]]:
    """What the DVH score of OpenKBP compares, Gy, by structure: D99, D95, D1 of targets, D0.1cc, Dmean of organs.

    A. Babier et al., Med. Phys. 48, 5549 (2021), doi:10.1002/mp.14845. As there, a voxel has one dose.
    """
    found: dict[str, dict[str, float]] = {}
    for s in (*case.targets, *case.with_role(Role.ORGAN_AT_RISK)):
        if s.is_empty:
            continue
        curve = dvh(dose_gy, s.fraction, case.grid.voxel_volume_cc)
        if s.role is Role.TARGET:
            found[s.name] = {f"D{percent}": curve.dose_at_volume(percent) for percent in (99, 95, 1)}
        else:
            found[s.name] = {"D0.1cc": curve.dose_at_volume_cc(0.1), "Dmean": curve.mean_gy}
    return found
