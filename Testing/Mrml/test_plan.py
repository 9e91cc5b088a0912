"""The node that holds a plan."""

from dataclasses import replace

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from Mrml.samples import a_case, beams_of

from deeprt.beams import BeamAngles
from deeprt.config import PlanningConfig
from deeprt.errors import InputError
from deeprt.orientation.session import SessionBeam
from deeprt.roles import StructureChoice
from deeprt.structures import Role
from deeprt_mrml.beam_models import show_beams
from deeprt_mrml.cases import ct_from_case, segmentation_from_case
from deeprt_mrml.plan import NODE_CLASS, Plan, delete, new_plan, plans_of, separate_copies
from deeprt_mrml.subject_hierarchy import plan_folder, plan_nodes, subject_hierarchy
from deeprt_mrml.volumes import volume_node

BEAMS = (SessionBeam(BeamAngles(10.5, 350.0)), SessionBeam(BeamAngles(200.0), locked=True))
CONFIG = replace(
    PlanningConfig(),
    machine="generic_15mv",
    n_fractions=20,
    structures={"PTV": StructureChoice(Role.TARGET, None, 60.0), 'Odd "name" <ä>': StructureChoice(Role.OTHER)},
)


@pytest.fixture
def plan(scene):
    return new_plan(scene)


def test_a_new_plan_is_empty(plan):
    assert (plan.name, plan.key) == ("Plan", "Plan")
    assert plan.ct_node is plan.segmentation_node is plan.wished_dose_node is None
    assert plan.config == PlanningConfig()
    assert plan.beams == plan.reference_beams == ()
    assert plan.text("Anything") == ""


def test_what_is_set_is_read_from_the_node(scene, plan):
    case = a_case()
    plan.ct_node, plan.segmentation_node = ct_from_case(scene, case), segmentation_from_case(scene, case)
    plan.wished_dose_node = volume_node(scene, "Dose", case.ct_hu, case.grid)
    plan.config, plan.beams, plan.reference_beams = CONFIG, BEAMS, [BeamAngles(77.0)]
    plan.set_text("Notes", "two\nlines")
    again = Plan(plan.node)
    assert (again.ct_node, again.segmentation_node) == (plan.ct_node, plan.segmentation_node)
    assert again.wished_dose_node.GetName() == "Dose"
    assert again.config == CONFIG
    assert again.beams == BEAMS
    assert again.reference_beams == (BeamAngles(77.0),)
    assert again.text("Notes") == "two\nlines"
    again.set_text("Notes", "")
    assert plan.text("Notes") == ""


def test_a_node_that_is_removed_is_no_longer_the_plans(scene, plan):
    case = a_case()
    plan.ct_node = ct_from_case(scene, case)
    scene.RemoveNode(plan.ct_node)
    assert plan.ct_node is None


def test_names_of_plans_are_unique_and_keys_stay(scene, plan):
    second, third = new_plan(scene), new_plan(scene)
    assert [p.name for p in plans_of(scene)] == ["Plan", "Plan 2", "Plan 3"]
    second.node.SetName("Boost")
    assert (second.name, second.key) == ("Boost", "Plan 2")
    delete(third)
    assert [p.key for p in plans_of(scene)] == ["Plan", "Plan 2"]
    assert new_plan(scene).key == "Plan 3"
    assert new_plan(scene, "Boost").key == "Boost 2"  # which is shown already


def test_nodes_of_others_are_no_plans(scene, plan):
    other = scene.AddNewNodeByClass(NODE_CLASS, "Settings")
    other.SetAttribute("ModuleName", "Other")
    nameless = scene.AddNewNodeByClass(NODE_CLASS, "Half a plan")
    nameless.SetAttribute("ModuleName", "DeepRT")
    assert [p.key for p in plans_of(scene)] == ["Plan"]
    for node in (other, nameless):
        with pytest.raises(InputError, match=f"'{node.GetName()}' is not a plan of DeepRT; choose a plan or make a"):
            Plan(node)


def test_settings_that_are_not_understood_are_an_error_that_names_the_plan(plan):
    plan.set_text("Config", '{"machine": "generic_6mv", "gantry_speed": 3}')
    with pytest.raises(InputError, match=r"plan 'Plan': unknown key 'gantry_speed' \(known are machine,"):
        _ = plan.config


def test_a_deleted_plan_leaves_inputs_and_other_plans(scene, plan):
    case = a_case()
    plan.ct_node, other = ct_from_case(scene, case), new_plan(scene)
    show_beams(scene, plan.key, beams_of(case))
    show_beams(scene, other.key, beams_of(case))
    delete(plan)
    assert plan.scene is None
    assert plans_of(scene)[0].key == other.key
    assert len(plan_nodes(scene, other.key, "beam/")) == 12
    assert plan_nodes(scene, "Plan") == ()
    assert scene.GetFirstNodeByName("Phantom") is not None
    delete(plan)  # once more, to no harm


def test_plans_are_saved_with_the_scene(scene, tmp_path, plan):
    case = a_case()
    plan.ct_node, plan.segmentation_node = ct_from_case(scene, case), segmentation_from_case(scene, case)
    plan.config, plan.beams = CONFIG, BEAMS
    plan.set_text("Evaluation of this plan", '{"a": "<&>"}')
    second = new_plan(scene, "Other")
    second.ct_node = plan.ct_node
    assert scene.WriteToMRB(str(tmp_path / "plans.mrb"))
    scene.Clear(False)
    assert plans_of(scene) == ()
    assert scene.ReadFromMRB(str(tmp_path / "plans.mrb"), True)
    first, second = plans_of(scene)
    assert (first.config, first.beams) == (CONFIG, BEAMS)
    assert first.text("Evaluation of this plan") == '{"a": "<&>"}'
    assert first.ct_node is second.ct_node is not None
    assert first.segmentation_node.GetName() == "Phantom structures"
    assert second.segmentation_node is None


def test_a_plan_that_comes_with_another_scene_gets_a_key_of_its_own(scene, tmp_path, plan):
    """Both were made as *Plan*: neither takes the nodes of the other one."""
    case = a_case()
    plan.ct_node, plan.beams = ct_from_case(scene, case), BEAMS
    show_beams(scene, plan.key, beams_of(case))
    assert scene.WriteToMRB(str(tmp_path / "other.mrb"))
    before = plan_nodes(scene, plan.key)
    folder = plan_folder(scene, plan.key)
    assert scene.ReadFromMRB(str(tmp_path / "other.mrb"), False)
    separate_copies(scene)
    first, second = plans_of(scene)
    assert [(p.key, p.name) for p in (first, second)] == [("Plan", "Plan"), ("Plan 2", "Plan 2")]
    assert plan_nodes(scene, first.key) == before
    added = plan_nodes(scene, second.key)
    assert [n.GetName() for n in added[1:]] == [n.GetName() for n in before[1:]]
    assert not set(added) & set(before)
    assert second.beams == first.beams
    assert second.ct_node is not first.ct_node
    hierarchy = subject_hierarchy(scene)
    assert plan_folder(scene, "Plan") == folder
    assert hierarchy.GetItemName(plan_folder(scene, "Plan 2")) == "Plan 2"
    show_beams(scene, second.key, beams_of(case)[:1])
    assert plan_nodes(scene, first.key) == before
    separate_copies(scene)
    assert [p.key for p in plans_of(scene)] == ["Plan", "Plan 2"]
