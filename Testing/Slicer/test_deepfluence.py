"""The panel of DeepFluence over a stand-in of its logic: every control does what its label says, and what it shows."""

import stat
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

from Mrml.samples import a_case
from Slicer.fake_planning import FakePlanning
from Slicer.panel_user import User

from deeprt.beams import BeamAngles
from deeprt.errors import InputError
from deeprt.evaluation.normalization import Normalization
from deeprt.orientation.session import SessionBeam
from deeprt_mrml.cases import ct_from_case, segmentation_from_case
from deeprt_mrml.fluence_results import GammaRow, GoalRow, MetricRow
from deeprt_mrml.fluence_stages import Stage, StageState
from deeprt_mrml.session import PlanSession
from deeprt_mrml.volumes import DOSE_VOLUME, dose_node, volume_node

CASE = a_case()
MODULE = Path(__file__).parents[2] / "DeepFluence"
COLORS = {"met": "#d8f0dd", "missed": "#fbdcd9"}
DONE = dict.fromkeys(Stage, StageState.CURRENT)


@pytest.fixture
def user(slicer_host, tmp_path, monkeypatch):
    """A user of the panel whose logic does nothing; work, if any, waits until it is ended."""
    waits = tmp_path / "waits"
    waits.write_text("#!/bin/sh\necho waiting >&2\nsleep 60\n")
    waits.chmod(waits.stat().st_mode | stat.S_IXUSR)

    def newLogic():
        session = PlanSession(slicer_host.scene, tmp_path / "work", executable=str(waits))
        return Logic(session, FakePlanning(session))

    monkeypatch.syspath_prepend(MODULE)
    monkeypatch.setattr("DeepFluenceLib.Logic.newLogic", newLogic)
    from DeepFluenceLib.Logic import Logic

    user = User(slicer_host, "DeepFluence")
    yield user
    if user.logic is not None:
        user.session.work.end()


@pytest.fixture
def planner(user):
    """A user who has chosen the inputs of the sample case, and two beams."""
    user.choose("ctSelector", ct_from_case(user.scene, CASE))
    user.choose("segmentationSelector", segmentation_from_case(user.scene, CASE))
    user.plan.beams = [SessionBeam(BeamAngles(20.0)), SessionBeam(BeamAngles(140.0))]
    user.host.process_events()
    return user


def work_is(user, folder, command, done=lambda: None):
    """Let what a button starts be a command of the shell, and what is done when it has ended well."""
    (folder / "waits").write_text(f"#!/bin/sh\n{command}\n")
    user.logic.planning.start = lambda: user.session.work.start("Work", ["step"], done)


def a_dose(scene, name="RTDOSE", gray=50.0):
    node = volume_node(scene, name, np.full(CASE.grid.shape, gray, np.float32), CASE.grid)
    node.SetAttribute(DOSE_VOLUME, "1")
    return node


# What comes next


def test_an_empty_scene_says_what_to_do_first(user):
    assert user.next_step == "Next: Choose a CT and a segmentation, or try it with a virtual patient."


def test_a_disabled_control_says_why(slicer_host):
    user = User(slicer_host, "DeepFluence")  # whose logic is the real one
    for name in ("runAllButton", "predictButton", "refineButton", "optimizeButton", "readReferenceButton",
                 "clearReferenceButton", "sequenceButton", "doseButton", "compareButton", "showButton", "exportButton",
                 "addBeamButton", "equispacedButton", "readPlanButton", "removePlanButton", "cancelButton", "logButton",
                 "wishCombo", "doseSelector", "machineCombo", "machineButton", "fractionsSpin", "techniqueCombo",
                 "normalizationCombo", "volumeSpin", "doseSpin", "isodosesCheck", "isodosesEdit", "opacitySlider",
                 "databaseCheck"):  # fmt: skip
        own = user.host.widget(user.module, name).whatsThis
        assert user.why_not(name).removeprefix(own).strip(), f"{name} does not say why it is disabled"


