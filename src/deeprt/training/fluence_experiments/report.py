"""Writes the page of what the fluence networks were measured to do, from the results of the experiments.

``python -m deeprt.training.fluence_experiments.report --results DIR --out Docs/results`` writes ``deepfluence.md``, the
numbers it quotes as ``deepfluence.json``, and pictures. An experiment without results is said to be not run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deeprt.evaluation.report import RESEARCH_ONLY
from deeprt.training.fluence_experiments.dose_tables import dose_section
from deeprt.training.fluence_experiments.figures import CURVES, pictures
from deeprt.training.fluence_experiments.goals import short_section
from deeprt.training.fluence_experiments.page import command
from deeprt.training.fluence_experiments.results import METHOD_NAMES, Results, read_results
from deeprt.training.fluence_experiments.setup import NETWORKS
from deeprt.training.fluence_experiments.tables import (
    distance_section,
    map_section,
    plan_section,
    real_section,
    time_section,
)
from deeprt.training.measuring.command_line import run_report
from deeprt.training.measuring.page import ABSENT, Section, not_run, paragraphs, shell, table, write_page
from deeprt.training.measuring.results import Json

NAME = "deepfluence"


def data_section(results: Results) -> Section:
    """Patients, plans, and the commands of it all."""
    title = "Data and commands"
    crime = (
        "Two things make this easier than a clinic. The patients are virtual, drawn by a program. And the reference "
        "doses come from the dose engine that the dose inversion, and with it the default network and refinements, "
        "use as their model (an inverse crime): model and dose agree exactly, which they never do for a dose of "
        "another system. *Real doses* below is that case. The paper's networks know no dose model, but their monitor "
        "units, in synthetic plans, come from it."
    )
    if results.training is None:
        return Section(title, paragraphs("Not run: there is no `training.json` among the results.", crime))
    c, r = results.training["cohort"], results.training["reference"]
    low, high = r["n_beams"]
    who = (
        f"{c['n_patients']} virtual prostate patients with pelvic nodes, split by patient before anything else: "
        f"{c['n_training']} for training, {c['n_validation']} for validation, {c['n_test']} for test. Reference plans: "
        f"all targets as one, {r['prescription_gy']:g} Gy in {r['n_fractions']} fractions, {r['machine']}, {low} to "
        f"{high} equispaced fields (test patients: seven from 0° on), objectives and smoothness drawn as planners may "
        f"differ, sliding window, dose of the sequence on voxels of {r['spacing_mm']:g} mm. "
        f"Hardware: {results.training['hardware']}, if nothing else is said."
    )
    measured = {row["patient"] for row in results.maps or ()}
    some = f" --patients {len(measured)}" if measured and len(measured) < c["n_test"] else ""
    networks = results.training["networks"]
    commands = shell(
        f"deeprt cohort make virtual:prostate --patients {c['n_patients']} --nodes 1 --test {c['n_test']} --seed 6 "
        "--out work/pelvis",
        "deeprt cohort plan work/pelvis",
        *(
            f"deeprt train fluence --data work/pelvis --network {n}{about.get('options', '')} --out work/fluence/{n}"
            for n, about in networks.items()
        ),
        command("", f"--openkbp work/openkbp{some}"),
        "python -m deeprt.training.fluence_experiments.report --results work/fluence_experiments --out Docs/results",
    )
    numbers = {"cohort": c, "reference": r, "n_measured": len(measured), "hardware": results.training["hardware"]}
    return Section(title, paragraphs(who, crime, commands), numbers)


def training_section(results: Results) -> Section:
    """Table 1 and figure 6: budgets and curves."""
    title = "Training (table 1, figure 6)"
    if results.training is None:
        return not_run(title, "training.json")
    networks, lines, settings = results.training["networks"], [], []
    for name in NETWORKS:
        if name not in networks:
            lines.append([f"{METHOD_NAMES[name]}: not trained", *[ABSENT] * 6])
            continue
        about = networks[name]
        lines.append([METHOD_NAMES[name], f"{about['n_weights']:,}", f"{about['megabytes']:.1f}", *_run_cells(about)])
        if "settings" in about:
            settings.append(f"**{METHOD_NAMES[name].capitalize()}**: {about['settings']}.")
    header = ["Network", "Weights", "MB, half precision", "Best epoch", "Epochs", "Time / s", "Validation loss"]
    has_curves = any("curve" in about for about in networks.values())
    text = paragraphs(
        "The loss is the paper's, 1 − SSIM + mean absolute error, of shares of the monitor units for its networks and "
        "of maps over their maximum for the default one, so that the two kinds cannot be compared by it. The weights "
        "of the epoch of the least validation loss are measured. The paper trained for 100 epochs of 115,800 beams, "
        "shifted copies included, in about ten days on a GTX 1080 Ti; a budget below that, as named here, is to be "
        "kept in mind wherever its network is compared.",
        table(header, lines),
        *settings,
        f"![Training and validation loss]({CURVES})" if has_curves else "",
    )
    return Section(title, text, networks)


def _run_cells(about: Json) -> list[str]:
    """Best epoch, epochs, time and loss of a run; of one under way, as far as it went."""
    if not about.get("curve"):
        return [ABSENT] * 4
    best, last = min(about["curve"], key=lambda row: float(row[2])), about["curve"][-1]
    under_way = "" if about["result"] is not None else ", not ended"
    return [f"{best[0]:.0f}", f"{last[0]:.0f}{under_way}", f"{last[3]:.0f}", f"{best[2]:.5f}"]


_SECTIONS: Mapping[str, Callable[[Results], Section]] = {
    "goals": short_section,
    "data": data_section,
    "training": training_section,
    "maps": map_section,
    "plans": plan_section,
    "rss": distance_section,
    "openkbp": real_section,
    "dose": dose_section,
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
            "# DeepFluence: what was measured",
            f"{RESEARCH_ONLY} After H. Lee et al., Sci. Rep. 9, 15671 (2019), whose tables and figures the headings "
            "name. How it works: [../deepfluence.md](../deepfluence.md).",
            "All patients of this page are virtual, except those of OpenKBP under *Real doses* and *Predicted dose*. "
            "The numbers say how the networks do on such patients, not on a clinic's.",
        ),
        program="deeprt.training.fluence_experiments.report",
        sections=sections,
        drawn=pictures(results),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report; returns the exit status."""
    return run_report(write_report, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
