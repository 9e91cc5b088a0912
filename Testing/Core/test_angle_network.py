"""The default network: what it begins with, the symmetries it cannot break, and that it learns."""

import numpy as np
import pytest
import torch
from Core.selection_samples import one_thread as one_thread
from torch import nn

from deeprt.beams import BeamAngles
from deeprt.networks.angle_network import AngleConfig, AngleNetwork, message_weights
from deeprt.orientation.candidates import axes_of, sphere

CONFIG = AngleConfig(n_features=5, width=8, message_width=4, n_layers=2, reach_deg=(5.0, 40.0))
ROUNDING = {"rtol": 0.0, "atol": 1e-4}  # single precision, where sums run over the candidates in another order


def axes_over(angles):
    return torch.from_numpy(axes_of(angles)).float()


def a_circle(n=24):
    """Axes of evenly spaced coplanar candidates."""
    return axes_over([BeamAngles(360 * k / n) for k in range(n)])


def some_features(n=24, n_batch=3, seed=1):
    return torch.rand(n_batch, n, CONFIG.n_features, generator=torch.Generator().manual_seed(seed))


def untrained(config=CONFIG, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AngleNetwork(config).eval()


def perturbed():
    """A network whose every weight was moved, as a training would."""
    network, generator = untrained(), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return network


def predicted(network, features, axes):
    with torch.no_grad():
        return network(features, axes)


def scaled(curves):
    """Curves brought to 0 to 1, each by itself."""
    low, high = curves.amin(1, keepdim=True), curves.amax(1, keepdim=True)
    return (curves - low) / (high - low)


# What it begins with


def test_the_untrained_network_returns_the_coarse_fitness():
    features = some_features()
    torch.testing.assert_close(predicted(untrained(), features, a_circle()), scaled(features[..., 0]))


def test_a_perturbed_network_does_not():
    features = some_features()
    error = predicted(perturbed(), features, a_circle()) - scaled(features[..., 0])
    assert error.abs().amax(1).min() > 0.1


def test_the_same_seed_gives_the_same_weights():
    first, again, other = (untrained(seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["first.weight"], other["first.weight"])


# Symmetries


def test_turning_the_patient_shifts_the_prediction():
    network, features, axes = perturbed(), some_features(), a_circle()
    before = predicted(network, features, axes)
    for shift in (1, 7, 12):
        after = predicted(network, features.roll(shift, dims=1), axes)
        torch.testing.assert_close(after, before.roll(shift, dims=1), **ROUNDING)


def test_mirroring_the_patient_mirrors_the_prediction():
    network, features, axes = perturbed(), some_features(), a_circle()
    mirror = [-k % 24 for k in range(24)]  # gantry g becomes 360° - g
    after = predicted(network, features[:, mirror], axes)
    torch.testing.assert_close(after, predicted(network, features, axes)[:, mirror], **ROUNDING)


def test_candidates_may_stand_in_any_order_also_on_the_sphere():
    network, axes = perturbed(), axes_over(sphere(30.0))
    features = some_features(len(axes))
    order = torch.randperm(len(axes), generator=torch.Generator().manual_seed(2))
    after = predicted(network, features[:, order], axes[order])
    torch.testing.assert_close(after, predicted(network, features, axes)[:, order], **ROUNDING)


def test_turning_the_sphere_changes_nothing():
    network, axes = perturbed(), axes_over(sphere(30.0))
    features = some_features(len(axes))
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    after = predicted(network, features, axes @ torch.from_numpy(turn).float().T)
    torch.testing.assert_close(after, predicted(network, features, axes), **ROUNDING)


def test_a_state_is_predicted_by_itself():
    network, features, axes = perturbed(), some_features(), a_circle()
    together = predicted(network, features, axes)
    for n in range(len(features)):
        torch.testing.assert_close(predicted(network, features[n : n + 1], axes), together[n : n + 1], **ROUNDING)


@pytest.mark.parametrize("n", [1, 2, 36, 180])
def test_any_number_of_candidates_has_a_fitness_from_0_to_1(n):
    fitness = predicted(perturbed(), some_features(n), a_circle(n))
    assert fitness.shape == (3, n)
    assert torch.all(fitness.amin(1) == 0)
    assert torch.all(fitness.amax(1) == (1 if n > 1 else 0))


def test_candidates_that_are_all_alike_have_no_fitness():
    fitness = predicted(perturbed(), some_features(1).expand(-1, 24, -1), a_circle())
    assert fitness.isfinite().all()
    assert fitness.min() == 0


# Messages


@pytest.mark.parametrize("axes", [a_circle(), a_circle(25), axes_over(sphere(30.0))], ids=["even", "odd", "sphere"])
def test_the_messages_to_a_candidate_have_weights_that_sum_to_one(axes):
    weights = message_weights(axes, (3.0, 30.0))
    assert weights.shape == (4, len(axes), len(axes))
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(-1), torch.ones(4, len(axes)))


def test_messages_fall_off_as_gaussians_from_beside_and_from_opposite():
    weights = message_weights(a_circle(36), (10.0, 40.0))
    away_deg = torch.minimum(torch.arange(36.0), 36 - torch.arange(36.0)) * 10
    for row, reach in zip(weights[:2, 0], (10.0, 40.0), strict=True):
        expected = torch.exp(-((away_deg / reach) ** 2) / 2)
        torch.testing.assert_close(row, expected / expected.sum(), rtol=1e-3, atol=1e-6)  # arccos near 1 is coarse
    torch.testing.assert_close(weights[2:, 0], weights[:2, 0].roll(18, dims=-1), rtol=1e-3, atol=1e-6)


def test_without_an_opposite_candidate_the_nearest_ones_to_it_stand_in():
    weights = message_weights(a_circle(3), (3.0,))
    torch.testing.assert_close(weights[1, 0], torch.tensor([0.0, 0.5, 0.5]), rtol=0, atol=1e-3)


def test_a_wider_reach_hears_more_of_the_others():
    own = message_weights(a_circle(180), (3.0, 9.0, 30.0))[:3].diagonal(dim1=1, dim2=2)
    assert torch.all(own[0] > own[1]) and torch.all(own[1] > own[2])


def test_mixed_precision_leaves_the_messages_as_they_are():
    axes = a_circle(180)
    with torch.autocast("cpu", torch.float16):
        mixed = message_weights(axes, (3.0, 30.0))
    torch.testing.assert_close(mixed, message_weights(axes, (3.0, 30.0)))


# Learning


def test_the_network_overfits_a_few_states():
    network, features, axes = untrained(), some_features(n_batch=4), a_circle()
    wanted = scaled(torch.cos(torch.arange(24) * 2 * torch.pi / 24 + torch.arange(4)[:, None]))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    errors = []
    for _ in range(150):
        optimizer.zero_grad()
        error = nn.functional.mse_loss(network(features, axes), wanted)
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < errors[0] / 50


def test_the_gradient_reaches_every_parameter_after_the_first_step():
    network = perturbed()
    network(some_features(), a_circle()).square().sum().backward()
    for name, parameter in network.named_parameters():
        if name != "last.bias":  # a constant added to a curve that is brought to 0 to 1
            assert parameter.grad.abs().max() > 0, name
