"""The default fluence network: what it leaves as it is, what it can change, and that it learns."""

from itertools import pairwise

import pytest
import torch
from Core.fluence_prediction_samples import SMALL, a_network_file, a_random_network
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose

from deeprt.fluence.inversion import FEATURES
from deeprt.fluence.predict import network_of
from deeprt.networks.fluence_network import FluenceConfig, FluenceNetwork


def some_features(n_batch=2, size=24, seed=1):
    """Random features with jaws that are off the center and narrower than the map."""
    features = torch.rand(n_batch, SMALL.n_features, size, size, generator=torch.Generator().manual_seed(seed))
    jaws = torch.zeros(size, size)
    jaws[3 : size - 8, 5 : size - 4] = 1
    features[:, -1] = 1
    return features * jaws


def changes(features, network=None):
    """What a network adds to the mimicked fluence."""
    network = network or a_random_network()
    with torch.no_grad():
        return network(features) - features[:, 0]


def test_the_network_takes_the_features_of_the_inversion():
    assert FluenceConfig().n_features == len(FEATURES)
    assert FEATURES[0] == "fluence" and FEATURES[-1] == "jaws"  # which the network relies on


@pytest.mark.parametrize("config", [FluenceConfig(), SMALL, FluenceConfig(widths=(4,))])
def test_the_untrained_network_returns_the_mimicked_fluence(config):
    features = some_features()
    with torch.no_grad():
        assert torch.equal(FluenceNetwork(config)(features), features[:, 0])


def test_maps_keep_their_size_which_need_not_be_square():
    features = some_features(3, 32)[:, :, :, :20]
    with torch.no_grad():
        assert a_random_network()(features).shape == (3, 32, 20)


def test_rows_and_columns_are_halved_once_for_every_level_below_the_first():
    assert [FluenceConfig(widths=(4,) * n).n_halvings for n in (1, 2, 4)] == [0, 1, 3]
    network = FluenceNetwork(FluenceConfig(widths=(4, 6, 8)))
    assert [(d.in_channels, d.out_channels) for d in network.down] == list(pairwise((4, 6, 8)))


def test_nothing_is_added_behind_the_jaws():
    features = some_features()
    changed = changes(features)
    behind = features[:, -1] == 0
    assert not changed[behind].any()
    assert (changed[~behind] != 0).all()


def test_what_lies_behind_the_jaws_of_the_fluence_is_taken_away():
    features = some_features()
    features[:, 0] = 1
    with torch.no_grad():
        assert not a_random_network()(features)[features[:, -1] == 0].any()


def test_every_feature_counts():
    features = some_features(1)
    before = changes(features)
    for n, name in enumerate(FEATURES[:-1]):
        other = features.clone()
        other[:, n] *= 1.5
        assert (changes(other) - before).abs().max() > 1e-3, name


def test_beams_do_not_see_each_other():
    features = some_features(3)
    for together, alone in zip(changes(features), features, strict=True):
        assert_allclose(together, changes(alone[None])[0], atol=1e-6)


def test_coarse_levels_see_far():
    def reach(network):
        features = some_features(1, 64)
        other = features.clone()
        other[0, 1, 30, 30] += 1
        rows = torch.nonzero((changes(other, network) - changes(features, network))[0].abs().amax(1) > 1e-7)
        return int((rows - 30).abs().max())

    reaches = [reach(a_random_network(FluenceConfig(widths=(4,) * n))) for n in (1, 2, 3)]
    assert reaches[0] == 3  # three convolutions of 3 x 3 pixels
    assert reaches[0] < reaches[1] < reaches[2]


def test_a_shift_by_whole_coarse_pixels_moves_the_map():
    features = some_features(1, 80)
    features[:, -1] = 1
    step = 2**SMALL.n_halvings
    moved = features.roll((step, 2 * step), (2, 3))
    inner = slice(36, 44)  # what the border does does not reach this far
    expected = changes(features)[:, inner, inner]
    found = changes(moved)[:, inner.start + step : inner.stop + step, inner.start + 2 * step : inner.stop + 2 * step]
    assert_allclose(found, expected, atol=1e-5)


def test_a_network_is_the_same_after_writing_up_to_half_precision(tmp_path):
    network = a_random_network()
    card, read = network_of(a_network_file(tmp_path / "fluence.safetensors", network))
    assert card.network == "fluence network"
    assert read.config == SMALL and not read.training
    assert_allclose(changes(some_features(), read), changes(some_features(), network), atol=2e-3)


def test_the_network_learns_what_is_left_to_correct():
    features = some_features(2, 16)
    wished = features[:, 0] + features[:, -1] * (0.3 * features[:, 1] - 0.2 * features[:, 5])
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = FluenceNetwork(FluenceConfig(widths=(4, 4)))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = (network(features) - wished).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())
