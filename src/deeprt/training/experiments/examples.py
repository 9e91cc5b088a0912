"""Predictions to look at: the worst ones, a run of column generation, and the correction of a wrong first beam."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deeprt.orientation.column_generation import generate_columns
from deeprt.progress import Progress
from deeprt.training.beams import states_of
from deeprt.training.cohort import read_all_labels
from deeprt.training.experiments.losses import States, read_states, trained_errors
from deeprt.training.experiments.plans import PlanSolver
from deeprt.training.experiments.proposals import AskedViews, by_views, next_beam
from deeprt.training.experiments.setup import (
    FIRST_FOLD,
    Setup,
    load_labeled_patient,
    network_name,
    run_views,
    worst_start,
)
from deeprt.training.experiments.statistics import DEFAULT

_N_WORST = 3


def examples(setup: Setup, progress: Progress) -> dict[str, Any]:
    """Predictions of the first fold.

    The worst ones of each network; a full run of column generation with the default network beside it; and how that
    network corrects a wrong first beam. The run is the one whose mean squared error is the median one of all.
    """
    cohort = setup.cohort
    test = read_states(setup.data, cohort, cohort.of("test"))
    errors = trained_errors(setup, progress)
    first = {name: folds[str(FIRST_FOLD)] for name, folds in errors.items() if str(FIRST_FOLD) in folds}
    patient, scenario = median_run(test, first[DEFAULT])
    return {
        "worst": {name: worst_predictions(setup, name, test, own) for name, own in first.items()},
        "sequence": sequence(setup, test, patient, scenario),
        "correction": correction(setup, cohort.of("test")[patient].id, scenario),
    }


def median_run(test: States, errors: NDArray[np.float64]) -> tuple[int, int]:
    """Position of the patient, and scenario, of the full run with the median mean error."""
    places = np.stack([test.patient, test.scenario], axis=1)
    runs, of_state = np.unique(places[test.in_run], axis=0, return_inverse=True)
    mean = np.bincount(of_state.ravel(), errors[test.in_run]) / np.bincount(of_state.ravel())
    patient, scenario = runs[np.argsort(mean)[len(runs) // 2]].tolist()
    return patient, scenario


def worst_predictions(setup: Setup, name: str, test: States, errors: NDArray[np.float64]) -> list[dict[str, Any]]:
    """The states of the test patients with the largest errors, the largest first."""
    patients, worst = setup.cohort.of("test"), np.argsort(-errors)[:_N_WORST]
    return [
        {
            "patient": patients[test.patient[n]].id,
            "scenario": int(test.scenario[n]),
            "chosen": np.flatnonzero(test.chosen[n]).tolist(),
            "teacher": _curve(test.fitness[n]),
            "predicted": _curve(curve),
            "mse": float(errors[n]),
        }
        for n, curve in zip(worst, predictions(setup, name, worst), strict=True)
    ]


def sequence(setup: Setup, test: States, patient: int, scenario: int) -> dict[str, Any]:
    """Every step of a full run of column generation, and what the default network makes of the same chosen beams."""
    about = setup.cohort.of("test")[patient]
    run = read_all_labels(setup.data, setup.cohort, [about])[0].run_chosen[scenario].tolist()
    states = np.flatnonzero((test.patient == patient) & (test.scenario == scenario))
    steps = [
        {
            "chosen_teacher": run[:n],
            "teacher": _curve(test.fitness[state]),
            "predicted": _curve(curve),
            "next_teacher": run[n],
            "next_network": next_beam(curve, run[:n]),
        }
        for n, (state, curve) in enumerate(zip(states, predictions(setup, DEFAULT, states), strict=True))
    ]
    return {"patient": about.id, "scenario": scenario, "steps": steps}


def correction(setup: Setup, patient_id: str, scenario: int) -> dict[str, Any]:
    """Every step of the default network from the worst first beam on, and what it costs."""
    patient = load_labeled_patient(setup.data, patient_id)
    views = AskedViews(run_views(patient)[scenario])
    fitness = by_views(setup.network(DEFAULT), views)
    problem, n_beams = patient.problem.only(scenario), len(patient.run(scenario))
    worst = worst_start(patient.labels, scenario)
    chosen: tuple[int, ...] = (worst,)
    steps = []
    while len(chosen) < n_beams:
        curve = fitness(chosen)
        steps.append({"chosen": chosen, "predicted": _curve(curve), "next": next_beam(curve, chosen)})
        chosen = (*chosen, next_beam(curve, chosen))
    solver, teacher = PlanSolver(problem), generate_columns(problem, n_beams, given=[worst])[0].chosen
    return {
        "patient": patient_id,
        "scenario": scenario,
        "forced": worst,
        "steps": steps,
        "beams_teacher": teacher,
        "objectives": {
            "forced, teacher": solver.objective(teacher),
            "forced, network": solver.objective(chosen),
            "free, teacher": solver.objective(patient.run(scenario)),
        },
    }


def predictions(setup: Setup, name: str, states: NDArray[np.int64]) -> NDArray[np.float32]:
    """Fitness that a network's first fold predicts for states of the test patients, (n, n_candidates)."""
    known, cohort = network_name(name), setup.cohort
    with torch.inference_mode():
        inputs = states_of(known, setup.data, cohort, cohort.of("test"))
        return np.asarray(inputs.predict(setup.network(known), states.tolist()).numpy())


def _curve(fitness: NDArray[np.float32]) -> list[float]:
    return [round(float(f), 4) for f in fitness]
