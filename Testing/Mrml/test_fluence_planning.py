"""Fluence, segments, dose and comparison of a plan: one step after the other, and the beams they are for."""

import shutil
from dataclasses import replace

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from Mrml.fluence_samples import ACTIONS, CURRENT, MISSING, change, states
from Mrml.session_samples import ANGLES, a_session, finish
from numpy.testing import assert_allclose

from deeprt.beams import BeamAngles
from deeprt.errors import InputError
from deeprt.evaluation.evaluate import evaluate
from deeprt_mrml.fluence_planning import FluencePlanning, Stage
from deeprt_mrml.session import PlanSession
from deeprt_mrml.subject_hierarchy import plan_nodes
from deeprt_mrml.volumes import DOSE_VOLUME, array_of, dose_on


@pytest.fixture
def session(scene, tmp_path):
    return a_session(scene, tmp_path / "jobs")


@pytest.fixture
def planning(session):
    planning = FluencePlanning(session)
    planning.set_beams(ANGLES)
    return planning


# From beams to results


def test_an_empty_plan_says_what_to_do_first(scene, tmp_path):
    session = PlanSession(scene, tmp_path)
    planning = FluencePlanning(session)
    for action in ACTIONS:
        assert planning.why_not(action) == "Make a plan first, or try it with the virtual patient."
    assert states(planning) == [MISSING] * 4
    assert (planning.maps(), planning.total_mu(), planning.beam_mu(), planning.n_segments()) == ((), None, (), 0)
    assert planning.metrics() == planning.goals() == planning.gamma() == planning.notes() == ()
    assert planning.dose_node is planning.difference_node is planning.dvh_chart is planning.wished_node is None
    assert not planning.write_thumbnails(tmp_path / "strip.png")


def test_without_beams_there_is_nothing_to_find_fluence_for(session):
    planning = FluencePlanning(session)
    for action in ("predict", "optimize", "all"):
        assert planning.why_not(action) == "Add beams first: choose them in DeepBOO, type them in, or read an RTPLAN."
    with pytest.raises(InputError, match="Add beams first"):
        planning.start_prediction()


def test_before_fluence_is_found_nothing_follows_from_it(planning):
    for action in ("refine", "sequence", "dose", "compare", "export"):
        assert planning.why_not(action) == "Predict or optimize the fluence first."
    assert [planning.why_not(a) for a in ("predict", "optimize", "all")] == [""] * 3


def test_one_step_after_the_other_makes_its_result(session, planning):
    for start, action, later, sentence in (
        (planning.start_prediction, "predict", "dose", "Sequence the fluence first."),
        (planning.start_sequencing, "sequence", "compare", "Calculate the dose of the segments first."),
        (planning.start_dose, "dose", "", ""),
        (planning.start_comparison, "compare", "", ""),
    ):
        assert planning.why_not(action) == ""
        start()
        assert planning.why_not(action) == f"{session.work.title} is under way; wait for it or cancel it first."
        finish(session)
        assert not later or planning.why_not(later) == sentence
    assert states(planning) == [CURRENT] * 4
    assert [c[1] for c in session.work.commands] == ["fluence", "segments", "dose", "compare"]


def test_results_are_those_of_the_case_in_the_scene(done):
    """Evaluated from volumes: D95 of the target lies near its prescription, and gamma of a sequenced plan is high."""
    case = session_case(done)
    report = evaluate(case, dose_on(done.dose_node, case.grid))
    rows = {(r.structure, r.metric): r for r in done.metrics()}
    assert rows["PTV", "D95%"].value == pytest.approx(report.structure("PTV").metrics.d95_gy)
    reference = evaluate(case, dose_on(done.wished_node, case.grid))
    assert rows["PTV", "D95%"].reference == pytest.approx(reference.structure("PTV").metrics.d95_gy)
    # As `deeprt fluence` does by default, the mean of the wished dose is kept.
    assert rows["PTV", "Dmean"].value == pytest.approx(rows["PTV", "Dmean"].reference, rel=1e-4)
    assert done.total_mu() == pytest.approx(sum(done.beam_mu()))
    assert len(done.beam_mu()) == 3
    assert done.n_segments() == len(done.segments().segments)
    assert done.segments().n_fractions == 20
    difference = array_of(done.difference_node)
    assert_allclose(difference, array_of(done.dose_node) - array_of(done.wished_node), atol=1e-4)
    assert [g.criterion for g in done.gamma()] == ["3%/2mm", "2%/2mm"]
    assert all(g.met == g.reference_met or g.reference is not None for g in done.goals())


def session_case(planning):
    return planning._session.prepared().case


