import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
import pytest
from Core.dicom_tools import dciodvfy_errors, needs_dciodvfy, needs_dcmtk, output_of
from Core.plan_samples import a_case, a_dicom_identity, a_plan
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from deeprt.beams import BeamAngles
from deeprt.delivery.segments import Segment
from deeprt.dicom.check_plan import check_plan
from deeprt.dicom.common import with_new_dicom_identity, write_dataset
from deeprt.dicom.write_plan import plan_dataset
from deeprt.geometry import PATIENT_POSITIONS, bld_to_lps_rotation

CASES = Path(__file__).parents[3] / "shared" / "cases"
POSITION_ROUNDING_MM = 0.005 + 1e-9
METERSET_ROUNDING = 1e-12  # sixteen characters, relative


def an_exported_plan(case, plan, folder, *, label="sample"):
    write_dataset(plan_dataset(case, plan, label=label, structure_set_uid="1.2.3"), folder / "RTPLAN.dcm")
    return pydicom.dcmread(folder / "RTPLAN.dcm")


def leaves_of(point):
    """Left and right tips of a control point, (n_pairs,) each."""
    (item,) = (d for d in point.BeamLimitingDevicePositionSequence if d.RTBeamLimitingDeviceType == "MLCX")
    return np.split(np.array(item.LeafJawPositions, float), 2)


def test_segments_are_read_back_from_pairs_of_control_points(tmp_path):
    case = a_case(dicom=a_dicom_identity())
    plan = a_plan(case)
    dataset = an_exported_plan(case, plan, tmp_path)
    metersets = [float(b.BeamMeterset) for b in dataset.FractionGroupSequence[0].ReferencedBeamSequence]
    for index, (beam, meterset) in enumerate(zip(dataset.BeamSequence, metersets, strict=True)):
        points = beam.ControlPointSequence
        segments = plan.segments_of(index)
        assert beam.NumberOfControlPoints == len(points) == 2 * len(segments)
        for segment, start, end in zip(segments, points[::2], points[1::2], strict=True):
            mu = meterset * (float(end.CumulativeMetersetWeight) - float(start.CumulativeMetersetWeight))
            assert_allclose(mu, segment.mu, rtol=100 * METERSET_ROUNDING)  # a difference of two
            assert_allclose(leaves_of(start), leaves_of(end), rtol=0, atol=0)
            left, right = leaves_of(start)
            assert_allclose(left, segment.left_mm, rtol=0, atol=POSITION_ROUNDING_MM)
            assert_allclose(right, segment.right_mm, rtol=0, atol=POSITION_ROUNDING_MM)
            assert np.all(left <= right)


def test_moving_segments_share_control_points_between_which_the_meterset_rises(tmp_path):
    case = a_case(dicom=a_dicom_identity())
    plan = a_plan(case)
    first, *others = plan.segments_of(0)
    ends = [(a, b) for a, b in pairwise([first, *others, first])]
    swept = tuple(
        Segment(0, np.stack([a.left_mm, b.left_mm]), np.stack([a.right_mm, b.right_mm]), 10.0 + n)
        for n, (a, b) in enumerate(ends)
    )
    plan = replace(plan, beams=plan.beams[:1], jaws=plan.jaws[:1], segments=swept)
    dataset = an_exported_plan(case, plan, tmp_path)
    (beam,) = dataset.BeamSequence
    assert (beam.BeamType, beam.BeamDescription) == ("DYNAMIC", "sliding window, 3 segments")
    assert beam.NumberOfControlPoints == len(beam.ControlPointSequence) == 4
    weights = [float(p.CumulativeMetersetWeight) for p in beam.ControlPointSequence]
    assert_allclose(weights, np.array([0, 10, 21, 33]) / 33, rtol=METERSET_ROUNDING)
    for segment, start, end in zip(swept, beam.ControlPointSequence[:-1], beam.ControlPointSequence[1:], strict=True):
        for n, point in enumerate((start, end)):
            assert_allclose(leaves_of(point), [tips[n] for tips in segment.ends_mm], atol=POSITION_ROUNDING_MM)
    assert check_plan(dataset) == ()


def test_the_meterset_stands_still_while_leaves_move_and_ends_at_one(tmp_path):
    case = a_case(dicom=a_dicom_identity())
    for beam in an_exported_plan(case, a_plan(case), tmp_path).BeamSequence:
        weights = [point.CumulativeMetersetWeight for point in beam.ControlPointSequence]
        assert weights[0] == 0
        assert weights[1:-1:2] == weights[2::2]
        assert weights[-1] == beam.FinalCumulativeMetersetWeight == 1
        assert [point.ControlPointIndex for point in beam.ControlPointSequence] == list(range(len(weights)))