def test_the_virtual_patient_comes_with_seven_beams(user):
    user.click("tryItButton")
    assert user.gantry == [0.0, 51.4, 102.9, 154.3, 205.7, 257.1, 308.6]
    assert user.ui.beamsTable.rowCount == 7
    assert user.next_step == "Next: Run all steps, or predict the fluence alone."


@pytest.mark.parametrize(
    ("done", "step"),
    [
        (1, "Run all steps, or sequence"),
        (2, "Run all steps, or calculate"),
        (3, "Compare with the wished dose"),
        (4, "Look at the"),
    ],
)
def test_the_next_step_follows_from_what_is_done(planner, done, step):
    planner.logic.planning.states = dict.fromkeys(tuple(Stage)[:done], StageState.CURRENT)
    planner.show()
    assert planner.next_step.startswith(f"Next: {step}")
    assert ("up to date" in planner.why_not("runAllButton")) == (done == len(Stage))


def test_what_the_logic_needs_is_the_next_step(planner):
    planner.logic.planning.reasons["all"] = "Choose the dose volume that fluence is predicted from."
    planner.show()
    assert planner.next_step == "Next: Choose the dose volume that fluence is predicted from."
    assert planner.logic.planning.reasons["all"] in planner.why_not("runAllButton")


# Inputs


def test_the_first_input_makes_a_plan_and_is_shown(user):
    ct = ct_from_case(user.scene, CASE)
    user.choose("ctSelector", ct)
    assert user.plan.ct_node is ct
    layers = user.scene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    assert layers.GetBackgroundVolumeID() == ct.GetID()
    segmentation = segmentation_from_case(user.scene, CASE)
    user.choose("segmentationSelector", segmentation)
    assert user.plan.segmentation_node is segmentation
    assert len(user.session.plans()) == 1


def test_a_given_dose_is_looked_for_among_the_doses_of_the_scene(planner):
    volume_node(planner.scene, "MR", np.zeros(CASE.grid.shape, np.float32), CASE.grid)
    dose = a_dose(planner.scene)
    assert "The wished dose is made" in planner.why_not("doseSelector")
    planner.pick("wishCombo", "Dose volume (RTDOSE)")
    assert planner.logic.planning.wish == "given"
    assert planner.plan.wished_dose_node is dose
    assert planner.ui.doseSelector.currentNode() is dose
    other = a_dose(planner.scene, "Another dose")
    planner.choose("doseSelector", other)
    assert planner.plan.wished_dose_node is other
    planner.pick("wishCombo", "Predicted from contours")
    assert planner.logic.planning.wish == "predict"
    assert planner.why_not("doseSelector")


def test_without_a_loaded_dose_that_of_deepboo_is_taken(planner):
    own = dose_node(planner.scene, planner.plan.key, "Dose, this plan", np.ones(CASE.grid.shape, np.float32), CASE.grid)
    dose_node(planner.scene, planner.plan.key, "Synthetic dose", np.ones(CASE.grid.shape, np.float32), CASE.grid)
    planner.pick("wishCombo", "Dose volume (RTDOSE)")
    assert planner.plan.wished_dose_node is own


def test_machine_and_fractions_are_kept_with_the_plan(planner):
    planner.pick("machineCombo", "generic_15mv")
    planner.set(planner.ui.fractionsSpin, 20)
    assert (planner.plan.config.machine, planner.plan.config.n_fractions) == ("generic_15mv", 20)
    planner.set(planner.ui.fractionsSpin, 0)
    assert planner.plan.config.n_fractions is None
    assert planner.ui.fractionsSpin.text == "as the protocol says"


def test_a_machine_is_read_from_a_file_and_refused_if_it_is_none(planner, tmp_path):
    planner.host.answer_file_dialog("")
    planner.click("machineButton")
    assert planner.plan.config.machine is None
    (tmp_path / "machine.json").write_text("{}")
    planner.host.answer_file_dialog(tmp_path / "machine.json")
    planner.click("machineButton")
    assert "machine.json" in planner.message
    assert planner.plan.config.machine is None


