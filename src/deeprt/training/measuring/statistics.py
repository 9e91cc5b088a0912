"""Numbers that sum up values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n − 1), which one value alone does not have."""

    mean: float
    sd: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Spread of at least one value."""
        v = np.fromiter(values, float)
        return cls(float(v.mean()), float(v.std(ddof=1)) if v.size > 1 else None, v.size)

    def text(self, digits: int, *, factor: float = 1.0, signed: bool = False) -> str:
        """Mean ± standard deviation, after multiplication."""
        mean = f"{factor * self.mean:{'+' if signed else ''}.{digits}f}"
        return mean if self.sd is None else f"{mean} ± {factor * self.sd:.{digits}f}"


def mean_of(values: ArrayLike) -> float | None:
    """Mean; None of nothing."""
    v = np.asarray(values, float)
    return float(v.mean()) if v.size else None


def median_of(values: ArrayLike) -> float | None:
    """Median; None of nothing."""
    v = np.asarray(values, float)
    return float(np.median(v)) if v.size else None
