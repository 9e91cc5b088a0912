"""Beams that each method proposes: a network asked again after each beam, or a baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from deeprt.beams import BeamAngles
from deeprt.cohort.labels import PatientLabels
from deeprt.networks.anatomy import channels
from deeprt.networks.paper_network import PaperNetwork
from deeprt.orientation.candidates import separations_deg
from deeprt.orientation.network_prediction import predicted_fitness
from deeprt.orientation.selection import equispaced_angles
from deeprt.orientation.views import CandidateViews
from deeprt.training.cohort import Cohort, CohortPatient, read_all_labels
from deeprt.training.dataset import AnatomyStates

Fitness = Callable[[tuple[int, ...]], NDArray[np.float32]]
"""Fitness of every candidate, (n_candidates,), for the positions of those chosen so far, in their order."""


def propose(fitness: Fitness, n_beams: int, *, given: Sequence[int] = ()) -> tuple[int, ...]:
    """Choose the fittest candidate that is not chosen yet, again and again.

    >>> propose(lambda chosen: np.array([0.2, 1.0, 0.9], np.float32), 2)
    (1, 2)
    """
    chosen = tuple(given)
    while len(chosen) < n_beams:
        chosen = (*chosen, next_beam(fitness(chosen), chosen))
    return chosen


def next_beam(fitness: NDArray[np.floating], chosen: Sequence[int]) -> int:
    """The fittest candidate that is not chosen yet."""
    open_ = fitness.astype(np.float64)
    open_[list(chosen)] = -np.inf
    return int(np.argmax(open_))


def exchange(views: CandidateViews, chosen: Sequence[int]) -> tuple[int, ...]:
    """Put each chosen beam to the test once, as `deeprt beams --select network` does; returns the set."""
    problem = views.problem
    found = views.exchanged(
        [problem.candidates[b] for b in chosen],
        n_kept=0,
        n_sweeps=1,
        selectable=problem.selectable,
        min_separation_deg=problem.min_separation_deg,
    )
    return tuple(problem.candidates.index(a) for a in found)


class AskedViews:
    """Views of one weighting that several methods ask for; those of a set of beams are computed once."""

    def __init__(self, views: CandidateViews) -> None:
        self._views = views
        self._features: dict[frozenset[int], NDArray[np.float32]] = {}

    @property
    def candidates(self) -> tuple[BeamAngles, ...]:
        """Beams to choose from."""
        return self._views.problem.candidates

    @property
    def axes(self) -> NDArray[np.float32]:
        """Axes of the candidates."""
        return self._views.axes

    def of(self, chosen: Sequence[int]) -> NDArray[np.float32]:
        """Features of every candidate, (n_candidates, n_features)."""
        key = frozenset(chosen)
        if key not in self._features:
            self._features[key] = self._views.of([self.candidates[b] for b in sorted(key)])
        return self._features[key]


def by_views(network: nn.Module, views: AskedViews) -> Fitness:
    """The default network."""
    return lambda chosen: predicted_fitness(network, views.of(chosen), views.axes)


def by_coarse(views: AskedViews) -> Fitness:
    """The coarse column generation that the default network corrects, by itself."""
    return lambda chosen: views.of(chosen)[:, 0]


def by_anatomy(network: PaperNetwork, patient: AnatomyStates, scenario: int) -> Fitness:
    """The paper's network or DNNFull; the anatomy is encoded once."""
    n_candidates = patient.labels.fitness.shape[1]
    with torch.inference_mode():
        encoded = network.encode(channels(patient.anatomy, patient.weights[scenario : scenario + 1]))

    def fitness(chosen: tuple[int, ...]) -> NDArray[np.float32]:
        mask = torch.zeros(1, n_candidates, dtype=torch.bool)
        mask[0, list(chosen)] = True
        with torch.inference_mode():
            return np.asarray(network(encoded, mask)[0].numpy())

    return fitness


def by_curves(curves: Mapping[int, NDArray[np.float32]]) -> Fitness:
    """The same curve for every patient, by the number of chosen beams."""
    return lambda chosen: curves[len(chosen)]


def mean_curve_of(folder: Path, cohort: Cohort, patients: Sequence[CohortPatient]) -> Fitness:
    """The mean curves of labeled patients."""
    return by_curves(mean_curves(read_all_labels(folder, cohort, patients)))


def mean_curves(labels: Sequence[PatientLabels]) -> dict[int, NDArray[np.float32]]:
    """Mean fitness of every candidate over all states of patients, by number of chosen beams."""
    fitness = np.concatenate([own.fitness for own in labels]).astype(np.float32)
    n_chosen = np.concatenate([own.chosen.sum(axis=1) for own in labels])
    return {int(n): fitness[n_chosen == n].mean(axis=0) for n in np.unique(n_chosen)}


def equispaced_beams(candidates: Sequence[BeamAngles], n_beams: int) -> tuple[int, ...]:
    """Candidates nearest to equal steps of the gantry from 0° on."""
    return tuple(int(np.argmin(separations_deg(candidates, a))) for a in equispaced_angles(n_beams))


def random_beams(n_candidates: int, n_beams: int, seed: Sequence[int]) -> tuple[int, ...]:
    """Different candidates, all equally likely."""
    rng = np.random.default_rng(seed)
    return tuple(int(b) for b in rng.choice(n_candidates, n_beams, replace=False))
