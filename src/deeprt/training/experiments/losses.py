"""How well fitness is predicted: the trainings, and squared errors on test patients by number of chosen beams."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from deeprt.progress import Progress
from deeprt.training.beams import (
    DEFAULT_SETTINGS,
    PAPER_SETTINGS,
    BeamNetworkName,
    check_cohort,
    input_kind,
    states_of,
)
from deeprt.training.cohort import Cohort, CohortPatient, read_all_labels
from deeprt.training.dataset import prepare_inputs, view_data
from deeprt.training.experiments.proposals import mean_curves
from deeprt.training.experiments.setup import FIRST_FOLD, Setup, first_training, network_name, trained
from deeprt.training.experiments.statistics import COARSE, MEAN_CURVE, RANDOM
from deeprt.training.loop import RESULT_FILE
from deeprt.training.measuring.parts import in_parts
from deeprt.training.measuring.times import hardware
from deeprt.training.measuring.trainings import curve_of, settings_of, settings_text, train_options

_BATCH = 16  # states predicted at a time; those of one scenario share the paper's encoder
_SEED = 0  # of the random curves


@dataclass(frozen=True, eq=False)
class States:
    """Labeled states of some patients, in the order of `deeprt.training.beams.states_of`.

    Parameters
    ----------
    patient : (n_states,) positions among the patients
    scenario : (n_states,)
    in_run : (n_states,) bool, whether a state is one of a full run rather than a random start
    chosen : (n_states, n_candidates) bool
    fitness : (n_states, n_candidates) float32
    """

    patient: NDArray[np.int64]
    scenario: NDArray[np.int64]
    in_run: NDArray[np.bool_]
    chosen: NDArray[np.bool_]
    fitness: NDArray[np.float32]

    @property
    def n_chosen(self) -> NDArray[np.int64]:
        """Number of chosen beams, (n_states,)."""
        return np.asarray(self.chosen.sum(axis=1))


def read_states(folder: Path, cohort: Cohort, patients: Sequence[CohortPatient]) -> States:
    """States of patients."""
    labels = read_all_labels(folder, cohort, patients)
    return States(
        patient=np.repeat(np.arange(len(labels)), [own.scenario.size for own in labels]),
        scenario=np.concatenate([own.scenario for own in labels]),
        in_run=np.concatenate([own.scenario < len(own.run_chosen) for own in labels]),
        chosen=np.concatenate([own.chosen for own in labels]),
        fitness=np.concatenate([own.fitness for own in labels]).astype(np.float32),
    )


def training(setup: Setup, progress: Progress) -> dict[str, Any]:
    """How the networks were trained, and on what."""
    folds: dict[str, list[dict[str, Any]]] = {}
    settings, options = {}, {}
    for name, fold in trained(setup.runs):
        folder = setup.runs / name / f"fold-{fold}"
        result = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
        folds.setdefault(name, []).append({**result, "curve": curve_of(folder)})
        if name not in settings:
            check_cohort(setup.runs / name, setup.cohort)
            own, usual = settings_of(folder), DEFAULT_SETTINGS if name == "default" else PAPER_SETTINGS
            settings[name] = settings_text(own)
            options[name] = train_options(own, usual)
    cohort = setup.cohort
    counts = {s: read_states(setup.data, cohort, cohort.of(s)).patient.size for s in ("development", "test")}
    return {
        "folds": folds,
        "settings": settings,
        "options": options,
        "cohort": {
            "n_patients": len(cohort.patients),
            "n_development": len(cohort.of("development")),
            "n_test": len(cohort.of("test")),
            "n_nodes": sum(p.nodes for p in cohort.patients),
            "n_states_development": counts["development"],
            "n_states_test": counts["test"],
        },
        "hardware": hardware(),
    }


def squared_errors(setup: Setup, progress: Progress) -> dict[str, Any]:
    """Mean squared errors on all states of the test patients, beside baselines on the same states.

    The variance of the labels is that about their mean over states, of a size or of all, and candidates; the explained
    variance is the share of it, over all states, that the mean squared error, averaged over folds, falls short of.
    """
    cohort, errors = setup.cohort, trained_errors(setup, progress)
    for method, baseline in baseline_errors(setup.data, cohort, first_training(cohort, setup.n_folds)).items():
        errors[method] = {str(FIRST_FOLD): baseline}
    test = read_states(setup.data, cohort, cohort.of("test"))
    sizes = np.unique(test.n_chosen)
    variance = {str(n): float(test.fitness[test.n_chosen == n].var(dtype=np.float64)) for n in sizes}
    variance["all"] = float(test.fitness.var(dtype=np.float64))
    mean = {method: float(np.mean([e.mean() for e in own.values()])) for method, own in errors.items()}
    return {
        "methods": {
            method: {"per_fold": {fold: by_size(e, test.n_chosen) for fold, e in own.items()}}
            for method, own in errors.items()
        },
        "explained_variance": {method: 1 - error / variance["all"] for method, error in mean.items()},
        "label_variance": variance,
        "runs_only": {
            method: {fold: float(e[test.in_run].mean()) for fold, e in own.items()} for method, own in errors.items()
        },
    }


def trained_errors(setup: Setup, progress: Progress) -> dict[str, dict[str, NDArray[np.float64]]]:
    """`network_errors` of all that is trained, by network and fold."""
    runs, folder = trained(setup.runs), setup.out / "parts" / "mse"
    for kind in {"views": None} | dict.fromkeys(input_kind(name) for name, _ in runs):
        prepare_inputs(setup.data, setup.cohort, kind, n_jobs=setup.n_jobs, progress=progress)
    names = [f"{name}-{fold}" for name, fold in runs]
    parts = in_parts(folder, names, partial(_fold_errors, setup), n_jobs=setup.n_jobs, progress=progress)
    errors: dict[str, dict[str, NDArray[np.float64]]] = {}
    for (name, fold), part in zip(runs, parts, strict=True):
        errors.setdefault(name, {})[str(fold)] = np.array(part)
    return errors


def by_size(errors: NDArray[np.float64], n_chosen: NDArray[np.int64]) -> dict[str, float]:
    """Mean of the states' errors by number of chosen beams, and of all."""
    sizes = {str(n): float(errors[n_chosen == n].mean()) for n in np.unique(n_chosen)}
    return {**sizes, "all": float(errors.mean())}


