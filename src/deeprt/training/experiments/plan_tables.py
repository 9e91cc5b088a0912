"""Sections of the experiments' report on plans: metrics, objectives, organs, self-correction, search, real anatomy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from deeprt.training.experiments.page import (
    SUMMARY_HEADER,
    command,
    method_table,
    methods_of,
    name_of,
    summary_cells,
)
from deeprt.training.experiments.statistics import (
    DEFAULT,
    EXCHANGED,
    METHOD_NAMES,
    NETWORKS,
    STEP_DEG,
    TEACHER,
    WITHIN,
    Plan,
    Results,
    better_shares,
    compared,
    dose_differences,
    plans_of,
    summarize,
)
from deeprt.training.measuring.page import Section, not_run, paragraphs, percent, shell, table
from deeprt.training.measuring.results import Json
from deeprt.training.measuring.statistics import Spread

_OPENKBP = shell(
    "deeprt cohort make ../shared/cases/openkbp --test 20 --runs 1 --starts 5 --out work/openkbp",
    "deeprt cohort label work/openkbp",
    "deeprt train beams --data work/openkbp --network default --fold 1 --epochs 12 --out work/boo/openkbp/default",
    command("real", "--openkbp work/openkbp"),
)
METRICS = {
    "D98": "D98",
    "D99": "D99",
    "Dmax": "Dmax",
    "homogeneity": "Homogeneity",
    "van_t_riet": "van't Riet",
    "R50": "R50",
}
EPSILONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


def metrics_section(results: Results) -> Section:
    """Table 6: target coverage, homogeneity, conformity and spillage."""
    title = "Plan metrics (table 6)"
    if results.plans is None:
        return not_run(title, "plans.json")
    rows, numbers = [], {}
    teachers = [p for p in results.plans if p.method == TEACHER]
    if teachers:
        spreads = {m: Spread.of(p.metrics[m] for p in teachers) for m in METRICS}
        rows.append([METHOD_NAMES[TEACHER], *(s.text(3) for s in spreads.values())])
        numbers[TEACHER] = {m: asdict(s) for m, s in spreads.items()}
    for network in NETWORKS:
        folds = _folds(results.plans, network)
        for fold in [*folds, None] if len(folds) > 1 else folds:
            own = compared(results.plans, network, fold=fold)
            label = f"{NETWORKS[network]}, {'all folds' if fold is None else f'fold {fold}'}"
            plain = {m: Spread.of(r.plan.metrics[m] for r in own) for m in METRICS}
            less = {m: Spread.of(r.teacher.metrics[m] - r.plan.metrics[m] for r in own) for m in METRICS}
            rows.append([label, *(s.text(3) for s in plain.values())])
            rows.append(["column generation less that", *(s.text(3, signed=True) for s in less.values())])
            if fold is None or len(folds) == 1:
                numbers[network] = {m: {"plan": asdict(plain[m]), "difference": asdict(less[m])} for m in METRICS}
    text = paragraphs(
        f"Target of highest prescription, n = {len(teachers)} scenarios of virtual test patients; mean ± standard "
        "deviation of the scenarios, differences scenario by scenario. Doses are over the prescription and those of "
        "the optimized fluence, not normalized. Dmax is the maximum dose over the prescription (the paper's lies "
        "below its D98, so it must be something else); homogeneity is (D2 − D98)/D50, van't Riet's number "
        "V(target ∩ 100 %)²/(V(target) · V(100 %)), R50 is V(50 %)/V(target).",
        shell(command("plans")),
        table(["Plan", *METRICS.values()], rows),
    )
    return Section(title, text, numbers)


def objective_section(results: Results) -> Section:
    """Objectives of all methods over column generation's."""
    title = "Objectives of the five-beam plans"
    if results.plans is None:
        return not_run(title, "plans.json")
    whole, rows = method_table(results.plans)
    default = {f: summarize(compared(results.plans, DEFAULT, fold=f)) for f in _folds(results.plans, DEFAULT)}
    groups, numbers = [], {}
    for nodes, name in ((False, "without nodal targets"), (True, "with nodal targets")):
        part = [p for p in results.plans if p.nodes == nodes]
        if part:
            numbers[name], lines = method_table(part)
            n = len({(p.patient, p.scenario) for p in part})
            groups += [f"Only patients {name}, {n} scenarios:", lines]
    by_fold = table(
        ["Default network", *SUMMARY_HEADER], [[f"fold {f}", *summary_cells(s)] for f, s in default.items()]
    )
    text = paragraphs(
        "Objective F of the optimized fluence of each method's five beams, solved alike and to the same tolerance; "
        "lower is better. The excess is F/F_CG − 1 in the same scenario. The gap closed is "
        "(F_equispaced − F)/(F_equispaced − F_CG); its mean and median leave out the scenarios in which equispaced "
        "beams are better than column generation or worse by at most 0.1 % (column *no gap*), its pooled value is the "
        "sum of the numerators over the sum of the denominators of all. Networks: all folds together, one plan a fold "
        "and scenario. Coarse and mean curve are those of the baselines above, asked for one beam after the other; "
        "equispaced beams stand at 0°, 72°, 144°, 216° and 288°, random ones are five different candidates. "
        "A mean curve that comes as near as a network says that one set of beams serves all these patients.",
        "In a sweep of exchanges, which `--select network` makes by default, each of the network's beams is taken out "
        "once; candidates are priced for the others by the coarse column generation, and the first of the three "
        "best-priced that lowers the coarse objective comes in, or the beam stays. Neither the network nor the "
        "objective of this table has a part in it.",
        shell(command("plans exchanged")),
        rows,
        "" if EXCHANGED in whole else "The sweep of exchanges was not run: there is no `exchanged.json`.",
        "The default network by fold:" if default else "",
        by_fold if default else "",
        *groups,
    )
    numbers |= {"all": whole, "default by fold": {str(f): asdict(s) for f, s in default.items()}}
    return Section(title, text, numbers)