# Beams


def test_beams_are_added_moved_and_removed_in_the_panel(planner):
    planner.set(planner.ui.gantrySpin, 250.0)
    planner.set(planner.ui.couchSpin, 10.0)
    planner.click("addBeamButton")
    assert planner.plan.beams[-1].angles == BeamAngles(250.0, 10.0)
    planner.set(planner.ui.beamsTable.cellWidget(0, 1), 33.0)
    assert planner.gantry == [33.0, 140.0, 250.0]
    planner.ui.beamsTable.cellWidget(1, 5).click()
    planner.host.process_events()
    assert planner.gantry == [33.0, 250.0]
    assert planner.ui.beamsTable.rowCount == 2


def test_a_refused_edit_is_taken_back_and_says_why(planner):
    planner.logic.planning.error = InputError("Two beams come from gantry 140.0°.")
    planner.set(planner.ui.beamsTable.cellWidget(0, 1), 140.0)
    assert "Two beams come from gantry 140.0°." in planner.message
    assert planner.ui.beamsTable.cellWidget(0, 1).value == 20.0


def test_locked_beams_are_not_replaced(planner):
    planner.ui.beamsTable.item(1, 4).setCheckState(sys.modules["qt"].Qt.Checked)
    planner.host.process_events()
    assert [b.locked for b in planner.plan.beams] == [False, True]
    assert "unlock them" in planner.why_not("equispacedButton")
    assert "unlock them" in planner.why_not("readPlanButton")


def test_beams_are_spaced_evenly_from_an_angle_on(planner):
    planner.set(planner.ui.equispacedSpin, 4)
    planner.set(planner.ui.firstGantrySpin, 45.0)
    planner.click("equispacedButton")
    assert planner.gantry == [45.0, 135.0, 225.0, 315.0]


def test_beams_are_read_from_a_file_with_what_is_done_otherwise(planner, tmp_path):
    planner.host.answer_file_dialog("")
    planner.click("readPlanButton")
    planner.host.answer_file_dialog(tmp_path / "RTPLAN.dcm")
    planner.click("readPlanButton")
    assert planner.logic.planning.calls == [("read_plan", tmp_path / "RTPLAN.dcm")]
    assert "Its bolus is left out." in planner.message


def test_the_collimator_turns_all_beams(planner):
    planner.set(planner.ui.collimatorSpin, 15.0)
    assert planner.plan.config.beams.collimator_deg == 15.0
    assert planner.logic.planning.calls[-1] == ("set_beams", BeamAngles(20.0), BeamAngles(140.0))


# Fluence


@pytest.mark.parametrize(
    ("button", "call"),
    [
        ("predictButton", ("prediction",)),
        ("refineButton", ("refinement", 25)),
        ("optimizeButton", ("optimization",)),
        ("sequenceButton", ("sequencing",)),
        ("doseButton", ("dose",)),
        ("compareButton", ("comparison",)),
        ("runAllButton", ("all",)),
    ],
)
def test_a_button_starts_its_step(planner, button, call):
    planner.set(planner.ui.refinementsSpin, 25)
    planner.click(button)
    assert planner.logic.planning.calls == [call]


def test_a_step_that_cannot_be_started_says_why_in_its_tooltip(planner):
    for action, button in (("predict", "predictButton"), ("refine", "refineButton"), ("optimize", "optimizeButton"),
                           ("sequence", "sequenceButton"), ("dose", "doseButton"), ("compare", "compareButton"),
                           ("export", "exportButton")):  # fmt: skip
        planner.logic.planning.reasons = {action: f"No {action} now."}
        planner.show()
        assert f"No {action} now." in planner.why_not(button)


