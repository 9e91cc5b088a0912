"""Which results of a plan are still its own after something changed, and the wished dose they hang on."""

from dataclasses import replace

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from Mrml.fluence_samples import CURRENT, MISSING, OUTDATED, change, states
from Mrml.samples import a_rigid_transform
from Mrml.session_samples import ANGLES, a_session, finish
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.beams import BeamAngles
from deeprt.errors import InputError
from deeprt.evaluation.normalization import Normalization
from deeprt_mrml.fluence_planning import FluencePlanning, Stage
from deeprt_mrml.subject_hierarchy import plan_nodes, remove_nodes
from deeprt_mrml.volumes import array_of, dose_node, volume_node


@pytest.fixture
def session(scene, tmp_path):
    return a_session(scene, tmp_path / "jobs")


@pytest.fixture
def planning(session):
    planning = FluencePlanning(session)
    planning.set_beams(ANGLES)
    return planning


# What was made for what


def test_each_change_outdates_what_hangs_on_it(opened, done):
    config, plan = opened.plan.config, opened.plan
    for parts, n_current, sentence in (
        ({"machine": "generic_15mv"}, 0, "The machine changed after the fluence was predicted; predict it anew."),
        ({"dose_grid_mm": 5.0}, 0, "The CT or structures changed after the fluence was predicted; predict it anew."),
        ({"fluence": replace(config.fluence, wished="predict")}, 0,
         "The fluence settings changed after the fluence was predicted; predict it anew."),
        ({"sequencing": replace(config.sequencing, max_levels=12)}, 1,
         "The delivery settings changed after the segments were made; sequence the fluence anew."),
        ({"normalization": Normalization(dose_percent=97)}, 2,
         "The normalization changed after the dose was calculated; calculate it anew."),
        ({"seed": 1}, 0, "The fluence settings changed after the fluence was predicted; predict it anew."),
    ):  # fmt: skip
        plan.config = replace(config, **parts)
        assert states(done) == [CURRENT] * n_current + [OUTDATED] * (4 - n_current), parts
        assert done.why_not("export") == sentence
        plan.config = config
        assert states(done) == [CURRENT] * 4
    done.set_beams([*ANGLES, BeamAngles(300.0)])
    assert done.why_not("sequence") == "The beams changed after the fluence was predicted; predict it anew."
    assert len(done.maps()) == 3  # of the beams it was predicted for, still shown


def test_an_edited_structure_outdates_everything(opened, done):
    before = opened.prepared().case
    opened.set_role("Bladder", before.structure("PTV").role.ORGAN_AT_RISK)
    assert states(done) == [CURRENT] * 4
    opened.set_prescription("PTV", 61.0)
    assert states(done) == [OUTDATED] * 4
    opened.set_prescription("PTV", 60.0)
    assert states(done) == [CURRENT] * 4
    segmentation = opened.plan.segmentation_node.GetSegmentation()
    segmentation.RemoveSegment(segmentation.GetSegmentIdBySegmentName("Rectum"))
    assert states(done) == [OUTDATED] * 4


def test_a_moved_ct_outdates_everything(scene, opened, done):
    transform, _ = a_rigid_transform(scene, angles_deg=(0, 0, 0), shift_ras=(0.5, 0, 0))
    opened.plan.ct_node.SetAndObserveTransformNodeID(transform.GetID())
    assert states(done) == [OUTDATED] * 4


def test_edited_fluence_is_what_is_sequenced(opened, done):
    # In step and shoot the monitor units are then fitted to the wished dose, which takes the edit back again.
    change(done, sequencing=replace(opened.plan.config.sequencing, technique="sliding-window"))
    done.start_sequencing()
    finish(opened)
    before = done.beam_mu()
    node = plan_nodes(opened.scene, opened.plan.key, "fluence/2/")[0]
    slicer.util.updateVolumeFromArray(node, 2 * array_of(node))
    assert states(done) == [CURRENT, OUTDATED, OUTDATED, OUTDATED]
    assert done.why_not("dose") == "The fluence changed after the segments were made; sequence the fluence anew."
    done.start_sequencing()
    finish(opened)
    ratio = np.divide(done.beam_mu(), before)
    assert_allclose(ratio / ratio[0], [1, 2, 1], rtol=0.1)  # leaves that hurry add monitor units of their own
    assert states(done) == [CURRENT, CURRENT, OUTDATED, OUTDATED]


@pytest.mark.parametrize("edit", ("voxels", "place"))
def test_a_dose_that_someone_edited_or_moved_is_not_the_plans(scene, opened, done, edit):
    if edit == "voxels":
        slicer.util.updateVolumeFromArray(done.dose_node, 1.1 * array_of(done.dose_node))
    else:
        transform, _ = a_rigid_transform(scene)
        done.dose_node.SetAndObserveTransformNodeID(transform.GetID())
    assert states(done) == [CURRENT, CURRENT, OUTDATED, OUTDATED]
    assert done.why_not("export") == "The dose volume changed after the dose was calculated; calculate it anew."
    done.start_dose()
    finish(opened)
    assert states(done) == [CURRENT, CURRENT, CURRENT, OUTDATED]


