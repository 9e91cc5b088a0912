"""Inputs of the networks: made once and kept beside the labels, and turned together with what they belong to."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from Core.selection_samples import one_thread as one_thread
from Core.training_samples import LABELS, N_STATES, a_cohort
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from deeprt.case import with_tuning_structures
from deeprt.cohort.labels import PatientLabels, write_labels
from deeprt.machine_file import read_machine
from deeprt.networks.anatomy import AnatomyInput, anatomy_shares
from deeprt.networks.angle_network import AngleNetwork
from deeprt.networks.paper_network import PaperNetwork
from deeprt.orientation.candidates import axes_of, candidate_beams
from deeprt.orientation.views import COARSE, FEATURES, candidate_views
from deeprt.training import dataset
from deeprt.training.cohort import labels_file, read_all_labels
from deeprt.training.dataset import (
    AnatomyData,
    AnatomyStates,
    ViewData,
    anatomy_data,
    prepare_inputs,
    view_data,
)

N = 36  # candidates


class Record:
    """Keeps what is reported."""

    def __init__(self):
        self.steps = []

    def step(self, name, fraction, message=""):
        self.steps.append((name, round(fraction, 3), message))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A cohort, its folder, and what was reported when its inputs were made; views in two processes."""
    folder, record = tmp_path_factory.mktemp("cohort"), Record()
    cohort = a_cohort(folder)
    prepare_inputs(folder, cohort, "views", n_jobs=2, progress=record)
    prepare_inputs(folder, cohort, "anatomy")
    return folder, cohort, record


def modified(folder, kind):
    return {f.stem: f.stat().st_mtime_ns for f in sorted((folder / kind).iterdir())}


# Kept inputs


def test_every_patient_gets_a_file_of_each_kind(prepared):
    folder, cohort, record = prepared
    for kind in ("views", "anatomy"):
        assert sorted(f.name for f in (folder / kind).iterdir()) == sorted(f"{p.id}.npz" for p in cohort.patients)
    assert record.steps == [("inputs", round(n / 3, 3), f"{n} of 3") for n in range(4)]


def test_views_are_those_of_the_states(prepared):
    folder, cohort, _ = prepared
    patient = cohort.patients[1]
    (labels,) = read_all_labels(folder, cohort, [patient])
    machine = read_machine(cohort.machine)
    candidates = candidate_beams("coplanar:10", machine.clearance)
    weightings = [labels.organ_weights(n) for n in range(3)]
    views = candidate_views(patient.load(), machine, LABELS.selection, weightings=weightings)
    data = view_data(folder, cohort, [patient])
    assert len(data) == N_STATES
    for state in range(N_STATES):
        chosen = [candidates[b] for b in np.flatnonzero(labels.chosen[state])]
        expected = views[labels.scenario[state]].of(chosen)
        assert_array_equal(data.features[state].numpy(), expected.astype(np.float16))
    assert_array_equal(data.fitness.numpy(), labels.fitness)
    assert_allclose(data.axes.numpy(), axes_of(candidates), atol=1e-7)


def test_states_of_several_patients_follow_each_other(prepared):
    folder, cohort, _ = prepared
    data = view_data(folder, cohort, cohort.patients)
    assert data.features.shape == (3 * N_STATES, N, len(FEATURES))
    assert (data.features.dtype, data.fitness.dtype, data.axes.dtype) == (torch.float16, torch.float16, torch.float32)
    assert data.n_candidates == N
    last = view_data(folder, cohort, cohort.patients[2:])
    assert torch.equal(data.features[2 * N_STATES :], last.features)
    anatomy = anatomy_data(folder, cohort, cohort.patients)
    assert len(anatomy) == 3 * N_STATES
    assert anatomy.n_candidates == N


def test_anatomy_has_a_weight_for_every_structure_of_every_scenario(prepared):
    folder, cohort, _ = prepared
    (labels,) = read_all_labels(folder, cohort, cohort.patients[:1])
    (states,) = anatomy_data(folder, cohort, cohort.patients[:1]).patients
    assert states.anatomy.names == ("PTV_60", "BODY", "SpinalCord", "Ring", "Skin")
    columns = [labels.structures.index(name) for name in ("external", "SpinalCord", "ring", "skin")]
    assert_array_equal(states.weights[:, 0].numpy(), 1)
    assert_array_equal(states.weights[:, 1:].numpy(), labels.weights[:, columns])
    expected = anatomy_shares(with_tuning_structures(cohort.patients[0].load()))
    assert_array_equal(states.anatomy.shares, expected.shares)
    assert_array_equal(states.anatomy.relative_prescription, expected.relative_prescription)


