"""The paper's network: shapes of its text, size, gradients, and that it learns."""

from dataclasses import replace

import pytest
import torch
from Core.selection_samples import one_thread as one_thread
from torch import nn

from deeprt.networks.paper_network import PaperConfig, PaperNetwork

PAPER = PaperConfig()
KINDS = ("convolution", "full")
# The smallest cube that three levels of unpadded convolutions leave a voxel of.
SMALL = PaperConfig(36, 52, 7.0, (2, 3, 4), 16, stage_widths=(16, 16, 16, 16), full_widths=(6, 8, 8, 8))
MAX_BYTES = 20e6


def a_generator(seed=1):
    return torch.Generator().manual_seed(seed)


def a_network(config=SMALL, seed=1):
    return PaperNetwork(config, generator=a_generator(seed))


def some_inputs(config=SMALL, n_batch=2, seed=2):
    """Channels and chosen beams."""
    generator, n = a_generator(seed), config.n_voxels
    channels = torch.rand(n_batch, 2, n, n, n, generator=generator) * torch.tensor([1.0, 0.1]).reshape(2, 1, 1, 1)
    return channels, torch.rand(n_batch, config.n_candidates, generator=generator) < 0.1


def chosen_of(*beams):
    mask = torch.zeros(1, PAPER.n_candidates, dtype=torch.bool)
    mask[0, list(beams)] = True
    return mask


def recorded(modules, run):
    """Inputs and outputs of modules during a run."""
    seen = []
    hooks = [m.register_forward_hook(lambda _, given, made: seen.append((given[0], made.clone()))) for m in modules]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return seen


def test_the_encoder_has_the_papers_levels():
    network = a_network(PAPER)
    channels, _ = some_inputs(PAPER, n_batch=1)
    convolutions = [m for m in network.encoder if isinstance(m, nn.Conv3d)]
    assert [m.kernel_size[0] for m in convolutions] == [5, 5, 5, 5, 3, 3, 3]
    poolings = [m for m in network.encoder if isinstance(m, nn.MaxPool3d)]
    seen = recorded([*poolings, network.encoder[-1]], lambda: network.encode(channels))
    assert [tuple(made.shape[1:]) for _, made in seen] == [(8, 28, 28, 28), (16, 10, 10, 10), (1024,)]
    assert seen[-1][0].shape == (1, 32 * 4**3)


