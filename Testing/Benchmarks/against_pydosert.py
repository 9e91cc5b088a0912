"""Compare dose and time with PyDoseRT: ``python Testing/Benchmarks/against_pydosert.py [--quick] [--out FOLDER]``.

Three plans on one water phantom: a 10 cm x 10 cm field, a 5 cm x 5 cm field, and segments of random smooth shapes.
PyDoseRT runs in an environment of its own, made on first use. Both doses are scaled to 1 cGy per MU at 10 cm depth
in the 10 cm x 10 cm field. Writes ``pydosert.json`` and ``pydosert.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from environments import REPOSITORY, environment
from numpy.typing import NDArray
from planning import SEED, surroundings
from scipy.ndimage import gaussian_filter1d

from deeprt.beams import Beam, BeamAngles
from deeprt.case import PatientCase
from deeprt.delivery.dose_of_plan import dose_of_plan
from deeprt.delivery.segments import DeliverablePlan, JawOpening, Segment
from deeprt.dose.influence import dose_influence
from deeprt.dose.kernels import axis_dose
from deeprt.evaluation.gamma import gamma_index, pass_rate
from deeprt.files import write_all_whole
from deeprt.geometry import Grid
from deeprt.machine import HeadScatter, Machine, OffAxis
from deeprt.machine_file import read_machine
from deeprt.structures import Role, Structure

REQUIREMENTS = ("pydosert==1.5.0", f"torch=={torch.__version__.split('+')[0]}")
TPR_20_10 = 0.68  # of the published kernel whose tables generic_6mv is commissioned to
SSD_MM, ISOCENTER_DEPTH_MM = 900.0, 100.0
WATER_MM = 303.0
N_SEGMENTS = 8
JAW_Y_MM = 50.0
WIDENED_MM = 0.5  # by which PyDoseRT opens leaves and jaws beyond their positions, half a pixel of its fluence map
AXIS_DEPTHS_MM = (5.0, 15.0, 30.0, 50.0, 100.0, 150.0, 200.0, 250.0)
PROFILE_DEPTHS_MM = (15.0, 50.0, 100.0, 200.0)


@dataclass(frozen=True, eq=False)
class Plan:
    """Segments at gantry 0 between jaws that stand at ``half_mm`` across the leaves.

    Parameters
    ----------
    tips_mm : (n_segments, n_pairs, 2) left and right
    mu : (n_segments,)
    """

    name: str
    tips_mm: NDArray[np.float64]
    half_mm: float
    mu: NDArray[np.float64]


def plans(machine: Machine) -> tuple[Plan, ...]:
    """Both square fields, and segments whose shapes change smoothly from leaf to leaf."""
    n_pairs = machine.mlc.n_pairs
    squares = [
        Plan(f"{side / 10:g} cm x {side / 10:g} cm", np.tile([-side / 2, side / 2], (1, n_pairs, 1)), side / 2,
             np.array([100.0]))
        for side in (100.0, 50.0)
    ]  # fmt: skip
    rng = np.random.default_rng(SEED)
    smooth = gaussian_filter1d(rng.normal(size=(N_SEGMENTS, n_pairs, 2)), 2.0, axis=1)
    smooth /= smooth.std()
    center, half = 12.0 * smooth[..., 0], np.clip(20.0 + 8.0 * smooth[..., 1], 3.0, 40.0)
    tips = np.clip(np.stack([center - half, center + half], axis=-1), -60.0, 60.0)
    return (*squares, Plan(f"{N_SEGMENTS} segments", tips, JAW_Y_MM, rng.uniform(10.0, 40.0, N_SEGMENTS)))


def water(spacing_mm: float) -> tuple[PatientCase, NDArray[np.float64]]:
    """A cube of water below the surface at SSD 900 mm, the axis through voxel centers; and the isocenter."""
    n = round(WATER_MM / spacing_mm)
    first = -spacing_mm * (n - 1) / 2
    grid = Grid.axial((n, n, n), spacing_mm, (first, spacing_mm / 2 - ISOCENTER_DEPTH_MM, first))
    body = Structure("Water", Role.EXTERNAL, np.ones(grid.shape, np.float32))
    return PatientCase("water", "HFS", grid, np.zeros(grid.shape, np.float32), (body,), 1), np.zeros(3)


def run_pydosert(
    python: Path, machine: Machine, chosen: tuple[Plan, ...], case: PatientCase, n_threads: int
) -> dict[str, NDArray[Any]]:
    """PyDoseRT's doses of the plans, with its widening of openings undone and the rounding of our tips given to it."""
    grid = case.grid
    n_of = [p.mu.size for p in chosen]
    outward = (machine.mlc.tip_offset_mm - WIDENED_MM) * np.array([-1.0, 1.0])
    with tempfile.TemporaryDirectory() as folder:
        job, result = Path(folder) / "job.npz", Path(folder) / "result.npz"
        np.savez(
            job,
            shape=np.array(grid.shape),
            spacing_mm=grid.spacing_mm[::-1],
            isocenter_mm=-grid.index_to_lps[:3, 3][::-1],  # along k, j, i from the center of the first voxel
            tpr_20_10=TPR_20_10,
            leaf_widths_mm=np.diff(machine.mlc.leaf_edges_mm),
            penumbra_fwhm_mm=machine.kernels.penumbra_sigma_mm * np.sqrt(8 * np.log(2)),
            off_axis=_extended(machine.off_axis.radius_mm, machine.off_axis.ratio),
            head_scatter=_extended(machine.head_scatter.field_mm, machine.head_scatter.factor),
            kernel_size=grid.shape[0] | 1,
            plan_of_segment=np.repeat(np.arange(len(chosen)), n_of),
            tips_mm=np.concatenate([p.tips_mm + outward for p in chosen]),
            jaws_mm=np.repeat([[WIDENED_MM - p.half_mm, p.half_mm - WIDENED_MM] for p in chosen], n_of, axis=0),
            mu=np.concatenate([p.mu for p in chosen]),
            ssd_mm=SSD_MM,
            axis_depths_mm=np.array(AXIS_DEPTHS_MM),
            square_halves_mm=np.array([p.half_mm for p in chosen if p.mu.size == 1]),
            n_threads=n_threads,
        )
        command = [str(python), str(Path(__file__).with_name("pydosert_dose.py")), str(job), str(result)]
        done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"PyDoseRT failed:\n{done.stderr[-3000:]}")
        with np.load(result) as archive:
            return dict(archive)


