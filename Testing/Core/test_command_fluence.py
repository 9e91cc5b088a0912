"""``deeprt fluence`` and ``deeprt plan --fluence network``: plans whose fluence a network predicts from a dose."""

import json
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO

import numpy as np
import pydicom
import pytest
import tomli_w
import torch
from Core.dose_samples import a_dose_network_file
from Core.fluence_prediction_samples import a_network_file, a_paper_network
from Core.pipeline_samples import QUICK, a_study, a_virtual_case, a_virtual_plan
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose

from deeprt.cli import main
from deeprt.config import Normalization, read_config, read_protocol, to_plain
from deeprt.delivery.violations import violations
from deeprt.dose.influence import dose_influence
from deeprt.evaluation.dvh import structure_dvh
from deeprt.fluence import dose_prediction
from deeprt.fluence_finding import find_fluence
from deeprt.networks.dose_network import DoseConfig, DoseNetwork
from deeprt.pipeline import plan_case
from deeprt.preparation import prepared

ANGLES = ("--gantry", "10,130,245")
SOURCE_NOTE = "The wished dose, from which fluence was predicted, comes from"
QUICK_NOTE = f"{SOURCE_NOTE} a quick optimization."


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Folder with a study, a configuration that plans in seconds, a network, and the dose of an optimized plan."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "quick.toml").write_text(tomli_w.dumps(to_plain(QUICK)), encoding="utf-8")
    a_study(folder / "study")
    a_network_file(folder / "fluence.safetensors")
    untrained = DoseNetwork(DoseConfig(("Rectum",), widths=(4, 4)))
    a_dose_network_file(folder / "dose.safetensors", untrained, n_beams_min=4)
    assert plan(folder, folder / "optimized") == 0
    return folder


def plan(folder, out, *options):
    """``deeprt plan`` of the study."""
    return run("plan", folder, out, *options)


def fluence(folder, out, *options, dose=None):
    """``deeprt fluence`` of the study from the dose of the optimized plan, or another one."""
    network = ("--fluence-network", folder / "fluence.safetensors")
    dose = dose or folder / "optimized" / "RTDOSE.dcm"
    return run("fluence", folder, out, "--dose", dose, *network, *options)


def run(command, folder, out, *options):
    arguments = [command, folder / "study", "--config", folder / "quick.toml", *ANGLES, "--fractions", 20, *options]
    return main([*map(str, arguments), "--out", str(out)])


@pytest.fixture(scope="module")
def predicted(given):
    """Folder that the command wrote, and what it printed."""
    printed = StringIO()
    with redirect_stdout(printed):
        assert fluence(given, given / "predicted", "--refine", "3") == 0
    return given / "predicted", printed.getvalue()


@pytest.fixture
def refused(capsys, given):
    """Check that the command ends with status 2 and one sentence, and writes nothing."""

    def check(message, *options, **others):
        before = {p: p.stat().st_mtime_ns for p in given.rglob("*")}
        assert fluence(given, others.pop("out", given / "none"), *options, **others) == 2
        error = capsys.readouterr().err
        assert error.startswith("deeprt: ") and error.count("\n") == 1
        assert message in error
        assert {p: p.stat().st_mtime_ns for p in given.rglob("*")} == before

    return check


def written_dose(file):
    dataset = pydicom.dcmread(file)
    return dataset.pixel_array * float(dataset.DoseGridScaling)


# deeprt fluence


def test_plan_and_comparison_are_written(predicted):
    folder, _ = predicted
    assert sorted(p.name for p in folder.iterdir()) == [
        "RTDOSE.dcm", "RTPLAN.dcm", "evaluation.html", "evaluation.json", "plan.toml", "report.html", "report.json",
    ]  # fmt: skip


