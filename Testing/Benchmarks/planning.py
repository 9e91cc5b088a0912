"""Time the dose influence and a whole plan; prints JSON: ``python Testing/Benchmarks/planning.py [--out FILE]``.

The phantom is water of 300 x 200 x 160 mm in 150,000 voxels with a spherical target, five beams; the whole plan runs
as a subprocess on the case ``cort_prostate`` where it is there, else on ``virtual:prostate``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import scipy
import torch

import deeprt
from deeprt.beams import Beam, BeamAngles, place_beams
from deeprt.case import PatientCase
from deeprt.dose.influence import DoseInfluence, dose_influence
from deeprt.geometry import Grid
from deeprt.machine_file import read_machine
from deeprt.structures import Role, Structure

ROOT = Path(__file__).parents[2]
REAL_CASE = ROOT.parent / "shared" / "cases" / "cort_prostate"
SEED = 1
N_BEAMS = 5


@dataclass(frozen=True)
class Seconds:
    """Median and spread of repeated timings."""

    median: float
    lowest: float
    highest: float
    n: int


def timed(work: Callable[[], Any], repeats: int, *, share: int = 1) -> Seconds:
    """Time ``work`` after one run to warm up; the seconds are divided by ``share``."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append((time.perf_counter() - start) / share)
    return Seconds(*(round(float(s), 5) for s in (np.median(seconds), min(seconds), max(seconds))), repeats)


def phantom(*, target_radius_mm: float) -> PatientCase:
    """Water with a spherical target in its middle."""
    grid = Grid.axial((40, 50, 75), 4.0, (-148.0, -98.0, -78.0))
    inside = np.linalg.norm(grid.points_lps() - grid.center_lps, axis=1) <= target_radius_mm
    structures = (
        Structure("Water", Role.EXTERNAL, np.ones(grid.shape, np.float32)),
        Structure("Target", Role.TARGET, inside.reshape(grid.shape).astype(np.float32), 60.0),
    )
    return PatientCase("water", "HFS", grid, np.zeros(grid.shape, np.float32), structures, 20)


def time_influence(case: PatientCase, beams: tuple[Beam, ...], repeats: int) -> dict[str, Any]:
    """Set-up, and dose with adjoint, per beam."""
    machine = read_machine("generic_6mv")
    influence = dose_influence(case, beams, machine)
    rng = np.random.default_rng(SEED)
    fluence = torch.from_numpy(rng.uniform(0, 50, (1, influence.n_beamlets))).float()
    values = torch.from_numpy(rng.normal(size=(1, influence.voxels.size))).float()

    def set_up() -> DoseInfluence:
        return dose_influence(case, beams, machine)

    works: dict[str, Callable[[], Any]] = {
        "set_up_s": set_up,
        "set_up_and_first_adjoint_s": lambda: set_up().adjoint(values),  # which makes what every adjoint needs
        "forward_and_adjoint_s": lambda: (influence.dose(fluence), influence.adjoint(values)),
    }
    return {
        "n_voxels": influence.voxels.size,
        "n_beamlets_per_beam": influence.n_beamlets / len(beams),
        **{f"{name}_per_beam": asdict(timed(work, repeats, share=len(beams))) for name, work in works.items()},
    }


def time_plan(repeats: int) -> dict[str, Any]:
    """Seconds and peak memory of ``deeprt plan`` with five beams, each time in its own process."""
    case = str(REAL_CASE) if REAL_CASE.is_dir() else "virtual:prostate"

    def plan() -> None:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "deeprt", "plan", case, "--beams", str(N_BEAMS), "--out", f"{folder}/plan"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    seconds = timed(plan, repeats)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # of the largest child; bytes on macOS, else kB
    memory_mb = round(peak / (1e6 if sys.platform == "darwin" else 1e3))
    return {"case": Path(case).name, "n_beams": N_BEAMS, "seconds": asdict(seconds), "peak_memory_mb": memory_mb}


def surroundings() -> dict[str, Any]:
    """Commit, versions and hardware."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    versions = {m.__name__: m.__version__ for m in (deeprt, np, scipy, torch, numba)}
    return {
        "commit": commit or "unknown", "seed": SEED, "versions": versions | {"python": platform.python_version()},
        "hardware": {"cpu": cpu, "cores": os.cpu_count(), "torch_threads": torch.get_num_threads()},
    }  # fmt: skip


def publish(report: dict[str, Any], file: Path | None) -> None:
    """Print a benchmark's JSON, and write it to a file if one is given."""
    text = json.dumps(report, indent=2)
    print(text)
    if file:
        file.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Run the benchmark and print its JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the JSON to this file")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-plan", action="store_true", help="leave out the whole plan, which takes longest")
    options = parser.parse_args()
    case = phantom(target_radius_mm=33.0)
    angles = [BeamAngles(360.0 * n / N_BEAMS) for n in range(N_BEAMS)]
    machine = read_machine("generic_6mv")
    square = place_beams(case, angles, machine, beamlet_width_mm=5.0, beamlet_height_mm=5.0)
    to_deliver = place_beams(case, angles, machine, beamlet_width_mm=2.5)
    report = surroundings() | {
        "influence_5mm_beamlets": time_influence(case, square, options.repeats),
        "influence_leaf_beamlets": time_influence(case, to_deliver, options.repeats),
    }
    if not options.no_plan:
        report["plan"] = time_plan(options.repeats)
    publish(report, options.out)


if __name__ == "__main__":
    main()
