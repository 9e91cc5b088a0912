"""What was asked of the default network beside what was measured: the first section of the experiments' report."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from deeprt.training.fluence_experiments.results import (
    BEST_DOSE_SCORE_GY,
    CENTRAL_SLICE,
    DEFAULT,
    EVEN,
    IDEAL,
    INVERSION,
    METHOD_NAMES,
    N_REFINED,
    PAPER,
    PREDICTED,
    STEP_AND_SHOOT,
    Results,
    metric_values,
    refined,
    upper_bound,
    values_of,
)
from deeprt.training.measuring.page import ABSENT, Section, paragraphs, percent, table
from deeprt.training.measuring.results import Json
from deeprt.training.measuring.statistics import mean_of, median_of

_REFINED = refined(N_REFINED)


@dataclass(frozen=True)
class Goal:
    """A goal beside what was measured.

    Parameters
    ----------
    what : is measured
    limit : that it is to keep, from above or from below; None where no goal was set
    at_most : whether from above
    measured : of what the goal is for; None if not run
    beside : the same of another method
    n : what was counted, in words
    unit : of both; % for shares
    digits : after the point
    """

    what: str
    limit: float | None
    measured: float | None
    beside: float | None = None
    n: str = ""
    at_most: bool = True
    unit: str = ""
    digits: int = 4

    @property
    def verdict(self) -> str:
        """Whether it is met, in words."""
        if self.measured is None:
            return "not run"
        if self.limit is None:
            return "no goal"
        kept = self.measured <= self.limit if self.at_most else self.measured >= self.limit
        return "met" if kept else "**not met**"

    def text(self, value: float | None) -> str:
        """A value with its unit."""
        if value is None:
            return ABSENT
        if self.unit == "%":
            return percent(value, self.digits)
        return f"{value:.{self.digits}f}{self.unit and ' '}{self.unit}"

    @property
    def cells(self) -> list[str]:
        """Row of the table."""
        return [
            self.what, self._limit_text(), self.text(self.measured), self.text(self.beside), self.n or ABSENT,
            self.verdict,
        ]  # fmt: skip

    def _limit_text(self) -> str:
        if self.limit is None:
            return ABSENT
        limit = f"{100 * self.limit:g} %" if self.unit == "%" else f"{self.limit:g}{self.unit and ' '}{self.unit}"
        return f"{'≤' if self.at_most else '≥'} {limit}"


def goals(results: Results) -> tuple[Goal, ...]:
    """What was asked of the default network."""
    return (*_map_goals(results.maps or []), _homogeneity_goal(results.plans or []),
            *_real_goals(results.openkbp or []), _dose_score(results.dose or {}),
            *_time_goals(results.times or {}), _size_goal(results))  # fmt: skip


def _map_goals(rows: list[Json]) -> list[Goal]:
    asked = (
        ("SSIM, whole map, median", "ssim", 0.994, False, 4),
        ("SSIM, inside the field, median", "ssim_field", 0.994, False, 4),
        ("Gamma 3 %/3 mm of the maps, median", "gamma", 0.999, False, 4),
        ("MAE, whole map, median / fMU", "mae", 1e-3, True, 6),
        ("MAE, inside the field, median / fMU", "mae_field", 1e-3, True, 6),
    )
    found = []
    for what, key, limit, at_most, digits in asked:
        own, other = (values_of(rows, method, key) for method in (DEFAULT, _REFINED))
        n = f"{own.size} maps" if own.size else ""
        found.append(Goal(what, limit, median_of(own), median_of(other), n, at_most=at_most, digits=digits))
    return found


def _homogeneity_goal(rows: list[Json]) -> Goal:
    """The bound of the refined plans; beside it that of the others."""
    bounds, n = [], 0
    for method in (_REFINED, DEFAULT):
        reference, synthetic = metric_values(rows, method, "HI")
        bounds.append(upper_bound(synthetic - reference))
        n = max(n, reference.size)
    what = f"HI, {N_REFINED} refinements: upper 95 % bound of the mean difference (beside: without)"
    return Goal(what, 0.01, bounds[0], bounds[1], f"{n} plans" if n else "")


def _real_goals(every: list[Json]) -> list[Goal]:
    rows = [r for r in every if r["technique"] == STEP_AND_SHOOT]
    own, plain = ({k: values_of(rows, m, k) for k in ("gamma", "target_error")} for m in (_REFINED, DEFAULT))
    n = f"{own['gamma'].size} patients" if own["gamma"].size else ""
    about = f"OpenKBP, {N_REFINED} refinements (beside: without)"
    return [
        Goal(
            f"{about}: gamma 3 %/3 mm, mean", 0.98, mean_of(own["gamma"]), mean_of(plain["gamma"]), n,
            at_most=False, unit="%", digits=2,
        ),
        Goal(
            f"{about}: mean absolute dose error in PTV70, mean", 0.015, mean_of(own["target_error"]),
            mean_of(plain["target_error"]), n, unit="%", digits=2,
        ),
    ]  # fmt: skip


def _dose_score(measured: Json) -> Goal:
    """What stands beside the best of a challenge, on other patients, and is no goal."""
    rows = (measured.get("openkbp") or {"rows": []})["rows"]
    own, even = (values_of(rows, method, "dose_score_gy") for method in (PREDICTED, EVEN))
    what = (
        "OpenKBP, dose score of predicted doses, mean (beside: even beams; best of the challenge, on other patients: "
        f"{BEST_DOSE_SCORE_GY:g} Gy)"
    )
    n = f"{own.size} patients" if own.size else ""
    return Goal(what, None, mean_of(own), mean_of(even), n, unit="Gy", digits=2)


def _time_goals(times: Json) -> list[Goal]:
    asked = (
        ("Seven maps, case loaded", "seven_maps_s", 1.0, 2),
        (f"{N_REFINED} refinements, on top", "refinement_s", 3.0, 2),
        ("From the case to RTPLAN, by network alone", "plan_s", 20.0, 1),
        ("A beam's-eye view", "view_s", 0.05, 3),
    )
    n = {key: f"{len(times[key])} repeats" if key in times else "" for _, key, _, _ in asked}
    return [
        Goal(what, limit, median_of(times.get(key, [])), n=n[key], unit="s", digits=digits)
        for what, key, limit, digits in asked
    ]


def _size_goal(results: Results) -> Goal:
    networks = (results.training or {"networks": {}})["networks"]
    size = networks[DEFAULT]["megabytes"] if DEFAULT in networks else None
    return Goal("Weights of the default network", 20.0, size, unit="MB", digits=1)


def short_section(results: Results) -> Section:
    """Goals beside what was measured."""
    found = goals(results)
    header = ["What", "Goal", "Measured", "Beside", "n", "Goal is"]
    text = paragraphs(
        "The default network on held-out patients. *Beside*, for maps, is the same after "
        f"{N_REFINED} refinements, which pull the dose to the wished one and not the maps to the reference. The goals "
        "for maps are the paper's medians, which it reached in ten days of training on a GPU. A section below explains "
        "each number, with its command.",
        table(header, [g.cells for g in found]),
        _beside(results),
    )
    return Section("In short", text, {g.what: {**asdict(g), "verdict": g.verdict.strip("*")} for g in found})


def _beside(results: Results) -> str:
    """What the maps are to be read beside: methods that are not trained, and the paper's network as trained here."""
    said = []
    for method in (CENTRAL_SLICE, INVERSION, PAPER):
        own = {key: median_of(values_of(results.maps or [], method, key)) for key in ("ssim", "gamma", "mae")}
        if own["mae"] is not None:
            said.append(
                f"{METHOD_NAMES[method]} SSIM {own['ssim']:.4f}, gamma {own['gamma']:.4f}, MAE "
                f"{1e4 * own['mae']:.2f}e-4"
            )
    text = [f"Medians of others on the same maps, whole: {'; '.join(said)}."] if said else []
    rows = [r for r in results.openkbp or [] if r["technique"] == IDEAL]
    gamma = mean_of(values_of(rows, _REFINED, "gamma"))
    if gamma is not None:
        text.append(f"OpenKBP, gamma of the refined fluence before it is sequenced: {percent(gamma)}.")
    return " ".join(text)