def test_sequencing_anew_outdates_the_dose_of_the_segments_before(opened, done):
    done.start_sequencing()
    finish(opened)
    assert states(done) == [CURRENT, CURRENT, OUTDATED, OUTDATED]
    assert done.why_not("export") == "The segments changed after the dose was calculated; calculate it anew."


def test_a_removed_volume_is_missing_and_can_be_made_again(opened, done):
    remove_nodes(opened.scene, [done.difference_node, plan_nodes(opened.scene, opened.plan.key, "fluence/1/")[0]])
    assert states(done) == [MISSING, OUTDATED, OUTDATED, MISSING]
    assert done.maps() == ()
    assert done.why_not("dose") == "Predict or optimize the fluence first."
    done.start_all()
    finish(opened)
    assert states(done) == [CURRENT] * 4


# The wished dose


def test_a_given_dose_is_what_fluence_is_predicted_from(scene, session, planning):
    planning.set_wish("given")
    sentence = "Choose the dose volume that fluence is predicted from, or let the dose be predicted or optimized."
    assert planning.why_not("predict") == planning.why_not("all") == sentence
    case = session.prepared().case
    dose_gy = 60 * case.structure("PTV").fraction + 12 * case.external.fraction
    node = volume_node(scene, "RTDOSE", dose_gy.astype(np.float32), case.grid)
    session.plan.wished_dose_node = node
    assert planning.why_not("predict") == ""
    planning.start_prediction()
    finish(session)
    assert planning.wished_node is node
    assert plan_nodes(scene, session.plan.key, "dose/Wished") == ()
    assert planning.stage_state(Stage.FLUENCE) is CURRENT
    slicer.util.updateVolumeFromArray(node, 1.1 * dose_gy)
    assert planning.why_not("sequence") == "The wished dose changed after the fluence was predicted; predict it anew."
    session.plan.wished_dose_node = None
    assert planning.stage_state(Stage.FLUENCE) is OUTDATED


def test_a_dose_that_misses_the_target_is_refused(scene, session, planning):
    planning.set_wish("given")
    case = session.prepared().case
    outside = dose_node(scene, "x", "RTDOSE", np.where(case.structure("PTV").fraction > 0, 0, 50), case.grid)
    session.plan.wished_dose_node = outside
    with pytest.raises(InputError, match="Dose 'RTDOSE' does not reach half of the target 'PTV'"):
        planning.start_prediction()
    session.plan.wished_dose_node = volume_node(scene, "Nothing", np.zeros(case.grid.shape, np.float32), case.grid)
    with pytest.raises(InputError, match="Dose 'Nothing' has no dose inside 'BODY'; it belongs to another case"):
        planning.start_prediction()
    assert not session.work.is_busy


def test_optimized_fluence_is_compared_with_its_own_dose(session, planning):
    planning.start_optimization()
    finish(session)
    assert session.plan.config.fluence.method == "optimize"
    ideal = plan_nodes(session.scene, session.plan.key, "dose/Dose of the fluence")[0]
    assert_array_equal(array_of(planning.wished_node), array_of(ideal))
    assert planning.why_not("refine") == (
        "This fluence was optimized for objectives; choose a wished dose to pull it to, or predict it."
    )
    planning.set_wish("predict")  # which matters to a prediction only
    assert planning.stage_state(Stage.FLUENCE) is CURRENT
    session.plan.config = replace(session.plan.config, seed=3)
    assert (
        planning.why_not("sequence")
        == "The fluence settings changed after the fluence was optimized; optimize it anew."
    )


def test_refinement_brings_the_dose_nearer_to_the_wished_one(session, planning):
    def misfit():
        ideal = plan_nodes(session.scene, session.plan.key, "dose/Dose of the fluence")[0]
        return float(np.square(array_of(ideal) - array_of(planning.wished_node)).mean())

    planning.start_prediction()
    finish(session)
    before = misfit()
    planning.start_refinement(10)
    finish(session)
    assert misfit() < before
    assert planning.stage_state(Stage.FLUENCE) is CURRENT


def test_a_wished_dose_that_is_gone_cannot_be_compared_with(opened, done):
    remove_nodes(opened.scene, [done.wished_node])
    sentence = "There is no wished dose any more; choose its volume, or predict the fluence anew."
    assert {done.why_not(a) for a in ("refine", "sequence", "dose", "compare", "export")} == {sentence}
    assert done.why_not("predict") == ""
    assert done.metrics()[0].reference is None
