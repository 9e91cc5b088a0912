"""A plan as nodes of SlicerRT, for its modules, where SlicerRT is installed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer

from deeprt.beams import Beam
from deeprt_mrml.beam_models import beam_name
from deeprt_mrml.coordinates import points_to_ras
from deeprt_mrml.subject_hierarchy import plan_node, plan_nodes, remove_nodes

_PART, _PLAN, _BEAM = "rt/", "rt/plan", "rt/beam/"
_SAME_MM = 0.01


def show_rt_plan(
    scene: slicer.vtkMRMLScene,
    plan: str,
    beams: Sequence[Beam],
    ct_node: slicer.vtkMRMLScalarVolumeNode,
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    *,
    prescription_gy: float,
) -> slicer.vtkMRMLRTPlanNode | None:
    """Show a plan and its beams as nodes of SlicerRT; nodes of an earlier call are changed, those left over removed.

    SlicerRT makes the transform and the surface of a beam itself, of jaws that stand around its beamlets. It takes the
    patient to lie head first supine and gives a plan one isocenter; a plan of which that is not true is not shown.

    Parameters
    ----------
    prescription_gy : whole course

    Returns
    -------
    The plan's node; None if nothing is shown, which is also so without SlicerRT
    """
    if not hasattr(slicer, "vtkMRMLRTPlanNode") or not _can_show(beams):
        remove_rt_plan(scene, plan)
        return None
    node = plan_node(scene, plan, _PLAN, "vtkMRMLRTPlanNode", f"{plan} (SlicerRT)")
    node.SetAndObserveReferenceVolumeNode(ct_node)
    node.SetAndObserveSegmentationNode(segmentation_node)
    node.SetRxDose(prescription_gy)
    node.SetIsocenterSpecification(node.ArbitraryPoint)
    node.SetIsocenterPosition(points_to_ras(beams[0].isocenter_lps).tolist())
    earlier = plan_nodes(scene, plan, _BEAM)
    shown = []
    for number, beam in enumerate(beams, start=1):
        name = f"{beam_name(beam)} (SlicerRT)"
        rt_beam = plan_node(scene, plan, f"{_BEAM}{number}", "vtkMRMLRTBeamNode", name, under=node)
        _set_beam(rt_beam, beam)
        if rt_beam not in earlier:
            node.AddBeam(rt_beam)
        shown.append(rt_beam)
    _remove(scene, [b for b in earlier if b not in shown])
    return node


def remove_rt_plan(scene: slicer.vtkMRMLScene, plan: str) -> None:
    """Remove what `show_rt_plan` made for a plan."""
    _remove(scene, plan_nodes(scene, plan, _BEAM))
    for node in plan_nodes(scene, plan, _PART):
        remove_nodes(scene, [n for n in (node.GetPoisMarkupsFiducialNode(), node) if n is not None])


def _can_show(beams: Sequence[Beam]) -> bool:
    if not beams or any(b.position != "HFS" for b in beams):
        return False
    return all(np.abs(b.isocenter_lps - beams[0].isocenter_lps).max() < _SAME_MM for b in beams)


def _set_beam(node: slicer.vtkMRMLRTBeamNode, beam: Beam) -> None:
    node.SetX1Jaw(float(beam.x_edges_mm[0]))
    node.SetX2Jaw(float(beam.x_edges_mm[-1]))
    node.SetY1Jaw(float(beam.y_edges_mm[0]))
    node.SetY2Jaw(float(beam.y_edges_mm[-1]))
    node.SetSAD(beam.sad_mm)
    node.SetGantryAngle(beam.angles.gantry_deg)
    node.SetCollimatorAngle(beam.angles.collimator_deg)
    node.SetCouchAngle(beam.angles.couch_deg)


def _remove(scene: slicer.vtkMRMLScene, rt_beams: Sequence[slicer.vtkMRMLRTBeamNode]) -> None:
    """Remove beams with the transforms that SlicerRT made for them."""
    transforms = [b.GetParentTransformNode() for b in rt_beams]
    remove_nodes(scene, [*rt_beams, *(t for t in transforms if t is not None)])
