"""Predicted doses in the fluence experiments: scores on a made-up patient of OpenKBP, and plans of a phantom."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from Core.dose_samples import a_dose_network_file, a_packed_patient
from Core.fluence_experiment_samples import a_planned_cohort, a_setup
from Core.plan_samples import a_case
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose

from deeprt.evaluation.dvh import dvh
from deeprt.fluence.dose_prediction import even_dose
from deeprt.networks.dose_network import DoseConfig, DoseNetwork
from deeprt.progress import Silent
from deeprt.training.cohort import Cohort, read_cohort, write_cohort
from deeprt.training.dose_data import planned_case
from deeprt.training.fluence_experiments.__main__ import main, run_experiments
from deeprt.training.fluence_experiments.predicted_dose import HEAD_AND_NECK, PELVIS, dose_score, dvh_metrics
from deeprt.training.fluence_experiments.report import write_report
from deeprt.training.fluence_experiments.setup import REFERENCE
from deeprt.training.measuring.results import read_result

CONFIG = DoseConfig(("SpinalCord",), voxel_mm=4.0, widths=(4, 8))


def a_clinical_cohort(folder):
    """Write a cohort of OpenKBP whose patient for test has a target and a cord in the voxels that can get dose."""
    (folder / "packed").mkdir(parents=True)
    bits = ("PTV70", "SpinalCord", "possible_dose_mask")
    names = {"pt_7": "test", "pt_8": "development", "pt_9": "development"}
    write_cohort(
        Cohort(tuple(replace(a_packed_patient(folder / "packed", n, bits), split=s) for n, s in names.items())), folder
    )
    return folder


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    """Of both cohorts, with untrained networks."""
    folder = a_planned_cohort(tmp_path_factory.mktemp("dose"))
    for name in (PELVIS, HEAD_AND_NECK):
        a_dose_network_file(folder / "networks" / name, DoseNetwork(CONFIG))
    return replace(a_setup(folder), openkbp=a_clinical_cohort(folder / "openkbp"))


@pytest.fixture(scope="module")
def measured(setup):
    run_experiments(setup, ["dose"], Silent())
    return read_result(setup.out / "dose.json")


def row_of(rows, method):
    (row,) = (r for r in rows if r["method"] == method)
    return row


# Scores


def test_metrics_of_the_dvh_score_are_percentiles_of_the_voxels():
    case = a_case()
    dose = np.random.default_rng(3).uniform(0, 70, case.grid.shape).astype(np.float32)
    structures = tuple(replace(s, fraction=(s.fraction >= 0.5).astype(np.float32)) for s in case.structures)
    case = replace(case, structures=structures)
    found = dvh_metrics(case, dose)
    assert set(found) == {"PTV_50", "PTV_60", "Tube"}
    target, organ = (np.sort(dose[case.structure(n).fraction > 0]) for n in ("PTV_60", "Tube"))
    for percent in (99, 95, 1):  # between the doses of two neighbors
        near = (
            np.percentile(target, 100 - percent, method="lower"),
            np.percentile(target, 100 - percent, method="higher"),
        )
        assert near[0] <= found["PTV_60"][f"D{percent}"] <= near[1]
    n_voxels = int(np.ceil(0.1 / case.grid.voxel_volume_cc))
    assert_allclose([found["Tube"]["D0.1cc"], found["Tube"]["Dmean"]], [organ[-n_voxels], organ.mean()], rtol=1e-5)


def test_the_dose_score_is_the_mean_absolute_error_where_dose_is_possible():
    rng = np.random.default_rng(2)
    one, other = (rng.uniform(0, 70, (4, 5, 6)).astype(np.float32) for _ in range(2))
    possible = rng.random((4, 5, 6)) < 0.5
    assert_allclose(dose_score(one, other, possible), np.abs(one - other)[possible].sum() / possible.sum(), rtol=1e-5)
    assert dose_score(np.where(possible, one, other), one, possible) == 0


def test_scores_are_those_of_the_voxels_that_can_get_dose(setup, measured):
    (patient,) = read_cohort(setup.openkbp).of("test")
    planned = planned_case(setup.openkbp, patient, REFERENCE)
    target = planned.case.targets[0].fraction > 0  # and the cord, and where there can be dose
    even = 70 * even_dose(planned.case, planned.beams, planned.machine)[target]
    row = row_of(measured["openkbp"]["rows"], "even beams")
    assert_allclose(row["dose_score_gy"], np.abs(even - 20).mean(), rtol=1e-5)
    assert_allclose(row["dvh_errors_gy"]["SpinalCord"]["Dmean"], even.mean() - 20, rtol=1e-5)
    curve = dvh(even, np.ones_like(even), 1.0)
    assert_allclose(row["dvh_errors_gy"]["PTV70"]["D95"], curve.dose_at_volume(95) - 20, rtol=1e-5)
    assert {k: measured["openkbp"][k] for k in ("n_training", "n_validation")} == {"n_training": 1, "n_validation": 1}


def test_an_untrained_network_is_as_good_as_even_beams(measured):
    for cohort, key in (("openkbp", "dose_score_gy"), ("pelvis", "body_error")):
        even, own = (row_of(measured[cohort]["rows"], m)[key] for m in ("even beams", "dose network"))
        assert_allclose(own, even, rtol=0.03)  # on the network's voxels


# Plans and pictures


def test_a_plan_of_a_predicted_dose_gives_that_dose(measured):
    row = row_of(measured["pelvis"]["rows"], "dose network")
    assert row["to_predicted"]["gamma"] > 0.95 and row["to_predicted"]["target_error"] < 0.02
    plan = row["plan"]
    assert_allclose(plan["factor"], 1, atol=0.05)
    covered = [plan[which]["PTV V72.6Gy"] for which in ("reference", "synthetic")]
    assert covered[0] == 0 and covered[1] > 50, "the prediction knows the prescription, which the reference misses"
    assert "plan" not in row_of(measured["pelvis"]["rows"], "even beams")


def test_the_page_shows_the_patient_of_the_median_score(setup, measured, tmp_path):
    write_report(setup.out, tmp_path)
    page = (tmp_path / "deepfluence.md").read_text(encoding="utf-8")
    assert "![Clinical and predicted dose, difference, DVHs](deepfluence_dose.png)" in page
    assert (tmp_path / "deepfluence_dose.png").exists()
    shown = read_result(setup.out / "dose.npz")
    assert str(shown["caption"]).startswith("pt_7, dose score ")
    assert_allclose(shown["dose_clinical"][shown["contours"][1] > 0], 20)


def test_what_was_measured_is_kept_for_the_weights_of_all_networks(setup, measured, tmp_path):
    out = shutil.copytree(setup.out, tmp_path / "out")
    parts, own = out / "parts" / "dose", replace(setup, out=out)
    before = {f: f.stat().st_mtime_ns for f in parts.rglob("*.json")}
    assert {f.parent.name.partition("-")[0] for f in before} == {"even", "dose"} and len(before) == 4
    run_experiments(own, ["dose"], Silent())
    assert {f: f.stat().st_mtime_ns for f in parts.rglob("*.json")} == before
    run_experiments(replace(own, runs=tmp_path / "none"), ["dose"], Silent())  # without a network for fluence
    assert len(list(parts.rglob("*.json"))) == 5, "nothing else depends on it"
    assert "plan" not in row_of(read_result(out / "dose.json")["pelvis"]["rows"], "dose network")


def test_networks_that_are_not_there_are_left_out(setup, measured, tmp_path, caplog):
    places = [f"--{name}={folder}" for name, folder in (("data", setup.data), ("runs", setup.runs), ("out", tmp_path))]
    assert main([*places, "--only", "dose", f"--dose-networks={tmp_path}"]) == 0
    found = json.loads((tmp_path / "dose.json").read_text(encoding="utf-8"))
    assert found["openkbp"] is None and "Without --openkbp" in caplog.text
    assert [r["method"] for r in found["pelvis"]["rows"]] == ["even beams"] and found["pelvis"]["budget"] is None
    write_report(tmp_path, tmp_path / "page")
    assert "dose network: not trained" in (tmp_path / "page" / "deepfluence.md").read_text(encoding="utf-8")
