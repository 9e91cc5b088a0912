"""Seconds: of the network on its own, and of searches for better beams beside column generation."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from deeprt.config import PlanningConfig
from deeprt.machine_file import read_machine
from deeprt.orientation.column_generation import SelectionProblem, generate_columns
from deeprt.orientation.guided_search import guided_search
from deeprt.orientation.network_prediction import NetworkPredictor
from deeprt.orientation.search import improve_by_exchange
from deeprt.orientation.session import BeamSession
from deeprt.orientation.teacher import CandidateSettings, selection_problem
from deeprt.orientation.views import candidate_views
from deeprt.preparation import VIRTUAL_PROSTATE, load_case
from deeprt.progress import Progress
from deeprt.training.experiments.plans import PlanSolver
from deeprt.training.experiments.proposals import AskedViews, by_views, propose
from deeprt.training.experiments.setup import Setup, load_labeled_patient
from deeprt.training.experiments.statistics import DEFAULT, TEACHER
from deeprt.training.measuring.parts import in_parts
from deeprt.training.measuring.times import THREADS, hardware, seconds
from deeprt.training.processes import threads

_REPEATS, _N_BEAMS, _GRID_MM = 7, 5, 3.0
_N_SEARCHED = 3  # patients
_SHARES = (0.25, 0.5, 1.0, 2.0)  # of column generation's time, that guided search may take


def times(setup: Setup, progress: Progress) -> dict[str, Any]:
    """Seconds of the default network on a virtual patient: loading, encoding, five beams, an edit, exchanges.

    Five beams are chosen by five predictions. An edit takes one of five beams out; the prediction is for the others.
    Every time is repeated after a warm-up.
    """
    with threads(THREADS):
        case = load_case(VIRTUAL_PROSTATE, PlanningConfig(dose_grid_mm=_GRID_MM))
        machine, settings = read_machine(setup.cohort.machine), CandidateSettings()
        network = setup.network(DEFAULT)
        loading_s = [seconds(partial(setup.network, DEFAULT)) for _ in range(_REPEATS)]
        encode_s, five_beams_s, re_prediction_s, exchange_s = [], [], [], []
        for n in range(_REPEATS + 1):
            progress.step("times", n / (_REPEATS + 1))
            start = time.perf_counter()
            views = candidate_views(case, machine, settings)[0]
            encode_s.append(time.perf_counter() - start)
            five_beams_s.append(seconds(partial(propose, by_views(network, AskedViews(views)), _N_BEAMS)))
            predictor = NetworkPredictor(network, views)
            session = BeamSession(predictor, settings.weights)
            session.complete(_N_BEAMS)
            rest = [a for k, a in enumerate(session.state.angles) if k != n % _N_BEAMS]
            re_prediction_s.append(seconds(partial(predictor.fitness, rest)))
            exchange_s.append(seconds(session.exchange))
    return {
        "hardware": hardware(),
        "threads": THREADS,
        "load_network_s": float(np.median(loading_s)),
        "encode_s": encode_s[1:],
        "five_beams_s": five_beams_s[1:],
        "re_prediction_s": re_prediction_s[1:],
        "exchange_s": exchange_s[1:],
        "n_voxels": int(np.prod(case.grid.shape)),
        "case": f"{VIRTUAL_PROSTATE} at {_GRID_MM:g} mm",
    }


def search(setup: Setup, progress: Progress) -> list[dict[str, Any]]:
    """Objectives and seconds of column generation and of searches, one test patient after the other."""
    names = [p.id for p in setup.cohort.of("test")][:_N_SEARCHED]
    parts = in_parts(setup.out / "parts" / "search", names, partial(_patient_search, setup), progress=progress)
    return [row for part in parts for row in part]


def _patient_search(setup: Setup, patient_id: str) -> list[dict[str, Any]]:
    """As `_searched`, with several threads."""
    with threads(THREADS):
        return _searched(setup, patient_id)


def _searched(setup: Setup, patient_id: str) -> list[dict[str, Any]]:
    """Objectives and seconds in the first full run of one patient; everything is set up anew for each method.

    Exchange search goes on from column generation for as long again, and its seconds are those of both. Guided search
    has shares of column generation's time; setting its views up comes on top, and is in its seconds.
    """
    patient, scenario = load_labeled_patient(setup.data, patient_id), 0
    weights, n_beams = patient.labels.organ_weights(scenario), len(patient.run(scenario))
    settings = replace(setup.cohort.labels.selection, weights=weights)
    network, solver = setup.network(DEFAULT), PlanSolver(patient.problem.only(scenario))
    solver.objective(patient.run(scenario))  # to warm up

    def anew() -> SelectionProblem:
        return selection_problem(patient.case, patient.machine, settings, seed=patient.about.seed)[0]

    rows: list[dict[str, Any]] = []

    def record(method: str, beams: tuple[int, ...], seconds: float, budget_s: float | None = None) -> None:
        about = {"patient": patient_id, "scenario": scenario, "method": method}
        rows.append({**about, "seconds": seconds, "objective": solver.objective(beams), "budget_s": budget_s})

    start = time.perf_counter()
    problem = anew()
    generated = generate_columns(problem, n_beams)[0]
    generated_s = time.perf_counter() - start
    improved = improve_by_exchange(problem, generated, budget_s=generated_s)
    exchanged_s = time.perf_counter() - start
    record(TEACHER, generated.chosen, generated_s)
    record("exchange", improved.chosen, exchanged_s, generated_s)
    for share in _SHARES:
        start = time.perf_counter()
        problem = anew()
        views = candidate_views(patient.case, patient.machine, settings)[0]
        predictor = NetworkPredictor(network, views)
        found = guided_search(problem, predictor, n_beams, budget_s=share * generated_s)
        record("guided search", found.chosen, time.perf_counter() - start, share * generated_s)
    return rows
