"""The pictures of the experiments' report, which say with order and line styles whatever they say with colors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from deeprt.evaluation.figure_style import INK, STYLE
from deeprt.networks.beams_eye_view import ViewSampling
from deeprt.training.fluence_experiments.dose_figure import Arrays, dose_comparison
from deeprt.training.fluence_experiments.results import (
    CENTRAL_SLICE,
    METHOD_NAMES,
    METRICS,
    N_REFINED,
    Results,
    methods_of,
    metric_values,
    refined,
    shown_method,
    values_of,
)
from deeprt.training.measuring.figures import png
from deeprt.training.measuring.results import Json

CURVES, QUALITY, MAPS = "deepfluence_curves.png", "deepfluence_quality.png", "deepfluence_maps.png"
CRITERIA, RSS = "deepfluence_criteria.png", "deepfluence_rss.png"
DOSE = "deepfluence_dose.png"
DOSES = {"best": "deepfluence_best.png", "worst": "deepfluence_worst.png"}

_PLAIN, _SECOND = "#2f6fd0", "#d9772b"
_COLORS = (_PLAIN, _SECOND, "#2f9254", "#8f4fb5")
_DIFFERENCE_SHARE = 0.2  # of the maps' scale
_PREDICTED_SHARE = 0.2  # of the prescription, for differences of a predicted dose
_BOX: dict[str, Any] = {
    "patch_artist": True,
    "whis": (5, 95),
    "boxprops": {"facecolor": "#c9d9ee", "edgecolor": _PLAIN},
    "medianprops": {"color": INK, "linewidth": 1.8},
    "flierprops": {"marker": ".", "markersize": 2.5, "markeredgecolor": "#8a929c"},
}


def pictures(results: Results) -> dict[str, bytes]:
    """PNG files by name, of what was run."""
    drawn: dict[str, Callable[[], Figure]] = {}
    if results.training is not None and any("curve" in n for n in results.training["networks"].values()):
        drawn[CURVES] = partial(curves, results.training)
    if results.maps:
        drawn[QUALITY] = partial(quality, results.maps)
    if results.examples is not None:
        drawn[MAPS] = partial(example_maps, results.examples)
        for which, name in DOSES.items():
            own = {k.removeprefix(f"{which}_"): v for k, v in results.examples.items() if k.startswith(f"{which}_")}
            drawn[name] = partial(dose_comparison, own)
    if results.dose_example:
        names = ("clinical", "predicted")
        drawn[DOSE] = partial(dose_comparison, results.dose_example, names, difference_share=_PREDICTED_SHARE)
    if results.plans:
        drawn[CRITERIA] = partial(criteria, results.plans)
        drawn[RSS] = partial(dvh_distances, results.plans)
    with matplotlib.rc_context(STYLE):
        return {name: png(draw()) for name, draw in drawn.items()}


def curves(training: Json) -> Figure:
    """Figure 6: training and validation loss by epoch and by time."""
    figure = Figure(figsize=(9.6, 3.8), layout="constrained")
    by_epoch, by_time = figure.subplots(1, 2, sharey=True)
    networks = {n: about["curve"] for n, about in training["networks"].items() if "curve" in about}
    for (name, rows), color in zip(networks.items(), _COLORS, strict=False):
        curve = np.array(rows)  # epoch, training, validation, seconds
        for axes, x in ((by_epoch, curve[:, 0]), (by_time, curve[:, 3] / 60)):
            for column, dashes, part in ((1, "-", "training"), (2, (0, (2, 1.2)), "validation")):
                axes.plot(
                    x, curve[:, column], color=color, linestyle=dashes, linewidth=1.5,
                    marker="o" if column == 2 else "", markersize=3.5, markevery=max(1, len(x) // 12),
                    label=f"{METHOD_NAMES[name]}, {part}",
                )  # fmt: skip
    by_epoch.set(xlabel="Epoch", ylabel="1 − SSIM + mean absolute error", yscale="log")
    by_time.set(xlabel="Training time / min", xscale="log")
    for axis in (by_epoch.yaxis, by_time.yaxis, by_time.xaxis):
        axis.set_minor_locator(LogLocator(subs=(2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("{x:g}")
    by_epoch.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (by_epoch, by_time):
        axes.grid(which="both", color=INK, alpha=0.1, linewidth=0.5)
    figure.legend(*by_epoch.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure


def quality(rows: Sequence[Json]) -> Figure:
    """Figure 7: errors, similarity and gamma of the maps of every method."""
    methods = [m for m in methods_of(rows) if m != CENTRAL_SLICE]  # far off: in the table only
    panels = (
        ("mae", "MAE, whole map", 1e4, "1e-4 fMU"),
        ("mae_field", "MAE, between the jaws", 1e4, "1e-4 fMU"),
        ("ssim", "SSIM, whole map", 1.0, ""),
        ("ssim_field", "SSIM, between the jaws", 1.0, ""),
        ("gamma", "Gamma 3 %/3 mm", 100.0, "%"),
    )
    figure = Figure(figsize=(11.4, 1.1 + 0.32 * len(methods)), layout="constrained")
    for axes, (key, title, factor, unit) in zip(figure.subplots(1, 5, sharey=True), panels, strict=True):
        _boxes(axes, [factor * values_of(rows, m, key) for m in methods])
        axes.set_title(title, fontsize=9)
        axes.set_xlabel(unit)
        axes.locator_params(axis="x", nbins=4)
    figure.axes[0].set_yticks(range(1, len(methods) + 1), [METHOD_NAMES[m] for m in methods])
    figure.axes[0].invert_yaxis()
    return figure


def example_maps(arrays: Arrays) -> Figure:
    """Figure 8: reference, predicted map and difference, all at one scale."""
    reference, predicted = arrays["maps_reference"], arrays["maps_predicted"]
    sampling = ViewSampling()
    reach = sampling.half_width_mm
    used = np.nonzero((reference > 0).any(0))
    inner = max(float(np.abs(sampling.edges_mm[n + k]).max()) for n in used for k in (0, 1)) + 5
    highest = float(max(reference.max(), predicted.max()))
    limit = _DIFFERENCE_SHARE * highest
    figure = Figure(figsize=(9.6, 9.4), layout="constrained")
    grid = figure.subplots(len(reference), 3, sharex=True, sharey=True, squeeze=False)
    for row, own, other, caption in zip(grid, reference, predicted, arrays["maps_captions"], strict=True):
        for axes, image, colors, norm in (
            (row[0], own, "viridis", Normalize(0, highest)),
            (row[1], other, "viridis", Normalize(0, highest)),
            (row[2], other - own, "RdBu_r", Normalize(-limit, limit)),
        ):
            axes.imshow(
                image, cmap=colors, norm=norm, origin="lower", extent=(-reach, reach, -reach, reach),
                interpolation="nearest",
            )  # fmt: skip
            axes.set(xlim=(-inner, inner), ylim=(-inner, inner), aspect="equal")
        row[0].set_ylabel(f"{caption}\n\nyb / mm", fontsize=8.5)
    for axes, title in zip(grid[0], ("Reference", "Predicted", "Predicted minus reference"), strict=True):
        axes.set_title(title, fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("xb / mm")
    for columns, norm, colors, label in (
        (grid[:, :2], Normalize(0, highest), "viridis", "Fluence / fMU"),
        (grid[:, 2], Normalize(-limit, limit), "RdBu_r", "Difference / fMU"),
    ):
        figure.colorbar(
            ScalarMappable(norm, colors), ax=columns, location="bottom", label=label, aspect=40, fraction=0.03,
            extend="both" if columns.ndim == 1 else "neither",
        )  # fmt: skip
    return figure


def criteria(rows: Sequence[Json]) -> Figure:
    """Figure 11: criteria of the synthetic plans over those of the reference plans."""
    methods = [m for m in (shown_method(rows), refined(N_REFINED)) if m in methods_of(rows)]
    figure = Figure(figsize=(9.6, 9.4), layout="constrained")
    for axes, metric in zip(figure.subplots(3, 3).ravel(), METRICS, strict=True):
        if metric_values(rows, methods[0], metric.key)[0].size == 0:
            axes.set_axis_off()
            continue
        for method, color, marker in zip(methods, (_PLAIN, _SECOND), "ox", strict=False):
            reference, synthetic = metric_values(rows, method, metric.key)
            axes.plot(
                reference, synthetic, marker, color=color, markersize=4.5, fillstyle="none",
                label=METHOD_NAMES[method],
            )  # fmt: skip
        ends = np.array([axes.dataLim.min, axes.dataLim.max])
        low, high = float(ends.min()), float(ends.max())
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        axes.plot([low - margin, high + margin], [low - margin, high + margin], color=INK, linewidth=0.8, alpha=0.6)
        axes.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin), aspect="equal")
        axes.set_title(metric.label, fontsize=9)
        axes.locator_params(nbins=5)
    figure.supxlabel("Reference", fontsize=9)
    figure.supylabel("Synthetic", fontsize=9)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure


def dvh_distances(rows: Sequence[Json]) -> Figure:
    """Figure 12: residual sums of squares of the DVHs."""
    methods = [m for m in (shown_method(rows), refined(N_REFINED)) if m in methods_of(rows)]
    names = list(dict.fromkeys(name for row in rows for name in row["rss"]))
    figure = Figure(figsize=(9.6, 3.2), layout="constrained")
    for axes, method in zip(figure.subplots(1, len(methods), sharey=True, sharex=True, squeeze=False)[0], methods,
                            strict=True):  # fmt: skip
        own = [r["rss"] for r in rows if r["method"] == method]
        _boxes(axes, [np.array([r[n] for r in own if n in r]) for n in names])
        axes.set_title(METHOD_NAMES[method], fontsize=9)
        axes.set(xlabel="Residual sum of squares", xscale="log")
        axes.xaxis.set_major_formatter("{x:g}")
    figure.axes[0].set_yticks(range(1, len(names) + 1), names)
    figure.axes[0].invert_yaxis()
    return figure


def _boxes(axes: Axes, values: Sequence[NDArray[np.float64]]) -> None:
    axes.boxplot(list(values), orientation="horizontal", widths=0.55, manage_ticks=False, **_BOX)
    axes.grid(axis="x", color=INK, alpha=0.12, linewidth=0.5)
