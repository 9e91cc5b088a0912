import errno
import json
import shutil
from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from Core.dicom_samples import Roi, ct_slices, rectangle, save
from Core.pipeline_samples import BODY, CORD, PLANES, QUICK, SHAPE, a_phantom_ct, a_study, a_virtual_plan
from pydicom.uid import MRImageStorage

import deeprt
from deeprt import export, pipeline
from deeprt.cli import main
from deeprt.config import read_config, to_plain

CASES = Path(__file__).parents[3] / "shared" / "cases"


@pytest.fixture
def study(tmp_path):
    return a_study(tmp_path / "study")


@pytest.fixture
def quick(tmp_path):
    """A configuration file that plans in seconds."""
    path = tmp_path / "quick.toml"
    path.write_text(tomli_w.dumps(to_plain(QUICK)))
    return path


@pytest.fixture
def refused(capsys, tmp_path):
    """Run ``deeprt plan`` and check that it ends with status 2 and one sentence, and writes nothing."""

    def check(message, *arguments, out=None):
        folder = out or tmp_path / "out"
        before = sorted(p.name for p in folder.parent.iterdir())
        assert main(["plan", *map(str, arguments), "--out", str(folder)]) == 2
        streams = capsys.readouterr()
        assert streams.err.startswith("deeprt: ")
        assert streams.err.count("\n") == 1
        assert message in streams.err
        assert "Traceback" not in streams.err
        assert sorted(p.name for p in folder.parent.iterdir()) == before

    return check


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A plan of the phantom by the command line: its folder and the lines that it printed."""
    folder = tmp_path_factory.mktemp("planned")
    (folder / "quick.toml").write_text(tomli_w.dumps(to_plain(QUICK)))
    arguments = ["plan", str(a_study(folder / "study")), "--out", str(folder / "new" / "plan"), "--json-progress"]
    arguments += ["--config", str(folder / "quick.toml"), "--gantry", "10,120.5", "--fractions", "30", "--seed", "5"]
    printed = StringIO()
    with redirect_stdout(printed):
        assert main(arguments) == 0
    return folder / "new" / "plan", printed.getvalue().splitlines()


# A plan


def test_a_plan_is_written_completely_and_nothing_else(planned):
    folder, _ = planned
    names = {p.name for p in folder.iterdir()}
    assert names == {"RTPLAN.dcm", "RTDOSE.dcm", "report.json", "report.html", "plan.toml"}  # CT and RTSTRUCT are there
    assert [p.name for p in folder.parent.iterdir()] == ["plan"]


def test_options_go_before_the_file_and_are_kept_with_the_plan(planned):
    used = read_config(planned[0] / "plan.toml")
    assert used.beams.gantry_deg == (10.0, 120.5)
    assert (used.n_fractions, used.seed) == (30, 5)
    assert used.fluence == QUICK.fluence
    report = json.loads((planned[0] / "report.json").read_text())
    assert [b["gantry_deg"] for b in report["beams"]] == [10.0, 120.5]
    assert report["seed"] == 5


def test_json_progress_is_one_object_a_line_that_runs_from_reading_to_export(planned):
    folder, lines = planned
    records = [json.loads(line) for line in lines]
    assert all(0 <= r["fraction"] <= 1 for r in records)
    assert all(later["elapsed_s"] >= r["elapsed_s"] for r, later in pairwise(records))
    steps = list(dict.fromkeys(r["step"] for r in records))
    assert steps[0] == "Reading case"
    assert steps[-1] == "export"
    assert {"dose influence", "fluence", "segments"} <= set(steps)
    assert (records[-1]["fraction"], records[-1]["message"]) == (1.0, str(folder))


def test_structures_result_and_defaults_are_shown(capsys, study, quick, tmp_path):
    out = tmp_path / "out"
    assert main(["plan", str(study), "--out", str(out), "--config", str(quick), "--beams", "2"]) == 0
    shown = capsys.readouterr().out
    for expected in ("PTV_60", "target", "60 Gy", "SpinalCord", "organ_at_risk", "protocol", "fractions", "MU", "D95",
                     "Goals:", str(out), "not a medical device"):  # fmt: skip
        assert expected in shown


def test_prescriptions_of_the_command_line_reach_the_plan(study, quick, tmp_path):
    out = tmp_path / "out"
    arguments = ["plan", str(study), "--out", str(out), "--config", str(quick), "--prescription", "PTV_60=54"]
    assert main(arguments) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["metrics"]["PTV_60"]["prescription_gy"] == 54.0


def test_help_and_version(capsys):
    for arguments, expected in (
        (["--version"], f"deeprt {deeprt.__version__}"),
        (["--help"], "plan a case end to end"),
        (["plan", "--help"], "--prescription"),
    ):
        with pytest.raises(SystemExit) as done:
            main(arguments)
        assert done.value.code == 0
        assert expected in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["plan"], ["plan", "x"], ["plan", "x", "--out", "y", "--beams", "five"],
                                       ["plan", "x", "--out", "y", "--beams", "3", "--gantry", "0"]])  # fmt: skip
def test_a_wrong_command_line_ends_with_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 2
    assert "usage: deeprt" in capsys.readouterr().err


# Bad input: what was read


def test_a_folder_without_ct_is_refused(tmp_path, refused):
    refused("holds no CT slices", a_study(tmp_path / "study", slices=[]))
    refused("does not exist", tmp_path / "nowhere")


def test_mr_in_place_of_ct_is_refused(tmp_path, refused):
    slices = a_phantom_ct()
    for data in slices:
        data.SOPClassUID, data.Modality = MRImageStorage, "MR"
    refused("holds no CT slices, only 12 of MR", a_study(tmp_path / "study", slices=slices))


def test_no_target_is_refused(tmp_path, refused):
    refused("No structure is a target", a_study(tmp_path / "study", BODY, CORD))


def test_an_empty_target_is_refused(tmp_path, refused):
    refused("Target 'PTV_60' has no contours", a_study(tmp_path / "study", BODY, CORD, Roi("PTV_60", "PTV", [])))


def test_a_target_outside_the_body_is_refused(tmp_path, refused):
    outside = Roi("PTV_60", "PTV", rectangle((40, 60), (-10, 10), PLANES[3:9]))
    refused("Target 'PTV_60' lies outside the external 'BODY'", a_study(tmp_path / "study", BODY, CORD, outside))


def test_a_structure_set_of_another_frame_of_reference_is_refused(tmp_path, refused):
    refused("lies in the frame of reference 1.2.9", a_study(tmp_path / "study", frame_of_reference_uid="1.2.9"))


def test_missing_and_duplicated_slices_are_refused(tmp_path, refused):
    slices = a_phantom_ct()
    refused("slices are missing there", a_study(tmp_path / "missing", slices=slices[:5] + slices[6:]))
    copy = ct_slices(np.zeros((1, *SHAPE[1:]), np.int16), first_voxel_lps=(-62.0, -50.0, 16.0))[0]
    copy.SeriesInstanceUID = slices[0].SeriesInstanceUID
    refused("are duplicates: both lie at z = 16 mm", a_study(tmp_path / "twice", slices=[*slices, copy]))


def test_a_tilted_gantry_and_a_sagittal_ct_are_refused(tmp_path, refused):
    tilted, sagittal = a_phantom_ct(), a_phantom_ct()
    for n, data in enumerate(tilted):
        data.ImagePositionPatient = [-62, -50 + 0.6 * n, 10 + 3 * n]
    for data in sagittal:
        data.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    refused("(gantry tilt?)", a_study(tmp_path / "tilted", slices=tilted))
    refused("is not axial", a_study(tmp_path / "sagittal", slices=sagittal))


def test_a_truncated_file_is_refused(study, refused):
    path = sorted(study.glob("CT*"))[3]
    path.write_bytes(path.read_bytes()[:-500])
    refused(path.name, study)


@pytest.mark.skipif(not (CASES / "corrupt").is_dir(), reason="shared/cases/corrupt is not there")
def test_a_corrupt_file_among_good_ones_is_refused(study, refused):
    shutil.copy(CASES / "corrupt" / "RP_corrupted_by_CRLF.dcm", study)
    refused("looks like DICOM but is corrupt", study)


def test_several_series_are_listed_with_the_option_that_chooses(study, refused):
    save(a_phantom_ct(), study)
    refused("2 CT series; choose one with --series UID", study)
    refused("no CT series with a UID ending in '9.9'", study, "--series", "9.9")


def test_a_ct_without_segmentation_and_a_virtual_patient_that_is_not_there_are_refused(tmp_path, refused):
    (tmp_path / "ct.nrrd").write_bytes(b"NRRD0005\n")
    refused("ct.nrrd", tmp_path / "ct.nrrd")
    refused("There is no virtual patient 'virtual:lung'; use virtual:prostate", "virtual:lung")


# Bad input: what was asked for


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--machine", "linac9"], "No machine 'linac9': it is neither a file nor one of generic_15mv, generic_6mv"),
        (["--protocol", "lung9"], "No protocol 'lung9': it is neither a file nor one of generic"),
        (["--hu-table", "none.csv"], "HU table 'none.csv' cannot be read"),
        (["--config", "none.toml"], "Cannot read 'none.toml': No such file or directory."),
        (["--prescription", "PTV"], "--prescription 'PTV' is not understood; write it like PTV=60, in Gy."),
        (["--prescription", "PTV_60=x"], "--prescription 'PTV_60=x' is not understood"),
        (["--prescription", "PTV_60=-5"], "The prescription of 'PTV_60' must be positive, got -5 Gy."),
        (["--prescription", "Prostate=60"], "No structure 'Prostate' in this case; it has BODY, PTV_60, SpinalCord."),
        (["--gantry", "0;90"], "--gantry '0;90' is not a list of angles; write it like 0,72,144."),
        (["--gantry", "0,nan"], "Gantry angles must be finite, got [0.0, nan]."),
        (["--beams", "0"], "The number of beams must be at least 1, got 0."),
        (["--network", "own.safetensors"], "--network 'own.safetensors' would not be asked; add --select network."),
        (["--fractions", "0"], "The number of fractions must be at least 1, got 0."),
        (["--dose-grid", "0.2"], "The dose grid must be 1 to 10 mm, got 0.2 mm."),
        (["--fluence", "network", "--fluence-network", "none.safetensors"], "none.json' cannot be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_refused(study, refused, options, message):
    refused(message, study, *options)


def test_more_fractions_than_the_machine_can_deliver_segments_for_are_refused(study, quick, refused):
    refused("is too little for a segment", study, "--config", quick, "--fractions", "5000")


def test_an_unknown_configuration_key_is_refused(study, refused, tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text("[fluence]\nsmooth = 3\n")
    refused("plan.toml, fluence: unknown key 'smooth' (known are method, network", study, "--config", path)


def test_cuda_without_a_device_is_refused(study, refused, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refused("No CUDA device is available; use --device cpu.", study, "--device", "cuda")


def test_a_target_too_large_for_the_machine_is_refused(study, refused, tmp_path):
    source = Path(deeprt.__file__).parent / "data" / "machines" / "generic_6mv.json"
    small = json.loads(source.read_text())
    small["jaws"]["max_x_mm"]["value"] = 10.0
    (tmp_path / "small.json").write_text(json.dumps(small))
    refused("move the isocenter or split the target", study, "--machine", tmp_path / "small.json")


def test_an_output_folder_with_a_plan_is_refused_before_anything_is_read(refused, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "RTPLAN.dcm").write_text("a plan")
    refused("already holds a plan; choose another folder or add --overwrite", tmp_path / "no case", out=folder)
    assert (folder / "RTPLAN.dcm").read_text() == "a plan"
    refused("is a file; give a folder", tmp_path / "no case", out=folder / "RTPLAN.dcm")


def test_errors_come_as_json_too(capsys, tmp_path):
    assert main(["plan", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"), "--json-progress"]) == 2
    streams = capsys.readouterr()
    last = json.loads(streams.out.splitlines()[-1])
    assert set(last) == {"error"}
    assert streams.err == f"deeprt: {last['error']}\n"


# What goes wrong on the way


@pytest.fixture
def planned_at_once(monkeypatch):
    """Planning takes no time: export is what these tests are about."""
    monkeypatch.setattr(pipeline, "plan_case", lambda case, config, progress=None, *, wished_gy=None: a_virtual_plan())


def everything_in(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("writer", ["write_dataset", "write_report", "_move_into"])
def test_a_full_disk_leaves_nothing_behind(refused, planned_at_once, monkeypatch, writer):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export, writer, full)
    refused("No space left on device; nothing was kept of it.", "virtual:prostate")


def test_a_full_disk_leaves_an_older_plan_as_it_was(capsys, planned_at_once, monkeypatch, planned, tmp_path):
    folder = tmp_path / "plan"
    shutil.copytree(planned[0], folder)
    before = everything_in(tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export, "write_report", full)
    assert main(["plan", "virtual:prostate", "--out", str(folder), "--overwrite"]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert everything_in(tmp_path) == before


def test_a_folder_that_cannot_be_made_is_refused(capsys, planned_at_once, tmp_path):
    (tmp_path / "file").write_text("")
    assert main(["plan", "virtual:prostate", "--out", str(tmp_path / "file" / "plan")]) == 2
    assert "deeprt: Cannot write the plan to" in capsys.readouterr().err


@pytest.mark.parametrize("step", ["Reading case", "fluence", "export"])
def test_a_cancelled_run_leaves_nothing_behind(capsys, study, quick, tmp_path, monkeypatch, step):
    def cancel(self, name, fraction, message=""):
        if name == step:
            raise KeyboardInterrupt

    monkeypatch.setattr("deeprt.progress.JsonLines.step", cancel)
    before = everything_in(tmp_path)
    assert main(["plan", str(study), "--out", str(tmp_path / "out"), "--config", str(quick), "--json-progress"]) == 130
    assert capsys.readouterr().err == "deeprt: cancelled; nothing was written.\n"
    assert everything_in(tmp_path) == before


def test_a_run_cancelled_while_it_writes_leaves_nothing_behind(capsys, planned_at_once, monkeypatch, tmp_path):
    def cancel(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "write_report", cancel)
    assert main(["plan", "virtual:prostate", "--out", str(tmp_path / "out")]) == 130
    assert list(tmp_path.iterdir()) == []
