import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import vtk

from deeprt_mrml.subject_hierarchy import (
    keep_only,
    place,
    plan_folder,
    plan_node,
    plan_nodes,
    remove_plan,
    subject_hierarchy,
)

MODEL, TRANSFORM = "vtkMRMLModelNode", "vtkMRMLLinearTransformNode"


def names_below(scene, item):
    hierarchy, ids = subject_hierarchy(scene), vtk.vtkIdList()
    hierarchy.GetItemChildren(item, ids, True)
    return [hierarchy.GetItemName(ids.GetId(n)) for n in range(ids.GetNumberOfIds())]


def test_there_is_one_subject_hierarchy_whatever_is_asked_of_it(scene):
    subject_hierarchy(scene)
    plan_folder(scene, "Plan")
    plan_node(scene, "Plan", "axis", MODEL, "Axis")
    assert scene.GetNumberOfNodesByClass("vtkMRMLSubjectHierarchyNode") == 1


def test_a_plan_has_one_folder_also_when_the_user_renamed_it(scene):
    folder = plan_folder(scene, "Plan")
    assert subject_hierarchy(scene).GetItemName(folder) == "Plan"
    subject_hierarchy(scene).SetItemName(folder, "My favorite")
    assert plan_folder(scene, "Plan") == folder
    assert plan_folder(scene, "Other") != folder


def test_a_part_of_a_plan_is_one_node_with_the_latest_name(scene):
    node = plan_node(scene, "Plan", "axis", MODEL, "Axis")
    assert plan_node(scene, "Plan", "axis", MODEL, "Central axis") is node
    assert node.GetName() == "Central axis"
    assert plan_node(scene, "Other", "axis", MODEL, "Axis") is not node
    assert plan_node(scene, "Plan", "field", MODEL, "Field") is not node
    assert names_below(scene, plan_folder(scene, "Plan")) == ["Central axis", "Field"]


def test_a_node_is_found_wherever_the_user_put_it(scene):
    node = plan_node(scene, "Plan", "axis", MODEL, "Axis")
    place(scene, node, subject_hierarchy(scene).CreateFolderItem(subject_hierarchy(scene).GetSceneItemID(), "Mine"))
    assert names_below(scene, plan_folder(scene, "Plan")) == []
    assert plan_node(scene, "Plan", "axis", MODEL, "Axis") is node


def test_a_node_can_stand_below_another_one_of_its_plan(scene):
    transform = plan_node(scene, "Plan", "beam", TRANSFORM, "Beam")
    plan_node(scene, "Plan", "beam/axis", MODEL, "Axis", under=transform)
    item = subject_hierarchy(scene).GetItemByDataNode(transform)
    assert names_below(scene, item) == ["Axis"]


def test_only_what_begins_with_the_part_is_removed(scene):
    kept = plan_node(scene, "Plan", "beam/1", MODEL, "One")
    plan_node(scene, "Plan", "beam/2", MODEL, "Two")
    dose = plan_node(scene, "Plan", "dose", "vtkMRMLScalarVolumeNode", "Dose")
    keep_only(scene, "Plan", "beam/", [kept])
    assert plan_nodes(scene, "Plan") == (kept, dose)
    assert names_below(scene, plan_folder(scene, "Plan")) == ["One", "Dose"]


def test_a_plan_is_removed_with_all_that_displays_it_and_nothing_else(scene):
    before = scene.GetNumberOfNodes()
    transform = plan_node(scene, "Plan", "beam", TRANSFORM, "Beam")
    model = plan_node(scene, "Plan", "beam/axis", MODEL, "Axis", under=transform)
    model.CreateDefaultDisplayNodes()
    model.AddDefaultStorageNode()
    model.SetAndObserveTransformNodeID(transform.GetID())
    own = scene.AddNewNodeByClass(MODEL, "The user's own")
    place(scene, own, plan_folder(scene, "Plan"))
    remove_plan(scene, "Plan")
    assert scene.GetNumberOfNodes() == before + 1
    assert names_below(scene, subject_hierarchy(scene).GetSceneItemID()) == ["The user's own"]
