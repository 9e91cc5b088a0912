"""Column generation, search and evaluation of a plan's beams."""

from dataclasses import replace

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from Mrml.samples import a_case, a_rigid_transform
from Mrml.session_samples import ANGLES, a_session, finish
from numpy.testing import assert_allclose

from deeprt.beams import BeamAngles
from deeprt.errors import InputError
from deeprt.evaluation.normalization import Normalization
from deeprt.machine_file import read_machine
from deeprt.orientation.selection import select_beams
from deeprt.preparation import with_prescriptions
from deeprt.structures import Role
from deeprt_mrml.beam_check import BeamCheck
from deeprt_mrml.beam_planning import BeamPlanning
from deeprt_mrml.subject_hierarchy import remove_nodes
from deeprt_mrml.volumes import volume_node

CASE = a_case()
OTHERS = (BeamAngles(0.0), BeamAngles(90.0), BeamAngles(180.0))


@pytest.fixture
def session(scene, tmp_path):
    session = a_session(scene, tmp_path / "jobs", CASE)
    config = session.plan.config
    selection = replace(config.selection, candidates="coplanar:20", voxel_mm=6.0, beamlet_mm=10.0, cache=False)
    session.plan.config = replace(config, selection=selection)
    return session


@pytest.fixture
def planning(session):
    planning = BeamPlanning(session)
    planning.take(ANGLES)
    return planning


@pytest.fixture
def check(session, planning):
    return BeamCheck(session, planning)


@pytest.fixture
def evaluated(session, check):
    """The plan's beams evaluated, and others as column generation would choose them."""
    session.plan.reference_beams = OTHERS
    check.start_evaluation()
    finish(session)
    return check


def test_column_generation_beside_the_plan_is_that_of_the_core(session, planning, check):
    planning.lock(1, True)
    session.set_prescription("Metal", 30.0)
    edit_segment(session)  # after which there are settings for a structure that the case lacks
    check.start_column_generation()
    finish(session)
    config = session.plan.config
    _, case, _ = with_prescriptions(session.case_on(6.0), config)
    machine = read_machine("generic_6mv")
    alone = select_beams(case, machine, "column-generation", 7, config.selection, given=[ANGLES[1]])
    assert session.plan.reference_beams == alone.angles
    assert [b.angles for b in session.plan.beams] == list(ANGLES)


def test_column_generation_begins_with_locked_beams_to_the_last_digit(session, planning, check):
    planning.move(0, BeamAngles(123.456789))
    planning.lock(0, True)
    check.start_column_generation()
    command = session.work.commands[-1]
    assert command[command.index("--start") + 1] == "123.456789"


def test_adopted_beams_are_one_step_to_undo(session, planning, check):
    assert check.why_not("adopt") == "Column generation has chosen no beams yet."
    session.plan.reference_beams = (BeamAngles(20.0), BeamAngles(40.0))
    check.adopt_reference()
    assert [b.angles.gantry_deg for b in session.plan.beams] == [20.0, 40.0]
    planning.undo()
    assert [b.angles for b in session.plan.beams] == list(ANGLES)


def test_a_search_leaves_locked_beams_where_they_are(session, planning, check):
    planning.lock(2, True)
    check.start_improvement(0.5)
    finish(session)
    beams = session.plan.beams
    assert len(beams) == 3
    assert [b.angles for b in beams if b.locked] == [ANGLES[2]]
    assert planning.can_undo or {b.angles for b in beams} == set(ANGLES)


def test_evaluation_shows_dose_dvhs_and_numbers_of_both_sets(evaluated):
    rows = {r.name: r for r in evaluated.comparison()}
    assert rows["Objective"].own > 0 and rows["Objective"].reference > 0
    assert rows["Objective"].own != rows["Objective"].reference
    # The fluence is scaled to the coverage of the protocol, 95 % of the volume at 98 % of the dose.
    assert_allclose([rows["PTV D95%"].own, rows["PTV D95%"].reference], 0.98 * 60, rtol=1e-3)
    assert_allclose(sum(evaluated.beam_shares()), 1.0)
    chart = evaluated.dvh_chart
    styles = {chart.GetNthPlotSeriesNode(n).GetLineStyle() for n in range(chart.GetNumberOfPlotSeriesNodes())}
    assert styles == {slicer.vtkMRMLPlotSeriesNode.LineStyleSolid, slicer.vtkMRMLPlotSeriesNode.LineStyleDash}
    assert not evaluated.is_outdated


def change_config(session, **parts):
    session.plan.config = replace(session.plan.config, **parts)


def edit_segment(session):
    segmentation = session.plan.segmentation_node.GetSegmentation()
    segmentation.RemoveSegment(segmentation.GetSegmentIdBySegmentName("Bladder"))


def move_patient(session):
    transform, _ = a_rigid_transform(session.scene)
    for node in (session.plan.ct_node, session.plan.segmentation_node):
        node.SetAndObserveTransformNodeID(transform.GetID())


