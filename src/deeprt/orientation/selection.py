"""Choice of the beam angles of a plan."""

from __future__ import annotations

from typing import Literal

from deeprt.beams import BeamAngles
from deeprt.errors import InputError

SelectionMethod = Literal["equispaced", "column-generation", "network"]


def equispaced_angles(
    n_beams: int, *, first_gantry_deg: float = 0.0, collimator_deg: float = 0.0
) -> tuple[BeamAngles, ...]:
    """Coplanar beams at equal steps of the gantry, to the tenth of a degree that plans are written with.

    >>> [a.gantry_deg for a in equispaced_angles(7)]
    [0.0, 51.4, 102.9, 154.3, 205.7, 257.1, 308.6]
    """
    if n_beams < 1:
        raise InputError(f"The number of beams must be at least 1, got {n_beams}.")
    step = 360.0 / n_beams
    return tuple(BeamAngles(round(first_gantry_deg + k * step, 1), 0.0, collimator_deg) for k in range(n_beams))


def select_angles(
    method: SelectionMethod, n_beams: int, *, first_gantry_deg: float = 0.0, collimator_deg: float = 0.0
) -> tuple[BeamAngles, ...]:
    """Choose beam angles.

    Raises
    ------
    InputError
        If the method is not available in this version.
    """
    if method == "equispaced":
        return equispaced_angles(n_beams, first_gantry_deg=first_gantry_deg, collimator_deg=collimator_deg)
    raise InputError(
        f"Beam selection by '{method}' is not available in this version; use 'equispaced' or give gantry angles."
    )
