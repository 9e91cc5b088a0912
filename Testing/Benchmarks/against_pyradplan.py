"""Compare dose and speed with pyRadPlan: ``python Testing/Benchmarks/against_pyradplan.py [--quick] [--out FOLDER]``.

Both programs get one machine file (pyRadPlan's ``photons_Generic.mat``), one grid of electron densities, and one
fluence for the same beamlets: square fields on water, and smooth random maps over the target of the case ``tg119``.
pyRadPlan runs in an environment of its own, made on first use (it needs pydantic 2.12.5 and numpy below 2.4).
Writes ``pyradplan.json`` and ``pyradplan.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from environments import FOLDER, REPOSITORY, environment
from numpy.typing import NDArray
from planning import SEED, surroundings
from scipy.ndimage import distance_transform_edt, gaussian_filter

from deeprt.beams import Beam, BeamAngles
from deeprt.case import PatientCase
from deeprt.config import PlanningConfig
from deeprt.dose.influence import dose_influence
from deeprt.evaluation.gamma import gamma_index, pass_rate
from deeprt.files import write_all_whole
from deeprt.geometry import Grid
from deeprt.machine import Machine, OffAxis
from deeprt.machine_file import read_machine
from deeprt.matrad_machine import MU_PER_WEIGHT
from deeprt.preparation import load_case
from deeprt.structures import Role, Structure

REQUIREMENTS = ("pyRadPlan[numba]==0.5.0", "pydantic==2.12.5", "numpy<2.4")
TG119 = REPOSITORY.parent / "shared" / "cases" / "tg119"
BEAMLET_MM = 5.0
N_BEAMS = 7
MAP_SIZE = 61  # beamlets along each side of a fluence map, the axis in the middle one
FIELDS = (7, 11, 21)  # beamlets along each side: 35, 55 and 105 mm, since beamlets lie centered on the axis
AXIS_DEPTHS_MM = (15.0, 50.0, 100.0, 200.0)
WATER_MM, WATER_SSD_MM = 243.0, 900.0
CUTOFF_MM, WIDE_CUTOFF_MM = 50.0, 150.0  # pyRadPlan's default, and one beyond which little dose is left
SHIFT_MM = -0.25  # of pyRadPlan's dose along both beam axes: half a cell of the lattice it convolves on
SURFACE_MM = 15.0  # layer of the body that holds the build-up
REPEATS = 5


@dataclass(frozen=True, eq=False)
class Comparison:
    """One anatomy with beams and fluence maps, (n_maps, n_beams, MAP_SIZE, MAP_SIZE), as both programs get it."""

    name: str
    case: PatientCase
    target: NDArray[np.bool_]
    isocenter_lps: NDArray[np.float64]
    gantry_deg: tuple[float, ...]
    fluence: NDArray[np.float64]
    cutoff_mm: float
    forward: bool  # pyRadPlan computes without its matrix, which a wide cut-off makes too large

    def write_job(self, path: Path) -> None:
        """Write what pyRadPlan's side reads."""
        grid = self.case.grid
        np.savez(
            path,
            density=self.case.density,
            body=self.case.external.fraction > 0,
            target=self.target,
            spacing_mm=grid.spacing_mm,
            origin_mm=grid.index_to_lps[:3, 3],
            isocenter_mm=self.isocenter_lps,
            gantry_deg=np.array(self.gantry_deg),
            beamlet_mm=BEAMLET_MM,
            fluence=self.fluence,
            cutoff_mm=self.cutoff_mm,
            forward=self.forward,
        )