def test_doses_are_known_for_doses_and_the_difference_is_not(done):
    assert done.dose_node.GetName() == "Synthetic dose"
    assert done.dose_node.GetAttribute(DOSE_VOLUME) == done.wished_node.GetAttribute(DOSE_VOLUME) == "1"
    difference = done.difference_node
    assert difference.GetName() == "Dose difference to wished dose (Gy)"
    assert difference.GetAttribute(DOSE_VOLUME) is None
    display = difference.GetDisplayNode()
    assert display.GetWindowLevelMin() == -display.GetWindowLevelMax()
    assert display.GetColorNode().GetName() == "DeepRT RdBu_r"


def test_the_chart_has_the_wished_dose_solid_and_the_synthetic_one_dashed(done):
    chart = done.dvh_chart
    series = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
    styles = {n.GetName().rpartition(" ")[2]: n.GetLineStyle() for n in series}
    assert styles == {"(wished)": series[0].LineStyleSolid, "(synthetic)": series[0].LineStyleDash}


def test_all_at_once_leaves_out_what_is_current(opened, done):
    done.start_all()
    assert not opened.work.is_busy
    change(done, sequencing=replace(opened.plan.config.sequencing, max_segments_per_beam=4))
    done.start_all()
    finish(opened)
    assert [c[1] for c in opened.work.commands] == ["segments", "dose", "compare"]
    assert states(done) == [CURRENT] * 4


def test_work_that_is_cancelled_ends_the_chain(session, planning):
    planning.start_all()
    session.work.cancel()
    assert session.work.was_cancelled
    assert not session.work.poll()
    assert states(planning) == [MISSING] * 4
    planning.start_prediction()
    finish(session)
    assert [c[1] for c in session.work.commands] == ["fluence", "fluence"]
    assert states(planning)[:2] == [CURRENT, MISSING]


def test_work_that_fails_says_why_and_ends_the_chain(session, planning):
    change(planning, fluence=replace(session.plan.config.fluence, network="nowhere.safetensors"))
    planning.start_all()
    with pytest.raises(InputError, match="nowhere"):
        finish(session)
    assert not session.work.is_busy
    assert states(planning) == [MISSING] * 4


# Beams


def test_beams_that_stay_stay_locked(session, planning):
    session.plan.beams = [replace(b, locked=True) for b in session.plan.beams[:2]]
    planning.set_beams([BeamAngles(40.0), ANGLES[1], BeamAngles(200.0, 20.0)])
    assert [(b.angles.gantry_deg, b.locked) for b in session.plan.beams] == [(40, False), (130, True), (200, False)]
    assert [b.angles.couch_deg for b in planning.beams] == [0, 0, 20]
    assert len(plan_nodes(session.scene, session.plan.key, "beam/")) == 12


def test_beams_are_shown_as_nodes_of_slicer_rt_too(session, planning, monkeypatch):
    shown = []
    monkeypatch.setattr("deeprt_mrml.session.show_rt_plan", lambda scene, plan, beams, *_, **__: shown.append(beams))
    planning.set_beams(ANGLES[:2])
    assert [b.angles for b in shown[0]] == list(ANGLES[:2])


def test_two_beams_from_one_direction_are_refused(session, planning):
    with pytest.raises(InputError, match=r"Two beams come from gantry 40\.0° and couch 0\.0°; change one of them\."):
        planning.set_beams([BeamAngles(40.0), BeamAngles(40.0, 0.0, 90.0)])
    assert len(session.plan.beams) == 3


# Files


def test_the_case_is_written_once_as_long_as_it_stays(opened, done, monkeypatch):
    from deeprt.work_folder import WorkFolder

    written = []
    monkeypatch.setattr(WorkFolder, "write_case", lambda self, case, real=WorkFolder.write_case: (
        written.append(case), real(self, case)))  # fmt: skip
    done.start_sequencing()
    finish(opened)
    done.start_dose()
    finish(opened)
    assert len(written) == 1
    opened.set_prescription("PTV", 62.0)
    done.start_prediction()
    assert len(written) == 2
    shutil.rmtree(opened._folder)
    finish_quietly(opened)
    done.start_prediction()
    assert len(written) == 3


def finish_quietly(session):
    with pytest.raises(InputError):
        finish(session)


def test_a_real_process_does_the_same(scene, tmp_path):
    session = a_session(scene, tmp_path / "jobs", at_once=False)
    planning = FluencePlanning(session)
    planning.set_beams(ANGLES[:2])
    planning.start_prediction()
    finish(session)
    assert planning.stage_state(Stage.FLUENCE) is CURRENT
    assert len(planning.maps()) == 2
    assert session.work.progress.fraction == 1.0
