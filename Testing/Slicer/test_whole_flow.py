"""From the virtual patient to an exported RTPLAN through both panels, and what becomes of that plan afterwards."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

from pydicom import dcmread
from Slicer.panel_user import User

from deeprt.dicom.check_plan import check_plan
from deeprt.dicom.read_plan import read_plan
from deeprt_mrml.subject_hierarchy import remove_nodes

pytestmark = pytest.mark.slow

COARSE_MM = 5.0  # voxels and beamlets: large, as all effort is small, to be quick
N_BEAMS = 3


@dataclass(frozen=True)
class Flow:
    """What a run through both panels left behind.

    Parameters
    ----------
    scene : file
    folder : of the exported plan
    gantry_deg : of the beams that DeepBOO has chosen
    tables : texts of the tables of results, by name
    """

    scene: Path
    folder: Path
    gantry_deg: list[float]
    tables: dict[str, list[list[str]]]


TABLES = ("monitorUnitsTable", "metricsTable", "goalsTable", "gammaTable")


def plan_coarsely(plan):
    config = plan.config
    plan.config = replace(
        config,
        dose_grid_mm=COARSE_MM,
        fluence=replace(config.fluence, beamlet_width_mm=COARSE_MM),
        sequencing=replace(config.sequencing, max_segments_per_beam=4, max_rounds=5, n_dose_iterations=3),
        selection=replace(config.selection, candidates="coplanar:10"),
    )


def choose_beams(host):
    """In DeepBOO: load the patient, complete the set, evaluate it."""
    user = User(host, "DeepBOO")
    user.click("tryItButton")
    plan_coarsely(user.plan)
    user.set(user.ui.nBeamsSpin, N_BEAMS)
    user.click("proposeButton")
    user.click("completeButton")
    assert user.ui.beamsTable.rowCount == N_BEAMS
    user.click("evaluateButton")
    host.wait_until(lambda: not user.session.work.is_busy, 300)
    host.process_events()
    assert user.message == ""
    user.click("continueButton")
    return user


def make_deliverable(host, folder):
    """In DeepFluence: predict fluence from the dose of DeepBOO, and go on to the exported plan."""
    user = User(host, "DeepFluence")
    user.pick("wishCombo", "Dose volume (RTDOSE)")
    user.click("runAllButton")
    user.wait()
    assert user.message == ""
    assert user.next_step == "Next: Look at the results, then choose a folder and export the plan."
    user.folder(folder)
    user.check("eclipseCheck", True)
    user.click("exportButton")
    user.wait()
    assert user.ui.exportStateLabel.text == f"✓ Written to {folder}."
    return user


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    """Both panels, clicked through once."""
    from Slicer.host.host import Host

    folder = tmp_path_factory.mktemp("flow")
    with pytest.MonkeyPatch.context() as patch:
        host = Host(folder, patch)
        host.open_module("DeepFluence")  # so that DeepBOO can go on there
        chooser = choose_beams(host)
        user = make_deliverable(host, folder / "out")
        assert user.plan.wished_dose_node is chooser.logic.check.dose_node
        assert user.plan.key == chooser.plan.key
        host.save_scene(folder / "scene.mrb")
        tables = {name: user.rows(name) for name in TABLES}
        found = Flow(folder / "scene.mrb", folder / "out", chooser.gantry, tables)
        host.close()
    return found


@pytest.fixture
def user(slicer_host, flow):
    """A user who opens the saved scene another day."""
    slicer_host.load_scene(flow.scene)
    return User(slicer_host, "DeepFluence")


def test_the_virtual_patient_becomes_a_consistent_rtplan(flow):
    dataset = dcmread(flow.folder / "RTPLAN.dcm")
    assert check_plan(dataset) == ()
    plan = read_plan(flow.folder / "RTPLAN.dcm")
    assert [b.angles.gantry_deg for b in plan.beams] == pytest.approx(flow.gantry_deg)
    listed = [float(row[2]) for row in flow.tables["monitorUnitsTable"]]
    assert [b.mu for b in plan.beams] == pytest.approx(listed[:-1], abs=0.06)  # the table has one decimal
    names = {p.name for p in flow.folder.iterdir()}
    assert {"CT", "RTSTRUCT.dcm", "RTDOSE.dcm", "report.html"} <= names
    assert len([n for n in names if n.endswith(".optimal_fluence")]) == N_BEAMS


def test_the_tables_say_how_the_plan_compares_with_the_wished_dose(flow):
    structures = [row[0] for row in flow.tables["metricsTable"]]
    assert structures[0] == "PTV_60"
    assert {"Rectum", "Bladder"} <= set(structures)
    assert all("(" in row[2] for row in flow.tables["metricsTable"])
    assert {row[3] for row in flow.tables["goalsTable"]} <= {"met", "missed"}
    assert all(0 <= float(row[1]) <= 100 for row in flow.tables["gammaTable"])


def test_a_saved_scene_goes_on_where_it_stopped(user, flow):
    assert user.next_step.startswith("Next: Look at the results")
    assert user.gantry == flow.gantry_deg
    assert {name: user.rows(name) for name in TABLES} == flow.tables
    assert user.ui.fluencePictureLabel.visible
    for label in (user.ui.fluenceStateLabel, user.ui.segmentsStateLabel, user.ui.doseStateLabel,
                  user.ui.comparisonStateLabel):  # fmt: skip
        assert label.text.startswith("✓")


def test_a_moved_beam_outdates_all_that_was_made_for_it(user):
    user.set(user.ui.beamsTable.cellWidget(0, 1), (user.gantry[0] + 5) % 360)
    assert user.ui.fluenceStateLabel.text.startswith("⚠ The beams changed")
    assert user.next_step == "Next: Run all steps, or predict the fluence alone."
    for name in ("sequenceButton", "doseButton", "compareButton", "exportButton"):
        assert "beams changed" in user.why_not(name)
    user.set(user.ui.beamsTable.cellWidget(0, 1), user.gantry[0] - 5)
    assert user.ui.fluenceStateLabel.text.startswith("✓")


def test_another_technique_is_delivered_from_the_same_fluence(user):
    before = user.rows("monitorUnitsTable")
    user.pick("techniqueCombo", "Sliding window")
    assert user.ui.fluenceStateLabel.text.startswith("✓")
    assert user.ui.segmentsStateLabel.text.startswith("⚠")
    user.click("sequenceButton")
    user.wait()
    assert user.message == ""
    assert user.ui.segmentsStateLabel.text.startswith("✓")
    assert user.ui.doseStateLabel.text.startswith("⚠")
    assert user.rows("monitorUnitsTable") != before


def test_refinement_changes_the_maps_and_outdates_the_segments(user):
    before = user.logic.planning.maps()
    user.set(user.ui.refinementsSpin, 2)
    user.click("refineButton")
    user.wait()
    assert user.message == ""
    assert any(not np.array_equal(a, b) for a, b in zip(user.logic.planning.maps(), before, strict=True))
    assert user.ui.fluenceStateLabel.text.startswith("✓")
    assert user.ui.segmentsStateLabel.text.startswith("⚠")


def test_the_beams_of_the_exported_plan_can_be_read_into_another_one(user, flow):
    user.click("newPlanButton")
    assert user.ui.beamsTable.rowCount == 0
    user.host.answer_file_dialog(flow.folder / "RTPLAN.dcm")
    user.click("readPlanButton")
    assert user.gantry == pytest.approx(flow.gantry_deg)
    user.choose("planSelector", user.session.plans()[0].node)
    assert user.rows("metricsTable") == flow.tables["metricsTable"]


def test_the_exported_fluence_is_a_reference_that_differs_by_nothing(user, flow):
    file = next(p for p in flow.folder.iterdir() if p.name.endswith(".optimal_fluence"))
    user.host.answer_file_dialog(file)
    user.click("readReferenceButton")
    assert user.ui.differencePictureLabel.visible
    own, reference = user.logic.planning.maps(), user.logic.planning.reference_maps()
    for a, b in zip(own, reference, strict=True):
        np.testing.assert_allclose(b / b.max(), a / a.max(), atol=1e-3)
    user.click("clearReferenceButton")
    assert not user.ui.differencePictureLabel.visible


def test_a_dose_that_was_deleted_is_missed_and_calculated_anew(user, flow):
    remove_nodes(user.scene, [user.logic.planning.dose_node])
    user.host.process_events()
    assert user.ui.doseStateLabel.text == "Not yet."
    assert user.rows("metricsTable") == []
    user.click("doseButton")
    user.wait()
    assert user.message == ""
    assert user.rows("metricsTable") == flow.tables["metricsTable"]
