"""Results of plans in scenes that are saved, closed, or hold several plans."""

import json

import pydicom
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from Mrml.fluence_samples import ACTIONS, CURRENT, MISSING, states
from Mrml.session_samples import ANGLES, a_session, finish
from numpy.testing import assert_allclose

from deeprt.beams import BeamAngles
from deeprt.errors import InputError
from deeprt_mrml.fluence_planning import FluencePlanning


@pytest.fixture
def session(scene, tmp_path):
    return a_session(scene, tmp_path / "jobs")


@pytest.fixture
def planning(session):
    planning = FluencePlanning(session)
    planning.set_beams(ANGLES)
    return planning


def test_a_saved_scene_goes_on_where_it_stopped(opened, done, bundle):
    assert states(done) == [CURRENT] * 4
    assert [done.why_not(a) for a in ACTIONS] == [""] * len(ACTIONS)
    total_mu, metrics, goals, gamma = bundle["numbers"]
    assert done.total_mu() == total_mu
    assert done.gamma() == gamma
    for a, b in zip(done.metrics(), metrics, strict=True):
        assert (a.structure, a.metric, a.unit) == (b.structure, b.metric, b.unit)
        assert (a.value, a.reference) == pytest.approx((b.value, b.reference), rel=1e-4, abs=1e-6)
    assert [(g.goal, g.met) for g in done.goals()] == [(g.goal, g.met) for g in goals]
    for a, b in zip(done.maps(), bundle["maps"], strict=True):
        assert_allclose(a, b, rtol=1e-6)
    assert done.notes()
    assert opened.work.commands == []


def test_a_plan_of_a_saved_scene_is_exported(opened, done, tmp_path):
    done.start_export(tmp_path / "out", eclipse_fluence=True)
    finish(opened)
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert {"RTPLAN.dcm", "RTDOSE.dcm", "RTSTRUCT.dcm", "CT", "report.html", "plan.toml"} <= names
    assert len(list((tmp_path / "out").glob("*.optimal_fluence"))) == 3
    plan = pydicom.dcmread(tmp_path / "out" / "RTPLAN.dcm")
    mu = [float(b.BeamMeterset) for b in plan.FractionGroupSequence[0].ReferencedBeamSequence]
    assert_allclose(mu, done.beam_mu(), rtol=1e-6)
    ct = [pydicom.dcmread(p, stop_before_pixels=True) for p in (tmp_path / "out" / "CT").iterdir()]
    assert len(ct) == opened.plan.ct_node.GetImageData().GetDimensions()[2]  # on its own grid
    done.start_export(tmp_path / "out")
    with pytest.raises(InputError, match="already holds a plan"):
        finish(opened)
    done.start_export(tmp_path / "out", overwrite=True)
    finish(opened)


def test_what_a_machine_cannot_deliver_is_not_exported(opened, done, tmp_path):
    content = json.loads(opened.plan.text("Segments"))
    content["segments"][0]["left_mm"][0] = -500.0
    opened.plan.set_text("Segments", json.dumps(content))
    done.start_export(tmp_path / "out")
    with pytest.raises(InputError, match="The plan cannot be delivered by"):
        finish(opened)
    assert not (tmp_path / "out").exists()


def test_two_plans_of_a_scene_have_results_of_their_own(opened, done):
    first, mu = opened.plan, done.total_mu()
    second = opened.new_plan("Other")
    assert states(done) == [MISSING] * 4
    done.set_beams([BeamAngles(90.0), BeamAngles(270.0)])
    done.start_optimization()
    finish(opened)
    done.start_sequencing()
    finish(opened)
    assert len(done.maps()) == 2
    opened.open(first)
    assert states(done) == [CURRENT] * 4
    assert done.total_mu() == mu
    opened.open(second)
    opened.remove_plan()
    opened.open(first)
    assert states(done) == [CURRENT] * 4


def test_a_plan_that_is_removed_while_work_goes_on_takes_no_result(session, planning):
    planning.start_all()
    session.scene.RemoveNode(session.plan.node)
    finish(session)
    assert session.plan is None
    assert [c[1] for c in session.work.commands] == ["fluence"]
    assert planning.maps() == ()


def test_a_closed_scene_leaves_nothing(opened, done):
    done.start_sequencing()
    opened.scene_was_closed()
    opened.scene.Clear(False)
    assert not opened.work.poll()
    assert states(done) == [MISSING] * 4