def test_the_plan_has_the_beams_asked_for_and_says_how_its_fluence_was_found(predicted):
    dataset = pydicom.dcmread(predicted[0] / "RTPLAN.dcm")
    assert [b.ControlPointSequence[0].GantryAngle for b in dataset.BeamSequence] == [10, 130, 245]
    used = read_config(predicted[0] / "plan.toml")
    assert (used.fluence.method, used.fluence.n_refinements) == ("network", 3)
    assert used.fluence.network.endswith("fluence.safetensors")
    assert used.normalization == Normalization(rule="wished-mean")


def test_the_synthetic_dose_comes_near_the_wished_one(given, predicted):
    wished, synthetic = (written_dose(f / "RTDOSE.dcm") for f in (given / "optimized", predicted[0]))
    high = wished > 0.2 * wished.max()
    assert np.abs(synthetic - wished)[high].mean() < 0.05 * wished.max()  # few segments


def test_the_comparison_is_that_with_the_wished_dose(predicted):
    content = json.loads((predicted[0] / "evaluation.json").read_text(encoding="utf-8"))
    assert content["dose"]["name"] == "synthetic dose"
    assert content["reference"]["name"] == "RTDOSE.dcm"
    means = [content[which]["metrics"]["PTV_60"]["Dmean"] for which in ("dose", "reference")]
    assert_allclose(means[0], means[1], rtol=1e-5)  # to which the plan is normalized
    assert content["gamma"]["results"][0]["pass_rate"] > 0.95


def test_what_was_reached_is_printed(predicted):
    printed = predicted[1]
    for words in ("gantry 130.0°", "PTV_60: D95", "against the wished dose:", "not for clinical use"):
        assert words in printed
    assert QUICK_NOTE not in printed


def test_the_plan_may_be_normalized_to_coverage(given, tmp_path, capsys):
    assert fluence(given, tmp_path / "out", "--normalize", "coverage", "--json-progress") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    used = read_config(tmp_path / "out" / "plan.toml")
    assert used.normalization is None  # the protocol's
    rule = read_protocol(used.protocol or "generic").normalization
    assert rule.volume_percent == 95.0
    assert_allclose(report["metrics"]["PTV_60"]["D95"], rule.dose_percent / 100 * 60, rtol=1e-4)
    steps = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "dose inversion" in [s.get("message") for s in steps]


def test_a_folder_with_a_plan_is_refused(given, predicted, refused):
    refused("predicted' already holds 'evaluation.json'; choose another folder or add --overwrite.", out=predicted[0])


def test_the_dose_of_another_patient_is_refused(refused, tmp_path, given):
    far = pydicom.dcmread(given / "optimized" / "RTDOSE.dcm")
    far.ImagePositionPatient = [float(p) + 1000 for p in far.ImagePositionPatient]
    far.save_as(tmp_path / "far.dcm")
    refused("it belongs to another case", dose=tmp_path / "far.dcm")


def test_a_network_that_is_not_there_is_refused(refused):
    refused("The network's model card", "--fluence-network", "/nowhere/fluence.safetensors")


def test_a_dose_must_be_given(given, capsys):
    with pytest.raises(SystemExit):
        run("fluence", given, given / "none")
    assert "--dose" in capsys.readouterr().err


# deeprt fluence --dose predict


def predict(folder, out, *options):
    """``deeprt fluence`` of the study from the dose that the network predicts."""
    return fluence(folder, out, "--dose-network", folder / "dose.safetensors", *options, dose="predict")


@pytest.fixture(scope="module")
def from_contours(given):
    """Folder that the command wrote, and what it printed."""
    printed = StringIO()
    with redirect_stdout(printed):
        assert predict(given, given / "contours", "--refine", "3") == 0
    return given / "contours", printed.getvalue()


def test_a_predicted_dose_is_what_the_synthetic_one_is_compared_with(given, from_contours):
    content = json.loads((from_contours[0] / "evaluation.json").read_text(encoding="utf-8"))
    assert (content["dose"]["name"], content["reference"]["name"]) == ("synthetic dose", "predicted dose")
    means = [content[which]["metrics"]["PTV_60"]["Dmean"] for which in ("dose", "reference")]
    assert_allclose(means[0], means[1], rtol=1e-5)  # to which the plan is normalized
    used = read_config(from_contours[0] / "plan.toml").fluence
    assert (used.method, used.wished, used.dose_network) == ("network", "predict", str(given / "dose.safetensors"))