def test_a_result_says_in_words_and_color_whether_it_holds(planner):
    label = planner.ui.fluenceStateLabel
    assert (label.text, label.styleSheet) == ("Not yet.", "")
    planner.logic.planning.states = DONE
    planner.show()
    assert label.text == "✓ Fluence of these beams."
    assert planner.ui.comparisonStateLabel.text == "✓ Compared with the wished dose."
    good = label.styleSheet
    planner.logic.planning.states = {Stage.FLUENCE: StageState.OUTDATED}
    planner.logic.planning.reasons = {Stage.FLUENCE: "The beams changed after the fluence was predicted."}
    planner.show()
    assert label.text == "⚠ The beams changed after the fluence was predicted."
    assert label.styleSheet not in ("", good)
    planner.logic.planning.states = dict.fromkeys(Stage, StageState.OUTDATED)
    planner.logic.planning.reasons = dict.fromkeys(Stage, "The beams changed after the fluence was predicted.")
    planner.show()
    assert planner.ui.doseStateLabel.text == "⚠ Outdated."  # why is said once


def a_picture(width, height):
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.new("RGB", (width, height), "blue").save(file, "png")
    return file.getvalue()


def test_maps_are_a_picture_that_follows_the_width_of_the_panel(planner):
    ui, planning = planner.ui, planner.logic.planning
    assert not ui.fluencePictureLabel.visible
    planning.fluence, planning.picture = (np.ones((2, 3)),), a_picture(1000, 200)
    planner.show()
    planner.host.process_events()
    for width in (600, 500):
        planner.host.main_window.resize(width, 900)
        planner.host.process_events(0.05)
        assert ui.fluencePictureLabel.visible
        assert ui.fluencePictureLabel.width < width
        assert abs(ui.fluencePictureLabel.height - ui.fluencePictureLabel.width / 5) <= 1
    assert not ui.differencePictureLabel.visible
    planning.fluence = ()
    planner.show()
    assert not ui.fluencePictureLabel.visible


def test_reference_maps_are_read_and_forgotten(planner, tmp_path):
    planning = planner.logic.planning
    assert "no maps to compare" in planner.why_not("readReferenceButton")
    planning.fluence, planning.picture = (np.ones((2, 3)),), a_picture(100, 20)
    planner.show()
    planner.host.answer_file_dialog("")
    planner.click("readReferenceButton")
    assert planning.calls == []
    planner.host.answer_file_dialog(tmp_path / "1.optimal_fluence")
    planner.click("readReferenceButton")
    assert planning.calls == [("read_reference_plan", tmp_path / "1.optimal_fluence")]
    assert planner.ui.differencePictureLabel.visible
    planner.click("clearReferenceButton")
    assert planning.references == ()
    assert not planner.ui.differencePictureLabel.visible
    assert "no reference" in planner.why_not("clearReferenceButton")


# Delivery


def test_technique_and_normalization_are_kept_with_the_plan(planner):
    planner.pick("techniqueCombo", "Sliding window")
    assert planner.plan.config.sequencing.technique == "sliding-window"
    assert planner.plan.config.normalization is None
    assert planner.why_not("volumeSpin")
    planner.pick("normalizationCombo", "Coverage of the target")
    planner.set(planner.ui.volumeSpin, 98.0)
    planner.set(planner.ui.doseSpin, 95.0)
    assert planner.plan.config.normalization == Normalization(98.0, 95.0, "coverage")
    planner.pick("normalizationCombo", "Mean target dose of the wished dose")
    assert planner.plan.config.normalization.rule == "wished-mean"
    assert planner.why_not("doseSpin")
    planner.pick("normalizationCombo", "Automatic")
    assert planner.plan.config.normalization is None


def test_monitor_units_and_segments_are_listed_by_beam(planner):
    @dataclass
    class Delivered:
        beams = (types.SimpleNamespace(name="Beam 1", angles=BeamAngles(20.0)),
                 types.SimpleNamespace(name="Beam 2", angles=BeamAngles(140.0)))  # fmt: skip
        total_mu, segments = 400.0, (1, 2, 3)

        def beam_mu(self, n):
            return (100.0, 300.0)[n]

        def segments_of(self, n):
            return ((1,), (2, 3))[n]

    planner.logic.planning.plan_segments, planner.logic.planning.states = Delivered(), DONE
    planner.show()
    assert planner.rows("monitorUnitsTable") == [
        ["Beam 1", "20.0", "100.0", "1"], ["Beam 2", "140.0", "300.0", "2"], ["All", "", "400.0", "3"]
    ]  # fmt: skip
    weights = [planner.ui.beamsTable.item(row, 3).text() for row in range(2)]
    planner.logic.planning.states = dict.fromkeys(Stage, StageState.OUTDATED)
    planner.show()
    assert weights == ["25", "75"]
    assert planner.ui.beamsTable.item(0, 3).text() == "–"  # it may be another beam's


