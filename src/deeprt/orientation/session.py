"""An editable set of beams: a network proposes, the user disposes, and every edit is answered with a new prediction.

The predicted fitness is always that of the current set, so that the network corrects itself as well as the user.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deeprt.beams import BeamAngles, BeamSelection
from deeprt.errors import InputError
from deeprt.orientation.candidates import SAME_DEG, check_enough, excluded, separations_deg
from deeprt.orientation.predictor import FitnessPredictor, Remembering
from deeprt.orientation.teacher import OrganWeights
from deeprt.progress import Progress

_ROUNDING_DEG = 1e-6  # by which a separation that is just kept may seem too small


@dataclass(frozen=True)
class SessionBeam:
    """A beam of the set; a locked one is neither moved nor removed."""

    angles: BeamAngles
    locked: bool = False


@dataclass(frozen=True, eq=False)
class SessionState:
    """What there is to show after an operation.

    Parameters
    ----------
    beams : in the order of the plan
    n_beams : wished number of beams
    excluded_deg : sectors of gantry angles that are not proposed, each (from, to) clockwise
    min_separation_deg : between central axes of a proposed beam and all others
    weights : organ weights that the prediction is for
    fitness : (n_candidates,) float32, 0 to 1, for the current set; not to be written to
    selectable : (n_candidates,) bool; neither chosen nor excluded nor too close
    best : position of the fittest selectable candidate; None if there is none
    notes : where the prediction leaves what the network was trained on, one sentence each
    """

    beams: tuple[SessionBeam, ...]
    n_beams: int
    excluded_deg: tuple[tuple[float, float], ...]
    min_separation_deg: float
    weights: OrganWeights
    fitness: NDArray[np.float32]
    selectable: NDArray[np.bool_]
    best: int | None
    notes: tuple[str, ...]

    @property
    def angles(self) -> tuple[BeamAngles, ...]:
        """Angles of the beams."""
        return tuple(b.angles for b in self.beams)


class BeamSession:
    """Beams of one patient that are chosen, edited, and chosen on.

    Positions of beams count from 0; messages number them from 1, as the plan does. Every operation returns the new
    state and is one step to undo, unless it changed nothing. One that fails leaves everything as it was.

    The user's own hand overrides excluded sectors and the minimum separation, which bind proposals only; but no two
    beams may come from one direction, whatever their collimator. Nor do new constraints remove a chosen beam.

    Parameters
    ----------
    weights : that the predictor was made with
    beams : to begin with
    n_beams : wished number of beams
    """

    def __init__(
        self,
        predictor: FitnessPredictor,
        weights: OrganWeights,
        *,
        beams: Sequence[SessionBeam] = (),
        n_beams: int = 5,
        excluded_deg: Sequence[tuple[float, float]] = (),
        min_separation_deg: float = 0.0,
    ) -> None:
        self._candidates = predictor.candidates
        self._asked = [(weights, Remembering(predictor))]
        empty = SessionState(
            beams=(),
            n_beams=_checked_number(n_beams),
            excluded_deg=_checked_sectors(excluded_deg),
            min_separation_deg=_checked_separation(min_separation_deg),
            weights=weights,
            fitness=np.zeros(0, np.float32),
            selectable=np.zeros(0, bool),
            best=None,
            notes=(),
        )
        self._state = self._predicted(_with_beams(empty, tuple(beams)))
        self._past: list[SessionState] = []
        self._future: list[SessionState] = []

    @property
    def candidates(self) -> tuple[BeamAngles, ...]:
        """Beams that may be proposed."""
        return self._candidates

    @property
    def state(self) -> SessionState:
        """The current state."""
        return self._state

    @property
    def can_undo(self) -> bool:
        """Whether there is an operation to take back."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """Whether there is an operation to do again."""
        return bool(self._future)

    def add_best(self) -> SessionState:
        """Add the fittest selectable candidate."""
        return self._enter(self._with_best(self._state))

    def complete(self, n_beams: int) -> SessionState:
        """Add the fittest candidates one by one, each predicted for those before, up to a new wished number.

        Raises
        ------
        InputError
            If there are that many beams already, or the selectable candidates do not suffice; none is added then.
        """
        edited = replace(self._state, n_beams=_checked_number(n_beams))
        if len(edited.beams) >= n_beams:
            raise InputError(f"The number of beams is {len(edited.beams)} already; remove some or ask for more.")
        check_enough(n_beams - len(edited.beams), int(edited.selectable.sum()))
        while len(edited.beams) < n_beams:
            edited = self._predicted(self._with_best(edited))
        return self._enter(edited)

    def add(self, angles: BeamAngles) -> SessionState:
        """Add any beam that is not there, a candidate or not, also in an excluded sector."""
        return self._enter(_with_beams(self._state, (*self._state.beams, SessionBeam(angles))))

    def move(self, position: int, angles: BeamAngles) -> SessionState:
        """Give a beam other angles, also in an excluded sector."""
        self._unlocked(position, "move")
        return self._replaced(position, SessionBeam(angles))

    def remove(self, position: int) -> SessionState:
        """Take a beam out of the set."""
        self._unlocked(position, "remove")
        beams = self._state.beams
        return self._enter(replace(self._state, beams=beams[:position] + beams[position + 1 :]))

    def lock(self, position: int, locked: bool = True) -> SessionState:
        """Keep a beam from being moved or removed, or no longer."""
        return self._replaced(position, replace(self._beam(position), locked=locked))

    def exchange(self, n_sweeps: int = 1, progress: Progress | None = None) -> SessionState:
        """Exchange beams that are not locked, each tried ``n_sweeps`` times, where that lowers the coarse objective.

        What comes in is no more than a proposal: sectors and separation bind it. It takes the place of what goes.
        """
        if n_sweeps < 0:
            raise InputError(f"The number of sweeps must not be negative, got {n_sweeps}.")
        state = self._state
        locked, free = ([b.angles for b in state.beams if b.locked is kept] for kept in (True, False))
        found = self._predictor(state.weights).asked.exchanged(
            [*locked, *free],
            n_kept=len(locked),
            n_sweeps=n_sweeps,
            selectable=~excluded(self._candidates, state.excluded_deg),
            min_separation_deg=max(state.min_separation_deg - _ROUNDING_DEG, SAME_DEG),
            progress=progress,
        )
        coming_in = (SessionBeam(angles) for angles in found if angles not in state.angles)
        beams = tuple(b if b.angles in found else next(coming_in) for b in state.beams)
        return self._enter(replace(state, beams=beams))

    def take(self, angles: Sequence[BeamAngles]) -> SessionState:
        """Take other beams in place of all; locked ones must be among them and stay locked."""
        for position, beam in enumerate(self._state.beams):
            if beam.locked and beam.angles not in angles:
                raise InputError(f"Beam {position + 1} is locked and not among the new beams; unlock it first.")
        locked = {b.angles for b in self._state.beams if b.locked}
        return self._enter(_with_beams(self._state, tuple(SessionBeam(a, a in locked) for a in angles)))

    def clear(self) -> SessionState:
        """Remove all beams but the locked ones."""
        return self._enter(replace(self._state, beams=tuple(b for b in self._state.beams if b.locked)))

    def exclude(self, sectors_deg: Sequence[tuple[float, float]]) -> SessionState:
        """Propose no beam in these sectors of gantry angles, (from, to) clockwise; they replace earlier ones."""
        return self._enter(replace(self._state, excluded_deg=_checked_sectors(sectors_deg)))

    def separate(self, min_separation_deg: float) -> SessionState:
        """Propose no beam whose central axis is closer than this to another one's."""
        return self._enter(replace(self._state, min_separation_deg=_checked_separation(min_separation_deg)))

    def reweight(self, weights: OrganWeights) -> SessionState:
        """Predict for other organ weights."""
        return self._enter(replace(self._state, weights=weights))

    def undo(self) -> SessionState:
        """Take the last operation back."""
        if not self._past:
            raise InputError("There is nothing to undo.")
        self._future.append(self._state)
        self._state = self._past.pop()
        return self._state

    def redo(self) -> SessionState:
        """Do again what was undone last; a new operation forgets it."""
        if not self._future:
            raise InputError("There is nothing to redo.")
        self._past.append(self._state)
        self._state = self._future.pop()
        return self._state

    def selection(self) -> BeamSelection:
        """Return the set as if it had been chosen beam by beam in its present order.

        The fitness of each step is what is predicted for the beams before it. A beam that is no candidate becomes
        one, with the fitness of the candidate nearest to it. There are no objectives, and no beam counts as given.
        """
        chosen, candidates = self._state.angles, list(self._candidates)
        if not chosen:
            raise InputError("No beam is chosen yet; add one first.")
        nearest = list(range(len(candidates)))
        for angles in chosen:
            if angles not in candidates:
                nearest.append(int(np.argmin(separations_deg(self._candidates, angles))))
                candidates.append(angles)
        predictor = self._predictor(self._state.weights)
        return BeamSelection(
            candidates=tuple(candidates),
            chosen=tuple(candidates.index(a) for a in chosen),
            fitness=np.stack([predictor.fitness(chosen[:n])[nearest] for n in range(len(chosen))]),
            objectives=(),
            n_given=0,
            source="network",
            timing_s={},
        )

    def _enter(self, edited: SessionState) -> SessionState:
        """Predict for an edited state and go on from it; last, so that whatever fails before changes nothing."""
        if _content(edited) != _content(self._state):
            state = self._predicted(edited)
            self._past.append(self._state)
            self._future.clear()
            self._state = state
        return self._state

    def _predicted(self, edited: SessionState) -> SessionState:
        """State with the fitness of its beams and what follows from it."""
        predictor = self._predictor(edited.weights)
        fitness = predictor.fitness(edited.angles)
        selectable = ~excluded(self._candidates, edited.excluded_deg)
        least_deg = max(edited.min_separation_deg - _ROUNDING_DEG, SAME_DEG)
        for angles in edited.angles:
            selectable &= separations_deg(self._candidates, angles) >= least_deg
        best = int(np.argmax(np.where(selectable, fitness, -np.inf))) if selectable.any() else None
        notes = predictor.asked.notes(max(edited.n_beams, len(edited.beams)))
        return replace(edited, fitness=fitness, selectable=selectable, best=best, notes=notes)

    def _predictor(self, weights: OrganWeights) -> Remembering:
        for known, predictor in self._asked:
            if known == weights:
                return predictor
        predictor = self._asked[0][1].reweighted(weights)
        self._asked.append((weights, predictor))
        return predictor

    def _with_best(self, state: SessionState) -> SessionState:
        if state.best is None:
            raise InputError(
                f"No candidate is left to choose as beam {len(state.beams) + 1}; "
                "exclude less, lower the minimum separation or remove a beam."
            )
        return replace(state, beams=(*state.beams, SessionBeam(self._candidates[state.best])))

    def _replaced(self, position: int, beam: SessionBeam) -> SessionState:
        self._beam(position)
        beams = self._state.beams
        return self._enter(_with_beams(self._state, (*beams[:position], beam, *beams[position + 1 :])))

    def _beam(self, position: int) -> SessionBeam:
        if not 0 <= position < len(self._state.beams):
            raise InputError(f"There is no beam {position + 1}; the set has {len(self._state.beams)}.")
        return self._state.beams[position]

    def _unlocked(self, position: int, verb: str) -> None:
        if self._beam(position).locked:
            raise InputError(f"Beam {position + 1} is locked; unlock it to {verb} it.")


