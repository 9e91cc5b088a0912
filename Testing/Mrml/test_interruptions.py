"""What a user does while work is under way: nothing worse than one sentence comes of it."""

import shutil
from dataclasses import replace

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from Mrml.fluence_samples import states
from Mrml.samples import a_rigid_transform

from deeprt.errors import InputError
from deeprt.structures import Role
from deeprt_mrml.beam_check import BeamCheck
from deeprt_mrml.beam_planning import BeamPlanning
from deeprt_mrml.fluence_stages import Stage
from deeprt_mrml.subject_hierarchy import plan_nodes, remove_nodes


def empty_the_target(session):
    segmentation = session.plan.segmentation_node.GetSegmentation()
    segmentation.RemoveSegment(segmentation.GetSegmentIdBySegmentName("PTV"))
    segmentation.AddEmptySegment("PTV", "PTV")


def close_the_scene(session):
    session.scene_was_closed()
    session.scene.Clear(False)


def move_the_ct(session):
    transform, _ = a_rigid_transform(session.scene)
    session.plan.ct_node.SetAndObserveTransformNodeID(transform.GetID())


def remove_all_that_is_shown(session):
    nodes = plan_nodes(session.scene, session.plan.key)
    remove_nodes(session.scene, [n for n in nodes if n is not session.plan.node])


ACTS = {
    "ct deleted": lambda s: s.scene.RemoveNode(s.plan.ct_node),
    "segmentation deleted": lambda s: s.scene.RemoveNode(s.plan.segmentation_node),
    "segmentation emptied": lambda s: s.plan.segmentation_node.GetSegmentation().RemoveAllSegments(),
    "target emptied": empty_the_target,
    "plan deleted": lambda s: s.scene.RemoveNode(s.plan.node),
    "scene closed": close_the_scene,
    "scene cleared unheard": lambda s: s.scene.Clear(False),
    "temporary files deleted": lambda s: shutil.rmtree(s._folder),
    "other voxels": lambda s: setattr(s.plan, "config", replace(s.plan.config, dose_grid_mm=7.0)),
    "no beams": lambda s: setattr(s.plan, "beams", ()),
    "no image": lambda s: s.plan.ct_node.SetAndObserveImageData(None),
    "ct moved": move_the_ct,
    "no target": lambda s: s.set_role("PTV", Role.OTHER),
    "results deleted": remove_all_that_is_shown,
}
STARTS = {
    "prediction": lambda planning, _: planning.start_prediction(),
    "dose": lambda planning, _: planning.start_dose(),
    "evaluation": lambda _, check: check.start_evaluation(),
}


@pytest.mark.parametrize("start", (STARTS["dose"], STARTS["evaluation"]), ids=("dose", "evaluation"))
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_whatever_happens_when_a_process_has_just_ended_is_answered_in_a_sentence(opened, done, act, start):
    check = BeamCheck(opened, BeamPlanning(opened))
    start(done, check)
    job = opened.work._job
    job.poll()
    act(opened)
    try:
        opened.work.poll()
    except InputError as error:
        assert str(error).endswith(".")
    assert not opened.work.is_busy
    look_at_everything(done, check)
    for again in STARTS.values():
        try:
            again(done, check)
        except InputError:
            continue
        opened.work.end()


def look_at_everything(planning, check):
    """What panels ask; sentences are allowed for questions about a case that cannot be planned."""
    states(planning)
    for action in ("predict", "optimize", "refine", "sequence", "dose", "compare", "export", "all"):
        assert isinstance(planning.why_not(action), str)
    for action in ("column generation", "improve", "evaluate", "adopt"):
        assert isinstance(check.why_not(action), str)
    questions = [planning.maps, planning.beam_mu, planning.metrics, planning.goals, planning.gamma, planning.notes,
                 check.comparison, check.beam_shares, check.show, lambda: check.is_outdated,
                 lambda: (planning.dose_node, planning.dvh_chart, check.dose_node, check.dvh_chart)]  # fmt: skip
    for ask in questions:
        try:
            ask()
        except InputError as error:
            assert str(error).endswith(".")


def test_results_that_were_under_way_come_into_the_scene_as_those_of_the_case_before(opened, done):
    done.start_prediction()
    opened.plan.config = replace(opened.plan.config, dose_grid_mm=7.0)
    opened.work.poll()
    assert len(done.maps()) == 3
    assert done.why_not_current(Stage.FLUENCE).startswith("The CT or structures changed after the fluence was predict")


def test_fluence_stays_current_when_another_way_to_find_it_is_cancelled(opened, done):
    before = states(done)
    done.start_optimization()
    opened.work.cancel()
    assert not opened.work.poll()
    assert states(done) == before
    assert opened.plan.config.fluence.method == "network"
