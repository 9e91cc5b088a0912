"""The fluence experiments: what is measured of maps and doses, and all of them on a phantom from end to end."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from Core.fluence_experiment_samples import GANTRY_DEG, a_planned_cohort, a_setup
from Core.plan_samples import a_case
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.errors import InputError
from deeprt.networks.beams_eye_view import ViewSampling
from deeprt.networks.checkpoint import save_training_state
from deeprt.networks.dual_frame import DualFrameConfig, ssim
from deeprt.progress import Silent
from deeprt.structures import Role
from deeprt.training import fluence as fluence_training
from deeprt.training.cohort import read_cohort
from deeprt.training.fluence import new_network
from deeprt.training.fluence_experiments import times
from deeprt.training.fluence_experiments.__main__ import main, run_experiments
from deeprt.training.fluence_experiments.maps import map_quality
from deeprt.training.fluence_experiments.openkbp import agreement
from deeprt.training.fluence_experiments.plans import plan_criteria
from deeprt.training.fluence_experiments.report import write_report
from deeprt.training.fluence_experiments.setup import Setup
from deeprt.training.loop import BEST, claim


def a_map(seed=0):
    """A smooth field of 40 by 60 pixels off the center, with leakage around it between the jaws."""
    y, x = np.mgrid[:128, :128]
    rng = np.random.default_rng(seed)
    waves = 0.2 + 0.05 * np.cos(x / rng.uniform(4, 6)) * np.sin(y / rng.uniform(4, 6))
    field = np.where((abs(x - 70) < 30) & (abs(y - 50) < 20), waves, 0.004)
    return np.where((abs(x - 70) < 36) & (abs(y - 50) < 26), field, 0).astype(np.float32)


# Maps


def test_a_map_agrees_with_itself():
    same = map_quality(a_map(), a_map())
    assert (same.mae, same.mae_field, same.mae_open, same.gamma) == (0, 0, 0, 1)
    assert_allclose([same.ssim, same.ssim_field], 1)


def test_errors_are_means_over_the_map_the_field_and_the_open_pixels():
    reference = a_map()
    predicted = reference + np.where(reference > 0.1, 0.01, 0.002).astype(np.float32)
    n_open, n_field = np.count_nonzero(reference > 0.1), np.count_nonzero(reference)
    found = map_quality(predicted, reference)
    assert_allclose(found.mae_open, 0.01, rtol=1e-5)
    assert_allclose(found.mae_field, (0.01 * n_open + 0.002 * (n_field - n_open)) / n_field, rtol=1e-5)
    assert_allclose(found.mae, (0.01 * n_open + 0.002 * (reference.size - n_open)) / reference.size, rtol=1e-5)


def test_the_similarity_is_that_of_the_loss_after_scaling_to_the_maximum():
    reference, predicted = a_map(), a_map(1)
    scaled = [torch.from_numpy(m / reference.max())[None] for m in (reference, predicted)]
    found = map_quality(predicted, reference)
    assert_allclose(found.ssim, ssim(*scaled, data_range=1.0)[0], rtol=1e-6)
    assert found.ssim_field < found.ssim, "zeros beyond the jaws agree"


def test_gamma_forgives_a_shift_by_one_pixel_and_not_by_two_where_the_map_is_steep():
    reference = a_map()
    one, two = (map_quality(np.roll(reference, n, axis=1), reference).gamma for n in (1, 2))
    assert one == 1 and two < 0.99


# Doses


def test_criteria_are_those_of_the_dose_scaled_to_the_whole_course():
    case = a_case()
    target = replace(case.targets[0], prescription_gy=44.0)
    organ = replace(case.with_role(Role.ORGAN_AT_RISK)[0], organ="Rectum")
    case = replace(case, structures=(case.external, target, organ))
    dose = np.full(case.grid.shape, 37.0, np.float32)  # 61.05 of 72.6 Gy
    dose[target.fraction > 0] = 44.1
    found = plan_criteria(case, dose)
    assert found["Rectum V60Gy"] == 100
    assert_allclose([found["HI"], plan_criteria(case, 0 * dose + 44.1)["PTV V72.6Gy"]], [0, 100], atol=0.1)
    inside = case.external.fraction[dose > 0.95 * 44].sum() / target.fraction.sum()
    assert_allclose(found["CI"], inside, rtol=1e-5)
    assert plan_criteria(case, dose * np.float32(59.9 / 61.05))["Rectum V60Gy"] < 40, "only at the target"


def test_agreement_counts_the_target_by_its_prescription():
    case = a_case()
    clinical = np.full(case.grid.shape, 50.0, np.float32)
    assert agreement(case, clinical, clinical) == {"gamma": 1, "target_error": 0, "body_error_gy": 0}
    found = agreement(case, clinical + 2, clinical)
    assert found["gamma"] == 0, "4 % everywhere"
    assert_allclose(found["target_error"], 2 / case.targets[0].prescription_gy, rtol=1e-5)
    assert_allclose(found["body_error_gy"], 2, rtol=1e-5)


# From end to end


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return a_planned_cohort(tmp_path_factory.mktemp("fluence"))


def rows_of(folder, file):
    return json.loads((folder / "out" / file).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def measured(folder):
    run_experiments(a_setup(folder), ["maps", "plans", "examples", "training"], Silent())
    return folder


def test_every_beam_is_measured_with_every_method_that_there_is(measured):
    maps, plans = rows_of(measured, "maps.json"), rows_of(measured, "plans.json")
    methods = ["inversion", "default", "default, refined 10"]
    assert [r["method"] for r in maps] == [m for m in ("central slice", *methods) for _ in GANTRY_DEG]
    assert [r["method"] for r in plans] == methods
    assert set(plans[0]["rss"]) == {"PTV", "SpinalCord"}


def test_the_untrained_network_is_the_inversion(measured):
    maps, plans = rows_of(measured, "maps.json"), rows_of(measured, "plans.json")
    inverted, own = ([r["mae"] for r in maps if r["method"] == m] for m in ("inversion", "default"))
    assert_allclose(own, inverted, rtol=1e-5)
    assert_allclose(plans[1]["synthetic"]["HI"], plans[0]["synthetic"]["HI"], rtol=1e-4)


def test_the_inversion_beats_the_central_slice_and_keeps_the_mean_dose(measured):
    maps, plans = rows_of(measured, "maps.json"), rows_of(measured, "plans.json")
    sliced, inverted = ([r["mae"] for r in maps if r["method"] == m] for m in ("central slice", "inversion"))
    assert max(inverted) < min(sliced)
    assert_allclose([r["factor"] for r in plans], 1, atol=0.05)


def test_the_page_is_written_of_what_was_measured(measured):
    write_report(measured / "out", measured / "page")
    page = (measured / "page" / "deepfluence.md").read_text(encoding="utf-8")
    assert "3 maps" in page and "Not run: there is no `times.json`" in page
    assert (measured / "page" / "deepfluence_worst.png").exists()


def test_a_network_that_is_trained_later_is_measured_then_and_nothing_else(measured, monkeypatch):
    before = {f: f.stat().st_mtime_ns for f in (measured / "out" / "parts").rglob("*.json")}
    small = DualFrameConfig(sampling=ViewSampling(n_slices=4, slice_mm=20.0), widths=(2, 2))
    monkeypatch.setitem(fluence_training.PAPER_CONFIGS, "paper", small)
    weights = measured / "runs" / "paper" / BEST
    save_training_state(weights, {"network": new_network("paper", 0).state_dict()})
    run_experiments(a_setup(measured), ["maps"], Silent())
    weights.unlink()
    after = {f: f.stat().st_mtime_ns for f in (measured / "out" / "parts").rglob("*.json")}
    assert {f: after[f] for f in before} == before
    (new,) = set(after) - set(before)
    assert new.parent.name.startswith("paper-")
    assert {r["method"] for r in rows_of(measured, "maps.json")} >= {"paper", "default"}


def test_times_are_taken_of_what_there_is(measured, monkeypatch):
    monkeypatch.setattr(times, "_REPEATS", 1)
    monkeypatch.setattr(times, "THREADS", 1)
    run_experiments(a_setup(measured), ["times"], Silent())
    found = rows_of(measured, "times.json")
    assert {k for k in found if k.endswith("_s")} == {
        "inversion_s", "view_s", "network_s", "seven_maps_s", "refinement_s",
    }  # fmt: skip
    assert found["seven_maps_s"][0] > 0 and found["n_beams"] == 3


# What is missing


def test_pictures_need_maps(tmp_path, capsys):
    arguments = ["--data", str(tmp_path), "--runs", str(tmp_path), "--out", str(tmp_path), "--only", "examples"]
    assert main(arguments) == 2
    assert "maps.json' is not there; run the experiment maps first" in capsys.readouterr().err


def test_a_network_that_is_not_trained_is_named(folder):
    assert a_setup(folder).trained == ("default",)
    with pytest.raises(InputError, match=r"no trained network '.*reversed.*'; train it with deeprt train fluence"):
        a_setup(folder).network("reversed")


def test_a_network_of_another_cohort_is_refused(folder, tmp_path):
    cohort = read_cohort(folder)
    for name, noted in (("default", cohort), ("paper", replace(cohort, patients=cohort.patients[1:]))):
        save_training_state(tmp_path / name / BEST, {"network": new_network(name, 0).state_dict()})
        claim(tmp_path / name, {"settings": {}, "cohort": asdict(noted)})
    setup = Setup(folder, tmp_path, tmp_path)
    assert_array_equal(setup.network("default").last.weight.detach(), 0)
    with pytest.raises(InputError, match="was trained on another cohort"):
        setup.network("paper")