def test_fractions_and_monitor_units_per_fraction_are_read_back(tmp_path):
    case = a_case(dicom=a_dicom_identity())
    plan = a_plan(case)
    (group,) = an_exported_plan(case, plan, tmp_path).FractionGroupSequence
    assert (group.NumberOfFractionsPlanned, group.NumberOfBeams, group.NumberOfBrachyApplicationSetups) == (25, 2, 0)
    assert [b.ReferencedBeamNumber for b in group.ReferencedBeamSequence] == [1, 2]
    metersets = [float(b.BeamMeterset) for b in group.ReferencedBeamSequence]
    assert_allclose(metersets, [plan.beam_mu(0), plan.beam_mu(1)], rtol=METERSET_ROUNDING)


def test_beams_describe_the_machine(tmp_path):
    case = a_case(dicom=a_dicom_identity())
    plan = a_plan(case)
    for beam in an_exported_plan(case, plan, tmp_path).BeamSequence:
        assert (beam.BeamType, beam.RadiationType, beam.TreatmentDeliveryType) == ("STATIC", "PHOTON", "TREATMENT")
        assert (beam.SourceAxisDistance, beam.PrimaryDosimeterUnit) == (1000, "MU")
        assert (beam.TreatmentMachineName, beam.ManufacturerModelName) == ("Generic 6 MV, 12", plan.machine.name)
        devices = [(d.RTBeamLimitingDeviceType, d.NumberOfLeafJawPairs) for d in beam.BeamLimitingDeviceSequence]
        assert devices == [("ASYMX", 1), ("ASYMY", 1), ("MLCX", 60)]
        assert_allclose(beam.BeamLimitingDeviceSequence[2].LeafPositionBoundaries, plan.machine.mlc.leaf_edges_mm)
        assert beam.ControlPointSequence[0].NominalBeamEnergy == 6
        assert beam.ControlPointSequence[0].DoseRateSet == 600


def test_jaws_angles_and_isocenter_stand_in_the_first_control_point_only(tmp_path):
    case = a_case(dicom=a_dicom_identity())
    plan = a_plan(case)
    dataset = an_exported_plan(case, plan, tmp_path)
    for beam, planned, jaws in zip(dataset.BeamSequence, plan.beams, plan.jaws, strict=True):
        first, *others = beam.ControlPointSequence
        assert_allclose(first.GantryAngle, planned.angles.gantry_deg, atol=0.05)
        assert_allclose(first.BeamLimitingDeviceAngle, planned.angles.collimator_deg, atol=0.05)
        assert_allclose(first.PatientSupportAngle, planned.angles.couch_deg, atol=0.05)
        assert_allclose(first.IsocenterPosition, planned.isocenter_lps, atol=POSITION_ROUNDING_MM)
        positions = {d.RTBeamLimitingDeviceType: d.LeafJawPositions for d in first.BeamLimitingDevicePositionSequence}
        assert positions["ASYMX"] == [jaws.x1_mm, jaws.x2_mm]
        assert positions["ASYMY"] == [jaws.y1_mm, jaws.y2_mm]
        for point in others:
            assert [d.RTBeamLimitingDeviceType for d in point.BeamLimitingDevicePositionSequence] == ["MLCX"]
            assert "GantryAngle" not in point


def test_an_angle_just_below_a_full_turn_is_written_as_zero(tmp_path):
    case = a_case(dicom=a_dicom_identity())
    plan = a_plan(case, (BeamAngles(359.97), BeamAngles(359.93)))
    angles = [b.ControlPointSequence[0].GantryAngle for b in an_exported_plan(case, plan, tmp_path).BeamSequence]
    assert angles == [0, 359.9]


def test_the_plan_repeats_the_study_and_refers_to_the_structure_set(tmp_path):
    case = a_case(dicom=a_dicom_identity())
    dataset = an_exported_plan(case, a_plan(case), tmp_path)
    assert dataset.StudyInstanceUID == case.dicom.study_instance_uid
    assert dataset.FrameOfReferenceUID == case.dicom.frame_of_reference_uid
    assert dataset.SeriesInstanceUID not in (case.dicom.ct_series_uid, case.dicom.study_instance_uid)
    assert dataset.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == "1.2.3"
    assert dataset.RTPlanGeometry == "PATIENT"


