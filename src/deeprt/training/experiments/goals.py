"""What was asked of the default network beside what was measured: the first section of the experiments' report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from deeprt.training.experiments.page import name_of
from deeprt.training.experiments.statistics import (
    COARSE,
    DEFAULT,
    EQUISPACED,
    EXCHANGED,
    MEAN_CURVE,
    RANDOM,
    Results,
    Summary,
    chosen_fold,
    compared,
    summarize,
)
from deeprt.training.measuring.page import ABSENT, Section, paragraphs, percent, table
from deeprt.training.measuring.statistics import mean_of, median_of

PAPER_MSE = 0.0144
AS_SHIPPED = "as shipped: after one sweep of exchanges"


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
    errors = _errors(results, fold)
    states = f"{results.training['cohort']['n_states_test']} states" if results.training and results.mse else ""
    forced = [r["network_forced"] / r["teacher_forced"] - 1 for r in results.forced or ()]
    five, again = _times(results, "five_beams_s"), _times(results, "re_prediction_s")
    anew = [e + f for e, f in zip(_times(results, "encode_s"), five, strict=False)]
    return (
        Goal("Mean squared error, test patients", PAPER_MSE, *errors, states),
        Goal("half of that", PAPER_MSE / 2, *errors, states),
        *_plan_goals(results, DEFAULT, fold),
        *_plan_goals(results, EXCHANGED, fold, f", {AS_SHIPPED}"),
        Goal(
            "Self-correction: mean excess, worst beam first, fold 1", 0.05, mean_of(forced), n=_n(forced, "scenarios")
        ),
        Goal("Five beams, case loaded and encoded", 0.5, median_of(five), n=_n(five, "repeats"), unit="s"),
        Goal("Five beams, case loaded, encoding included", 0.5, median_of(anew), n=_n(anew, "repeats"), unit="s"),
        Goal("One prediction after an edit", 0.15, median_of(again), n=_n(again, "repeats"), unit="s"),
    )


def _plan_goals(results: Results, method: str, fold: int | None, which: str = "") -> tuple[Goal, ...]:
    """What was asked of the plans, for the beams of a method."""
    every, one = _summary(results, method, None), None if fold is None else _summary(results, method, fold)

    def both(read: Callable[[Summary], float | None]) -> tuple[float | None, float | None]:
        return None if every is None else read(every), None if one is None else read(one)

    within, mean, gap = both(lambda s: s.within), both(lambda s: s.mean), both(lambda s: s.gap_mean)
    plans = "" if every is None else f"{every.n} plans"
    with_gap = "" if every is None else f"{every.n - every.n_without_gap} plans, {every.n_without_gap} left out"
    return (
        Goal(f"Plans within 5 % of column generation{which}", 0.95, *within, plans, at_most=False),
        Goal(f"Mean excess over column generation{which}", 0.015, *mean, plans),
        Goal(f"Gap to equispaced beams closed, mean{which}", 0.8, *gap, with_gap, at_most=False),
    )


def _summary(results: Results, method: str, fold: int | None) -> Summary | None:
    own = compared(results.plans or (), method, fold=fold)
    return summarize(own) if own else None


def _errors(results: Results, fold: int | None) -> tuple[float | None, float | None]:
    """Mean squared error of the default network: mean of the folds, and of the chosen one."""
    folds = (results.mse or {"methods": {}})["methods"].get(DEFAULT, {}).get("per_fold", {})
    own = folds.get(str(fold))
    return mean_of([f["all"] for f in folds.values()]), None if own is None else own["all"]


def _times(results: Results, name: str) -> list[float]:
    return list((results.times or {}).get(name, ()))


def _n(values: list[float], what: str) -> str:
    return f"{len(values)} {what}" if values else ""


def short_section(results: Results) -> Section:
    """Goals beside what was measured."""
    found, fold = goals(results), chosen_fold(results.training)
    header = ["What", "Goal", "Measured", "Chosen fold" if fold is None else f"Fold {fold}", "n", "Goal is"]
    text = paragraphs(
        f"The default network on held-out virtual patients. *Measured* is over all folds; {header[3].lower()} is that "
        "of the least validation loss, the one to ship. Whether five beams after loading include the encoding of the "
        "patient can be read in two ways; both are here. A section below explains each number, with its command.",
        table(header, [g.cells for g in found]),
        _beside(results),
    )
    return Section("In short", text, {g.what: {**asdict(g), "verdict": g.verdict.strip("*")} for g in found})


def _beside(results: Results) -> str:
    """What the goals are to be read beside: baselines on the same states and scenarios."""
    said = []
    if results.mse is not None:
        methods, explained = results.mse["methods"], results.mse["explained_variance"]
        said += ["Mean squared errors on the same states, and explained variance of the labels:"]
        said += [
            _listed(
                f"{name_of(m)} {percent(mean_of([f['all'] for f in methods[m]['per_fold'].values()]))}, "
                f"{percent(explained[m], 1)}"
                for m in (DEFAULT, COARSE, MEAN_CURVE, RANDOM)
                if m in methods
            )
        ]
    own = _summary(results, DEFAULT, None)
    if own is not None:
        others = {m: compared(results.plans or (), m) for m in (MEAN_CURVE, COARSE, EQUISPACED, RANDOM)}
        excess = _listed(f"{m} {percent(summarize(rows).mean, signed=True)}" for m, rows in others.items() if rows)
        said += [f"Mean excess of other beams: {excess}"]
        said += [f"Gap closed: median {percent(own.gap_median, 1)}, pooled {percent(own.gap_pooled, 1)}."]
    return " ".join(said)


def _listed(items: Iterable[str]) -> str:
    return "; ".join(items) + "."
