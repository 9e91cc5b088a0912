"""The panel of DeepBOO, used as its user would: controls in, scene and panel out."""

import sys
from dataclasses import replace

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

from Mrml.samples import a_case
from Slicer.panel_user import User

from deeprt.beams import BeamAngles
from deeprt.errors import InputError
from deeprt.orientation.session import SessionBeam
from deeprt.structures import Role
from deeprt_mrml.cases import ct_from_case, segmentation_from_case
from deeprt_mrml.subject_hierarchy import plan_nodes

CASE = a_case()
READY = "Propose beam after beam"  # what comes next once the inputs are complete


@pytest.fixture
def user(slicer_host):
    return User(slicer_host, "DeepBOO")


@pytest.fixture
def planner(user):
    """A user who has chosen the inputs of the sample case, on coarse voxels."""
    user.choose("ctSelector", ct_from_case(user.scene, CASE))
    user.choose("segmentationSelector", segmentation_from_case(user.scene, CASE))
    config = user.plan.config
    selection = replace(config.selection, candidates="coplanar:10", voxel_mm=8.0, beamlet_mm=10.0)
    user.plan.config = replace(config, dose_grid_mm=6.0, n_fractions=20, selection=selection)
    user.host.process_events()
    return user


# What comes next


def test_an_empty_scene_says_what_to_do_first(user):
    assert user.next_step.startswith("Next: Choose a CT and a segmentation")
    assert "Make a plan first" in user.why_not("proposeButton")
    for name in ("completeButton", "evaluateButton", "columnGenerationButton", "improveButton", "adoptButton",
                 "addButton", "addPeakButton", "undoButton", "redoButton", "clearButton", "loadPresetButton",
                 "savePresetButton", "removePlanButton", "cancelButton", "logButton", "continueButton"):  # fmt: skip
        tooltip, own = user.why_not(name), user.host.widget(user.module, name).whatsThis
        assert tooltip.removeprefix(own).strip(), f"{name} does not say why it is disabled"


def test_choosing_a_ct_makes_a_plan_and_shows_it(user):
    ct = ct_from_case(user.scene, CASE)
    user.choose("ctSelector", ct)
    assert user.plan.ct_node is ct
    assert user.next_step == "Next: Choose a segmentation."
    layers = user.scene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    assert layers.GetBackgroundVolumeID() == ct.GetID()
    user.choose("segmentationSelector", segmentation_from_case(user.scene, CASE))
    assert READY in user.next_step
    assert user.ui.structuresTable.rowCount == len(CASE.structures)


def test_the_virtual_patient_is_one_click_and_the_next_step_another(user):
    user.click("tryItButton")
    assert READY in user.next_step
    assert user.ui.nextButton.text == "Complete the set"
    assert {r.role for r in user.session.structures()} >= {Role.TARGET, Role.EXTERNAL, Role.ORGAN_AT_RISK}


# Inputs and structures


def test_roles_weights_and_prescriptions_are_edited_in_the_table(planner):
    rectum, bladder, target = (planner.structure(name) for name in ("Rectum", "Bladder", "PTV"))
    planner.set(planner.cell("structuresTable", rectum, 2), 0.35)
    planner.cell("structuresTable", bladder, 1).setCurrentText("other")
    planner.set(planner.cell("structuresTable", target, 3), 66.0)
    rows = {r.name: r for r in planner.session.structures()}
    assert (rows["Rectum"].weight, rows["Bladder"].role, rows["PTV"].prescription_gy) == (0.35, Role.OTHER, 66.0)


def test_machine_protocol_and_fractions_are_settings_of_the_plan(planner, tmp_path):
    planner.pick("machineCombo", "generic_15mv")
    planner.pick("protocolCombo", "prostate")
    planner.set(planner.ui.fractionsSpin, 30)
    config = planner.plan.config
    assert (config.machine, config.protocol, config.n_fractions) == ("generic_15mv", "prostate", 30)
    planner.pick("protocolCombo", "Automatic, by the organs")
    planner.set(planner.ui.fractionsSpin, 0)
    assert (planner.plan.config.protocol, planner.plan.config.n_fractions) == (None, None)


