"""What fluence networks learn from: inverted maps, and views that are shifted together with their maps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from Core.fluence_prediction_samples import PAPER, PATIENT, QUICK, SMALL, a_paper_network, a_random_network
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from deeprt.fluence.inversion import FEATURES, invert
from deeprt.machine_file import read_machine
from deeprt.networks.case_views import case_views
from deeprt.networks.dual_frame import fluence_loss
from deeprt.networks.fluence_network import FluenceNetwork
from deeprt.progress import Silent
from deeprt.training import fluence_data as module
from deeprt.training.fluence_data import BeamViews, InvertedMaps, beam_views, inverted_maps, prepare_inversions
from deeprt.training.reference_plans import (
    make_reference_plan,
    plan_file,
    reference_beams,
    reference_case,
    write_reference_plan,
)

MACHINE = read_machine(QUICK.machine)
PATIENTS = (PATIENT, replace(PATIENT, id="P2", seed=12, nodes=False))


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """Folder of two patients with reference plans, and these with their cases."""
    folder, plans, cases = tmp_path_factory.mktemp("cohort"), [], []
    for patient in PATIENTS:
        cases.append(reference_case(patient, QUICK))
        plans.append(make_reference_plan(cases[-1], MACHINE, QUICK, seed=patient.seed, is_test=False))
        write_reference_plan(plans[-1], plan_file(folder, patient))
    return folder, plans, cases


@pytest.fixture(scope="module")
def inverted(planned):
    prepare_inversions(planned[0], QUICK, PATIENTS, n_jobs=1, report=Silent())
    return inverted_maps(planned[0], QUICK, PATIENTS)


class Recorder(nn.Module):
    """A network that keeps what it is given and returns one channel of it."""

    def __init__(self, channel=0):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.channel, self.given = channel, []

    def forward(self, images):
        self.given.append(images)
        return self.scale * images[:, self.channel]


# Inverted maps


def test_there_is_one_map_for_every_beam_of_every_patient(inverted):
    assert len(inverted) == 6
    assert inverted.features.shape == (6, len(FEATURES), 96, 96)
    assert inverted.fluence.shape == (6, 96, 96)
    assert inverted.features.dtype == inverted.fluence.dtype == torch.float16


def test_maps_are_those_of_the_inverted_dose_of_the_plan(planned, inverted):
    _, plans, cases = planned
    plan, case = plans[1], cases[1]
    inversion = invert(case, reference_beams(case, plan, MACHINE), MACHINE, plan.dose_gy)
    middle = slice(16, 112)
    assert_allclose(inverted.features[3:].float(), inversion.features[:, :, middle, middle], rtol=2e-3, atol=1e-3)
    mu = plan.fmu * plan.beam_mu[:, None, None] / inversion.scale_mu.numpy()[:, None, None]
    assert_allclose(inverted.fluence[3:].float(), mu[:, middle, middle], rtol=2e-3, atol=1e-3)


def test_the_mimicked_fluence_resembles_the_map_that_is_to_be_found(inverted):
    """Rows, columns and beams are not confused."""
    features, fluence = inverted.features.float(), inverted.fluence.float()
    for n in range(len(inverted)):
        own = float(torch.corrcoef(torch.stack([features[n, 0].flatten(), fluence[n].flatten()]))[0, 1])
        mirrored = (torch.stack([features[n, 0].flip(axis).flatten(), fluence[n].flatten()]) for axis in (0, 1))
        assert own > 0.95
        assert all(float(torch.corrcoef(pair)[0, 1]) < own for pair in mirrored)


def test_inversions_are_prepared_once_and_the_missing_ones_resumed(planned, inverted, monkeypatch):
    folder = planned[0]
    files = sorted(folder.glob("inversions/*/*.npz"))
    assert [f.name for f in files] == ["P1.npz", "P2.npz"]
    before = files[0].read_bytes()
    files[1].unlink()
    called = []
    monkeypatch.setattr(module, "invert", lambda case, *rest: called.append(case.case_id) or invert(case, *rest))
    for _ in range(2):
        prepare_inversions(folder, QUICK, PATIENTS, n_jobs=1, report=Silent())
    assert called == ["P2"]
    assert files[0].read_bytes() == before
    again = inverted_maps(folder, QUICK, PATIENTS)
    assert torch.equal(again.features, inverted.features) and torch.equal(again.fluence, inverted.fluence)


def test_inversions_of_other_settings_are_others(planned, inverted):
    with pytest.raises(FileNotFoundError):
        inverted_maps(planned[0], replace(QUICK, smoothness=(1.0, 2.0)), PATIENTS)


def test_progress_counts_all_patients(planned, inverted):
    steps = []

    class Recorded:
        def step(self, name, fraction, message=""):
            steps.append((name, fraction, message))

    prepare_inversions(planned[0], QUICK, PATIENTS, n_jobs=1, report=Recorded())
    assert steps == [("inversions", 1.0, "2 of 2")]


def test_beams_with_wider_jaws_than_the_map_that_is_kept_are_left_out(planned, monkeypatch):
    folder, plans, cases = planned
    beams = reference_beams(cases[1], plans[1], MACHINE)
    margin = MACHINE.jaws.margin_mm
    reaches = [margin + max(np.abs(e).max() for e in (b.x_edges_mm, b.y_edges_mm)) for b in beams]
    kept = 2 * int(min(reaches) / 2.5) - 2  # a pixel a side less than the smallest beam needs
    monkeypatch.setattr(module, "TRAINED_PIXELS", kept)
    prepare_inversions(folder, QUICK, PATIENTS[1:], n_jobs=1, report=Silent())
    assert len(inverted_maps(folder, QUICK, PATIENTS[1:])) == 0


# Their loss


def solved(n=3):
    """Maps that the untrained network returns as they are wished."""
    generator = torch.Generator().manual_seed(1)
    features = torch.rand(n, SMALL.n_features, 16, 24, generator=generator).half()
    features[:, -1] = 1
    return InvertedMaps(features, features[:, 0].clone())


def test_the_loss_of_a_perfect_network_is_zero_mirrored_or_not():
    network, data = FluenceNetwork(SMALL), solved()
    assert float(data.loss(network, [0, 2, 1], None).detach()) == pytest.approx(0, abs=1e-12)
    for seed in range(6):
        loss = data.loss(network, [0, 1], np.random.default_rng(seed))
        assert float(loss.detach()) == pytest.approx(0, abs=1e-12)


def test_the_loss_is_the_papers_of_maps_over_their_maximum():
    data, network = replace(solved(), fluence=torch.rand(3, 16, 24).half() * 2), Recorder()
    predicted, wished = data.features[[2, 0], 0].float(), data.fluence[[2, 0]].float()
    highest = wished.amax((1, 2), keepdim=True)
    expected = fluence_loss(predicted / highest, wished / highest, data_range=1.0)
    assert_allclose(float(data.loss(network, [2, 0], None).detach()), float(expected))


def test_the_loss_does_not_depend_on_the_scale_of_a_beam():
    data, network = replace(solved(), fluence=solved(3).fluence.flip(0)), Recorder()
    double = replace(data, features=2 * data.features, fluence=2 * data.fluence)
    assert_allclose(
        float(double.loss(network, [0, 1], None).detach()), float(data.loss(network, [0, 1], None).detach()), rtol=1e-5
    )


def test_training_mirrors_rows_and_columns_validation_nothing():
    data, seen = solved(1), set()
    whole = data.features.float()
    mirrored = {axes: whole.flip(axes) for axes in ((), (-1,), (-2,), (-1, -2))}
    for seed in range(24):
        network = Recorder()
        data.loss(network, [0], np.random.default_rng(seed))
        seen |= {axes for axes, images in mirrored.items() if torch.equal(images, network.given[0])}
    assert seen == set(mirrored)
    network = Recorder()
    data.loss(network, [0], None)
    assert torch.equal(network.given[0], whole)


def test_the_loss_of_real_maps_teaches_a_network(inverted):
    network = a_random_network()
    loss = inverted.loss(network, [0, 4], np.random.default_rng(1))
    loss.backward()
    assert 0 < float(loss.detach()) < 2
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


# Views of single beams


def test_there_is_a_view_and_a_share_map_for_every_beam(planned):
    folder, plans, cases = planned
    data = beam_views(PAPER, folder, QUICK, PATIENTS)
    assert len(data) == 6
    assert [patient for patient, _ in data.beams] == [0, 0, 0, 1, 1, 1]
    assert_allclose(data.fmu[3:].astype(np.float32), plans[1].fmu, rtol=1e-3, atol=1e-4)
    network = Recorder(channel=PAPER.n_channels - 2)  # the central slice of the dose
    loss = data.loss(network, [4, 0], None)
    expected = [
        case_views(PAPER, cases[p], plans[p].dose_gy).of(reference_beams(cases[p], plans[p], MACHINE)[b])
        for p, b in ((1, 1), (0, 0))
    ]
    assert torch.equal(network.given[0], torch.stack(expected))
    wished = torch.from_numpy(data.fmu[[4, 0]].astype(np.float32))
    central = torch.stack(expected)[:, network.channel]
    assert_allclose(float(loss.detach()), float(fluence_loss(central, wished, data_range=1.0)))


def test_the_papers_network_learns_from_views(planned):
    network = a_paper_network().train()
    loss = beam_views(PAPER, planned[0], QUICK, PATIENTS).loss(network, [1, 5], np.random.default_rng(1))
    loss.backward()
    assert 0 < float(loss.detach()) < 2
    assert network.dose_scale.grad.abs() > 0


class MapAsView:
    """Views that hold the map itself beside numbers that tell every pixel."""

    def __init__(self, fmu):
        self.fmu = torch.from_numpy(fmu.astype(np.float32))

    def of(self, beam):
        return torch.stack([self.fmu, torch.arange(1.0, self.fmu.numel() + 1).reshape(self.fmu.shape)])


def of_one_field(rows, columns, size=128):
    """One state whose field lies between these rows and columns."""
    fmu = np.zeros((size, size), np.float16)
    fmu[rows, columns] = np.random.default_rng(1).uniform(0.1, 1, fmu[rows, columns].shape)
    return BeamViews((MapAsView(fmu),), ((0, None),), fmu[None])


def shifts_of(data, monkeypatch, n=800):
    """Shifts along columns and rows that training made; views and maps are checked to have moved together."""
    compared = []
    monkeypatch.setattr(module, "fluence_loss", lambda *maps, data_range: compared.append(maps) or torch.zeros(()))
    network = Recorder()
    data.loss(network, [0] * n, np.random.default_rng(1))
    (predicted, wished), pixels = compared[0], network.given[0][:, 1]
    assert torch.equal(predicted, wished)
    whole = float(data.fmu.astype(np.float64).sum())
    assert_allclose(wished.sum((1, 2), dtype=torch.float64), whole, rtol=1e-6)  # nothing of the field is cut off
    size, shifts = wished.shape[-1], set()
    for image in pixels.numpy():
        row, column = np.argwhere(image)[0]
        from_row, from_column = divmod(int(image[row, column]) - 1, size)
        shifts.add((int(column - from_column), int(row - from_row)))
        inside = image[image > 0]
        assert inside.size == (size - abs(column - from_column)) * (size - abs(row - from_row))
    return shifts


def test_a_small_field_is_moved_by_one_of_80_shifts(monkeypatch):
    shifts = shifts_of(of_one_field(slice(50, 60), slice(40, 70)), monkeypatch)
    steps = range(-16, 17, 4)
    assert shifts == {(x, y) for x in steps for y in steps} - {(0, 0)}


def test_shifts_never_cut_a_field_off(monkeypatch):
    shifts = shifts_of(of_one_field(slice(6, 100), slice(20, 123)), monkeypatch)
    assert min(y for _, y in shifts) == -4 and max(y for _, y in shifts) == 16
    assert min(x for x, _ in shifts) == -16 and max(x for x, _ in shifts) == 4


def test_a_field_that_leaves_no_room_stays_where_it_is(monkeypatch):
    assert shifts_of(of_one_field(slice(1, 127), slice(3, 126)), monkeypatch, n=20) == {(0, 0)}


def test_validation_moves_nothing():
    data, network = of_one_field(slice(50, 60), slice(40, 70)), Recorder()
    assert float(data.loss(network, [0], None).detach()) == pytest.approx(0, abs=1e-12)
    assert_array_equal(network.given[0][0], data.views[0].of(None))
