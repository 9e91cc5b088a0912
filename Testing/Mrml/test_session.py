"""A planning session: plans, their cases and roles."""

from dataclasses import replace

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from Mrml.samples import a_case, a_rigid_transform
from Mrml.session_samples import ANGLES, a_session
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.errors import InputError
from deeprt.orientation.session import SessionBeam
from deeprt.structures import Role
from deeprt_mrml.cases import ct_from_case, segmentation_from_case
from deeprt_mrml.coordinates import grid_of
from deeprt_mrml.session import PlanSession
from deeprt_mrml.subject_hierarchy import plan_nodes
from deeprt_mrml.volumes import dose_node

CASE = a_case()


@pytest.fixture
def empty(scene, tmp_path):
    return PlanSession(scene, tmp_path / "jobs")


@pytest.fixture
def session(scene, tmp_path):
    return a_session(scene, tmp_path / "jobs")


def roles(session):
    return {r.name: r.role for r in session.structures()}


# Plans


def test_a_session_begins_without_a_plan(empty):
    assert empty.plan is None
    assert empty.plans() == empty.structures() == ()
    with pytest.raises(InputError, match="There is no plan; make one, or try it with the virtual patient"):
        _ = empty.current_plan


def test_what_is_missing_is_said_one_after_the_other(scene, empty):
    assert empty.why_not_ready() == "Make a plan first, or try it with the virtual patient."
    plan = empty.new_plan()
    assert empty.why_not_ready() == "Choose a CT volume."
    plan.ct_node = ct_from_case(scene, CASE)
    assert empty.why_not_ready() == "Choose a segmentation."
    plan.segmentation_node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Drawn")
    assert empty.why_not_ready() == "Segmentation 'Drawn' is empty; draw or load structures."
    plan.segmentation_node = segmentation_from_case(scene, CASE)
    assert empty.why_not_ready() == ""
    empty.set_role("PTV", Role.OTHER)
    assert empty.why_not_ready() == "No structure is a target; give one the role target."
    with pytest.raises(InputError, match="No structure is a target; give one the role target"):
        empty.prepared()


def test_settings_that_are_not_understood_keep_a_plan_from_being_planned(session):
    session.plan.set_text("Config", '{"machne": "x"}')
    assert session.why_not_ready().startswith("plan 'Plan': unknown key 'machne'")


def test_a_new_plan_begins_with_the_inputs_of_the_one_before(session):
    first = session.plan
    first.beams = [SessionBeam(a) for a in ANGLES]
    second = session.new_plan("Other")
    assert session.plan is second
    assert (second.ct_node, second.segmentation_node) == (first.ct_node, first.segmentation_node)
    assert second.config == first.config
    assert second.beams == ()
    assert [p.key for p in session.plans()] == ["Plan", "Other"]


def test_a_plan_whose_node_is_removed_is_no_longer_in_work(scene, session):
    scene.RemoveNode(session.plan.node)
    assert session.plan is None
    assert session.why_not_ready() == "Make a plan first, or try it with the virtual patient."


def test_a_removed_plan_leaves_its_inputs(scene, session):
    case = session.prepared().case
    session.plan.wished_dose_node = dose_node(scene, "someone", "RTDOSE", case.ct_hu, case.grid)
    session.remove_plan()
    assert session.plan is None
    assert session.plans() == ()
    assert all(scene.GetFirstNodeByName(n) is not None for n in ("Phantom", "Phantom structures", "RTDOSE"))


def test_no_other_plan_is_opened_while_work_is_under_way(session):
    first = session.plan
    second = session.new_plan("Other")
    session.work.start("Something", ["plan", "virtual:nobody", "--out", "nowhere"], lambda: None)
    for act in (lambda: session.open(first), session.new_plan, session.remove_plan):
        with pytest.raises(InputError, match="Something is under way; wait for it or cancel it first"):
            act()
    session.open(second)  # which is that one
    assert [p.key for p in session.plans()] == ["Plan", "Other"]


def test_a_closed_scene_ends_work_and_forgets_the_plan(scene, session):
    session.prepared()
    session.work.start("Something", ["plan", "virtual:nobody", "--out", "nowhere"], lambda: pytest.fail("was done"))
    session.scene_was_closed()
    scene.Clear(False)
    assert not session.work.poll()
    assert session.plan is None
    assert session.plans() == ()


def test_a_scene_that_brings_the_same_plan_leaves_the_one_in_work_alone(scene, session, tmp_path):
    session.prepared()
    assert scene.WriteToMRB(str(tmp_path / "same.mrb"))
    plan, nodes = session.plan, plan_nodes(scene, session.plan.key)
    assert scene.ReadFromMRB(str(tmp_path / "same.mrb"), False)
    assert session.plan is plan
    assert plan_nodes(scene, plan.key) == nodes
    assert [p.key for p in session.plans()] == ["Plan", "Plan 2"]
    session.open(session.plans()[1])
    session.remove_plan()
    assert plan_nodes(scene, plan.key) == nodes


def test_the_virtual_patient_can_be_planned_at_once(scene, empty):
    plan = empty.load_virtual_patient()
    assert empty.plan is plan
    assert empty.why_not_ready() == ""
    assert plan.ct_node.GetName() in plan.segmentation_node.GetName()
    assert roles(empty)["PTV_60"] is Role.TARGET