CHANGES = {
    "beams": lambda s: setattr(s.plan, "beams", s.plan.beams[1:]),
    "machine": lambda s: change_config(s, machine="generic_15mv"),
    "normalization": lambda s: change_config(s, normalization=Normalization(dose_percent=97)),
    "segments": edit_segment,
    "CT": lambda s: slicer.util.updateVolumeFromArray(s.plan.ct_node, CASE.ct_hu + 10),
    "place": move_patient,
    "prescription": lambda s: s.set_prescription("PTV", 62.0),
    "role": lambda s: s.set_role("Rectum", Role.OTHER),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_evaluation_is_outdated_by_what_its_dose_hangs_on(session, evaluated, change):
    change(session)
    assert evaluated.is_outdated
    assert set(evaluated.beam_shares()) == {None}


def test_an_evaluation_is_not_outdated_by_what_its_dose_does_not_hang_on(session, evaluated):
    config = session.plan.config
    change_config(
        session,
        sequencing=replace(config.sequencing, max_levels=12),  # which DeepFluence sets
        fluence=replace(config.fluence, method="network", wished="predict"),
        normalization=Normalization(rule="wished-mean"),
    )
    session.set_weight("Rectum", 3.0)  # of the choice of beams
    assert not evaluated.is_outdated
    assert None not in evaluated.beam_shares()


def test_another_choice_of_column_generation_outdates_the_comparison_and_not_the_shares(session, evaluated):
    session.plan.reference_beams = OTHERS[:2]
    assert evaluated.is_outdated
    assert None not in evaluated.beam_shares()
    evaluated.start_evaluation()
    finish(session)
    assert not evaluated.is_outdated


def test_a_reference_is_evaluated_again_where_that_is_needed_only(session, evaluated):
    session.work.commands.clear()
    evaluated.start_evaluation()
    finish(session)
    assert len(session.work.commands) == 1
    remove_nodes(session.scene, [session.scene.GetFirstNodeByName("Dose, column generation")])
    evaluated.start_evaluation()
    finish(session)
    assert len(session.work.commands) == 3


def test_beams_are_evaluated_by_coverage_where_the_plan_keeps_the_mean_of_a_wished_dose(session, check):
    change_config(session, normalization=Normalization(rule="wished-mean"))
    check.start_evaluation()
    finish(session)
    rows = {r.name: r for r in check.comparison()}
    assert_allclose(rows["PTV D95%"].own, 0.98 * 60, rtol=1e-3)


def test_without_a_plan_there_is_nothing_to_show(session, evaluated):
    session.scene.RemoveNode(session.plan.node)
    assert not evaluated.is_evaluated
    assert not evaluated.is_outdated
    assert evaluated.dose_node is evaluated.dvh_chart is None
    assert evaluated.comparison() == ()


def test_a_given_dose_is_shown_beside_that_of_the_beams(session, scene, check):
    session.plan.wished_dose_node = volume_node(scene, "Given", np.full(CASE.grid.shape, 30, np.float32), CASE.grid)
    check.start_evaluation()
    finish(session)
    chart = check.dvh_chart
    names = [chart.GetNthPlotSeriesNode(n).GetName() for n in range(chart.GetNumberOfPlotSeriesNodes())]
    assert {"PTV (this plan)", "PTV (given dose)"} <= set(names)


def test_a_volume_that_is_no_dose_of_the_patient_is_not_among_the_curves(session, scene, check):
    values = np.full(CASE.grid.shape, np.nan, np.float32)
    session.plan.wished_dose_node = volume_node(scene, "Given", values, CASE.grid)
    check.start_evaluation()
    finish(session)
    chart = check.dvh_chart
    names = {chart.GetNthPlotSeriesNode(n).GetName() for n in range(chart.GetNumberOfPlotSeriesNodes())}
    assert "PTV" in names


def test_a_cancelled_evaluation_leaves_the_plan_as_it_was(session, check):
    check.start_evaluation()
    session.work.cancel()
    finish(session)
    assert session.work.was_cancelled
    assert not check.is_evaluated
    assert check.comparison() == ()


def test_only_one_piece_of_work_runs_at_a_time(session, check):
    check.start_evaluation()
    assert check.why_not("column generation") == "Evaluation is under way."
    with pytest.raises(InputError, match="Evaluation is under way"):
        check.start_column_generation()
    session.work.end()


def test_what_cannot_be_checked_says_why(session, planning, check):
    planning.lock(0, True)
    planning.move(1, BeamAngles(130.0, 20.0))
    planning.lock(1, True)
    assert "couch is turned" in check.why_not("column generation")
    planning.lock(2, True)
    assert check.why_not("improve") == "All beams are locked; unlock those that may be exchanged."
    session.plan.beams = ()
    assert check.why_not("evaluate") == "The plan has no beams yet; propose or add some."


def test_results_are_there_when_the_scene_is_loaded_again(session, scene, check, tmp_path):
    check.start_evaluation()
    finish(session)
    before = [(r.name, r.own) for r in check.comparison()]
    bundle = str(tmp_path / "plan.mrb")
    assert scene.WriteToMRB(bundle)
    scene.Clear(False)
    session.scene_was_closed()
    assert scene.ReadFromMRB(bundle, True)
    session.open(session.plans()[0])
    after = [(r.name, r.own) for r in BeamCheck(session, BeamPlanning(session)).comparison()]
    assert [name for name, _ in after] == [name for name, _ in before]
    assert_allclose([v for _, v in after], [v for _, v in before], rtol=1e-3)  # files state directions in text
    assert not np.isnan([v for _, v in after]).any()
