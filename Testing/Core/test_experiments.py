"""The experiments from end to end on three phantoms, and what they share: files, errors by size."""

import json

import numpy as np
import pytest
import torch
from Core.selection_samples import one_thread as one_thread
from Core.training_samples import N_STATES, a_cohort
from numpy.testing import assert_allclose

from deeprt.errors import InputError
from deeprt.networks.paper_network import PaperConfig, PaperNetwork
from deeprt.progress import Silent
from deeprt.training.beams import train_beams, trained_network
from deeprt.training.cohort import read_all_labels, read_cohort
from deeprt.training.dataset import anatomy_data, prepare_inputs, view_data
from deeprt.training.experiments import times
from deeprt.training.experiments.__main__ import EXPERIMENTS, Experiment, main, run_experiments
from deeprt.training.experiments.dose import median_pair
from deeprt.training.experiments.losses import by_size
from deeprt.training.experiments.proposals import AskedViews, by_anatomy, by_curves, by_views, mean_curves, propose
from deeprt.training.experiments.setup import Setup, load_labeled_patient, run_views, trained
from deeprt.training.experiments.statistics import read_results
from deeprt.training.loop import TrainSettings

QUICK = TrainSettings(epochs=1, steps_per_epoch=2, batch=4, rate=1e-3)


# Files


def test_an_experiment_whose_file_is_there_is_not_run_again(tmp_path, monkeypatch):
    runs = []
    monkeypatch.setitem(
        EXPERIMENTS, "times", Experiment("times.json", lambda setup, progress: runs.append(1) or {"n": 1})
    )
    setup = Setup(tmp_path, tmp_path, tmp_path / "out", tmp_path)
    assert run_experiments(setup, ["times"], Silent()) == [tmp_path / "out" / "times.json"]
    assert run_experiments(setup, ["times"], Silent()) == []
    assert runs == [1]
    assert json.loads((tmp_path / "out" / "times.json").read_text()) == {"n": 1}


def test_a_network_that_is_not_trained_is_named(tmp_path):
    (tmp_path / "default" / "fold-3").mkdir(parents=True)
    assert trained(tmp_path) == (), "a training that has not ended does not count"
    with pytest.raises(InputError, match=r"has no trained fold 1; train it with deeprt train beams"):
        trained_network(tmp_path / "default", "default", 1)


def test_a_dose_needs_plans_that_differ(tmp_path):
    setup = Setup(tmp_path, tmp_path, tmp_path, tmp_path)
    with pytest.raises(InputError, match="run the experiment plans first"):
        median_pair(setup)
    rows = [
        {"patient": "P", "scenario": n, "method": method, "fold": fold, "beams": beams, "objective": 1.0 + n}
        for n in range(3)
        for method, fold, beams in (("column generation", None, [1, 2]), ("default", 1, [2, 1 + (n == 2)]))
    ]
    (tmp_path / "plans.json").write_text(json.dumps(rows))
    assert [r["scenario"] for r in median_pair(setup)] == [2, 2]
    (tmp_path / "plans.json").write_text(json.dumps(rows[:4]))
    with pytest.raises(InputError, match="everywhere; there is no dose to compare"):
        median_pair(setup)


# Errors by size


def test_errors_are_averaged_by_number_of_beams_and_over_all_states():
    found = by_size(np.array([1.0, 2.0, 4.0, 5.0]), np.array([0, 1, 1, 3]))
    assert found == {"0": 1.0, "1": 3.0, "3": 5.0, "all": 3.0}


