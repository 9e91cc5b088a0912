"""``deeprt dose``: what it writes, prints and refuses."""

from __future__ import annotations

import argparse
import copy
import json
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from Core.existing_plan_samples import saved
from Core.plan_samples import a_dicom_identity
from Core.samples import a_centered_grid, a_field, a_one_beam_plan, a_uniform_phantom
from numpy.testing import assert_allclose

from deeprt import preparation
from deeprt.beams import BeamAngles
from deeprt.commands import dose
from deeprt.delivery.dose_of_plan import dose_of_plan
from deeprt.delivery.segments import DeliverablePlan
from deeprt.dicom.write_plan import plan_dataset
from deeprt.dose.influence import dose_influence
from deeprt.errors import InputError
from deeprt.machine_file import read_machine

MACHINE = read_machine("generic_6mv")  # what the command takes for 6 MV
OPENING = (-23.0, 31.0, -20.0, 15.0, 37.0)


def a_study():
    """A water phantom with an identity, a plan of two beams on it, and that as RT Plan."""
    case = replace(a_uniform_phantom(a_centered_grid(n=15, spacing_mm=8.0)), dicom=a_dicom_identity())
    beams = [
        a_field(BeamAngles(g), np.array([4.0, -3.0, 2.0]), [-40.0, 40.0], [-40.0, 40.0], name=f"G {g:g}")
        for g in (0.0, 250.0)
    ]
    one, other = (a_one_beam_plan(beam, [OPENING], jaws=(-31.5, 33.25, -33.0, 27.5), machine=MACHINE) for beam in beams)
    segments = (*one.segments, *(replace(s, beam_index=1) for s in other.segments))
    plan = DeliverablePlan(MACHINE, tuple(beams), (*one.jaws, *other.jaws), segments, 20)
    return case, plan, plan_dataset(case, plan, label="own", structure_set_uid="1.2.3")


def run(monkeypatch: pytest.MonkeyPatch, case: object, *arguments: object) -> int:
    """The command on a case that needs not be read."""
    monkeypatch.setattr(preparation, "load_case", lambda *_, **__: case)
    parser = argparse.ArgumentParser()
    dose.add_command(parser.add_subparsers())
    options = parser.parse_args(["dose", *map(str, arguments)])
    return int(options.run(options))


def test_the_dose_and_its_numbers_are_written_and_printed(tmp_path, monkeypatch, capsys) -> None:
    case, plan, dataset = a_study()
    out = tmp_path / "out"
    assert run(monkeypatch, case, "folder", "--plan", saved(dataset, tmp_path), "--out", out) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["RTPLAN.dcm", "out"]
    assert sorted(p.name for p in out.iterdir()) == ["RTDOSE.dcm", "dose.json"]

    written = pydicom.dcmread(out / "RTDOSE.dcm")
    assert written.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == dataset.SOPInstanceUID
    assert written.FrameOfReferenceUID == case.dicom.frame_of_reference_uid
    assert written.DoseSummationType == "PLAN"
    expected = dose_of_plan(plan, dose_influence(case, plan.beams, MACHINE))
    read = written.pixel_array * float(written.DoseGridScaling)
    assert_allclose(read, expected, atol=3e-5 * expected.max())  # 16 bits and float32

    numbers = json.loads((out / "dose.json").read_text(encoding="utf-8"))
    assert [b["name"] for b in numbers["beams"]] == ["G 0", "G 250"]
    assert numbers["beams"][0]["mu_per_fraction"] == 37.0
    assert numbers["left_out"] == []
    at_isocenter = 20 * sum(b["isocenter_gy_per_fraction"] for b in numbers["beams"])
    assert_allclose(numbers["isocenters"][0]["dose_gy"], at_isocenter, atol=2e-4)  # rounded to 5 digits, 20 times
    printed = capsys.readouterr().out
    assert "G 250" in printed and "37.0" in printed and "not for clinical use" in printed


def test_a_beam_that_is_not_supported_stops_the_command_unless_it_may_be_left_out(
    tmp_path, monkeypatch, capsys
) -> None:
    case, _, dataset = a_study()
    dataset.BeamSequence[0].NumberOfWedges = 1
    path, out = saved(dataset, tmp_path), tmp_path / "out"
    with pytest.raises(InputError, match=r"Beam 1 'G 0' has a wedge, which is not supported\. A part of a plan is not"):
        run(monkeypatch, case, "folder", "--plan", path, "--out", out)
    assert not out.exists()
    run(monkeypatch, case, "folder", "--plan", path, "--out", out, "--skip-unsupported")
    assert "LEFT OUT: Beam 1 'G 0' has a wedge" in capsys.readouterr().out
    numbers = json.loads((out / "dose.json").read_text(encoding="utf-8"))
    assert [(b["number"], b["name"]) for b in numbers["left_out"]] == [(1, "G 0")]
    written = pydicom.dcmread(out / "RTDOSE.dcm")
    assert written.DoseSummationType == "BEAM"
    assert written.DoseComment == "WITHOUT beam 1 of the plan; not for clinical use"


def test_all_beams_that_are_not_supported_are_numbered(tmp_path, monkeypatch) -> None:
    case, _, dataset = a_study()
    for beam in dataset.BeamSequence:
        beam.NumberOfBlocks = 1
    with pytest.raises(InputError, match=r"Beam 1 'G 0' has a block.* Nor can beam 2 be computed"):
        run(monkeypatch, case, "folder", "--plan", saved(dataset, tmp_path), "--out", tmp_path / "out")


