"""For the fluence experiments: made-up results, of the form that they write, and phantoms to run them on."""

import json

import numpy as np
from Core.dicom_samples import Roi, circle
from Core.pipeline_samples import BODY, CORD, PLANES, a_study

from deeprt.beams import BeamAngles, place_beams
from deeprt.delivery.dose_of_plan import dose_of_plan
from deeprt.delivery.fluence import delivered_fluence
from deeprt.delivery.sliding_window import sequence_sliding_window
from deeprt.dose.influence import dose_influence
from deeprt.machine_file import read_machine
from deeprt.networks.beams_eye_view import ViewSampling
from deeprt.networks.checkpoint import save_training_state
from deeprt.training.cohort import read_cohort, real_cohort, write_cohort
from deeprt.training.fluence import new_network
from deeprt.training.fluence_experiments.results import METHOD_NAMES, METRICS, TECHNIQUES, refined
from deeprt.training.fluence_experiments.setup import REFERENCE, Setup
from deeprt.training.loop import BEST
from deeprt.training.reference_plans import ReferencePlan, plan_file, reference_case, write_reference_plan

NETWORKS = ("default", "paper", "dose-only", "reversed")
PLANNED = ("inversion", "default", refined(10), "paper")
ORGANS = ("PTV", "Rectum", "Bladder")
GANTRY_DEG = np.array([0.0, 130.0, 230.0])


def some_results(folder, n_patients=4, seed=0):
    rng = np.random.default_rng(seed)
    patients = [f"virtual-{n:04d}" for n in range(1, n_patients + 1)]
    folder.mkdir(parents=True)
    results = {
        "training": some_training(rng),
        "maps": [map_row(rng, p, beam, m) for m in METHOD_NAMES for p in patients for beam in range(3)],
        "plans": [plan_row(rng, p, m) for m in PLANNED for p in patients],
        "openkbp": [
            real_row(rng, p, m, t)
            for m in ("inversion", "default", refined(10), refined(40))
            for p in patients
            for t in TECHNIQUES
        ],
        "dose": {
            "openkbp": some_doses([clinical_row(rng, p, m) for m in ("even beams", "dose network") for p in patients]),
            "pelvis": some_doses([reference_row(rng, p, m) for m in ("even beams", "dose network") for p in patients]),
        },
        "times": {
            "hardware": "2 cores of a made-up processor",
            "threads": 2,
            "case": "virtual-0001",
            "n_beams": 7,
            "n_voxels": 500_000,
            **{k: rng.uniform(0.5, 0.6, 5).tolist() for k in ("inversion_s", "network_s", "seven_maps_s", "plan_s")},
            "refinement_s": [2.0, 4.0, 3.5, 3.6, 3.7],
        },
    }
    for name, content in results.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    np.savez(folder / "examples.npz", **some_examples(rng))
    np.savez(folder / "dose.npz", **a_pair_of_doses(rng, ("clinical", "predicted")))


def some_training(rng):
    curve = [[n, 0.1 / n, 0.12 / n, 30.0 * n] for n in range(1, 9)]
    about = {
        "n_weights": 233_697,
        "megabytes": 0.47,
        "curve": curve,
        "settings": "a few steps",
        "result": {"seconds": 1},
    }
    return {
        "networks": {name: {**about, "result": None if name == "reversed" else about["result"]} for name in NETWORKS},
        "cohort": {"n_patients": 30, "n_training": 18, "n_validation": 2, "n_test": 10},
        "reference": {
            "machine": "generic_15mv",
            "prescription_gy": 44.0,
            "n_fractions": 20,
            "spacing_mm": 4.0,
            "n_beams": [5, 9],
        },
        "hardware": "2 cores of a made-up processor",
    }


def map_row(rng, patient, beam, method):
    row = {"patient": patient, "beam": beam, "gantry_deg": 51.4 * beam, "method": method}
    row |= {key: float(rng.uniform(5e-4, 2e-3)) for key in ("mae", "mae_field", "mae_open")}
    return row | {key: float(rng.uniform(0.99, 1.0)) for key in ("ssim", "ssim_field", "gamma")}


def plan_row(rng, patient, method):
    reference = {m.key: float(rng.uniform(1, 50)) for m in METRICS if m.key != "PenileBulb Dmean"}
    return {
        "patient": patient,
        "method": method,
        "factor": float(rng.normal(1, 0.01)),
        "mu": 1050.0,
        "reference_mu": 1000.0,
        "reference": reference,
        "synthetic": {key: value + float(rng.normal(0.1, 0.1)) for key, value in reference.items()},
        "rss": {name: float(rng.uniform(1e-4, 1e-2)) for name in ORGANS},
    }


