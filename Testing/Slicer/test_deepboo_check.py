"""The section *Check* of DeepBOO's panel: long work, and what it leaves."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

from Mrml.samples import a_case
from Slicer.panel_user import User

from deeprt.beams import BeamAngles
from deeprt.errors import InputError
from deeprt.orientation.session import SessionBeam
from deeprt_mrml.beam_check import ComparisonRow
from deeprt_mrml.cases import ct_from_case, segmentation_from_case

MODULE = Path(__file__).parents[2] / "DeepBOO"
COARSE = """
dose_grid_mm = 8.0
beams = { n_beams = 3 }
selection = { candidates = "coplanar:20", voxel_mm = 8.0, beamlet_mm = 10.0, cache = false }
fluence = { beamlet_width_mm = 10.0, solver = { max_iterations = 20, tolerance = 1e-2 } }
"""


class Remembering:
    """Stands for the beams of a plan, or for their checks: it does nothing and remembers what was asked of it."""

    def __init__(self, **answers):
        self.asked, self.reasons = [], {}
        self.__dict__ |= answers

    def why_not(self, action):
        return self.reasons.get(action, "")

    def __getattr__(self, name):
        return lambda *arguments: self.asked.append((name, *arguments))


@pytest.fixture
def user(slicer_host, monkeypatch):
    """A user of a plan with two beams, whose beams and checks are only remembered."""
    monkeypatch.syspath_prepend(MODULE)
    monkeypatch.setattr("DeepBOOLib.Logic.newLogic", _remembered)
    user = User(slicer_host, "DeepBOO")
    user.choose("ctSelector", ct_from_case(user.scene, a_case()))
    user.choose("segmentationSelector", segmentation_from_case(user.scene, a_case()))
    user.plan.beams = (SessionBeam(BeamAngles(10.0)), SessionBeam(BeamAngles(130.0)))
    user.show()
    return user


def _remembered():
    from DeepBOOLib.Logic import Logic

    from deeprt_slicer.panel_session import new_session

    session = new_session("DeepBOO")
    beams = Remembering(fitness_chart=None, peaks_node=None, notes=lambda: ("The course has 20 fractions.",))
    check = Remembering(
        is_evaluated=False, is_outdated=False, dose_node=None, dvh_chart=None, beam_shares=lambda: (0.4, 0.6),
        comparison=lambda: (),
    )  # fmt: skip
    return Logic(session, beams, check)


def test_each_button_asks_for_its_work(user):
    user.set(user.ui.improveSpin, 12)
    for button in ("evaluateButton", "columnGenerationButton", "improveButton", "adoptButton"):
        user.click(button)
    asked = [("start_evaluation",), ("start_column_generation",), ("start_improvement", 12), ("adopt_reference",)]
    assert user.logic.check.asked == asked


def test_a_button_that_cannot_be_used_says_why_beside_it_and_in_its_tooltip(user):
    user.logic.check.reasons["improve"] = "All beams are locked; unlock those that may be exchanged."
    user.show()
    assert user.ui.improveHint.text.startswith("All beams are locked")
    assert "All beams are locked" in user.why_not("improveButton")
    assert user.ui.evaluateHint.text == "Dose and DVH of these beams."


def test_the_better_number_is_marked_in_words_and_weights_are_shown(user):
    user.logic.check.comparison = lambda: (
        ComparisonRow("Objective", "", 12.0, 10.0, True),
        ComparisonRow("Goals met, of 9", "", 7.0, 7.0, False),
        ComparisonRow("PTV D95", "Gy", 59.0, 57.0, False),
        ComparisonRow("Rectum mean", "Gy", 20.0, None, True),
    )
    user.show()
    table = user.ui.comparisonTable
    shown = [[table.item(row, column).text() for column in range(3)] for row in range(table.rowCount)]
    assert shown == [
        ["Objective", "12.0", "10.0 ▲"], ["Goals met, of 9", "7", "7"], ["PTV D95 (Gy)", "59.0 ▲", "57.0"],
        ["Rectum mean (Gy)", "20.0", "–"],
    ]  # fmt: skip
    assert [user.ui.beamsTable.item(row, 3).text() for row in range(2)] == ["40", "60"]
    assert user.ui.notesLabel.text == "• The course has 20 fractions."


def test_what_cannot_be_started_says_why(user):
    def refuses():
        raise InputError("The plan has no target with a prescription.")

    user.logic.check.start_evaluation = refuses
    user.click("evaluateButton")
    assert user.message == "Error: The plan has no target with a prescription."


def test_an_outdated_evaluation_is_what_comes_next(user):
    user.plan.config = replace(user.plan.config, beams=replace(user.plan.config.beams, n_beams=2))
    user.logic.check.is_evaluated = user.logic.check.is_outdated = True
    user.show()
    assert user.next_step.startswith("Next: Evaluate again")
    user.click("nextButton")
    assert user.logic.check.asked == [("start_evaluation",)]


def works(user, *command):
    """Let *Evaluate* run a command."""
    work = user.session.work
    user.logic.check.start_evaluation = lambda: work.start("Evaluation", command, lambda: None)
    user.click("evaluateButton")


def finish(user, seconds=120):
    user.host.wait_until(lambda: not user.session.work.is_busy, seconds)
    user.host.process_events()


def test_failed_work_gives_its_reason_and_everything_goes_on(user, tmp_path):
    works(user, "beams", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"))
    assert "Evaluation is under way" in user.next_step
    for name in ("tryItButton", "ctSelector", "proposeButton", "addButton", "evaluateButton", "improveButton"):
        assert "is under way" in user.why_not(name)
    assert not user.cell("beamsTable", 0, 1).enabled and not user.cell("structuresTable", 0, 1).enabled
    user.panel.beams.addPeak(0)  # as a click into a view does
    assert user.logic.beams.asked == []
    finish(user)
    assert "nowhere" in user.message
    assert user.why_not("evaluateButton") == "" and "Evaluation: failed" in user.ui.jobLabel.text


def test_work_is_cancelled_and_its_log_can_be_read(user, tmp_path):
    works(user, "beams", "virtual:prostate", "--out", str(tmp_path / "out"), "--select", "column-generation")
    assert user.why_not("cancelButton") == ""
    user.click("cancelButton")
    finish(user)
    assert "cancelled" in user.ui.jobLabel.text
    assert not (tmp_path / "out").exists()
    user.click("logButton")
    assert user.why_not("evaluateButton") == ""


def test_closing_the_scene_ends_the_work(user, tmp_path):
    works(user, "beams", "virtual:prostate", "--out", str(tmp_path / "out"), "--select", "column-generation")
    user.host.close_scene()
    assert not user.session.work.is_busy
    assert user.plan is None and user.next_step.startswith("Next: Choose a CT")
    user.click("tryItButton")
    assert user.plan is not None


def test_a_plan_that_is_deleted_under_its_work_is_missed_and_another_one_shown(user, tmp_path):
    first = user.plan
    user.click("newPlanButton")
    works(user, "beams", "virtual:prostate", "--out", str(tmp_path / "out"), "--select", "column-generation")
    user.scene.RemoveNode(user.plan.node)
    user.host.process_events(0.3)
    user.click("cancelButton")
    finish(user)
    assert user.plan.key == first.key


def test_what_comes_after_the_work_is_done_only_if_it_ended_well(user, tmp_path):
    done = []
    work = user.session.work

    def fails():
        raise InputError("The result cannot be read.")

    for on_done in (fails, lambda: None):
        start = partial(work.start, "Work", ["step", "--help"], on_done)
        user.panel.frame.start(start, then=lambda: done.append(1))
        finish(user)
        assert done == ([] if on_done is fails else [1])
    assert user.ui.jobProgress.value == 100


@pytest.mark.slow
def test_the_virtual_patient_from_one_click_to_two_evaluated_sets(slicer_host, tmp_path):
    user = User(slicer_host, "DeepBOO")
    preset = tmp_path / "coarse.toml"
    preset.write_text(COARSE, encoding="utf-8")
    user.click("tryItButton")
    user.host.answer_file_dialog(preset)
    user.click("loadPresetButton")
    user.click("nextButton")  # which completes the set
    own = user.gantry
    assert len(own) == 3

    user.click("columnGenerationButton")
    finish(user)
    reference = [a.gantry_deg for a in user.plan.reference_beams]
    assert len(reference) == 3 and f"{reference[0]:g}°" in user.ui.adoptHint.text

    user.click("nextButton")  # which evaluates both sets
    finish(user)
    assert user.message == ""
    check = user.logic.check
    layers = user.scene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    assert layers.GetForegroundVolumeID() == check.dose_node.GetID()
    selection = user.scene.GetFirstNodeByClass("vtkMRMLSelectionNode")
    assert selection.GetActivePlotChartID() == check.dvh_chart.GetID()
    assert user.ui.chartCombo.currentText == "DVH"
    assert sum(int(user.ui.beamsTable.item(row, 3).text()) for row in range(3)) == pytest.approx(100, abs=2)
    table = user.ui.comparisonTable
    assert table.rowCount > 10 and table.item(0, 2).text() != "–"
    user.ui.beamsTable.item(0, 4).setCheckState(2)
    assert user.ui.chartCombo.currentText == "DVH"
    user.ui.beamsTable.item(0, 4).setCheckState(0)

    user.set(user.ui.gantrySpin, 47.0)
    user.click("addButton")
    assert user.ui.evaluateHint.text.startswith("Beams or settings have changed")
    user.click("adoptButton")
    assert user.gantry == reference
    user.click("undoButton")
    assert user.gantry == [*own, 47.0]
