"""Training of the networks that propose beams, from a labeled cohort to a network that others can use."""

import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from Core.selection_samples import CancelAt
from Core.selection_samples import one_thread as one_thread
from Core.training_samples import LABELS, a_cohort

from deeprt.cli import main
from deeprt.errors import InputError
from deeprt.machine_file import read_machine
from deeprt.networks.angle_network import AngleConfig, AngleNetwork
from deeprt.networks.checkpoint import load_network, load_training_state
from deeprt.networks.paper_network import PaperNetwork
from deeprt.orientation.network_prediction import KIND, beyond_training, network_predictor
from deeprt.training import beams as module
from deeprt.training.beams import (
    DEFAULT_SETTINGS,
    PAPER_SETTINGS,
    check_cohort,
    input_kind,
    new_network,
    train_beams,
    trained_network,
)
from deeprt.training.beams_release import release_beams
from deeprt.training.cohort import read_cohort, write_cohort
from deeprt.training.dataset import view_data
from deeprt.training.loop import BEST, CURVE, LAST, TrainSettings, evaluate_loss

QUICK = replace(DEFAULT_SETTINGS, epochs=1, steps_per_epoch=2, batch=4, rate=1e-3)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folder of a labeled cohort: two patients for development, one for test."""
    folder = tmp_path_factory.mktemp("cohort")
    a_cohort(folder)
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Folder and results of the default network, trained on two folds."""
    out = tmp_path_factory.mktemp("trained")
    return out, train_beams(data, "default", out, QUICK, n_folds=2)


def loss_of(file, states):
    """Mean squared error of a network that was written on all states."""
    network = AngleNetwork()
    network.load_state_dict(load_training_state(file)["network"])
    return evaluate_loss(network, states, range(len(states)))


# Folds


def test_every_fold_has_its_folder_and_result(trained):
    out, results = trained
    assert [r.fold for r in results] == [1, 2]
    assert [(r.best_epoch, r.n_epochs) for r in results] == [(1, 1)] * 2
    assert sorted(f.name for f in out.iterdir()) == ["fold-1", "fold-2", "run.json"]
    for result in results:
        folder = out / f"fold-{result.fold}"
        assert sorted(f.name for f in folder.iterdir()) == sorted([BEST, LAST, CURVE, "result.json"])
        assert json.loads((folder / "result.json").read_text(encoding="utf-8")) == asdict(result)


def test_a_fold_is_judged_on_its_own_patients(data, trained):
    out, results = trained
    cohort = read_cohort(data)
    test = view_data(data, cohort, cohort.of("test"))
    for result, (training, validation) in zip(results, cohort.folds(2), strict=True):
        for file, losses in (
            (BEST, (result.training_best, result.validation_best, result.test_best)),
            (LAST, (result.training_last, result.validation_last, result.test_last)),
        ):
            parts = view_data(data, cohort, training), view_data(data, cohort, validation), test
            found = [loss_of(out / f"fold-{result.fold}" / file, part) for part in parts]
            assert found == pytest.approx(losses, rel=1e-6)


def test_the_network_has_learned_from_the_training_patients_only(data, trained, tmp_path):
    cohort = read_cohort(data)
    (training, _), _ = cohort.folds(2)
    network = new_network("default", QUICK.seed)
    states = view_data(data, cohort, training)
    module.train(network, states, states, QUICK, tmp_path)
    last = load_training_state(trained[0] / "fold-1" / LAST)["network"]
    assert all(torch.equal(last[name], value) for name, value in network.state_dict().items())


def test_a_complete_fold_is_not_trained_again(data, trained, monkeypatch):
    out, results = trained
    monkeypatch.setattr(module, "train", lambda *_, **__: pytest.fail("trained again"))
    assert train_beams(data, "default", out, QUICK, n_folds=2) == results
    assert train_beams(data, "default", out, QUICK, n_folds=2, folds=[2]) == results[1:]


def test_a_fold_that_was_stopped_goes_on(data, tmp_path):
    longer = replace(QUICK, epochs=3, n_validation=2)
    whole = train_beams(data, "default", tmp_path / "whole", longer, n_folds=2, folds=[2])
    with pytest.raises(InterruptedError):
        train_beams(data, "default", tmp_path / "parts", longer, n_folds=2, folds=[2], progress=CancelAt(3))
    assert sorted(f.name for f in (tmp_path / "parts" / "fold-2").iterdir()) == sorted([BEST, LAST, CURVE])
    parts = train_beams(data, "default", tmp_path / "parts", longer, n_folds=2, folds=[2])
    assert [replace(r, seconds=0) for r in parts] == [replace(r, seconds=0) for r in whole]


