"""The beams of a plan: edited by network and user, kept in the scene, shown in views."""

from dataclasses import replace

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from Mrml.samples import a_case
from numpy.testing import assert_allclose

from deeprt.beams import BeamAngles
from deeprt.errors import InputError
from deeprt.orientation.candidates import separations_deg
from deeprt_mrml.beam_planning import BeamPlanning
from deeprt_mrml.cases import ct_from_case, segmentation_from_case
from deeprt_mrml.plan import Plan
from deeprt_mrml.session import PlanSession
from deeprt_mrml.subject_hierarchy import plan_nodes

CASE = a_case()


@pytest.fixture
def session(scene, tmp_path):
    """A session whose plan is for the sample case, on coarse voxels."""
    session = PlanSession(scene, tmp_path / "jobs")
    plan = session.new_plan()
    plan.ct_node, plan.segmentation_node = ct_from_case(scene, CASE), segmentation_from_case(scene, CASE)
    plan.config = replace(plan.config, dose_grid_mm=4.0, n_fractions=20)
    return session


@pytest.fixture
def planning(session):
    return BeamPlanning(session)


def gantry(planning):
    return [b.angles.gantry_deg for b in planning.state.beams]


def test_the_fittest_candidate_is_proposed_and_kept_in_the_scene(session, planning):
    best = planning.candidates[planning.state.best]
    planning.propose()
    assert [b.angles for b in session.plan.beams] == [best]


def test_each_edit_is_answered_by_another_prediction(planning):
    before = planning.state.fitness
    planning.add(BeamAngles(47.0))
    after = planning.state.fitness
    assert np.abs(after - before).max() > 0.01
    planning.undo()
    assert_allclose(planning.state.fitness, before)


def test_edits_move_remove_lock_and_clear_beams(planning):
    planning.complete(3)
    planning.move(1, BeamAngles(47.0, 10.0))
    planning.lock(0, True)
    assert planning.state.beams[1].angles == BeamAngles(47.0, 10.0)
    with pytest.raises(InputError, match="Beam 1 is locked"):
        planning.remove(0)
    planning.remove(2)
    assert len(planning.state.beams) == 2
    planning.clear()
    assert [b.locked for b in planning.state.beams] == [True]


def test_every_edit_can_be_taken_back_and_done_again(planning):
    assert planning.why_not("undo") == "There is nothing to undo."
    planning.add(BeamAngles(10.0))
    planning.add(BeamAngles(100.0))
    planning.undo()
    assert gantry(planning) == [10.0]
    planning.redo()
    assert gantry(planning) == [10.0, 100.0]
    assert planning.why_not("redo") == "There is nothing to redo."


def test_another_number_of_beams_leaves_the_steps_to_undo(session, planning):
    planning.complete(2)
    config = session.plan.config
    session.plan.config = replace(config, beams=replace(config.beams, n_beams=6))
    assert planning.can_undo
    assert "The angle network has learned from plans of up to 5 beams, not 6." in planning.notes()
    planning.undo()
    assert session.plan.beams == ()
    assert session.plan.config.beams.n_beams == 6


def test_taking_other_beams_is_one_step_and_keeps_locked_ones(planning):
    planning.add(BeamAngles(10.0))
    planning.lock(0, True)
    with pytest.raises(InputError, match="Beam 1 is locked and not among the new beams"):
        planning.take([BeamAngles(20.0)])
    planning.take([BeamAngles(20.0), BeamAngles(10.0)])
    assert [(b.angles.gantry_deg, b.locked) for b in planning.state.beams] == [(20.0, False), (10.0, True)]
    planning.undo()
    assert gantry(planning) == [10.0]


def test_avoided_sectors_and_separation_are_settings_of_the_plan(session, planning):
    planning.exclude([(80.0, 280.0)])
    planning.separate(30.0)
    planning.complete(3)
    assert session.plan.config.selection.exclude_deg == ((80.0, 280.0),)
    assert session.plan.config.selection.min_separation_deg == 30.0
    assert session.plan.config.beams.n_beams == 3
    angles = [b.angles for b in session.plan.beams]
    assert all(a.gantry_deg < 80 or a.gantry_deg > 280 for a in angles)
    assert min(separations_deg(angles[:n], a).min() for n, a in enumerate(angles) if n) >= 30.0 - 1e-6


def test_beams_that_another_module_changed_are_taken_up(session, planning):
    planning.propose()
    session.plan.beams = session.plan.beams[:0]
    assert planning.state.beams == ()
    assert not planning.can_undo


