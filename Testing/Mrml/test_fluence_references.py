"""Maps and beams of other plans beside those of a plan, and pictures of the maps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from Mrml.fluence_samples import CURRENT, change
from Mrml.session_samples import ANGLES, finish
from numpy.testing import assert_allclose

from deeprt.beams import BeamAngles
from deeprt.errors import InputError
from deeprt_mrml.fluence_planning import FluencePlanning, Stage
from deeprt_mrml.session import PlanSession
from deeprt_mrml.subject_hierarchy import plan_nodes

# References and pictures


_KEPT = {}  # what takes a second to make


@pytest.fixture
def exported(opened, done, tmp_path_factory):
    """Folder of that plan."""
    if not _KEPT:
        _KEPT["folder"] = tmp_path_factory.mktemp("exported") / "out"
        done.start_export(_KEPT["folder"], eclipse_fluence=True)
        finish(opened)
    return _KEPT["folder"]


def test_maps_are_compared_with_the_segments_of_an_exported_plan(opened, done, exported, tmp_path):
    assert done.read_reference_plan(exported / "RTPLAN.dcm") == ()
    own, reference = done.maps(), done.reference_maps()
    assert all(np.corrcoef(a[b > 0], b[b > 0])[0, 1] > 0.7 for a, b in zip(own, reference, strict=True))
    differences = plan_nodes(opened.scene, opened.plan.key, "fluence difference/")
    assert len(differences) == 3
    assert differences[0].GetDisplayNode().GetColorNode().GetName() == "DeepRT RdBu_r"
    assert done.write_thumbnails(tmp_path / "strip.png")
    assert (tmp_path / "strip_difference.png").read_bytes().startswith(b"\x89PNG")
    done.read_reference_plan(exported / "deeprt_fluence_2.optimal_fluence")
    for a, b in zip(own, done.reference_maps(), strict=True):
        assert_allclose(a, b, rtol=1e-5, atol=1e-4)
    done.set_reference_maps(())
    assert done.reference_maps() == plan_nodes(opened.scene, opened.plan.key, "fluence difference/") == ()
    done.write_thumbnails(tmp_path / "strip.png")
    assert not (tmp_path / "strip_difference.png").exists()


def test_pictures_that_cannot_be_written_are_an_error(done, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write the picture"):
        done.write_thumbnails(tmp_path / "file" / "strip.png")


def test_references_go_with_the_beams_they_are_of(opened, done):
    done.set_reference_maps([2 * m for m in done.maps()])
    done.set_beams([BeamAngles(a.gantry_deg + 1) for a in ANGLES])
    done.start_prediction()
    finish(opened)
    assert done.reference_maps() == ()


def test_reference_maps_of_other_beamlets_are_refused(opened, done, planning_without):
    with pytest.raises(InputError, match="The reference maps are not of this plan's beamlets; read them anew"):
        done.set_reference_maps([m[1:] for m in done.maps()])
    with pytest.raises(InputError, match="Predict or optimize the fluence first; then there are beamlets"):
        planning_without.set_reference_maps([np.zeros((2, 2))])


@pytest.fixture
def planning_without(opened):
    """The same scene, another plan without fluence."""
    session = PlanSession(opened.scene, Path("unused"))
    session.new_plan("Empty")
    return FluencePlanning(session)


def test_isodoses_are_those_of_the_prescription(opened, done, planning_without):
    done.show_isodoses([95, 50])
    names = {n.GetName() for n in plan_nodes(opened.scene, opened.plan.key, "isodoses/")}
    assert names == {"57 Gy", "30 Gy"}
    with pytest.raises(InputError, match="Choose a CT volume"):
        planning_without.show_isodoses([95])


# Beams of other plans


def test_beams_come_from_an_exported_plan(opened, done, tmp_path):
    change(done, beams=replace(opened.plan.config.beams, collimator_deg=30.0))
    done.start_all()
    finish(opened)
    done.start_export(tmp_path / "out")
    finish(opened)
    change(done, beams=replace(opened.plan.config.beams, collimator_deg=0.0))
    done.set_beams([BeamAngles(5.0)])
    assert done.read_plan(tmp_path / "out" / "RTPLAN.dcm") == ()
    assert [b.angles for b in opened.plan.beams] == list(ANGLES)
    assert opened.plan.config.beams.collimator_deg == 30.0
    assert done.stage_state(Stage.FLUENCE) is CURRENT


def test_what_a_plan_does_otherwise_is_said(done, exported, tmp_path):
    plan = pydicom.dcmread(exported / "RTPLAN.dcm")
    for n, beam in enumerate(plan.BeamSequence):
        beam.ControlPointSequence[0].IsocenterPosition = [
            float(x) + (3.0, 0.0, 4.0)[i] for i, x in enumerate(beam.ControlPointSequence[0].IsocenterPosition)
        ]
        beam.ControlPointSequence[0].BeamLimitingDeviceAngle = 10 * n
    plan.save_as(tmp_path / "moved.dcm")
    notes = done.read_plan(tmp_path / "moved.dcm")
    assert notes[0] == (
        "The beams have collimator angles of 0°, 10°, 20°; DeepRT has one for all, which was not changed."
    )
    assert notes[1].startswith("The plan's isocenter lies 5.0 mm from the center of the targets")


def test_a_plan_that_is_not_of_fixed_beams_or_not_of_this_patient_is_refused(opened, done, exported, tmp_path):
    plan = pydicom.dcmread(exported / "RTPLAN.dcm")
    plan.PatientSetupSequence[0].PatientPosition = "FFS"
    plan.save_as(tmp_path / "feet_first.dcm")
    with pytest.raises(InputError, match="treats the patient FFS, the CT shows HFS; choose the plan of this CT"):
        done.read_plan(tmp_path / "feet_first.dcm")
    plan.PatientSetupSequence[0].PatientPosition = "HFS"
    points = plan.BeamSequence[1].ControlPointSequence
    points[0].GantryRotationDirection = "CW"
    points[-1].GantryAngle = 170.0
    plan.save_as(tmp_path / "arc.dcm")
    with pytest.raises(InputError, match=r"Beam 2 .* is an arc, which is not supported\. Choose a plan of photon"):
        done.read_plan(tmp_path / "arc.dcm")
    done.set_beams([BeamAngles(77.0)])
    done.start_prediction()
    finish(opened)
    with pytest.raises(InputError, match=r"has no beam at gantry 77\.0°, couch 0\.0°, collimator 0\.0° like Beam 1"):
        done.read_reference_plan(exported / "RTPLAN.dcm")