def test_a_machine_file_that_cannot_be_read_is_refused_with_a_sentence(planner, tmp_path):
    file = tmp_path / "machine.json"
    file.write_text("{}", encoding="utf-8")
    planner.host.answer_file_dialog(file)
    planner.click("machineButton")
    assert str(file) in planner.message
    assert planner.plan.config.machine is None
    assert planner.ui.machineCombo.currentText == "generic_6mv"


def test_settings_are_saved_and_taken_up_again_and_say_what_they_leave_out(planner, tmp_path):
    planner.set(planner.cell("structuresTable", planner.structure("Rectum"), 2), 0.35)
    planner.cell("structuresTable", planner.structure("Metal"), 1).setCurrentText("organ at risk")
    planner.host.answer_file_dialog(tmp_path / "preset.toml")
    planner.click("savePresetButton")
    assert str(tmp_path / "preset.toml") in planner.message
    planner.set(planner.cell("structuresTable", planner.structure("Rectum"), 2), 0.9)
    segmentation = planner.plan.segmentation_node.GetSegmentation()
    segmentation.RemoveSegment(segmentation.GetSegmentIdBySegmentName("Metal"))
    planner.host.answer_file_dialog(tmp_path / "preset.toml")
    planner.click("loadPresetButton")
    assert "Metal" in planner.message
    assert planner.cell("structuresTable", planner.structure("Rectum"), 2).value == pytest.approx(0.35)


# Beams


def test_beams_are_proposed_completed_undone_and_done_again(planner):
    planner.set(planner.ui.nBeamsSpin, 3)
    planner.click("proposeButton")
    first = planner.gantry
    planner.click("completeButton")
    assert len(planner.gantry) == 3 and planner.gantry[:1] == first
    assert planner.ui.beamsTable.rowCount == 3
    assert "3 beams already" in planner.why_not("completeButton")
    assert "Evaluate" in planner.next_step
    planner.click("undoButton")
    assert planner.gantry == first
    planner.click("redoButton")
    assert len(planner.gantry) == 3
    planner.click("clearButton")
    assert planner.gantry == []


def test_angles_are_edited_in_place_and_locked_beams_stay(planner):
    planner.click("proposeButton")
    planner.click("proposeButton")
    kept = planner.gantry[1]
    planner.set(planner.cell("beamsTable", 0, 1), 47.0)
    planner.set(planner.cell("beamsTable", 0, 2), 10.0)
    assert planner.plan.beams[0] == SessionBeam(BeamAngles(47.0, 10.0))
    planner.ui.beamsTable.item(1, 4).setCheckState(2)
    assert planner.plan.beams[1].locked
    assert not planner.cell("beamsTable", 1, 5).enabled
    planner.cell("beamsTable", 0, 5).click()
    planner.host.process_events()
    assert planner.gantry == [kept]
    assert "not locked" in planner.why_not("clearButton")


def test_a_beam_is_typed_in_and_the_same_one_refused(planner):
    planner.set(planner.ui.gantrySpin, 123.0)
    planner.click("addButton")
    assert planner.gantry == [123.0]
    planner.click("addButton")
    assert planner.gantry == [123.0]
    assert "already" in planner.message


def test_sectors_to_avoid_are_text_and_a_wrong_one_is_explained(planner):
    planner.type("sectorsEdit", "eighty")
    assert "'eighty' is not a sector" in planner.message and planner.ui.sectorsEdit.text == "eighty"
    planner.type("sectorsEdit", "80-100; 260 – 280")
    assert planner.plan.config.selection.exclude_deg == ((80.0, 100.0), (260.0, 280.0))
    assert planner.ui.sectorsEdit.text == "80-100, 260-280"
    planner.set(planner.ui.nBeamsSpin, 6)
    planner.set(planner.ui.separationSpin, 20.0)
    planner.click("completeButton")
    assert all(not 80 <= g <= 100 and not 260 <= g <= 280 for g in planner.gantry)
    planner.type("sectorsEdit", "0-359")
    assert all("No candidate is left" in planner.why_not(name) for name in ("addPeakButton", "proposeButton"))
    assert planner.why_not("addButton") == ""
    planner.type("sectorsEdit", "")
    assert planner.plan.config.selection.exclude_deg == ()