def test_the_untrained_networks_plan_gives_the_dose_of_even_beams(from_contours):
    """Its dose is known: that of beams of equal fluence, of 60 Gy in the target."""
    content = json.loads((from_contours[0] / "evaluation.json").read_text(encoding="utf-8"))
    assert_allclose(content["reference"]["metrics"]["PTV_60"]["Dmean"], 60.0, rtol=0.03)  # coarse voxels
    assert content["gamma"]["results"][0]["pass_rate"] > 0.9


def test_the_plan_says_where_its_dose_comes_from_and_what_the_networks_have_not_learned(given, from_contours):
    folder, printed = from_contours
    notes = json.loads((folder / "report.json").read_text(encoding="utf-8"))["notes"]
    assert f"{SOURCE_NOTE} the dose network '{given / 'dose.safetensors'}'." in notes
    assert "The dose network has learned from plans of 4 to 5 beams, not 3." in notes
    assert "The dose network does not know these organs at risk: SpinalCord." in notes
    assert all(note in printed for note in notes)
    assert QUICK_NOTE not in notes


def test_a_dose_file_may_be_called_as_the_word(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "predict").write_bytes((given / "optimized" / "RTDOSE.dcm").read_bytes())
    assert fluence(given, tmp_path / "out", dose="./predict") == 0
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert content["reference"]["name"] == "predict"
    assert read_config(tmp_path / "out" / "plan.toml").fluence.wished == "given"


def test_a_plan_of_a_given_dose_is_not_made_again_without_it(given, tmp_path, capsys):
    config = tmp_path / "plan.toml"
    config.write_text('[fluence]\nmethod = "network"\nwished = "given"\n', encoding="utf-8")
    assert plan(given, tmp_path / "out", "--config", config) == 2
    assert "says that a wished dose is given; name it with deeprt fluence --dose" in capsys.readouterr().err


def test_a_dose_network_beside_a_given_dose_is_refused(refused, given):
    refused("dose.safetensors' would not be asked; add --dose predict.", "--dose-network", given / "dose.safetensors")


def test_without_a_shipped_dose_network_one_must_be_named(refused, monkeypatch):
    monkeypatch.setattr(dose_prediction, "_shipped", lambda: ())
    refused("No dose network ships with this version; train one with deeprt train dose", dose="predict")


# deeprt plan --fluence network


def test_a_plan_may_begin_with_a_predicted_dose(given, tmp_path, capsys):
    networks = ("--fluence-network", given / "fluence.safetensors", "--dose-network", given / "dose.safetensors")
    assert plan(given, tmp_path / "out", "--fluence", "network", "--dose", "predict", *networks) == 0
    printed = capsys.readouterr().out
    assert f"{SOURCE_NOTE} the dose network" in printed and QUICK_NOTE not in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dose", "predict"), "--dose has no effect where fluence is optimized; add --fluence network."),
        (("--refine", 3), "--refine has no effect where fluence is optimized; add --fluence network."),
        (("--dose-network", "a.safetensors"), "--dose-network has no effect where fluence is optimized; add --fluence"),
        (("--fluence-network", "a.safetensors"), "--fluence-network has no effect where fluence is optimized"),
        (
            ("--fluence", "network", "--dose-network", "a.safetensors"),
            "--dose-network 'a.safetensors' would not be asked; add --dose predict.",
        ),
        (
            ("--fluence", "network", "--dose", "optimize", "--dose-network", "a.safetensors"),
            "--dose-network 'a.safetensors' would not be asked; add --dose predict.",
        ),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_options_that_would_have_no_effect_are_refused(given, tmp_path, capsys, options, message):
    assert plan(given, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"deeprt: {message}") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_plan_from_a_quick_optimization_says_so(given, tmp_path, capsys):
    network = ("--fluence", "network", "--fluence-network", given / "fluence.safetensors", "--refine", 1)
    assert plan(given, tmp_path / "out", *network) == 0
    assert QUICK_NOTE in capsys.readouterr().out
    assert QUICK_NOTE in json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["notes"]
    assert "comes from a quick optimization" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


