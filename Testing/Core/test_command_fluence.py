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
from Core.fluence_prediction_samples import a_network_file, a_paper_network
from Core.pipeline_samples import QUICK, a_study, a_virtual_case, a_virtual_plan
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose

from deeprt.cli import main
from deeprt.config import Normalization, read_config, read_protocol, to_plain
from deeprt.delivery.violations import violations
from deeprt.dose.influence import dose_influence
from deeprt.evaluation.dvh import structure_dvh
from deeprt.pipeline import find_fluence, plan_case

ANGLES = ("--gantry", "10,130,245")
QUICK_NOTE = "The wished dose, from which fluence was predicted, comes from a quick optimization."


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Folder with a study, a configuration that plans in seconds, a network, and the dose of an optimized plan."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "quick.toml").write_text(tomli_w.dumps(to_plain(QUICK)), encoding="utf-8")
    a_study(folder / "study")
    a_network_file(folder / "fluence.safetensors")
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


# deeprt plan --fluence network


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
    assert QUICK_NOTE not in result.notes
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


def test_segments_are_fitted_to_the_dose_that_the_fluence_was_predicted_from(given):
    plan, wished = a_virtual_plan(), colder_outside(a_virtual_plan().dose_gy)
    influence = dose_influence(plan.case, plan.plan.beams, plan.plan.machine)
    config = with_network(given / "fluence.safetensors")
    found = find_fluence(plan.case, influence, plan.plan.machine, plan.protocol, config, wished)
    assert found.wished_gy is wished and found.notes == ()
    there = torch.from_numpy(wished.ravel()[found.problem.operator.voxels])[None]
    values = [float(found.problem.value(there, dose)[0]) for dose in (there, there + 2)]
    assert_allclose(values, [0.0, 4.0], rtol=1e-5)  # mean squared difference, Gy²
    assert found.problem.roughness is None