def test_final_losses_are_computed_anew_for_another_number_of_states(data, tmp_path, monkeypatch):
    def result(n_evaluated):
        return train_beams(data, "default", tmp_path, QUICK, n_folds=2, folds=[1], n_evaluated=n_evaluated)[0]

    some = result(1)
    before = (tmp_path / "fold-1" / LAST).read_bytes()
    every = result(0)
    assert (some.n_evaluated, every.n_evaluated) == (1, 0)
    assert some.test_best != every.test_best
    assert replace(every, test_best=0) != replace(some, test_best=0)
    assert result(1) == some
    assert (tmp_path / "fold-1" / LAST).read_bytes() == before, "not trained again"


def test_final_losses_may_be_those_of_some_states(data, trained, tmp_path):
    some = train_beams(data, "default", tmp_path, QUICK, n_folds=2, folds=[1], n_evaluated=1)[0]
    assert some.test_best != trained[1][0].test_best
    assert (some.best_epoch, some.n_epochs) == (1, 1)


@pytest.mark.parametrize("name", ["paper", "full"])
def test_the_papers_networks_are_trained_on_the_candidates_of_the_cohort(data, tmp_path, name):
    one_step = replace(QUICK, steps_per_epoch=1, batch=1, n_validation=1)
    result = train_beams(data, name, tmp_path, one_step, n_folds=2, folds=[1], n_evaluated=1)[0]
    assert np.isfinite([result.training_best, result.validation_best, result.test_best]).all()
    before = new_network(name, 0, n_candidates=36).state_dict()
    after = load_training_state(tmp_path / "fold-1" / BEST)["network"]
    assert {n: v.shape for n, v in before.items()} == {n: v.shape for n, v in after.items()}
    assert all(not torch.equal(before[n], v) for n, v in after.items() if n.endswith("weight"))


@pytest.mark.parametrize("folds", [[0], [3], [1, 3]])
def test_an_unknown_fold_is_refused(data, tmp_path, folds):
    listed = ", ".join(map(str, folds))
    with pytest.raises(InputError, match=f"There are folds 1 to 2, not {listed}"):
        train_beams(data, "default", tmp_path, QUICK, n_folds=2, folds=folds)
    assert not list(tmp_path.iterdir())


def test_more_folds_than_patients_are_refused(data, tmp_path):
    with pytest.raises(InputError, match="2 development patients cannot be split into 3 folds"):
        train_beams(data, "default", tmp_path, QUICK, n_folds=3)


def test_a_cohort_without_labels_is_refused(data, tmp_path):
    write_cohort(read_cohort(data), tmp_path)
    with pytest.raises(InputError, match=r"has no labels; run deeprt cohort label"):
        train_beams(tmp_path, "default", tmp_path / "out", QUICK, n_folds=2)


# Networks


@pytest.mark.parametrize("name", ["default", "paper", "full"])
def test_the_same_seed_makes_the_same_network(name):
    first, again, other = (new_network(name, seed, 36).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not all(torch.equal(first[n], other[n]) for n in first)


def test_each_network_has_its_inputs_and_settings():
    kinds = [(input_kind(n), type(new_network(n, 0))) for n in ("default", "paper", "full")]
    assert kinds == [("views", AngleNetwork), ("anatomy", PaperNetwork), ("anatomy", PaperNetwork)]
    assert [new_network(n, 0).config.third_block for n in ("paper", "full")] == ["convolution", "full"]
    assert TrainSettings() == PAPER_SETTINGS != DEFAULT_SETTINGS


@pytest.mark.parametrize("name", ["paper", "full"])
def test_candidates_on_the_sphere_are_refused_to_the_papers_networks(data, tmp_path, name):
    cohort = read_cohort(data)
    selection = replace(cohort.labels.selection, candidates="noncoplanar:30")
    write_cohort(replace(cohort, labels=replace(cohort.labels, selection=selection)), tmp_path)
    with pytest.raises(InputError, match=r"needs candidates around a circle, .* but .* noncoplanar:30"):
        train_beams(tmp_path, name, tmp_path / "out", QUICK, n_folds=2)


def test_candidates_that_the_papers_network_cannot_have_are_refused():
    with pytest.raises(InputError, match=r"multiple of 36, got 90; label the cohort with candidates such as copl"):
        new_network("paper", 0, n_candidates=90)


# Release


@pytest.fixture(scope="module")
def released(data, trained, tmp_path_factory):
    """The file of a released network, and its card as it was returned."""
    file = tmp_path_factory.mktemp("released") / "own.safetensors"
    out, results = trained
    return file, release_beams(data, out, results, QUICK, n_folds=2, file=file)


def test_the_network_of_the_least_validation_loss_is_released(trained, released):
    out, results = trained
    file, written = released
    card, network = load_network(file, {KIND: (AngleConfig, AngleNetwork)})
    best = min(results, key=lambda r: r.validation_best)
    state = load_training_state(out / f"fold-{best.fold}" / BEST)["network"]
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=2**-11, atol=2**-25)  # half precision
    assert card == written
    assert card.metrics == {
        "training_mse": best.training_best,
        "validation_mse": best.validation_best,
        "test_mse": best.test_best,
    }
    assert f"(fold {best.fold} of 2, that with the least validation loss of 2 trained)" in card.split
    assert "metrics are of all states" in card.split


