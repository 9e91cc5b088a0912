"""Synthetic plans for clinical doses of another treatment planning system: patients of OpenKBP."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeprt.beams import Beam
from deeprt.case import PatientCase
from deeprt.delivery.dose_of_plan import dose_of_plan
from deeprt.delivery.sequencing import SequencingSettings
from deeprt.delivery.sliding_window import sequence_sliding_window
from deeprt.delivery.step_and_shoot import sequence
from deeprt.dose.influence import DoseInfluence, dose_influence
from deeprt.fluence.inversion import InversionSettings, between_jaws
from deeprt.fluence.mimicking import mimicked_voxels, mimicking_problem
from deeprt.machine import Machine
from deeprt.networks.beams_eye_view import fits_map, map_to_fluence
from deeprt.progress import Progress
from deeprt.segment_optimization import optimize_segments
from deeprt.training.cohort import read_cohort
from deeprt.training.dose_data import PlannedCase, planned_case
from deeprt.training.fluence_experiments.methods import SAME_MEAN, gamma_pass_rate, open_fluence, predicted_maps
from deeprt.training.fluence_experiments.results import (
    DEFAULT,
    IDEAL,
    INVERSION,
    N_REFINED,
    N_REFINED_LONG,
    SLIDING_WINDOW,
    STEP_AND_SHOOT,
    refined,
)
from deeprt.training.fluence_experiments.setup import REFERENCE, Method, Setup, measure_patients
from deeprt.training.measuring.results import Json

logger = logging.getLogger(__name__)

_VOXELS = InversionSettings()


def openkbp(setup: Setup, progress: Progress) -> list[Json]:
    """Agreement of synthetic with clinical doses, one row a patient, method and technique; nothing without a cohort."""
    if setup.openkbp is None:
        logger.warning("Without --openkbp, the patients of OpenKBP are left out.")
        return []
    names = (INVERSION, DEFAULT, refined(N_REFINED), refined(N_REFINED_LONG))
    methods = [m for m in setup.methods(N_REFINED, N_REFINED_LONG) if m.name in names]
    ids = setup.test_ids(read_cohort(setup.openkbp))
    parts = measure_patients(setup, "openkbp", _rows, methods, ids, progress)
    return [row for part in parts for row in part]


def clinical_case(setup: Setup, patient_id: str) -> PlannedCase:
    """A patient of OpenKBP with its clinical dose."""
    assert setup.openkbp is not None
    return planned_case(setup.openkbp, read_cohort(setup.openkbp).patient(patient_id), REFERENCE)


def _rows(setup: Setup, method: Method, patient_id: str) -> list[Json]:
    """Rows of a patient; none where a beam reaches beyond the map that networks know."""
    planned = clinical_case(setup, patient_id)
    case, beams, machine, clinical_gy = planned.case, planned.beams, planned.machine, planned.dose_gy
    if not all(fits_map(between_jaws(b, machine)) for b in beams):
        return []
    maps_mu = predicted_maps(setup, method, case, beams, machine, clinical_gy)
    rows = []
    for technique, dose_gy in delivered_doses(case, beams, machine, maps_mu, clinical_gy).items():
        factor = SAME_MEAN.factor(case, dose_gy, clinical_gy)
        scaled = (dose_gy * factor).astype(np.float32)
        row = {"patient": patient_id, "method": method.name, "technique": technique, "factor": factor}
        rows.append({**row, **agreement(case, scaled, clinical_gy)})
    return rows


def delivered_doses(
    case: PatientCase, beams: Sequence[Beam], machine: Machine, maps_mu: Tensor, wished_gy: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """Whole-course doses of maps by technique.

    As they are; step and shoot with the segments fitted to the wished dose, on 20,000 voxels of at least a tenth of the
    largest dose, where `deeprt plan` takes those of its objectives; and sliding window.
    """
    influence = dose_influence(case, beams, machine)
    fluence, n = open_fluence(beams, maps_mu), case.n_fractions
    segments = sequence(beams, fluence, machine, n_fractions=n)
    voxels = mimicked_voxels(
        case, wished_gy, n_voxels=_VOXELS.n_voxels, least_share=_VOXELS.least_share, rng=np.random.default_rng(0)
    )
    problem = mimicking_problem(influence.restricted(voxels), wished_gy, n)
    n_iterations = SequencingSettings().n_dose_iterations
    fitted = optimize_segments(segments, influence, problem, n_iterations=n_iterations)
    return {
        IDEAL: _ideal_dose(case, influence, machine, maps_mu),
        STEP_AND_SHOOT: dose_of_plan(fitted, influence),
        SLIDING_WINDOW: dose_of_plan(sequence_sliding_window(beams, fluence, machine, n_fractions=n), influence),
    }


def _ideal_dose(case: PatientCase, influence: DoseInfluence, machine: Machine, maps_mu: Tensor) -> NDArray[np.float32]:
    """Dose of maps on all beamlets between the jaws, whole course."""
    wide = [between_jaws(b.beam, machine) for b in influence.beams]
    row = torch.cat([map_to_fluence(b, m).flatten() for b, m in zip(wide, maps_mu, strict=True)])[None]
    between = dose_influence(case, wide, machine)
    return between.to_volume(case.n_fractions * between.dose(row.float())[0])


def agreement(case: PatientCase, dose_gy: NDArray[np.float32], clinical_gy: NDArray[np.float32]) -> dict[str, float]:
    """How near a dose comes to the clinical one.

    Returns
    -------
    ``gamma``, the share of voxels of the body that pass; ``target_error``, the mean absolute difference in the target
    of highest prescription, over its prescription; ``body_error_gy``, the mean absolute difference in the body
    """
    target, body = case.targets[0], case.external.fraction >= 0.5
    i_mm, j_mm, k_mm = case.grid.spacing_mm
    error = np.abs(dose_gy - clinical_gy)
    assert target.prescription_gy is not None
    return {
        "gamma": gamma_pass_rate(clinical_gy, dose_gy, (k_mm, j_mm, i_mm), within=body),
        "target_error": float(np.average(error, weights=target.fraction)) / target.prescription_gy,
        "body_error_gy": float(error[body].mean()),
    }
