"""Time column generation; prints JSON: ``python Testing/Benchmarks/column_generation.py [--quick] [--out FILE]``.

On a water phantom one size at a time is changed: voxels, beamlets, candidates. Set-up, pricing and optimization are
told apart, and the number of solutions of P(B) is that of the beams and one more. Where the case ``cort_prostate`` is
there, 5 of its 180 coplanar candidates are chosen as ``deeprt beams`` does, and pyRadPlan, in an environment of its
own, makes the dose influence matrices of three beams on the same grid, from which those of all candidates are
estimated.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
from against_pyradplan import BEAMLET_MM, CUTOFF_MM, MAP_SIZE, REQUIREMENTS, Comparison, run_pyradplan
from environments import environment
from planning import REAL_CASE, SEED, Seconds, phantom, publish, surroundings

from deeprt.case import PatientCase, union
from deeprt.config import PlanningConfig
from deeprt.machine_file import read_machine
from deeprt.orientation.candidates import candidate_beams
from deeprt.orientation.column_generation import generate_columns
from deeprt.orientation.teacher import CandidateSettings, selection_problem
from deeprt.preparation import load_case, with_prescriptions

N_BEAMS = 5
PHANTOM = CandidateSettings("coplanar:6", voxel_mm=6.0, beamlet_mm=5.0)
SIZES: Mapping[str, tuple[CandidateSettings, ...]] = {
    "voxels": tuple(replace(PHANTOM, voxel_mm=mm) for mm in (8.0, 6.0, 5.0, 4.0)),
    "beamlets": tuple(replace(PHANTOM, beamlet_mm=mm) for mm in (10.0, 7.5, 5.0, 3.5)),
    "candidates": tuple(replace(PHANTOM, candidates=f"coplanar:{step}") for step in (12, 6, 3, 2)),
}
MEASURED_DEG = (0.0, 120.0, 240.0)  # beams of which matrices are made
QUICK = replace(PHANTOM, candidates="coplanar:30", voxel_mm=10.0, beamlet_mm=10.0)


def time_selection(
    case: PatientCase, settings: CandidateSettings, repeats: int, *, n_beams: int = N_BEAMS
) -> dict[str, Any]:
    """Sizes of the problem and seconds by kind of work, each time with influences set up anew."""
    machine, seconds = read_machine("generic_6mv"), []
    for _ in range(repeats):
        start = time.perf_counter()
        problem, _ = selection_problem(case, machine, settings, seed=SEED)
        prepared_s = time.perf_counter() - start
        selection = generate_columns(problem, n_beams)[0]
        seconds.append({"preparation": prepared_s, **selection.timing_s, "all": time.perf_counter() - start})
    return {
        "n_candidates": len(problem.candidates),
        "n_voxels": int(problem.pool.voxels.size),
        "n_beamlets_per_beam": round(statistics.mean(b.n_open for b in problem.pool.beams), 1),
        "n_beams": len(selection.chosen),
        "objective": selection.objectives[-1],
        "seconds": {kind: asdict(summary([s[kind] for s in seconds])) for kind in seconds[0]},
    }


def summary(seconds: list[float]) -> Seconds:
    """Median and spread."""
    return Seconds(*(round(s, 3) for s in (statistics.median(seconds), min(seconds), max(seconds))), len(seconds))


def time_real_case(repeats: int) -> dict[str, Any]:
    """5 of 180 beams on ``cort_prostate`` with the settings of the command line; the peak memory is this process's."""
    config = PlanningConfig()
    _, case, _ = with_prescriptions(load_case(str(REAL_CASE), config), config)
    timing = time_selection(case, CandidateSettings(), repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, else kB
    return timing | {"case": REAL_CASE.name, "peak_memory_mb": round(peak / (1e6 if sys.platform == "darwin" else 1e3))}


def time_matrices() -> dict[str, Any]:
    """pyRadPlan's dose influence matrices on ``cort_prostate``: three measured, all candidates by multiplication."""
    settings = CandidateSettings()
    case = load_case(str(REAL_CASE), PlanningConfig(dose_grid_mm=settings.voxel_mm))
    target = union("targets", case.targets).fraction >= 0.5
    fluence = np.zeros((1, len(MEASURED_DEG), MAP_SIZE, MAP_SIZE))
    comparison = Comparison(
        REAL_CASE.name, case, target, case.isocenter_lps(), MEASURED_DEG, fluence, CUTOFF_MM, forward=False
    )
    with tempfile.TemporaryDirectory() as folder:
        result = run_pyradplan(environment("pyradplan", REQUIREMENTS), [comparison], Path(folder))[0]
    n, n_candidates = (
        len(MEASURED_DEG),
        len(candidate_beams(settings.candidates, read_machine("generic_6mv").clearance)),
    )
    seconds, entries = float(result["seconds"]) / n, int(result["entries"]) / n
    return {
        "versions": result["versions"].tolist(),
        "voxel_mm": settings.voxel_mm,
        "beamlet_mm": BEAMLET_MM,
        "seconds_per_beam": round(seconds, 2),
        "entries_per_beam": round(entries),
        "estimated_minutes_of_all_candidates": round(seconds * n_candidates / 60, 1),
        "estimated_gb_of_all_candidates": round(8e-9 * entries * n_candidates, 1),  # a value and an index of 4 bytes
    }


def main() -> None:
    """Run the benchmark and print its JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the JSON to this file")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one small phantom, once, to see that everything runs")
    options = parser.parse_args()
    water = phantom(target_radius_mm=33.0)
    time_selection(water, QUICK, 1)  # to warm up: compiled functions, threads
    report = surroundings()
    report["hardware"]["numba_threads"] = numba.get_num_threads()
    if options.quick:
        report["phantom"] = time_selection(water, QUICK, 1)
    else:
        for name, sizes in SIZES.items():
            report[f"phantom_by_{name}"] = [time_selection(water, s, options.repeats) for s in sizes]
        if REAL_CASE.is_dir():
            report["real_case"] = time_real_case(options.repeats)
            report["pyradplan_matrices"] = time_matrices()
    publish(report, options.out)


if __name__ == "__main__":
    main()
