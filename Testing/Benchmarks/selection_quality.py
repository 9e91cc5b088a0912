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
from deeprt.cohort.openkbp import read_openkbp
from deeprt.config import PlanningConfig
from deeprt.fluence.solvers import SolverSettings
from deeprt.machine_file import read_machine
from deeprt.orientation.column_generation import SelectionProblem, generate_columns
from deeprt.orientation.search import improve_by_exchange
from deeprt.orientation.selection import equispaced_angles
from deeprt.orientation.teacher import CandidateSettings, selection_problem
from deeprt.preparation import load_case, with_prescriptions

CASES = Path(__file__).parents[3] / "shared" / "cases"
TIGHT = SolverSettings(max_iterations=1000, tolerance=1e-6)


def cases(n_openkbp: int) -> Iterator[tuple[PatientCase, int]]:
    """Cases and their number of beams."""
    config = PlanningConfig(dose_grid_mm=4.0)
    for name, n_beams in (("cort_prostate", 5), ("tg119", 7)):
        _, case, _ = with_prescriptions(load_case(str(CASES / name), config), config)
        yield case, n_beams
    folder = CASES / "openkbp"
    patients = json.loads((folder / "index.json").read_text())["patients"]
    for entry in patients[:n_openkbp]:
        yield read_openkbp(folder / f"{entry['id']}.npz"), 9


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
