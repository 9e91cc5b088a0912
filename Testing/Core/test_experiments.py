import json
import time
from functools import cache, partial
from multiprocessing import dummy

import numpy as np
import pytest
import torch
from Core.plan_samples import a_case
from Core.selection_samples import MACHINE, a_selection_problem
from Core.selection_samples import one_thread as one_thread
from Core.training_samples import N_STATES, a_cohort, without_processes
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.errors import InputError
from deeprt.evaluation.dvh import dvh
from deeprt.networks.paper_network import PaperConfig, PaperNetwork
from deeprt.orientation.candidates import candidate_beams
from deeprt.orientation.column_generation import fitness_of, generate_columns, solve_limited
from deeprt.progress import Silent
from deeprt.training.beams import train_beams
from deeprt.training.cohort import labelled, read_cohort
from deeprt.training.dataset import anatomy_data, prepare_inputs, view_data
from deeprt.training.experiments import setup, times
from deeprt.training.experiments.__main__ import EXPERIMENTS, Experiment, main, run_experiments
from deeprt.training.experiments.dose import median_pair
from deeprt.training.experiments.losses import by_size, settings_text
from deeprt.training.experiments.plans import PlanSolver, organ_doses, plan_metrics
from deeprt.training.experiments.proposals import (
    AskedViews,
    by_anatomy,
    by_coarse,
    by_curves,
    by_views,
    equispaced_beams,
    mean_curves,
    propose,
    random_beams,
)
from deeprt.training.experiments.setup import (
    Setup,
    in_parts,
    labelled_patient,
    run_views,
    trained,
    trained_network,
)
from deeprt.training.experiments.statistics import better_shares, compared, plans_of, read_results
from deeprt.training.loop import TrainSettings

QUICK = TrainSettings(epochs=1, steps_per_epoch=2, batch=4, rate=1e-3)


def curve_of(dose, measure=None):
    dose = np.asarray(dose, np.float32)
    return dvh(dose, np.ones_like(dose) if measure is None else np.asarray(measure, np.float32), 1.0)


# Metrics


def test_a_target_in_a_homogeneous_dose_that_ends_at_its_edge_is_ideal():
    metrics = plan_metrics(curve_of([60.0] * 10), curve_of([60.0] * 10 + [0.0] * 90), 60.0)
    assert metrics == {"D98": 1.0, "D99": 1.0, "Dmax": 1.0, "homogeneity": 0.0, "van_t_riet": 1.0, "R50": 1.0}


def test_metrics_of_a_dose_that_rises_linearly_are_known():
    """Target from 80 % to 120 % of 50 Gy, and around it twice its volume from 0 to 100 %."""
    n = 4000
    along = (np.arange(n) + 0.5) / n
    target, around = 40 + 20 * along, 50 * np.repeat(along, 2)
    metrics = plan_metrics(curve_of(target), curve_of(np.concatenate([target, around])), 50.0)
    known = {"D98": 0.808, "D99": 0.804, "Dmax": 1.2, "homogeneity": 0.384, "van_t_riet": 0.5, "R50": 2.0}
    assert_allclose([metrics[k] for k in known], list(known.values()), atol=2 / n)  # a step of the dose


def test_sampled_voxels_stand_for_those_left_out():
    rng = np.random.default_rng(1)
    target, body = rng.uniform(45, 55, 30), rng.uniform(0, 55, 100)
    thrice = curve_of(np.repeat(body, 3))
    assert_allclose(
        list(plan_metrics(curve_of(target), curve_of(body, np.full(100, 3.0)), 50.0).values()),
        list(plan_metrics(curve_of(target), thrice, 50.0).values()),
    )


def test_metrics_without_any_prescribed_dose_are_zero_where_they_count_it():
    metrics = plan_metrics(curve_of([20.0] * 10), curve_of([20.0] * 100), 50.0)
    assert (metrics["van_t_riet"], metrics["R50"], metrics["Dmax"]) == (0.0, 0.0, 0.4)


def test_doses_of_organs_are_means_over_their_voxels_and_shares():
    problem = a_selection_problem()
    dose = np.random.default_rng(2).uniform(0, 60, problem.pool.voxels.size).astype(np.float32)
    organs = organ_doses(dose, a_case(), problem.terms, 60.0)
    assert set(organs) == {"Körper", "PTV_50", "PTV_60", "Tube"}, "tuning structures are none"
    tube = next(t for t in problem.terms if t.structure == "Tube")
    measure, inside = tube.measure.numpy(), dose[tube.index.numpy()]
    assert_allclose(organs["Tube"]["mean"], (measure * inside).sum() / measure.sum() / 60, rtol=1e-5)  # float32 sums
    assert_allclose(organs["Tube"]["max"], inside.max() / 60)