# plan_case


def with_network(file, **fluence_settings):
    return replace(QUICK, fluence=replace(QUICK.fluence, method="network", network=str(file), **fluence_settings))


def test_a_given_dose_is_what_the_plan_is_made_from(given):
    wished = a_virtual_plan().dose_gy
    config = replace(with_network(given / "fluence.safetensors"), normalization=Normalization(rule="wished-mean"))
    result, other = (plan_case(a_virtual_case(), config, wished_gy=dose) for dose in (wished, colder_outside(wished)))
    assert not any(note.startswith(SOURCE_NOTE) for note in result.notes)
    assert result.wished_gy is wished
    assert result.solution.source == "fluence network"
    assert violations(result.plan) == ()
    target = result.case.targets[0].fraction
    means = [structure_dvh(d, target, 1.0).mean_gy for d in (result.dose_gy, result.solution.dose_gy, wished)]
    assert_allclose(means, means[2], rtol=1e-5)
    changes = [a - b for a, b in zip(other.solution.fluence_mu, result.solution.fluence_mu, strict=True)]
    assert max(np.abs(change).max() for change in changes) > 0.1


def colder_outside(dose_gy):
    """The dose with less of it where it is low."""
    return np.where(dose_gy < 30, 0.7 * dose_gy, dose_gy).astype(np.float32)


def test_a_sliding_window_keeps_the_mean_dose_as_well(given):
    wished = a_virtual_plan().dose_gy
    sliding = replace(QUICK.sequencing, technique="sliding-window", n_control_points=20)
    config = replace(with_network(given / "fluence.safetensors"), sequencing=sliding)
    config = replace(config, normalization=Normalization(rule="wished-mean"))
    result = plan_case(a_virtual_case(), config, wished_gy=wished)
    target = result.case.targets[0].fraction
    means = [structure_dvh(d, target, 1.0).mean_gy for d in (result.dose_gy, wished)]
    assert_allclose(means[0], means[1], rtol=1e-5)
    assert violations(result.plan) == ()


def test_the_papers_network_plans_as_well(given, tmp_path):
    file = a_network_file(tmp_path / "paper.safetensors", a_paper_network())
    result = plan_case(a_virtual_case(), with_network(file))
    assert result.solution.source == "dual-frame U-Net"
    assert QUICK_NOTE in result.notes
    assert violations(result.plan) == ()


def test_an_optimized_plan_does_not_use_a_given_dose():
    wished = colder_outside(a_virtual_plan().dose_gy)
    assert np.array_equal(plan_case(a_virtual_case(), QUICK, wished_gy=wished).dose_gy, a_virtual_plan().dose_gy)
    assert "optimization" not in " ".join(a_virtual_plan().notes)
    assert a_virtual_plan().wished_gy is None


def test_segments_are_fitted_to_the_dose_that_the_fluence_was_predicted_from(given):
    plan, wished = a_virtual_plan(), colder_outside(a_virtual_plan().dose_gy)
    influence = dose_influence(plan.case, plan.plan.beams, plan.plan.machine)
    config = with_network(given / "fluence.safetensors")
    found = find_fluence(prepared(plan.case, config), influence, wished)
    assert found.wished_gy is wished
    there = torch.from_numpy(wished.ravel()[found.problem.operator.voxels])[None]
    values = [float(found.problem.value(there, dose)[0]) for dose in (there, there + 2)]
    assert_allclose(values, [0.0, 4.0], rtol=1e-5)  # mean squared difference, Gy²
    assert found.problem.roughness is None
