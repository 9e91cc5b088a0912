"""Plan the virtual patient, show it in a scene, and write the pictures of ``Resources/Screenshots``.

``python Testing/Screenshots/make.py [--out DIR]``; see `render_scene` for what it needs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import slicer
from numpy.typing import NDArray
from render_scene import render_3d, render_chart, render_slice

from deeprt.beams import BeamAngles
from deeprt.config import BeamSettings, PlanningConfig
from deeprt.machine_file import read_machine
from deeprt.orientation.candidates import peaks_of
from deeprt.orientation.network_prediction import network_predictor
from deeprt.orientation.session import BeamSession, SessionState
from deeprt.orientation.teacher import CandidateSettings
from deeprt.pipeline import PlanResult, plan_case
from deeprt.preparation import load_case, with_prescriptions
from deeprt.structures import Role
from deeprt_mrml.beam_models import show_beams
from deeprt_mrml.cases import ct_from_case, segmentation_from_case
from deeprt_mrml.coordinates import points_to_ras
from deeprt_mrml.fitness_ring import RING_HEIGHT_MM, radius_beyond_mm, show_peaks, show_ring
from deeprt_mrml.fluence_images import show_fluence
from deeprt_mrml.isodoses import show_isodoses
from deeprt_mrml.plots import show_dvh
from deeprt_mrml.segments import segment_colors
from deeprt_mrml.thumbnails import write_fluence_strip
from deeprt_mrml.volumes import dose_node

SCREENSHOTS = Path(__file__).parents[2] / "Resources" / "Screenshots"
PLAN = "Plan"
N_BEAMS = 5
AVOIDED_DEG = ((85.0, 110.0),)
ISODOSES_PERCENT = (30, 50, 70, 95, 105)  # of the prescription
RING_HALF_LENGTH_MM, N_PEAKS, ORGAN_OPACITY = 40.0, 3, 0.6


@dataclass(frozen=True, eq=False)
class Nodes:
    """What pictures are made of; the rest they find in the scene."""

    ct: slicer.vtkMRMLScalarVolumeNode
    segmentation: slicer.vtkMRMLSegmentationNode
    dose: slicer.vtkMRMLScalarVolumeNode
    dvh: slicer.vtkMRMLPlotChartNode
    isocenter_ras: NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=SCREENSHOTS)
    out = parser.parse_args().out
    state, candidates, result = planned()
    with a_scene() as scene:
        write_pictures(scene, show(scene, state, candidates, result), result, out)


def planned() -> tuple[SessionState, tuple[BeamAngles, ...], PlanResult]:
    """Beams that the network chooses for the virtual patient, and the plan with them."""
    config = PlanningConfig()
    case = load_case("virtual:prostate", config)
    settings = CandidateSettings(exclude_deg=AVOIDED_DEG)
    predictor = network_predictor(with_prescriptions(case, config)[1], read_machine("generic_6mv"), settings)
    session = BeamSession(predictor, settings.weights, n_beams=N_BEAMS, excluded_deg=AVOIDED_DEG)
    state = session.complete(N_BEAMS)
    gantry = tuple(a.gantry_deg for a in state.angles)
    return state, session.candidates, plan_case(case, replace(config, beams=BeamSettings(gantry_deg=gantry)))


@contextmanager
def a_scene() -> Iterator[slicer.vtkMRMLScene]:
    """A scene with the colors that Slicer has, which last as long as the logic that makes them."""
    scene, application = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    application.GetColorLogic().SetMRMLScene(scene)
    segmentations = slicer.vtkSlicerSegmentationsModuleLogic()  # which knows how surfaces are made of labelmaps
    segmentations.SetMRMLApplicationLogic(application)
    segmentations.SetMRMLScene(scene)
    slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    yield scene


def show(
    scene: slicer.vtkMRMLScene, state: SessionState, candidates: tuple[BeamAngles, ...], result: PlanResult
) -> Nodes:
    """Show patient, beams, fitness, fluence, dose and DVHs as nodes."""
    drawn = tuple(s for s in result.case.structures if s.role is not Role.TUNING)
    case, beams = replace(result.case, structures=drawn), result.plan.beams
    prescription_gy = case.targets[0].prescription_gy
    ct, segmentation = ct_from_case(scene, case), segmentation_from_case(scene, case)
    segmentation.CreateClosedSurfaceRepresentation()
    display = segmentation.GetDisplayNode()
    display.SetPreferredDisplayRepresentationName2D("Closed surface")
    for s in case.structures:  # the targets are to be seen through the organs
        if s.role is Role.ORGAN_AT_RISK:
            segment_id = segmentation.GetSegmentation().GetSegmentIdBySegmentName(s.name)
            display.SetSegmentOpacity3D(segment_id, ORGAN_OPACITY)
    dose = dose_node(scene, PLAN, "Dose", result.dose_gy, case.grid, top_gy=1.1 * prescription_gy)
    show_isodoses(scene, PLAN, dose, [p / 100 * prescription_gy for p in ISODOSES_PERCENT])
    show_beams(scene, PLAN, beams)
    show_fluence(scene, PLAN, beams, result.solution.fluence_mu)
    isocenter, position = beams[0].isocenter_lps, case.position
    radius = radius_beyond_mm(case, isocenter, RING_HALF_LENGTH_MM)
    show_ring(
        scene, PLAN, center_lps=isocenter, position=position, radius_mm=radius, half_length_mm=RING_HALF_LENGTH_MM,
        candidates=candidates, fitness=state.fitness, chosen=state.angles, excluded_deg=state.excluded_deg,
    )  # fmt: skip
    peaks = peaks_of(candidates, state.fitness, state.selectable)[:N_PEAKS]
    show_peaks(
        scene, PLAN, center_lps=isocenter, position=position,
        radius_mm=[radius + RING_HEIGHT_MM * state.fitness[i] for i in peaks],
        peaks=[candidates[i] for i in peaks], labels=[f"{candidates[i].gantry_deg:g}°" for i in peaks],
    )  # fmt: skip
    reports = {"ideal": result.ideal_report, "delivered": result.report}
    dvh = show_dvh(scene, PLAN, reports, segment_colors(segmentation))
    return Nodes(ct, segmentation, dose, dvh, points_to_ras(isocenter))


def write_pictures(scene: slicer.vtkMRMLScene, nodes: Nodes, result: PlanResult, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for orientation in ("Axial", "Sagittal", "Coronal"):
        render_slice(
            scene, out / f"scene_{orientation.lower()}.png", orientation, at_ras=nodes.isocenter_ras,
            background=nodes.ct, foreground=nodes.dose, field_of_view_mm=600.0,
        )  # fmt: skip
    render_3d(scene, out / "scene_3d.png", at_ras=nodes.isocenter_ras, from_ras=(-0.4, 0.85, -0.5), height_mm=580.0)
    render_chart(nodes.dvh, out / "dvh.png")
    write_fluence_strip(out / "fluence_strip.png", result.plan.beams, result.solution.fluence_mu)


if __name__ == "__main__":
    main()