def test_another_panel_on_the_same_scene_goes_on_where_this_one_stopped(scene, tmp_path, session, planning):
    planning.complete(2)
    other = PlanSession(scene, tmp_path / "others")
    other.open(other.plans()[0])
    again = BeamPlanning(other)
    assert again.state.beams == planning.state.beams
    assert_allclose(again.state.fitness, planning.state.fitness, atol=1e-5)  # threads add up in another order


def test_weights_change_the_prediction_and_can_be_taken_back(session, planning):
    planning.add(BeamAngles(40.0))
    before = planning.state.fitness
    session.set_weight("Rectum", 3.0)
    planning.refresh()
    assert np.abs(planning.state.fitness - before).max() > 0.01
    planning.undo()
    assert session.plan.config.selection.weights.structures == {}
    assert_allclose(planning.state.fitness, before)


def test_another_prescription_or_machine_sets_the_patient_up_anew(session, planning):
    planning.refresh()
    assert planning.is_set_up
    session.set_prescription("PTV", 50.0)
    assert not planning.is_set_up
    planning.refresh()
    session.plan.config = replace(session.plan.config, machine="generic_15mv")
    assert not planning.is_set_up


def test_peaks_are_selectable_and_the_fittest_first(planning):
    planning.propose()
    peaks = planning.peaks()
    fitness = [planning.fitness_of(a) for a in peaks]
    assert fitness == sorted(fitness, reverse=True)
    assert planning.candidates[planning.state.best] == peaks[0]
    assert planning.state.beams[0].angles not in peaks


def test_beams_fitness_and_ring_are_shown_in_the_plans_folder(session, scene, planning):
    planning.complete(2)
    parts = {n.GetAttribute("DeepRT.Part") for n in plan_nodes(scene, session.plan.key)}
    assert {"beam/1/", "beam/2/", "fitness"} <= parts
    assert planning.fitness_chart.IsA("vtkMRMLPlotChartNode")
    assert planning.peaks_node.GetNumberOfControlPoints() == len(planning.peaks())
    planning.remove(1)
    parts = {n.GetAttribute("DeepRT.Part") for n in plan_nodes(scene, session.plan.key)}
    assert "beam/2/" not in parts
    planning.hide()
    assert planning.peaks_node is None


def test_two_plans_keep_their_own_beams_and_nodes(session, scene, planning):
    planning.add(BeamAngles(10.0))
    first = session.plan
    second = session.new_plan()
    planning.add(BeamAngles(200.0))
    assert [p.beams[0].angles.gantry_deg for p in (first, second)] == [10.0, 200.0]
    assert all(plan_nodes(scene, p.key, "beam/1/") for p in (first, second))
    session.remove_plan()
    session.open(first)
    assert gantry(planning) == [10.0]
    assert plan_nodes(scene, second.key) == ()


def test_steps_to_undo_are_those_of_one_plan(session, planning):
    first = session.plan
    planning.add(BeamAngles(10.0))
    second = session.new_plan("Other")
    second.beams = first.beams  # the same set, and no edits
    assert planning.why_not("undo") == "There is nothing to undo."
    session.open(Plan(first.node))  # as a selector of nodes does
    assert planning.can_undo
    planning.undo()
    assert gantry(planning) == []
    session.scene.RemoveNode(first.node)
    assert planning.why_not("redo") == "There is nothing to redo."


def test_the_patient_is_set_up_anew_whenever_the_case_is_another_one(session, planning):
    """A case that is gone leaves its place in memory, and so its identity, to a later one."""
    seen = []
    for dose_gy in (50.0, 60.0, 70.0):
        session.set_prescription("PTV", dose_gy)
        assert not planning.is_set_up
        _ = planning.state
        assert planning.is_set_up
        seen.append(planning._made_for[0][0])
    assert [p.case.targets[0].prescription_gy for p in seen] == [50.0, 60.0, 70.0]


def test_what_is_missing_is_said_in_one_sentence(scene, tmp_path):
    session = PlanSession(scene, tmp_path)
    planning = BeamPlanning(session)
    assert planning.why_not("propose") == "Make a plan first, or try it with the virtual patient."
    with pytest.raises(InputError, match="There is no plan"):
        planning.propose()
    session.new_plan()
    assert planning.why_not("propose") == "Choose a CT volume."


def test_a_full_plan_says_why_it_cannot_be_completed(session, planning):
    planning.complete(1)
    assert planning.why_not("complete") == "The plan has 1 beams already; ask for more, or remove some."