# Results


@pytest.fixture
def reader(planner):
    """A user whose plan has a dose, a wished one and their difference."""
    planning = planner.logic.planning
    planning.dose_node, planning.wished_node = a_dose(planner.scene, "Synthetic"), a_dose(planner.scene, "Wished")
    planning.difference_node = a_dose(planner.scene, "Difference")
    planning.states = DONE
    planner.show()
    planning.calls.clear()
    return planner


def layer(user):
    return user.scene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")


def test_metrics_stand_in_one_row_a_structure_targets_first(reader):
    reader.logic.planning.metric_rows = (
        MetricRow("Rectum", "Dmean", "Gy", 30.0, 28.46),
        MetricRow("PTV", "D95%", "Gy", 57.0, None),
        MetricRow("PTV", "Dmean", "Gy", 59.98, 60.0),
        MetricRow("PTV", "Homogeneity (D2 - D98)/D50", "", 0.07, 0.08),
    )
    reader.show()
    assert reader.rows("metricsTable") == [
        ["PTV", "57.0", "60.0 (+0.0)", "–", "–"], ["Rectum", "–", "30.0 (+1.5)", "–", "–"]
    ]  # fmt: skip
    assert "0.07, wished 0.08" in reader.ui.metricsTable.item(0, 0).toolTip()


def test_goals_are_met_or_missed_in_words_and_color(reader):
    reader.logic.planning.goal_rows = (
        GoalRow("PTV", "D95% >= 95 %", "%", 93.0, False, 96.0, True, "", "read outside the boost"),
        GoalRow("Rectum", "V60Gy <= 35 %", "%", 20.0, True, None, None, "", ""),
    )
    reader.show()
    assert reader.rows("goalsTable") == [
        ["PTV", "D95% ≥ 95 %", "93.0", "missed", "96.0", "met"],
        ["Rectum", "V60Gy ≤ 35 %", "20.0", "met", "–", "–"],
    ]
    table = reader.ui.goalsTable
    assert table.item(0, 3).background().color().name() == COLORS["missed"]
    assert table.item(1, 3).background().color().name() == COLORS["met"]
    assert table.item(0, 0).toolTip() == "read outside the boost"


def test_gamma_is_listed_by_criterion(reader):
    reader.logic.planning.gamma_rows = (GammaRow("3%/2mm", 98.76, 0.314, 1234),)
    reader.show()
    assert reader.rows("gammaTable") == [["3%/2mm", "98.8", "0.31", "1234"]]


def test_what_was_assumed_is_listed(reader):
    reader.logic.planning.assumptions = ("No couch is modeled.", "The HU table is generic.")
    reader.show()
    assert reader.ui.notesLabel.text == "• No couch is modeled.\n• The HU table is generic."


def test_the_chosen_dose_is_washed_over_the_ct(reader):
    planning = reader.logic.planning
    for text, node in (
        ("Wished dose", planning.wished_node),
        ("Difference", planning.difference_node),
        ("Synthetic dose", planning.dose_node),
    ):
        reader.pick("shownDoseCombo", text)
        assert layer(reader).GetForegroundVolumeID() == node.GetID()
        assert layer(reader).GetBackgroundVolumeID() == reader.plan.ct_node.GetID()
    reader.set(reader.ui.opacitySlider, 70.0)
    assert layer(reader).GetForegroundOpacity() == pytest.approx(0.7)


