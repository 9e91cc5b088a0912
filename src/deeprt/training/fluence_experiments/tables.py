"""Sections of the experiments' report, from maps to times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from deeprt.evaluation.report import RESEARCH_ONLY
from deeprt.training.fluence_experiments.figures import CRITERIA, DOSES, MAPS, QUALITY, RSS
from deeprt.training.fluence_experiments.page import command, quartiles_text
from deeprt.training.fluence_experiments.results import (
    DEFAULT,
    METHOD_NAMES,
    METRICS,
    N_REFINED,
    TECHNIQUES,
    Quartiles,
    Results,
    methods_of,
    metric_values,
    refined,
    shown_method,
    upper_bound,
    values_of,
)
from deeprt.training.measuring.page import ABSENT, Section, not_run, paragraphs, shell, table
from deeprt.training.measuring.results import Json
from deeprt.training.measuring.statistics import Spread
from deeprt.training.measuring.times import TIME_HEADER, time_rows

_MAP_COLUMNS = (
    ("mae", "MAE, whole / 1e-4 fMU", 2, 1e4),
    ("mae_field", "MAE, inside the field", 2, 1e4),
    ("mae_open", "MAE, open pixels", 2, 1e4),
    ("ssim", "SSIM, whole", 4, 1.0),
    ("ssim_field", "SSIM, inside the field", 4, 1.0),
    ("gamma", "Gamma 3 %/3 mm", 4, 1.0),
)
_PLAN_COLUMNS = ("reference", "synthetic", "difference")
_TIMES = {
    "inversion_s": "Dose inversion, seven beams",
    "network_s": "Default network, seven maps",
    "seven_maps_s": "Both: seven maps from a loaded case",
    "refinement_s": f"{N_REFINED} refinements, on top",
    "view_s": "One beam's-eye view, contours and dose",
    "paper_maps_s": "Paper's network, seven maps, views included",
    "plan_s": "From the case to RTPLAN and report, no wished dose given",
}


def map_section(results: Results) -> Section:
    """Figures 7 and 8."""
    title = "Fluence maps (figures 7 and 8)"
    if not results.maps:
        return not_run(title, "maps.json")
    rows, lines, numbers = results.maps, [], {}
    for method in methods_of(rows):
        values = {key: values_of(rows, method, key) for key, *_ in _MAP_COLUMNS}
        numbers[method] = {key: asdict(Quartiles.of(v)) for key, v in values.items()}
        cells = [quartiles_text(values[key], digits, factor=factor) for key, _, digits, factor in _MAP_COLUMNS]
        lines.append([METHOD_NAMES[method], *cells, str(values["mae"].size)])
    text = paragraphs(
        "Median (quartiles) over the maps of all held-out test patients. A map is what its sequenced beam delivers, on "
        "128 × 128 pixels of 2.5 mm at the isocenter plane, as a share of the beam's monitor units (fMU). *Inside the "
        "field* is between the jaws, where the reference is above zero; *open* pixels have more than 5 % of its "
        "maximum. Most of a map lies behind the jaws, so that errors over the whole map are smaller than inside.",
        "SSIM has a data range of 1 after both maps were divided by the reference's maximum, and Gaussian windows of "
        "11 pixels (Wang et al. 2004); inside the field it is the mean of its map there. Gamma is global, with a "
        "threshold of 10 % of the reference's maximum; pixels above it lie inside the field, so that there is one "
        "number for both.",
        "The default network, dose inversion and refinements find monitor units; their maps are divided by the "
        "reference beam's before they are compared, so that an error of the monitor units counts. The paper's networks "
        "give fMU themselves. The central slice of the dose is what the paper's network begins with; here it is scaled "
        "to each reference map by least squares, which knows the answer. The paper reports medians of 9.95e-4, 0.994 "
        "and 0.999 for MAE, SSIM and gamma, on 45 of its patients, over whole maps as it seems.",
        shell(command("maps examples")),
        table(["Method", *(name for _, name, *_ in _MAP_COLUMNS), "Maps"], lines),
        f"![Errors, similarity and gamma of the maps]({QUALITY})",
        "Boxes are quartiles, whiskers 5 and 95 %.",
        _examples_text(results),
        f"![Reference, predicted map and difference]({MAPS})" if results.examples is not None else "",
    )
    return Section(title, text, numbers)


def _examples_text(results: Results) -> str:
    if results.examples is None:
        return "Examples were not run: there is no `examples.npz` among the results."
    return (
        f"Maps of the least, the median and the largest error ({METHOD_NAMES[str(results.examples['method'])]}), all "
        "at one scale:"
    )


def plan_section(results: Results) -> Section:
    """Table 2 and figures 9 to 11."""
    title = "Synthetic plans (table 2, figures 9 to 11)"
    if not results.plans:
        return not_run(title, "plans.json")
    rows, parts = results.plans, []
    numbers = {method: criteria_of(rows, method) for method in methods_of(rows)}
    whole = [m for m in (shown_method(rows), refined(N_REFINED)) if m in numbers]
    for method in whole:
        name, about = METHOD_NAMES[method], numbers[method]
        mu, factors = Spread(**about["monitor_units"]), Spread(**about["normalization"])
        parts += [
            f"**{name[0].upper()}{name[1:]}**, {about['n']} plans; monitor units over the reference's {mu.text(3)}, "
            f"normalization {factors.text(4)}:",
            criteria_table(about["criteria"]),
        ]
    others = [m for m in numbers if m not in whole]
    if others:
        parts += ["Differences of the other methods:", _differences_table(numbers, others)]
    text = paragraphs(
        "As in the paper: predicted maps are sequenced (sliding window), the dose of the sequence is computed and "
        "scaled to the mean PTV dose of the reference plan. 44 Gy are scaled to 72.6 Gy for the criteria, which are "
        "meant for the course with its boost. HI = (D5 − D95)/prescription; CI is the volume of 95 % of the "
        "prescription over that of the PTV. Mean ± sample standard deviation; difference is synthetic less reference; "
        "the bound is one-sided, by Student's t.",
        "In words, the paper finds HI slightly worse in its synthetic plans, and no difference in CI, V60Gy of rectum "
        "and bladder, and V45Gy of the bowel; the numbers of its table 2 are not repeated here.",
        shell(command("plans examples")),
        *parts,
        f"![Criteria of synthetic over reference plans]({CRITERIA})",
        "Each mark is a patient; on the line both are equal.",
        *_dose_pictures(results),
    )
    return Section(title, text, numbers)


def criteria_of(rows: Sequence[Json], method: str) -> Json:
    """Criteria of the plans of a method, and what the plans were multiplied with."""
    own = [r for r in rows if r["method"] == method]
    found = {}
    for metric in METRICS:
        reference, synthetic = metric_values(rows, method, metric.key)
        if reference.size:
            difference = synthetic - reference
            values = {"reference": reference, "synthetic": synthetic, "difference": difference}
            spreads = {name: asdict(Spread.of(v)) for name, v in values.items()}
            found[metric.key] = {**spreads, "upper_bound": upper_bound(difference)}
    return {
        "n": len(own),
        "criteria": found,
        "normalization": asdict(Spread.of(r["factor"] for r in own)),
        "monitor_units": asdict(Spread.of(r["mu"] / r["reference_mu"] for r in own)),
    }


def criteria_table(criteria: Json) -> str:
    """Table of what `criteria_of` gives."""
    lines = []
    for metric in METRICS:
        if metric.key in criteria:
            about, digits = criteria[metric.key], metric.digits
            cells = [Spread(**about[k]).text(digits, signed=k == "difference") for k in _PLAN_COLUMNS]
            bound = about["upper_bound"]
            lines.append([metric.label, *cells, ABSENT if bound is None else f"{bound:+.{digits}f}"])
    header = ["Criterion", *(k.capitalize() for k in _PLAN_COLUMNS), "Upper 95 % bound of its mean"]
    return table(header, lines)


def _differences_table(numbers: Json, methods: Sequence[str]) -> str:
    lines = []
    for metric in METRICS:
        about = [numbers[m]["criteria"].get(metric.key) for m in methods]
        texts = [a and Spread(**a["difference"]).text(metric.digits, signed=True) for a in about]
        if any(texts):
            lines.append([metric.label, *(t or ABSENT for t in texts)])
    return table(["Criterion", *(METHOD_NAMES[m] for m in methods)], lines)


def _dose_pictures(results: Results) -> list[str]:
    if results.examples is None:
        return ["Pictures of doses were not run: there is no `examples.npz` among the results."]
    method = METHOD_NAMES[str(results.examples["method"])]
    return [
        f"The cases of the least and of the largest mean error of the maps ({method}), on an axial slice through the "
        f"isocenter; DVHs are solid for the reference. {RESEARCH_ONLY}",
        *(f"![Reference and synthetic dose, difference, DVHs: {which} case]({file})" for which, file in DOSES.items()),
    ]


def distance_section(results: Results) -> Section:
    """Figure 12."""
    title = "Distance of the DVHs (figure 12)"
    if not results.plans:
        return not_run(title, "plans.json")
    rows, numbers = results.plans, {}
    methods = methods_of(rows)
    names = list(dict.fromkeys(name for row in rows for name in row["rss"]))
    lines = []
    for name in names:
        values = {m: np.array([r["rss"][name] for r in rows if r["method"] == m and name in r["rss"]]) for m in methods}
        lines.append([name, *(quartiles_text(v, 4) for v in values.values())])
        numbers[name] = {m: asdict(Quartiles.of(v)) for m, v in values.items() if v.size}
    text = paragraphs(
        "Residual sum of squares of reference and synthetic DVHs, equation 3 of the paper: volumes as shares, summed "
        "over doses in steps of 1 % of the prescription, which the paper does not state. Median (quartiles) over "
        "patients.",
        shell(command("plans")),
        table(["Structure", *(METHOD_NAMES[m] for m in methods)], lines),
        f"![Residual sums of squares by structure]({RSS})",
    )
    return Section(title, text, numbers)


def _of_other_model(method: str) -> str:
    """What a method is called for doses of another system, which are refined from the inversion."""
    return METHOD_NAMES[method].replace(f"{METHOD_NAMES[DEFAULT]}, ", "smooth maps, ")


def real_section(results: Results) -> Section:
    """Clinical doses of another system."""
    title = "Real doses: OpenKBP"
    if not results.openkbp:
        return not_run(title, "openkbp.json")
    numbers, lines = {}, []
    for method in methods_of(results.openkbp):
        for technique, name in TECHNIQUES.items():
            rows = [r for r in results.openkbp if r["technique"] == technique]
            v = {key: values_of(rows, method, key) for key in ("gamma", "target_error", "body_error_gy", "factor")}
            if v["gamma"].size == 0:
                continue
            spread = {key: Spread.of(values) for key, values in v.items()}
            numbers[f"{method}, {technique}"] = {key: asdict(s) for key, s in spread.items()}
            gamma = [f"{100 * value:.2f}" for value in (np.median(v["gamma"]), v["gamma"].min())]
            lines.append(
                [f"{_of_other_model(method)}: {name}", spread["gamma"].text(2, factor=100), *gamma,
                 spread["target_error"].text(2, factor=100), spread["body_error_gy"].text(2),
                 Spread.of(v["factor"] - 1).text(2, factor=100, signed=True), str(v["gamma"].size)]
            )  # fmt: skip
    header = [
        "Method: technique", "Gamma / %", "Median", "Lowest", "Error in PTV70 / %", "in the body / Gy",
        "Normalization / %", "n",
    ]  # fmt: skip
    text = paragraphs(
        "Clinical doses of head-and-neck patients of OpenKBP, of another planning system and another beam model, who "
        "took part in no training: nine fields from 0° to 320° of the generic 6 MV machine, on the data set's voxels, "
        "each dose scaled to the clinical mean dose of PTV70. Gamma is global, 3 %/3 mm, with a threshold of 10 % of "
        "the clinical maximum, in the body. *Error* is the mean absolute difference voxel by voxel, for PTV70 as a "
        "share of 70 Gy: the difference of the means is zero by the normalization, which is in the table as well. ± is "
        "the sample standard deviation. Patients with a beam that reaches beyond the networks' map, 16 cm from the "
        "axis, are left out; n is how many remain.",
        "Step and shoot, which the goals are measured with, is the technique of the data set (A. Babier et al., Phys. "
        "Med. Biol. 67, 185012, 2022); the segments are fitted to the wished dose on 20,000 voxels of at least a tenth "
        "of the largest dose, where `deeprt plan` takes those of its objectives. The fluence before sequencing shows "
        "what inversion and beam model leave open, the others what leaves and transmission add.",
        "The default network has learned from pelvic plans of 15 MV with sliding window only, whose dose is of the "
        "beam model that inverts it. For doses that this model cannot give, `deeprt fluence` does not ask it, but fits "
        "smooth maps by 10 refinements or more; its rows without refinements show why. For VMAT plans from predicted "
        "doses, Ma et al., Phys. Med. Biol. 65 (2020), report a gamma of 98.06 ± 2.64 %.",
        shell(command("openkbp", "--openkbp work/openkbp")),
        table(header, lines),
    )
    return Section(title, text, numbers)


def time_section(results: Results) -> Section:
    """Seconds."""
    title = "Time"
    if results.times is None:
        return not_run(title, "times.json")
    t = results.times
    lines, numbers = time_rows(t, _TIMES)
    text = paragraphs(
        f"{t['hardware']}, {t['threads']} threads, after a warm-up; test patient {t['case']}, {t['n_beams']} beams, "
        f"{t['n_voxels']} voxels. The paper reports about a second a patient on a GPU.",
        shell(command("times", "--network NETWORK.safetensors" if "plan_s" in t else "")),
        table(TIME_HEADER, lines),
    )
    return Section(title, text, {**numbers, "hardware": t["hardware"], "threads": t["threads"]})
