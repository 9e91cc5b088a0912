"""A scene with all that this package makes, saved as a bundle and loaded again."""

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from Mrml.samples import a_case, beams_of
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.beams import BeamAngles
from deeprt.evaluation.evaluate import evaluate
from deeprt_mrml.beam_models import show_beams
from deeprt_mrml.cases import case_from_nodes, ct_from_case, segmentation_from_case
from deeprt_mrml.coordinates import grid_of
from deeprt_mrml.fluence_images import show_fluence
from deeprt_mrml.plots import show_dvh, show_fitness
from deeprt_mrml.segments import segment_colors
from deeprt_mrml.subject_hierarchy import plan_nodes, remove_plan, subject_hierarchy
from deeprt_mrml.volumes import DOSE_VOLUME, array_of, dose_node

CASE = a_case()
BEAMS = beams_of(CASE)
MAPS = [np.random.default_rng(n).uniform(0, 9, b.open_beamlets.shape) for n, b in enumerate(BEAMS)]
DOSE_GY = np.random.default_rng(9).uniform(0, 66, CASE.grid.shape).astype(np.float32)
PLANS = ("Plan A", "Plan B")


def show_plan(scene, plan):
    show_beams(scene, plan, BEAMS)
    show_fluence(scene, plan, BEAMS, MAPS)
    dose_node(scene, plan, "Dose", DOSE_GY, CASE.grid)
    show_dvh(scene, plan, {"ideal": evaluate(CASE, DOSE_GY)}, {})
    show_fitness(scene, plan, [BeamAngles(g) for g in (0.0, 90.0, 180.0)], np.array([0.1, 0.9, 0.4]), [BeamAngles(90)])


@pytest.fixture
def loaded(scene, tmp_path):
    """The scene after it was saved, cleared and loaded."""
    ct_from_case(scene, CASE)
    segmentation_from_case(scene, CASE)
    for plan in PLANS:
        show_plan(scene, plan)
    bundle = str(tmp_path / "scene.mrb")
    assert scene.WriteToMRB(bundle)
    scene.Clear(False)
    assert scene.ReadFromMRB(bundle, True)
    return scene


def n_nodes_by_class(scene):
    names = [scene.GetNthNode(n).GetClassName() for n in range(scene.GetNumberOfNodes())]
    return {name: names.count(name) for name in set(names)}


def test_the_case_is_the_same(loaded):
    case = case_from_nodes(
        loaded.GetFirstNodeByName("Phantom"), loaded.GetFirstNodeByName("Phantom structures"), n_fractions=20
    )
    # The file states directions in text and spacings apart from them.
    assert_allclose(case.grid.index_to_lps, CASE.grid.index_to_lps, atol=1e-6)
    assert_array_equal(case.ct_hu, CASE.ct_hu)
    assert case.position == CASE.position
    for s in CASE.structures:
        found = case.structure(s.name)
        assert_array_equal(found.fraction, s.fraction, err_msg=s.name)
        assert (found.role, found.organ, found.prescription_gy, found.density) == (
            (s.role, s.organ, s.prescription_gy, s.density)
        )


def test_dose_and_fluence_have_their_values_places_and_scales(loaded):
    dose = next(iter(plan_nodes(loaded, "Plan A", "dose/")))
    assert_array_equal(array_of(dose), DOSE_GY)
    assert_allclose(grid_of(dose).index_to_lps, CASE.grid.index_to_lps, atol=1e-6)
    assert dose.GetAttribute(DOSE_VOLUME) == "1"
    fluence = plan_nodes(loaded, "Plan B", "fluence/")
    assert len(fluence) == 3
    assert {n.GetDisplayNode().GetColorNode().GetName() for n in fluence} == {"DeepRT cividis"}
    top_mu = max(m.max() for m in MAPS)
    assert_allclose([n.GetDisplayNode().GetWindowLevelMax() for n in fluence], top_mu, rtol=1e-5)  # six digits in text


def test_there_is_one_subject_hierarchy_with_a_folder_for_each_plan(loaded):
    assert loaded.GetNumberOfNodesByClass("vtkMRMLSubjectHierarchyNode") == 1
    hierarchy = subject_hierarchy(loaded)
    for plan in PLANS:
        (transform, *_) = plan_nodes(loaded, plan, "beam/1/")
        folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(transform))
        assert hierarchy.GetItemName(folder) == plan


def test_a_plan_that_is_shown_again_finds_its_nodes(loaded):
    before = n_nodes_by_class(loaded)
    show_plan(loaded, "Plan A")
    assert n_nodes_by_class(loaded) == before


def test_a_removed_plan_leaves_the_other_one_and_the_case(loaded):
    other = plan_nodes(loaded, "Plan B")
    remove_plan(loaded, "Plan A")
    assert plan_nodes(loaded, "Plan A") == ()
    assert plan_nodes(loaded, "Plan B") == other
    assert segment_colors(loaded.GetFirstNodeByName("Phantom structures"))["PTV"] == (200, 30, 40)
    assert loaded.GetNumberOfNodesByClass("vtkMRMLModelNode") == 9