# Proposals


def test_no_beam_is_proposed_twice():
    assert propose(lambda chosen: np.zeros(6, np.float32), 6) == (0, 1, 2, 3, 4, 5)
    rng = np.random.default_rng(3)
    drawn = propose(lambda chosen: rng.random(9).astype(np.float32), 9, given=(4, 2))
    assert drawn[:2] == (4, 2)
    assert sorted(drawn) == list(range(9))
    assert len(set(random_beams(7, 7, (1, 2)))) == 7


def test_proposals_are_asked_for_with_the_beams_chosen_before():
    asked = []

    def fitness(chosen):
        asked.append(chosen)
        return np.array([0.1, 0.5, 0.9, 0.7], np.float32)

    assert propose(fitness, 3) == (2, 3, 1)
    assert asked == [(), (2,), (2, 3)]


def test_equispaced_beams_are_the_nearest_candidates():
    candidates = candidate_beams("coplanar:2", MACHINE.clearance)
    assert [candidates[b].gantry_deg for b in equispaced_beams(candidates, 5)] == [0.0, 72.0, 144.0, 216.0, 288.0]
    assert [candidates[b].gantry_deg for b in equispaced_beams(candidates, 7)][1] == 52.0


def test_random_beams_follow_their_seed():
    assert random_beams(180, 5, (7, 0)) == random_beams(180, 5, (7, 0))
    assert random_beams(180, 5, (7, 0)) != random_beams(180, 5, (7, 1))


class CountedViews:
    def __init__(self, problem):
        self.problem, self.asked = problem, []

    def of(self, chosen):
        self.asked.append([a.gantry_deg for a in chosen])
        return np.random.default_rng(len(chosen)).random((len(self.problem.candidates), 2)).astype(np.float32)


def test_views_of_a_set_are_computed_once_for_all_methods():
    counted = CountedViews(a_selection_problem())
    views = AskedViews(counted)
    first = propose(by_coarse(views), 3)
    assert propose(by_coarse(views), 3) == first
    assert len(counted.asked) == 3
    assert_array_equal(views.of((2, 5)), views.of((5, 2)))


def test_mean_curves_are_means_by_number_of_beams(cohort):
    folder, _ = cohort
    labels = labelled(folder, read_cohort(folder), read_cohort(folder).of("development"))
    curves = mean_curves(labels)
    assert set(curves) == {0, 1}
    mine = [
        f for own in labels for f, c in zip(own.fitness.astype(np.float32), own.chosen, strict=True) if c.sum() == 1
    ]
    assert_allclose(curves[1], np.mean(mine, axis=0), rtol=1e-5)  # float32 sums
    assert propose(by_curves(curves), 2)[0] == np.argmax(curves[0])


def test_a_network_that_is_asked_predicts_what_it_was_measured_by(cohort, in_this_process):
    folder, runs = cohort
    patients = read_cohort(folder).of("test")
    prepare_inputs(folder, read_cohort(folder), "anatomy")
    paper = PaperNetwork(PaperConfig(n_candidates=36, encoder_channels=(2, 2, 2)), generator=torch.Generator()).eval()
    default = trained_network(runs, "default")
    views, anatomy = (
        view_data(folder, read_cohort(folder), patients),
        anatomy_data(folder, read_cohort(folder), patients),
    )
    patient = labelled_patient(folder, patients[0].id)
    chosen = patient.run(0)[:1]
    with torch.inference_mode():
        known_paper, known_default = anatomy.predict(paper, [1])[0].numpy(), views.predict(default, [1])[0].numpy()
    asked = AskedViews(run_views(folder, patient)[0])
    assert_allclose(by_anatomy(paper, anatomy.patients[0], 0)(chosen), known_paper, atol=1e-5)
    assert_allclose(by_views(default, asked)(chosen), known_default, atol=5e-3)  # kept features are float16


# Plans


@cache
def a_selection():
    return generate_columns(a_selection_problem(), 3)[0]


