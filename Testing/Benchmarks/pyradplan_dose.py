"""pyRadPlan's side of `against_pyradplan.py`; runs in pyRadPlan's own environment, which has no DeepRT.

``python pyradplan_dose.py JOB.npz RESULT.npz [JOB.npz RESULT.npz ...]``: one process computes all jobs in turn, so
that only the first pays for compiled functions.
"""

from __future__ import annotations

import platform
import resource
import sys
import time
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pyRadPlan import PhotonPlan, StructureSet, calc_dose_forward, calc_dose_influence, generate_stf
from pyRadPlan.cst import create_voi
from pyRadPlan.ct import CT, create_ct
from pyRadPlan.stf import SteeringInformation

PACKAGES = ("pyRadPlan", "pydantic", "numpy", "numba")
Job = Mapping[str, NDArray[Any]]


def anatomy(job: Job) -> tuple[CT, StructureSet]:
    """CT whose values are electron densities, with body and target."""
    image = sitk.GetImageFromArray(job["density"].astype(np.float64))
    image.SetSpacing(job["spacing_mm"].tolist())
    image.SetOrigin(job["origin_mm"].tolist())
    ct = create_ct(cube_hu=image)
    vois = []
    for kind, name in (("TARGET", "target"), ("EXTERNAL", "body")):
        mask = sitk.GetImageFromArray(job[name].astype(np.uint8))
        mask.CopyInformation(image)
        vois.append(create_voi(voi_type=kind, name=name, ct_image=ct, mask=mask))
    return ct, StructureSet(vois=vois, ct_image=ct)


def plan_of(job: Job, ct: CT) -> PhotonPlan:
    """Beams and dose grid of the job; everything else is pyRadPlan's default."""
    plan = PhotonPlan(machine="Generic")
    plan.prop_stf = {
        "gantry_angles": job["gantry_deg"].tolist(),
        "couch_angles": [0.0] * job["gantry_deg"].size,
        "bixel_width": float(job["beamlet_mm"]),
        "iso_center": job["isocenter_mm"],
    }
    plan.prop_dose_calc = {
        "dose_grid": ct.grid,
        "use_given_eq_density_cube": True,
        "geometric_lateral_cutoff": float(job["cutoff_mm"]),
    }
    return plan


def positions_of(stf: SteeringInformation) -> list[NDArray[np.float64]]:
    """Centers of each beam's beamlets at the isocenter plane, (n_beamlets, 2)."""
    return [np.array([ray.ray_pos_bev for ray in beam.rays])[:, [0, 2]] for beam in stf.beams]


def fluence_of(positions: list[NDArray[np.float64]], job: Job) -> NDArray[np.float64]:
    """Fluence of every beamlet, (n_maps, n_beamlets), from the job's maps (n_maps, n_beams, n, n) about the axis."""
    middle = job["fluence"].shape[-1] // 2
    values = []
    for number, position in enumerate(positions):
        column, row = np.rint(position / job["beamlet_mm"]).astype(int).T + middle
        values.append(job["fluence"][:, number, row, column])
    return np.concatenate(values, axis=1)


def compute(job: Job) -> dict[str, Any]:
    """Dose of the job's maps; by the dose influence matrix, timed, or beamlet by beamlet where that were too large."""
    ct, cst = anatomy(job)
    plan = plan_of(job, ct)
    stf = generate_stf(ct, cst, plan)
    positions = positions_of(stf)
    fluence = fluence_of(positions, job)
    entries = 0
    start = time.perf_counter()
    if job["forward"]:
        results = [calc_dose_forward(ct, cst, stf, plan, weights)["physical_dose"] for weights in fluence]
        dose = np.stack([sitk.GetArrayFromImage(r) for r in results])
        seconds = time.perf_counter() - start
    else:
        matrix = calc_dose_influence(ct, cst, stf, plan).physical_dose.flat[0]
        seconds = time.perf_counter() - start
        entries = matrix.nnz
        dose = (matrix @ fluence.T.astype(np.float32)).T.reshape(-1, *job["density"].shape)
    return {
        "dose": dose.astype(np.float32),
        "positions": np.concatenate(positions),
        "n_beamlets": [len(p) for p in positions],
        "seconds": seconds,
        "entries": entries,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "versions": [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)],
    }


def main() -> None:
    """Compute each job and write its result."""
    warnings.simplefilter("ignore")
    for job_file, result_file in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        with np.load(job_file) as job:
            np.savez(result_file, **compute(dict(job)))


if __name__ == "__main__":
    main()
