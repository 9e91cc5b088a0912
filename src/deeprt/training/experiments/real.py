"""Real anatomy: a prostate case that no network has seen, and networks trained and tested on OpenKBP."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from deeprt.cohort.scenarios import draw_weights
from deeprt.config import PlanningConfig
from deeprt.machine_file import read_machine
from deeprt.orientation.column_generation import generate_columns
from deeprt.orientation.teacher import selection_problem
from deeprt.orientation.views import candidate_views
from deeprt.preparation import load_case, with_prescriptions
from deeprt.progress import Progress
from deeprt.training.dataset import prepare_inputs
from deeprt.training.experiments.losses import baseline_errors, by_size, network_errors, read_states
from deeprt.training.experiments.plans import BeamSets, scenario_plans, untrained_sets
from deeprt.training.experiments.proposals import AskedViews, by_views, mean_curve_of, propose
from deeprt.training.experiments.setup import (
    FIRST_FOLD,
    Setup,
    first_training,
    load_labeled_patient,
    run_views,
)
from deeprt.training.experiments.statistics import DEFAULT, MEAN_CURVE, OF_PROSTATE, TEACHER
from deeprt.training.measuring.parts import in_parts
from deeprt.training.measuring.results import Json

logger = logging.getLogger(__name__)

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
        found["openkbp"] = _openkbp(setup, replace(setup, data=setup.openkbp, runs=setup.runs / _RUNS), progress)
    else:
        logger.warning("Without --openkbp, the patients of OpenKBP are left out.")
    return found


def _real_case(setup: Setup, name: str) -> list[Json]:
    """Objectives on one real case, for organ weights drawn as for labels."""
    config, cohort, rng = PlanningConfig(), setup.cohort, np.random.default_rng(_SEED)
    _, case, _ = with_prescriptions(load_case(str(setup.real), config), config)
    settings, machine = cohort.labels.selection, read_machine(cohort.machine)
    weightings = [draw_weights(rng, case) for _ in range(_N_WEIGHTINGS)]
    batch, _ = selection_problem(case, machine, settings, weightings=weightings, seed=_SEED)
    views = candidate_views(case, machine, settings, weightings=weightings)
    network, n_beams = setup.network(DEFAULT), cohort.labels.scenarios.n_beams
    rows = []
    for n in range(_N_WEIGHTINGS):
        problem, asked = batch.only(n), AskedViews(views[n])
        sets: BeamSets = {
            (TEACHER, None): generate_columns(problem, n_beams)[0].chosen,
            (DEFAULT, FIRST_FOLD): propose(by_views(network, asked), n_beams),
            **untrained_sets(asked, n_beams, (_SEED, n)),
        }
        rows += scenario_plans(case, problem, sets, patient=name, scenario=n)
    return rows


def _openkbp(prostate: Setup, own: Setup, progress: Progress) -> dict[str, Any]:
    """Errors and objectives on the test patients of OpenKBP.

    Parameters
    ----------
    prostate, own : of the networks that were trained on virtual prostate patients, and on OpenKBP's
    """
    folder, cohort = own.data, own.cohort
    prepare_inputs(folder, cohort, "views", n_jobs=own.n_jobs, progress=progress)
    training = first_training(cohort, own.n_folds)
    n_chosen = read_states(folder, cohort, cohort.of("test")).n_chosen
    errors = {
        DEFAULT: network_errors(folder, cohort, DEFAULT, own.network(DEFAULT)),
        OF_PROSTATE: network_errors(folder, cohort, DEFAULT, prostate.network(DEFAULT)),
        **baseline_errors(folder, cohort, training),
    }
    names, parts = [p.id for p in cohort.of("test")], own.out / "parts" / "openkbp"
    plans = in_parts(parts, names, partial(_openkbp_patient, prostate, own), n_jobs=own.n_jobs, progress=progress)
    return {
        "n_train": len(training),
        "n_development": len(cohort.of("development")),
        "n_test": len(names),
        "mse": {method: by_size(own, n_chosen) for method, own in errors.items()},
        "plans": [row for part in plans for row in part],
    }


def _openkbp_patient(prostate: Setup, own: Setup, patient_id: str) -> list[Json]:
    """Objectives in every full run of one patient of OpenKBP."""
    patient = load_labeled_patient(own.data, patient_id)
    views = run_views(patient)
    networks = {DEFAULT: own.network(DEFAULT), OF_PROSTATE: prostate.network(DEFAULT)}
    curve = mean_curve_of(own.data, own.cohort, first_training(own.cohort, own.n_folds))
    rows = []
    for n in range(patient.n_runs):
        asked, n_beams = AskedViews(views[n]), len(patient.run(n))
        proposed = {method: propose(by_views(network, asked), n_beams) for method, network in networks.items()}
        sets: BeamSets = {
            (TEACHER, None): patient.run(n),
            **{(method, FIRST_FOLD): beams for method, beams in proposed.items()},
            (MEAN_CURVE, None): propose(curve, n_beams),
            **untrained_sets(asked, n_beams, (patient.about.seed, n)),
        }
        rows += scenario_plans(patient.case, patient.problem.only(n), sets, patient=patient_id, scenario=n)
    return rows