def test_a_method_that_is_column_generation_has_its_objective():
    problem = a_selection_problem()

    def teacher(chosen):
        multipliers, _ = solve_limited(problem, [chosen], {})
        return fitness_of(problem.reduced_costs(multipliers))[0].astype(np.float32)

    beams = propose(teacher, 3)
    assert set(beams) == set(a_selection().chosen)
    solver = PlanSolver(problem)
    assert solver.objective(beams) / solver.objective(a_selection().chosen) == 1
    fresh = PlanSolver(problem).objective(a_selection().chosen[::-1])
    assert fresh == solver.objective(beams), "nor does the order of choice matter, or what was solved before"
    assert fresh <= a_selection().objectives[-1] * (1 + 1e-3)  # solved no worse than in the search


def test_the_dose_of_a_plan_is_that_of_its_objective():
    problem = a_selection_problem()
    solver, beams = PlanSolver(problem), a_selection().chosen
    dose = torch.from_numpy(solver.dose_gy(beams))[None]
    value = sum(float(t.weight[0, 0] * t.objective.value(dose[:, t.index], t.measure)[0]) for t in problem.terms)
    assert_allclose(value, solver.objective(beams), rtol=1e-5)  # float32 doses


def test_equation_17_counts_scenarios_by_the_sign_and_size_of_their_difference():
    """Objectives of 100 and of 99, 100, 100.05, 101 and 120 give ε of 1 %, 0, -0.05 %, -1 % and -20 %."""
    rows = [
        {"patient": "P", "scenario": n, "method": method, "objective": objective}
        for n, other in enumerate((99.0, 100.0, 100.05, 101.0, 120.0))
        for method, objective in (("column generation", 100.0), ("default", other))
    ]
    pairs = compared(plans_of(rows), "default")
    shares = [better_shares(pairs, epsilon) for epsilon in (0.0, 0.001, 0.005, 0.05, 0.5)]
    assert shares == [(0.6, 0.2), (0.4, 0.2), (0.4, 0.2), (0.2, 0.0), (0.0, 0.0)]


# Parts and files


def test_a_part_that_is_there_is_not_made_again(tmp_path):
    made = []

    def make(name):
        made.append(name)
        if name == "c":
            raise KeyboardInterrupt
        return {"name": name, "time": time.perf_counter()}

    with pytest.raises(KeyboardInterrupt):
        in_parts(tmp_path / "parts", ["a", "b", "c", "d"], make)
    before = {f.name: f.read_text() for f in (tmp_path / "parts").iterdir()}
    assert sorted(before) == ["a.json", "b.json"], "a stop loses the part that was under way"
    make_the_rest = partial(dict, late=True)
    parts = in_parts(tmp_path / "parts", ["a", "b", "c", "d"], lambda name: make_the_rest(name=name))
    assert made == ["a", "b", "c"]
    assert [p["name"] for p in parts] == ["a", "b", "c", "d"]
    assert [p.get("late", False) for p in parts] == [False, False, True, True]
    assert {name: (tmp_path / "parts" / name).read_text() for name in before} == before


def test_parts_come_in_their_order_from_several_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "get_context", lambda method: dummy)
    names = [str(n) for n in range(6)]
    assert in_parts(tmp_path, names, int, n_jobs=3) == list(range(6))


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
        trained_network(tmp_path, "default")


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


def test_settings_of_a_training_are_told_in_words():
    assert settings_text(TrainSettings()) == (
        "at most 400 epochs of 2500 steps, batches of 1, Adam with rate 1e-05, patience of 400 epochs, seed 0"
    )
    assert "rate 0.002, falling to 0.01 of it" in settings_text(TrainSettings(rate=2e-3, final_rate=0.01))


# All of it, on three phantoms


@pytest.fixture(scope="module")
def in_this_process():
    with pytest.MonkeyPatch.context() as monkeypatch:
        without_processes(monkeypatch)
        monkeypatch.setattr(times, "THREADS", 1)
        yield


@pytest.fixture(scope="module")
def cohort(tmp_path_factory, in_this_process):
    """Folder of a labelled cohort and of what was trained on it."""
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
    names = ("training", "mse", "plans", "forced", "examples", "dose", "search", "real")
    assert main([*places, "--only", *names, "--real", real, "--openkbp", str(folder)]) == 0
    return out


def test_the_report_reads_what_the_experiments_write(results):
    found = read_results(results)
    assert found.times is None
    assert found.training["cohort"]["n_states_test"] == N_STATES
    assert [f["fold"] for f in found.training["folds"]["default"]] == [1, 2]
    assert {p.method for p in found.plans} == {
        "column generation", "default", "coarse", "mean curve", "random", "equispaced",
    }  # fmt: skip
    assert {p.fold for p in found.plans if p.method == "default"} == {1, 2}


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