def test_the_plan_says_that_it_is_unapproved_research(tmp_path):
    case = a_case(dicom=a_dicom_identity())
    dataset = an_exported_plan(case, a_plan(case), tmp_path, label="sixteen letters!")
    assert (dataset.ApprovalStatus, dataset.PlanIntent) == ("UNAPPROVED", "RESEARCH")
    assert "research software, not for clinical use" in dataset.RTPlanDescription
    assert dataset.RTPlanLabel == "sixteen letters!"


def test_prescriptions_name_their_targets_by_number(tmp_path):
    case = a_case(dicom=a_dicom_identity())
    dataset = an_exported_plan(case, a_plan(case), tmp_path)
    found = [
        (d.DoseReferenceType, d.DoseReferenceStructureType, d.ReferencedROINumber, d.TargetPrescriptionDose)
        for d in dataset.DoseReferenceSequence
    ]
    assert found == [("TARGET", "VOLUME", 7, 60), ("TARGET", "VOLUME", 12, 50)]
    assert dataset.PrescriptionDescription == "PTV_60 60 Gy, PTV_50 50 Gy in 25 fractions"


def test_a_prescription_to_a_target_that_the_structure_set_lacks_is_a_site(tmp_path):
    case = a_case(dicom=replace(a_dicom_identity(), roi_numbers={"PTV_60": 7}))
    references = an_exported_plan(case, a_plan(case), tmp_path).DoseReferenceSequence
    assert [d.DoseReferenceStructureType for d in references] == ["VOLUME", "SITE"]
    assert "ReferencedROINumber" not in references[1]


@pytest.mark.parametrize("label", ["", "seventeen letters"])
def test_a_label_that_dicom_cannot_hold_is_refused(label):
    case = a_case(dicom=a_dicom_identity())
    with pytest.raises(ValueError, match=f"1 to 16 characters, got '{label}'"):
        plan_dataset(case, a_plan(case), label=label, structure_set_uid="1.2.3")


def test_a_plan_without_structure_set_is_refused():
    case = a_case(dicom=a_dicom_identity())
    with pytest.raises(ValueError, match="write the structure set first"):
        plan_dataset(case, a_plan(case), label="x", structure_set_uid="")


def test_a_beam_without_monitor_units_is_refused():
    case = a_case(dicom=a_dicom_identity())
    plan = a_plan(case)
    plan = replace(plan, segments=plan.segments_of(0))
    with pytest.raises(ValueError, match="Beam 'Left, oblique' delivers no monitor units; remove it"):
        plan_dataset(case, plan, label="x", structure_set_uid="1.2.3")


# What the words of PS3.3 C.7.3.1.1.2 mean on a couch: where head and face point, in IEC fixed axes
# (X to the right seen from the couch's foot, Y to the gantry, Z up).
HEAD_AND_FACE = {
    "HFS": ((0, 1, 0), (0, 0, 1)),
    "HFP": ((0, 1, 0), (0, 0, -1)),
    "FFS": ((0, -1, 0), (0, 0, 1)),
    "FFP": ((0, -1, 0), (0, 0, -1)),
}


def iec_bld_axes_in_lps(dataset, point):
    """Follow IEC 61217 from collimator to couch to patient by the exported attributes alone, (3, 3)."""
    head, face = map(np.array, HEAD_AND_FACE[dataset.PatientSetupSequence[0].PatientPosition])
    patient_axes = np.stack([np.cross(-face, head), -face, head], axis=1)  # L, P, S in couch axes; L = P x S
    collimator, gantry, couch = (
        Rotation.from_rotvec(float(angle) * np.array(axis), degrees=True).as_matrix()
        for angle, axis in (
            (point.BeamLimitingDeviceAngle, (0, 0, 1)),  # counterclockwise seen from the source
            (point.GantryAngle, (0, 1, 0)),  # clockwise seen from in front of the gantry
            (point.PatientSupportAngle, (0, 0, 1)),  # counterclockwise seen from above; the patient turns along
        )
    )
    return patient_axes.T @ couch.T @ gantry @ collimator


