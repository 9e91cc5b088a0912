"""SlicerRT is not here: stand-ins with the methods of its plan and beam nodes that are called, on real MRML."""

from dataclasses import replace

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from Mrml.samples import a_case, beams_of
from numpy.testing import assert_allclose

from deeprt_mrml import rt_nodes, subject_hierarchy
from deeprt_mrml.cases import ct_from_case, segmentation_from_case
from deeprt_mrml.coordinates import points_to_ras
from deeprt_mrml.rt_nodes import remove_rt_plan, show_rt_plan
from deeprt_mrml.subject_hierarchy import claim, place, plan_folder, plan_nodes

PRESCRIPTION_GY = 60.0


def setter(name):
    def set_value(self, value):
        self.set[name] = value

    return set_value


class StandInBeam(slicer.vtkMRMLModelNode):
    """Stand-in for ``vtkMRMLRTBeamNode``."""

    set: dict

    for _name in ("X1Jaw", "X2Jaw", "Y1Jaw", "Y2Jaw", "SAD", "GantryAngle", "CollimatorAngle", "CouchAngle"):
        locals()[f"Set{_name}"] = setter(_name)


class StandInPlan(slicer.vtkMRMLModelNode):
    """Stand-in for ``vtkMRMLRTPlanNode``."""

    ArbitraryPoint = 1
    set: dict

    for _name in ("RxDose", "IsocenterSpecification"):
        locals()[f"Set{_name}"] = setter(_name)
    SetAndObserveReferenceVolumeNode = setter("ReferenceVolume")
    SetAndObserveSegmentationNode = setter("Segmentation")

    def SetIsocenterPosition(self, position):  # makes a markup of points of interest, as SlicerRT does
        self.set["IsocenterPosition"] = position
        if "Pois" not in self.set:
            self.set["Pois"] = self.GetScene().AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "POI")

    def GetPoisMarkupsFiducialNode(self):
        return self.set.get("Pois")

    def AddBeam(self, beam):  # makes the beam's transform, as SlicerRT does
        assert not self.set.get("beams", []).count(beam)
        self.set.setdefault("beams", []).append(beam)
        transform = self.GetScene().AddNewNodeByClass("vtkMRMLLinearTransformNode", f"{beam.GetName()} transform")
        beam.SetAndObserveTransformNodeID(transform.GetID())


@pytest.fixture
def slicer_rt(monkeypatch):
    """Lets plan nodes be stand-ins, as if SlicerRT were installed."""
    kept = []
    classes = {"vtkMRMLRTPlanNode": StandInPlan, "vtkMRMLRTBeamNode": StandInBeam}

    def plan_node(scene, plan, part, class_name, name, *, under=None):
        node = next((n for n in kept if n.GetScene() is scene and n in plan_nodes(scene, plan, part)), None)
        if node is None:
            node = classes[class_name]()
            node.set = {}
            kept.append(node)
            scene.AddNode(node)
            claim(node, plan, part)
            hierarchy = subject_hierarchy.subject_hierarchy(scene)
            place(scene, node, plan_folder(scene, plan) if under is None else hierarchy.GetItemByDataNode(under))
        node.SetName(name)
        return node

    monkeypatch.setattr(rt_nodes, "plan_node", plan_node)
    monkeypatch.setattr(slicer, "vtkMRMLRTPlanNode", StandInPlan, raising=False)


@pytest.fixture
def inputs(scene):
    case = a_case()
    return ct_from_case(scene, case), segmentation_from_case(scene, case)


def shown(scene, beams, inputs):
    return show_rt_plan(scene, "Plan", beams, *inputs, prescription_gy=PRESCRIPTION_GY)


def test_without_slicer_rt_there_is_nothing_to_show(scene, inputs):
    n_nodes = scene.GetNumberOfNodes()
    assert shown(scene, beams_of(a_case()), inputs) is None
    assert scene.GetNumberOfNodes() == n_nodes


def test_the_plan_has_inputs_prescription_and_isocenter_in_ras(scene, inputs, slicer_rt):
    beams = beams_of(a_case())
    node = shown(scene, beams, inputs)
    assert (node.set["ReferenceVolume"], node.set["Segmentation"]) == inputs
    assert node.set["RxDose"] == PRESCRIPTION_GY
    assert node.set["IsocenterSpecification"] == node.ArbitraryPoint
    assert_allclose(node.set["IsocenterPosition"], points_to_ras(beams[0].isocenter_lps))


def test_beams_have_their_angles_distance_and_jaws_around_the_beamlets(scene, inputs, slicer_rt):
    beams = beams_of(a_case())
    node = shown(scene, beams, inputs)
    assert len(node.set["beams"]) == 3
    for rt_beam, beam in zip(node.set["beams"], beams, strict=True):
        a = beam.angles
        assert rt_beam.set == {
            "X1Jaw": beam.x_edges_mm[0],
            "X2Jaw": beam.x_edges_mm[-1],
            "Y1Jaw": beam.y_edges_mm[0],
            "Y2Jaw": beam.y_edges_mm[-1],
            "SAD": beam.sad_mm,
            "GantryAngle": a.gantry_deg,
            "CollimatorAngle": a.collimator_deg,
            "CouchAngle": a.couch_deg,
        }
        assert rt_beam.GetName().startswith(beam.name)


def test_nodes_are_used_again_and_what_is_left_over_removed(scene, inputs, slicer_rt):
    beams = beams_of(a_case())
    n_nodes = scene.GetNumberOfNodes()
    node = shown(scene, beams, inputs)
    first = node.set["beams"][0]
    assert shown(scene, beams[1:2], inputs) is node
    assert plan_nodes(scene, "Plan", "rt/beam/") == (first,)
    assert first.set["GantryAngle"] == beams[1].angles.gantry_deg
    remove_rt_plan(scene, "Plan")
    assert scene.GetNumberOfNodes() == n_nodes


def prone(beams):
    return [replace(b, position="HFP") for b in beams]


def of_two_isocenters(beams):
    return [beams[0], replace(beams[1], isocenter_lps=beams[1].isocenter_lps + np.array([0.0, 0.0, 30.0]))]


def none(beams):
    return []


@pytest.mark.parametrize("change", [prone, of_two_isocenters, none])
def test_what_slicer_rt_would_show_wrong_is_not_shown(scene, inputs, slicer_rt, change):
    beams, n_nodes = beams_of(a_case()), scene.GetNumberOfNodes()
    shown(scene, beams, inputs)
    assert shown(scene, change(beams), inputs) is None
    assert scene.GetNumberOfNodes() == n_nodes
