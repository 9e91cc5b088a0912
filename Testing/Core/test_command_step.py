"""``deeprt step``: steps in a work folder make what planning in one go makes, and say what they lack."""

import json
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from Core.fluence_prediction_samples import a_network_file
from Core.pipeline_samples import QUICK, a_virtual_case
from Core.plan_samples import a_case
from Core.same_values import assert_same
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose

from deeprt.cli import main
from deeprt.config import BeamSettings, Normalization
from deeprt.delivery.violations import violations
from deeprt.dicom.eclipse_fluence import read_eclipse_fluence
from deeprt.evaluation.compare import ComparisonSettings, compare
from deeprt.evaluation.dvh import structure_dvh
from deeprt.pipeline import plan_case
from deeprt.work_folder import WorkFolder

BEAMS = BeamSettings(gantry_deg=(10.0, 130.0, 245.0), couch_deg=(0.0, 10.0, 0.0), collimator_deg=15.0)
OPTIMIZE = replace(QUICK, beams=BEAMS)
TO_THE_MEAN = Normalization(rule="wished-mean")


def with_technique(config, technique):
    return replace(config, sequencing=replace(config.sequencing, technique=technique))


@pytest.fixture(scope="module")
def predict(tmp_path_factory):
    """A configuration whose fluence an untrained network predicts from a quick optimization."""
    network = a_network_file(tmp_path_factory.mktemp("network") / "fluence.safetensors")
    return replace(OPTIMIZE, fluence=replace(OPTIMIZE.fluence, method="network", network=str(network)))


def a_folder(path, config, case=None):
    """A work folder with what a session writes."""
    folder = WorkFolder(path)
    folder.write_case(case or a_case())
    folder.write_config(config)
    return folder


def step(name, folder, *options):
    """Exit status of a step."""
    return main(["step", name, str(folder.path), *map(str, options)])


def do(folder, *names):
    for name in names:
        assert step(name, folder) == 0


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """The virtual patient with fluence, segments and dose."""
    folder = a_folder(tmp_path_factory.mktemp("planned"), OPTIMIZE, a_virtual_case())
    do(folder, "fluence", "segments", "dose")
    return folder


# Step by step as in one go


@pytest.mark.parametrize("technique", ["step-and-shoot", "sliding-window"])
@pytest.mark.parametrize("method", ["optimize", "network"])
def test_steps_one_by_one_make_the_plan_that_is_made_in_one_go(tmp_path, predict, method, technique):
    config = with_technique(OPTIMIZE if method == "optimize" else predict, technique)
    folder, whole = a_folder(tmp_path, config), plan_case(a_case(), config)
    do(folder, "fluence", "segments", "dose")
    assert_same(folder.read_fluence(), whole.solution)
    assert_same(folder.read_segments(), whole.plan)
    assert_same(folder.read_dose(), whole.dose_gy)
    assert_same(folder.read_wished(), whole.wished_gy)
    assert (whole.wished_gy is None) == (method == "optimize")


def test_fluence_is_predicted_from_the_dose_that_is_given(tmp_path, predict):
    config = replace(predict, fluence=replace(predict.fluence, wished="given"), normalization=TO_THE_MEAN)
    folder, wished = a_folder(tmp_path, config), plan_case(a_case(), OPTIMIZE).dose_gy
    folder.write_wished(wished, a_case().grid)
    do(folder, "fluence", "segments", "dose")
    whole = plan_case(a_case(), config, wished_gy=wished)
    assert_same(folder.read_wished(), wished)
    assert_same(folder.read_segments(), whole.plan)
    assert_same(folder.read_dose(), whole.dose_gy)


def test_an_optimized_plan_may_keep_the_mean_of_a_given_dose(tmp_path):
    config, wished = replace(OPTIMIZE, normalization=TO_THE_MEAN), plan_case(a_case(), OPTIMIZE).dose_gy * 0.7
    folder = a_folder(tmp_path, config)
    assert step("fluence", folder) == 2  # nothing to keep the mean of
    folder.write_wished(wished.astype(np.float32), a_case().grid)
    do(folder, "fluence", "segments", "dose")
    target = a_case().structure("PTV_60")
    means = [structure_dvh(d, target.fraction, 1.0).mean_gy for d in (folder.read_dose(), wished)]
    assert_allclose(means[0], means[1], rtol=1e-5)
    assert_same(folder.read_dose(), plan_case(a_case(), config, wished_gy=wished).dose_gy)


# What the user edits between the steps


