"""A network asked for the next beam: views of the candidates go in, fitness comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from deeprt.beams import BeamAngles
from deeprt.case import PatientCase
from deeprt.errors import InputError
from deeprt.machine import Machine
from deeprt.networks.angle_network import AngleConfig, AngleNetwork
from deeprt.networks.beyond_training import larger_targets, missing_organs, other_number
from deeprt.networks.checkpoint import ModelCard, load_network
from deeprt.orientation.teacher import CandidateSettings, OrganWeights
from deeprt.orientation.views import FEATURES, CandidateViews, candidate_views
from deeprt.progress import Progress

KIND = "angle network"  # as in its model card
SHIPPED = "deepboo.safetensors"

KnownNetwork = tuple[ModelCard, AngleNetwork]
"""A network that was read, after its card."""


@dataclass(frozen=True, eq=False)
class NetworkPredictor:
    """A `deeprt.orientation.predictor.FitnessPredictor` by a network.

    Parameters
    ----------
    views : of the patient, which hold the work that does not depend on the chosen beams
    patient_notes : where the patient lies outside what the network was trained on, one sentence each
    card : of the network; what it was trained on is unknown if None
    """

    network: nn.Module
    views: CandidateViews
    patient_notes: tuple[str, ...] = ()
    card: ModelCard | None = None

    @property
    def candidates(self) -> tuple[BeamAngles, ...]:
        """Beams whose fitness is predicted."""
        return self.views.problem.candidates

    def notes(self, n_beams: int) -> tuple[str, ...]:
        """Where a patient and a number of beams lie outside what the network was trained on, one sentence each."""
        return self.patient_notes if self.card is None else (*self.patient_notes, *other_number(self.card, n_beams))

    def fitness(self, chosen: Sequence[BeamAngles]) -> NDArray[np.float32]:
        """Predict the fitness, (n_candidates,), 0 to 1; chosen beams need not be candidates."""
        return predicted_fitness(self.network, self.views.of(chosen), self.views.axes)

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
        """Exchange beams for others that lower the coarse objective; the network has no part in it."""
        return self.views.exchanged(
            chosen,
            n_kept=n_kept,
            n_sweeps=n_sweeps,
            selectable=selectable,
            min_separation_deg=min_separation_deg,
            progress=progress,
        )

    def reweighted(self, weights: OrganWeights) -> NetworkPredictor:
        """Return the same patient's with other organ weights; rays are not traced again."""
        return replace(self, views=self.views.reweighted(weights))


def predicted_fitness(
    network: nn.Module, features: NDArray[np.float32], axes: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Fitness of each candidate, (n_candidates,), for its features and the axes of all, see `CandidateViews`."""
    with torch.inference_mode():
        return np.asarray(network(torch.from_numpy(features)[None], torch.from_numpy(axes))[0].numpy())


def network_predictor(
    case: PatientCase,
    machine: Machine,
    settings: CandidateSettings,
    *,
    known: KnownNetwork | None = None,
    device: str = "cpu",
) -> NetworkPredictor:
    """Set the network up for a patient.

    Parameters
    ----------
    settings : candidates, constraints, organ weights, and the network's file
    known : the network of that file, where it has been read already

    Raises
    ------
    InputError
        If the network's file is damaged.
    """
    card, network = known or network_of(settings)
    views = candidate_views(case, machine, settings, device=device)[0]
    return NetworkPredictor(network, views, beyond_training(card, case, settings), card)


def network_of(settings: CandidateSettings) -> KnownNetwork:
    """The network that settings ask for."""
    return shipped_network() if settings.network is None else _load(Path(settings.network))


@cache
def shipped_network() -> KnownNetwork:
    """The network that ships with the package."""
    with resources.as_file(resources.files("deeprt") / "data" / "models") as folder:
        return _load(folder / SHIPPED)


def beyond_training(card: ModelCard, case: PatientCase, settings: CandidateSettings) -> tuple[str, ...]:
    """Where a patient and candidates lie outside what the network was trained on, one sentence each."""
    notes = missing_organs(card, case)
    if settings.candidates != card.candidates:
        notes += (f"The {card.network} has learned with candidates {card.candidates}, not {settings.candidates}.",)
    return (*notes, *larger_targets(card, case))


def _load(file: Path) -> KnownNetwork:
    card, network = load_network(file, {KIND: (AngleConfig, AngleNetwork)})
    assert isinstance(network, AngleNetwork)
    if network.config.n_features != len(FEATURES):
        raise InputError(
            f"The network '{file}' takes {network.config.n_features} numbers of a candidate, this version makes "
            f"{len(FEATURES)}; train it anew."
        )
    return card, network