def _fold_errors(setup: Setup, part: str) -> list[float]:
    """`network_errors` of ``<network>-<fold>``."""
    text, _, fold = part.rpartition("-")
    name = network_name(text)
    errors: list[float] = network_errors(setup.data, setup.cohort, name, setup.network(name, int(fold))).tolist()
    return errors


def network_errors(data: Path, cohort: Cohort, name: BeamNetworkName, network: nn.Module) -> NDArray[np.float64]:
    """Squared error of every state of a cohort's test patients, mean over candidates, (n_states,)."""
    test = cohort.of("test")
    inputs, fitness = states_of(name, data, cohort, test), read_states(data, cohort, test).fitness
    errors = np.zeros(len(fitness))
    with torch.inference_mode():
        for first in range(0, len(fitness), _BATCH):
            some = range(first, min(first + _BATCH, len(fitness)))
            predicted = inputs.predict(network, some).numpy()
            errors[first : some.stop] = ((predicted - fitness[first : some.stop]) ** 2).mean(axis=1)
    return errors


def baseline_errors(
    data: Path, cohort: Cohort, training_patients: Sequence[CohortPatient]
) -> dict[str, NDArray[np.float64]]:
    """Squared error of every state of the test patients, mean over candidates, (n_states,), without a network.

    - coarse: the coarse column generation
    - mean curve: the mean label of the training patients, by number of chosen beams
    - random: the label of one of the training patients' states with as many chosen beams, drawn at random
    """
    test, known = (read_states(data, cohort, p) for p in (cohort.of("test"), training_patients))
    curves = mean_curves(read_all_labels(data, cohort, training_patients))
    rng = np.random.default_rng(_SEED)
    drawn = np.array([rng.choice(np.flatnonzero(known.n_chosen == n)) for n in test.n_chosen])
    predicted = {
        COARSE: view_data(data, cohort, cohort.of("test")).features[..., 0].float().numpy(),
        MEAN_CURVE: np.stack([curves[n] for n in test.n_chosen.tolist()]),
        RANDOM: known.fitness[drawn],
    }
    return {m: ((curve - test.fitness) ** 2).mean(axis=1, dtype=np.float64) for m, curve in predicted.items()}