def _content(state: SessionState) -> tuple[object, ...]:
    """What operations change; the rest of a state follows from it."""
    return (state.beams, state.n_beams, state.excluded_deg, state.min_separation_deg, state.weights)


def _with_beams(state: SessionState, beams: tuple[SessionBeam, ...]) -> SessionState:
    """State with other beams, unless two of them come from one direction."""
    angles = [b.angles for b in beams]
    for number, a in enumerate(angles[1:], start=2):
        same = np.flatnonzero(separations_deg(angles[: number - 1], a) < SAME_DEG)
        if same.size:
            raise InputError(
                f"Beam {same[0] + 1} comes from gantry {a.gantry_deg:.1f}° and couch {a.couch_deg:.1f}° already; "
                "choose another direction."
            )
    return replace(state, beams=beams)


def _checked_number(n_beams: int) -> int:
    if n_beams < 1:
        raise InputError(f"The number of beams must be at least 1, got {n_beams}.")
    return n_beams


def _checked_sectors(sectors_deg: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    for low, high in sectors_deg:
        if not (math.isfinite(low) and math.isfinite(high) and abs(high - low) < 360):
            raise InputError(f"The sector from {low:g}° to {high:g}° must have finite ends less than 360° apart.")
    return tuple((float(low), float(high)) for low, high in sectors_deg)


def _checked_separation(min_separation_deg: float) -> float:
    if not 0 <= min_separation_deg <= 180:
        raise InputError(f"The minimum separation must be from 0° to 180°, got {min_separation_deg:g}°.")
    return float(min_separation_deg)
