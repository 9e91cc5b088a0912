"""Real anatomy: a prostate case that no network has seen, and networks trained and tested on OpenKBP."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deeprt.cohort.scenarios import draw_weights
from deeprt.config import PlanningConfig
from deeprt.machine_file import read_machine
from deeprt.orientation.column_generation import SelectionProblem, generate_columns
from deeprt.orientation.teacher import selection_problem
from deeprt.orientation.views import candidate_views
from deeprt.preparation import load_case, with_prescriptions
from deeprt.progress import Progress
from deeprt.training.cohort import labelled, read_cohort
from deeprt.training.dataset import prepare_inputs
from deeprt.training.experiments.losses import baseline_errors, by_size, labelled_states, network_errors
from deeprt.training.experiments.plans import PlanSolver, untrained_sets
from deeprt.training.experiments.proposals import MEAN_CURVE, AskedViews, by_curves, by_views, mean_curves, propose
from deeprt.training.experiments.setup import (
    FIRST_FOLD,
    Setup,
    in_parts,
    labelled_patient,
    run_views,
    trained_network,
)
from deeprt.training.experiments.statistics import DEFAULT, TEACHER

logger = logging.getLogger(__name__)

OF_PROSTATE = "default, trained on prostate"  # the same network where the default one was trained on OpenKBP
_RUNS = "openkbp"  # folder among the runs
_N_WEIGHTINGS, _SEED = 10, 0


def real(setup: Setup, progress: Progress) -> dict[str, Any]:
    """Objectives on real anatomy; what is not there is left out, and a warning says so."""
    found: dict[str, Any] = {}
    if setup.real.is_dir():
        folder = setup.out / "parts" / "real"
        found["cort_prostate"] = in_parts(folder, ["cort_prostate"], partial(_real_case, setup), progress=progress)[0]
    else:
        logger.warning("There is no real prostate case '%s'; it is left out (--real names another folder).", setup.real)
    if setup.openkbp is not None:
        found["openkbp"] = _openkbp(setup, progress)
    else:
        logger.warning("Without --openkbp, the patients of OpenKBP are left out.")
    return found


def _real_case(setup: Setup, name: str) -> list[dict[str, Any]]:
    """Objectives on one real case, for organ weights drawn as for labels."""
    config, cohort, rng = PlanningConfig(), setup.cohort, np.random.default_rng(_SEED)
    _, case, _ = with_prescriptions(load_case(str(setup.real), config), config)
    settings, machine = cohort.labels.selection, read_machine(cohort.machine)
    weightings = [draw_weights(rng, case) for _ in range(_N_WEIGHTINGS)]
    batch, _ = selection_problem(case, machine, settings, weightings=weightings, seed=_SEED)
    views = candidate_views(case, machine, settings, weightings=weightings)
    network, n_beams = trained_network(setup.runs, "default"), cohort.labels.scenarios.n_beams
    rows = []
    for n in range(_N_WEIGHTINGS):
        problem, asked = batch.only(n), AskedViews(views[n])
        sets = {
            TEACHER: generate_columns(problem, n_beams)[0].chosen,
            DEFAULT: propose(by_views(network, asked), n_beams),
            **untrained_sets(asked, n_beams, (_SEED, n)),
        }
        rows += _objectives(name, n, problem, sets)
    return rows


def _openkbp(setup: Setup, progress: Progress) -> dict[str, Any]:
    """Errors and objectives on the test patients of OpenKBP."""
    assert setup.openkbp is not None
    folder, cohort = setup.openkbp, read_cohort(setup.openkbp)
    prepare_inputs(folder, cohort, "views", n_jobs=setup.n_jobs, progress=progress)
    training, _ = list(cohort.folds(setup.n_folds))[FIRST_FOLD - 1]
    n_chosen = labelled_states(folder, cohort, cohort.of("test")).n_chosen
    errors = {
        DEFAULT: network_errors(folder, setup.runs / _RUNS, "default", FIRST_FOLD),
        OF_PROSTATE: network_errors(folder, setup.runs, "default", FIRST_FOLD),
        **baseline_errors(folder, cohort, training),
    }
    names, parts = [p.id for p in cohort.of("test")], setup.out / "parts" / "openkbp"
    plans = in_parts(parts, names, partial(_openkbp_patient, setup, folder), n_jobs=setup.n_jobs, progress=progress)
    return {
        "n_train": len(training),
        "n_development": len(cohort.of("development")),
        "n_test": len(names),
        "mse": {method: by_size(own, n_chosen) for method, own in errors.items()},
        "plans": [row for part in plans for row in part],
    }


def _openkbp_patient(setup: Setup, folder: Path, patient_id: str) -> list[dict[str, Any]]:
    """Objectives in every full run of one patient of OpenKBP."""
    patient, cohort = labelled_patient(folder, patient_id), read_cohort(folder)
    views = run_views(folder, patient)
    networks = {
        DEFAULT: trained_network(setup.runs / _RUNS, "default"),
        OF_PROSTATE: trained_network(setup.runs, "default"),
    }
    training, _ = list(cohort.folds(setup.n_folds))[FIRST_FOLD - 1]
    curve = by_curves(mean_curves(labelled(folder, cohort, training)))
    rows = []
    for n in range(patient.n_runs):
        asked, n_beams = AskedViews(views[n]), len(patient.run(n))
        sets = {
            TEACHER: patient.run(n),
            **{method: propose(by_views(network, asked), n_beams) for method, network in networks.items()},
            MEAN_CURVE: propose(curve, n_beams),
            **untrained_sets(asked, n_beams, (patient.about.seed, n)),
        }
        rows += _objectives(patient_id, n, patient.problem.only(n), sets)
    return rows


def _objectives(
    patient: str, scenario: int, problem: SelectionProblem, sets: Mapping[str, tuple[int, ...]]
) -> list[dict[str, Any]]:
    """Objective of each method's beams."""
    solver = PlanSolver(problem)
    return [
        {
            "patient": patient,
            "scenario": scenario,
            "method": method,
            "objective": solver.objective(beams),
            "beams": beams,
        }
        for method, beams in sets.items()
    ]