def test_numbers_of_a_plan_that_has_changed_are_marked(reader):
    assert not reader.ui.resultsStateLabel.visible
    reader.logic.planning.states = {**DONE, Stage.COMPARISON: StageState.OUTDATED}
    reader.logic.planning.reasons = {Stage.COMPARISON: "The beams changed after the fluence was predicted."}
    reader.show()
    assert reader.ui.resultsStateLabel.visible
    assert reader.ui.resultsStateLabel.text == "⚠ The beams changed after the fluence was predicted."


def test_a_dose_that_is_not_there_cannot_be_shown(reader):
    reader.logic.planning.difference_node = None
    reader.pick("shownDoseCombo", "Difference")
    assert "no such dose" in reader.why_not("showButton")
    assert "no such dose" in reader.why_not("opacitySlider")


def test_showing_brings_chart_slices_and_3d(reader):
    reader.logic.planning.dvh_chart = reader.scene.AddNewNodeByClass("vtkMRMLPlotChartNode", "DVH")
    reader.click("showButton")
    assert slicer.app.layoutManager().plotViewCount == 1
    view = reader.scene.GetFirstNodeByClass("vtkMRMLPlotViewNode")
    assert view.GetPlotChartNodeID() == reader.logic.planning.dvh_chart.GetID()
    assert layer(reader).GetForegroundVolumeID() == reader.logic.planning.dose_node.GetID()


def test_isodoses_are_shown_at_the_levels_and_hidden(reader):
    calls = reader.logic.planning.calls
    reader.type("isodosesEdit", "95, 80; 80 50 %")
    assert calls == [("show_isodoses", 95.0, 80.0, 50.0)]
    reader.check("isodosesCheck", False)
    assert calls[1:] == [("show_isodoses",)]
    reader.type("isodosesEdit", "95")
    assert len(calls) == 2
    reader.check("isodosesCheck", True)
    assert calls[2:] == [("show_isodoses", 95.0)]
    reader.type("isodosesEdit", "95, high")
    assert "'high' is no isodose level" in reader.message


# Export


def test_a_plan_is_exported_into_a_folder(reader, tmp_path):
    assert "Choose a folder." in reader.why_not("exportButton")
    reader.folder(tmp_path / "out")
    reader.click("exportButton")
    assert reader.logic.planning.calls == [("export", tmp_path / "out", False, False)]
    assert not reader.ui.exportStateLabel.visible  # nothing was written


def test_a_plan_that_is_there_is_replaced_only_if_the_user_agrees(reader, tmp_path):
    (tmp_path / "RTPLAN.dcm").write_text("")
    reader.folder(tmp_path)
    reader.check("eclipseCheck", True)
    reader.host.answer(False)
    reader.click("exportButton")
    assert str(tmp_path) in reader.host.dialogs[0].text
    assert reader.logic.planning.calls == []
    reader.host.answer(True)
    reader.click("exportButton")
    assert reader.logic.planning.calls == [("export", tmp_path, True, True)]


def test_what_the_machine_cannot_deliver_is_refused_with_the_reason(reader, tmp_path):
    reader.folder(tmp_path)
    reader.logic.planning.error = InputError("Beam 1: leaf pair 12 lies 220 mm out; the machine reaches 200 mm.")
    reader.click("exportButton")
    assert "leaf pair 12 lies 220 mm out" in reader.message


@pytest.fixture
def database(monkeypatch):
    """An open DICOM database, and the folders that were imported into it."""
    imported = []
    utils = types.SimpleNamespace(importDicom=lambda folder, copyFiles: imported.append(folder) or True)
    monkeypatch.setitem(sys.modules, "DICOMLib", types.SimpleNamespace(DICOMUtils=utils))
    monkeypatch.setattr(slicer, "dicomDatabase", types.SimpleNamespace(isOpen=True), raising=False)
    return imported