def test_other_candidates_and_weights_predict_anew(planner):
    planner.click("proposeButton")
    before = planner.logic.beams.state.fitness
    planner.set(planner.cell("structuresTable", planner.structure("Rectum"), 2), 1.0)
    assert abs(planner.logic.beams.state.fitness - before).max() > 1e-3
    planner.pick("candidatesCombo", "Coplanar, every 2°")
    assert len(planner.logic.beams.candidates) == 180
    assert len(planner.gantry) == 1


@pytest.mark.parametrize("way", ["list", "ring", "chart"])
def test_a_peak_is_added_from_the_list_the_ring_and_the_chart(planner, way):
    planner.click("proposeButton")
    peak = planner.logic.beams.peaks()[0]
    if way == "list":
        planner.click("addPeakButton")
    elif way == "ring":
        display = planner.logic.beams.peaks_node.GetDisplayNode()
        display.SetActiveControlPoint(0)
        display.InvokeEvent(display.JumpToPointEvent)
    else:
        import vtk

        series, at, points = vtk.vtkStringArray(), vtk.vtkIdTypeArray(), vtk.vtkCollection()
        series.InsertNextValue(planner.logic.beams.fitness_chart.GetNthPlotSeriesNodeID(0))
        at.InsertNextValue(round(peak.gantry_deg / 10))
        points.AddItem(at)
        slicer.app.layoutManager().plotWidget(0).plotView().dataSelected(series, points)
    planner.host.process_events()
    assert planner.plan.beams[-1].angles == peak


def test_ring_and_chart_are_shown_as_wished(planner):
    planner.click("proposeButton")
    layouts = slicer.app.layoutManager()
    selection = planner.scene.GetFirstNodeByClass("vtkMRMLSelectionNode")
    assert selection.GetActivePlotChartID() == planner.logic.beams.fitness_chart.GetID()
    with_chart = layouts.layout
    planner.pick("chartCombo", "None")
    assert layouts.layout != with_chart
    planner.click("ringCheck")
    planner.click("proposeButton")
    assert plan_nodes(planner.scene, planner.plan.key, "ring/") == ()
    planner.click("ringCheck")
    assert plan_nodes(planner.scene, planner.plan.key, "ring/")


# The scene


def is_shown(plan):
    """Whether the views show the plan's beams and ring."""
    nodes = [n for n in plan_nodes(plan.scene, plan.key) if n.IsA("vtkMRMLModelNode") or n.IsA("vtkMRMLMarkupsNode")]
    shown = {n.GetDisplayVisibility() for n in nodes}
    assert len(shown) == 1
    return shown == {1}


def test_two_plans_keep_their_own_beams(planner):
    planner.click("proposeButton")
    first, of_first = planner.plan, planner.gantry
    planner.click("newPlanButton")
    assert planner.plan.key != first.key and planner.gantry == []
    planner.set(planner.ui.gantrySpin, 10.0)
    planner.click("addButton")
    assert is_shown(planner.plan) and not is_shown(first)
    other, beam = planner.plan, plan_nodes(planner.scene, planner.plan.key, "beam")[0]
    beam.SetDisplayVisibility(False)  # which is for the user to say
    planner.choose("planSelector", first.node)
    assert planner.gantry == of_first
    assert is_shown(first) and not is_shown(other)
    planner.choose("planSelector", other.node)
    assert not beam.GetDisplayVisibility() and not is_shown(first)
    planner.choose("planSelector", first.node)
    planner.host.answer(True)
    planner.click("removePlanButton")
    assert planner.gantry == [10.0]


