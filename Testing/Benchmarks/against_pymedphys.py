"""Compare gamma with pymedphys on the same pairs of doses; ``python Testing/Benchmarks/against_pymedphys.py``.

Writes ``gamma.json`` and ``gamma.md`` to ``Docs/results`` (or ``--out``). pymedphys runs in an environment of its own,
which the first run sets up.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from environments import environment
from numpy.typing import NDArray
from planning import surroundings
from scipy.ndimage import gaussian_filter, shift

from deeprt.config import PlanningConfig
from deeprt.evaluation.gamma import gamma_index, pass_rate
from deeprt.pipeline import plan_case
from deeprt.preparation import VIRTUAL_PROSTATE, load_case

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ("pymedphys==0.41.0", "numpy", "scipy", "interpolation")
CRITERIA = ((3.0, 3.0), (3.0, 2.0), (2.0, 2.0), (1.0, 1.0))
THRESHOLD_PERCENT = 10.0
STEPS = (10, 40)  # per distance; agreement is asked for at the last, where both have converged
MAX_GAMMA = 1.1  # a pass rate needs no more, and the finest search of pymedphys takes minutes beyond
SEED = 3
PLAN_HALF_VOXELS = 12  # half a side of the cube around the isocenter that is compared
AGREEMENT_PERCENT = 0.1
ROUNDED_LIMIT = 1.0005  # passes with gamma to three decimals

# Runs in the other environment: doses and settings from one file, gamma into another.
THEIRS = """
import sys, time, numpy as np, pymedphys
data = np.load(sys.argv[1])
axes = tuple(step * np.arange(n) for step, n in zip(data["spacing"], data["reference"].shape))
start = time.perf_counter()
gamma = pymedphys.gamma(
    axes, data["reference"], axes, data["evaluated"], float(data["dose_percent"]), float(data["distance_mm"]),
    lower_percent_dose_cutoff=float(data["threshold_percent"]), interp_fraction=int(data["interpolation"]),
    max_gamma=float(data["max_gamma"]), local_gamma=bool(data["local"]),
)
np.savez(sys.argv[2], gamma=gamma, seconds=time.perf_counter() - start)
"""


@dataclass(frozen=True, eq=False)
class Pair:
    """Two doses, (n_k, n_j, n_i) Gy, on one grid."""

    name: str
    reference_gy: NDArray[np.float32]
    evaluated_gy: NDArray[np.float32]
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Row:
    """One pair, one criterion: percents of voxels that pass, as computed and with gamma to three decimals."""

    pair: str
    dose_percent: float
    distance_mm: float
    local: bool
    interpolation: int
    n_voxels: int
    deeprt_percent: float
    pymedphys_percent: float
    deeprt_rounded_percent: float
    pymedphys_rounded_percent: float
    largest_gamma_difference: float
    deeprt_s: float
    pymedphys_s: float

    @property
    def difference_percent(self) -> float:
        """Pass rate of DeepRT minus that of pymedphys."""
        return self.deeprt_percent - self.pymedphys_percent

    @property
    def rounded_difference_percent(self) -> float:
        """The same with gamma to three decimals."""
        return self.deeprt_rounded_percent - self.pymedphys_rounded_percent


def pairs(scale: float) -> tuple[Pair, ...]:
    """A plateau with penumbrae, shifted and scaled, and two random smooth doses; ``scale`` shrinks the grids."""
    rng = np.random.default_rng(SEED)
    spacing = (3.0, 2.5, 2.5)
    shape = tuple(int(scale * n) for n in (20, 26, 28))
    k, j, i = (s * (np.arange(n) - (n - 1) / 2) for s, n in zip(spacing, shape, strict=True))
    radius = np.sqrt((k[:, None, None] / 0.9) ** 2 + j[:, None] ** 2 + (i / 1.1) ** 2)
    edge = 0.55 * float(np.abs(j).max())
    field = 60 / (1 + np.exp((radius - edge) / 4)) + 4 * np.exp(-((radius / (2 * edge)) ** 2))
    moved = 1.015 * shift(field, (0.3, -0.5, 0.6), order=1, mode="nearest")
    smooth = gaussian_filter(rng.normal(size=shape), 4)
    noise = gaussian_filter(rng.normal(size=shape), 2)
    random = 40 + 25 * smooth / np.abs(smooth).max()
    disturbed = random * (1 + 0.06 * noise / np.abs(noise).max())
    return (
        Pair("field, shifted and scaled by 1.5 %", field.astype(np.float32), moved.astype(np.float32), spacing),
        Pair("random, disturbed by up to 6 %", random.astype(np.float32), disturbed.astype(np.float32), spacing),
        plan_pair(scale),
    )


def plan_pair(scale: float) -> Pair:
    """Dose of the optimized fluence of a virtual patient's plan, and of its segments, around the target."""
    config = PlanningConfig(seed=SEED)
    result = plan_case(load_case(VIRTUAL_PROSTATE, config), config)
    grid = result.case.grid
    center = np.rint(grid.lps_to_index(result.case.isocenter_lps())[0]).astype(int)[::-1]
    half = int(scale * PLAN_HALF_VOXELS)
    box = tuple(slice(c - half, c + half) for c in center)
    spacing = tuple(float(s) for s in grid.spacing_mm[::-1])
    return Pair(
        "plan of a virtual patient, its ideal fluence against its segments", result.solution.dose_gy[box],
        result.dose_gy[box], (spacing[0], spacing[1], spacing[2]),
    )  # fmt: skip


