"""What a session and a guided search ask: the fitness of every candidate beam for the beams chosen so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deeprt.beams import BeamAngles
from deeprt.orientation.teacher import OrganWeights
from deeprt.progress import Progress


class FitnessPredictor(Protocol):
    """Predicts the fitness of every candidate of one patient for a set of chosen beams."""

    @property
    def candidates(self) -> tuple[BeamAngles, ...]:
        """Beams whose fitness is predicted."""

    def notes(self, n_beams: int) -> tuple[str, ...]:
        """Where it is used outside what it was trained on, for a plan of so many beams, one sentence each."""

    def fitness(self, chosen: Sequence[BeamAngles]) -> NDArray[np.float32]:
        """Predict the fitness, (n_candidates,), 0 to 1; chosen beams need not be candidates."""

    def exchanged(
        self,
        chosen: Sequence[BeamAngles],
        *,
        n_kept: int,
        n_sweeps: int,
        selectable: NDArray[np.bool_],
        min_separation_deg: float,
        progress: Progress | None = None,
    ) -> tuple[BeamAngles, ...]:
        """Exchange beams for better ones.

        Parameters
        ----------
        n_kept : first beams of the chosen ones, which stay
        n_sweeps : how often each of the others is put to the test
        selectable : (n_candidates,) that may come in
        min_separation_deg : between one that comes in and all others

        Returns
        -------
        As many beams; those that came in are last
        """

    def reweighted(self, weights: OrganWeights) -> FitnessPredictor:
        """Return the same patient's with other organ weights; it keeps the work that does not depend on them."""


class Remembering:
    """Asks a predictor once about a set, whatever the order of its beams."""

    def __init__(self, predictor: FitnessPredictor) -> None:
        self.asked = predictor
        self._fitness: dict[frozenset[BeamAngles], NDArray[np.float32]] = {}

    def fitness(self, chosen: Sequence[BeamAngles]) -> NDArray[np.float32]:
        """Predicted fitness, (n_candidates,); not to be written to."""
        beams = frozenset(chosen)
        if beams not in self._fitness:
            fitness = np.array(self.asked.fitness(chosen), np.float32)
            fitness.flags.writeable = False
            self._fitness[beams] = fitness
        return self._fitness[beams]

    def reweighted(self, weights: OrganWeights) -> Remembering:
        """Return the same for other organ weights, of which nothing is known yet."""
        return Remembering(self.asked.reweighted(weights))