def water(spacing_mm: float) -> Comparison:
    """Square fields on a cube of water with the isocenter 10 cm deep on the axis."""
    n = round(WATER_MM / spacing_mm)
    first = -spacing_mm * (n - 1) / 2
    grid = Grid.axial((n, n, n), spacing_mm, (first, WATER_SSD_MM - 1000 + spacing_mm / 2, first))
    body = Structure("Water", Role.EXTERNAL, np.ones(grid.shape, np.float32))
    case = PatientCase("water", "HFS", grid, np.zeros(grid.shape, np.float32), (body,), 1)
    reach = BEAMLET_MM * max(FIELDS) / 2 - BEAMLET_MM
    target = np.all(np.abs(grid.points_lps()) < reach, axis=1).reshape(grid.shape)
    maps = np.zeros((len(FIELDS), 1, MAP_SIZE, MAP_SIZE))
    for square, n_open in zip(maps, FIELDS, strict=True):
        inside = slice(MAP_SIZE // 2 - n_open // 2, MAP_SIZE // 2 + n_open // 2 + 1)
        square[0, inside, inside] = 1
    return Comparison("water", case, target, np.zeros(3), (0.0,), maps, CUTOFF_MM, False)


def tg119(spacing_mm: float, n_beams: int) -> Comparison:
    """Smooth random maps over the target of the C-shape phantom, mean about 1."""
    case = load_case(str(TG119), PlanningConfig(dose_grid_mm=spacing_mm))
    target = case.with_role(Role.TARGET)[0].fraction >= 0.5
    isocenter = case.grid.points_lps(np.flatnonzero(target)).mean(axis=0)
    noise = np.random.default_rng(SEED).normal(size=(1, n_beams, MAP_SIZE, MAP_SIZE))
    smooth = gaussian_filter(noise, (0, 0, 1.5, 1.5))
    maps = np.clip(1 + 0.4 * smooth / smooth.std(), 0, None)
    gantry = tuple(360.0 * n / n_beams for n in range(n_beams))
    return Comparison("tg119", case, target, isocenter, gantry, maps, CUTOFF_MM, False)


def run_pyradplan(python: Path, comparisons: Sequence[Comparison], folder: Path) -> list[dict[str, NDArray[Any]]]:
    """Results of all comparisons, computed one after the other in one process."""
    command = [str(python), str(Path(__file__).with_name("pyradplan_dose.py"))]
    for number, comparison in enumerate(comparisons):
        comparison.write_job(folder / f"job{number}.npz")
        command += [str(folder / f"job{number}.npz"), str(folder / f"result{number}.npz")]
    done = subprocess.run(
        command, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"pyRadPlan failed:\n{done.stderr[-3000:]}")
    results = []
    for number in range(len(comparisons)):
        with np.load(folder / f"result{number}.npz") as archive:
            results.append(dict(archive))
    return results


def beams_of(comparison: Comparison, result: dict[str, NDArray[Any]]) -> tuple[Beam, ...]:
    """pyRadPlan's beamlets, where its dose has them: shifted by `SHIFT_MM`."""
    beams = []
    positions = np.split(result["positions"], np.cumsum(result["n_beamlets"])[:-1])
    for number, (gantry, centers) in enumerate(zip(comparison.gantry_deg, positions, strict=True), start=1):
        column, row = np.rint(centers / BEAMLET_MM).astype(int).T
        edges = [BEAMLET_MM * (np.arange(a.min(), a.max() + 2) - 0.5) + SHIFT_MM for a in (column, row)]
        open_beamlets = np.zeros((edges[1].size - 1, edges[0].size - 1), bool)
        open_beamlets[row - row.min(), column - column.min()] = True
        angles, isocenter = BeamAngles(gantry), comparison.isocenter_lps
        beams.append(Beam(f"Beam {number}", angles, isocenter, "HFS", 1000.0, *edges, open_beamlets))
    return tuple(beams)


def our_dose(
    comparison: Comparison, beams: tuple[Beam, ...], machine: Machine, repeats: int
) -> tuple[NDArray[np.float32], list[float], int]:
    """Doses of the maps, (n_maps, n_k, n_j, n_i) Gy; seconds of each set-up after one to warm up; voxels."""
    influence = dose_influence(comparison.case, beams, machine)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        dose_influence(comparison.case, beams, machine)
        seconds.append(time.perf_counter() - start)
    fluence = []
    for maps in comparison.fluence:
        parts = []
        for beam, image in zip(beams, maps, strict=True):
            row, column = np.nonzero(beam.open_beamlets)
            first_row, first_column = (
                round((e[0] - SHIFT_MM) / BEAMLET_MM + 0.5) + MAP_SIZE // 2 for e in (beam.y_edges_mm, beam.x_edges_mm)
            )
            parts.append(image[first_row + row, first_column + column])
        fluence.append(np.concatenate(parts))
    dose = influence.dose(MU_PER_WEIGHT * torch.from_numpy(np.stack(fluence)).float())
    return np.stack([influence.to_volume(d) for d in dose]), seconds, int(influence.voxels.size)


def agreement(theirs: NDArray[np.float32], ours: NDArray[np.float32], case: PatientCase) -> dict[str, float]:
    """Gamma pass rates, and differences where pyRadPlan's dose is at least 10 % of its maximum, in percent of it."""
    spacing = (float(case.grid.spacing_mm[2]), float(case.grid.spacing_mm[1]), float(case.grid.spacing_mm[0]))
    rates = {}
    for percent, distance in ((2.0, 2.0), (1.0, 1.0)):
        gamma = gamma_index(theirs, ours, spacing, dose_percent=percent, distance_mm=distance)
        rates[f"gamma_{percent:g}_percent_{distance:g}_mm"] = round(100 * pass_rate(gamma), 2)
    body = np.pad(case.external.fraction >= 1, 1)
    deep = distance_transform_edt(body, sampling=spacing)[1:-1, 1:-1, 1:-1] > SURFACE_MM
    high = theirs >= 0.1 * theirs.max()
    difference = 100 * (ours - theirs) / theirs.max()
    return rates | {
        "n_voxels_compared": int(high.sum()),
        "mean_difference_percent": round(float(difference[high].mean()), 2),
        "largest_difference_percent": round(float(np.abs(difference[high]).max()), 2),
        "largest_difference_deep_percent": round(float(np.abs(difference[high & deep]).max()), 2),
    }


def on_axis(theirs: NDArray[np.float32], ours: NDArray[np.float32], spacing_mm: float) -> list[dict[str, float]]:
    """Local differences on the axis of the water phantom, in percent of pyRadPlan's dose."""
    middle, rows = theirs.shape[0] // 2, []
    for depth in AXIS_DEPTHS_MM:
        j = int(depth / spacing_mm)
        a, b = float(theirs[middle, j, middle]), float(ours[middle, j, middle])
        rows.append({"depth_mm": (j + 0.5) * spacing_mm, "difference_percent": round(100 * (b / a - 1), 2)})
    return rows


def compare(comparison: Comparison, result: dict[str, NDArray[Any]], machine: Machine, repeats: int) -> dict[str, Any]:
    """Agreement of every map, and what the set-up cost both."""
    beams = beams_of(comparison, result)
    ours, seconds, n_voxels = our_dose(comparison, beams, machine, repeats)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    n_beams, grid = len(beams), comparison.case.grid
    maps = []
    for number, theirs in enumerate(result["dose"]):
        row: dict[str, Any] = agreement(theirs, ours[number], comparison.case)
        if comparison.name == "water":
            side = round(np.sqrt((comparison.fluence[number] > 0).sum()) * BEAMLET_MM)
            row |= {"field_mm": side, "on_axis": on_axis(theirs, ours[number], float(grid.spacing_mm[0]))}
        maps.append(row)
    report = {
        "name": comparison.name, "cutoff_mm": comparison.cutoff_mm, "n_beams": n_beams, "n_voxels": n_voxels,
        "n_beamlets": result["n_beamlets"].tolist(), "spacing_mm": grid.spacing_mm.round(3).tolist(), "maps": maps,
    }  # fmt: skip
    if not comparison.forward:
        theirs_s, ours_s = float(result["seconds"]) / n_beams, statistics.median(seconds) / n_beams
        report["set_up"] = {
            "pyradplan_s_per_beam": round(theirs_s, 2),
            "deeprt_s_per_beam": round(ours_s, 4),
            "deeprt_s_per_beam_of_each_run": [round(s / n_beams, 4) for s in seconds],
            "times_faster": round(theirs_s / ours_s, 1),
            "pyradplan_entries": int(result["entries"]),
            "pyradplan_peak_mib": round(float(result["peak_mib"])),
            "deeprt_peak_mib": round(peak_mib),
        }
    return report


def comparisons_to_run(quick: bool) -> list[Comparison]:
    """Both anatomies with pyRadPlan's default cut-off, then with a wide one to tell its part from ours."""
    spacing_mm, n_beams = (5.0, 1) if quick else (3.0, N_BEAMS)
    chosen = [water(spacing_mm)]
    if TG119.is_dir():
        chosen.append(tg119(spacing_mm, n_beams))
    if quick:
        return chosen
    largest = replace(chosen[0], fluence=chosen[0].fluence[-1:])
    return chosen + [replace(c, cutoff_mm=WIDE_CUTOFF_MM, forward=True) for c in (largest, *chosen[1:])]


def to_markdown(report: dict[str, Any]) -> str:
    """The page of results."""
    lines = [_HEAD.format(cpu=report["hardware"]["cpu"], cores=report["hardware"]["cores"], commit=report["commit"],
                          versions=", ".join(report["pyradplan_versions"]))]  # fmt: skip
    lines += [
        "| Case | Field | Cut-off | Gamma 2 %/2 mm | Gamma 1 %/1 mm | Mean difference | Largest | Largest deeper |"
    ]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for c in report["comparisons"]:
        for m in c["maps"]:
            field = f"{m['field_mm']} mm" if "field_mm" in m else f"{c['n_beams']} beams"
            rates = f"{m['gamma_2_percent_2_mm']} % | {m['gamma_1_percent_1_mm']} %"
            largest = f"{m['largest_difference_percent']} % | {m['largest_difference_deep_percent']} %"
            differences = f"{m['mean_difference_percent']} % | {largest}"
            lines.append(f"| {c['name']} | {field} | {c['cutoff_mm']:g} mm | {rates} | {differences} |")
    lines += ["", "On the axis of the water phantom, DeepRT minus pyRadPlan in percent of the local dose:", ""]
    lines += ["| Field | Cut-off | " + " | ".join(f"about {d:g} mm deep" for d in AXIS_DEPTHS_MM) + " |"]
    lines += ["|---|---|" + "---|" * len(AXIS_DEPTHS_MM)]
    for c in report["comparisons"]:
        for m in c["maps"] if c["name"] == "water" else ():
            cells = " | ".join(f"{row['difference_percent']:+.2f} %" for row in m["on_axis"])
            lines.append(f"| {m['field_mm']} mm | {c['cutoff_mm']:g} mm | {cells} |")
    lines += ["", "## Set-up", "", "| Case | Beamlets per beam | Voxels | pyRadPlan per beam | entries | peak memory |"
              " DeepRT per beam | peak memory | Ratio |", "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for c in report["comparisons"]:
        if "set_up" in c:
            s, beamlets = c["set_up"], c["n_beamlets"]
            lines.append(
                f"| {c['name']}, {c['n_beams']} beams | {statistics.mean(beamlets):.0f} | {c['n_voxels']:,} "
                f"| {s['pyradplan_s_per_beam']} s | {s['pyradplan_entries']:,} | {s['pyradplan_peak_mib']} MiB "
                f"| {s['deeprt_s_per_beam']} s | {s['deeprt_peak_mib']} MiB | {s['times_faster']} |"
            )
    return "\n".join([*lines, "", _TAIL])


_HEAD = """# Against pyRadPlan

```sh
python Testing/Benchmarks/against_pyradplan.py
```

{cpu}, {cores} cores; commit {commit}; {versions}.

One machine file for both, pyRadPlan's `photons_Generic.mat`; one grid of electron densities; the same beamlets of 5 mm
with the same fluence: square fields on water, smooth random maps over the target of `tg119`. Gamma is global with a
threshold of 10 %, pyRadPlan's dose the reference. pyRadPlan computes dose in the body alone, so only voxels of the body
are compared. Differences are DeepRT minus pyRadPlan, in percent of pyRadPlan's maximum; *deeper* leaves out what lies
within 15 mm of the body's surface.

## Dose
"""

_TAIL = """pyRadPlan's time is one run of its dose influence matrix; the first, on water, also compiles functions.
DeepRT's is the median of five set-ups for all voxels of the body after one to warm up. Peak memory is that of each
process up to then, with all its libraries.

## What was allowed for

- pyRadPlan 0.5.0 places its dose 0.25 mm too far towards negative values on both beam axes (half a cell of its
  convolution's lattice). DeepRT's beamlets are moved with it here.
- pyRadPlan leaves out the horns of the file unless asked, so DeepRT's are switched off here.
- pyRadPlan drops dose farther than 50 mm from a beamlet's axis. DeepRT drops none. The rows with a wider cut-off show
  what is left when pyRadPlan keeps that dose: they measure DeepRT's fit of Gaussians to the tabulated kernels. These
  rows were computed beamlet by beamlet, without pyRadPlan's matrix.
- In `tg119` the largest differences lie in the outermost voxels, in the build-up, where the programs' depths differ.
- pyRadPlan takes kernels for the SSD of each beam, DeepRT scales those for 900 mm to it. On the axis of a
  10 cm x 10 cm field the file's kernels for 850 and for 950 mm differ by 0.4 % in dose at 10 cm depth and by 1.0 % at
  20 cm.
"""


def main() -> None:
    """Run both programs, compare, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "Docs" / "results", metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="5 mm voxels and one beam, to see that everything runs")
    options = parser.parse_args()
    python = environment("pyradplan", REQUIREMENTS)
    package = next((FOLDER / "pyradplan").glob("lib/python*/site-packages/pyRadPlan"))
    machine = read_machine(package / "data" / "machines" / "photons_Generic.mat")
    machine = replace(machine, off_axis=OffAxis(np.zeros(1), np.ones(1)))
    comparisons = comparisons_to_run(options.quick)
    with tempfile.TemporaryDirectory() as folder:
        results = run_pyradplan(python, comparisons, Path(folder))
    report = surroundings()
    report["hardware"]["numba_threads"] = numba.get_num_threads()
    report["pyradplan_versions"] = results[0]["versions"].tolist()
    repeats = 1 if options.quick else REPEATS
    report["comparisons"] = [compare(c, r, machine, repeats) for c, r in zip(comparisons, results, strict=True)]
    page = to_markdown(report)
    write_all_whole(options.out, {"pyradplan.json": json.dumps(report, indent=2) + "\n", "pyradplan.md": page})
    print(page)


if __name__ == "__main__":
    main()