@pytest.fixture
def opened(monkeypatch):
    """The files that were opened in the application that the system has for them."""
    import DeepFluenceLib.Export as Export

    files, real = [], Export.qt
    services = types.SimpleNamespace(openUrl=lambda url: files.append(url.toLocalFile()))
    monkeypatch.setattr(Export, "qt", types.SimpleNamespace(QDesktopServices=services, QUrl=real.QUrl))
    return files


def test_files_go_into_the_database_and_the_report_is_opened_if_wished(reader, tmp_path, database, opened):
    work_is(reader, tmp_path, f'echo plan > "{tmp_path}/RTPLAN.dcm"')
    reader.folder(tmp_path)
    reader.click("exportButton")
    reader.wait(20)
    assert reader.ui.exportStateLabel.text == f"✓ Written to {tmp_path}."
    assert (database, opened) == ([], [])
    reader.check("databaseCheck", True)
    reader.check("reportCheck", True)
    reader.host.answer(True)
    reader.click("exportButton")
    reader.wait(20)
    assert reader.ui.exportStateLabel.text == f"✓ Written to {tmp_path}. It is in the DICOM database."
    assert (database, opened) == ([str(tmp_path)], [str(tmp_path / "report.html")])


def test_an_export_that_fails_passes_nothing_on(reader, tmp_path, database, opened):
    (tmp_path / "RTPLAN.dcm").write_text("of another day")
    work_is(reader, tmp_path, """echo '{"error": "Leaf pair 12 is out of reach."}'; exit 2""")
    reader.folder(tmp_path)
    reader.check("databaseCheck", True)
    reader.host.answer(True)
    reader.click("exportButton")
    reader.wait(20)
    assert "Leaf pair 12 is out of reach." in reader.message
    assert not reader.ui.exportStateLabel.visible
    assert database == []


def test_without_a_database_there_is_nothing_to_add_to(reader):
    assert "No DICOM database is open" in reader.why_not("databaseCheck")


# Long work


@pytest.fixture
def worker(planner):
    """A user whose prediction goes on until it is ended."""
    planner.done = []
    planner.logic.planning.start = lambda: planner.session.work.start(
        "Prediction", ["step"], lambda: planner.done.append(planner.plan.name)
    )
    planner.click("predictButton")
    return planner


def test_nothing_is_edited_while_work_is_under_way(worker):
    assert worker.next_step == "Prediction is under way; wait for it or cancel it."
    for name in ("planSelector", "newPlanButton", "tryItButton", "ctSelector", "wishCombo", "addBeamButton",
                 "predictButton", "techniqueCombo", "runAllButton", "exportButton"):  # fmt: skip
        assert "under way" in worker.why_not(name), name
    assert not worker.ui.beamsTable.cellWidget(0, 1).enabled
    assert worker.ui.cancelButton.enabled


def test_work_is_cancelled_and_leaves_the_plan_as_it_was(worker):
    worker.click("cancelButton")
    worker.wait(20)
    assert worker.done == []
    assert worker.ui.jobLabel.text == "Prediction: cancelled"
    assert worker.ui.predictButton.enabled
    assert worker.message == ""


def test_work_that_fails_says_why(planner, tmp_path):
    work_is(planner, tmp_path, """echo '{"error": "The target is empty; draw it."}'; exit 2""")
    planner.click("predictButton")
    planner.wait(20)
    assert "The target is empty; draw it." in planner.message
    assert planner.ui.predictButton.enabled
    assert planner.ui.logButton.enabled


def test_the_scene_may_be_closed_while_work_is_under_way(worker):
    worker.host.close_scene()
    assert not worker.session.work.is_busy
    assert worker.plan is None
    assert worker.ui.beamsTable.rowCount == 0
    assert worker.next_step.startswith("Next: Choose a CT and")
    worker.click("tryItButton")
    assert worker.ui.beamsTable.rowCount == 7
    assert worker.done == []


def test_the_plan_may_be_deleted_while_work_is_under_way(worker):
    worker.scene.RemoveNode(worker.plan.node)
    worker.host.process_events(0.3)
    assert worker.plan is None
    assert worker.ui.beamsTable.rowCount == 0
    worker.click("cancelButton")
    worker.wait(20)
    assert worker.next_step.startswith("Next: Choose a CT and")


