"""What fluence optimization (or prediction) gives to sequencing and reports."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class FluenceSolution:
    """Fluence maps of all beams and the dose they would give.

    Parameters
    ----------
    fluence_mu : one (n_rows, n_cols) float64 array a beam, MU per fraction, zero where closed
    dose_gy : (n_k, n_j, n_i) float32, whole course, of this ideal fluence
    objective : value at the end
    history : objective per iteration
    converged : whether the stopping rule was met
    source : what made it, such as ``L-BFGS-B`` or a network's name
    notes : what was assumed, one sentence each
    """

    fluence_mu: tuple[NDArray[np.float64], ...]
    dose_gy: NDArray[np.float32]
    objective: float
    history: tuple[float, ...]
    converged: bool
    source: str
    notes: tuple[str, ...] = ()
