"""By how much the dose of a plan is scaled at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deeprt.case import PatientCase
from deeprt.errors import InputError
from deeprt.evaluation.dvh import structure_dvh


@dataclass(frozen=True)
class Normalization:
    """Rule by which monitor units are scaled, by the dose of the target of highest prescription.

    Parameters
    ----------
    volume_percent, dose_percent : for coverage: of the target's volume, and of its prescription which that gets
    rule : coverage, or the mean dose of the target in the wished dose from which fluence was predicted
    """

    volume_percent: float = 95.0
    dose_percent: float = 98.0
    rule: Literal["coverage", "wished-mean"] = "coverage"

    def __post_init__(self) -> None:
        if not 0 < self.volume_percent <= 100 or not 0 < self.dose_percent <= 200:
            raise InputError("Normalization: volume_percent must lie in 0 to 100, dose_percent in 0 to 200.")

    def factor(
        self, case: PatientCase, dose_gy: NDArray[np.float32], wished_gy: NDArray[np.float32] | None = None
    ) -> float:
        """What a dose, (n_k, n_j, n_i) whole course, must be multiplied with.

        Raises
        ------
        InputError
            If no dose reaches the target, or the rule refers to a wished dose and there is none.
        """
        target = case.targets[0]
        reached = structure_dvh(dose_gy, target.fraction, case.grid.voxel_volume_cc)
        if self.rule == "coverage":
            goal_gy = self.dose_percent / 100 * (target.prescription_gy or 0.0)
            is_gy, part = reached.dose_at_volume(self.volume_percent), f"{self.volume_percent:g} % of {target.name}"
        elif wished_gy is not None:
            goal_gy = structure_dvh(wished_gy, target.fraction, case.grid.voxel_volume_cc).mean_gy
            is_gy, part = reached.mean_gy, target.name
        else:
            raise InputError("There is no wished dose whose mean could be kept; normalize to coverage.")
        if not is_gy > 0:
            raise InputError(f"No dose reaches {part}; check the isocenter and the beams.")
        return goal_gy / is_gy
