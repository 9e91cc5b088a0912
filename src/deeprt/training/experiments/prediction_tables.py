"""Sections of the experiments' report on what networks predict: training, baselines, errors, examples."""

from __future__ import annotations

from dataclasses import asdict

from deeprt.training.experiments.page import command, methods_of, name_of
from deeprt.training.experiments.statistics import NETWORKS, STEP_DEG, Results
from deeprt.training.measuring.page import ABSENT, Section, not_run, paragraphs, percent, shell, table
from deeprt.training.measuring.statistics import Spread

_COUNTS = (("best_epoch", "Best epoch", 0, 1), ("n_epochs", "Epochs", 0, 1), ("seconds", "Training time / s", 0, 1))
SIZES = ("0", "1", "2", "3", "4")


def training_section(results: Results) -> Section:
    """Tables 3 and 4 and figure 3: losses of every network and fold."""
    title = "Training (tables 3 and 4, figure 3)"
    if results.training is None:
        return not_run(title, "training.json")
    parts, numbers = [], {}
    names = {
        "training_best": "Training, best epoch / %",
        "validation_best": "Validation, best epoch / %",
        "test_best": "Test, best epoch / %",
        "training_last": "Training, last epoch / %",
        "validation_last": "Validation, last epoch / %",
        "test_last": "Test, last epoch / %",
    }
    for network in NETWORKS:
        folds = sorted(results.training["folds"].get(network, ()), key=lambda f: f["fold"])
        if not folds:
            parts.append(f"**{_capital(network)}**: not trained.")
            continue
        numbers[network] = {key: asdict(Spread.of(f[key] for f in folds)) for key in names}
        rows = [
            [name, *(f"{factor * f[key]:.{digits}f}" for f in folds)]
            + [Spread.of(f[key] for f in folds).text(digits, factor=factor)] * (len(folds) > 1)
            for key, name, digits, factor in [*((k, n, 3, 100) for k, n in names.items()), *_COUNTS]
        ]
        header = ["Mean squared error", *(f"Fold {f['fold']}" for f in folds), *["Mean ± sd"] * (len(folds) > 1)]
        drawn = max(int(fold.get("n_evaluated", 0)) for fold in folds)
        some = f"; losses below are of {drawn} states drawn from each part" if drawn else ""
        settings = results.training["settings"].get(network, "")
        parts += [f"**{_capital(network)}**: {settings}{some}", table(header, rows)]
    text = paragraphs(
        "Best is the epoch with the least validation loss. Training, validation and test patients are different ones, "
        "all of them virtual; the test patients decide neither weights nor epochs. On its 70 real patients the paper "
        "reports for the test set 1.44 ± 0.11 % (its network) and 2.50 ± 0.57 % (DNNFull) at the best epoch.",
        shell(command("training")),
        *parts,
        "![Training and validation loss](deepboo_curves.png)",
        "Mean of the folds (line) and one standard deviation (band), as far as all of them go, by epoch and by time.",
    )
    return Section(title, text, numbers)


def baseline_section(results: Results) -> Section:
    """Mean squared errors beside those of baselines that know nothing of the patient."""
    title = "Baselines: how hard the prediction is"
    if results.mse is None:
        return not_run(title, "mse.json")
    explained, runs = results.mse["explained_variance"], results.mse["runs_only"]
    numbers, rows = {}, []
    for method in methods_of(results.mse["methods"]):
        spread = Spread.of(f["all"] for f in results.mse["methods"][method]["per_fold"].values())
        of_runs = Spread.of(runs[method].values())
        numbers[method] = {
            "mse": asdict(spread),
            "mse, full runs only": asdict(of_runs),
            "explained_variance": explained[method],
        }
        cells = [spread.text(3, factor=100), of_runs.text(3, factor=100), f"{explained[method]:.3f}"]
        rows.append([name_of(method), *cells, f"{spread.n}" if method in NETWORKS else ABSENT])
    variance = results.mse["label_variance"]["all"]
    header = ["Method", "Mean squared error / %", "of full runs, as in the paper / %", "Explained variance", "Folds"]
    text = paragraphs(
        "Mean squared error of the fitness of all candidates in the labeled states of the test patients. The mean "
        "curve is the mean label of the training patients (fold 1) with as many chosen beams; the random curve is the "
        "label of one of their states with as many chosen beams, drawn at random; coarse is the quick column "
        "generation that the default network corrects, without the network. The labels have a variance of "
        f"{100 * variance:.3f} %; the explained variance is the share of it that a method predicts.",
        shell(command("mse")),
        table(header, rows),
    )
    return Section(title, text, {"methods": numbers, "label_variance": variance})