def organ_section(results: Results) -> Section:
    """Figure 7: dose differences of organs."""
    title = "Dose to organs (figure 7)"
    if results.plans is None:
        return not_run(title, "plans.json")
    own = compared(results.plans, DEFAULT)
    if not own:
        return Section(title, "Not run: `plans.json` has no plan of the default network.")
    mean, highest = dose_differences(own, "mean"), dose_differences(own, "max")
    spreads = {
        name: {
            "mean": Spread.of(mean[name]),
            "mean, absolute": Spread.of(np.abs(mean[name])),
            "max": Spread.of(highest[name]),
            "max, absolute": Spread.of(np.abs(highest[name])),
        }
        for name in mean
    }
    rows = [
        [name, str(own["mean"].n), *(s.text(2, signed="absolute" not in what) for what, s in own.items())]
        for name, own in spreads.items()
    ]
    text = paragraphs(
        "Dose of column generation's plan less that of the default network's, in % of the highest prescription, mean ± "
        "standard deviation over the plans of all folds: positive where the network's plan gives less. Absolute "
        "values are those of the differences' sizes.",
        shell(command("plans")),
        table(["Structure", "Plans", "Mean dose", "Mean dose, absolute", "Maximum dose", "Maximum, absolute"], rows),
        "![Dose differences of structures](deepboo_organs.png)",
        "Boxes: quartiles and median; whiskers: 5th to 95th percentile; diamonds: means; dots: plans beyond.",
    )
    return Section(title, text, {n: {what: asdict(s) for what, s in own.items()} for n, own in spreads.items()})


def epsilon_section(results: Results) -> Section:
    """Figure 9 and equation 17: who is better by more than a margin."""
    title = "Which is better, and by how much (figure 9, equation 17)"
    if results.plans is None:
        return not_run(title, "plans.json")
    rows, numbers = [], {}
    for network in NETWORKS:
        own = compared(results.plans, network)
        if own:
            shares = {f"{e:g}": better_shares(own, e) for e in EPSILONS}
            numbers[network] = {e: {"column generation": t, "network": n} for e, (t, n) in shares.items()}
            name = NETWORKS[network]
            rows.append([f"column generation better than {name}", *(percent(t, 1) for t, _ in shares.values())])
            rows.append([f"{name} better than column generation", *(percent(n, 1) for _, n in shares.values())])
    text = paragraphs(
        "Share of plans whose objective is better by more than ε times that of column generation, all folds "
        "together. The rest is equal within ε. The paper's network was better than its column generation in 35 % "
        "(ε = 0.001) to 1 % (ε = 0.1) of scenarios.",
        shell(command("plans")),
        table(["ε", *(f"{e:g}" for e in EPSILONS)], rows),
        "![Shares of plans in which either is better](deepboo_equation17.png)" if rows else "",
    )
    return Section(title, text, numbers)


