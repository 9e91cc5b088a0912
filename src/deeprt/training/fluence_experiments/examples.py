"""Maps and doses to look at: figures 8 to 10 of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeprt.case import PatientCase
from deeprt.errors import InputError
from deeprt.progress import Progress
from deeprt.structures import Role
from deeprt.training.fluence_experiments.maps import maps_fmu
from deeprt.training.fluence_experiments.methods import predicted_maps, synthetic_plan
from deeprt.training.fluence_experiments.plans import structure_curves
from deeprt.training.fluence_experiments.results import shown_method
from deeprt.training.fluence_experiments.setup import Method, PlannedPatient, Setup, load_planned_patient
from deeprt.training.measuring.results import Json, read_result

_DVH_STEP_GY = 0.25
_SHOWN = (Role.EXTERNAL, Role.TARGET, Role.ORGAN_AT_RISK)


def examples(setup: Setup, progress: Progress) -> dict[str, NDArray[Any]]:
    """The maps of least, median and largest error, and the plans of the least and largest mean error.

    Of the default network; of the inversion as long as there is none.

    Raises
    ------
    InputError
        If there are no maps yet.
    """
    rows = read_result(setup.out / "maps.json")
    if rows is None:
        raise InputError(f"'{setup.out / 'maps.json'}' is not there; run the experiment maps first.")
    name = shown_method(rows)
    method = next(m for m in setup.methods() if m.name == name)
    own = [r for r in rows if r["method"] == name]
    arrays: dict[str, NDArray[Any]] = {"method": np.array(name), **_maps(setup, method, own)}
    errors = {p: float(np.mean([r["mae"] for r in own if r["patient"] == p])) for p in {r["patient"] for r in own}}
    for n, (which, patient_id) in enumerate((("best", min(errors, key=errors.__getitem__)),
                                             ("worst", max(errors, key=errors.__getitem__)))):  # fmt: skip
        progress.step("examples", (1 + n) / 3, patient_id)
        found = _plan(setup, method, load_planned_patient(setup, patient_id))
        found["caption"] = np.array(
            f"{patient_id}, mean absolute error of its maps {1e4 * errors[patient_id]:.2f}e-4 fMU"
        )
        arrays |= {f"{which}_{key}": value for key, value in found.items()}
    return arrays


def _maps(setup: Setup, method: Method, rows: list[Json]) -> dict[str, NDArray[Any]]:
    """Reference and predicted maps, (3, n_pixels, n_pixels), and what they are."""
    ordered = sorted(rows, key=lambda r: float(r["mae"]))
    chosen = (ordered[0], ordered[len(ordered) // 2], ordered[-1])
    reference, predicted, captions = [], [], []
    for which, row in zip(("Least", "Median", "Largest"), chosen, strict=True):
        patient, beam = load_planned_patient(setup, row["patient"]), row["beam"]
        reference.append(patient.plan.fmu[beam])
        predicted.append(maps_fmu(setup, method, patient)[beam])
        captions.append(
            f"{which} error: {row['patient']}, {row['gantry_deg']:.0f}°\n"
            f"MAE {1e4 * row['mae']:.2f}e-4, SSIM {row['ssim']:.4f}"
        )
    return {
        "maps_reference": np.stack(reference),
        "maps_predicted": np.stack(predicted).astype(np.float32),
        "maps_captions": np.array(captions),
    }


def _plan(setup: Setup, method: Method, patient: PlannedPatient) -> dict[str, NDArray[Any]]:
    """Reference and synthetic dose to look at."""
    case, reference_gy = patient.case, patient.plan.dose_gy
    maps_mu = predicted_maps(setup, method, case, patient.beams, patient.machine, reference_gy)
    _, synthetic_gy, _ = synthetic_plan(case, patient.beams, patient.machine, maps_mu, reference_gy)
    return shown_doses(case, {"reference": reference_gy, "synthetic": synthetic_gy})


def shown_doses(case: PatientCase, doses_gy: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[Any]]:
    """An axial slice of doses through the isocenter, and DVHs.

    Parameters
    ----------
    doses_gy : (n_k, n_j, n_i) whole course, by name

    Returns
    -------
    ``ct_hu``, ``dose_<name>``: (n_rows, n_cols); ``contours``: (n, n_rows, n_cols), shares of the pixels in the
    structures ``names`` of ``roles``, (n,); ``dvh_gy``: (n_doses,); ``dvh_<name>``: (n_curves, n_doses) percent, of
    the structures ``dvh_names``; ``pixel_mm``, ``prescription_gy``
    """
    middle = round(float(case.grid.lps_to_index(case.isocenter_lps()[None])[0, 2]))
    shown = [s for s in case.structures if s.role in _SHOWN and not s.is_empty]
    gy = np.arange(0.0, max(float(d.max()) for d in doses_gy.values()) + _DVH_STEP_GY, _DVH_STEP_GY)
    curves = {name: structure_curves(case, d) for name, d in doses_gy.items()}
    return {
        "ct_hu": case.ct_hu[middle],
        **{f"dose_{name}": d[middle] for name, d in doses_gy.items()},
        "names": np.array([s.name for s in shown]),
        "roles": np.array([s.role.value for s in shown]),
        "contours": np.stack([s.fraction[middle] for s in shown]),
        "dvh_names": np.array(list(next(iter(curves.values())))),
        "dvh_gy": gy,
        **{f"dvh_{n}": 100 * np.stack([c.curve(gy) for c in own.values()]) for n, own in curves.items()},
        "pixel_mm": np.array(case.grid.spacing_mm[0]),
        "prescription_gy": np.array(case.targets[0].prescription_gy),
    }
