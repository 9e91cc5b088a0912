"""Writes the page of what the networks that propose beams were measured to do, from the results of the experiments.

``python -m deeprt.training.experiment_report --results DIR --out Docs/results`` writes ``deepboo.md``, the numbers it
quotes as ``deepboo.json``, and pictures. An experiment without results is said to be not run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from deeprt.evaluation.report import RESEARCH_ONLY
from deeprt.files import write_all_whole
from deeprt.training.experiment_figures import pictures
from deeprt.training.experiment_page import ABSENT, Section, command, not_run, paragraphs, percent, table
from deeprt.training.experiment_plan_tables import (
    correction_section,
    epsilon_section,
    metrics_section,
    objective_section,
    organ_section,
    real_section,
    search_section,
)
from deeprt.training.experiment_prediction_tables import (
    baseline_section,
    example_section,
    size_section,
    training_section,
)
from deeprt.training.experiment_statistics import (
    DEFAULT,
    Results,
    Summary,
    chosen_fold,
    compared,
    read_results,
    summarize,
)

PAGE, NUMBERS = "deepboo.md", "deepboo.json"
PAPER_MSE = 0.0144
_TIMES = {
    "encode_s": "Encoding of a patient",
    "five_beams_s": "Five beams",
    "re_prediction_s": "One prediction after an edit",
}


@dataclass(frozen=True)
class Goal:
    """A goal beside what was measured.

    Parameters
    ----------
    what : is measured
    limit : that it is to keep, from above or from below
    at_most : whether from above
    measured : over all folds, or by whatever network was used; None if not run
    chosen : by the network of the least validation loss; None if not known apart
    n : what was counted, in words
    unit : % for shares, s for seconds
    """

    what: str
    limit: float
    measured: float | None
    chosen: float | None = None
    n: str = ""
    at_most: bool = True
    unit: Literal["%", "s"] = "%"

    @property
    def verdict(self) -> str:
        """Whether it is met, in words."""
        found = [v for v in (self.measured, self.chosen) if v is not None]
        kept = [v <= self.limit if self.at_most else v >= self.limit for v in found]
        if not found:
            return "not run"
        if len(set(kept)) == 2:
            return "met over all folds only" if kept[0] else "met by the chosen network only"
        return "met" if kept[0] else "**not met**"

    def text(self, value: float | None) -> str:
        """A value with its unit."""
        return ABSENT if value is None else percent(value) if self.unit == "%" else f"{value:.3f} s"

    @property
    def cells(self) -> list[str]:
        """Row of the table."""
        limit = f"{100 * self.limit:.3g}" if self.unit == "%" else f"{self.limit:g}"
        limit = f"{'≤' if self.at_most else '≥'} {limit} {self.unit}"
        return [self.what, limit, self.text(self.measured), self.text(self.chosen), self.n or ABSENT, self.verdict]


def goals(results: Results) -> tuple[Goal, ...]:
    """What was asked of the default network."""
    fold = chosen_fold(results.training)
    every, one = _summary(results, None), None if fold is None else _summary(results, fold)

    def both(read: Callable[[Summary], float | None]) -> tuple[float | None, float | None]:
        return None if every is None else read(every), None if one is None else read(one)

    errors, within, mean = _errors(results, fold), both(lambda s: s.within), both(lambda s: s.mean)
    states = f"{results.training['cohort']['n_states_test']} states" if results.training and results.mse else ""
    plans = "" if every is None else f"{every.n} plans"
    with_gap = "" if every is None else f"{every.n - every.n_without_gap} plans, {every.n_without_gap} left out"
    forced = [r["network_forced"] / r["teacher_forced"] - 1 for r in results.forced or ()]
    five, again = _times(results, "five_beams_s"), _times(results, "re_prediction_s")
    anew = [e + f for e, f in zip(_times(results, "encode_s"), five, strict=False)]
    return (
        Goal("Mean squared error, test patients: the paper's", PAPER_MSE, *errors, states),
        Goal("the same: half of it", PAPER_MSE / 2, *errors, states),
        Goal("Plans within 5 % of column generation", 0.95, *within, plans, at_most=False),
        Goal("Mean excess over column generation", 0.015, *mean, plans),
        Goal("Gap to equispaced beams closed, mean", 0.8, *both(lambda s: s.gap_mean), with_gap, at_most=False),
        Goal("Self-correction: mean excess, fold 1", 0.05, _mean(forced), n=_n(forced, "scenarios")),
        Goal("Five beams, case loaded and encoded", 0.5, _median(five), n=_n(five, "repeats"), unit="s"),
        Goal("Five beams, case loaded, encoding included", 0.5, _median(anew), n=_n(anew, "repeats"), unit="s"),
        Goal("One prediction after an edit", 0.15, _median(again), n=_n(again, "repeats"), unit="s"),
    )


def _summary(results: Results, fold: int | None) -> Summary | None:
    own = compared(results.plans or (), DEFAULT, fold=fold)
    return summarize(own) if own else None


def _errors(results: Results, fold: int | None) -> tuple[float | None, float | None]:
    """Mean squared error of the default network: mean of the folds, and of the chosen one."""
    folds = (results.mse or {"methods": {}})["methods"].get(DEFAULT, {}).get("per_fold", {})
    own = folds.get(str(fold))
    return _mean([f["all"] for f in folds.values()]), None if own is None else own["all"]


def _times(results: Results, name: str) -> list[float]:
    return list((results.times or {}).get(name, ()))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def _n(values: Sequence[float], what: str) -> str:
    return f"{len(values)} {what}" if values else ""


def short_section(results: Results) -> Section:
    """Goals beside what was measured."""
    found, fold = goals(results), chosen_fold(results.training)
    header = ["What", "Goal", "Measured", "Shipped network" if fold is None else f"Fold {fold}", "n", "Goal is"]
    text = paragraphs(
        "The default network on held-out virtual patients. *Measured* is over all folds; "
        + (f"fold {fold} is" if fold is not None else "the column beside it is")
        + " the network with the least validation loss, the one that ships. Each number is explained, with its "
        "command, in a section below.",
        table(header, [g.cells for g in found]),
    )
    return Section("In short", text, {g.what: {**asdict(g), "verdict": g.verdict.strip("*")} for g in found})


def data_section(results: Results) -> Section:
    """Patients, split, labels, hardware, and the commands of it all."""
    title = "Data, split, hardware"
    commands = """```sh
deeprt cohort make virtual:prostate --out work/prostate
deeprt cohort label work/prostate
deeprt train beams --data work/prostate --network default --folds 6 --out work/boo/default
python -m deeprt.training.experiments --data work/prostate --runs work/boo --out work/experiments
python -m deeprt.training.experiment_report --results work/experiments --out Docs/results
```"""
    about = (
        "A *state* is a patient, organ weights and the beams chosen so far; its label is column generation's "
        "fitness of 180 candidates, 0 to 1 ([beams.md](../beams.md)). A *scenario* is a patient and organ weights, drawn by the "
        "paper's scheme (section II.D), for which five beams are chosen. ± is the sample standard deviation (n − 1)."
    )
    if results.training is None:
        return Section(title, paragraphs("Not run: there is no `training.json` among the results.", about, commands))
    c = results.training["cohort"]
    who = (
        f"{c['n_patients']} virtual prostate patients, {c['n_nodes']} of them with pelvic nodes as a second target, "
        f"split by patient before anything else: {c['n_development']} for development in rolling folds (training and "
        f"validation, {c['n_states_development']} labelled states) and {c['n_test']} for test "
        f"({c['n_states_test']} states). Hardware: {results.training['hardware']}, if nothing else is said."
    )
    return Section(title, paragraphs(who, about, commands), {"cohort": c, "hardware": results.training["hardware"]})


def time_section(results: Results) -> Section:
    """Seconds of the default network."""
    title = "Time"
    if results.times is None:
        return not_run(title, "times.json")
    t, rows, numbers = results.times, [], {}
    for key, name in _TIMES.items():
        seconds = t[key]
        three = {"median": float(np.median(seconds)), "lowest": min(seconds), "highest": max(seconds)}
        numbers[key] = {**three, "n": len(seconds)}
        rows.append([name, *(f"{v:.3f} s" for v in three.values()), str(len(seconds))])
    rows.append(["Loading of the network", f"{t['load_network_s']:.3f} s", ABSENT, ABSENT, "1"])
    text = paragraphs(
        f"The default network on {t['hardware']}, {t['threads']} threads; {t['case']}, {t['n_voxels']} voxels. The "
        "paper reports 1.5 s for five beams on a GPU.",
        command("times"),
        table(["What", "Median", "Shortest", "Longest", "n"], rows),
    )
    return Section(title, text, {**numbers, "hardware": t["hardware"], "threads": t["threads"]})


def dose_section(results: Results) -> Section:
    """Figure 8: one scenario in dose."""
    title = "Dose of one scenario (figure 8)"
    if results.dose is None:
        return not_run(title, "dose.npz")
    text = paragraphs(
        f"A virtual test patient. {RESEARCH_ONLY} DVHs of column generation's plan (solid) and of the default "
        "network's (dashed, fold 1), and the dose of both on an axial slice.",
        command("dose"),
        "![DVHs and dose of both plans](deepboo_dose.png)",
    )
    return Section(title, text)


_SECTIONS: Mapping[str, Callable[[Results], Section]] = {
    "goals": short_section,
    "data": data_section,
    "training": training_section,
    "baselines": baseline_section,
    "sizes": size_section,
    "examples": example_section,
    "metrics": metrics_section,
    "objectives": objective_section,
    "organs": organ_section,
    "dose": dose_section,
    "equation 17": epsilon_section,
    "search": search_section,
    "self-correction": correction_section,
    "real": real_section,
    "times": time_section,
}


def write_report(results_folder: Path, out: Path) -> None:
    """Write the page, its numbers and its pictures.

    Raises
    ------
    InputError
        If there is no folder with results, or a file in it is damaged.
    """
    results = read_results(results_folder)
    sections = {key: make(results) for key, make in _SECTIONS.items()}
    date, commit = datetime.date.today().isoformat(), _commit()
    head = paragraphs(
        "# DeepBOO: what was measured",
        f"{RESEARCH_ONLY} After A. Sadeghnejad Barkousaraie et al., Med. Phys. 47, 880 (2020), whose tables and "
        "figures the headings name.",
        "All patients of this page are virtual, drawn by a program, except under *Real anatomy*. The numbers say how "
        "the networks do on such patients, not on a clinic's.",
        f"Written on {date} (commit {commit}) by `python -m deeprt.training.experiment_report`; the numbers are in "
        f"[{NUMBERS}]({NUMBERS}) as well.",
    )
    page = paragraphs(head, *(f"## {s.title}\n\n{s.text}" for s in sections.values())) + "\n"
    numbers = {"date": date, "commit": commit, **{key: s.numbers for key, s in sections.items()}}
    drawn = pictures(results)
    write_all_whole(out, {PAGE: page, NUMBERS: json.dumps(numbers, indent=1, allow_nan=False) + "\n"})
    for name, png in drawn.items():
        part = out / f"{name}.part"
        part.write_bytes(png)
        os.replace(part, out / name)


def _commit() -> str:
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--results", required=True, type=Path, metavar="DIR", help="folder of the experiments' results")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for page, numbers and pictures")
    options = parser.parse_args(arguments)
    write_report(options.results, options.out)


if __name__ == "__main__":
    main()
