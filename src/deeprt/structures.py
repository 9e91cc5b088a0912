"""Structures of a case: what they are, and the role proposed from their names."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class Role(StrEnum):
    """What a structure is for; behavior follows the role, never the name."""

    TARGET = "target"
    ORGAN_AT_RISK = "organ_at_risk"
    EXTERNAL = "external"
    TUNING = "tuning"
    SUPPORT = "support"
    BOLUS = "bolus"
    OTHER = "other"


BESIDE_PATIENT = (Role.SUPPORT, Role.BOLUS)  # they attenuate outside the external, and no dose is reported in them


@dataclass(frozen=True, eq=False)
class Structure:
    """One structure on the grid of its case.

    Parameters
    ----------
    name : as the user knows it
    role : what it is for
    fraction : (n_k, n_j, n_i) float32, share of each voxel inside the structure, 0 to 1
    prescription_gy : whole-course dose, targets only
    organ : TG-263 name that protocols refer to, such as ``Rectum`` or ``Femur_Head_R``; empty if unknown
    color : RGB, 0 to 255
    density : relative electron density in place of the CT's; None leaves the CT's

    Raises
    ------
    ValueError
        If the fractions are not a 3-D array within 0 to 1, a prescription is not positive or not a target's,
        or a density is negative.
    """

    name: str
    role: Role
    fraction: NDArray[np.float32]
    prescription_gy: float | None = None
    organ: str = ""
    color: tuple[int, int, int] | None = None
    density: float | None = None

    def __post_init__(self) -> None:
        if self.fraction.ndim != 3:
            raise ValueError(f"Structure '{self.name}': fraction must be 3-D, got shape {self.fraction.shape}.")
        if self.fraction.dtype != np.float32:
            raise TypeError(f"Structure '{self.name}': fraction must be float32, got {self.fraction.dtype}.")
        low, high = float(self.fraction.min()), float(self.fraction.max())
        if not (low >= 0 and high <= 1 + 1e-6):
            raise ValueError(f"Structure '{self.name}': fractions must lie in 0 to 1, got {low} to {high}.")
        if self.density is not None and not 0 <= self.density < np.inf:
            raise ValueError(f"Structure '{self.name}': a density must be finite and not negative, got {self.density}.")
        if self.prescription_gy is not None:
            if self.role is not Role.TARGET:
                raise ValueError(f"Structure '{self.name}': only a target has a prescription, its role is {self.role}.")
            if not self.prescription_gy > 0:
                raise ValueError(
                    f"Structure '{self.name}': the prescription must be positive, got {self.prescription_gy} Gy."
                )

    @property
    def is_empty(self) -> bool:
        """Whether no voxel has a part in it."""
        return not bool(self.fraction.any())

    def centroid_index(self) -> NDArray[np.float64]:
        """Volume-weighted mean of the voxel indices, (i, j, k)."""
        weight = self.fraction.astype(np.float64)
        total = weight.sum()
        sums = [weight.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in (2, 1, 0)]
        return np.array([s @ np.arange(s.size) / total for s in sums])
