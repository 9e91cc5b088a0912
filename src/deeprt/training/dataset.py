"""Inputs of the networks for the labeled states of patients, kept beside the labels they belong to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deeprt.case import with_tuning_structures
from deeprt.cohort.labels import PatientLabels
from deeprt.errors import InputError
from deeprt.files import read_arrays, write_arrays
from deeprt.machine_file import read_machine
from deeprt.networks.anatomy import AnatomyInput, anatomy_shares, channels, rotated
from deeprt.networks.angle_network import AngleNetwork
from deeprt.networks.paper_network import PaperNetwork
from deeprt.orientation.candidates import axes_of, candidate_beams
from deeprt.orientation.views import COARSE, candidate_views
from deeprt.progress import Progress, Silent
from deeprt.structures import Role
from deeprt.training.cohort import Cohort, CohortPatient, read_all_labels
from deeprt.training.processes import in_processes

InputKind = Literal["views", "anatomy"]
Arrays = dict[str, NDArray[Any]]


class ViewData:
    """States as the default network takes them.

    Parameters
    ----------
    features : (n_states, n_candidates, n_features) float16
    fitness : (n_states, n_candidates) float16
    axes : (n_candidates, 3) float32
    """

    def __init__(self, features: NDArray[np.float16], fitness: NDArray[np.float16], axes: NDArray[np.float32]) -> None:
        self.features, self.fitness = torch.from_numpy(features), torch.from_numpy(fitness)
        self.axes = torch.from_numpy(axes)

    def __len__(self) -> int:
        return len(self.fitness)

    @property
    def n_candidates(self) -> int:
        """Number of candidates of every state."""
        return self.fitness.shape[1]

    def predict(self, network: nn.Module, states: Sequence[int]) -> Tensor:
        """Fitness that a network predicts for states, (n, n_candidates)."""
        assert isinstance(network, AngleNetwork)
        device = next(network.parameters()).device
        predicted: Tensor = network(self.features[states].float().to(device), self.axes.to(device))
        return predicted

    def loss(self, network: nn.Module, states: Sequence[int], rng: np.random.Generator | None) -> Tensor:
        """Mean squared error; nothing to augment, since turning or mirroring a patient changes no feature."""
        predicted = self.predict(network, states)
        return nn.functional.mse_loss(predicted, self.fitness[states].float().to(predicted.device))


@dataclass(frozen=True, eq=False)
class AnatomyStates:
    """One patient's states as the paper's network takes them.

    Parameters
    ----------
    anatomy : structures on the cube
    weights : (n_scenarios, n_structures) float32, in the order of the anatomy's names, 1 for targets
    labels : of the patient
    """

    anatomy: AnatomyInput
    weights: Tensor
    labels: PatientLabels


class AnatomyData:
    """States as the paper's network takes them; in training turned by quarters of the circle."""

    def __init__(self, patients: Sequence[AnatomyStates]) -> None:
        self.patients = tuple(patients)
        self._index = [(p, s) for p, patient in enumerate(self.patients) for s in range(patient.labels.scenario.size)]

    def __len__(self) -> int:
        return len(self._index)

    @property
    def n_candidates(self) -> int:
        """Number of candidates of every state."""
        return len(self.patients[0].labels.chosen[0])

    def predict(self, network: nn.Module, states: Sequence[int]) -> Tensor:
        """Fitness that a network predicts for states, (n, n_candidates)."""
        return self._predict(network, states, 0)

    def loss(self, network: nn.Module, states: Sequence[int], rng: np.random.Generator | None) -> Tensor:
        """Mean squared error, in training with the patient turned by a random quarter."""
        turns = 0 if rng is None else int(rng.integers(4))
        predicted = self._predict(network, states, turns)
        fitness = torch.stack([torch.from_numpy(self.patients[p].labels.fitness[s]) for p, s in self._at(states)])
        turned = fitness.roll(turns * fitness.shape[1] // 4, dims=1)
        return nn.functional.mse_loss(predicted, turned.float().to(predicted.device))

    def _at(self, states: Sequence[int]) -> list[tuple[int, int]]:
        return [self._index[n] for n in states]

    def _predict(self, network: nn.Module, states: Sequence[int], quarter_turns: int) -> Tensor:
        """States of one scenario lie together and share the encoder's work."""
        assert isinstance(network, PaperNetwork)
        device, places = next(network.parameters()).device, self._at(states)
        scenarios = [(p, int(self.patients[p].labels.scenario[s])) for p, s in places]
        unique = list(dict.fromkeys(scenarios))
        images = torch.cat([channels(self.patients[p].anatomy, self.patients[p].weights[n : n + 1]) for p, n in unique])
        features = network.encode(rotated(images, quarter_turns).to(device))
        chosen = torch.stack([torch.from_numpy(self.patients[p].labels.chosen[s]) for p, s in places])
        turned = chosen.roll(quarter_turns * chosen.shape[1] // 4, dims=1).to(device)
        predicted: Tensor = network(features[[unique.index(s) for s in scenarios]], turned)
        return predicted


def prepare_inputs(
    folder: Path, cohort: Cohort, kind: InputKind, *, n_jobs: int = 1, progress: Progress | None = None
) -> None:
    """Compute the inputs that are missing, about a quarter of the labels' time for views, seconds for anatomy."""
    labels = read_all_labels(folder, cohort, cohort.patients)
    (folder / kind).mkdir(exist_ok=True)
    pairs = zip(cohort.patients, labels, strict=True)
    missing = [(p, own) for p, own in pairs if _read_inputs(_file(folder, kind, p), _key(kind, own)) is None]
    work, n_all = partial(_make_inputs, folder, cohort, kind), len(cohort.patients)
    in_processes("inputs", work, missing, n_all=n_all, n_jobs=n_jobs, report=progress or Silent())


def view_data(folder: Path, cohort: Cohort, patients: Sequence[CohortPatient]) -> ViewData:
    """States of patients for the default network; their inputs must be prepared."""
    labels = read_all_labels(folder, cohort, patients)
    features = [_inputs(folder, "views", p, own)["features"] for p, own in zip(patients, labels, strict=True)]
    clearance = read_machine(cohort.machine).clearance
    axes = axes_of(candidate_beams(cohort.labels.selection.candidates, clearance))
    fitness = np.concatenate([own.fitness for own in labels])
    return ViewData(np.concatenate(features), fitness, axes.astype(np.float32))


def anatomy_data(folder: Path, cohort: Cohort, patients: Sequence[CohortPatient]) -> AnatomyData:
    """States of patients for the paper's network; their inputs must be prepared."""
    states = []
    for patient, labels in zip(patients, read_all_labels(folder, cohort, patients), strict=True):
        content = _inputs(folder, "anatomy", patient, labels)
        names = tuple(str(n) for n in content["names"])
        anatomy = AnatomyInput(names, content["relative_prescription"], content["shares"])
        states.append(AnatomyStates(anatomy, torch.from_numpy(content["weights"]), labels))
    return AnatomyData(states)


def _make_inputs(folder: Path, cohort: Cohort, kind: InputKind, patient: tuple[CohortPatient, PatientLabels]) -> None:
    """Compute and write the inputs of one patient."""
    who, labels = patient
    made = _views(who, labels, cohort) if kind == "views" else _anatomy(who, labels)
    write_arrays(_file(folder, kind, who), {"key": _key(kind, labels), **made})


def _views(patient: CohortPatient, labels: PatientLabels, cohort: Cohort) -> Arrays:
    weightings = [labels.organ_weights(n) for n in range(len(labels.weights))]
    machine, settings = read_machine(cohort.machine), cohort.labels.selection
    views = candidate_views(patient.load(), machine, settings, weightings=weightings)
    candidates = views[0].problem.candidates
    features = []
    for scenario, chosen in zip(labels.scenario, labels.chosen, strict=True):
        features.append(views[scenario].of([candidates[b] for b in np.flatnonzero(chosen)]))
    return {"features": np.stack(features).astype(np.float16)}


def _anatomy(patient: CohortPatient, labels: PatientLabels) -> Arrays:
    case = with_tuning_structures(patient.load())
    anatomy = anatomy_shares(case)
    by_name = {s.name: s for s in case.structures}
    rows = []
    for n in range(len(labels.weights)):
        weights = labels.organ_weights(n)
        structures = [by_name[name] for name in anatomy.names]
        rows.append([1.0 if s.role is Role.TARGET else weights.of(s) for s in structures])
    return {
        "names": np.array(anatomy.names),
        "relative_prescription": anatomy.relative_prescription,
        "shares": anatomy.shares,
        "weights": np.array(rows, np.float32),
    }


def _inputs(folder: Path, kind: InputKind, patient: CohortPatient, labels: PatientLabels) -> Arrays:
    content = _read_inputs(_file(folder, kind, patient), _key(kind, labels))
    if content is None:
        raise ValueError(f"Patient {patient.id} has no inputs of the kind '{kind}'; prepare_inputs makes them.")
    return content


def _read_inputs(file: Path, key: str) -> Arrays | None:
    """Inputs in a file; None where it is missing, damaged, or belongs to other labels."""
    try:
        content = read_arrays(file)
    except (FileNotFoundError, InputError):
        return None
    return content if str(content.pop("key", "")) == key else None


def _file(folder: Path, kind: InputKind, patient: CohortPatient) -> Path:
    return folder / kind / f"{patient.id}.npz"


def _key(kind: InputKind, labels: PatientLabels) -> str:
    """Hash of what inputs follow from, apart from the code, and from the patient where labels do not name it."""
    settings = {name: value for name, value in asdict(COARSE).items() if name != "sweeps"}  # which changes no view
    digest = hashlib.sha256(f"{kind} {labels.digest} {settings if kind == 'views' else ''}{labels.about}".encode())
    for array in (labels.weights, labels.scenario, labels.chosen):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
