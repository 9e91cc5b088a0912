"""The parts that both panels share, in the host; see host/README.md for what it stands for."""

import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest

from deeprt.beams import BeamAngles
from deeprt.errors import InputError
from deeprt.orientation.session import SessionBeam
from deeprt.structures import Role

pytestmark = pytest.mark.usefixtures("slicer_host")


@pytest.fixture
def message(slicer_host):
    import qt

    from deeprt_slicer.message_line import MessageLine

    label = qt.QLabel()
    return types.SimpleNamespace(label=label, line=MessageLine(label))


class FakeWork:
    """Long work that goes as far as it is told, and no further."""

    def __init__(self):
        self.is_busy, self.was_cancelled, self.has_succeeded, self.title, self.log = False, False, False, "", ""
        self.progress, self.left_s, self.outcome = None, None, None

    def start(self, title):
        self.is_busy, self.was_cancelled, self.has_succeeded, self.title, self.log = (
            True,
            False,
            False,
            title,
            "began\n",
        )
        self.progress = self.left_s = self.outcome = None

    def time_left_s(self):
        return self.left_s

    def cancel(self):
        self.outcome = "cancelled"

    def poll(self):
        if not self.is_busy or self.outcome is None:
            return False
        self.is_busy, self.was_cancelled = False, self.outcome == "cancelled"
        if isinstance(self.outcome, Exception):
            raise self.outcome
        self.has_succeeded = not self.was_cancelled
        return True


@pytest.fixture
def job(slicer_host):
    import qt

    from deeprt_slicer.job_row import JobRow

    work, ended, errors = FakeWork(), [], []
    parts = {
        "progress_bar": qt.QProgressBar(),
        "label": qt.QLabel(),
        "cancel_button": qt.QPushButton("Cancel"),
        "log_button": qt.QPushButton("Log"),
    }
    row = JobRow(**parts, work=work, on_end=lambda: ended.append(work.is_busy), on_error=errors.append)
    yield types.SimpleNamespace(row=row, work=work, ended=ended, errors=errors, **parts)
    row.stop()


# Message line


def test_a_message_says_in_words_whether_it_is_an_error_or_a_note(message):
    assert not message.label.text
    message.line.show_error("Choose a CT volume.")
    assert message.label.text == "Error: Choose a CT volume."
    error_style = message.label.styleSheet
    message.line.show_note("The weights are defaults.")
    assert message.label.text == "Note: The weights are defaults."
    assert message.label.styleSheet != error_style


def test_an_action_that_cannot_be_done_says_why_and_one_that_can_clears_the_line(message):
    def refused():
        raise InputError("There is no plan; make one.")

    assert not message.line.attempt(refused)
    assert message.label.text == "Error: There is no plan; make one."
    assert message.line.attempt(lambda: None)
    assert not message.label.text and not message.label.isVisible()


def test_an_unexpected_error_is_told_and_not_swallowed(message):
    import qt

    def broken():
        raise KeyError("x")

    with pytest.raises(KeyError):
        message.line.attempt(broken)
    assert "unexpected" in message.label.text and "KeyError" in message.label.text
    assert not qt.QApplication.overrideCursor()


# Controls


def test_a_disabled_button_says_why_beside_what_it_does(slicer_host):
    import qt

    from deeprt_slicer.controls import allow

    button = qt.QPushButton("Sequence")
    button.toolTip = "Make leaf segments of the fluence"
    for _ in range(2):
        allow(button, "There is no fluence yet.")
        assert not button.enabled
        assert button.toolTip == "Make leaf segments of the fluence\nThere is no fluence yet."
    allow(button, "")
    assert button.enabled and button.toolTip == "Make leaf segments of the fluence"


def test_a_selector_tells_what_the_user_chooses_and_not_what_it_shows_when_a_node_goes(slicer_host):
    import slicer

    from deeprt_slicer.controls import bind_node_selector

    chosen = []
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.setMRMLScene(slicer.mrmlScene)
    one, two = (slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in "AB")
    show = bind_node_selector(selector, chosen.append)
    show(one)
    assert selector.currentNode() is one and chosen == []
    selector.nodeActivated.emit(two)
    assert chosen == [two]
    slicer.mrmlScene.RemoveNode(one)
    slicer_host.close_scene()
    assert chosen == [two]