def test_the_card_says_what_the_network_has_seen(data, trained, released):
    cohort, card = read_cohort(data), released[1]
    best = min(trained[1], key=lambda r: r.validation_best).fold
    ((patient,), _) = list(cohort.folds(2))[best - 1]
    assert card.candidates == "coplanar:10"
    assert card.organs == ("SpinalCord",)
    assert card.n_beams_max == 2
    assert "3 patients, 0 of them virtual" in card.data and "4 states for training" in card.data
    assert np.all(np.abs(np.array(card.extent_mm) - (28, 28, 18)) < 6)  # of the target, to its voxels
    assert beyond_training(card, patient.load(), LABELS.selection) == ()


def test_a_released_network_proposes_beams(data, released):
    patient = read_cohort(data).of("test")[0]
    settings = replace(LABELS.selection, network=str(released[0]))
    predictor = network_predictor(patient.load(), read_machine("generic_6mv"), settings)
    fitness = predictor.fitness(())
    assert fitness.shape == (36,)
    assert fitness.min() == 0 and fitness.max() == 1


def test_the_card_of_a_single_fold_does_not_call_it_the_best(data, trained, tmp_path):
    only = [replace(trained[1][1], n_evaluated=3)]
    card = release_beams(data, trained[0], only, QUICK, n_folds=2, file=tmp_path / "own.safetensors")
    assert "(fold 2 of 2)" in card.split
    assert "metrics are of 3 states drawn from each part" in card.split


def test_a_fold_that_is_not_trained_is_named(tmp_path):
    with pytest.raises(InputError, match=r"has no trained fold 3; train it with deeprt train beams"):
        trained_network(tmp_path, "default", 3)


def test_a_folder_of_another_training_is_refused(data, trained):
    for name, settings in (("full", QUICK), ("default", replace(QUICK, seed=1))):
        with pytest.raises(InputError, match="holds a training of another network, cohort or settings"):
            train_beams(data, name, trained[0], settings, n_folds=2)


def other_cohorts(cohort):
    """Cohorts of as many patients with the same names."""
    first, *others = cohort.patients
    for change in ({"seed": 5}, {"source": "elsewhere"}, {"nodes": True}):
        yield replace(cohort, patients=(replace(first, **change), *others))
    splits = [p.split for p in (*others, first)]
    yield replace(cohort, patients=tuple(replace(p, split=s) for p, s in zip(cohort.patients, splits, strict=True)))
    yield replace(cohort, machine="generic_15mv")


def test_a_folder_of_another_cohort_is_refused(data, trained, monkeypatch):
    monkeypatch.setattr(module, "prepare_inputs", lambda *_, **__: None)
    cohort = read_cohort(data)
    for other in other_cohorts(cohort):
        monkeypatch.setattr(module, "read_cohort", lambda _, other=other: other)
        with pytest.raises(InputError, match="holds a training of another network, cohort or settings"):
            train_beams(data, "default", trained[0], QUICK, n_folds=2)
        with pytest.raises(InputError, match="were trained on another cohort; name the one they belong to"):
            check_cohort(trained[0], other)
    check_cohort(trained[0], cohort)