def test_inputs_that_are_there_are_not_made_again(prepared):
    folder, cohort, _ = prepared
    record = Record()
    for kind in ("views", "anatomy"):
        before = modified(folder, kind)
        prepare_inputs(folder, cohort, kind, progress=record)
        assert modified(folder, kind) == before
    assert record.steps == [("inputs", 1.0, "3 of 3")] * 2


def test_views_belong_to_the_settings_that_they_follow_from(prepared, monkeypatch):
    folder, cohort, _ = prepared
    monkeypatch.setattr(dataset, "COARSE", replace(COARSE, sweeps=3))
    assert len(view_data(folder, cohort, cohort.patients)) == 3 * N_STATES
    monkeypatch.setattr(dataset, "COARSE", replace(COARSE, voxel_mm=9.0))
    with pytest.raises(ValueError, match="has no inputs of the kind 'views'"):
        view_data(folder, cohort, cohort.patients)


@pytest.mark.parametrize("damage", [b"", b"no archive", "cut", "flipped"])
def test_a_damaged_file_is_no_input(prepared, damage):
    folder, cohort, _ = prepared
    file = folder / "views" / f"{cohort.patients[0].id}.npz"
    whole = file.read_bytes()
    half = len(whole) // 2
    flipped = whole[:half] + bytes(255 - b for b in whole[half : half + 99]) + whole[half + 99 :]
    file.write_bytes({"cut": whole[:half], "flipped": flipped}.get(damage, damage))
    with pytest.raises(ValueError, match=f"Patient {cohort.patients[0].id} has no inputs of the kind 'views'"):
        view_data(folder, cohort, cohort.patients)
    file.write_bytes(whole)
    assert len(view_data(folder, cohort, cohort.patients)) == 3 * N_STATES


def test_what_is_damaged_or_of_other_labels_is_made_again_and_nothing_else(prepared):
    folder, cohort, _ = prepared
    first, second, third = (p.id for p in cohort.patients)
    before, features = modified(folder, "views"), view_data(folder, cohort, cohort.patients).features
    (folder / "views" / f"{first}.npz").write_bytes(b"damaged")
    (labels,) = read_all_labels(folder, cohort, cohort.patients[1:2])
    other = replace(labels, weights=labels.weights * np.float32(3))
    write_labels(other, labels_file(folder, cohort.patients[1]))
    with pytest.raises(ValueError, match=f"Patient {second} has no inputs"):
        view_data(folder, cohort, cohort.patients[1:2])
    record = Record()
    prepare_inputs(folder, cohort, "views", progress=record)
    after, again = modified(folder, "views"), view_data(folder, cohort, cohort.patients).features
    assert [message for _, _, message in record.steps] == ["1 of 3", "2 of 3", "3 of 3"]
    assert after[first] > before[first] and after[second] > before[second] and after[third] == before[third]
    same = [torch.equal(*pair) for pair in zip(features.split(N_STATES), again.split(N_STATES), strict=True)]
    assert same == [True, False, True]
    write_labels(labels, labels_file(folder, cohort.patients[1]))
    prepare_inputs(folder, cohort, "views")
    assert torch.equal(view_data(folder, cohort, cohort.patients).features, features)


# States of the default network


def some_views(n_states=5):
    rng = np.random.default_rng(1)
    features = rng.random((n_states, N, len(FEATURES))).astype(np.float16)
    axes = axes_of(candidate_beams("coplanar:10", read_machine("generic_6mv").clearance)).astype(np.float32)
    return ViewData(features, rng.random((n_states, N)).astype(np.float16), axes)


def test_the_loss_of_views_is_the_mean_squared_error():
    data, network = some_views(), AngleNetwork()
    with torch.no_grad():
        predicted = data.predict(network, [3, 0])
        assert predicted.shape == (2, N)
        expected = ((predicted - data.fitness[[3, 0]].float()) ** 2).mean()
        assert_allclose(data.loss(network, [3, 0], None), expected, rtol=1e-6)
        augmented = data.loss(network, [3, 0], np.random.default_rng(1))
    assert_allclose(augmented, expected, rtol=1e-6, err_msg="there is nothing to augment")


