from pathlib import Path

import pydicom
import pytest
from Core.plan_samples import a_case, a_dicom_identity, a_plan

from deeprt.dicom.check_plan import check_plan
from deeprt.dicom.write_plan import plan_dataset

CASES = Path(__file__).parents[3] / "shared" / "cases"


@pytest.fixture
def an_exported_plan():
    case = a_case(dicom=a_dicom_identity())
    return plan_dataset(case, a_plan(case), label="sample", structure_set_uid="1.2.3")


def _beam(plan):
    return plan.BeamSequence[1]


def _point(plan, index=0):
    return _beam(plan).ControlPointSequence[index]


def _group(plan):
    return plan.FractionGroupSequence[0]


def _leaves(plan, index):
    return _point(plan, index).BeamLimitingDevicePositionSequence[-1]


def _mlc(plan):
    return _beam(plan).BeamLimitingDeviceSequence[2]


def _without(owner, keyword):
    delattr(owner, keyword)


def _with(owner, keyword, value):
    setattr(owner, keyword, value)


def _moved(plan, index, leaf, position_mm):
    positions = list(_leaves(plan, index).LeafJawPositions)
    positions[leaf] = position_mm
    _leaves(plan, index).LeafJawPositions = positions


def test_an_exported_plan_has_no_problems(an_exported_plan):
    assert check_plan(an_exported_plan) == ()


BREAKAGES = [
    (lambda p: _without(p, "SOPInstanceUID"), "The plan has no SOPInstanceUID."),
    (lambda p: _without(p, "StudyInstanceUID"), "The plan has no StudyInstanceUID."),
    (lambda p: _with(p, "FrameOfReferenceUID", ""), "The plan has no FrameOfReferenceUID."),
    (
        lambda p: _without(p, "ReferencedStructureSetSequence"),
        "The plan refers to no structure set, though its geometry is that of a patient.",
    ),
    (
        lambda p: _with(p.ReferencedStructureSetSequence[0], "ReferencedSOPInstanceUID", ""),
        "The plan refers to no structure set, though its geometry is that of a patient.",
    ),
    (lambda p: _without(p, "FractionGroupSequence"), "The plan has no fraction group."),
    (lambda p: _without(_group(p), "NumberOfFractionsPlanned"), "Fraction group 1 plans no fractions."),
    (lambda p: _with(_group(p), "NumberOfBeams", 3), "Fraction group 1 announces 3 beams and refers to 2."),
    (
        lambda p: _without(_group(p).ReferencedBeamSequence[1], "BeamMeterset"),
        "Fraction group 1 gives beam 2 no monitor units.",
    ),
    (
        lambda p: _with(_group(p).ReferencedBeamSequence[1], "BeamMeterset", 0),
        "Fraction group 1 gives beam 2 no monitor units.",
    ),
    (
        lambda p: (_with(_group(p), "NumberOfBeams", 1), _group(p).ReferencedBeamSequence.pop()),
        "Beam 2 belongs to no fraction group, so that it has no monitor units.",
    ),
    (
        lambda p: _with(_beam(p), "ReferencedPatientSetupNumber", 2),
        "Beam 2 refers to patient setup 2, which the plan lacks.",
    ),
    (
        lambda p: _with(_beam(p), "NumberOfControlPoints", 5),
        "Beam 2 announces 5 control points and has 4.",
    ),
    (lambda p: _without(_point(p), "GantryAngle"), "Beam 2 has no GantryAngle in its first control point."),
    (lambda p: _with(_point(p), "GantryAngle", None), "Beam 2 has no GantryAngle in its first control point."),
    (
        lambda p: _without(_point(p), "IsocenterPosition"),
        "Beam 2 has no IsocenterPosition in its first control point.",
    ),
    (
        lambda p: _without(_point(p), "NominalBeamEnergy"),
        "Beam 2 has no NominalBeamEnergy in its first control point.",
    ),
    (
        lambda p: _with(_point(p, 2), "ControlPointIndex", 7),
        "Beam 2 does not number its control points 0 to 3.",
    ),
    (
        lambda p: _without(_point(p, 2), "CumulativeMetersetWeight"),
        "Beam 2 has no cumulative meterset weight in control point 2.",
    ),
    (
        lambda p: _with(_point(p), "CumulativeMetersetWeight", 0.1),
        "Beam 2 starts at the cumulative meterset weight 0.1, not 0.",
    ),
    (
        lambda p: _with(_point(p, 2), "CumulativeMetersetWeight", 0.5),
        "Beam 2 has a cumulative meterset weight that falls at control point 2.",
    ),
    (
        lambda p: _without(_beam(p), "FinalCumulativeMetersetWeight"),
        "Beam 2 has no final cumulative meterset weight.",
    ),
    (
        lambda p: _with(_beam(p), "FinalCumulativeMetersetWeight", None),
        "Beam 2 has no final cumulative meterset weight.",
    ),
    (
        lambda p: _with(_beam(p), "FinalCumulativeMetersetWeight", 80),
        "Beam 2 ends at the cumulative meterset weight 1.0, but announces 80.0.",
    ),
    (
        lambda p: _with(_mlc(p), "LeafPositionBoundaries", list(_mlc(p).LeafPositionBoundaries)[:-1]),
        "Beam 2 has 60 leaf position boundaries for the 60 pairs of its MLCX.",
    ),
    (
        lambda p: _without(_mlc(p), "LeafPositionBoundaries"),
        "Beam 2 has 0 leaf position boundaries for the 60 pairs of its MLCX.",
    ),
    (
        lambda p: _with(_mlc(p), "LeafPositionBoundaries", list(_mlc(p).LeafPositionBoundaries)[::-1]),
        "Beam 2 has leaf position boundaries of MLCX that do not increase.",
    ),
    (
        lambda p: _with(_leaves(p, 3), "LeafJawPositions", list(_leaves(p, 3).LeafJawPositions)[:-2]),
        "Beam 2, control point 3: MLCX has 118 positions for 60 pairs.",
    ),
    (
        lambda p: (_moved(p, 2, 4, 1.0), _moved(p, 3, 4, 1.0)),
        "Beam 2, control point 2: pair 5 of MLCX overlaps, tip 1 beyond tip 2.",
    ),
    (
        lambda p: _moved(p, 3, 4, -1.0),
        "Beam 2, control point 3: MLCX moves while a STATIC beam is on.",
    ),
    (
        lambda p: [_point(p, n).BeamLimitingDevicePositionSequence.pop() for n in range(4)],
        "Beam 2 never positions its MLCX.",
    ),
]