def size_section(results: Results) -> Section:
    """Table 5: mean squared error by number of chosen beams."""
    title = "Error by number of chosen beams (table 5)"
    if results.mse is None:
        return not_run(title, "mse.json")
    header = ["Mean squared error / %", *(f"{n} chosen" for n in SIZES), "All states"]
    rows, numbers = [], {}
    for method in methods_of(results.mse["methods"]):
        folds = results.mse["methods"][method]["per_fold"]
        if len(folds) > 1:
            for fold in sorted(folds, key=int):
                cells = [f"{100 * folds[fold][n]:.3f}" for n in (*SIZES, "all")]
                rows.append([f"{name_of(method)}, fold {fold}", *cells])
        spreads = {n: Spread.of(f[n] for f in folds.values()) for n in (*SIZES, "all")}
        numbers[method] = {n: asdict(s) for n, s in spreads.items()}
        which = "mean ± sd" if len(folds) > 1 else f"fold {next(iter(folds))}" if method in NETWORKS else ""
        label = ", ".join(p for p in (name_of(method), which) if p)
        rows.append([label, *(s.text(3, factor=100) for s in spreads.values())])
    variance = results.mse["label_variance"]
    rows.append(["variance of the labels", *(f"{100 * variance[n]:.3f}" for n in (*SIZES, "all"))])
    return Section(
        title,
        paragraphs("As above, by the number of beams chosen so far.", shell(command("mse")), table(header, rows)),
        numbers,
    )


def example_section(results: Results) -> Section:
    """Figures 4 to 6: predictions to look at."""
    title = "Predictions to look at (figures 4, 5, 6)"
    if results.examples is None:
        return not_run(title, "examples.json")
    steps = results.examples["sequence"]["steps"]
    apart = [_apart_deg(s["next_teacher"], s["next_network"]) for s in steps]
    same = sum(a == 0 for a in apart)
    objectives = results.examples["correction"]["objectives"]
    excess = objectives["forced, network"] / objectives["forced, teacher"] - 1
    text = paragraphs(
        "Fitness from 0 to 1 over the gantry angle, virtual test patients, networks of fold 1.",
        shell(command("examples")),
        "The three test states that each network predicts worst:",
        "![Worst predictions](deepboo_worst.png)",
        "All steps of one full run of column generation, the one whose error is the median of all. In "
        f"{same} of {len(steps)} steps the network's best beam is column generation's; the largest distance between "
        f"the two is {max(apart):g}°.",
        "![Prediction at each of five steps](deepboo_sequence.png)",
        "The same run with the beam of the least fitness forced first: what the default network predicts afterwards, "
        f"and the plan that it ends with, {percent(excess, signed=True)} against column generation from the same beam.",
        "![Self-correction after a forced beam](deepboo_correction.png)",
    )
    numbers = {"same_beam": same, "n_steps": len(steps), "largest_distance_deg": max(apart), "correction": excess}
    return Section(title, text, numbers)


def _apart_deg(one: int, other: int) -> float:
    """Angle between two of the 180 candidates."""
    turn = STEP_DEG * abs(one - other) % 360
    return min(turn, 360 - turn)


def _capital(network: str) -> str:
    name = NETWORKS[network]
    return name[0].upper() + name[1:]
