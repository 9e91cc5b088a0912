"""Results of the experiments as their files hold them, and the statistics that the report quotes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from deeprt.training.measuring.results import Json, check_folder, read_result

CENTRAL_SLICE: Final = "central slice"
INVERSION: Final = "inversion"
DEFAULT: Final = "default"
PAPER: Final = "paper"
EVEN: Final = "even beams"
PREDICTED: Final = "dose network"
BEST_DOSE_SCORE_GY = 2.43  # of OpenKBP, by its own 100 test patients: Babier et al., Med. Phys. 48, 5549 (2021)
N_REFINED, N_REFINED_LONG = 10, 40

IDEAL, STEP_AND_SHOOT, SLIDING_WINDOW = "ideal", "step and shoot", "sliding window"
TECHNIQUES = {
    IDEAL: "fluence before sequencing",
    STEP_AND_SHOOT: "step and shoot",
    SLIDING_WINDOW: "sliding window",
}


def refined(n_refinements: int) -> str:
    """Name of the default network with refinements."""
    return f"{DEFAULT}, refined {n_refinements}"


METHOD_NAMES = {
    CENTRAL_SLICE: "central dose slice",
    INVERSION: "dose inversion alone",
    DEFAULT: "default network",
    refined(N_REFINED): f"default network, {N_REFINED} refinements",
    refined(N_REFINED_LONG): f"default network, {N_REFINED_LONG} refinements",
    PAPER: "paper's network",
    "dose-only": "paper's network, dose only",
    "reversed": "paper's network, labels reversed",
}


@dataclass(frozen=True, eq=False)
class Results:
    """What the experiments left in their folder, by the names of the files; None for one that was not run.

    ``examples`` holds what `deeprt.training.fluence_experiments.examples.examples` makes, ``dose_example``, from
    ``dose.npz``, what `deeprt.training.fluence_experiments.predicted_dose.dose_example` does.
    """

    training: Json | None
    maps: list[Json] | None
    plans: list[Json] | None
    openkbp: list[Json] | None
    times: Json | None
    dose: Json | None
    examples: dict[str, NDArray[Any]] | None
    dose_example: dict[str, NDArray[Any]] | None


def read_results(folder: Path) -> Results:
    """Read what is there.

    Raises
    ------
    InputError
        If there is no such folder, or a file is damaged.
    """
    check_folder(folder)
    arrays = {"examples": "examples.npz", "dose_example": "dose.npz"}
    files = {f.name: arrays.get(f.name, f"{f.name}.json") for f in fields(Results)}
    return Results(**{name: read_result(folder / file) for name, file in files.items()})


def methods_of(rows: Sequence[Json]) -> list[str]:
    """Methods of rows in the order of the page."""
    there = {row["method"] for row in rows}
    return [m for m in METHOD_NAMES if m in there]


def values_of(rows: Sequence[Json], method: str, key: str) -> NDArray[np.float64]:
    """A number of all rows of a method, (n,); those that lack it are left out."""
    return np.array([row[key] for row in rows if row["method"] == method and row.get(key) is not None], float)


def shown_method(rows: Sequence[Json]) -> str:
    """Method that stands for DeepFluence where one is shown: the default network, or else the inversion."""
    there = methods_of(rows)
    return DEFAULT if DEFAULT in there else INVERSION


@dataclass(frozen=True)
class Quartiles:
    """Median and quartiles of at least one value."""

    median: float
    lower: float
    upper: float
    n: int

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Quartiles:
        """Quartiles, linear between neighbors."""
        lower, median, upper = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
        return cls(median, lower, upper, values.size)


def upper_bound(values: NDArray[np.float64], confidence: float = 0.95) -> float | None:
    """One-sided upper confidence bound of the mean, by Student's t; None for fewer than two values."""
    if values.size < 2:
        return None
    error = values.std(ddof=1) / np.sqrt(values.size)
    return float(values.mean() + student.ppf(confidence, values.size - 1) * error)


@dataclass(frozen=True)
class Metric:
    """A number of a plan, as the paper's table 2 has it.

    Parameters
    ----------
    key : in the results
    name, unit : on the page
    digits : after the point
    """

    key: str
    name: str
    unit: str
    digits: int

    @property
    def label(self) -> str:
        """Name and unit."""
        return f"{self.name} / {self.unit}" if self.unit else self.name


METRICS = (
    Metric("HI", "HI of the PTV", "", 3),
    Metric("CI", "CI of the PTV", "", 3),
    Metric("PTV V72.6Gy", "V72.6Gy of the PTV", "%", 2),
    Metric("Rectum V60Gy", "V60Gy of the rectum", "%", 2),
    Metric("Bladder V60Gy", "V60Gy of the bladder", "%", 2),
    Metric("Bag_Bowel V45Gy", "V45Gy of the bowel", "cc", 1),
    Metric("Femur_Head_R Dmax", "Dmax of the right femoral head", "Gy", 2),
    Metric("Femur_Head_L Dmax", "Dmax of the left femoral head", "Gy", 2),
    Metric("PenileBulb Dmean", "Dmean of the penile bulb", "Gy", 2),
)


def metric_values(rows: Sequence[Json], method: str, key: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A metric of the reference and of the synthetic plans of a method, (n_patients,) each."""
    own = [r for r in rows if r["method"] == method and key in r["reference"] and key in r["synthetic"]]
    return np.array([r["reference"][key] for r in own]), np.array([r["synthetic"][key] for r in own])