@pytest.mark.parametrize("position", PATIENT_POSITIONS)
def test_exported_angles_mean_the_rotation_that_the_dose_is_computed_with(tmp_path, position):
    case = a_case(position=position, dicom=a_dicom_identity())
    plan = a_plan(case, (BeamAngles(37.1, 21.7, 12.3), BeamAngles(281.5, 344.5, 95.2)))
    dataset = an_exported_plan(case, plan, tmp_path)
    for beam, planned in zip(dataset.BeamSequence, plan.beams, strict=True):
        assert_allclose(iec_bld_axes_in_lps(dataset, beam.ControlPointSequence[0]), planned.rotation, atol=1e-12)


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not beside the checkout")
def test_the_rotation_leads_through_the_entry_points_that_monaco_writes():
    dataset = pydicom.dcmread(CASES / "rtplans" / "pymedphys_breast_2fractiongroups_RP.dcm", force=True)
    for beam in dataset.BeamSequence:
        point = beam.ControlPointSequence[0]
        isocenter, entry = np.array(point.IsocenterPosition, float), np.array(point.SurfaceEntryPoint, float)
        towards_source = bld_to_lps_rotation(float(point.GantryAngle), float(point.PatientSupportAngle))[:, 2]
        depth = np.linalg.norm(entry - isocenter)
        assert_allclose(isocenter + depth * towards_source, entry, atol=0.2)  # points have one decimal


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not beside the checkout")
def test_the_leaves_of_a_real_eclipse_plan_open_on_its_target_and_not_on_the_mirror_image():
    plan = pydicom.dcmread(CASES / "breast_eclipse" / "rtplan.dcm", force=True)
    structures = pydicom.dcmread(CASES / "breast_eclipse" / "rtss.dcm", force=True)
    (number,) = (r.ROINumber for r in structures.StructureSetROISequence if r.ROIName == "Tumor Bed Block")
    (roi,) = (r for r in structures.ROIContourSequence if r.ReferencedROINumber == number)
    points_lps = np.concatenate([np.reshape(c.ContourData, (-1, 3)).astype(float) for c in roi.ContourSequence])
    for beam in plan.BeamSequence:
        first = beam.ControlPointSequence[0]
        rotation = bld_to_lps_rotation(
            float(first.GantryAngle), float(first.PatientSupportAngle), float(first.BeamLimitingDeviceAngle)
        )
        p = (points_lps - np.array(first.IsocenterPosition, float)) @ rotation
        u, v = (p[:, :2] * 1000 / (1000 - p[:, 2:])).T
        tips = np.array([leaves_of(point) for point in beam.ControlPointSequence])
        edges = np.array(beam.BeamLimitingDeviceSequence[-1].LeafPositionBoundaries, float)
        pair = np.searchsorted(edges, v) - 1
        left, right = tips[:, 0].min(axis=0)[pair], tips[:, 1].max(axis=0)[pair]
        assert np.mean((left < u) & (u < right)) == 1
        assert np.mean((left < -u) & (-u < right)) < 0.6


@needs_dciodvfy
@pytest.mark.parametrize("position", PATIENT_POSITIONS)
def test_dciodvfy_finds_no_error_in_a_plan(tmp_path, position):
    case = with_new_dicom_identity(a_case(position=position))
    an_exported_plan(case, a_plan(case), tmp_path)
    assert dciodvfy_errors(tmp_path / "RTPLAN.dcm", iod="RTPlan") == []


@needs_dciodvfy
def test_dciodvfy_does_find_an_error_where_there_is_one(tmp_path):
    case = with_new_dicom_identity(a_case())
    dataset = plan_dataset(case, a_plan(case), label="sample", structure_set_uid="1.2.3")
    del dataset.RTPlanGeometry
    write_dataset(dataset, tmp_path / "RTPLAN.dcm")
    assert any("RTPlanGeometry" in line for line in dciodvfy_errors(tmp_path / "RTPLAN.dcm", iod="RTPlan"))


@needs_dcmtk
def test_drtdump_reads_the_plan_without_complaint(tmp_path):
    case = with_new_dicom_identity(a_case())
    an_exported_plan(case, a_plan(case), tmp_path)
    printed = output_of("drtdump", tmp_path / "RTPLAN.dcm")
    assert printed.startswith("RT Plan object")
    assert "sample case" in printed
    assert not re.search(r"^[WEF]: ", printed, flags=re.MULTILINE)


@needs_dcmtk
def test_dcmdump_agrees_on_beams_gantry_angles_and_monitor_units(tmp_path):
    case = with_new_dicom_identity(a_case())
    plan = a_plan(case)
    an_exported_plan(case, plan, tmp_path)
    printed = output_of(
        "dcmdump", "+P", "NumberOfBeams", "+P", "GantryAngle", "+P", "BeamMeterset", tmp_path / "RTPLAN.dcm"
    )
    values = {
        keyword: [float(value) for value in re.findall(rf"\[([^]]+)\].*{keyword}$", printed, flags=re.MULTILINE)]
        for keyword in ("NumberOfBeams", "GantryAngle", "BeamMeterset")
    }
    assert values["NumberOfBeams"] == [2]
    assert values["GantryAngle"] == [37.0, 281.5]
    assert_allclose(values["BeamMeterset"], [plan.beam_mu(0), plan.beam_mu(1)], rtol=METERSET_ROUNDING)