def test_results_that_were_made_are_shown(reader, tmp_path):
    reader.logic.planning.states = {}
    chart = reader.logic.planning.dvh_chart = reader.scene.AddNewNodeByClass("vtkMRMLPlotChartNode", "DVH")
    reader.ui.resultsSection.collapsed = True
    work_is(reader, tmp_path, "exit 0", lambda: reader.logic.planning.states.update(DONE))
    reader.show()
    reader.click("runAllButton")
    reader.wait(20)
    assert not reader.ui.resultsSection.collapsed
    assert layer(reader).GetForegroundVolumeID() == reader.logic.planning.dose_node.GetID()
    assert reader.scene.GetFirstNodeByClass("vtkMRMLPlotViewNode").GetPlotChartNodeID() == chart.GetID()
    assert ("show_isodoses", 107.0, 100.0, 95.0, 80.0, 50.0) in reader.logic.planning.calls


# Scene


def test_two_plans_in_a_scene_keep_apart(planner):
    first = planner.plan
    planner.click("newPlanButton")
    assert planner.plan.key != first.key
    assert planner.ui.beamsTable.rowCount == 0
    planner.set(planner.ui.collimatorSpin, 30.0)
    planner.choose("planSelector", first.node)
    assert planner.ui.beamsTable.rowCount == 2
    assert planner.ui.collimatorSpin.value == 0.0
    planner.host.answer(True)
    planner.click("removePlanButton")
    assert planner.ui.collimatorSpin.value == 30.0


def test_the_panel_follows_what_another_module_does_to_the_plan(planner):
    planner.plan.beams = [*planner.plan.beams, SessionBeam(BeamAngles(300.0))]
    planner.host.process_events()
    assert planner.ui.beamsTable.rowCount == 3
    planner.host.leave(planner.module)
    planner.plan.beams = planner.plan.beams[:1]
    planner.host.process_events()
    assert planner.ui.beamsTable.rowCount == 3
    planner.host.open_module("DeepFluence")
    assert planner.ui.beamsTable.rowCount == 1


def test_inputs_that_were_deleted_are_asked_for(planner):
    planner.scene.RemoveNode(planner.plan.segmentation_node)
    planner.host.process_events()
    assert planner.next_step == "Next: Choose a segmentation."
    planner.scene.RemoveNode(planner.plan.ct_node)
    planner.host.process_events()
    assert planner.next_step == "Next: Choose a CT volume."


def test_settings_that_are_not_understood_are_said_in_the_panel(planner):
    planner.plan.set_text("Config", '{"color": "blue"}')
    planner.host.process_events()
    assert "color" in planner.message
    planner.plan.set_text("Config", "")
    planner.host.process_events()
    assert planner.message == ""


def test_the_module_is_reloaded_with_its_plan(slicer_host):
    user = User(slicer_host, "DeepFluence")
    user.click("tryItButton")
    before = user.panel
    user.module = slicer_host.reload(user.module)
    assert user.panel is not before
    assert user.ui.beamsTable.rowCount == 7
    user.click("addBeamButton")


def test_packages_that_are_missing_are_named_and_installed_when_asked_for(slicer_host, monkeypatch):
    from deeprt_slicer import dependencies

    missing = ["numba>=0.60,<1"]
    monkeypatch.setattr(dependencies, "missing", lambda: tuple(missing))
    monkeypatch.setattr(dependencies, "offer_installation", lambda: bool(missing.clear()) or True)
    user = User(slicer_host, "DeepFluence")
    assert user.logic is None
    assert "numba>=0.60,<1" in user.ui.dependenciesLabel.text
    assert user.ui.dependenciesFrame.visible
    assert not user.ui.tryItButton.enabled
    assert user.next_step == "Next: Install the packages."
    user.click("installButton")
    assert not user.ui.dependenciesFrame.visible
    user.click("tryItButton")
    assert user.ui.beamsTable.rowCount == 7
