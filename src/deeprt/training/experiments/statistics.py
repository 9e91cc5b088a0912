"""Results of the experiments as their files hold them, and the statistics that the report quotes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deeprt.errors import InputError
from deeprt.training.measuring.results import Json, check_folder, read_result

DEFAULT: Final = "default"
NETWORKS = {DEFAULT: "default network", "paper": "paper's network", "full": "DNNFull"}
EXCHANGED = "default, exchanged"  # after one sweep of exchanges, as it ships
OF_PROSTATE = "default, trained on prostate"  # where the default network was trained on OpenKBP
TEACHER, COARSE, MEAN_CURVE = "column generation", "coarse", "mean curve"
EQUISPACED, RANDOM = "equispaced", "random"
METHOD_NAMES = {
    TEACHER: "column generation",
    **NETWORKS,
    EXCHANGED: "default network and one sweep of exchanges",
    OF_PROSTATE: "default network, trained on virtual prostate",
    COARSE: "coarse column generation alone",
    MEAN_CURVE: "mean curve",
    EQUISPACED: "equispaced",
    RANDOM: "random",
}
WITHIN = 0.05  # excess over column generation that the goal allows
STEP_DEG = 2.0  # between the 180 candidates, of which the first is at 0°
SMALLEST_GAP = 0.001  # of column generation's objective; below it there is no gap that could be closed


@dataclass(frozen=True)
class Plan:
    """The optimum for five beams in one scenario, as ``plans.json`` holds it.

    Parameters
    ----------
    patient, scenario : whose, and which organ weights
    method : that chose the beams
    objective : of the optimized fluence
    nodes : whether pelvic nodes are a target
    fold : of the network that chose; None for methods that are not trained
    beams : candidates in the order of choice; candidate i of 180 has the gantry angle 2 i degrees
    metrics : of the target of highest prescription, see `deeprt.training.experiments.plans.plan_metrics`
    organs : by structure, "mean" and "max" dose over the highest prescription
    """

    patient: str
    scenario: int
    method: str
    objective: float
    nodes: bool = False
    fold: int | None = None
    beams: tuple[int, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    organs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Results:
    """What the experiments left in their folder, by the names of the files; None for one that was not run.

    ``dose`` holds what `deeprt.training.experiments.dose_figure.dose_comparison` draws.
    """

    training: Json | None
    mse: Json | None
    examples: Json | None
    plans: tuple[Plan, ...] | None
    forced: list[Json] | None
    search: list[Json] | None
    real: Json | None
    times: Json | None
    dose: Mapping[str, NDArray[Any]] | None


def read_results(folder: Path) -> Results:
    """Read what is there.

    Raises
    ------
    InputError
        If there is no such folder, or a file is damaged.
    """
    check_folder(folder)
    found = {f.name: read_result(folder / f"{f.name}.json") for f in fields(Results) if f.name != "dose"}
    if found["plans"] is not None:
        found["plans"] = plans_of([*found["plans"], *(read_result(folder / "exchanged.json") or ())])
    return Results(**found, dose=read_result(folder / "dose.npz"))


def plans_of(rows: Iterable[Json]) -> tuple[Plan, ...]:
    """Plans of rows; what older files say beyond that is left out."""
    known = {f.name for f in fields(Plan)}
    return tuple(Plan(**{k: v for k, v in row.items() if k in known}) for row in rows)


@dataclass(frozen=True)
class Compared:
    """A plan beside column generation's and, where there is one, that of equispaced beams, in the same scenario."""

    plan: Plan
    teacher: Plan
    equispaced: Plan | None

    @property
    def excess(self) -> float:
        """Objective over column generation's, less one."""
        return self.plan.objective / self.teacher.objective - 1


def compared(plans: Sequence[Plan], method: str, *, fold: int | None = None) -> list[Compared]:
    """Plans of a method, of one fold or of all, each beside the others of its scenario.

    Raises
    ------
    InputError
        If a scenario has no plan of column generation.
    """
    by_method = {m: {(p.patient, p.scenario): p for p in plans if p.method == m} for m in (TEACHER, EQUISPACED)}
    found = []
    for plan in plans:
        if plan.method == method and fold in (None, plan.fold):
            where = plan.patient, plan.scenario
            if where not in by_method[TEACHER]:
                raise InputError(
                    f"Scenario {plan.scenario} of patient {plan.patient} has no plan of {TEACHER} among the results; "
                    "run that experiment again."
                )
            found.append(Compared(plan, by_method[TEACHER][where], by_method[EQUISPACED].get(where)))
    return found


@dataclass(frozen=True)
class Summary:
    """Objectives of one method over those of column generation.

    Parameters
    ----------
    n : plans
    mean, median, worst : excess
    within : share of plans whose excess is at most 5 %
    gap_mean, gap_median : share of the gap closed, (F_equispaced − F)/(F_equispaced − F_CG), where the gap is larger
        than 0.1 %; None where it never is
    gap_pooled : sum of the numerators over the sum of the denominators, all plans; None if that is not positive
    n_without_gap : plans left out of ``gap_mean`` and ``gap_median``
    """

    n: int
    mean: float
    median: float
    worst: float
    within: float
    gap_mean: float | None
    gap_median: float | None
    gap_pooled: float | None
    n_without_gap: int


def summarize(rows: Sequence[Compared]) -> Summary:
    """Sum up at least one plan."""
    excess = np.array([r.excess for r in rows])
    known = [(r.equispaced.objective, r.plan.objective, r.teacher.objective) for r in rows if r.equispaced is not None]
    shares = [(eq - own) / (eq - cg) for eq, own, cg in known if eq > (1 + SMALLEST_GAP) * cg]
    gaps = sum(eq - cg for eq, _, cg in known)
    return Summary(
        n=len(rows),
        mean=float(excess.mean()),
        median=float(np.median(excess)),
        worst=float(excess.max()),
        within=float(np.mean(excess <= WITHIN)),
        gap_mean=float(np.mean(shares)) if shares else None,
        gap_median=float(np.median(shares)) if shares else None,
        gap_pooled=sum(eq - own for eq, own, _ in known) / gaps if gaps > 0 else None,
        n_without_gap=len(rows) - len(shares),
    )


def better_shares(rows: Sequence[Compared], epsilon: float) -> tuple[float, float]:
    """Shares of plans in which column generation, and in which the other, is better by more than epsilon.

    Equation 17 of the paper: ε = (F_CG − F)/F_CG, of which −ε is the excess; column generation is better by its
    negative, the other by its positive part.
    """
    excess = np.array([r.excess for r in rows])
    return float(np.mean(excess > epsilon)), float(np.mean(-excess > epsilon))


def dose_differences(rows: Sequence[Compared], what: str) -> dict[str, NDArray[np.float64]]:
    """Dose of column generation less that of the plan, in percent of the prescription, (n,) by structure.

    Parameters
    ----------
    what : "mean" or "max"
    """
    fullest_first = sorted(rows, key=lambda r: -len(r.plan.organs))  # whose order has a place for every structure
    names = dict.fromkeys(name for r in fullest_first for name in r.plan.organs)
    return {
        name: np.array(
            [100 * (r.teacher.organs[name][what] - r.plan.organs[name][what]) for r in rows if name in r.plan.organs]
        )
        for name in names
    }


def chosen_fold(training: Json | None) -> int | None:
    """Fold of the default network with the least validation loss, as the paper chooses; None if unknown."""
    folds = (training or {}).get("folds", {}).get(DEFAULT, ())
    return int(min(folds, key=lambda f: f["validation_best"])["fold"]) if folds else None
