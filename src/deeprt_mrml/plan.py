"""A plan in the scene: one node holds its inputs, settings and beams, and is saved with the scene.

What the plan shows, such as beams, doses and charts, are nodes of their own that know its key.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import slicer

from deeprt.beams import BeamAngles
from deeprt.config import PlanningConfig, from_plain, to_plain
from deeprt.errors import InputError
from deeprt.orientation.session import SessionBeam
from deeprt_mrml.subject_hierarchy import claim, key_of, plan_nodes, remove_plan, rename_folder

MODULE = "DeepRT"  # attribute ModuleName of the nodes of plans, by which node selectors find them
NODE_CLASS = "vtkMRMLScriptedModuleNode"
_CT, _SEGMENTATION, _WISHED = "CT", "Segmentation", "WishedDose"  # references
_CONFIG, _BEAMS, _REFERENCE_BEAMS = "Config", "Beams", "ReferenceBeams"  # parameters, JSON


class Plan:
    """A plan of a scene, read from its node and written to it at once.

    Raises
    ------
    InputError
        If the node is not one of a plan.
    """

    def __init__(self, node: slicer.vtkMRMLScriptedModuleNode) -> None:
        if node.GetAttribute("ModuleName") != MODULE or not key_of(node):
            raise InputError(f"'{node.GetName()}' is not a plan of DeepRT; choose a plan or make a new one.")
        self.node = node

    @property
    def scene(self) -> slicer.vtkMRMLScene | None:
        """Scene it is in; None once its node was removed."""
        return self.node.GetScene()

    @property
    def key(self) -> str:
        """What the plan's nodes know it by; it stays when the plan is renamed."""
        return key_of(self.node)

    @property
    def name(self) -> str:
        """Name that is shown."""
        return str(self.node.GetName())

    @property
    def ct_node(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """CT volume."""
        return self.node.GetNodeReference(_CT)

    @ct_node.setter
    def ct_node(self, node: slicer.vtkMRMLScalarVolumeNode | None) -> None:
        self._refer(_CT, node)

    @property
    def segmentation_node(self) -> slicer.vtkMRMLSegmentationNode | None:
        """Segmentation of the structures."""
        return self.node.GetNodeReference(_SEGMENTATION)

    @segmentation_node.setter
    def segmentation_node(self, node: slicer.vtkMRMLSegmentationNode | None) -> None:
        self._refer(_SEGMENTATION, node)

    @property
    def wished_dose_node(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """Volume of the dose that fluence is predicted from and the plan is compared with, Gy, whole course."""
        return self.node.GetNodeReference(_WISHED)

    @wished_dose_node.setter
    def wished_dose_node(self, node: slicer.vtkMRMLScalarVolumeNode | None) -> None:
        self._refer(_WISHED, node)

    @property
    def config(self) -> PlanningConfig:
        """All settings; the angles of the beams are not among them.

        Raises
        ------
        InputError
            If the node holds settings that are not understood, such as those of a later version.
        """
        return _config_of(self.text(_CONFIG) or "{}", self.name)

    @config.setter
    def config(self, config: PlanningConfig) -> None:
        self.set_text(_CONFIG, json.dumps(to_plain(config)))

    @property
    def beams(self) -> tuple[SessionBeam, ...]:
        """Beams in the order of the plan."""
        entries = self._json(_BEAMS)
        return tuple(SessionBeam(BeamAngles(**e["angles"]), e["locked"]) for e in entries)

    @beams.setter
    def beams(self, beams: Sequence[SessionBeam]) -> None:
        self.set_text(_BEAMS, json.dumps([asdict(b) for b in beams]))

    @property
    def reference_beams(self) -> tuple[BeamAngles, ...]:
        """Beams that column generation chose, to be compared with the plan's."""
        return tuple(BeamAngles(**e) for e in self._json(_REFERENCE_BEAMS))

    @reference_beams.setter
    def reference_beams(self, beams: Sequence[BeamAngles]) -> None:
        self.set_text(_REFERENCE_BEAMS, json.dumps([asdict(b) for b in beams]))

    def text(self, name: str) -> str:
        """Text that is kept with the plan under a name; empty if there is none."""
        return str(self.node.GetParameter(name) or "")

    def set_text(self, name: str, value: str) -> None:
        """Keep a text with the plan; an empty one is taken away."""
        if value:
            self.node.SetParameter(name, value)
        else:
            self.node.UnsetParameter(name)

    def _json(self, name: str) -> Any:
        return json.loads(self.text(name) or "[]")

    def _refer(self, role: str, node: slicer.vtkMRMLNode | None) -> None:
        self.node.SetNodeReferenceID(role, None if node is None else node.GetID())


@lru_cache  # settings are looked at many times for each change
def _config_of(text: str, plan_name: str) -> PlanningConfig:
    return from_plain(PlanningConfig, json.loads(text), f"plan '{plan_name}'")


def new_plan(scene: slicer.vtkMRMLScene, name: str = "Plan") -> Plan:
    """Add an empty plan; its name is made unique."""
    key = _free_key(scene, name)
    node = slicer.vtkMRMLScriptedModuleNode()
    node.SetName(key)
    node.SetAttribute("ModuleName", MODULE)
    claim(node, key, "plan")
    return Plan(scene.AddNode(node))


def plans_of(scene: slicer.vtkMRMLScene) -> tuple[Plan, ...]:
    """Plans of a scene, in the order they were made."""
    nodes = (scene.GetNthNodeByClass(n, NODE_CLASS) for n in range(scene.GetNumberOfNodesByClass(NODE_CLASS)))
    return tuple(Plan(n) for n in nodes if n.GetAttribute("ModuleName") == MODULE and key_of(n))


def separate_copies(scene: slicer.vtkMRMLScene) -> None:
    """Give plans with the key of an earlier one keys and names of their own, with all their nodes.

    There are such plans where a scene was added to one that held the same plan, or one that was named alike. What was
    added comes last, and a plan's node comes before its other nodes. Call this before a plan of the scene is changed.
    """
    seen: set[str] = set()
    for plan in plans_of(scene):
        key = plan.key
        if key in seen:
            name, nodes = _free_key(scene, plan.name), plan_nodes(scene, key)
            for node in nodes[nodes.index(plan.node) :]:
                claim(node, name)
            plan.node.SetName(name)
            rename_folder(scene, key, name)
        seen.add(key)


def delete(plan: Plan) -> None:
    """Remove a plan with all its nodes; its CT, segmentation and wished dose stay."""
    if plan.scene is not None:
        remove_plan(plan.scene, plan.key)


def _free_key(scene: slicer.vtkMRMLScene, name: str) -> str:
    taken = {each for p in plans_of(scene) for each in (p.key, p.name)}
    return next(k for n in range(1, len(taken) + 2) if (k := f"{name} {n}" if n > 1 else name) not in taken)
