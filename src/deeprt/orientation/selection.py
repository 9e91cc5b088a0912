"""Choice of the beam angles of a plan."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from deeprt.beams import BeamAngles, BeamSelection
from deeprt.case import PatientCase
from deeprt.errors import InputError
from deeprt.machine import Machine
from deeprt.orientation.cache import cached_selection, selection_key
from deeprt.orientation.candidates import SAME_DEG, candidate_beams, check_enough, excluded, separations_deg
from deeprt.orientation.column_generation import generate_columns
from deeprt.orientation.guided_search import guided_search
from deeprt.orientation.network_prediction import KnownNetwork, network_of, network_predictor
from deeprt.orientation.search import improve_by_exchange
from deeprt.orientation.session import BeamSession
from deeprt.orientation.teacher import CandidateSettings, selection_problem
from deeprt.progress import Progress, Silent

SelectionMethod = Literal["equispaced", "column-generation", "network"]


def select_beams(
    case: PatientCase,
    machine: Machine,
    method: SelectionMethod,
    n_beams: int,
    settings: CandidateSettings,
    *,
    given: Sequence[BeamAngles] = (),
    first_gantry_deg: float = 0.0,
    device: str = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
) -> BeamSelection:
    """Choose the beams of a case.

    Parameters
    ----------
    n_beams : in all, the given ones included
    given : beams that the user has chosen, from which the others go on
    first_gantry_deg : of equispaced beams

    Raises
    ------
    InputError
        If the method cannot do what is asked.
    """
    if len(given) > n_beams:
        raise InputError(f"{len(given)} beams are given, but only {n_beams} are wanted in all.")
    if method == "equispaced":
        if given:
            raise InputError("Equispaced beams cannot go on from given ones; use another selection, or --gantry.")
        angles = equispaced_angles(n_beams, first_gantry_deg=first_gantry_deg)
        no_fitness = np.zeros((0, n_beams), np.float32)
        return BeamSelection(angles, tuple(range(n_beams)), no_fitness, (), 0, "equispaced", {})
    _check_candidates(machine, n_beams, settings, given)

    known = network_of(settings) if method == "network" else None

    def make() -> BeamSelection:
        if known is not None:
            return _by_network(
                case, machine, known, n_beams, settings, given=given, device=device, seed=seed, progress=progress
            )
        problem, positions = selection_problem(case, machine, settings, given=given, device=device, seed=seed)
        selection = generate_columns(problem, n_beams, given=positions, progress=progress)[0]
        if settings.improve_s == 0:
            return selection
        return improve_by_exchange(problem, selection, budget_s=settings.improve_s, progress=progress)

    is_quick = method == "network" and settings.improve_s == 0
    if is_quick or not settings.cache:
        return make()
    # A file may come to hold another network.
    how = method if known is None else f"network {known[0].weights_sha256}"
    key = selection_key(case, machine, settings, n_beams=n_beams, given=given, method=how, seed=seed)
    return cached_selection(key, make)


def improve_beams(
    case: PatientCase,
    machine: Machine,
    beams: Sequence[BeamAngles],
    settings: CandidateSettings,
    *,
    n_kept: int = 0,
    device: str = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
) -> BeamSelection:
    """Let a search with the exact objective exchange beams of a set, for as long as the settings say.

    Parameters
    ----------
    beams : candidates or not
    n_kept : first beams of the set, which stay

    Returns
    -------
    The improved set, its new beams last; the same beams, without fitness, where no better one was found
    """
    problem, positions = selection_problem(case, machine, settings, given=beams, device=device, seed=seed)
    no_fitness = np.zeros((0, len(problem.candidates)), np.float32)
    given = BeamSelection(problem.candidates, positions, no_fitness, (), n_kept, "user", {})
    return improve_by_exchange(problem, given, budget_s=settings.improve_s, progress=progress)


def _check_candidates(machine: Machine, n_beams: int, settings: CandidateSettings, given: Sequence[BeamAngles]) -> None:
    """Refuse a number of beams for which there are not enough candidates, the given beams apart."""
    candidates = candidate_beams(settings.candidates, machine.clearance)
    selectable = ~excluded(candidates, settings.exclude_deg)
    for angles in given:
        selectable &= separations_deg(candidates, angles) >= SAME_DEG
    check_enough(n_beams - len(given), int(selectable.sum()))


def _by_network(
    case: PatientCase,
    machine: Machine,
    known: KnownNetwork,
    n_beams: int,
    settings: CandidateSettings,
    *,
    given: Sequence[BeamAngles],
    device: str,
    seed: int,
    progress: Progress | None,
) -> BeamSelection:
    """Ask the network for one beam after the other and exchange them; with time to improve, search instead."""
    report, start = progress or Silent(), time.perf_counter()
    predictor = network_predictor(case, machine, settings, known=known, device=device)
    set_up_s = time.perf_counter() - start
    if settings.improve_s > 0:
        problem, positions = selection_problem(case, machine, settings, given=given, device=device, seed=seed)
        selection = guided_search(
            problem, predictor, n_beams, given=positions, budget_s=settings.improve_s, progress=progress
        )
        return replace(selection, notes=predictor.notes(n_beams))

    session = BeamSession(
        predictor,
        settings.weights,
        n_beams=n_beams,
        excluded_deg=settings.exclude_deg,
        min_separation_deg=settings.min_separation_deg,
    )
    for position, angles in enumerate(given):
        session.add(angles)
        session.lock(position)
    while len(session.state.beams) < n_beams:
        report.step("beams", len(session.state.beams) / n_beams, f"{len(session.state.beams)} of {n_beams}")
        session.add_best()
    report.step("beams", 1.0)
    predicted_s = time.perf_counter() - start - set_up_s
    session.exchange(settings.sweeps, progress)
    exchange_s = time.perf_counter() - start - set_up_s - predicted_s
    timing_s = {"set-up": round(set_up_s, 3), "prediction": round(predicted_s, 3), "exchange": round(exchange_s, 3)}
    found = session.selection()  # with a fitness before each beam, the given ones too
    notes, n_given = predictor.notes(n_beams), len(given)
    return replace(found, fitness=found.fitness[n_given:], n_given=n_given, timing_s=timing_s, notes=notes)


def equispaced_angles(n_beams: int, *, first_gantry_deg: float = 0.0) -> tuple[BeamAngles, ...]:
    """Coplanar beams at equal steps of the gantry, to the tenth of a degree that plans are written with.

    >>> [a.gantry_deg for a in equispaced_angles(7)]
    [0.0, 51.4, 102.9, 154.3, 205.7, 257.1, 308.6]
    """
    if n_beams < 1:
        raise InputError(f"The number of beams must be at least 1, got {n_beams}.")
    return tuple(BeamAngles(round(first_gantry_deg + k * 360.0 / n_beams, 1)) for k in range(n_beams))