def test_deepfluence_goes_on_with_the_plan_that_is_shown(planner):
    first = planner.plan
    other = User(planner.host, "DeepFluence")
    assert other.plan.key == first.key
    planner.host.open_module("DeepBOO")
    planner.click("newPlanButton")
    planner.set(planner.ui.gantrySpin, 10.0)
    planner.click("addButton")
    planner.click("continueButton")
    assert other.plan.key == planner.plan.key != first.key
    assert other.gantry == [10.0]
    assert slicer.util.selectedModule() == "DeepFluence"


def test_the_panel_follows_a_plan_that_another_module_changes(planner):
    planner.click("proposeButton")
    planner.plan.beams = (SessionBeam(BeamAngles(33.0)), SessionBeam(BeamAngles(77.0)))
    planner.host.process_events()
    assert [planner.cell("beamsTable", row, 1).value for row in range(2)] == [33.0, 77.0]
    assert len(plan_nodes(planner.scene, planner.plan.key, "ring/beam/")) == 2
    assert planner.logic.beams.state.angles == (BeamAngles(33.0), BeamAngles(77.0))


def test_a_scene_goes_on_where_it_was_saved(planner, tmp_path):
    planner.set(planner.ui.nBeamsSpin, 3)
    planner.click("completeButton")
    planner.ui.beamsTable.item(0, 4).setCheckState(2)
    planner.type("sectorsEdit", "80-100")
    beams = planner.plan.beams
    planner.host.save_scene(tmp_path / "scene.mrb")
    planner.host.close_scene()
    assert planner.plan is None and planner.ui.beamsTable.rowCount == 0
    planner.host.load_scene(tmp_path / "scene.mrb")
    assert planner.plan.beams == beams
    assert planner.ui.sectorsEdit.text == "80-100" and planner.ui.addPeakButton.enabled
    assert "Evaluate" in planner.next_step


def test_deleted_nodes_are_missed_and_nothing_breaks(planner):
    planner.click("proposeButton")
    for node in plan_nodes(planner.scene, planner.plan.key, "ring/") + plan_nodes(
        planner.scene, planner.plan.key, "beam"
    ):
        planner.scene.RemoveNode(node)
    planner.host.process_events()
    planner.click("proposeButton")
    planner.scene.RemoveNode(planner.plan.ct_node)
    planner.host.process_events()
    assert planner.next_step == "Next: Choose a CT volume."
    assert "Choose a CT volume." in planner.why_not("proposeButton")
    planner.scene.RemoveNode(planner.plan.node)
    planner.host.process_events()
    assert planner.plan is None


def test_a_reloaded_module_shows_the_plan(planner):
    planner.click("proposeButton")
    planner.module = planner.host.reload(planner.module)
    assert planner.ui.beamsTable.rowCount == 1
    planner.click("proposeButton")
    assert len(planner.gantry) == 2


# Packages


def test_without_its_packages_the_panel_offers_them_and_imports_nothing_of_the_plan(slicer_host, monkeypatch):
    from deeprt_slicer import dependencies

    for name in [n for n in sys.modules if n.partition(".")[0] in ("deeprt_mrml", "DeepBOOLib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "deeprt_mrml", None)  # as if it could not be imported
    lacking = ["numba>=0.60,<1"]
    monkeypatch.setattr(dependencies, "missing", lambda: tuple(lacking))
    user = User(slicer_host, "DeepBOO")
    assert "numba>=0.60,<1" in user.ui.dependenciesLabel.text
    assert user.next_step == "Next: Install the packages."
    assert "numba" in user.why_not("tryItButton") and not user.ui.sections.enabled

    def fails():
        raise InputError("Installing numba failed.")

    monkeypatch.setattr(dependencies, "offer_installation", fails)
    user.click("installButton")
    assert user.message == "Error: Installing numba failed."
    monkeypatch.delitem(sys.modules, "deeprt_mrml")
    monkeypatch.setattr(dependencies, "offer_installation", lambda: not lacking.clear())
    user.click("installButton")
    assert not user.ui.dependenciesFrame.visible and "numba" not in user.ui.tryItButton.toolTip
    assert user.next_step.startswith("Next: Choose a CT")
