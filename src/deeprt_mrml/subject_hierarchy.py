"""Which nodes belong to which plan, and the plan's folder in the subject hierarchy.

A plan is known by its key, the name it was made with. Each of its nodes says in its attributes whose it is and which
part of the plan it shows, so that it is found again when the plan changes, also in a scene that was saved and loaded,
and wherever the user moved it in the tree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import slicer
import vtk

_PLAN, _PART = "DeepRT.Plan", "DeepRT.Part"


def subject_hierarchy(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLSubjectHierarchyNode:
    """Return the subject hierarchy of a scene, of which there is exactly one."""
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


def plan_folder(scene: slicer.vtkMRMLScene, plan: str) -> int:
    """Return the subject hierarchy item of a plan's folder, made if there is none."""
    hierarchy = subject_hierarchy(scene)
    for item in _items_below(hierarchy, hierarchy.GetSceneItemID()):
        if hierarchy.GetItemAttribute(item, _PLAN) == plan:
            return item
    item = int(hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), plan))
    hierarchy.SetItemAttribute(item, _PLAN, plan)
    return item


def rename_folder(scene: slicer.vtkMRMLScene, plan: str, name: str) -> None:
    """Let the last of several folders of one plan be that of a plan of another name."""
    hierarchy = subject_hierarchy(scene)
    items = _items_below(hierarchy, hierarchy.GetSceneItemID())
    folders = [item for item in items if hierarchy.GetItemAttribute(item, _PLAN) == plan]
    if len(folders) > 1:
        hierarchy.SetItemAttribute(folders[-1], _PLAN, name)
        hierarchy.SetItemName(folders[-1], name)


def plan_node(
    scene: slicer.vtkMRMLScene,
    plan: str,
    part: str,
    class_name: str,
    name: str,
    *,
    under: slicer.vtkMRMLNode | None = None,
) -> slicer.vtkMRMLNode:
    """Return the node that shows a part of a plan: the one there is, with this name, or a new one.

    Parameters
    ----------
    plan : name of the plan, whose folder is made if there is none
    part : what the node shows, unique in the plan, such as ``beam 1/axis``
    under : node of the same plan below which a new one is put in the subject hierarchy; the folder if None
    """
    node = find_node(scene, plan, part)
    if node is None:
        node = scene.AddNewNodeByClass(class_name, name)
        claim(node, plan, part)
        parent = plan_folder(scene, plan) if under is None else subject_hierarchy(scene).GetItemByDataNode(under)
        place(scene, node, parent)
    elif node.GetName() != name:
        node.SetName(name)
    return node


def claim(node: slicer.vtkMRMLNode, plan: str, part: str | None = None) -> None:
    """Let a node know which plan, and which part of it, it belongs to; the part stays as it is if None."""
    node.SetAttribute(_PLAN, plan)
    if part is not None:
        node.SetAttribute(_PART, part)


def key_of(node: slicer.vtkMRMLNode) -> str:
    """Name by which a node knows its plan; empty if it belongs to none."""
    return str(node.GetAttribute(_PLAN) or "")


def find_node(scene: slicer.vtkMRMLScene, plan: str, part: str) -> slicer.vtkMRMLNode | None:
    """Return the node that shows a part of a plan; None if there is none."""
    return next((n for n in plan_nodes(scene, plan, part) if n.GetAttribute(_PART) == part), None)


def plan_nodes(scene: slicer.vtkMRMLScene, plan: str, part: str = "") -> tuple[slicer.vtkMRMLNode, ...]:
    """Nodes of a plan whose part begins with ``part``, in the order they were made."""
    nodes = (scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes()))
    return tuple(n for n in nodes if n.GetAttribute(_PLAN) == plan and n.GetAttribute(_PART).startswith(part))


def remove_plan(scene: slicer.vtkMRMLScene, plan: str) -> None:
    """Remove all nodes of a plan, and its folder; what the user put into it moves up."""
    remove_nodes(scene, plan_nodes(scene, plan))
    hierarchy, folder = subject_hierarchy(scene), plan_folder(scene, plan)
    for item in _items_below(hierarchy, folder, recursive=False):
        hierarchy.SetItemParent(item, hierarchy.GetItemParent(folder))
    hierarchy.RemoveItem(folder, False, False)


def keep_only(scene: slicer.vtkMRMLScene, plan: str, part: str, kept: Collection[slicer.vtkMRMLNode]) -> None:
    """Remove the nodes of a plan whose part begins with ``part``, but these."""
    remove_nodes(scene, [n for n in plan_nodes(scene, plan, part) if n not in kept])


def remove_nodes(scene: slicer.vtkMRMLScene, nodes: Iterable[slicer.vtkMRMLNode]) -> None:
    """Remove nodes from the scene with what displays and stores them, and their places in the subject hierarchy."""
    hierarchy, gone = subject_hierarchy(scene), set()
    for node in tuple(nodes):
        gone.add(hierarchy.GetItemByDataNode(node))
        attached = []
        if node.IsA("vtkMRMLDisplayableNode"):
            attached += [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
        if node.IsA("vtkMRMLStorableNode"):
            attached += [node.GetNthStorageNode(n) for n in range(node.GetNumberOfStorageNodes())]
        for each in (*attached, node):
            scene.RemoveNode(each)
    # Slicer takes an item away with its node; the bare scene does not, and never ends removing an item with all below.
    for item in reversed(_items_below(hierarchy, hierarchy.GetSceneItemID())):
        if item in gone:
            hierarchy.RemoveItem(item, False, False)


def place(scene: slicer.vtkMRMLScene, node: slicer.vtkMRMLNode, parent: int) -> None:
    """Put a node below an item of the subject hierarchy."""
    hierarchy = subject_hierarchy(scene)
    item = hierarchy.GetItemByDataNode(node)  # Slicer makes one with the node, the bare scene does not
    if item:
        hierarchy.SetItemParent(item, parent)
    else:
        hierarchy.CreateItem(parent, node)


def _items_below(
    hierarchy: slicer.vtkMRMLSubjectHierarchyNode, item: int, *, recursive: bool = True
) -> tuple[int, ...]:
    ids = vtk.vtkIdList()
    hierarchy.GetItemChildren(item, ids, recursive)
    return tuple(int(ids.GetId(n)) for n in range(ids.GetNumberOfIds()))
