"""The dose network: what it adds to the dose of even beams, its mirror image, its loss, size, and that it learns."""

import numpy as np
import pytest
import torch
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose
from torch import nn

from deeprt.networks.dose_network import (
    BODY,
    EVEN_DOSE,
    FEATURES,
    DoseConfig,
    DoseNetwork,
    dose_loss,
    mirrored,
    symmetric_dose,
)

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = DoseConfig(("Rectum", "Femur_Head_R", "Femur_Head_L"), widths=(8, 8, 8))
EXTENT = (9, 14, 11)  # no multiple of four
MAX_BYTES = 20e6


def a_network(*, changes_dose=True):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = DoseNetwork(CONFIG)
        if changes_dose:
            nn.init.normal_(network.last.weight, std=0.1)
    return network.eval()


def some_features(n_batch=2, seed=2):
    """Of bodies that leave two slices and a few columns free."""
    features = torch.rand(n_batch, CONFIG.n_features, *EXTENT, generator=torch.Generator().manual_seed(seed))
    features[:, BODY, :2] = 0
    features[:, BODY, :, :, 8:] = 0
    return features


def test_the_untrained_network_returns_the_dose_of_even_beams_inside_the_body():
    features = some_features()
    with torch.no_grad():
        dose = a_network(changes_dose=False)(features)
    assert_allclose(dose, torch.where(features[:, BODY] > 0, features[:, EVEN_DOSE], 0.0))


def test_there_is_no_dose_outside_the_body():
    features = some_features()
    with torch.no_grad():
        dose = a_network()(features)
    assert dose.shape == (2, *EXTENT)
    assert (dose[features[:, BODY] == 0] == 0).all()
    assert (dose[features[:, BODY] > 0] != features[:, EVEN_DOSE][features[:, BODY] > 0]).all()


def test_patients_of_a_batch_do_not_see_each_other():
    network, features = a_network(), some_features()
    with torch.no_grad():
        both, second = network(features), network(features[1:])
    assert_allclose(both[1], second[0], atol=1e-5)  # other algorithms of convolution round otherwise


def test_the_mirror_image_has_left_and_right_exchanged():
    features = some_features()[0]
    image = mirrored(features, CONFIG)
    organs = len(FEATURES)
    assert torch.equal(image[:organs], features[:organs].flip(-1))
    assert torch.equal(image[organs], features[organs].flip(-1))
    assert torch.equal(image[organs + 1], features[organs + 2].flip(-1))
    assert torch.equal(image[organs + 2], features[organs + 1].flip(-1))
    assert torch.equal(mirrored(image, CONFIG), features)


def test_an_organ_of_one_side_only_is_refused():
    config = DoseConfig(("Rectum", "Femur_Head_R"))
    with pytest.raises(ValueError, match="'Femur_Head_R' is among its organs, 'Femur_Head_L' is not"):
        mirrored(torch.zeros(config.n_features, 2, 2, 2), config)


def test_the_symmetric_dose_of_the_mirror_image_is_the_mirror_image_of_the_dose():
    network, features = a_network(), some_features()[0]
    with torch.no_grad():
        dose, image = symmetric_dose(network, features), symmetric_dose(network, mirrored(features, CONFIG))
        alone = network(features[None])[0]
    assert_allclose(image.flip(-1), dose, atol=1e-6)
    assert (dose - alone).abs().max() > 1e-3


def test_the_loss_is_the_mean_over_patients_of_their_weighted_mean_error():
    rng = np.random.default_rng(3)
    predicted, wished, weight = (rng.uniform(size=(2, *EXTENT)) for _ in range(3))
    weight[:, 4:7] = 0
    expected = [np.average(np.abs(p - w), weights=m) for p, w, m in zip(predicted, wished, weight, strict=True)]
    wished[:, 4:7] += 9.0  # where the dose is not known
    assert_allclose(dose_loss(*(torch.from_numpy(v) for v in (predicted, wished, weight))), np.mean(expected))


def test_weights_are_small_in_half_precision():
    for n_organs in (6, 7):
        network = DoseNetwork(DoseConfig(tuple(f"Organ{n}" for n in range(n_organs))))
        assert 2 * sum(p.numel() for p in network.parameters()) < MAX_BYTES


def test_the_network_learns_to_spare_an_organ():
    network, features = a_network(changes_dose=False).train(), some_features()
    wished = (features[:, EVEN_DOSE] - 0.5 * features[:, len(FEATURES)]) * (features[:, BODY] > 0)
    optimizer, losses = torch.optim.Adam(network.parameters(), 1e-2), []
    for _ in range(25):
        optimizer.zero_grad()
        loss = dose_loss(network(features), wished, features[:, BODY])
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2
