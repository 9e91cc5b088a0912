"""Fluence, segments, dose and comparison of a plan, from and to the scene."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from Mrml.samples import a_rigid_transform
from Mrml.session_samples import ANGLES, WorkAtOnce, a_session, finish
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.beams import BeamAngles
from deeprt.errors import InputError
from deeprt.evaluation.evaluate import evaluate
from deeprt.evaluation.normalization import Normalization
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


_KEPT = {}  # what takes seconds to make: a scene with all results, as a file, and the numbers it had


@pytest.fixture
def bundle(scene, tmp_path_factory):
    if not _KEPT:
        folder = tmp_path_factory.mktemp("bundle")
        planning = FluencePlanning(a_session(scene, folder / "jobs"))
        planning.set_beams(ANGLES)
        planning.start_all()
        finish(planning._session)
        _KEPT["numbers"] = planning.total_mu(), planning.metrics(), planning.goals(), planning.gamma()
        _KEPT["maps"] = planning.maps()
        assert scene.WriteToMRB(str(folder / "plan.mrb"))
        scene.Clear(False)
        _KEPT["file"] = folder / "plan.mrb"
    return _KEPT


@pytest.fixture
def opened(scene, tmp_path, bundle):
    """A new session in that scene, read again."""
    assert scene.ReadFromMRB(str(bundle["file"]), True)
    session = PlanSession(scene, tmp_path / "other")
    session.work = WorkAtOnce(tmp_path / "other")
    session.open(session.plans()[0])
    return session


@pytest.fixture
def done(opened):
    """A plan with all results."""
    return FluencePlanning(opened)


def states(planning):
    return [planning.stage_state(s) for s in Stage]


def change(planning, **parts):
    plan = planning._session.plan
    plan.config = replace(plan.config, **parts)


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


def test_two_beams_from_one_direction_are_refused(session, planning):
    with pytest.raises(InputError, match=r"Two beams come from gantry 40\.0° and couch 0\.0°; change one of them\."):
        planning.set_beams([BeamAngles(40.0), BeamAngles(40.0, 0.0, 90.0)])
    assert len(session.plan.beams) == 3


# What was made for what


def test_each_change_outdates_what_hangs_on_it(opened, done):
    config, plan = opened.plan.config, opened.plan
    for parts, n_current, sentence in (
        ({"machine": "generic_15mv"}, 0, "The machine changed after the fluence was predicted; predict it anew."),
        ({"dose_grid_mm": 5.0}, 0, "The CT or structures changed after the fluence was predicted; predict it anew."),
        ({"fluence": replace(config.fluence, wished="predict")}, 0,
         "The fluence settings changed after the fluence was predicted; predict it anew."),
        ({"sequencing": replace(config.sequencing, max_levels=12)}, 1,
         "The delivery settings changed after the segments were made; sequence the fluence anew."),
        ({"normalization": Normalization(dose_percent=97)}, 2,
         "The normalization changed after the dose was calculated; calculate it anew."),
        ({"seed": 1}, 0, "The fluence settings changed after the fluence was predicted; predict it anew."),
    ):  # fmt: skip
        plan.config = replace(config, **parts)
        assert states(done) == [CURRENT] * n_current + [OUTDATED] * (4 - n_current), parts
        assert done.why_not("export") == sentence
        plan.config = config
        assert states(done) == [CURRENT] * 4
    done.set_beams([*ANGLES, BeamAngles(300.0)])
    assert done.why_not("sequence") == "The beams changed after the fluence was predicted; predict it anew."
    assert len(done.maps()) == 3  # of the beams it was predicted for, still shown


def test_an_edited_structure_outdates_everything(opened, done):
    before = session_case(done)
    opened.set_role("Bladder", before.structure("PTV").role.ORGAN_AT_RISK)
    assert states(done) == [CURRENT] * 4
    opened.set_prescription("PTV", 61.0)
    assert states(done) == [OUTDATED] * 4
    opened.set_prescription("PTV", 60.0)
    assert states(done) == [CURRENT] * 4
    segmentation = opened.plan.segmentation_node.GetSegmentation()
    segmentation.RemoveSegment(segmentation.GetSegmentIdBySegmentName("Rectum"))
    assert states(done) == [OUTDATED] * 4


def test_a_moved_ct_outdates_everything(scene, opened, done):
    transform, _ = a_rigid_transform(scene, angles_deg=(0, 0, 0), shift_ras=(0.5, 0, 0))
    opened.plan.ct_node.SetAndObserveTransformNodeID(transform.GetID())
    assert states(done) == [OUTDATED] * 4


def test_edited_fluence_is_what_is_sequenced(opened, done):
    # In step and shoot the monitor units are then fitted to the wished dose, which takes the edit back again.
    change(done, sequencing=replace(opened.plan.config.sequencing, technique="sliding-window"))
    done.start_sequencing()
    finish(opened)
    before = done.beam_mu()
    node = plan_nodes(opened.scene, opened.plan.key, "fluence/2/")[0]
    slicer.util.updateVolumeFromArray(node, 2 * array_of(node))
    assert states(done) == [CURRENT, OUTDATED, OUTDATED, OUTDATED]
    assert done.why_not("dose") == "The fluence changed after the segments were made; sequence the fluence anew."
    done.start_sequencing()
    finish(opened)
    ratio = np.divide(done.beam_mu(), before)
    assert_allclose(ratio / ratio[0], [1, 2, 1], rtol=0.1)  # leaves that hurry add monitor units of their own
    assert states(done) == [CURRENT, CURRENT, OUTDATED, OUTDATED]


def test_sequencing_anew_outdates_the_dose_of_the_segments_before(opened, done):
    done.start_sequencing()
    finish(opened)
    assert states(done) == [CURRENT, CURRENT, OUTDATED, OUTDATED]
    assert done.why_not("export") == "The segments changed after the dose was calculated; calculate it anew."


def test_a_removed_volume_is_missing_and_can_be_made_again(opened, done):
    remove_nodes(opened.scene, [done.difference_node, plan_nodes(opened.scene, opened.plan.key, "fluence/1/")[0]])
    assert states(done) == [MISSING, OUTDATED, OUTDATED, MISSING]
    assert done.maps() == ()
    assert done.why_not("dose") == "Predict or optimize the fluence first."
    done.start_all()
    finish(opened)
    assert states(done) == [CURRENT] * 4


# The wished dose


def test_a_given_dose_is_what_fluence_is_predicted_from(scene, session, planning):
    planning.set_wish("given")
    sentence = "Choose the dose volume that fluence is predicted from, or let the dose be predicted or optimized."
    assert planning.why_not("predict") == planning.why_not("all") == sentence
    case = session.prepared().case
    dose_gy = 60 * case.structure("PTV").fraction + 12 * case.external.fraction
    node = volume_node(scene, "RTDOSE", dose_gy.astype(np.float32), case.grid)
    session.plan.wished_dose_node = node
    assert planning.why_not("predict") == ""
    planning.start_prediction()
    finish(session)
    assert planning.wished_node is node
    assert plan_nodes(scene, session.plan.key, "dose/Wished") == ()
    assert planning.stage_state(Stage.FLUENCE) is CURRENT
    slicer.util.updateVolumeFromArray(node, 1.1 * dose_gy)
    assert planning.why_not("sequence") == "The wished dose changed after the fluence was predicted; predict it anew."
    session.plan.wished_dose_node = None
    assert planning.stage_state(Stage.FLUENCE) is OUTDATED


def test_a_dose_that_misses_the_target_is_refused(scene, session, planning):
    planning.set_wish("given")
    case = session.prepared().case
    outside = dose_node(scene, "x", "RTDOSE", np.where(case.structure("PTV").fraction > 0, 0, 50), case.grid)
    session.plan.wished_dose_node = outside
    with pytest.raises(InputError, match="Dose 'RTDOSE' does not reach half of the target 'PTV'"):
        planning.start_prediction()
    session.plan.wished_dose_node = volume_node(scene, "Nothing", np.zeros(case.grid.shape, np.float32), case.grid)
    with pytest.raises(InputError, match="Dose 'Nothing' has no dose inside 'BODY'; it belongs to another case"):
        planning.start_prediction()
    assert not session.work.is_busy


def test_optimized_fluence_is_compared_with_its_own_dose(session, planning):
    planning.start_optimization()
    finish(session)
    assert session.plan.config.fluence.method == "optimize"
    ideal = plan_nodes(session.scene, session.plan.key, "dose/Dose of the fluence")[0]
    assert_array_equal(array_of(planning.wished_node), array_of(ideal))
    assert planning.why_not("refine") == (
        "This fluence was optimized for objectives; choose a wished dose to pull it to, or predict it."
    )
    planning.set_wish("predict")  # which matters to a prediction only
    assert planning.stage_state(Stage.FLUENCE) is CURRENT
    session.plan.config = replace(session.plan.config, seed=3)
    assert (
        planning.why_not("sequence")
        == "The fluence settings changed after the fluence was optimized; optimize it anew."
    )


def test_refinement_brings_the_dose_nearer_to_the_wished_one(session, planning):
    def misfit():
        ideal = plan_nodes(session.scene, session.plan.key, "dose/Dose of the fluence")[0]
        return float(np.square(array_of(ideal) - array_of(planning.wished_node)).mean())

    planning.start_prediction()
    finish(session)
    before = misfit()
    planning.start_refinement(10)
    finish(session)
    assert misfit() < before
    assert planning.stage_state(Stage.FLUENCE) is CURRENT


def test_a_wished_dose_that_is_gone_cannot_be_compared_with(opened, done):
    remove_nodes(opened.scene, [done.wished_node])
    sentence = "There is no wished dose any more; choose its volume, or predict the fluence anew."
    assert {done.why_not(a) for a in ("refine", "sequence", "dose", "compare", "export")} == {sentence}
    assert done.why_not("predict") == ""
    assert done.metrics()[0].reference is None


# Kept with the scene


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


# References and pictures


def test_maps_are_compared_with_the_segments_of_an_exported_plan(opened, done, tmp_path):
    done.start_export(tmp_path / "out", eclipse_fluence=True)
    finish(opened)
    assert done.read_reference_plan(tmp_path / "out" / "RTPLAN.dcm") == ()
    own, reference = done.maps(), done.reference_maps()
    assert all(np.corrcoef(a[b > 0], b[b > 0])[0, 1] > 0.7 for a, b in zip(own, reference, strict=True))
    differences = plan_nodes(opened.scene, opened.plan.key, "fluence difference/")
    assert len(differences) == 3
    assert differences[0].GetDisplayNode().GetColorNode().GetName() == "DeepRT RdBu_r"
    assert done.write_thumbnails(tmp_path / "strip.png")
    assert (tmp_path / "strip_difference.png").read_bytes().startswith(b"\x89PNG")
    done.read_reference_plan(tmp_path / "out" / "deeprt_fluence_2.optimal_fluence")
    for a, b in zip(own, done.reference_maps(), strict=True):
        assert_allclose(a, b, rtol=1e-5, atol=1e-4)
    done.set_reference_maps(())
    assert done.reference_maps() == plan_nodes(opened.scene, opened.plan.key, "fluence difference/") == ()
    done.write_thumbnails(tmp_path / "strip.png")
    assert not (tmp_path / "strip_difference.png").exists()


def test_references_go_with_the_beams_they_are_of(opened, done):
    done.set_reference_maps([2 * m for m in done.maps()])
    done.set_beams([BeamAngles(a.gantry_deg + 1) for a in ANGLES])
    done.start_prediction()
    finish(opened)
    assert done.reference_maps() == ()


def test_reference_maps_of_other_beamlets_are_refused(opened, done, planning_without):
    with pytest.raises(InputError, match="The reference maps are not of this plan's beamlets; read them anew"):
        done.set_reference_maps([m[1:] for m in done.maps()])
    with pytest.raises(InputError, match="Predict or optimize the fluence first; then there are beamlets"):
        planning_without.set_reference_maps([np.zeros((2, 2))])


@pytest.fixture
def planning_without(opened):
    """The same scene, another plan without fluence."""
    session = PlanSession(opened.scene, Path("unused"))
    session.new_plan("Empty")
    return FluencePlanning(session)


def test_isodoses_are_those_of_the_prescription(opened, done, planning_without):
    done.show_isodoses([95, 50])
    names = {n.GetName() for n in plan_nodes(opened.scene, opened.plan.key, "isodoses/")}
    assert names == {"57 Gy", "30 Gy"}
    with pytest.raises(InputError, match="Choose a CT volume"):
        planning_without.show_isodoses([95])


# Beams of other plans


def test_beams_come_from_an_exported_plan(opened, done, tmp_path):
    change(done, beams=replace(opened.plan.config.beams, collimator_deg=30.0))
    done.start_all()
    finish(opened)
    done.start_export(tmp_path / "out")
    finish(opened)
    change(done, beams=replace(opened.plan.config.beams, collimator_deg=0.0))
    done.set_beams([BeamAngles(5.0)])
    assert done.read_plan(tmp_path / "out" / "RTPLAN.dcm") == ()
    assert [b.angles for b in opened.plan.beams] == list(ANGLES)
    assert opened.plan.config.beams.collimator_deg == 30.0
    assert done.stage_state(Stage.FLUENCE) is CURRENT


def test_what_a_plan_does_otherwise_is_said(opened, done, tmp_path):
    done.start_export(tmp_path / "out")
    finish(opened)
    plan = pydicom.dcmread(tmp_path / "out" / "RTPLAN.dcm")
    for n, beam in enumerate(plan.BeamSequence):
        beam.ControlPointSequence[0].IsocenterPosition = [
            float(x) + (3.0, 0.0, 4.0)[i] for i, x in enumerate(beam.ControlPointSequence[0].IsocenterPosition)
        ]
        beam.ControlPointSequence[0].BeamLimitingDeviceAngle = 10 * n
    plan.save_as(tmp_path / "moved.dcm")
    notes = done.read_plan(tmp_path / "moved.dcm")
    assert notes[0] == (
        "The beams have collimator angles of 0°, 10°, 20°; DeepRT has one for all, which was not changed."
    )
    assert notes[1].startswith("The plan's isocenter lies 5.0 mm from the center of the targets")


def test_a_plan_that_is_not_of_fixed_beams_or_not_of_this_patient_is_refused(opened, done, tmp_path):
    done.start_export(tmp_path / "out")
    finish(opened)
    plan = pydicom.dcmread(tmp_path / "out" / "RTPLAN.dcm")
    plan.PatientSetupSequence[0].PatientPosition = "FFS"
    plan.save_as(tmp_path / "feet_first.dcm")
    with pytest.raises(InputError, match="treats the patient FFS, the CT shows HFS; choose the plan of this CT"):
        done.read_plan(tmp_path / "feet_first.dcm")
    plan.PatientSetupSequence[0].PatientPosition = "HFS"
    points = plan.BeamSequence[1].ControlPointSequence
    points[0].GantryRotationDirection = "CW"
    points[-1].GantryAngle = 170.0
    plan.save_as(tmp_path / "arc.dcm")
    with pytest.raises(InputError, match=r"Beam 2 .* is an arc, which is not supported\. Choose a plan of photon"):
        done.read_plan(tmp_path / "arc.dcm")
    done.set_beams([BeamAngles(77.0)])
    done.start_prediction()
    finish(opened)
    with pytest.raises(InputError, match=r"has no beam at gantry 77\.0°, couch 0\.0°, collimator 0\.0° like Beam 1"):
        done.read_reference_plan(tmp_path / "out" / "RTPLAN.dcm")


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