def test_the_stages_have_the_papers_lengths_and_pooled_beams():
    network = a_network(PAPER)
    beams = (0, 25, 26, 179)
    seen = recorded(network.third.stages, lambda: network(torch.randn(1, 1024), chosen_of(*beams)))
    assert [given.shape[2] for given, _ in seen] == [5, 15, 45, 90, 180]
    assert [made.shape[2] for _, made in seen] == [5, 15, 45, 90, 180]
    assert seen[0][0].shape[1] == 1024 and seen[-1][1].shape[1] == 1
    for (given, _), pool in zip(seen[1:], (12, 4, 2, 1), strict=True):
        pooled, complement = given[0, -2], given[0, -1]
        assert pooled.nonzero().ravel().tolist() == sorted({b // pool for b in beams})
        assert torch.equal(complement, 1 - pooled)


def test_every_stage_has_two_convolutions_of_three_over_the_circle():
    for stage in a_network(PAPER).third.stages:
        layers = [m for m in stage if isinstance(m, nn.Conv1d)]
        assert [(m.kernel_size, m.padding_mode) for m in layers] == 2 * [((3,), "circular")]


def test_upsampling_repeats_the_values_of_a_position():
    network = a_network(PAPER)
    seen = recorded(network.third.stages, lambda: network(torch.randn(1, 1024), chosen_of(7)))
    for (_, made), (given, _), factor in zip(seen, seen[1:], (3, 3, 2, 2), strict=False):
        assert torch.equal(given[:, :-2], made.repeat_interleave(factor, dim=2))


@pytest.mark.parametrize("kind", KINDS)
def test_the_chosen_beams_and_their_complement_join_the_features(kind):
    network = a_network(replace(PAPER, third_block=kind))
    features = torch.randn(1, 1024)
    ((given, made),) = recorded([network.join], lambda: network(features, chosen_of(3, 100)))
    assert torch.equal(given[:, :1024], features)
    assert given[0, 1024:1204].nonzero().ravel().tolist() == [3, 100]
    assert torch.equal(given[:, 1204:], 1 - given[:, 1024:1204])
    assert made.shape == (1, 5120)


def test_dnnfull_has_five_layers_which_the_beams_join_after_each_of_the_first_four():
    network = a_network(replace(PAPER, third_block="full"))
    seen = recorded(network.third.layers, lambda: network(torch.randn(1, 1024), chosen_of(3)))
    assert [given.shape[1] for given, _ in seen] == [5120, 64 + 360, 128 + 360, 128 + 360, 128 + 360]
    for given, _ in seen[1:]:
        assert given[0, -360:-180].nonzero().ravel().tolist() == [3]
        assert torch.equal(given[:, -180:], 1 - given[:, -360:-180])
    assert seen[-1][1].shape == (1, 180)


def test_both_networks_ship_in_twenty_megabytes_and_their_third_blocks_are_of_a_size():
    networks = [PaperNetwork(replace(PAPER, third_block=kind)) for kind in KINDS]
    for network in networks:
        assert 2 * sum(p.numel() for p in network.parameters()) <= MAX_BYTES  # two bytes in half precision
    sizes = [sum(p.numel() for p in network.third.parameters()) for network in networks]
    assert max(sizes) <= 1.2 * min(sizes)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_reaches_every_parameter(kind):
    network = a_network(replace(SMALL, third_block=kind))
    channels, chosen = some_inputs()
    network(network.encode(channels), chosen).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_overfits_one_scenario(kind):
    network = a_network(replace(SMALL, third_block=kind))
    channels, chosen = some_inputs(n_batch=1)
    angle = torch.arange(SMALL.n_candidates) * 2 * torch.pi / SMALL.n_candidates
    fitness = (0.5 + 0.3 * torch.cos(angle) + 0.2 * torch.cos(2 * angle))[None]
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    errors = []
    for _ in range(40):
        optimizer.zero_grad()
        error = nn.functional.mse_loss(network(network.encode(channels), chosen), fitness)
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < errors[0] / 50


@pytest.mark.parametrize("kind", KINDS)
def test_chosen_beams_change_the_prediction(kind):
    network = a_network(replace(PAPER, third_block=kind))
    features = torch.randn(1, 1024, generator=a_generator())
    curves = torch.cat([network(features, chosen_of(*beams)) for beams in ((), (10,), (100,))])
    assert torch.cdist(curves, curves)[torch.triu_indices(3, 3, 1).unbind()].min() > 0.1


def test_a_batch_gives_what_its_members_give():
    network = a_network()
    channels, chosen = some_inputs(n_batch=3)
    with torch.no_grad():
        together = network(network.encode(channels), chosen)
        alone = [network(network.encode(c[None]), b[None]) for c, b in zip(channels, chosen, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)  # other order of sums


def test_the_same_seed_gives_the_same_weights():
    torch.manual_seed(5)
    one, other = a_network(seed=1), a_network(seed=2)
    torch.manual_seed(6)
    again = a_network(seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert not torch.equal(one.join[0].weight, other.join[0].weight)


def test_activations_begin_near_unit_variance():
    network = a_network(PAPER)
    # Samples of the standard normal distribution, for which SELU and its initial weights are made.
    curve = network(torch.randn(8, 1024, generator=a_generator()), chosen_of(3).expand(8, -1))
    assert 0.5 < curve.std().item() < 2


@pytest.mark.parametrize(("change", "message"), [({"n_candidates": 100}, "multiple of 36"), ({"n_voxels": 51}, "52")])
def test_sizes_that_do_not_work_out_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(PAPER, **change)


@pytest.mark.parametrize("kind", KINDS)
def test_other_numbers_of_candidates_work(kind):
    network = a_network(replace(SMALL, n_candidates=72, third_block=kind))
    features = torch.randn(2, SMALL.n_features)
    assert network(features, torch.zeros(2, 72, dtype=torch.bool)).shape == (2, 72)
