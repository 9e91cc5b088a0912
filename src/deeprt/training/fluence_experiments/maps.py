"""Predicted fluence maps beside those of the reference plans: figure 7 of the paper."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from deeprt.fluence.predict import view_maps
from deeprt.networks.beams_eye_view import ViewSampling
from deeprt.networks.dual_frame import DualFrameNetwork
from deeprt.progress import Progress
from deeprt.training.fluence_experiments.methods import central_slices, gamma_pass_rate, predicted_maps
from deeprt.training.fluence_experiments.results import CENTRAL_SLICE, N_REFINED
from deeprt.training.fluence_experiments.setup import (
    SLICE_METHOD,
    Method,
    PlannedPatient,
    Setup,
    load_planned_patient,
    measure_patients,
)
from deeprt.training.measuring.results import Json

OPEN_SHARE = 0.05  # of a map's maximum, above which a pixel is open


@dataclass(frozen=True)
class MapQuality:
    """How near a map comes to its reference.

    Parameters
    ----------
    mae, mae_field, mae_open : mean absolute error, share of the beam's monitor units: over the whole map, where the
        reference is above zero, which is between the jaws, and where it is above 5 % of its maximum
    ssim, ssim_field : structural similarity, data range 1 after both were divided by the reference's maximum: its mean
        over the map without a border of 5 pixels, as usual, and over the pixels between the jaws
    gamma : share of pixels, of those above 10 % of the reference's maximum, within 3 % of it or 3 mm
    """

    mae: float
    mae_field: float
    mae_open: float
    ssim: float
    ssim_field: float
    gamma: float


def map_quality(predicted: NDArray[np.float32], reference: NDArray[np.float32]) -> MapQuality:
    """Compare two maps.

    Structural similarity has Gaussian windows of 11 x 11 pixels and sigma 1.5, as in Z. Wang et al., IEEE Trans. Image
    Process. 13, 600 (2004), doi:10.1109/TIP.2003.819861.

    Parameters
    ----------
    predicted, reference : (n_pixels, n_pixels), share of the beam's monitor units, on the pixels of `ViewSampling`
    """
    error, highest = np.abs(predicted - reference), float(reference.max())
    ssim, ssim_map = structural_similarity(  # type: ignore[no-untyped-call]
        *(m.astype(np.float64) / highest for m in (reference, predicted)),
        data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True,
    )  # fmt: skip
    field, pixel_mm = reference > 0, ViewSampling().pixel_mm
    return MapQuality(
        mae=float(error.mean()),
        mae_field=float(error[field].mean()),
        mae_open=float(error[reference > OPEN_SHARE * highest].mean()),
        ssim=float(ssim),
        ssim_field=float(ssim_map[field].mean()),
        gamma=gamma_pass_rate(reference[None], predicted[None], (pixel_mm, pixel_mm, pixel_mm)),
    )


def maps(setup: Setup, progress: Progress) -> list[Json]:
    """Quality of every map of every method, one row a beam."""
    methods, ids = (SLICE_METHOD, *setup.methods(N_REFINED)), setup.test_ids(setup.cohort)
    parts = measure_patients(setup, "maps", _map_rows, methods, ids, progress)
    return [row for part in parts for row in part]


def _map_rows(setup: Setup, method: Method, patient_id: str) -> list[Json]:
    patient = load_planned_patient(setup, patient_id)
    found = maps_fmu(setup, method, patient)
    return [
        {
            "patient": patient_id,
            "beam": n,
            "gantry_deg": float(patient.plan.gantry_deg[n]),
            "method": method.name,
            **asdict(map_quality(predicted, reference)),
        }
        for n, (predicted, reference) in enumerate(zip(found, patient.plan.fmu, strict=True))
    ]


def maps_fmu(setup: Setup, method: Method, patient: PlannedPatient) -> NDArray[np.float32]:
    """Maps of a method as shares of the beams' monitor units, (n_beams, n_pixels, n_pixels).

    The paper's network gives them so. Maps in monitor units are divided by those of the reference beams. The central
    slice of the dose is scaled to the reference map by least squares.
    """
    case, beams, plan = patient.case, patient.beams, patient.plan
    if method.name == CENTRAL_SLICE:
        slices = central_slices(case, beams, plan.dose_gy)
        scale = (slices * plan.fmu).sum((1, 2)) / (slices**2).sum((1, 2))
        return np.asarray(slices * scale[:, None, None], np.float32)
    network = None if method.network is None else setup.network(method.network)
    if isinstance(network, DualFrameNetwork):
        return np.asarray(view_maps(network, case, beams, plan.dose_gy))
    maps_mu = predicted_maps(setup, method, case, beams, patient.machine, plan.dose_gy).numpy()
    return (maps_mu / plan.beam_mu[:, None, None]).astype(np.float32)