def test_beams_of_several_fraction_groups_are_not_left_out(tmp_path, monkeypatch) -> None:
    case, _, dataset = a_study()
    dataset.BeamSequence.append(copy.deepcopy(dataset.BeamSequence[1]))
    dataset.BeamSequence[2].BeamNumber = 3
    second = copy.deepcopy(dataset.FractionGroupSequence[0])
    second.FractionGroupNumber = 2
    second.ReferencedBeamSequence = second.ReferencedBeamSequence[1:]
    second.ReferencedBeamSequence[0].ReferencedBeamNumber = 3
    dataset.FractionGroupSequence.append(second)
    dataset.BeamSequence[0].NumberOfBlocks = 1
    arguments = ("folder", "--plan", saved(dataset, tmp_path), "--out", tmp_path / "out", "--skip-unsupported")
    with pytest.raises(InputError, match=r"has a block.* some beams of several fraction groups"):
        run(monkeypatch, case, *arguments)


def test_on_a_phantom_the_plan_moves_to_its_center(tmp_path, monkeypatch, capsys) -> None:
    case, _, dataset = a_study()
    phantom = replace(case, dicom=None)
    out = tmp_path / "out"
    run(monkeypatch, phantom, "virtual:water", "--plan", saved(dataset, tmp_path), "--out", out)
    numbers = json.loads((out / "dose.json").read_text(encoding="utf-8"))
    assert_allclose(numbers["isocenters"][0]["position_lps"], case.grid.center_lps, atol=1e-3)
    assert "The plan was moved by (-4.0, 3.0, -2.0) mm" in capsys.readouterr().out
    assert pydicom.dcmread(out / "RTDOSE.dcm").PatientName == "phantom"


def test_progress_lines_take_the_place_of_the_table(tmp_path, monkeypatch, capsys) -> None:
    case, _, dataset = a_study()
    path = saved(dataset, tmp_path)
    run(monkeypatch, case, "folder", "--plan", path, "--out", tmp_path / "out", "--json-progress")
    steps = [json.loads(line)["step"] for line in capsys.readouterr().out.splitlines()]
    assert steps == ["dose"] * 3 + ["export"] * 2


def test_cancelling_leaves_nothing_behind(tmp_path, monkeypatch) -> None:
    case, _, dataset = a_study()
    path = saved(dataset, tmp_path)

    def cancel(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("deeprt.delivery.existing_dose.dose_of_openings", cancel)
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, case, "folder", "--plan", path, "--out", tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["RTPLAN.dcm"]


def test_a_dose_is_replaced_only_when_told_to(tmp_path, monkeypatch) -> None:
    case, _, dataset = a_study()
    arguments = ("folder", "--plan", saved(dataset, tmp_path), "--out", tmp_path / "out")
    run(monkeypatch, case, *arguments)
    with pytest.raises(InputError, match=r"already holds 'dose\.json'"):
        run(monkeypatch, case, *arguments)
    assert run(monkeypatch, case, *arguments, "--overwrite") == 0


def test_the_dose_of_another_program_stays_even_if_overwriting_is_allowed(tmp_path, monkeypatch) -> None:
    case, _, dataset = a_study()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "RTDOSE.dcm").write_bytes(b"theirs")
    arguments = ("folder", "--plan", saved(dataset, tmp_path), "--out", tmp_path / "out", "--overwrite")
    with pytest.raises(InputError, match=r"RTDOSE\.dcm' was not written by deeprt dose and stays"):
        run(monkeypatch, case, *arguments)
    assert (tmp_path / "out" / "RTDOSE.dcm").read_bytes() == b"theirs"


def test_the_machine_of_a_configuration_is_used(tmp_path, monkeypatch) -> None:
    case, _, dataset = a_study()
    config = tmp_path / "settings.toml"
    config.write_text('machine = "generic_15mv"\n', encoding="utf-8")
    arguments = ("folder", "--plan", saved(dataset, tmp_path), "--out", tmp_path / "out", "--config", config)
    with pytest.raises(InputError, match=r"has 6 MV, and there is no machine of that energy \(there are: generic_15mv"):
        run(monkeypatch, case, *arguments)
    config.write_text("n_fractions = 5\n", encoding="utf-8")
    with pytest.raises(InputError, match="The number of fractions is the plan's own"):
        run(monkeypatch, case, *arguments)


def test_fractions_are_the_plans_own(tmp_path, monkeypatch) -> None:
    with pytest.raises(InputError, match="leave out --fractions"):
        run(monkeypatch, None, "folder", "--plan", "p.dcm", "--out", tmp_path / "out", "--fractions", 5)


def test_a_machine_of_another_energy_does_not_stand_in(tmp_path, monkeypatch) -> None:
    case, _, dataset = a_study()
    dataset.BeamSequence[1].ControlPointSequence[0].NominalBeamEnergy = 18
    arguments = ("folder", "--plan", saved(dataset, tmp_path), "--out", tmp_path / "out", "--machine", "generic_6mv")
    with pytest.raises(InputError, match=r"Beam 2 'G 250' has 18 MV, and there is no machine of that energy"):
        run(monkeypatch, case, *arguments)
