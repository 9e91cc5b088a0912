"""The training loop on a toy problem: it learns, ends when it should, and goes on exactly where it was stopped."""

import csv
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from Core.selection_samples import CancelAt
from Core.selection_samples import one_thread as one_thread
from torch import nn

from deeprt.config import read_settings
from deeprt.errors import InputError
from deeprt.networks.checkpoint import load_training_state, save_training_state
from deeprt.training.loop import (
    BEST,
    CURVE,
    LAST,
    RESULT_FILE,
    RUN_FILE,
    TrainResult,
    TrainSettings,
    claim,
    claimed,
    clip_kernel_gradients,
    evaluate_loss,
    keep_result,
    some_states,
    train,
)

SETTINGS = TrainSettings(epochs=6, steps_per_epoch=5, batch=4, rate=1e-2, final_rate=0.1)


class Waves:
    """States of a sine to be learned; augmented by noise, and it notes which states it was asked for."""

    def __init__(self, n_states=40, seed=1):
        self.x = torch.from_numpy(np.random.default_rng(seed).uniform(-2, 2, (n_states, 1))).float()
        self.asked = []

    def __len__(self):
        return len(self.x)

    def loss(self, network, states, rng):
        self.asked.append((list(states), rng is None))
        x = self.x[list(states)]
        noise = 0.0 if rng is None else torch.from_numpy(rng.normal(0, 0.01, x.shape)).float()
        return nn.functional.mse_loss(network(x), torch.sin(x) + noise)


class Told(Waves):
    """Validation losses as they are told, one an epoch."""

    def __init__(self, *losses):
        super().__init__(1)
        self.losses = iter(losses)

    def loss(self, network, states, rng):
        return torch.tensor(next(self.losses))


def a_network():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))


def trained(folder, settings=SETTINGS, *, network=None, training=None, validation=None, **options):
    """Train, and give the network and its epochs."""
    network = network or a_network()
    return network, train(network, training or Waves(), validation or Waves(20, 2), settings, folder, **options)


def losses(epochs):
    return [(e.number, e.training, e.validation) for e in epochs]


def same_weights(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def saved(folder, name):
    return load_training_state(folder / name)["network"]


# Learning


def test_the_training_loss_falls(tmp_path):
    settings = replace(SETTINGS, epochs=30, steps_per_epoch=20)
    _, epochs = trained(tmp_path, settings)
    assert epochs[-1].training < epochs[0].training / 20
    assert epochs[-1].validation < epochs[0].validation / 5


def test_an_epoch_has_so_many_batches_and_one_look_at_the_validation_data(tmp_path):
    training, validation = Waves(), Waves(20, 2)
    trained(tmp_path, replace(SETTINGS, epochs=2), training=training, validation=validation)
    assert len(training.asked) == 10
    assert {(len(states), plain) for states, plain in training.asked} == {(4, False)}
    assert [states for states, _ in validation.asked] == 2 * [list(range(16)), list(range(16, 20))]
    assert all(plain for _, plain in validation.asked), "validation is not augmented"


def test_a_part_of_the_validation_data_is_the_same_every_time(tmp_path):
    validation = Waves(20, 2)
    trained(tmp_path, replace(SETTINGS, epochs=3, n_validation=7), validation=validation)
    first, *others = [states for states, _ in validation.asked]
    assert len(set(first)) == 7
    assert others == [first, first]


@pytest.fixture
def steps(monkeypatch):
    """Rate and norm of each weight tensor's gradient, at each step of Adam."""
    noted, step = [], torch.optim.Adam.step

    def note(self, *arguments, **options):
        (group,) = self.param_groups
        noted.append((group["lr"], [float(p.grad.norm()) for p in group["params"] if p.ndim > 1]))
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.Adam, "step", note)
    return noted


def test_the_rate_follows_a_cosine_down_to_its_final_share(tmp_path, steps):
    trained(tmp_path, replace(SETTINGS, epochs=4, steps_per_epoch=1))
    along = np.arange(4) / 4
    np.testing.assert_allclose([rate for rate, _ in steps], 1e-2 * (0.1 + 0.9 * (1 + np.cos(np.pi * along)) / 2))


def test_the_rate_may_drop_in_steps_instead(tmp_path, steps):
    trained(tmp_path, replace(SETTINGS, epochs=5, steps_per_epoch=1, rate_drop=0.8, drop_epochs=2))
    np.testing.assert_allclose([rate for rate, _ in steps], 1e-2 * np.array([1, 1, 0.8, 0.8, 0.64]))