def compare(
    pair: Pair, dose_percent: float, distance_mm: float, *, local: bool, interpolation: int, python: Path
) -> Row:
    """Gamma of both programs on one pair."""
    start = time.perf_counter()
    ours = gamma_index(
        pair.reference_gy, pair.evaluated_gy, pair.spacing_mm, dose_percent=dose_percent, distance_mm=distance_mm,
        threshold_percent=THRESHOLD_PERCENT, local=local, max_gamma=MAX_GAMMA, interpolation=interpolation,
    )  # fmt: skip
    our_seconds = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "given.npz", Path(folder) / "made.npz"
        np.savez(
            given, reference=pair.reference_gy, evaluated=pair.evaluated_gy, spacing=pair.spacing_mm,
            dose_percent=dose_percent, distance_mm=distance_mm, threshold_percent=THRESHOLD_PERCENT,
            interpolation=interpolation, max_gamma=MAX_GAMMA, local=local,
        )  # fmt: skip
        subprocess.run([str(python), "-c", THEIRS, str(given), str(made)], check=True)
        with np.load(made) as result:
            theirs, their_seconds = result["gamma"], float(result["seconds"])
    if not np.array_equal(np.isnan(ours), np.isnan(theirs)):
        raise RuntimeError(f"{pair.name}: the two programs compared different voxels.")
    return Row(
        pair.name,
        dose_percent,
        distance_mm,
        local,
        interpolation,
        int(np.sum(~np.isnan(ours))),
        100 * pass_rate(ours),
        100 * pass_rate(theirs),
        100 * pass_rate(ours / ROUNDED_LIMIT),
        100 * pass_rate(theirs / ROUNDED_LIMIT),
        float(np.nanmax(np.abs(ours - theirs))),
        our_seconds,
        their_seconds,
    )


def page(rows: Sequence[Row]) -> str:
    """Make the results a page in Markdown."""
    worst = {
        n: (
            max(abs(r.difference_percent) for r in rows if r.interpolation == n),
            max(abs(r.rounded_difference_percent) for r in rows if r.interpolation == n),
        )
        for n in STEPS
    }
    lines = [
        "# Gamma against pymedphys",
        "",
        "`python Testing/Benchmarks/against_pymedphys.py` computes gamma of the same pairs of doses with DeepRT and",
        f"with {REQUIREMENTS[0].replace('==', ' ')}. Threshold {THRESHOLD_PERCENT:g} %, gamma up to "
        f"{MAX_GAMMA:g}, seed {SEED}.",
        "",
        "Largest difference of the pass rates, percentage points: "
        + "; ".join(
            f"{n} steps per distance: {a:.3f}, with gamma to three decimals {b:.3f}" for n, (a, b) in worst.items()
        )
        + ".",
        "",
        "| Doses | Criterion | Tolerance | Steps | Voxels | DeepRT / % | pymedphys / % | Difference / points "
        "| to three decimals | Largest difference of gamma | DeepRT / s | pymedphys / s |",
        "|" + 12 * "---|",
    ]
    for r in rows:
        cells = (
            r.pair,
            f"{r.dose_percent:g} %, {r.distance_mm:g} mm",
            "local" if r.local else "global",
            r.interpolation,
            r.n_voxels,
            f"{r.deeprt_percent:.3f}",
            f"{r.pymedphys_percent:.3f}",
            f"{r.difference_percent:+.3f}",
            f"{r.rounded_difference_percent:+.3f}",
            f"{r.largest_gamma_difference:.3f}",
            f"{r.deeprt_s:.2f}",
            f"{r.pymedphys_s:.2f}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += [
        "",
        "Both interpolate the evaluated dose linearly and search it in steps of the same size, but not at the same",
        "points: DeepRT on a cubic lattice, whose points lie at many distances from the voxel, pymedphys on",
        "spherical shells one step apart and one at the distance itself. Either finds a gamma that is too large by",
        "what its points miss. Where the dose crosses the reference between the last two shells, pymedphys finds",
        "it only on the shell at the distance, with a gamma such as 1.00001, which does not pass; DeepRT finds a",
        "nearer point. That happens where the dose is steep against the tolerance, most of all with local",
        "tolerances, and less with finer steps. It is why the pass rates are also compared with gamma to three",
        "decimals. Seconds are of one run each.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the comparison and write its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "Docs" / "results", metavar="DIR")
    parser.add_argument("--scale", type=float, default=1.0, help="of the grids' sides, for a quick trial")
    options = parser.parse_args()
    python = environment("pymedphys", REQUIREMENTS)
    small = np.full((3, 3, 3), 1, np.float32)
    gamma_index(small, small, (1, 1, 1), dose_percent=1, distance_mm=1)  # compiled before it is timed
    rows = []
    for pair in pairs(options.scale):
        for local in (False, True):
            for dose_percent, distance_mm in CRITERIA:
                for steps in STEPS:
                    rows.append(
                        compare(pair, dose_percent, distance_mm, local=local, interpolation=steps, python=python)
                    )
                    print(rows[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    content = surroundings() | {
        "pymedphys": list(REQUIREMENTS), "seed": SEED, "threshold_percent": THRESHOLD_PERCENT,
        "max_gamma": MAX_GAMMA,
        "rows": [asdict(r) | {"difference_percent": r.difference_percent} for r in rows],
    }  # fmt: skip
    (options.out / "gamma.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (options.out / "gamma.md").write_text(page(rows), encoding="utf-8")
    if max(abs(r.rounded_difference_percent) for r in rows if r.interpolation == STEPS[-1]) > AGREEMENT_PERCENT:
        raise SystemExit(f"The pass rates differ by more than {AGREEMENT_PERCENT} percentage points.")


if __name__ == "__main__":
    main()