def search_section(results: Results) -> Section:
    """Guided search: the network orders the candidates, the exact objective decides."""
    title = "Guided search"
    if results.search is None:
        return not_run(title, "search.json")
    teacher = {(r["patient"], r["scenario"]): r for r in results.search if r["method"] == TEACHER}
    groups: dict[str, list[tuple[float, float]]] = {}
    for row in results.search:
        base = teacher[row["patient"], row["scenario"]]
        budget = row.get("budget_s")
        name = (
            row["method"] if budget is None else f"{row['method']}, {100 * budget / base['seconds']:.0f} % of the time"
        )
        groups.setdefault(name, []).append((row["objective"] / base["objective"] - 1, row["seconds"]))
    rows, numbers = [], {}
    for name, found in groups.items():
        excess, seconds = (list(v) for v in zip(*found, strict=True))
        rows.append([name, str(len(excess))])
        rows[-1] += [percent(v, signed=True) for v in (float(np.mean(excess)), min(excess), max(excess))]
        rows[-1] += [f"{v:.1f}" for v in (float(np.median(seconds)), min(seconds), max(seconds))]
        numbers[name] = {"excess": asdict(Spread.of(excess)), "lowest": min(excess), "highest": max(excess)}
        numbers[name]["median_s"] = float(np.median(seconds))
    header = ["Method", "Scenarios", "Mean excess", "Lowest", "Highest", "Median time / s", "Shortest", "Longest"]
    text = paragraphs(
        f"n = {len(teacher)} scenarios of {len({p for p, _ in teacher})} virtual test patients. In guided search the "
        "default network (fold 1) orders the candidates of a tree search and the exact objective decides; it may "
        "take a share of the time that column generation took, its set-up coming on top. Exchange search goes on "
        "from column generation's beams, and its time is that of both. The excess is that of the objective over column "
        "generation's, negative where the search found a better plan. Wall-clock seconds on two threads.",
        shell(command("search")),
        table(header, rows),
    )
    return Section(title, text, numbers)


def correction_section(results: Results) -> Section:
    """How the default network goes on from the worst first beam."""
    title = "Self-correction"
    if results.forced is None:
        return not_run(title, "forced.json")
    pairs = {
        "network from the forced beam, over column generation from it": ("network_forced", "teacher_forced"),
        "column generation from the forced beam, over column generation free": ("teacher_forced", "teacher_free"),
        "network from the forced beam, over column generation free": ("network_forced", "teacher_free"),
    }
    rows, numbers = [], {}
    for name, (above, below) in pairs.items():
        excess = np.array([r[above] / r[below] - 1 for r in results.forced])
        values = [float(v) for v in (excess.mean(), np.median(excess), excess.max())]
        within = float(np.mean(excess <= WITHIN))
        numbers[f"{above}/{below}"] = {
            **dict(zip(("mean", "median", "worst"), values, strict=True)), "within": within, "n": excess.size,
        }  # fmt: skip
        rows.append([name, str(excess.size), *(percent(v, signed=True) for v in values), percent(within, 1)])
    text = paragraphs(
        "The candidate of the least fitness without any beam is forced as first beam; the other four are chosen by "
        "column generation, or by the default network (fold 1), which is asked again after each.",
        shell(command("forced")),
        table(["Objective", "Scenarios", "Mean excess", "Median", "Worst", "Within 5 %"], rows),
    )
    return Section(title, text, numbers)


def real_section(results: Results) -> Section:
    """Patients who are not virtual."""
    title = "Real anatomy"
    if results.real is None:
        return not_run(title, "real.json")
    parts, numbers = [], {}
    for name in ("cort_prostate", "openkbp"):
        if not results.real.get(name):
            parts.append(f"Not run: there is no `{name}` in `real.json`.")
    if results.real.get("cort_prostate"):
        plans = plans_of(results.real["cort_prostate"])
        numbers["cort_prostate"], lines = method_table(plans)
        first = min(p.scenario for p in plans)
        beams = [
            [name_of(p.method), ", ".join(f"{STEP_DEG * b:g}°" for b in sorted(p.beams))]
            for p in plans
            if p.scenario == first and p.beams
        ]
        n = len({p.scenario for p in plans})
        parts += [
            "**cort_prostate**: real contours of a prostate bed with nodes on a pseudo-CT (CORT), one patient, "
            f"n = {n} scenarios of organ weights. The default network (fold 1) has seen virtual patients only.",
            lines,
            f"Beams of scenario {first + 1}:" if beams else "",
            table(["Method", "Gantry angles"], beams) if beams else "",
        ]
    if results.real.get("openkbp"):
        numbers["openkbp"], found = _openkbp(results.real["openkbp"])
        parts += found
    commands = _OPENKBP if results.real.get("openkbp") else shell(command("real"))
    return Section(title, paragraphs(commands, *parts), numbers)


def _openkbp(found: Json) -> tuple[Json, list[str]]:
    rows = [[name_of(m), f"{100 * found['mse'][m]['all']:.3f}"] for m in methods_of(found["mse"])]
    summaries, lines = method_table(plans_of(found["plans"]))
    text = [
        "**OpenKBP**: real head-and-neck patients (Babier et al., Med. Phys. 48, 5549, 2021), "
        f"{found['n_development']} for development, of whom the default network (fold 1) was trained on "
        f"{found['n_train']}, and {found['n_test']} others for test.",
        table(["Method", "Mean squared error, test patients / %"], rows),
        lines,
    ]
    return {**{k: found[k] for k in ("n_development", "n_train", "n_test", "mse")}, "plans": summaries}, text


def _folds(plans: Sequence[Plan], network: str) -> list[int]:
    return sorted({p.fold for p in plans if p.method == network and p.fold is not None})