def test_edited_fluence_is_what_is_sequenced(tmp_path):
    folder = a_folder(tmp_path, OPTIMIZE)
    do(folder, "fluence", "segments")
    before, solution = folder.read_segments(), folder.read_fluence()
    first, *others = solution.fluence_mu
    half = first * (np.arange(first.shape[1]) < first.shape[1] // 2)
    folder.write_fluence(replace(solution, fluence_mu=(half, *others)))
    do(folder, "segments")
    widths = [
        sum((s.right_mm - s.left_mm).max() for s in plan.segments_of(0)) for plan in (before, folder.read_segments())
    ]
    assert widths[1] < 0.8 * widths[0]


def test_a_dose_that_is_computed_again_stays(tmp_path):
    folder = a_folder(tmp_path, OPTIMIZE)
    do(folder, "fluence", "segments", "dose")
    first = folder.read_dose()
    do(folder, "dose")
    assert_allclose(folder.read_dose(), first, rtol=1e-5, atol=1e-5)


def test_refining_pulls_the_dose_to_the_wished_one_and_normalizes_it(tmp_path, predict):
    folder = a_folder(tmp_path, replace(predict, normalization=TO_THE_MEAN))
    do(folder, "fluence")
    before, wished, factors = folder.read_fluence(), folder.read_wished(), (0.7, 1.2, 1.1)
    edited = tuple(factor * m for factor, m in zip(factors, before.fluence_mu, strict=True))
    folder.write_fluence(replace(before, fluence_mu=edited))
    assert step("refine", folder, "--iterations", 12) == 0
    after = folder.read_fluence()
    for factor, one, other in zip(factors, before.fluence_mu, after.fluence_mu, strict=True):
        assert abs(other.sum() / one.sum() - 1) < 0.3 * abs(factor - 1)
    high = wished > 0.3 * wished.max()
    assert np.sqrt(np.mean((after.dose_gy - wished)[high] ** 2)) < 0.01 * wished.max()
    target = a_case().structure("PTV_60").fraction
    means = [structure_dvh(d, target, 1.0).mean_gy for d in (after.dose_gy, wished)]
    assert_allclose(means[0], means[1], rtol=1e-5)
    assert after.source == "fluence network, 12 refinements" and after.notes == before.notes


# Comparison


def test_the_dose_is_compared_with_the_wished_one(planned):
    wished, case = (1.02 * planned.read_dose()).astype(np.float32), a_virtual_case()
    planned.write_wished(wished, case.grid)
    do(planned, "compare")
    numbers = planned.read_comparison()
    expected = compare(case, planned.read_dose(), wished, ComparisonSettings())
    assert_same(numbers.difference_gy, expected.difference_gy)
    assert [g.pass_rate for g in numbers.gammas] == [g.pass_rate for g in expected.gamma]
    content = json.loads((planned.path / "evaluation.json").read_text(encoding="utf-8"))
    assert [r["pass_rate"] for r in content["gamma"]["results"]] == [g.pass_rate for g in numbers.gammas]
    assert content["dose"]["goals"]["results"]
    assert "synthetic dose" in (planned.path / "evaluation.html").read_text(encoding="utf-8")


# Export


def test_a_planned_folder_is_exported_as_a_study(planned, tmp_path):
    images = a_virtual_case().resampled(10.0)
    planned.write_images(images)
    assert step("export", planned, "--out", tmp_path / "out", "--eclipse-fluence") == 0
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    fluence_names = [f"deeprt_fluence_{n}.optimal_fluence" for n in (1, 2, 3)]
    assert names == [
        "CT",
        "RTDOSE.dcm",
        "RTPLAN.dcm",
        "RTSTRUCT.dcm",
        *fluence_names,
        "plan.toml",
        "report.html",
        "report.json",
    ]
    plan, dataset = planned.read_segments(), pydicom.dcmread(tmp_path / "out" / "RTPLAN.dcm")
    metersets = [b.BeamMeterset for b in dataset.FractionGroupSequence[0].ReferencedBeamSequence]
    assert_allclose([float(m) for m in metersets], [plan.beam_mu(n) for n in range(3)], rtol=1e-6)
    dose = pydicom.dcmread(tmp_path / "out" / "RTDOSE.dcm")
    stored = dose.pixel_array * float(dose.DoseGridScaling)
    assert_allclose(stored, planned.read_dose(), atol=1e-4 * stored.max())
    assert len(list((tmp_path / "out" / "CT").iterdir())) == images.grid.shape[0]
    beam, fluence = plan.beams[1], planned.read_fluence().fluence_mu[1]
    assert_allclose(read_eclipse_fluence(tmp_path / "out" / fluence_names[1]).on_beamlets(beam), fluence, atol=1e-4)
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["total_mu"] == plan.total_mu and report["goals"]["results"]


def test_a_plan_is_replaced_only_when_told_to_and_then_as_a_whole(planned, tmp_path, capsys):
    out = ("--out", tmp_path / "out")
    assert step("export", planned, *out, "--eclipse-fluence") == 0
    assert step("export", planned, *out) == 2
    assert "already holds a plan; choose another folder or add --overwrite" in capsys.readouterr().err
    assert step("export", planned, *out, "--overwrite") == 0
    assert not list((tmp_path / "out").glob("*.optimal_fluence"))


def test_what_the_machine_cannot_deliver_is_not_exported(planned, tmp_path, capsys):
    folder, plan = a_folder(tmp_path / "work", OPTIMIZE, a_virtual_case()), planned.read_segments()
    first, *others = plan.segments
    folder.write_segments(replace(plan, segments=(replace(first, mu=5000.0), *others)))
    folder.write_dose(planned.read_dose())
    folder.write_fluence(planned.read_fluence())
    assert step("export", folder, "--out", tmp_path / "out") == 2
    (reason, *_) = violations(folder.read_segments())
    assert f"The plan cannot be delivered by generic_6mv: {reason}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_fluence_of_other_beams_is_not_exported(planned, tmp_path, capsys):
    folder = a_folder(tmp_path / "work", OPTIMIZE, a_virtual_case())
    solution = planned.read_fluence()
    folder.write_segments(planned.read_segments())
    folder.write_dose(planned.read_dose())
    folder.write_fluence(replace(solution, fluence_mu=solution.fluence_mu[:2]))
    assert step("export", folder, "--out", tmp_path / "out") == 2
    assert "are of different beams; run deeprt step segments" in capsys.readouterr().err


# What is missing


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("segments", "fluence.npz'; deeprt step fluence makes it."),
        ("dose", "segments.json'; deeprt step segments makes it."),
        ("compare", "dose.npz'; deeprt step dose makes it."),
        ("fluence", "plan.toml' names no beams; give their angles as beams.gantry_deg."),
    ],
)
def test_a_step_says_what_it_lacks(tmp_path, capsys, name, message):
    folder = a_folder(tmp_path, QUICK)
    assert step(name, folder, "--json-progress") == 2
    out, err = capsys.readouterr()
    assert err.rstrip().endswith(message)
    assert json.loads(out.splitlines()[-1])["error"].endswith(message)