def test_a_folder_is_not_claimed_for_a_cohort_without_labels(data, tmp_path):
    write_cohort(read_cohort(data), tmp_path)
    with pytest.raises(InputError, match="has no labels"):
        train_beams(tmp_path, "default", tmp_path / "out", QUICK, n_folds=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["", "{}", '{"fold": "one"}', "[]"])
def test_a_damaged_result_is_refused(data, trained, tmp_path, content):
    out = tmp_path / "out"
    shutil.copytree(trained[0], out)
    (out / "fold-1" / "result.json").write_text(content)
    with pytest.raises(InputError, match=r"result\.json"):
        train_beams(data, "default", out, QUICK, n_folds=2)


def test_a_result_of_an_earlier_version_is_of_all_states(data, trained, tmp_path):
    out, results = tmp_path / "out", trained[1]
    shutil.copytree(trained[0], out)
    earlier = {name: value for name, value in asdict(results[0]).items() if name != "n_evaluated"}
    (out / "fold-1" / "result.json").write_text(json.dumps(earlier))
    assert train_beams(data, "default", out, QUICK, n_folds=2) == results


# The command


def train_command(data, out, *options):
    quick = ["--epochs", "1", "--steps", "2", "--batch", "4", "--rate", "1e-3", "--folds", "2", "--device", "cpu"]
    return main(["train", "beams", "--data", str(data), "--out", str(out), *quick, *map(str, options)])


def test_the_command_prints_a_row_for_every_fold(data, trained, tmp_path, capsys):
    out, results = trained
    assert train_command(data, out, "--release", tmp_path / "own.safetensors") == 0
    heading, *rows, last = capsys.readouterr().out.splitlines()
    assert heading.split() == ["Fold", "Best", "epoch", "Training", "/", "%", "Validation", "/", "%", "Test", "/", "%"]
    for row, result in zip(rows, results, strict=True):
        expected = [100 * loss for loss in (result.training_best, result.validation_best, result.test_best)]
        assert [float(n) for n in row.split()] == pytest.approx([result.fold, 1, *expected], abs=1e-3)
    assert str(out) in last and "not for clinical use" in last
    assert sorted(f.name for f in tmp_path.iterdir()) == ["own.json", "own.safetensors"]
    modes = {f.stat().st_mode for f in tmp_path.iterdir()}
    assert modes == {(out / "run.json").stat().st_mode}, "as every file"


def test_a_network_that_is_there_is_replaced_only_if_asked_for(data, trained, tmp_path, capsys):
    file = tmp_path / "own.safetensors"
    file.write_bytes(b"other")
    assert train_command(data, trained[0], "--release", file) == 2
    assert "own.safetensors' exists already; choose another file for --release or add --over" in capsys.readouterr().err
    assert file.read_bytes() == b"other"
    assert train_command(data, trained[0], "--release", file, "--overwrite") == 0
    assert load_network(file, {KIND: (AngleConfig, AngleNetwork)})


def test_options_are_settings_and_json_progress_is_json(data, tmp_path, capsys):
    options = ["--fold", 2, "--seed", 7, "--patience", 3, "--budget", 50, "--validate", 2, "--json-progress"]
    assert train_command(data, tmp_path, *options) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["fraction"] == 1.0 and {line["step"] for line in lines} <= {"inputs", "training"}
    assert sorted(f.name for f in tmp_path.iterdir()) == ["fold-2", "run.json"]
    given = {"seed": 7, "patience": 3, "budget_s": 50.0, "n_validation": 2, "final_rate": DEFAULT_SETTINGS.final_rate}
    settings = load_training_state(tmp_path / "fold-2" / LAST)["settings"]
    assert settings == asdict(QUICK) | given


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fold", "5"], "There are folds 1 to 2, not 5."),
        (["--epochs", "0"], "Training: epochs, steps, batch and patience must be at least 1"),
        (["--network", "paper", "--release", "a.safetensors"], "--release writes the default network only"),
        (["--release", "a.pt"], "into a file that ends in .safetensors"),
        (["--seed", "-1"], "budget_s, clip and seed must not be negative"),
        (["--release", "/dev/null/a.safetensors"], "Cannot write into '/dev/null': '/dev/null' is a file"),
        (["--out", "/dev/null/out"], "Cannot write into '/dev/null/out': '/dev/null' is a file"),
        (["--data", "nowhere"], "'nowhere' is no cohort (cohort.json: No such file or directory)"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_trained_is_refused(data, tmp_path, capsys, options, message):
    assert train_command(data, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("deeprt: ") and error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "out").exists()