# States of the paper's network


class Looking(PaperNetwork):
    """Fitness is how far the targets reach towards each candidate, and where beams were chosen; it can be turned."""

    def __init__(self):
        nn.Module.__init__(self)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.n_encoded = 0

    def encode(self, channels):
        self.n_encoded += len(channels)
        n = channels.shape[-1]
        along = torch.arange(n) - (n - 1) / 2
        gantry = torch.arange(N) * 2 * torch.pi / N
        towards = torch.sin(gantry)[:, None, None] * along - torch.cos(gantry)[:, None, None] * along[:, None]
        image = (channels[:, 0] - channels[:, 1]).sum(1)
        return torch.einsum("gji,bji->bg", towards, image) / n**3

    def forward(self, features, chosen):
        marked = chosen.to(features.dtype)
        return self.scale * (features + 0.3 * marked + 0.2 * marked.roll(1, dims=1))


def a_patient(seed):
    """Three structures of any shape; four states of two scenarios."""
    rng = np.random.default_rng(seed)
    shares = (rng.random((3, 9, 9, 9)) < 0.3).astype(np.uint8) * 255
    shares[0, :, :3, 5:] = 255  # a target off the axis, so that every direction sees another fitness
    anatomy = AnatomyInput(("PTV", "Organ", "Body"), np.array([1, 0, 0], np.float32), shares)
    labels = PatientLabels(
        structures=("ring", "skin", "external", "Organ"),
        weights=np.zeros((2, 4), np.float32),
        scenario=np.array([0, 0, 1, 1]),
        chosen=rng.random((4, N)) < 0.1,
        fitness=np.zeros((4, N), np.float16),
        objective=np.zeros(4),
        run_chosen=np.zeros((0, 2), np.int64),
        run_objective=np.zeros(0),
        digest="",
    )
    return AnatomyStates(anatomy, torch.tensor([[1.0, 0.5, 0.1], [1.0, 0.2, 0.3]]), labels)


def looked_at(n_patients=2):
    """Data whose labels are what `Looking` predicts."""
    data = AnatomyData([a_patient(seed) for seed in range(n_patients)])
    with torch.no_grad():
        fitness = data.predict(Looking(), range(len(data))).numpy().astype(np.float16).reshape(n_patients, 4, N)
    states = (replace(p, labels=replace(p.labels, fitness=f)) for p, f in zip(data.patients, fitness, strict=True))
    return AnatomyData(list(states))


def test_anatomy_chosen_beams_and_labels_turn_together():
    data, network, seeds = looked_at(), Looking(), range(12)
    fitness = torch.stack([torch.from_numpy(row) for p in data.patients for row in p.labels.fitness]).float()
    for turns in (9, 18, 27):
        assert nn.functional.mse_loss(fitness.roll(turns, dims=1), fitness) > 0.01, "turned apart it would show"
    assert {int(np.random.default_rng(seed).integers(4)) for seed in seeds} == {0, 1, 2, 3}
    with torch.no_grad():
        for seed in seeds:
            assert data.loss(network, range(len(data)), np.random.default_rng(seed)) < 1e-6  # labels have 11 bits
        assert data.loss(network, range(len(data)), None) < 1e-6


def test_only_in_training_the_patient_is_turned():
    data, encoded = looked_at(1), []
    network = Looking()
    network.register_forward_pre_hook(lambda _, given: encoded.append(given[0].clone()))
    with torch.no_grad():
        data.loss(network, [0], None)
        data.predict(network, [0])
        for seed in range(12):
            data.loss(network, [0], np.random.default_rng(seed))
    assert torch.equal(encoded[0], encoded[1])
    assert len({round(float(e[0, 0]), 3) for e in encoded[2:]}) == 4


def test_states_of_one_scenario_share_the_encoders_work():
    data = looked_at()
    for states, expected in (([0], 1), ([0, 1, 1, 0], 1), ([0, 1, 2, 3], 2), ([2, 4, 6, 3], 3), (range(8), 4)):
        network = Looking()
        with torch.no_grad():
            data.predict(network, states)
        assert network.n_encoded == expected, states


def test_states_are_predicted_in_the_order_asked_for():
    data, network, states = looked_at(), Looking(), [5, 0, 2, 7, 1]
    with torch.no_grad():
        together = data.predict(network, states)
        alone = torch.cat([data.predict(network, [n]) for n in states])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
