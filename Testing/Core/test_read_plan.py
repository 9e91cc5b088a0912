"""Reading RT Plans: our own come back, real ones are understood, and what is not supported is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from Core.existing_plan_samples import a_plan_dataset, saved
from Core.plan_samples import SAMPLE_ANGLES, a_case, a_plan
from numpy.testing import assert_allclose, assert_array_equal
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, RTIonPlanStorage

from deeprt.dicom.read_plan import read_plan
from deeprt.errors import InputError

CASES = Path(__file__).parents[3] / "shared" / "cases"
needs_cases = pytest.mark.skipif(not (CASES / "rtplans").is_dir(), reason="needs ../shared/cases/rtplans")


def test_our_own_plan_is_read_as_it_was_planned(tmp_path: Path) -> None:
    plan = a_plan(a_case())
    read = read_plan(saved(a_plan_dataset(), tmp_path))
    assert (read.label, read.position, read.unsupported, read.notes) == ("sample", "HFS", (), ())
    assert [b.name for b in read.beams] == [b.name for b in plan.beams]
    for index, (beam, planned, angles) in enumerate(zip(read.beams, plan.beams, SAMPLE_ANGLES, strict=True)):
        assert (beam.number, beam.n_fractions, beam.energy_mv, beam.is_flattened) == (index + 1, 25, 6.0, True)
        assert beam.technique == "step and shoot"
        assert_allclose(beam.mu, plan.beam_mu(index), rtol=1e-12)
        assert_allclose(beam.angles.gantry_deg, angles.gantry_deg, atol=0.05)  # written to 0.1 degrees
        assert_allclose(beam.isocenter_lps, planned.isocenter_lps, atol=0.005)  # and to 0.01 mm
        jaws = plan.jaws[index]
        assert_array_equal(
            beam.jaws_mm, np.tile([jaws.x1_mm, jaws.x2_mm, jaws.y1_mm, jaws.y2_mm], (len(beam.meterset), 1))
        )
        for n, segment in enumerate(plan.segments_of(index)):
            assert_allclose(beam.left_mm[2 * n : 2 * n + 2], np.tile(segment.left_mm, (2, 1)), atol=0.0051)
            assert_allclose(beam.right_mm[2 * n : 2 * n + 2], np.tile(segment.right_mm, (2, 1)), atol=0.0051)
            assert_allclose(np.diff(beam.meterset)[2 * n] * beam.mu, segment.mu, rtol=1e-9)


def test_positions_that_are_not_repeated_stay(tmp_path: Path) -> None:
    dataset = a_plan_dataset()
    points = dataset.BeamSequence[0].ControlPointSequence
    del points[1].BeamLimitingDevicePositionSequence
    points[3].BeamLimitingDevicePositionSequence = []
    beam = read_plan(saved(dataset, tmp_path)).beams[0]
    assert_array_equal(beam.left_mm[1], beam.left_mm[0])
    assert_array_equal(beam.right_mm[3], beam.right_mm[2])
    assert np.any(beam.left_mm[2] != beam.left_mm[1])


def test_jaws_that_move_and_leaves_along_y_are_read(tmp_path: Path) -> None:
    dataset = a_plan_dataset()
    item = dataset.BeamSequence[1]
    item.BeamLimitingDeviceSequence[2].RTBeamLimitingDeviceType = "MLCY"
    for point in item.ControlPointSequence:
        point.BeamLimitingDevicePositionSequence[-1].RTBeamLimitingDeviceType = "MLCY"
    moved = Dataset()
    moved.RTBeamLimitingDeviceType, moved.LeafJawPositions = "Y", [-10.0, 12.5]
    item.ControlPointSequence[2].BeamLimitingDevicePositionSequence.append(moved)
    beam = read_plan(saved(dataset, tmp_path)).beams[1]
    assert beam.leaf_travel == "y"
    assert_array_equal(beam.jaws_mm[:, 2:], [[-45.0, 45.0]] * 2 + [[-10.0, 12.5]] * 2)


def test_setup_beams_and_beams_without_meterset_are_left_out_with_a_note(tmp_path: Path) -> None:
    dataset = a_plan_dataset()
    dataset.BeamSequence[0].TreatmentDeliveryType = "SETUP"
    plan = read_plan(saved(dataset, tmp_path))
    assert [b.number for b in plan.beams] == [2]
    assert plan.notes == ("Beam 1 'Beam 1' is left out: it is no treatment beam but SETUP.",)
    dataset = a_plan_dataset()
    dataset.FractionGroupSequence[0].ReferencedBeamSequence[1].BeamMeterset = 0.0
    assert read_plan(saved(dataset, tmp_path)).notes == (
        "Beam 2 'Left, oblique' is left out: it has no monitor units.",
    )
    del dataset.FractionGroupSequence[0].ReferencedBeamSequence[1].BeamMeterset
    assert "states no monitor units" in read_plan(saved(dataset, tmp_path)).unsupported[0].reason
    dataset = a_plan_dataset()
    del dataset.FractionGroupSequence[0].ReferencedBeamSequence[1]
    assert "it belongs to no fraction group" in read_plan(saved(dataset, tmp_path)).notes[0]


def in_first(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda beam: setattr(beam.ControlPointSequence[0], keyword, value)


def in_third(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda beam: setattr(beam.ControlPointSequence[2], keyword, value)


def in_beam(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda beam: setattr(beam, keyword, value)


def add_applicator(beam: Dataset) -> None:
    beam.ApplicatorSequence = [Dataset()]
    beam.ApplicatorSequence[0].ApplicatorID = "A10"


def full_turn(beam: Dataset) -> None:
    beam.ControlPointSequence[0].GantryRotationDirection = "CW"
    beam.ControlPointSequence[-1].GantryAngle = beam.ControlPointSequence[0].GantryAngle


def second_mlc(beam: Dataset) -> None:
    positions = Dataset()
    positions.RTBeamLimitingDeviceType, positions.LeafJawPositions = "MLCY", [-10.0, 10.0]
    beam.ControlPointSequence[0].BeamLimitingDevicePositionSequence.append(positions)


def strange_device(beam: Dataset) -> None:
    beam.ControlPointSequence[0].BeamLimitingDevicePositionSequence[0].RTBeamLimitingDeviceType = "MLCX1"


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (in_beam("RadiationType", "ELECTRON"), "is a beam of electrons"),
        (in_beam("RadiationType", "PROTON"), "is a beam of protons"),
        (in_beam("PrimaryDosimeterUnit", "MINUTE"), "is dosed in MINUTE"),
        (in_beam("NumberOfWedges", 1), "has a wedge"),
        (in_beam("NumberOfCompensators", 1), "has a compensator"),
        (in_beam("NumberOfBlocks", 2), "has a block"),
        (add_applicator, "has an applicator"),
        (second_mlc, "has two multileaf collimators"),
        (strange_device, "has a beam-limiting device MLCX1"),
        (in_third("GantryAngle", 40.0), "is an arc"),
        (full_turn, "is an arc"),
        (in_third("BeamLimitingDeviceAngle", 40.0), "changes its beam limiting device angle"),
        (in_third("PatientSupportAngle", 40.0), "changes its patient support angle"),
        (in_third("IsocenterPosition", [0.0, 0.0, 0.0]), "moves its isocenter"),
        (in_third("NominalBeamEnergy", 15.0), "changes its energy"),
        (in_first("TableTopPitchAngle", 2.0), "has a table top pitch angle of 2°"),
        (in_first("TableTopEccentricAngle", 350.0), "has a table top eccentric angle of 350°"),
    ],
)
def test_what_is_not_supported_is_named_with_its_beam(
    tmp_path: Path, spoil: Callable[[Dataset], None], what: str
) -> None:
    dataset = a_plan_dataset()
    spoil(dataset.BeamSequence[0])
    plan = read_plan(saved(dataset, tmp_path))
    assert [b.number for b in plan.beams] == [2]
    (left_out,) = plan.unsupported
    assert left_out.reason.startswith(f"Beam 1 'Beam 1' {what}")
    assert left_out.reason.endswith(", which is not supported.")


def test_a_wedge_that_stays_out_is_no_wedge(tmp_path: Path) -> None:
    dataset = a_plan_dataset()
    beam = dataset.BeamSequence[0]
    beam.NumberOfWedges = 1
    wedge = Dataset()
    wedge.ReferencedWedgeNumber, wedge.WedgePosition = 1, "OUT"
    beam.ControlPointSequence[0].WedgePositionSequence = [wedge]
    assert read_plan(saved(dataset, tmp_path)).unsupported == ()
    wedge.WedgePosition = "IN"
    assert "has a wedge" in read_plan(saved(dataset, tmp_path)).unsupported[0].reason


def falling_meterset(beam: Dataset) -> None:
    beam.ControlPointSequence[2].CumulativeMetersetWeight = 0.0


def overlapping_tips(beam: Dataset) -> None:
    positions = beam.ControlPointSequence[2].BeamLimitingDevicePositionSequence[0].LeafJawPositions
    positions[70] = positions[10] - 5


def one_leaf_less(beam: Dataset) -> None:
    device = beam.ControlPointSequence[2].BeamLimitingDevicePositionSequence[0]
    device.LeafJawPositions = list(device.LeafJawPositions)[:-2]


def no_field(beam: Dataset) -> None:
    for point in beam.ControlPointSequence:
        point.BeamLimitingDevicePositionSequence = []


def crossed_jaws(beam: Dataset) -> None:
    beam.ControlPointSequence[0].BeamLimitingDevicePositionSequence[0].LeafJawPositions = [20.0, -20.0]


def one_point(beam: Dataset) -> None:
    beam.ControlPointSequence = beam.ControlPointSequence[:1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (falling_meterset, "meterset weights that do not rise from 0"),
        (in_beam("FinalCumulativeMetersetWeight", 2.0), "ends at the meterset weight 1, but announces 2"),
        (in_third("CumulativeMetersetWeight", None), "has no CumulativeMetersetWeight"),
        (in_first("IsocenterPosition", None), "has no IsocenterPosition"),
        (in_first("NominalBeamEnergy", None), "has no NominalBeamEnergy"),
        (in_first("GantryAngle", None), "has no GantryAngle"),
        (overlapping_tips, r"control point 2: the tips of leaf pair 11 of MLCX overlap"),
        (one_leaf_less, "does not place the 60 leaf pairs of its MLCX"),
        (no_field, "neither leaves nor jaws on both axes"),
        (crossed_jaws, "control point 0: ASYMX is not a pair of jaws that open"),
        (one_point, "has 1 control points; at least two are needed"),
    ],
)
def test_a_beam_whose_dose_is_not_determined_is_an_error(
    tmp_path: Path, spoil: Callable[[Dataset], None], message: str
) -> None:
    dataset = a_plan_dataset()
    spoil(dataset.BeamSequence[0])
    with pytest.raises(InputError, match=rf"Beam 1 'Beam 1'.*{message}"):
        read_plan(saved(dataset, tmp_path))


def test_a_plan_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_plan(tmp_path / "nowhere.dcm")
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.raises(InputError, match="is not a DICOM file"):
        read_plan(tmp_path / "text.dcm")
    dataset = a_plan_dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.Modality = "CT"
    with pytest.raises(InputError, match="is not an RT Plan but CT"):
        read_plan(saved(dataset, tmp_path))
    dataset.SOPClassUID = RTIonPlanStorage
    with pytest.raises(InputError, match="RT Ion Plan"):
        read_plan(saved(dataset, tmp_path))


def test_a_plan_that_delivers_what_it_does_not_describe_is_an_error(tmp_path: Path) -> None:
    dataset = a_plan_dataset()
    dataset.FractionGroupSequence[0].ReferencedBeamSequence[1].ReferencedBeamNumber = 9
    with pytest.raises(InputError, match="delivers beam 9, which it does not describe"):
        read_plan(saved(dataset, tmp_path))
    dataset.FractionGroupSequence = []
    with pytest.raises(InputError, match="has no treatment beam with monitor units"):
        read_plan(saved(dataset, tmp_path))


@needs_cases
@pytest.mark.parametrize(
    ("file", "techniques", "n_fractions"),
    [
        ("rtplans/pps_lung_IMRT_9beams_RP.dcm", ["sliding window"] * 9, [5] * 9),
        ("rtplans/pymedphys_breast_2fractiongroups_RP.dcm", ["sliding window"] * 6, [16] * 3 + [4] * 3),
        ("rtplans/pymedphys_v16_2beams_RP.dcm", ["open field"] * 2, [25] * 2),
        ("breast_eclipse/rtplan.dcm", ["sliding window"] * 4, [7] * 4),
    ],
)
def test_plans_of_other_systems_are_read(file: str, techniques: list[str], n_fractions: list[int]) -> None:
    plan = read_plan(CASES / file)
    assert [b.technique for b in plan.beams] == techniques
    assert [b.n_fractions for b in plan.beams] == n_fractions
    assert plan.unsupported == ()
    assert plan.position == "HFS"


@needs_cases
def test_monaco_has_no_x_jaws_and_states_dose_at_a_point() -> None:
    beam = read_plan(CASES / "rtplans" / "pymedphys_breast_2fractiongroups_RP.dcm").beams[0]
    assert np.isinf(beam.jaws_mm[:, :2]).all() and np.isfinite(beam.jaws_mm[:, 2:]).all()
    assert beam.leaf_edges_mm.size == 81
    assert (beam.ssd_mm, beam.stated_point_gy_per_fraction) == (909.0, 1.571)


@needs_cases
def test_a_corrupt_plan_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"corrupt or incomplete .* export it again"):
        read_plan(CASES / "corrupt" / "RP_corrupted_by_CRLF.dcm")
