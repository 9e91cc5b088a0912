"""Objective of column generation against equispaced beams on real cases; prints a Markdown table.

``python Testing/Benchmarks/selection_quality.py [--openkbp 20] [--exchange SECONDS] [--part N/M] [--out FILE]``. Cases
are looked for in ``../shared/cases`` beside the checkout: cort_prostate (5 beams), tg119 (7) and patients of OpenKBP
(9; Babier et al., Med. Phys. 48, 5549, 2021). The objective is that of column generation, the paper's quadratic one;
each set of beams is solved anew for it to a tight tolerance, so that the early end of the search's own solutions plays
no part.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from deeprt.case import PatientCase
from deeprt.config import PlanningConfig
from deeprt.dicom.external import external_from_ct
from deeprt.fluence.solvers import SolverSettings
from deeprt.geometry import Grid
from deeprt.machine_file import read_machine
from deeprt.orientation.column_generation import SelectionProblem, generate_columns
from deeprt.orientation.search import improve_by_exchange
from deeprt.orientation.selection import equispaced_angles
from deeprt.orientation.teacher import CandidateSettings, selection_problem
from deeprt.preparation import load_case, with_prescriptions
from deeprt.structures import Role, Structure

CASES = Path(__file__).parents[3] / "shared" / "cases"
N_FRACTIONS_OPENKBP = 35
TIGHT = SolverSettings(max_iterations=1000, tolerance=1e-6)


def openkbp_case(folder: Path, patient: str) -> PatientCase:
    """Read one OpenKBP patient; its arrays run anterior to posterior, right to left, superior to inferior."""
    bits = json.loads((folder / "index.json").read_text())["bits"]
    arrays = np.load(folder / f"{patient}.npz")

    def slices_first(volume: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(volume.transpose(2, 0, 1)[::-1])

    ap, rl, si = (float(s) for s in arrays["spacing"])
    ct_hu = slices_first(arrays["ct"]).astype(np.float32) - 1000
    grid = Grid.axial(ct_hu.shape, (rl, ap, si), (0.0, 0.0, 0.0))
    mask = slices_first(arrays["structs"])
    structures = [Structure("BODY", Role.EXTERNAL, external_from_ct(ct_hu, grid))]
    for bit, name in enumerate(bits[:-1]):
        fraction = ((mask >> bit) & 1).astype(np.float32) * structures[0].fraction
        if fraction.any():
            dose = float(name[3:]) if name.startswith("PTV") else None
            role = Role.TARGET if dose else Role.ORGAN_AT_RISK
            structures.append(Structure(name, role, fraction, dose))
    return PatientCase(patient, "HFS", grid, ct_hu, tuple(structures), N_FRACTIONS_OPENKBP)


def cases(n_openkbp: int) -> Iterator[tuple[PatientCase, int]]:
    """Cases and their number of beams."""
    config = PlanningConfig(dose_grid_mm=4.0)
    for name, n_beams in (("cort_prostate", 5), ("tg119", 7)):
        _, case, _ = with_prescriptions(load_case(str(CASES / name), config), config)
        yield case, n_beams
    folder = CASES / "openkbp"
    patients = json.loads((folder / "index.json").read_text())["patients"]
    for entry in patients[:n_openkbp]:
        yield openkbp_case(folder, entry["id"]), 9


def optimum(problem: SelectionProblem, candidates: Sequence[int]) -> float:
    """Optimum of the problem with these beams, solved from scratch to a tolerance far below the differences."""
    tight = replace(problem, solver=TIGHT)
    return generate_columns(tight, len(candidates), given=candidates)[0].objectives[-1]


def main() -> None:
    """Print a row a case and the shares that the documentation quotes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--openkbp", type=int, default=20, help="number of OpenKBP patients")
    parser.add_argument("--part", default="1/1", metavar="N/M", help="only this part of the cases, such as 2/3")
    parser.add_argument("--exchange", type=float, default=0.0, metavar="SECONDS", help="budget of exchange search")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the table to this file")
    options = parser.parse_args()
    machine = read_machine("generic_6mv")
    settings = CandidateSettings()
    lines = [
        "| Case | Beams | Equispaced | Column generation | Exchange | Column generation / equispaced "
        "| Exchange / equispaced | Time of column generation / s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ratios, exchanged, never_higher = [], [], True
    part, n_parts = (int(n) for n in options.part.split("/"))
    for case, n_beams in itertools.islice(cases(options.openkbp), part - 1, None, n_parts):
        angles = [replace(a, gantry_deg=2.0 * round(a.gantry_deg / 2)) for a in equispaced_angles(n_beams)]
        problem, positions = selection_problem(case, machine, settings, given=angles)
        chosen = generate_columns(problem, n_beams)[0]
        better = chosen
        if options.exchange > 0:
            better = improve_by_exchange(problem, chosen, budget_s=options.exchange)
        equispaced, generated, improved = (optimum(problem, s) for s in (positions, chosen.chosen, better.chosen))
        ratios.append(generated / equispaced)
        exchanged.append(improved / equispaced)
        never_higher &= better.objectives[-1] <= chosen.objectives[-1]
        lines.append(
            f"| {case.case_id} | {n_beams} | {equispaced:.5g} | {generated:.5g} | {improved:.5g} | {ratios[-1]:.4f} | "
            f"{exchanged[-1]:.4f} | {sum(chosen.timing_s.values()):.1f} |"
        )
        print(lines[-1], flush=True)
    lines += [
        "",
        f"Lower than equispaced: column generation in {np.sum(np.array(ratios) < 1)} of {len(ratios)} cases, median "
        f"ratio {np.median(ratios):.3f}; with exchange search in {np.sum(np.array(exchanged) < 1)}, median ratio "
        f"{np.median(exchanged):.3f}. Exchange never returned a higher objective than it was given: {never_higher}.",
    ]
    text = "\n".join(lines)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
