"""The shipped network asked for the next beam: views of the candidates go in, fitness comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from deeprt.beams import BeamAngles
from deeprt.case import PatientCase, union
from deeprt.errors import InputError
from deeprt.machine import Machine
from deeprt.networks.angle_network import AngleConfig, AngleNetwork
from deeprt.networks.checkpoint import ModelCard, load_network
from deeprt.orientation.teacher import CandidateSettings, OrganWeights
from deeprt.orientation.views import FEATURES, CandidateViews, candidate_views

KIND = "angle network"  # as in its model card
SHIPPED = "deepboo.safetensors"


@dataclass(frozen=True, eq=False)
class NetworkPredictor:
    """A `deeprt.orientation.predictor.FitnessPredictor` by the network that ships with the package.

    Parameters
    ----------
    network, card : as loaded
    views : of the patient, which hold the work that does not depend on the chosen beams
    case, machine, settings : of the patient, for other weights
    notes : where it is used outside what the network was trained on, one sentence each
    """

    network: AngleNetwork
    card: ModelCard
    views: CandidateViews
    case: PatientCase
    machine: Machine
    settings: CandidateSettings
    notes: tuple[str, ...]

    @property
    def candidates(self) -> tuple[BeamAngles, ...]:
        """Beams whose fitness is predicted."""
        return self.views.problem.candidates

    def fitness(self, chosen: Sequence[BeamAngles]) -> NDArray[np.float32]:
        """Predict the fitness, (n_candidates,), 0 to 1; chosen beams need not be candidates."""
        features = torch.from_numpy(self.views.of(chosen))[None]
        with torch.inference_mode():
            return np.asarray(self.network(features, torch.from_numpy(self.views.axes))[0].numpy())

    def reweighted(self, weights: OrganWeights) -> NetworkPredictor:
        """Return the same patient's with other organ weights; rays are not traced again."""
        settings = replace(self.settings, weights=weights)
        return replace(self, settings=settings, views=self.views.reweighted(self.case, self.machine, settings))


def network_predictor(
    case: PatientCase,
    machine: Machine,
    settings: CandidateSettings,
    *,
    n_beams: int,
    device: str = "cpu",
) -> NetworkPredictor:
    """Set the network up for a patient.

    Parameters
    ----------
    settings : candidates, constraints, organ weights, and the network's file
    n_beams : wished, to say whether the network knows plans of that many

    Raises
    ------
    InputError
        If the network's file is damaged.
    """
    card, network = network_of(settings)
    views = candidate_views(case, machine, settings, device=device)[0]
    return NetworkPredictor(
        network, card, views, case, machine, settings, beyond_training(card, case, settings, n_beams)
    )


def network_of(settings: CandidateSettings) -> tuple[ModelCard, AngleNetwork]:
    """The network that settings ask for, and its card."""
    return shipped_network() if settings.network is None else _load(Path(settings.network))


@cache
def shipped_network() -> tuple[ModelCard, AngleNetwork]:
    """The network that ships with the package, and its card."""
    with resources.as_file(resources.files("deeprt") / "data" / "models") as folder:
        return _load(folder / SHIPPED)


def beyond_training(card: ModelCard, case: PatientCase, settings: CandidateSettings, n_beams: int) -> tuple[str, ...]:
    """Where a patient and a question lie outside what the network was trained on, one sentence each."""
    notes = []
    organs = {s.organ for s in case.structures}
    if missing := [o for o in card.organs if o not in organs]:
        notes.append(f"The network has learned from {card.site} patients; this one has no {' and no '.join(missing)}.")
    if settings.candidates != card.candidates:
        notes.append(f"The network has learned with candidates {card.candidates}, not {settings.candidates}.")
    if n_beams > card.n_beams_max:
        notes.append(f"The network has learned from plans of up to {card.n_beams_max} beams, not {n_beams}.")
    extent = targets_extent_mm(case)
    if np.any(extent > np.array(card.extent_mm) + 1):
        own, known = (" x ".join(f"{e:.0f}" for e in size) for size in (extent, card.extent_mm))
        notes.append(f"The targets extend over {own} mm (L, P, S), beyond the largest of the training, {known} mm.")
    return tuple(notes)


def targets_extent_mm(case: PatientCase) -> NDArray[np.float64]:
    """Box around the prescribed targets along L, P and S, (3,)."""
    points = case.grid.points_lps(np.flatnonzero(union("targets", case.targets).fraction >= 0.5))
    return np.asarray(np.ptp(points, axis=0) + case.grid.spacing_mm)


def _load(file: Path) -> tuple[ModelCard, AngleNetwork]:
    card, network = load_network(file, {KIND: (AngleConfig, AngleNetwork)})
    assert isinstance(network, AngleNetwork)
    if network.config.n_features != len(FEATURES):
        raise InputError(
            f"The network '{file}' takes {network.config.n_features} numbers of a candidate, this version makes "
            f"{len(FEATURES)}; train it anew."
        )
    return card, network