@pytest.mark.parametrize("kind", ["QDoubleSpinBox", "QComboBox", "ctkSliderWidget"])
def test_the_wheel_scrolls_the_panel_and_changes_no_value_that_was_not_clicked(slicer_host, kind):
    import ctk
    import qt

    from deeprt_slicer.controls import WheelGuard

    control = getattr(ctk if kind.startswith("ctk") else qt, kind)()
    guard = WheelGuard(control)
    guard.guard(control)
    assert control.focusPolicy != qt.Qt.WheelFocus
    if kind == "QDoubleSpinBox":
        control.value = 40.0
        turn(control)
        assert control.value == 40.0


def turn(control):
    """Turn the mouse wheel over a control."""
    from PySide6.QtCore import QPoint, QPointF, Qt
    from PySide6.QtGui import QWheelEvent
    from PySide6.QtWidgets import QApplication

    event = QWheelEvent(
        QPointF(5, 5), QPointF(5, 5), QPoint(), QPoint(0, 120), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(control._qt, event)
    return event.isAccepted()


# Job row


def test_work_is_looked_after_from_its_start_to_its_end(slicer_host, job):
    from deeprt_mrml.jobs import ProgressRecord

    assert not job.cancel_button.enabled and "Nothing is under way" in job.cancel_button.toolTip
    assert not job.log_button.enabled
    job.work.start("Column generation")
    job.row.watch()
    assert job.label.text == "Column generation: starting" and job.cancel_button.enabled
    job.work.progress, job.work.left_s = ProgressRecord("beams", 0.4, "beam 3 of 5", 8.0), 12.3
    slicer_host.wait_until(lambda: job.progress_bar.value == 40)
    assert job.label.text == "Column generation: beam 3 of 5 – about 12 s left"
    job.work.left_s = 200.0
    slicer_host.wait_until(lambda: job.label.text.endswith("about 3 min left"))
    job.work.outcome = "done"
    slicer_host.wait_until(lambda: job.ended)
    assert job.label.text == "Column generation: done" and job.errors == []
    assert job.progress_bar.value == 100 and not job.cancel_button.enabled and job.log_button.enabled


def test_a_failure_ends_the_work_and_gives_its_reason_last(slicer_host, job):
    job.work.start("Evaluation")
    job.row.watch()
    job.work.outcome = InputError("No beam sees the target.")
    slicer_host.wait_until(lambda: job.errors)
    assert job.errors == ["No beam sees the target."] and job.ended == [False]
    assert job.label.text == "Evaluation: failed"
    assert job.progress_bar.value == 0 and not job.progress_bar.textVisible


def test_cancel_shows_that_it_was_heard(slicer_host, job):
    job.work.start("Improve")
    job.row.watch()
    job.cancel_button.click()
    assert job.label.text == "Improve: being cancelled" and not job.cancel_button.enabled
    slicer_host.wait_until(lambda: job.ended)
    assert job.label.text == "Improve: cancelled" and job.errors == []


def test_work_that_ended_with_the_scene_is_looked_after_no_more(slicer_host, job):
    job.work.start("Improve")
    job.row.watch()
    job.cancel_button.click()
    job.work.is_busy, job.work.outcome = False, None  # as `end` leaves it
    slicer_host.wait_until(lambda: not job.row._timer.active)
    assert not job.cancel_button.enabled and "Nothing is under way" in job.cancel_button.toolTip
    assert job.ended == []


def test_work_that_begins_when_other_work_ends_is_looked_after_too(slicer_host, job):
    job.row._on_end = lambda: job.ended.append(1) or (job.work.start("Dose") if len(job.ended) == 1 else None)
    job.work.start("Segments")
    job.row.watch()
    job.work.outcome = "done"
    slicer_host.wait_until(lambda: job.label.text == "Dose: starting")
    job.work.outcome = "done"
    slicer_host.wait_until(lambda: job.label.text == "Dose: done")
    assert job.ended == [1, 1]


def test_the_log_follows_the_work_and_can_only_be_read(slicer_host, job):
    import qt

    job.work.start("Plan")
    job.row.watch()
    job.log_button.click()
    text = job.log_button.findChild(qt.QPlainTextEdit, "")
    assert text.plainText == "began\n" and text.readOnly
    job.work.log += "went on\n"
    slicer_host.wait_until(lambda: "went on" in text.plainText)
    job.row.stop()
    assert not text.isVisible()


# Tables


def test_a_result_table_says_met_and_missed_in_words_and_in_color(slicer_host):
    import qt

    from deeprt_slicer import tables

    table = qt.QTableWidget()
    rows = [["PTV D95", tables.number(59.97), tables.verdict(True)], ["Rectum V70", "–", tables.verdict(False)]]
    tables.fill(table, ["Goal", "Value (Gy)", "Result"], rows)
    assert [table.item(0, c).text() for c in range(3)] == ["PTV D95", "60.0", "met"]
    assert table.item(1, 2).text() == "missed"
    grounds = [table.item(r, 2).background().color().name() for r in range(2)]
    assert grounds[0] != grounds[1]
    assert not table.item(0, 0).flags() & qt.Qt.ItemIsEditable
    tables.fill(table, ["Goal", "Value (Gy)", "Result"], rows[:1])
    assert table.rowCount == 1 and tables.verdict(None).text == "–"


def test_a_table_is_as_high_as_its_rows_so_that_nothing_is_hidden(slicer_host):
    import qt

    from deeprt_slicer import tables

    table = qt.QTableWidget()
    heights = []
    for n in (1, 5, 40):
        tables.fill(table, ["Name"], [["x"]] * n)
        heights.append(table.maximumHeight)
    assert heights[0] < heights[1] < heights[2] < 2.8 * heights[1]


@pytest.fixture
def beams(slicer_host):
    import qt

    from deeprt_slicer.beams_table import BeamsTable

    calls, widget = [], qt.QTableWidget()
    table = BeamsTable(
        widget,
        on_move=lambda *a: calls.append(("move", *a)),
        on_lock=lambda *a: calls.append(("lock", *a)),
        on_remove=lambda *a: calls.append(("remove", *a)),
    )
    return types.SimpleNamespace(table=table, widget=widget, calls=calls)


SET = (
    SessionBeam(BeamAngles(40.04, 350.0, 15.0)),
    SessionBeam(BeamAngles(359.97)),
    SessionBeam(BeamAngles(180.0), locked=True),
)


def test_beams_are_shown_with_angles_weights_and_the_colors_of_the_views(beams):
    from deeprt_mrml.beam_models import BEAM_COLORS

    beams.table.show(SET, shares=[0.334, None])
    cell = beams.widget.cellWidget
    assert [beams.widget.item(r, 0).text() for r in range(3)] == ["1", "2", "3"]
    color = beams.widget.item(1, 0).background().color()
    assert (color.red(), color.green(), color.blue()) == BEAM_COLORS[1]
    assert [cell(r, 1).value for r in range(3)] == [40.0, 0.0, 180.0] and cell(0, 2).value == 350.0
    assert [beams.widget.item(r, 3).text() for r in range(3)] == ["33", "–", "–"]
    assert beams.calls == []


def test_an_edited_angle_moves_the_beam_and_keeps_its_other_angles_exactly(beams):
    beams.table.show(SET)
    gantry = beams.widget.cellWidget(0, 1)
    assert (gantry.minimum, gantry.maximum) == (0.0, 359.9)
    gantry.value = 90.5
    beams.widget.cellWidget(0, 2).value = 10.0
    assert beams.calls == [
        ("move", 0, BeamAngles(90.5, 350.0, 15.0)),
        ("move", 0, BeamAngles(40.04, 10.0, 15.0)),
    ]


def test_showing_the_beams_again_takes_a_refused_edit_back(beams):
    beams.table.show(SET)
    beams.widget.cellWidget(0, 1).value = 77.0
    del beams.calls[:]
    beams.table.show(SET)
    assert beams.widget.cellWidget(0, 1).value == 40.0 and beams.calls == []


def test_a_locked_beam_says_that_it_has_to_be_unlocked_first(beams):
    import qt

    beams.table.show(SET)
    for column in (1, 2, 5):
        control = beams.widget.cellWidget(2, column)
        assert not control.enabled and "Beam 3 is locked" in control.toolTip
    beams.widget.item(2, 4).setCheckState(qt.Qt.Unchecked)
    beams.widget.item(0, 4).setCheckState(qt.Qt.Checked)
    assert beams.calls == [("lock", 2, False), ("lock", 0, True)]


def test_a_beam_can_be_removed_while_its_own_button_is_pressed(slicer_host, beams):
    left = list(SET)

    def remove(row):
        del left[row]
        beams.table.show(left)

    beams.table._on_remove = None  # the callback was taken over when the row was made
    beams.table.show([])
    beams.table._on_remove = remove
    beams.table.show(SET)
    beams.widget.cellWidget(0, 5).click()
    slicer_host.process_events()
    assert beams.widget.rowCount == 2 and beams.widget.cellWidget(1, 1).value == 180.0
    assert not beams.widget.cellWidget(1, 1).enabled


def test_selection_focus_and_an_angle_half_typed_stay_when_the_table_is_shown_again(slicer_host, beams):
    import qt

    beams.table.show(SET)
    beams.widget.show()
    beams.widget.activateWindow()
    gantry = beams.widget.cellWidget(1, 1)
    gantry.setFocus()
    slicer_host.process_events()
    edit = gantry.findChild(qt.QLineEdit, "qt_spinbox_lineedit")
    edit.text = "12"
    beams.table.show([*SET, SessionBeam(BeamAngles(270.0))])
    assert edit.text == "12°" and beams.widget.currentRow() == 1
    assert beams.widget.cellWidget(1, 1) == gantry and gantry.hasFocus()


def test_nothing_is_edited_while_work_is_under_way(beams):
    import qt

    beams.table.show(SET, is_fixed=True)
    assert "under way" in beams.widget.cellWidget(0, 1).toolTip
    assert not beams.widget.item(0, 4).flags() & qt.Qt.ItemIsEnabled
    beams.table.show(SET)
    assert beams.widget.cellWidget(0, 1).enabled


@pytest.fixture
def structures(slicer_host):
    import qt

    from deeprt_mrml.session import StructureRow
    from deeprt_slicer.structures_table import StructuresTable

    calls, widget = [], qt.QTableWidget()
    table = StructuresTable(
        widget,
        on_role=lambda *a: calls.append(("role", *a)),
        on_weight=lambda *a: calls.append(("weight", *a)),
        on_prescription=lambda *a: calls.append(("prescription", *a)),
    )
    rows = (
        StructureRow("PTV", (255, 0, 0), Role.TARGET, Role.TARGET, "", 60.0, 1.0),
        StructureRow("Rectum", (90, 60, 10), Role.ORGAN_AT_RISK, Role.ORGAN_AT_RISK, "Rectum", None, 0.1),
    )
    return types.SimpleNamespace(table=table, widget=widget, calls=calls, rows=rows)


def test_structures_are_shown_with_color_role_in_words_weight_and_prescription(structures):
    import qt

    structures.table.show(structures.rows)
    cell, item = structures.widget.cellWidget, structures.widget.item(0, 0)
    assert item.text() == "PTV" and item.data(qt.Qt.DecorationRole).name() == "#ff0000"
    assert [cell(r, 1).currentText for r in range(2)] == ["target", "organ at risk"]
    assert [cell(r, 2).value for r in range(2)] == [1.0, 0.1]
    assert cell(0, 3).value == 60.0 and cell(0, 3).enabled
    assert cell(1, 3).text == "–" and not cell(1, 3).enabled and "Only targets" in cell(1, 3).toolTip
    assert structures.calls == []


def test_role_weight_and_prescription_are_edited_in_place(structures):
    structures.table.show(structures.rows)
    roles, cell = list(Role), structures.widget.cellWidget
    cell(1, 1).setCurrentIndex(cell(1, 1).findText("bolus"))
    cell(1, 2).value = 0.25
    cell(0, 3).value = 62.5
    cell(0, 3).value = 0.0
    assert structures.calls == [
        ("role", "Rectum", Role.BOLUS),
        ("weight", "Rectum", 0.25),
        ("prescription", "PTV", 62.5),
        ("prescription", "PTV", None),
    ]
    assert {cell(0, 1).itemText(n) for n in range(cell(0, 1).count)} >= {"target", "external", "support"}
    assert cell(0, 1).count == len(roles)


def test_a_structure_that_becomes_a_target_may_have_a_prescription(structures):
    target, organ = structures.rows
    structures.table.show(structures.rows)
    structures.table.show([target, replace(organ, role=Role.TARGET, weight=2.0)])
    cell = structures.widget.cellWidget
    assert cell(1, 3).enabled and cell(1, 2).value == 2.0
    assert "organ at risk" in cell(1, 1).toolTip  # which is what its name says
    assert structures.calls == []


# Plans and the scene


@pytest.fixture
def bar(slicer_host, message):
    import qt
    import slicer

    from deeprt_slicer.panel_session import new_session
    from deeprt_slicer.plan_bar import PlanBar

    session, changes = new_session("DeepBOO"), []
    parts = {name: qt.QPushButton(name) for name in ("new_button", "remove_button", "try_button")}
    parts["selector"] = slicer.qMRMLNodeComboBox()
    shown = PlanBar(
        **parts,
        session=session,
        message=message.line,
        on_change=lambda: changes.append(session.plan and session.plan.name),
    )
    yield types.SimpleNamespace(bar=shown, session=session, changes=changes, message=message, **parts)
    session.work.end()


def test_plans_are_made_chosen_and_removed(slicer_host, bar):
    assert not bar.remove_button.enabled and "no plan" in bar.remove_button.toolTip
    bar.new_button.click()
    bar.new_button.click()
    assert bar.changes == ["Plan", "Plan 2"] and bar.selector.currentNode().GetName() == "Plan 2"
    first = bar.session.plans()[0].node
    bar.selector.nodeActivated.emit(first)
    assert bar.session.plan.node is first
    slicer_host.answer(False)
    bar.remove_button.click()
    assert len(bar.session.plans()) == 2
    slicer_host.answer(True)
    bar.remove_button.click()
    assert "Plan" in slicer_host.dialogs[-1].text
    assert bar.changes[-1] == "Plan 2" and bar.selector.currentNode().GetName() == "Plan 2"
    slicer_host.answer(True)
    bar.remove_button.click()
    assert bar.changes[-1] is None and bar.selector.currentNode() is None
    slicer_host.process_events()


def test_other_nodes_of_modules_are_no_plans(slicer_host, bar):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "Other")
    node.SetAttribute("ModuleName", "Other")
    bar.bar.show()
    assert bar.selector.nodeCount() == 0 and bar.changes == []