def real_row(rng, patient, method, technique):
    row = {"patient": patient, "method": method, "technique": technique, "factor": 0.99, "body_error_gy": 0.6}
    return row | {"gamma": float(rng.uniform(0.9, 1.0)), "target_error": float(rng.uniform(0.005, 0.01))}


def some_doses(rows):
    return {"n_training": 90, "n_validation": 10, "budget": "a few steps.", "rows": rows}


def clinical_row(rng, patient, method):
    error = 3.0 if method == "dose network" else 9.0
    targets, organs = (
        {n: float(rng.uniform(1, error)) for n in m} for m in (("D99", "D95", "D1"), ("D0.1cc", "Dmean"))
    )
    errors = {"PTV70": targets, "Brainstem": organs}
    return {"patient": patient, "method": method, "dose_score_gy": error + rng.normal(0, 0.1), "dvh_errors_gy": errors}


def reference_row(rng, patient, method):
    row = {"patient": patient, "method": method, "gamma": 0.5, "target_error": 0.04, "body_error": 0.07}
    if method == "even beams":
        return row
    return row | {"plan": plan_row(rng, patient, method), "to_predicted": {"gamma": 0.97, "target_error": 0.002}}


def a_pair_of_doses(rng, names=("reference", "synthetic")):
    y, x = np.mgrid[:40, :50]
    body = (np.hypot((x - 25) / 24, (y - 20) / 18) < 1).astype(np.float32)
    target = (np.hypot(x - 27, y - 20) < 5).astype(np.float32)
    dose = (44 * np.exp(-np.hypot(x - 27, y - 20) / 30) * body).astype(np.float32)
    gy = np.arange(0, 46, 0.5)
    return {
        "ct_hu": np.where(body > 0, 0, -1000).astype(np.float32),
        f"dose_{names[0]}": dose,
        f"dose_{names[1]}": (dose + body * rng.normal(0, 0.5, dose.shape)).astype(np.float32),
        "names": np.array(["BODY", "PTV", "Rectum"]),
        "roles": np.array(["external", "target", "organ_at_risk"]),
        "contours": np.stack([body, target, np.roll(target, 10, axis=0)]),
        "dvh_names": np.array(["PTV", "Rectum"]),
        "dvh_gy": gy,
        f"dvh_{names[0]}": np.stack([100.0 * (gy < 44), 100 - 2 * gy]),
        f"dvh_{names[1]}": np.stack([100.0 * (gy < 43), 99 - 2 * gy]),
        "pixel_mm": np.array(4.0),
        "prescription_gy": np.array(44.0),
        "caption": np.array("a made-up patient"),
    }


def some_examples(rng):
    plan = a_pair_of_doses(rng)
    reference = np.zeros((3, 128, 128), np.float32)
    reference[:, 40:90, 50:80] = rng.uniform(0, 0.4, (3, 50, 30))
    return {
        "method": np.array("default"),
        "maps_reference": reference,
        "maps_predicted": reference * 1.02,
        "maps_captions": np.array([f"{w} error" for w in ("Least", "Median", "Largest")]),
        **{f"{which}_{key}": value for which in ("best", "worst") for key, value in plan.items()},
    }


def a_reference_plan(case):
    """Even fluence, sequenced, and its dose."""
    machine = read_machine(REFERENCE.machine)
    beams = place_beams(case, [BeamAngles(g) for g in GANTRY_DEG], machine)
    fluence = [20.0 * b.open_beamlets for b in beams]
    plan = sequence_sliding_window(beams, fluence, machine, n_fractions=case.n_fractions)
    mu, edges = np.array([plan.beam_mu(n) for n in range(len(beams))]), ViewSampling().edges_mm
    maps = [delivered_fluence(plan, n, edges, edges) / mu[n] for n in range(len(beams))]
    dose = dose_of_plan(plan, dose_influence(case, beams, machine))
    return ReferencePlan(GANTRY_DEG, mu, np.stack(maps).astype(np.float32), dose, REFERENCE.digest())


def a_planned_cohort(folder):
    """Write a cohort of phantoms, of which the one for test is planned, and an untrained default network."""
    for n, center in enumerate(((12.0, -7.0), (-15.0, 5.0), (0.0, -12.0))):
        ptv = Roi("PTV_60", "PTV", circle(center, 14.0, PLANES[3:9]))
        a_study(folder / "patients" / f"P{n}", BODY, ptv, CORD)
    write_cohort(real_cohort(folder / "patients", 1), folder)
    (patient,) = read_cohort(folder).of("test")
    write_reference_plan(a_reference_plan(reference_case(patient, REFERENCE)), plan_file(folder, patient))
    save_training_state(folder / "runs" / "default" / BEST, {"network": new_network("default", 0).state_dict()})
    return folder


def a_setup(folder):
    return Setup(folder, folder / "runs", folder / "out", dose_networks=folder / "networks")