# All of it, on three phantoms


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Folder of a labeled cohort and of what was trained on it."""
    folder = tmp_path_factory.mktemp("cohort")
    a_cohort(folder)
    for runs in (folder / "runs", folder / "runs" / "openkbp"):
        train_beams(folder, "default", runs / "default", QUICK, n_folds=2)
    return folder, folder / "runs"


@pytest.fixture(scope="module")
def results(cohort, tmp_path_factory):
    """Folder of the results that the command line leaves."""
    (folder, runs), out = cohort, tmp_path_factory.mktemp("experiments")
    places = ["--data", str(folder), "--runs", str(runs), "--out", str(out), "--folds", "2"]
    real = str(folder / "patients" / "P1")
    names = ("training", "mse", "plans", "exchanged", "forced", "examples", "dose", "search", "real")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(times, "THREADS", 1)
        assert main([*places, "--only", *names, "--real", real, "--openkbp", str(folder)]) == 0
    return out


def test_the_report_reads_what_the_experiments_write(results):
    found = read_results(results)
    assert found.times is None
    assert found.training["cohort"]["n_states_test"] == N_STATES
    assert [f["fold"] for f in found.training["folds"]["default"]] == [1, 2]
    assert {p.method for p in found.plans} == {
        "column generation", "default", "default, exchanged", "coarse", "mean curve", "random", "equispaced",
    }  # fmt: skip
    for method in ("default", "default, exchanged"):
        assert {p.fold for p in found.plans if p.method == method} == {1, 2}


def test_the_error_of_a_fold_is_that_at_the_end_of_its_training(results):
    found = read_results(results)
    errors = found.mse["methods"]["default"]["per_fold"]
    for fold in found.training["folds"]["default"]:
        assert_allclose(errors[str(fold["fold"])]["all"], fold["test_best"], rtol=1e-4)  # float32 sums


def test_explained_variance_is_that_of_all_states(results):
    found = read_results(results).mse
    mean = np.mean([f["all"] for f in found["methods"]["default"]["per_fold"].values()])
    assert_allclose(found["explained_variance"]["default"], 1 - mean / found["label_variance"]["all"])


def test_all_methods_have_as_many_beams_as_column_generation(results):
    for plan in read_results(results).plans:
        assert len(set(plan.beams)) == 2
        assert plan.objective > 0
        assert set(plan.organs) == {"BODY", "PTV_60", "SpinalCord"}


def test_a_forced_beam_costs_something(results):
    (row,) = read_results(results).forced
    assert row["teacher_forced"] > row["teacher_free"]


def test_examples_are_of_one_run(results):
    found = read_results(results).examples
    assert found["sequence"]["patient"] == found["correction"]["patient"]
    assert [len(s["chosen_teacher"]) for s in found["sequence"]["steps"]] == [0, 1]
    assert [s["chosen"][0] for s in found["correction"]["steps"]] == [found["correction"]["forced"]]
    errors = [e["mse"] for e in found["worst"]["default"]]
    assert errors == sorted(errors, reverse=True)
    teacher, predicted = (np.array(found["worst"]["default"][0][k]) for k in ("teacher", "predicted"))
    assert_allclose(((teacher - predicted) ** 2).mean(), errors[0], atol=1e-4)  # curves are rounded to four digits


def test_searches_are_measured_beside_column_generation(results):
    rows = read_results(results).search
    assert [r["method"] for r in rows] == ["column generation", "exchange", *["guided search"] * 4]
    own, exchange = rows[:2]
    assert exchange["seconds"] > own["seconds"] == exchange["budget_s"]
    assert exchange["objective"] <= own["objective"] * (1 + 1e-3)  # solved anew, more tightly than in the search


def test_real_patients_are_measured_like_virtual_ones(results):
    found = read_results(results).real
    baselines = {"column generation", "coarse", "random", "equispaced", "default"}
    assert {(r["method"], r["scenario"]) for r in found["cort_prostate"]} == {
        (m, n) for m in baselines for n in range(10)
    }
    openkbp = found["openkbp"]
    assert (openkbp["n_train"], openkbp["n_development"], openkbp["n_test"]) == (1, 2, 1)
    of_mse = read_results(results).mse["methods"]
    for method, fold in (("default", "1"), ("coarse", "1"), ("mean curve", "1"), ("random", "1")):
        assert openkbp["mse"][method] == of_mse[method]["per_fold"][fold], "it is the same cohort"
    assert openkbp["mse"]["default, trained on prostate"] == openkbp["mse"]["default"], "and the same training"
    assert {r["method"] for r in openkbp["plans"]} == baselines | {"mean curve", "default, trained on prostate"}


def test_real_patients_that_are_not_there_are_named(cohort, tmp_path, caplog):
    folder, runs = cohort
    setup = Setup(folder, runs, tmp_path / "out", tmp_path / "nowhere")
    assert EXPERIMENTS["real"].make(setup, Silent()) == {}
    assert "There is no real prostate case" in caplog.text
    assert "Without --openkbp" in caplog.text


# What the networks are asked


def test_mean_curves_are_means_by_number_of_beams(cohort):
    folder, _ = cohort
    labels = read_all_labels(folder, read_cohort(folder), read_cohort(folder).of("development"))
    curves = mean_curves(labels)
    assert set(curves) == {0, 1}
    mine = [
        f for own in labels for f, c in zip(own.fitness.astype(np.float32), own.chosen, strict=True) if c.sum() == 1
    ]
    assert_allclose(curves[1], np.mean(mine, axis=0), rtol=1e-5)  # float32 sums
    assert propose(by_curves(curves), 2)[0] == np.argmax(curves[0])


def test_a_network_that_is_asked_predicts_what_it_was_measured_by(cohort):
    folder, runs = cohort
    patients = read_cohort(folder).of("test")
    prepare_inputs(folder, read_cohort(folder), "anatomy")
    paper = PaperNetwork(PaperConfig(n_candidates=36, encoder_channels=(2, 2, 2)), generator=torch.Generator()).eval()
    default = trained_network(runs / "default", "default", 1)
    views, anatomy = (
        view_data(folder, read_cohort(folder), patients),
        anatomy_data(folder, read_cohort(folder), patients),
    )
    patient = load_labeled_patient(folder, patients[0].id)
    chosen = patient.run(0)[:1]
    with torch.inference_mode():
        known_paper, known_default = anatomy.predict(paper, [1])[0].numpy(), views.predict(default, [1])[0].numpy()
    asked = AskedViews(run_views(patient)[0])
    assert_allclose(by_anatomy(paper, anatomy.patients[0], 0)(chosen), known_paper, atol=1e-5)
    assert_allclose(by_views(default, asked)(chosen), known_default, atol=5e-3)  # kept features are float16
