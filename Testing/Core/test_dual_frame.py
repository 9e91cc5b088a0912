"""The dual-frame U-Net and its loss: layers of the paper, the frame condition, size, seeds, and that it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose
from skimage.metrics import structural_similarity
from torch import nn
from torch.nn import functional

from deeprt.networks.beams_eye_view import ViewSampling
from deeprt.networks.dual_frame import DualFrameConfig, DualFrameNetwork, fluence_loss, ssim
from deeprt.training.loop import clip_kernel_gradients

pytestmark = pytest.mark.usefixtures("one_thread")

PAPER = DualFrameConfig()
SMALL = DualFrameConfig(ViewSampling(n_slices=6, n_pixels=32), widths=(8, 12, 12))
MAX_BYTES = 20e6


def a_generator(seed=1):
    return torch.Generator().manual_seed(seed)


def a_network(config=SMALL, seed=1):
    return DualFrameNetwork(config, generator=a_generator(seed)).eval()


def a_trained_network(config=SMALL):
    """A network whose last layer does something."""
    network = a_network(config)
    nn.init.normal_(network.last.weight, std=0.3, generator=a_generator(7))
    return network


def some_views(config=SMALL, n_batch=2, seed=2):
    n = config.sampling.n_pixels
    return torch.rand(n_batch, config.n_channels, n, n, generator=a_generator(seed))


def a_smooth_map(n=32):
    """Like a fluence map: a field of smooth hills, zero around it."""
    x = torch.linspace(-1, 1, n)
    hills = 0.4 + 0.2 * torch.sin(5 * x)[:, None] * torch.cos(7 * x)
    return torch.where((x[:, None] ** 2 + x**2) < 0.6, hills, 0.0)[None]


# Network ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_contour_volumes", "n_channels"), [(1, 128), (0, 64), (10, 704)])
def test_views_of_contours_and_dose_become_a_map(n_contour_volumes, n_channels):
    config = replace(PAPER, n_contour_volumes=n_contour_volumes)
    with torch.no_grad():
        assert a_network(config)(some_views(config, n_batch=1)).shape == (1, 128, 128)
    assert config.n_channels == n_channels


def test_the_default_network_ships_in_twenty_megabytes():
    n_weights = sum(p.numel() for p in DualFrameNetwork().parameters())
    assert 5.9e6 < n_weights < 6.1e6  # as its docstring says
    assert 2 * n_weights <= MAX_BYTES  # two bytes in half precision


def test_sampling_is_done_by_convolutions_of_two_with_stride_two():
    network = a_network(PAPER)
    for layers, kind in ((network.down, nn.Conv2d), (network.up, nn.ConvTranspose2d)):
        assert [(type(m), m.kernel_size, m.stride, m.bias) for m in layers] == 4 * [(kind, (2, 2), (2, 2), None)]


def test_the_last_transposed_convolution_keeps_the_size_and_halves_the_channels():
    layer = a_network(PAPER).same_size
    assert isinstance(layer, nn.ConvTranspose2d)
    assert layer(torch.zeros(1, PAPER.widths[0], 128, 128)).shape == (1, PAPER.widths[0] // 2, 128, 128)


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, n_contour_volumes=0)])
def test_the_untrained_network_returns_the_scaled_central_slice_of_the_dose(config):
    views = some_views(config)
    dose = views[:, -6:]
    with torch.no_grad():
        assert_allclose(a_network(config)(views), 0.2 * dose[:, 2], rtol=1e-6)  # the third of six, counted from one


def test_the_dose_scale_is_learned_only_if_asked_for():
    assert a_network(SMALL).dose_scale.requires_grad
    plain = a_network(replace(SMALL, dose_scale=1.0, learned_dose_scale=False))
    assert not plain.dose_scale.requires_grad and "dose_scale" in plain.state_dict()


def test_sampling_begins_as_average_pooling():
    for down, up in zip(a_network().down, a_network().up, strict=True):
        skip = torch.randn(1, down.in_channels, 8, 8, generator=a_generator())
        pooled = functional.avg_pool2d(skip, 2).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        assert_allclose(up(down(skip)).detach(), pooled, atol=1e-6)


def inputs_of(modules, run):
    """What modules are given during a run."""
    seen = []
    hooks = [m.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone())) for m in modules]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return seen


def test_low_frequencies_that_went_down_are_taken_out_of_the_skip_connection():
    network = a_network()
    (down, _), (up, _) = network.down, network.up
    skip, sent, joined = inputs_of([down, network.descending[1], network.ascending[0]], lambda: network(some_views()))
    assert_allclose(joined[:, :8], skip - up(sent).detach() / 2, atol=1e-6)


def test_what_comes_back_as_it_went_down_counts_once():
    network = a_network()
    network.descending[1], network.ascending[1] = (
        nn.Identity(),
        _SumOfHalves(),
    )  # the coarser levels return what they got
    network.descending[2] = nn.Identity()
    skip, joined = inputs_of([network.down[0], network.ascending[0]], lambda: network(some_views()))
    high, low = joined.chunk(2, dim=1)
    assert_allclose(high + low, skip, atol=1e-5)


class _SumOfHalves(nn.Module):
    """Join both halves of the channels as a frame does."""

    def forward(self, joined):
        high, low = joined.chunk(2, dim=1)
        return high + low


def test_the_gradient_reaches_every_parameter():
    network = a_trained_network().train()
    network(some_views()).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_a_batch_gives_what_its_members_give():
    network, views = a_trained_network(), some_views(n_batch=3)
    with torch.no_grad():
        alone = torch.cat([network(v[None]) for v in views])
        assert_allclose(network(views), alone, rtol=1e-4, atol=1e-5)  # other order of sums


def test_contours_and_dose_change_the_prediction():
    network, views = a_trained_network(), some_views(n_batch=1)
    with torch.no_grad():
        before = network(views)
        for channel in (0, 6, 11):  # first of the contours, first and last of the dose
            other = views.clone()
            other[:, channel] += 1
            assert (network(other) - before).abs().max() > 1e-3


def test_the_same_seed_gives_the_same_weights():
    torch.manual_seed(5)
    one, other = a_network(seed=1), a_network(seed=2)
    torch.manual_seed(6)
    again = a_network(seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert not torch.equal(one.same_size.weight, other.same_size.weight)


@pytest.mark.parametrize("n_contour_volumes", [0, 1])
def test_the_network_overfits_one_sample_with_the_papers_rate_and_clipping(n_contour_volumes):
    config = replace(SMALL, n_contour_volumes=n_contour_volumes)
    network, views, wished = a_network(config).train(), some_views(config, n_batch=1), a_smooth_map()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = fluence_loss(network(views), wished, data_range=1.0)
        loss.backward()
        clip_kernel_gradients(network)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": (7, 8)}, "begin even"),
        ({"widths": (8, 16, 12)}, "not fall"),
        ({"sampling": ViewSampling(n_pixels=30)}, "30 pixels cannot be halved 2 times"),
    ],
)
def test_sizes_that_do_not_work_out_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


# Loss ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data_range", [1.0, 3.0])
def test_ssim_is_that_of_scikit_image(data_range):
    one, noise = (torch.rand(3, 40, 33, generator=a_generator(seed)) for seed in (1, 2))
    other = 0.7 * one + 0.3 * noise
    expected = [
        structural_similarity(
            a, b, data_range=data_range, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for a, b in zip(one.double().numpy(), other.double().numpy(), strict=True)
    ]
    assert_allclose(ssim(one, other, data_range=data_range), expected, rtol=1e-10)


def test_loss_is_dissimilarity_plus_relative_mean_absolute_error():
    wished = a_smooth_map()
    assert fluence_loss(wished, wished, data_range=1.0).item() == 0
    predicted = wished + 0.1 * torch.randn(wished.shape, generator=a_generator())
    for scale in (1.0, 20.0):  # maps in other units have the same loss
        loss = fluence_loss(scale * predicted, scale * wished, data_range=scale).item()
        error = np.abs((predicted - wished).numpy()).mean()
        assert_allclose(loss, 1 - ssim(predicted, wished, data_range=1.0).item() + error, rtol=1e-5)


def test_mixed_precision_leaves_the_loss_as_it_is():
    predicted, wished = a_smooth_map(), 0.9 * a_smooth_map()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = fluence_loss(predicted, wished, data_range=1.0)
    assert torch.equal(mixed, fluence_loss(predicted, wished, data_range=1.0))
