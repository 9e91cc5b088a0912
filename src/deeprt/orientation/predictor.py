"""What a session and a guided search ask: the fitness of every candidate beam for the beams chosen so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deeprt.beams import BeamAngles
from deeprt.orientation.teacher import OrganWeights


class FitnessPredictor(Protocol):
    """Predicts the fitness of every candidate of one patient for a set of chosen beams."""

    @property
    def candidates(self) -> tuple[BeamAngles, ...]:
        """Beams whose fitness is predicted."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Where it is used outside what it was trained on, one sentence each."""

    def fitness(self, chosen: Sequence[BeamAngles]) -> NDArray[np.float32]:
        """Predict the fitness, (n_candidates,), 0 to 1; chosen beams need not be candidates."""

    def reweighted(self, weights: OrganWeights) -> FitnessPredictor:
        """Return the same patient's with other organ weights; it keeps the work that does not depend on them."""
