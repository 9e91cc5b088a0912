"""The pictures of the experiments' report, which say with line styles and markers whatever they say with colors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from deeprt.evaluation.figure_style import INK, STYLE
from deeprt.training.experiments.dose_figure import dose_comparison
from deeprt.training.experiments.statistics import (
    DEFAULT,
    NETWORKS,
    STEP_DEG,
    Plan,
    Results,
    better_shares,
    compared,
    dose_differences,
)
from deeprt.training.measuring.figures import png
from deeprt.training.measuring.results import Json

_TEACHER, _NETWORK, _CHOSEN = "#16324f", "#d1495b", "#8a929c"
_NETWORK_STYLES = {DEFAULT: ("#2f6fd0", "o"), "paper": ("#d9772b", "s"), "full": ("#2f9254", "^")}
_TEACHER_LINE: dict[str, Any] = {"color": _TEACHER, "linewidth": 2.0}
_NETWORK_LINE: dict[str, Any] = {"color": _NETWORK, "linewidth": 1.6, "linestyle": (0, (4, 1.5))}
_CHOSEN_LINE: dict[str, Any] = {"color": _CHOSEN, "linewidth": 1.2, "linestyle": ":"}
_TEACHER_MARK: dict[str, Any] = {
    "color": _TEACHER,
    "marker": "o",
    "markersize": 9,
    "fillstyle": "none",
    "linestyle": "",
}
_NETWORK_MARK: dict[str, Any] = {"color": _NETWORK, "marker": "X", "markersize": 8, "linestyle": ""}
_EPSILONS = np.geomspace(0.001, 0.1, 61)


def pictures(results: Results) -> dict[str, bytes]:
    """PNG files by name, of what was run."""
    drawn: dict[str, Callable[[], Figure]] = {}
    if results.training is not None:
        drawn["deepboo_curves.png"] = partial(curves, results.training)
    if results.examples is not None:
        drawn["deepboo_worst.png"] = partial(worst_predictions, results.examples["worst"])
        drawn["deepboo_sequence.png"] = partial(sequence, results.examples["sequence"])
        drawn["deepboo_correction.png"] = partial(correction, results.examples["correction"])
    if results.plans is not None and compared(results.plans, DEFAULT):
        drawn["deepboo_organs.png"] = partial(organ_differences, results.plans)
        drawn["deepboo_equation17.png"] = partial(better_plans, results.plans)
    if results.dose is not None:
        drawn["deepboo_dose.png"] = partial(dose_comparison, results.dose)
    with matplotlib.rc_context(STYLE):
        return {name: png(draw()) for name, draw in drawn.items()}


def curves(training: Json) -> Figure:
    """Figure 3: training and validation loss, mean and standard deviation of the folds, by epoch and by time."""
    figure = Figure(figsize=(9.6, 4.0), layout="constrained")
    by_epoch, by_time = figure.subplots(1, 2, sharey=True)
    for network in NETWORKS:
        folds = training["folds"].get(network, ())
        if not folds:
            continue
        color, marker = _NETWORK_STYLES[network]
        n_epochs = min(len(f["curve"]) for f in folds)
        table = np.array([f["curve"][:n_epochs] for f in folds])  # (n_folds, n_epochs, 4)
        mean, sd = table.mean(axis=0), table.std(axis=0, ddof=min(1, len(folds) - 1))
        for axes, x in ((by_epoch, mean[:, 0]), (by_time, mean[:, 3] / 60)):
            for column, dashes in ((1, "-"), (2, (0, (2, 1.2)))):
                y, band = 100 * mean[:, column], 100 * sd[:, column]
                label = f"{NETWORKS[network]}, {'training' if column == 1 else 'validation'} ({len(folds)} folds)"
                axes.plot(
                    x, y, color=color, linestyle=dashes, linewidth=1.5, marker=marker, markersize=4.5,
                    markevery=max(1, len(x) // 8), fillstyle="full" if column == 1 else "none",
                    label=label.replace("(1 folds)", "(1 fold)"),
                )  # fmt: skip
                axes.fill_between(x, np.maximum(y - band, 0.2 * y), y + band, color=color, alpha=0.15, linewidth=0)
    by_epoch.set(xlabel="Epoch", ylabel="Mean squared error / %", yscale="log")
    by_time.set(xlabel="Training time of a fold / min", xscale="log")
    for axes in (by_epoch, by_time):
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:.1g}")
        axes.grid(which="both", color=INK, alpha=0.1, linewidth=0.5)
    by_time.xaxis.set_major_formatter("{x:g}")
    figure.legend(*by_epoch.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def worst_predictions(worst: Mapping[str, Sequence[Json]]) -> Figure:
    """Figure 4: the test states that each network predicts worst."""
    networks = [n for n in NETWORKS if worst.get(n)]
    figure = Figure(figsize=(9.6, 0.7 + 2.5 * len(networks)), layout="constrained")
    grid = figure.subplots(len(networks), 3, sharex=True, sharey=True, squeeze=False)
    for row, network in zip(grid, networks, strict=True):
        for axes, example in zip(row, worst[network], strict=False):
            _fitness_panel(axes, example["chosen"], example["teacher"], example["predicted"])
            axes.set_title(
                f"{example['patient']}, scenario {example['scenario'] + 1}: MSE {100 * example['mse']:.2f} %",
                fontsize=8.5,
            )
        row[0].set_ylabel(f"{NETWORKS[network]}\nFitness")
    for axes in grid[-1]:
        axes.set_xlabel("Gantry angle / °")
    figure.legend(handles=_fitness_legend(), loc="outside upper center", ncols=5, frameon=False)
    return figure


def sequence(example: Json) -> Figure:
    """Figure 5: the network's prediction at each of five steps, with the beams that the teacher has chosen so far."""
    figure = Figure(figsize=(9.6, 5.4), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    for n, (axes, step) in enumerate(zip(panels, example["steps"], strict=False), start=1):
        _fitness_panel(axes, step["chosen_teacher"], step["teacher"], step["predicted"])
        own, other = step["next_teacher"], step["next_network"]
        axes.set_title(f"Beam {n}: column generation {_deg(own)}, network {_deg(other)}", fontsize=8)
        axes.set(xlabel="Gantry angle / °", ylabel="Fitness" if n in (1, 4) else "")
    panels[-1].set_axis_off()
    panels[-1].legend(
        handles=_fitness_legend(), loc="center", frameon=False, fontsize=9,
        title=f"{example['patient']}, scenario {example['scenario'] + 1}",
    )  # fmt: skip
    return figure


def correction(example: Json) -> Figure:
    """Figure 6: predictions after a poor first beam was forced, the beams of the plan, and objectives."""
    figure = Figure(figsize=(9.6, 5.6), layout="constrained")
    places = figure.add_gridspec(2, 3)
    forced = example["forced"]
    for n, step in enumerate(example["steps"]):
        axes = figure.add_subplot(places[n // 2, n % 2])
        _fitness_panel(axes, [b for b in step["chosen"] if b != forced], None, step["predicted"], step["next"])
        axes.axvline(STEP_DEG * forced, color=INK, linewidth=2.2)
        axes.set_title(f"Beam {n + 2}: network {_deg(step['next'])}", fontsize=8.5)
        axes.set(xlabel="Gantry angle / °", ylabel="" if n % 2 else "Fitness")
    own = [*example["steps"][-1]["chosen"], example["steps"][-1]["next"]]
    _beam_rose(figure.add_subplot(places[0, 2], projection="polar"), example["beams_teacher"], own, forced)
    _objective_bars(figure.add_subplot(places[1, 2]), example["objectives"])
    handles = [
        Line2D([], [], color=INK, linewidth=2.2, label=f"forced first beam, {_deg(forced)}"),
        Line2D([], [], **_NETWORK_LINE, label="network's fitness"),
        Line2D([], [], **_CHOSEN_LINE, label="chosen by the network"),
        Line2D([], [], **_NETWORK_MARK, label="its next beam"),
    ]
    about = f"{example['patient']}, scenario {example['scenario'] + 1}"
    figure.legend(handles=handles, title=about, loc="outside upper center", ncols=4, frameon=False)
    return figure


def _beam_rose(axes: Any, teacher: Sequence[int], network: Sequence[int], forced: int) -> None:
    """Beam directions as seen from the patient's feet, gantry 0 at the top."""
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    for beams, start, stop, line in ((teacher, 0.0, 1.0, _TEACHER_LINE), (network, 0.0, 0.75, _NETWORK_LINE)):
        for beam in beams:
            axes.plot([np.deg2rad(STEP_DEG * beam)] * 2, [start, stop], **line)
    axes.plot(np.deg2rad(STEP_DEG * forced), 1.0, marker="v", color=INK, markersize=7, clip_on=False)
    axes.set(ylim=(0, 1), yticks=[], xticks=np.deg2rad(np.arange(0, 360, 90)))
    axes.set_title("Beams: column generation —, network - -", fontsize=8.5)


def _objective_bars(axes: Axes, objectives: Mapping[str, float]) -> None:
    """What the forced beam costs: objectives over that of column generation's free plan."""
    names = {"forced, teacher": "column generation from the forced beam", "forced, network": "network from it"}
    values = [100 * (objectives[n] / objectives["free, teacher"] - 1) for n in names]
    axes.barh(range(2), values, color=[_TEACHER, _NETWORK], height=0.35)
    axes.axvline(0, color=INK, linewidth=0.8)
    for y, (name, value) in enumerate(zip(names.values(), values, strict=True)):
        axes.text(0, y - 0.24, f" {name}: {value:+.2f} %", va="bottom", fontsize=8)
    reach = max(abs(v) for v in values) or 1.0
    axes.set(xlim=(min(*values, 0.0), 1.6 * reach), ylim=(1.5, -0.75), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("Objective over column generation's\nwithout a forced beam / %")


def organ_differences(plans: Sequence[Plan]) -> Figure:
    """Figure 7: differences of mean and maximum dose of each structure, column generation less default network."""
    rows = compared(plans, DEFAULT)
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    for axes, what in zip(figure.subplots(1, 2, sharey=True), ("mean", "max"), strict=True):
        differences = dose_differences(rows, what)
        axes.axvline(0, color=INK, linewidth=0.8, alpha=0.5)
        axes.boxplot(
            list(differences.values()), orientation="horizontal", tick_labels=list(differences), widths=0.55,
            whis=(5, 95), showmeans=True, patch_artist=True,
            boxprops={"facecolor": "#c9d9ee", "edgecolor": _TEACHER}, medianprops={"color": _TEACHER, "linewidth": 2},
            meanprops={"marker": "D", "markerfacecolor": _NETWORK, "markeredgecolor": "white", "markersize": 6},
            flierprops={"marker": ".", "markersize": 2.5, "markeredgecolor": _CHOSEN},
        )  # fmt: skip
        axes.set_title(f"{'Mean' if what == 'mean' else 'Maximum'} dose", fontsize=9)
        axes.set_xlabel("Column generation less network / % of prescription")
        axes.grid(axis="x", color=INK, alpha=0.12, linewidth=0.5)
    figure.axes[0].invert_yaxis()
    return figure


def better_plans(plans: Sequence[Plan]) -> Figure:
    """Figure 9: shares of plans in which column generation or a network is better by more than a margin."""
    networks = [n for n in NETWORKS if compared(plans, n)]
    figure = Figure(figsize=(1.2 + 3.2 * max(2, len(networks)), 3.6), layout="constrained")
    grid = figure.subplots(1, len(networks), sharey=True, squeeze=False)[0]
    for axes, network in zip(grid, networks, strict=True):
        rows = compared(plans, network)
        teacher, own = (100 * np.array(s) for s in zip(*(better_shares(rows, e) for e in _EPSILONS), strict=True))
        axes.plot(_EPSILONS, teacher, **_TEACHER_LINE, label="column generation better by more than ε")
        axes.plot(_EPSILONS, own, **_NETWORK_LINE, label="network better by more than ε")
        axes.plot(_EPSILONS, 100 - teacher - own, color=INK, alpha=0.6, linestyle=":", label="equal within ε")
        axes.set(xscale="log", ylim=(0, 100), xlim=(_EPSILONS[0], _EPSILONS[-1]), xlabel="ε")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_title(f"{NETWORKS[network]}, {len(rows)} plans", fontsize=9)
        axes.grid(which="both", color=INK, alpha=0.1, linewidth=0.5)
    grid[0].set_ylabel("Share of plans")
    grid[0].yaxis.set_major_formatter(PercentFormatter())
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def _fitness_panel(
    axes: Axes, chosen: Sequence[int], teacher: ArrayLike | None, predicted: ArrayLike, following: int | None = None
) -> None:
    """Draw fitness over the gantry angle, chosen beams, and the best beam of each curve that is not chosen yet."""
    for beam in chosen:
        axes.axvline(STEP_DEG * beam, **_CHOSEN_LINE)
    for values, line, mark in (
        (teacher, _TEACHER_LINE, _TEACHER_MARK),
        (predicted, _NETWORK_LINE, _NETWORK_MARK),
    ):
        if values is not None:
            fitness = np.asarray(values, float)
            best = int(np.argmax(np.where(np.isin(np.arange(fitness.size), chosen), -np.inf, fitness)))
            best = best if following is None else following
            axes.plot(STEP_DEG * np.arange(fitness.size), fitness, **line)
            axes.plot(STEP_DEG * best, fitness[best], **mark, clip_on=False, zorder=4)
    axes.set(xlim=(0, 360), ylim=(0, 1.05), xticks=range(0, 361, 90))


def _fitness_legend() -> list[Line2D]:
    return [
        Line2D([], [], **_TEACHER_LINE, label="column generation"),
        Line2D([], [], **_NETWORK_LINE, label="network"),
        Line2D([], [], **_CHOSEN_LINE, label="beams chosen so far"),
        Line2D([], [], **_TEACHER_MARK, label="next beam, column generation"),
        Line2D([], [], **_NETWORK_MARK, label="next beam, network"),
    ]


def _deg(candidate: int) -> str:
    return f"{STEP_DEG * candidate:g}°"