# Structures


def test_structures_are_shown_with_role_prescription_and_weight(session):
    rows = {r.name: r for r in session.structures()}
    assert list(rows) == [s.name for s in CASE.structures]
    assert rows["PTV"].color == (200, 30, 40)
    assert (rows["PTV"].role, rows["PTV"].prescription_gy, rows["PTV"].weight) == (Role.TARGET, 60.0, 1.0)
    assert (rows["Rectum"].organ, rows["Rectum"].prescription_gy) == ("Rectum", None)
    session.set_weight("Rectum", 3.5)
    session.set_weight("Bladder", 0.5)
    rows = {r.name: r for r in session.structures()}
    assert (rows["Rectum"].weight, rows["Bladder"].weight) == (3.5, 0.5)


def test_the_proposed_role_is_what_it_was_before_the_user_chose(session):
    session.set_role("Rectum", Role.OTHER)
    row = next(r for r in session.structures() if r.name == "Rectum")
    assert (row.role, row.proposed) == (Role.OTHER, Role.ORGAN_AT_RISK)


def test_another_external_takes_the_place_of_the_one_before(session):
    session.set_role("Metal", Role.EXTERNAL)
    assert roles(session)["Metal"] is Role.EXTERNAL
    assert roles(session)["BODY"] is Role.OTHER
    session.set_role("BODY", Role.EXTERNAL)
    assert [n for n, r in roles(session).items() if r is Role.EXTERNAL] == ["BODY"]


def test_only_targets_keep_a_prescription(session):
    session.set_prescription("Bladder", 50.0)
    assert roles(session)["Bladder"] is Role.TARGET
    case = session.prepared().case
    assert [t.name for t in case.targets] == ["PTV", "Bladder"]
    session.set_role("Bladder", Role.ORGAN_AT_RISK)
    assert session.prepared().case.structure("Bladder").prescription_gy is None


def test_a_role_leaves_what_segments_keep_of_others(session):
    """Organs and densities, which no control shows."""
    before = session.prepared().case
    session.set_role("PTV", Role.TARGET)
    after = session.prepared().case
    for s in before.structures:
        found = after.structure(s.name)
        assert (found.role, found.organ, found.density) == (s.role, s.organ, s.density), s.name


# Cases


def test_the_case_is_that_of_the_nodes_on_the_planning_grid(scene, session):
    transform, _ = a_rigid_transform(scene)
    for node in (session.plan.ct_node, session.plan.segmentation_node):
        node.SetAndObserveTransformNodeID(transform.GetID())
    prepared = session.prepared()
    grid = grid_of(session.plan.ct_node)
    assert prepared.case.grid.same_as(grid.resampled(6.0))
    assert prepared.case.n_fractions == 20
    assert prepared.case.dicom is None
    assert prepared.notes[-1] == f"Objectives and goals: protocol {prepared.protocol.name}."
    own = session.case_on(None)
    assert own.grid.same_as(grid)
    assert_array_equal(own.ct_hu, CASE.ct_hu)
    assert_array_equal(own.structure("PTV").fraction, CASE.structure("PTV").fraction)


def test_the_case_is_made_anew_when_something_changed_and_not_otherwise(session):
    first = session.prepared()
    assert session.prepared() is first
    session.set_weight("Rectum", 2.0)
    assert session.prepared() is first
    changes = (
        lambda: session.set_prescription("PTV", 62.0),
        lambda: slicer.util.updateVolumeFromArray(session.plan.ct_node, CASE.ct_hu + 1),
        lambda: setattr(session.plan, "config", replace(session.plan.config, dose_grid_mm=5.0)),
        lambda: session.plan.segmentation_node.GetSegmentation().RemoveSegment(
            session.plan.segmentation_node.GetSegmentation().GetSegmentIdBySegmentName("Metal")
        ),
    )
    for change in changes:
        before = session.prepared()
        change()
        assert session.prepared() is not before
    assert session.prepared().case.targets[0].prescription_gy == 62.0
    assert_allclose(session.prepared().case.ct_hu.mean(), CASE.ct_hu.mean() + 1, atol=0.3)


def test_plans_keep_cases_of_their_own(session):
    first = session.prepared()
    plan = session.plan
    session.new_plan("Other")
    session.set_prescription("PTV", 50.0)
    assert session.prepared().case.targets[0].prescription_gy == 50.0
    session.open(plan)
    assert session.prepared() is first


def test_without_prescription_the_case_says_what_to_give(session):
    session.set_prescription("Bladder", None)
    session.set_prescription("PTV", None)
    with pytest.raises(InputError, match="prescription"):
        session.prepared()


def test_beams_are_placed_with_the_collimator_of_the_plan(session):
    config = session.plan.config
    session.plan.config = replace(config, beams=replace(config.beams, collimator_deg=33.0))
    beams = session.placed(ANGLES)
    assert {b.angles.collimator_deg for b in beams} == {33.0}
    assert_allclose(beams[0].isocenter_lps, CASE.isocenter_lps(), atol=0.1)
