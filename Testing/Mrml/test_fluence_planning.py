"""Fluence, segments, dose and comparison of a plan, from and to the scene."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from Mrml.samples import a_case, a_rigid_transform
from Mrml.session_samples import ANGLES, a_session, finish, quick
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.beams import BeamAngles
from deeprt.errors import InputError
from deeprt.evaluation.evaluate import evaluate
from deeprt.evaluation.normalization import Normalization
from deeprt_mrml.cases import ct_from_case, segmentation_from_case
from deeprt_mrml.coordinates import grid_of
from deeprt_mrml.fluence_planning import FluencePlanning, Stage, StageState
from deeprt_mrml.session import PlanSession
from deeprt_mrml.subject_hierarchy import plan_nodes, remove_nodes
from deeprt_mrml.volumes import DOSE_VOLUME, array_of, dose_node, dose_on, volume_node

ACTIONS = ("predict", "optimize", "refine", "sequence", "dose", "compare", "export", "all")
CURRENT, OUTDATED, MISSING = StageState.CURRENT, StageState.OUTDATED, StageState.MISSING


@pytest.fixture
def session(scene, tmp_path):
    return a_session(scene, tmp_path / "jobs")


@pytest.fixture
def planning(session):
    planning = FluencePlanning(session)
    planning.set_beams(ANGLES)
    return planning


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A scene with a plan whose results are all there, as a file; made once."""
    folder = tmp_path_factory.mktemp("bundle")
    from Mrml import conftest

    making = conftest.scene.__wrapped__(folder) if hasattr(conftest.scene, "__wrapped__") else None
    assert making is not None
    scene = next(making)
    session = a_session(scene, folder / "jobs")
    planning = FluencePlanning(session)
    planning.set_beams(ANGLES)
    planning.start_all()
    finish(session)
    numbers = planning.total_mu(), planning.metrics(), planning.goals(), planning.gamma(), planning.maps()
    assert scene.WriteToMRB(str(folder / "plan.mrb"))
    yield folder / "plan.mrb", numbers
    next(making, None)


@pytest.fixture
def opened(scene, tmp_path, bundle):
    """A new session in that scene, read again."""
    file, _ = bundle
    assert scene.ReadFromMRB(str(file), True)
    session = PlanSession(scene, tmp_path / "other")
    session.work = a_session.__globals__["WorkAtOnce"](tmp_path / "other")
    session.open(session.plans()[0])
    return session
