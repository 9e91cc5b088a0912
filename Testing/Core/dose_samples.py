"""Patients whose dose is known, for dose networks: virtual ones with made-up plans, a made-up one of OpenKBP."""

import json
from dataclasses import asdict, replace
from functools import cache

import numpy as np
from Core.network_samples import a_card

from deeprt.fluence.dose_prediction import KIND
from deeprt.networks.checkpoint import save_checkpoint
from deeprt.networks.dose_network import DoseConfig, DoseNetwork
from deeprt.preparation import VIRTUAL_PROSTATE
from deeprt.training.cohort import Cohort, CohortPatient, write_cohort
from deeprt.training.reference_plans import (
    ReferencePlan,
    ReferenceSettings,
    plan_file,
    reference_case,
    write_reference_plan,
)

PLANS = ReferenceSettings()
CONFIG = DoseConfig(("Rectum", "Femur_Head_L", "Femur_Head_R"), voxel_mm=12.0, widths=(4, 8))
PATIENTS = tuple(CohortPatient(f"P{n}", VIRTUAL_PROSTATE, n, "development") for n in range(2))
GANTRY_DEG = np.array([10.0, 130.0, 250.0])
SLOPE_PER_MM = np.array([0.05, -0.03, 0.02])


@cache
def a_patient(n=0):
    return reference_case(PATIENTS[n], PLANS)


def a_linear_dose(grid, isocenter_lps):
    """44 Gy at the isocenter."""
    return ((grid.points_lps() - isocenter_lps) @ SLOPE_PER_MM + 44).reshape(grid.shape).astype(np.float32)


def a_planned_cohort(folder, n_patients=2):
    """Virtual patients with plans whose dose is linear."""
    write_cohort(Cohort(PATIENTS[:n_patients]), folder)
    for n, patient in enumerate(PATIENTS[:n_patients]):
        case = a_patient(n)
        dose = a_linear_dose(case.grid, case.isocenter_lps())
        plan = ReferencePlan(GANTRY_DEG, np.ones(3), np.zeros((3, 2, 2), np.float32), dose, PLANS.digest())
        write_reference_plan(plan, plan_file(folder, patient))
    return folder


def a_packed_patient(folder, name="pt_7", bits=("PTV70",)):
    """Write a patient of OpenKBP with 20 Gy in the body, cut off at one side; every bit is of the same block."""
    n, body, target = 128, np.s_[30:60, 40:70, 10:30], np.s_[40:48, 50:58, 15:22]
    ct, dose, structs = np.zeros((n, n, n), np.int16), np.zeros((n, n, n), np.float16), np.zeros((n, n, n), np.uint16)
    ct[body], dose[body], structs[target] = 1000, 20, 2 ** len(bits) - 1
    dose[body][:2] = 0  # cut off by the data set
    spacing = np.array([3.0, 3.0, 3.0], np.float32)
    np.savez_compressed(folder / f"{name}.npz", ct=ct, dose=dose, structs=structs, spacing=spacing)
    (folder / "index.json").write_text(json.dumps({"bits": bits}))
    return CohortPatient(name, str(folder / f"{name}.npz"), 0, "development")


def a_dose_network_file(file, network=None, **card):
    """Write a network, untrained if none is given, and a card with these entries; gives the file."""
    network = network or DoseNetwork(CONFIG)
    save_checkpoint(file, network, replace(a_card(asdict(network.config)), network=KIND, **card))
    return file