def test_gradients_are_clipped_to_the_norm_that_is_set(tmp_path, steps):
    trained(tmp_path / "free", replace(SETTINGS, epochs=1))
    free = [norms for _, norms in steps]
    assert np.min(free) > 2e-3
    steps.clear()
    trained(tmp_path / "clipped", replace(SETTINGS, epochs=1, clip=1e-3))
    np.testing.assert_allclose([norms for _, norms in steps], np.full_like(free, 1e-3), rtol=1e-5)


def test_gradients_are_clipped_kernel_by_kernel():
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 1, 1))
    sizes = (1.0, 9e-6, 0.0, 1.0)
    given = [
        size * torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
        for p, size in zip(network.parameters(), sizes, strict=True)
    ]
    for parameter, gradient in zip(network.parameters(), given, strict=True):
        parameter.grad = gradient.clone()
    network[1].bias.grad = None
    clip_kernel_gradients(network, limit=1e-4)
    shortened = given[0] * 1e-4 / given[0].norm()  # longer ones keep direction
    np.testing.assert_allclose(network[0].weight.grad, shortened, rtol=1e-5)
    assert torch.equal(network[0].bias.grad, given[1]) and given[1].norm() < 1e-4
    assert torch.equal(network[1].weight.grad, given[2])
    assert network[1].bias.grad is None


def test_the_same_seed_gives_the_same_training_and_another_seed_another(tmp_path):
    first, again = (trained(tmp_path / name) for name in ("first", "again"))
    assert losses(first[1]) == losses(again[1])
    assert same_weights(first[0].state_dict(), again[0].state_dict())
    other = trained(tmp_path / "other", replace(SETTINGS, seed=1))
    assert losses(first[1]) != losses(other[1])


# Best and last


def test_the_network_is_left_with_the_weights_of_the_least_validation_loss(tmp_path):
    network, epochs = trained(tmp_path, replace(SETTINGS, epochs=4), validation=Told(0.5, 0.2, 0.4, 0.3))
    assert [e.validation for e in epochs] == pytest.approx([0.5, 0.2, 0.4, 0.3])
    assert load_training_state(tmp_path / BEST)["epoch"] == 2
    two, _ = trained(tmp_path / "two", replace(SETTINGS, epochs=4), validation=Told(0.5, 0.4, 0.6, 0.7))
    assert same_weights(network.state_dict(), saved(tmp_path, BEST))
    assert same_weights(network.state_dict(), two.state_dict()), "the same second epoch"
    assert not same_weights(saved(tmp_path, BEST), saved(tmp_path, LAST))


def test_the_curve_has_a_row_for_every_epoch(tmp_path):
    _, epochs = trained(tmp_path)
    with (tmp_path / CURVE).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["epoch", "training_loss", "validation_loss", "seconds"]
    assert [int(r["epoch"]) for r in rows] == [e.number for e in epochs] == [1, 2, 3, 4, 5, 6]
    for row, epoch in zip(rows, epochs, strict=True):
        found = float(row["training_loss"]), float(row["validation_loss"])
        assert found == pytest.approx((epoch.training, epoch.validation), rel=1e-5)


