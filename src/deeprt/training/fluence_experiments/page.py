"""What the sections of the experiments' report share: commands, and quartiles as text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deeprt.training.fluence_experiments.results import Quartiles
from deeprt.training.measuring.page import ABSENT

_FOLDERS = "--data work/pelvis --runs work/fluence --out work/fluence_experiments"


def command(experiments: str, options: str = "") -> str:
    """The command that the numbers of experiments were made with."""
    return (
        f"python -m deeprt.training.fluence_experiments {_FOLDERS}{options and ' '}{options}"
        f"{experiments and ' --only '}{experiments}"
    )


def quartiles_text(values: NDArray[np.float64], digits: int, *, factor: float = 1.0) -> str:
    """Median and, in brackets, quartiles."""
    if values.size == 0:
        return ABSENT
    q = Quartiles.of(factor * values)
    return f"{q.median:.{digits}f} ({q.lower:.{digits}f}–{q.upper:.{digits}f})"
