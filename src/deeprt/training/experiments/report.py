"""Writes the page of what the networks that propose beams were measured to do, from the results of the experiments.

``python -m deeprt.training.experiments.report --results DIR --out Docs/results`` writes ``deepboo.md``, the numbers it
quotes as ``deepboo.json``, and pictures. An experiment without results is said to be not run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deeprt.evaluation.report import RESEARCH_ONLY
from deeprt.training.experiments.figures import pictures
from deeprt.training.experiments.goals import short_section
from deeprt.training.experiments.page import command
from deeprt.training.experiments.plan_tables import (
    correction_section,
    epsilon_section,
    metrics_section,
    objective_section,
    organ_section,
    real_section,
    search_section,
)
from deeprt.training.experiments.prediction_tables import (
    baseline_section,
    example_section,
    size_section,
    training_section,
)
from deeprt.training.experiments.statistics import Results, read_results
from deeprt.training.measuring.command_line import run_report
from deeprt.training.measuring.page import ABSENT, Section, not_run, paragraphs, shell, table, write_page
from deeprt.training.measuring.results import Json
from deeprt.training.measuring.times import TIME_HEADER, time_rows

NAME = "deepboo"
_N_FOLDS = 6
_TIMES = {
    "encode_s": "Encoding of a patient",
    "five_beams_s": "Five beams",
    "re_prediction_s": "One prediction after an edit",
    "exchange_s": "One sweep of exchanges",
}


def data_section(results: Results) -> Section:
    """Patients, split, labels, hardware, and the commands of it all."""
    title = "Data, split, hardware"
    about = (
        "A *state* is a patient, organ weights and the beams chosen so far; its label is column generation's "
        "fitness of 180 candidates, 0 to 1 ([beams.md](../beams.md)). A *scenario* is a patient and organ weights, "
        "drawn by the paper's scheme (section II.D), for which five beams are chosen. ± is the sample standard "
        "deviation (n − 1)."
    )
    if results.training is None:
        return Section(title, paragraphs("Not run: there is no `training.json` among the results.", about))
    c = results.training["cohort"]
    who = (
        f"{c['n_patients']} virtual prostate patients, {c['n_nodes']} of them with pelvic nodes as a second target, "
        f"split by patient before anything else: {c['n_development']} for development in rolling folds (training and "
        f"validation, {c['n_states_development']} labeled states) and {c['n_test']} for test ({c['n_states_test']} "
        f"states). Hardware: {results.training['hardware']}, if nothing else is said."
    )
    flaw = (
        "Weights and anatomy of a patient are drawn with the same seed: in its first run, and for half of the weights "
        "of its second, the weights follow its anatomy ([cohort.md](../cohort.md))."
    )
    trainings = [
        f"deeprt train beams --data work/prostate --network {network}{_folds(folds)}"
        f"{results.training.get('options', {}).get(network, '')}{_evaluated(folds)} --out work/boo/{network}"
        for network, folds in results.training["folds"].items()
    ]
    commands = shell(
        f"deeprt cohort make virtual:prostate --patients {c['n_patients']} --test {c['n_test']} --out work/prostate",
        "deeprt cohort label work/prostate",
        *trainings,
        command("training mse plans exchanged forced examples dose search times", _planned(results)),
        "python -m deeprt.training.experiments.report --results work/experiments --out Docs/results",
    )
    text = paragraphs(who, about, flaw, "The settings of the trainings are named with them below.", commands)
    return Section(title, text, {"cohort": c, "hardware": results.training["hardware"]})


def _planned(results: Results) -> str:
    """Option of the experiments where not all full runs of the labels were planned."""
    scenarios = {plan.scenario for plan in results.plans or ()}
    return f"--planned {len(scenarios)}" if scenarios else ""


def _evaluated(trained: Sequence[Json]) -> str:
    """Option of deeprt train where final losses are of drawn states."""
    drawn = max(int(fold.get("n_evaluated", 0)) for fold in trained)
    return f" --evaluate {drawn}" if drawn else ""


def _folds(trained: Sequence[Json]) -> str:
    """Options that name the folds, if not all were trained."""
    only = "" if len(trained) == _N_FOLDS else "".join(f" --fold {f['fold']}" for f in trained)
    return f" --folds {_N_FOLDS}{only}"


def time_section(results: Results) -> Section:
    """Seconds of the default network."""
    title = "Time"
    if results.times is None:
        return not_run(title, "times.json")
    t = results.times
    rows, numbers = time_rows(t, _TIMES)
    rows.append(["Loading of the network", f"{t['load_network_s']:.3f} s", ABSENT, ABSENT, ABSENT])
    text = paragraphs(
        f"The default network on {t['hardware']}, {t['threads']} threads; {t['case']}, {t['n_voxels']} voxels. The "
        "paper reports 1.5 s for five beams on a GPU.",
        shell(command("times")),
        table(TIME_HEADER, rows),
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
        shell(command("dose")),
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
    write_page(
        out,
        NAME,
        opening=(
            "# DeepBOO: what was measured",
            f"{RESEARCH_ONLY} After A. Sadeghnejad Barkousaraie et al., Med. Phys. 47, 880 (2020), whose tables and "
            "figures the headings name.",
            "All patients of this page are virtual, drawn by a program, except under *Real anatomy*. The numbers say "
            "how the networks do on such patients, not on a clinic's.",
        ),
        program="deeprt.training.experiments.report",
        sections=sections,
        drawn=pictures(results),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report; returns the exit status."""
    return run_report(write_report, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
