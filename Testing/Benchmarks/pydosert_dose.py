"""PyDoseRT's side of `against_pydosert.py`; runs in PyDoseRT's own environment, which has no DeepRT.

``python pydosert_dose.py JOB.npz RESULT.npz`` computes the dose of every plan of the job in water.
"""

from __future__ import annotations

import platform
import resource
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydosert.data import BeamSequence, MachineConfig
from pydosert.engine.dose_engine import DoseEngine
from pydosert.physics.kernels.pencil_beam_model import PencilBeamModel

SEGMENTS_AT_ONCE = 4  # keeps the memory of the kernels, one a segment and depth, within bounds
PACKAGES = ("pydosert", "torch", "numpy")
Job = Mapping[str, NDArray[Any]]


def machine_of(job: Job) -> MachineConfig:
    """Nyholm's kernel at the job's TPR20,10, with the job's leaves, penumbra, horns and head scatter."""
    return MachineConfig(
        tpr_20_10=float(job["tpr_20_10"]),
        number_of_leaf_pairs=job["leaf_widths_mm"].size,
        leaf_widths=job["leaf_widths_mm"].tolist(),
        penumbra_fwhm=[float(job["penumbra_fwhm_mm"])] * 2,
        profile_corrections=job["off_axis"].tolist(),
        output_factors=job["head_scatter"].tolist(),
    )


def segments_of(job: Job, plan: int) -> BeamSequence:
    """One control point a segment, all at gantry 0."""
    chosen = job["plan_of_segment"] == plan
    n = int(chosen.sum())
    return BeamSequence(
        mus=torch.from_numpy(job["mu"][chosen]).float(),
        leaf_positions=torch.from_numpy(job["tips_mm"][chosen]).float(),
        jaw_positions=torch.from_numpy(job["jaws_mm"][chosen]).float(),
        field_size=(400, 400),
        iso_center=tuple(job["isocenter_mm"].tolist()),
        sid=1000.0,
        gantry_angles=torch.zeros(n),
        collimator_angles=torch.zeros(n),
    )


def timed_dose(job: Job, machine: MachineConfig, segments: BeamSequence) -> tuple[torch.Tensor, float, float]:
    """Dose, (n_k, n_j, n_i) in arbitrary units; seconds with set-up, and seconds once that is done."""
    water = torch.ones(tuple(job["shape"].tolist()))
    start = time.perf_counter()
    engine = DoseEngine(
        machine_config=machine,
        kernel_size=int(job["kernel_size"]),
        dose_grid_spacing=tuple(job["spacing_mm"].tolist()),
        dose_grid_shape=tuple(job["shape"].tolist()),
        beam_template=segments,
        device="cpu",
        conv_backend="fft",
        beam_chunk_size=SEGMENTS_AT_ONCE,
    )
    dose = engine.compute_dose(segments, density_image=water[None])
    first = time.perf_counter() - start
    start = time.perf_counter()
    engine.compute_dose(segments, density_image=water[None])
    return dose[0], first, time.perf_counter() - start


def integrated_kernel(job: Job) -> NDArray[np.float64]:
    """Axis dose of flat square fields: PyDoseRT's kernel integrated in polar coordinates, (n_fields, n_depths).

    With the kernel ``(A e^(-a r) + B e^(-b r)) / r`` a ray of length R from the axis to the field's edge adds
    ``A/a (1 - e^(-a R)) + B/b (1 - e^(-b R))``, and a square is eight equal triangles.
    """
    parameters = PencilBeamModel((1.0, 1.0, 1.0), torch.tensor(float(job["tpr_20_10"])), 3).params
    p = {name: float(value) for name, value in parameters.items()}
    angle = (np.arange(400) + 0.5) * np.pi / 4 / 400

    def term(x: str, depth_cm: float) -> float:
        build_up = 1 - np.exp(p[x + "2"] * np.hypot(depth_cm, p[x + "5"]))
        return float(p[x + "1"] * build_up * np.exp(p[x + "3"] * depth_cm + p[x + "4"] * depth_cm**2))

    def dose(half_mm: float, depth_mm: float) -> float:
        depth, scale = depth_mm / 10, (float(job["ssd_mm"]) + depth_mm) / 1000
        edge = half_mm / 10 * scale / np.cos(angle)
        primary, scatter = term("A", depth), term("B", depth)
        a, b = p["a2"] + p["a1"] * depth, term("b", depth)
        return float(np.mean(primary * (1 - np.exp(-a * edge)) + scatter * (1 - np.exp(-b * edge)))) / scale**2

    return np.array([[dose(h, d) for d in job["axis_depths_mm"]] for h in job["square_halves_mm"]])


def main() -> None:
    """Compute all plans, the first twice to warm up, and write the results."""
    with np.load(sys.argv[1]) as archive:
        job = dict(archive)
    machine = machine_of(job)
    torch.set_num_threads(int(job["n_threads"]))
    with torch.no_grad():
        timed_dose(job, machine, segments_of(job, 0))
        results = [timed_dose(job, machine, segments_of(job, p)) for p in range(int(job["plan_of_segment"].max()) + 1)]
    np.savez(
        sys.argv[2],
        integrated_kernel=integrated_kernel(job),
        dose=np.stack([dose.numpy() for dose, _, _ in results]),
        seconds=[first for _, first, _ in results],
        seconds_again=[again for _, _, again in results],
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        versions=[
            f"Python {platform.python_version()}",
            *(f"{p} {version(p)}" for p in ("pydosert", "torch", "numpy")),
        ],
    )


if __name__ == "__main__":
    main()