@pytest.mark.parametrize(("break_it", "problem"), BREAKAGES)
def test_each_way_to_break_a_plan_is_found(an_exported_plan, break_it, problem):
    break_it(an_exported_plan)
    assert problem in check_plan(an_exported_plan)


def test_a_reference_to_a_missing_beam_is_found_from_both_sides(an_exported_plan):
    _beam(an_exported_plan).BeamNumber = 5
    assert check_plan(an_exported_plan) == (
        "Fraction group 1 refers to beam 2, which the plan does not have.",
        "Beam 5 belongs to no fraction group, so that it has no monitor units.",
    )


def test_two_beams_of_one_number_are_found(an_exported_plan):
    _beam(an_exported_plan).BeamNumber = 1
    assert "Beam number 1 is given to 2 beams." in check_plan(an_exported_plan)


def test_a_device_that_the_beam_does_not_have_is_found(an_exported_plan):
    _point(an_exported_plan).BeamLimitingDevicePositionSequence[0].RTBeamLimitingDeviceType = "X"
    problems = check_plan(an_exported_plan)
    assert "Beam 2, control point 0: X has positions, but the beam has no such device." in problems
    assert "Beam 2 never positions its ASYMX." in problems


def test_a_device_without_number_of_pairs_is_found(an_exported_plan):
    del _mlc(an_exported_plan).NumberOfLeafJawPairs
    assert "Beam 2 does not say how many leaf or jaw pairs its MLCX has." in check_plan(an_exported_plan)


def test_a_setup_field_needs_no_monitor_units(an_exported_plan):
    _beam(an_exported_plan).TreatmentDeliveryType = "SETUP"
    del _group(an_exported_plan).ReferencedBeamSequence[1].BeamMeterset
    assert check_plan(an_exported_plan) == ()


def test_nothing_at_all_is_described_and_not_a_crash():
    problems = check_plan(pydicom.Dataset())
    assert "The plan has no fraction group." in problems
    assert "The plan has no beams." in problems


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not beside the checkout")
@pytest.mark.parametrize(
    "path",
    ["breast_eclipse/rtplan.dcm", "rtplans/pps_lung_IMRT_9beams_RP.dcm", "rtplans/pymedphys_v16_2beams_RP.dcm"],
)
def test_real_plans_of_planning_systems_have_no_problems(path):
    assert check_plan(pydicom.dcmread(CASES / path, force=True)) == ()
