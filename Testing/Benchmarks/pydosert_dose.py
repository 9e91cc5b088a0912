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
