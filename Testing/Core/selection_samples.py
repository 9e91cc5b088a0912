"""Small beam selection problems on the sample case, in which the organs matter."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from Core.plan_samples import a_case

from deeprt.case import with_tuning_structures
from deeprt.fluence.problem import VoxelSample, make_term
from deeprt.fluence.solvers import SolverSettings
from deeprt.machine_file import read_machine
from deeprt.orientation.teacher import CandidateSettings, OrganWeights, selection_problem

MACHINE = read_machine("generic_6mv")
PRECISE = SolverSettings("l-bfgs-b", 500, 1e-7)
PRIMAL_DUAL = SolverSettings("chambolle-pock", 1500, 1e-6)
WEIGHTS = OrganWeights(organs_at_risk=0.7, ring=0.5, skin=0.3, external=0.2)
WEIGHTINGS = (WEIGHTS, OrganWeights(0.1, 0.3, 0.6, 0.05), OrganWeights(1.0, 0.1, 0.0, 0.3))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """These tensors are so small that threads on a busy machine wait for each other far longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def some_settings(candidates="coplanar:30", **others):
    """Voxels and beamlets so large that P(B) is solved in a few hundredths of a second."""
    chosen = {"weights": WEIGHTS, "solver": PRECISE, "memory_mb": 500.0} | others
    return CandidateSettings(candidates, voxel_mm=7.0, beamlet_mm=10.0, background_share=0.2, **chosen)


@cache
def a_selection_problem(candidates="coplanar:30"):
    """The sample case's problem; its influences are shared by all tests."""
    return selection_problem(a_case(), MACHINE, some_settings(candidates))[0]


@cache
def a_reweighted_problem(position):
    """The same problem with the organ weights at a position of ``WEIGHTINGS``."""
    settings = some_settings(weights=WEIGHTINGS[position])
    return replace(selection_problem(a_case(), MACHINE, settings)[0], pool=a_selection_problem().pool)


@cache
def a_batch():
    """All ``WEIGHTINGS`` at once."""
    problem, _ = selection_problem(a_case(), MACHINE, some_settings(solver=PRIMAL_DUAL), weightings=WEIGHTINGS)
    return replace(problem, pool=a_selection_problem().pool)


def with_objectives(problem, *lines):
    """The problem with other objectives (structure, objective, weights), each measured per volume."""
    case = with_tuning_structures(a_case().resampled(7.0))
    sample = VoxelSample(problem.pool.voxels, np.ones(problem.pool.voxels.size, np.float32))
    terms = tuple(
        make_term(case.structure(name), objective, weights, sample, device=torch.device("cpu"), per_volume=True)
        for name, objective, weights in lines
    )
    return replace(problem, terms=terms)


class CancelAt:
    """Progress that cancels the work at a call."""

    def __init__(self, call):
        self.left = call

    def step(self, name, fraction, message=""):
        self.left -= 1
        if self.left == 0:
            raise InterruptedError(name)