def test_a_given_dose_that_is_not_there_is_asked_for(tmp_path, predict, capsys):
    folder = a_folder(tmp_path, replace(predict, fluence=replace(predict.fluence, wished="given")))
    assert step("fluence", folder) == 2
    assert "wished.npz'; give a dose, or let deeprt step fluence" in capsys.readouterr().err


def test_progress_is_reported_as_json_lines(tmp_path, capsys):
    folder = a_folder(tmp_path, OPTIMIZE)
    assert step("fluence", folder, "--json-progress") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert list(dict.fromkeys(line["step"] for line in lines)) == ["dose influence", "fluence"]
    assert lines[-1]["fraction"] == 1.0


# Other commands


def test_other_commands_take_the_case_of_a_work_folder(tmp_path, capsys):
    folder = a_folder(tmp_path / "work", QUICK, a_virtual_case())
    case, config = folder.path / "case.npz", folder.path / "plan.toml"
    arguments = [str(case), "--config", str(config)]
    assert main(["beams", *arguments, "--gantry", "10,200", "--out", str(folder.path)]) == 0
    assert [a.gantry_deg for a in folder.read_selection().angles] == [10.0, 200.0]
    assert main(["plan", *arguments, "--gantry", "10,130", "--eclipse-fluence", "--out", str(tmp_path / "plan")]) == 0
    assert len(list((tmp_path / "plan").glob("*.optimal_fluence"))) == 2
    assert len(list((tmp_path / "plan" / "CT").iterdir())) == a_virtual_case().grid.shape[0]
    dose = pydicom.dcmread(tmp_path / "plan" / "RTDOSE.dcm")
    assert dose.pixel_array.shape == a_virtual_case().grid.shape
    assert main(["plan", *arguments, "--dose-grid", "4", "--out", str(tmp_path / "other")]) == 2
    assert "is on the grid that it is to be planned on; leave out --dose-grid" in capsys.readouterr().err