def _extended(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Table with its ends held, since PyDoseRT's interpolation needs two rows at least, (2, n + 2)."""
    return np.stack([np.r_[x[0] - 1, x, x[-1] + 1000], np.r_[y[0], y, y[-1]]])


def our_dose(
    plan: Plan, machine: Machine, case: PatientCase, isocenter: NDArray[np.float64]
) -> tuple[NDArray[np.float32], float, float]:
    """Dose, (n_k, n_j, n_i) Gy; seconds with set-up, and seconds once that is done."""
    jaws = JawOpening(-75.0, 75.0, -plan.half_mm, plan.half_mm)
    edges = np.array([-75.0, 75.0])
    beam = Beam("Beam 1", BeamAngles(0.0), isocenter, "HFS", 1000.0, edges, edges, np.ones((1, 1), bool))
    segments = tuple(Segment(0, t[:, 0], t[:, 1], float(m)) for t, m in zip(plan.tips_mm, plan.mu, strict=True))
    deliverable = DeliverablePlan(machine, (beam,), (jaws,), segments, 1)
    start = time.perf_counter()
    influence = dose_influence(case, [beam], machine)
    dose = dose_of_plan(deliverable, influence)
    first = time.perf_counter() - start
    start = time.perf_counter()
    dose_of_plan(deliverable, influence)
    return dose, first, time.perf_counter() - start


def half_width_mm(profile: NDArray[np.float32], at_mm: NDArray[np.float64]) -> float:
    """Where a profile falls to half of its value on the axis, on the positive side."""
    middle = profile.size // 2
    falling = profile[middle:] / profile[middle]
    return float(np.interp(-0.5, -falling, at_mm[middle:]))


def side_by_side(plan: Plan, theirs: NDArray[np.float32], ours: NDArray[np.float32], grid: Grid) -> dict[str, Any]:
    """Gamma, depth dose and profiles of one plan; differences in percent of PyDoseRT's local dose."""
    spacing = float(grid.spacing_mm[0])
    middle = grid.shape[0] // 2
    at_mm = spacing * (np.arange(grid.shape[2]) - middle)
    depth_mm = spacing * (np.arange(grid.shape[1]) + 0.5)
    gamma = gamma_index(theirs, ours, (spacing,) * 3, dose_percent=2.0, distance_mm=2.0)
    beyond_build_up = gamma[:, depth_mm > 15.0, :]
    axis = [np.interp(AXIS_DEPTHS_MM, depth_mm, d[middle, :, middle]) for d in (theirs, ours)]
    profiles = []
    for depth in PROFILE_DEPTHS_MM if plan.mu.size == 1 else ():
        a, b = (d[middle, int(depth / spacing), :] for d in (theirs, ours))
        inside = np.abs(at_mm) <= 0.8 * plan.half_mm * (SSD_MM + depth) / 1000
        profiles.append({
            "depth_mm": depth,
            "largest_difference_inside_percent": round(float(100 * np.abs(b / a - 1)[inside].max()), 2),
            "half_width_pydosert_mm": round(half_width_mm(a, at_mm), 2),
            "half_width_deeprt_mm": round(half_width_mm(b, at_mm), 2),
        })  # fmt: skip
    return {
        "name": plan.name,
        "gamma_2_percent_2_mm": round(100 * pass_rate(gamma), 2),
        "gamma_2_percent_2_mm_beyond_15_mm": round(100 * pass_rate(beyond_build_up), 2),
        "axis": [
            {"depth_mm": d, "pydosert_cgy": round(100 * float(a), 2), "deeprt_cgy": round(100 * float(b), 2),
             "difference_percent": round(100 * float(b / a - 1), 2)}
            for d, a, b in zip(AXIS_DEPTHS_MM, *axis, strict=True)
        ],
        "profiles": profiles,
    }  # fmt: skip


def to_markdown(report: dict[str, Any]) -> str:
    """The page of results."""
    hardware = report["hardware"]
    lines = [_HEAD.format(cpu=hardware["cpu"], cores=hardware["cores"], commit=report["commit"],
                          versions=", ".join(report["pydosert_versions"]), tpr=TPR_20_10,
                          own_tpr=report["deeprt_tpr_20_10"])]  # fmt: skip
    lines += [
        "| Plan | Gamma 2 %/2 mm | beyond 15 mm depth | " + " | ".join(f"{d:g} mm" for d in AXIS_DEPTHS_MM) + " |",
        "|---|---|---|" + "---|" * len(AXIS_DEPTHS_MM),
    ]
    for p in report["plans"]:
        cells = " | ".join(f"{row['difference_percent']:+.1f} %" for row in p["axis"])
        lines.append(f"| {p['name']} | {p['gamma_2_percent_2_mm']} % | {p['gamma_2_percent_2_mm_beyond_15_mm']} % "
                     f"| {cells} |")  # fmt: skip
    lines += ["", "Both against PyDoseRT's kernel integrated over the square field, in percent:", "",
              "| Field | Program | " + " | ".join(f"{d:g} mm" for d in AXIS_DEPTHS_MM) + " |",
              "|---|---|" + "---|" * len(AXIS_DEPTHS_MM)]  # fmt: skip
    for p in report["plans"]:
        for name, key in (("PyDoseRT", "pydosert_cgy"), ("DeepRT", "deeprt_cgy")):
            pairs = zip(p["axis"], p.get("integrated_kernel_cgy", []), strict=False)
            cells = " | ".join(f"{100 * (row[key] / exact - 1):+.1f} %" for row, exact in pairs)
            if cells:
                lines.append(f"| {p['name']} | {name} | {cells} |")
    lines += ["", "Profiles along leaf travel:", "",
              "| Field | Depth | Largest difference in the inner 80 % | Half width, PyDoseRT | DeepRT |",
              "|---|---|---|---|---|"]  # fmt: skip
    for p in report["plans"]:
        for row in p["profiles"]:
            lines.append(
                f"| {p['name']} | {row['depth_mm']:g} mm | {row['largest_difference_inside_percent']} % "
                f"| {row['half_width_pydosert_mm']} mm | {row['half_width_deeprt_mm']} mm |"
            )
    lines += ["", "## Time", "", "| Plan | PyDoseRT, with set-up | again | DeepRT, with set-up | again |",
              "|---|---|---|---|---|"]  # fmt: skip
    for p in report["plans"]:
        s = p["seconds"]
        lines.append(f"| {p['name']} | {s['pydosert']} s | {s['pydosert_again']} s "
                     f"| {s['deeprt']} s | {s['deeprt_again']} s |")  # fmt: skip
    peaks = f"Peak memory: PyDoseRT {report['pydosert_peak_mib']} MiB, DeepRT {report['deeprt_peak_mib']} MiB."
    return "\n".join([*lines, "", peaks, "", _TAIL])


_HEAD = """# Against PyDoseRT

```sh
python Testing/Benchmarks/against_pydosert.py
```

{cpu}, {cores} cores, both on the CPU; commit {commit}; {versions}.

Water of 303 mm, 3 mm voxels, isocenter 10 cm deep at SSD 90 cm, gantry 0. PyDoseRT computes with the kernel of Nyholm
et al. (2006) at TPR20,10 = {tpr}; `generic_6mv` (whose model gives TPR20,10 = {own_tpr}) is commissioned to tables of
that kernel. PyDoseRT has DeepRT's leaves, penumbra and rounded tips here. Horns and head scatter are off in both, so
that the kernel itself can be integrated beside them, and leaf transmission, since PyDoseRT has no jaws along leaf
travel. Both doses are 1 cGy per MU at 10 cm depth in the 10 cm x 10 cm field; nothing else is scaled.

## Dose on the axis: DeepRT minus PyDoseRT, in percent of the local dose
"""

_TAIL = """## Differences explained

- Integrated over the square fields, the kernel is the reference of both: what DeepRT is off it is what commissioning
  leaves between model and tables ([dose.md](../dose.md)); what PyDoseRT is off it comes from sampling fluence and
  kernel at the centers of voxels. With voxels of 9 mm (`--quick`) that grows.
- PyDoseRT opens leaves and jaws by half a millimeter beyond their positions (half a pixel of its fluence map), which
  is undone here.
- PyDoseRT's kernel is chosen by the depth on the beam's axis, which is exact in this phantom and not in a patient.
"""


def main() -> None:
    """Run both programs, compare, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "Docs" / "results", metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="large voxels, to see that everything runs")
    options = parser.parse_args()
    python = environment("pydosert", REQUIREMENTS)
    machine = read_machine("generic_6mv")
    machine = replace(
        machine,
        mlc=replace(machine.mlc, transmission=0.0),
        head_scatter=HeadScatter(np.array([100.0]), np.array([1.0])),
        off_axis=OffAxis(np.array([0.0]), np.array([1.0])),
    )
    case, isocenter = water(9.0 if options.quick else 3.0)
    chosen = plans(machine)
    theirs = run_pydosert(python, machine, chosen, case, torch.get_num_threads())
    our_dose(chosen[0], machine, case, isocenter)  # to warm up, as the other side does
    ours = [our_dose(plan, machine, case, isocenter) for plan in chosen]
    report = surroundings() | {
        "pydosert_versions": theirs["versions"].tolist(),
        "deeprt_tpr_20_10": round(float(axis_dose(machine, [200.0], field_mm=100.0, ssd_mm=800.0)[0]
                                        / axis_dose(machine, [100.0], field_mm=100.0, ssd_mm=900.0)[0]), 3),
        "pydosert_peak_mib": round(float(theirs["peak_mib"])),
        "deeprt_peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }  # fmt: skip
    middle, depth_mm = case.grid.shape[0] // 2, case.grid.spacing_mm[1] * (np.arange(case.grid.shape[1]) + 0.5)
    scales = [
        0.01 * chosen[0].mu[0] / np.interp(ISOCENTER_DEPTH_MM, depth_mm, dose[middle, :, middle])
        for dose in (theirs["dose"][0], ours[0][0])
    ]
    report["plans"] = []
    for number, plan in enumerate(chosen):
        dose, first, again = ours[number]
        row = side_by_side(plan, scales[0] * theirs["dose"][number], scales[1] * dose, case.grid)
        if number < len(theirs["integrated_kernel"]):
            kernel = theirs["integrated_kernel"]
            row["integrated_kernel_cgy"] = np.round(
                plan.mu[0] * kernel[number] / kernel[0][AXIS_DEPTHS_MM.index(ISOCENTER_DEPTH_MM)], 2
            ).tolist()
        row["seconds"] = {
            "pydosert": round(float(theirs["seconds"][number]), 3),
            "pydosert_again": round(float(theirs["seconds_again"][number]), 3),
            "deeprt": round(first, 3),
            "deeprt_again": round(again, 3),
        }
        report["plans"].append(row)
    page = to_markdown(report)
    write_all_whole(options.out, {"pydosert.json": json.dumps(report, indent=2) + "\n", "pydosert.md": page})
    print(page)


if __name__ == "__main__":
    main()
