"""Column generation, search and evaluation of a plan's beams, run as real processes."""

import time
from dataclasses import replace

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from Mrml.samples import a_case
from numpy.testing import assert_allclose

from deeprt.beams import BeamAngles
from deeprt.errors import InputError
from deeprt.fluence.solvers import SolverSettings
from deeprt.machine_file import read_machine
from deeprt.orientation.selection import select_beams
from deeprt.preparation import with_prescriptions
from deeprt_mrml.beam_check import BeamCheck
from deeprt_mrml.beam_planning import BeamPlanning
from deeprt_mrml.cases import ct_from_case, segmentation_from_case
from deeprt_mrml.session import PlanSession
from deeprt_mrml.volumes import volume_node

CASE = a_case()
OWN = (BeamAngles(10.0), BeamAngles(130.0), BeamAngles(250.0))


@pytest.fixture
def session(scene, tmp_path):
    session = PlanSession(scene, tmp_path / "jobs")
    plan = session.new_plan()
    plan.ct_node, plan.segmentation_node = ct_from_case(scene, CASE), segmentation_from_case(scene, CASE)
    selection = replace(plan.config.selection, candidates="coplanar:20", voxel_mm=6.0, beamlet_mm=10.0, cache=False)
    solver = SolverSettings(max_iterations=20, tolerance=1e-2)
    fluence = replace(plan.config.fluence, beamlet_width_mm=5.0, solver=solver)
    plan.config = replace(plan.config, dose_grid_mm=6.0, n_fractions=20, selection=selection, fluence=fluence)
    return session


@pytest.fixture
def planning(session):
    planning = BeamPlanning(session)
    planning.take(OWN)
    return planning


@pytest.fixture
def check(session, planning):
    return BeamCheck(session, planning)


def finish(session, seconds=60):
    end = time.monotonic() + seconds
    while session.work.is_busy and time.monotonic() < end:
        session.work.poll()
        time.sleep(0.05)
    assert not session.work.is_busy


def test_column_generation_beside_the_plan_is_that_of_the_core(session, planning, check):
    planning.lock(1, True)
    check.start_column_generation()
    finish(session)
    config = session.plan.config
    _, case, _ = with_prescriptions(session.case_on(6.0), config)
    machine = read_machine("generic_6mv")
    alone = select_beams(case, machine, "column-generation", 7, config.selection, given=[OWN[1]])
    assert session.plan.reference_beams == alone.angles
    assert [b.angles for b in session.plan.beams] == list(OWN)


def test_adopted_beams_are_one_step_to_undo(session, planning, check):
    assert check.why_not("adopt") == "Column generation has chosen no beams yet."
    session.plan.reference_beams = (BeamAngles(20.0), BeamAngles(40.0))
    check.adopt_reference()
    assert [b.angles.gantry_deg for b in session.plan.beams] == [20.0, 40.0]
    planning.undo()
    assert [b.angles for b in session.plan.beams] == list(OWN)


def test_a_search_leaves_locked_beams_where_they_are(session, planning, check):
    planning.lock(2, True)
    check.start_improvement(3.0)
    finish(session)
    beams = session.plan.beams
    assert len(beams) == 3
    assert [b.angles for b in beams if b.locked] == [OWN[2]]
    assert planning.can_undo or {b.angles for b in beams} == set(OWN)


def test_evaluation_shows_dose_dvhs_and_numbers_of_both_sets(session, planning, check):
    session.plan.reference_beams = (BeamAngles(0.0), BeamAngles(90.0), BeamAngles(180.0))
    check.start_evaluation()
    finish(session)
    rows = {r.name: r for r in check.comparison()}
    assert rows["Objective"].own > 0 and rows["Objective"].reference > 0
    assert rows["Objective"].own != rows["Objective"].reference
    # The fluence is scaled to the coverage of the protocol, 95 % of the volume at 98 % of the dose.
    assert_allclose([rows["PTV D95"].own, rows["PTV D95"].reference], 0.98 * 60, rtol=1e-3)
    assert_allclose(sum(check.beam_shares()), 1.0)
    styles = {
        s.GetLineStyle()
        for n in range(check.dvh_chart.GetNumberOfPlotSeriesNodes())
        if (s := check.dvh_chart.GetNthPlotSeriesNode(n))
    }
    assert styles == {slicer.vtkMRMLPlotSeriesNode.LineStyleSolid, slicer.vtkMRMLPlotSeriesNode.LineStyleDash}
    assert not check.is_outdated
    planning.remove(0)
    assert check.is_outdated
    assert check.beam_shares() == (None, None)


def test_a_given_dose_is_shown_beside_that_of_the_beams(session, scene, check):
    session.plan.wished_dose_node = volume_node(scene, "Given", np.full(CASE.grid.shape, 30, np.float32), CASE.grid)
    check.start_evaluation()
    finish(session)
    chart = check.dvh_chart
    names = [chart.GetNthPlotSeriesNode(n).GetName() for n in range(chart.GetNumberOfPlotSeriesNodes())]
    assert {"PTV (this plan)", "PTV (given dose)"} <= set(names)


def test_a_cancelled_evaluation_leaves_the_plan_as_it_was(session, check):
    check.start_evaluation()
    session.work.cancel()
    finish(session)
    assert session.work.was_cancelled
    assert not check.is_evaluated
    assert check.comparison() == ()


def test_only_one_piece_of_work_runs_at_a_time(session, check):
    check.start_evaluation()
    assert check.why_not("column generation") == "Evaluation is under way."
    with pytest.raises(InputError, match="Evaluation is under way"):
        check.start_column_generation()
    session.work.end()


def test_what_cannot_be_checked_says_why(session, planning, check):
    planning.lock(0, True)
    planning.move(1, BeamAngles(130.0, 20.0))
    planning.lock(1, True)
    assert "couch is turned" in check.why_not("column generation")
    planning.lock(2, True)
    assert check.why_not("improve") == "All beams are locked; unlock those that may be exchanged."
    session.plan.beams = ()
    assert check.why_not("evaluate") == "The plan has no beams yet; propose or add some."


def test_results_are_there_when_the_scene_is_loaded_again(session, scene, check, tmp_path):
    check.start_evaluation()
    finish(session)
    before = [(r.name, r.own) for r in check.comparison()]
    bundle = str(tmp_path / "plan.mrb")
    assert scene.WriteToMRB(bundle)
    scene.Clear(False)
    session.scene_was_closed()
    assert scene.ReadFromMRB(bundle, True)
    session.open(session.plans()[0])
    after = [(r.name, r.own) for r in BeamCheck(session, BeamPlanning(session)).comparison()]
    assert [name for name, _ in after] == [name for name, _ in before]
    assert_allclose([v for _, v in after], [v for _, v in before], rtol=1e-3)  # files state directions in text
    assert not np.isnan([v for _, v in after]).any()