def test_try_it_loads_the_virtual_patient(slicer_host, bar):
    bar.try_button.click()
    assert bar.session.plan.ct_node is not None and not bar.message.label.text
    assert bar.selector.currentNode() is bar.session.plan.node


def test_the_plan_is_not_changed_while_work_is_under_way(slicer_host, bar, monkeypatch):
    bar.new_button.click()
    monkeypatch.setattr(type(bar.session.work), "is_busy", property(lambda self: True))
    bar.bar.show()
    for control in (bar.selector, bar.new_button, bar.remove_button, bar.try_button):
        assert not control.enabled and "under way" in control.toolTip


def test_the_folder_of_a_session_goes_with_it(slicer_host):
    from deeprt_slicer.panel_session import new_session

    session = new_session("DeepFluence")
    (folder,) = Path(slicer_host.folder).glob("DeepFluence-*")
    del session
    assert not folder.exists()


def test_jobs_run_in_python_slicer_where_there_is_one(slicer_host, tmp_path, monkeypatch):
    from deeprt_slicer.panel_session import python_for_jobs

    assert python_for_jobs().executable == sys.executable
    python = tmp_path / "PythonSlicer"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = python_for_jobs()
    assert found.executable == str(python) and found.environment["PATH"] == str(tmp_path)


@pytest.fixture
def watch(slicer_host):
    import slicer

    from deeprt_slicer.scene_watch import SceneWatch

    seen = []
    nodes = slicer.mrmlScene.GetNumberOfNodes
    watched = SceneWatch(
        slicer.mrmlScene, on_close=lambda: seen.append(nodes() > 0), on_change=lambda: seen.append("change")
    )
    yield types.SimpleNamespace(watch=watched, seen=seen)
    watched.stop()


def test_a_panel_hears_once_of_all_the_nodes_that_were_removed(slicer_host, watch):
    import slicer

    nodes = [slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode") for _ in range(5)]
    slicer_host.process_events()
    assert watch.seen == []
    for node in nodes:
        slicer.mrmlScene.RemoveNode(node)
    slicer_host.process_events()
    assert watch.seen == ["change"]


def test_a_panel_hears_of_a_closed_scene_before_its_nodes_go(slicer_host, watch):
    import slicer

    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode")
    slicer_host.close_scene()
    assert watch.seen == [True, "change"]
    watch.watch.stop()
    slicer_host.close_scene()
    assert watch.seen == [True, "change"]
