"""Choice of the beam angles of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from deeprt.beams import BeamAngles, BeamSelection
from deeprt.case import PatientCase
from deeprt.errors import InputError
from deeprt.machine import Machine
from deeprt.orientation.cache import cached_selection, selection_key
from deeprt.orientation.column_generation import generate_columns
from deeprt.orientation.search import improve_by_exchange
from deeprt.orientation.teacher import CandidateSettings, selection_problem
from deeprt.progress import Progress

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
    given : beams that the user has chosen; column generation goes on from there
    first_gantry_deg : of equispaced beams

    Raises
    ------
    InputError
        If the method is not available in this version, or cannot do what is asked.
    """
    if method == "column-generation":
        if len(given) > n_beams:
            raise InputError(f"{len(given)} beams are given, but only {n_beams} are wanted in all.")
        made = False

        def make() -> BeamSelection:
            nonlocal made
            made = True
            problem, positions = selection_problem(case, machine, settings, given=given, device=device, seed=seed)
            selection = generate_columns(problem, n_beams, given=positions, progress=progress)[0]
            if settings.improve_s == 0:
                return selection
            return improve_by_exchange(problem, selection, budget_s=settings.improve_s, progress=progress)

        if not settings.cache:
            return make()
        selection = cached_selection(
            selection_key(case, machine, settings, n_beams=n_beams, given=given, seed=seed), make
        )
        return selection if made else replace(selection, source=f"{selection.source}, from the cache", timing_s={})
    if method == "equispaced":
        if given:
            raise InputError("Equispaced beams cannot go on from given ones; use column generation, or --gantry.")
        angles = equispaced_angles(n_beams, first_gantry_deg=first_gantry_deg)
        no_fitness = np.zeros((0, n_beams), np.float32)
        return BeamSelection(angles, tuple(range(n_beams)), no_fitness, (), 0, "equispaced", {})
    raise InputError(f"Beam selection by {method} is not available in this version; use column-generation.")


def equispaced_angles(n_beams: int, *, first_gantry_deg: float = 0.0) -> tuple[BeamAngles, ...]:
    """Coplanar beams at equal steps of the gantry, to the tenth of a degree that plans are written with.

    >>> [a.gantry_deg for a in equispaced_angles(7)]
    [0.0, 51.4, 102.9, 154.3, 205.7, 257.1, 308.6]
    """
    if n_beams < 1:
        raise InputError(f"The number of beams must be at least 1, got {n_beams}.")
    return tuple(BeamAngles(round(first_gantry_deg + k * 360.0 / n_beams, 1)) for k in range(n_beams))