def test_the_folder_holds_only_whole_files(tmp_path):
    trained(tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == sorted([BEST, LAST, CURVE])


def test_a_result_is_that_of_the_best_epoch_and_is_read_as_it_was_kept(tmp_path):
    _, epochs = trained(tmp_path, replace(SETTINGS, epochs=4), validation=Told(0.5, 0.2, 0.4, 0.3))
    best = TrainResult(2, 4, epochs[3].seconds, epochs[1].training, epochs[1].validation)
    for even in (None, 0.7):
        assert keep_result(tmp_path, epochs, even=even) == replace(best, even=even)
        assert read_settings(TrainResult, tmp_path / RESULT_FILE) == replace(best, even=even)


def test_a_result_of_an_earlier_version_has_no_even_beams(tmp_path):
    earlier = {"best_epoch": 1, "n_epochs": 2, "seconds": 3.5, "training": 0.25, "validation": 0.5}
    (tmp_path / RESULT_FILE).write_text(json.dumps(earlier))
    assert read_settings(TrainResult, tmp_path / RESULT_FILE) == TrainResult(1, 2, 3.5, 0.25, 0.5)


# Ending


def test_patience_ends_a_training_that_no_longer_improves(tmp_path):
    told = Told(0.5, 0.4, 0.41, 0.39, 0.42, 0.43, 0.44, 0.1)
    _, epochs = trained(tmp_path, replace(SETTINGS, epochs=20, patience=3), validation=told)
    assert len(epochs) == 7


def test_the_budget_ends_a_training_after_the_epoch_that_passes_it(tmp_path):
    _, epochs = trained(tmp_path, replace(SETTINGS, budget_s=1e-9))
    assert len(epochs) == 1
    assert epochs[0].seconds > 1e-9


def test_the_time_of_a_training_adds_up_over_its_stops(tmp_path):
    _, epochs = trained(tmp_path)
    seconds = [e.seconds for e in epochs]
    assert seconds == sorted(seconds) and seconds[0] > 0


# Going on


class StopAfter(Waves):
    """Fails at a batch, as a run that is killed."""

    def __init__(self, n_batches):
        super().__init__()
        self.left = n_batches

    def loss(self, network, states, rng):
        self.left -= 1
        if self.left < 0:
            raise InterruptedError
        return super().loss(network, states, rng)


@pytest.mark.parametrize("n_batches", [5, 10, 13, 29], ids=lambda n: f"{n} of 30")
def test_a_stopped_training_goes_on_to_the_very_same_end(tmp_path, n_batches):
    network, epochs = trained(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        trained(tmp_path / "parts", training=StopAfter(n_batches))
    resumed = Waves()
    with torch.random.fork_rng():
        torch.manual_seed(99)  # the weights it begins with do not matter any more
        other = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
    _, parts = trained(tmp_path / "parts", network=other, training=resumed)
    assert len(resumed.asked) == 30 - n_batches // 5 * 5
    assert losses(parts) == losses(epochs)
    assert same_weights(other.state_dict(), network.state_dict())
    for name in (BEST, LAST):
        assert same_weights(saved(tmp_path / "parts", name), saved(tmp_path / "whole", name))
    columns = [_without_time(tmp_path / part / CURVE) for part in ("parts", "whole")]
    assert columns[0] == columns[1]


def _without_time(file):
    return [line.rpartition(",")[0] for line in file.read_text().splitlines()]


def test_a_finished_training_is_not_gone_on_with(tmp_path):
    network, epochs = trained(tmp_path)
    again = Waves()
    other, same = trained(tmp_path, training=again)
    assert not again.asked
    assert same == epochs
    assert same_weights(network.state_dict(), other.state_dict())


def test_progress_may_cancel_a_training(tmp_path):
    with pytest.raises(InterruptedError, match="training"):
        trained(tmp_path, progress=CancelAt(3))
    assert len(load_training_state(tmp_path / LAST)["epochs"]) == 2


def test_progress_rises_to_the_end(tmp_path):
    class Record:
        fractions = ()

        def step(self, name, fraction, message=""):
            self.fractions += (fraction,)

    record = Record()
    trained(tmp_path, progress=record)
    assert list(record.fractions) == pytest.approx([*(n / 6 for n in range(6)), 1.0])


@pytest.mark.parametrize("change", [{"rate": 2e-2}, {"seed": 1}, {"batch": 5}])
def test_a_folder_of_other_settings_is_refused(tmp_path, change):
    trained(tmp_path)
    before = (tmp_path / LAST).read_bytes()
    with pytest.raises(InputError, match="holds a run of other settings; choose another folder, or remove it"):
        trained(tmp_path, replace(SETTINGS, **change))
    assert (tmp_path / LAST).read_bytes() == before


def test_a_damaged_state_is_refused(tmp_path):
    trained(tmp_path)
    file = tmp_path / LAST
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(InputError, match=r"last\.pt' cannot be read .*; remove it to begin anew"):
        trained(tmp_path)


def test_a_state_of_an_earlier_version_without_the_newer_settings_is_gone_on_with(tmp_path):
    _, epochs = trained(tmp_path)
    state = load_training_state(tmp_path / LAST)
    for name in ("rate_drop", "drop_epochs", "clip"):
        del state["settings"][name]
    save_training_state(tmp_path / LAST, state)
    assert trained(tmp_path)[1] == epochs
    with pytest.raises(InputError, match="holds a run of other settings"):
        trained(tmp_path, replace(SETTINGS, clip=1e-3))


def test_a_training_begun_on_a_cpu_goes_on_where_the_loss_is_scaled(tmp_path, monkeypatch):
    with pytest.raises(InterruptedError):
        trained(tmp_path, training=StopAfter(10))
    assert load_training_state(tmp_path / LAST)["scaler"] == {}
    scaler = torch.amp.GradScaler("cpu", enabled=True)  # as on a GPU
    monkeypatch.setattr(torch.amp, "GradScaler", lambda *_, **__: scaler)
    assert len(trained(tmp_path)[1]) == 6
    assert load_training_state(tmp_path / LAST)["scaler"]["scale"] > 1


def test_a_run_that_lost_its_best_weights_is_refused(tmp_path):
    trained(tmp_path)
    (tmp_path / BEST).unlink()
    with pytest.raises(InputError, match=r"has last\.pt but no best\.pt; remove the folder to begin anew"):
        trained(tmp_path)


# What a folder belongs to

ABOUT = {"network": "line", "settings": asdict(SETTINGS), "patients": [{"id": "P1", "seed": 3}]}


def test_a_folder_is_claimed_once_and_for_the_same_only(tmp_path):
    assert claimed(tmp_path) is None
    for _ in range(2):
        claim(tmp_path, ABOUT)
    assert claimed(tmp_path) == ABOUT
    for change in ({"patients": [{"id": "P1", "seed": 4}]}, {"settings": asdict(replace(SETTINGS, clip=1.0))}):
        with pytest.raises(InputError, match="holds a training of another network, cohort or settings"):
            claim(tmp_path, ABOUT | change)
    assert claimed(tmp_path) == ABOUT


def test_a_claim_of_an_earlier_version_without_the_newer_settings_holds(tmp_path):
    earlier = {name: value for name, value in ABOUT["settings"].items() if name not in ("rate_drop", "clip")}
    (tmp_path / RUN_FILE).write_text(json.dumps(ABOUT | {"settings": earlier}))
    claim(tmp_path, ABOUT)
    with pytest.raises(InputError, match="another network, cohort or settings"):
        claim(tmp_path, ABOUT | {"settings": asdict(replace(SETTINGS, rate_drop=0.5))})


@pytest.mark.parametrize("content", ["", "{", "[1]", "\udcff", '{"settings": {"epochs": "many"}}'])
def test_a_damaged_claim_is_refused(tmp_path, content):
    (tmp_path / RUN_FILE).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"run\.json"):
        claim(tmp_path, ABOUT)


# Losses


def test_the_loss_of_states_is_their_mean_whatever_the_batches():
    network, data, states = a_network(), Waves(), list(range(3, 30))
    with torch.no_grad():
        expected = float(data.loss(network, states, None))
    for n_batch in (1, 4, 16, 100):
        assert evaluate_loss(network, data, states, n_batch=n_batch) == pytest.approx(expected, rel=1e-5)


def test_some_states_are_drawn_once_each_and_by_their_seed():
    drawn = some_states(50, 20, 1)
    assert len(set(drawn)) == 20 and drawn == sorted(drawn)
    assert drawn == some_states(50, 20, 1) != some_states(50, 20, 2)
    assert list(some_states(50, 0, 1)) == list(some_states(50, 80, 1)) == list(range(50))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "must be at least 1"),
        ({"steps_per_epoch": 0}, "must be at least 1"),
        ({"batch": -1}, "must be at least 1"),
        ({"patience": 0}, "must be at least 1"),
        ({"rate": 0.0}, "rate must be positive"),
        ({"final_rate": 0.0}, "final_rate and rate_drop lie above 0 and up to 1"),
        ({"final_rate": 1.5}, "final_rate and rate_drop lie above 0 and up to 1"),
        ({"rate_drop": 0.0}, "final_rate and rate_drop lie above 0 and up to 1"),
        ({"budget_s": -1.0}, "budget_s, clip and seed must not be negative"),
        ({"clip": -1.0}, "budget_s, clip and seed must not be negative"),
        ({"seed": -1}, "budget_s, clip and seed must not be negative"),
        ({"drop_epochs": 0}, "drop_epochs be at least 1"),
    ],
    ids=str,
)
def test_settings_that_cannot_train_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        TrainSettings(**change)


def test_the_usual_settings_are_the_papers():
    usual = TrainSettings()
    assert (usual.epochs, usual.steps_per_epoch, usual.batch, usual.rate, usual.final_rate) == (400, 2500, 1, 1e-5, 1)
