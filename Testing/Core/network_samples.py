"""A network of random weights with its model card, as a training would release it."""

from dataclasses import asdict

import torch

from deeprt.networks.angle_network import AngleConfig, AngleNetwork
from deeprt.networks.checkpoint import ModelCard, save_checkpoint
from deeprt.orientation.network_prediction import KIND

CONFIG = AngleConfig(width=8, message_width=4, n_layers=1)


def a_card(config=None, *, organs=(), site="sample", extent_mm=(60.0, 60.0, 60.0), candidates="coplanar:30"):
    """A card of a network that knows patients such as the sample case."""
    return ModelCard(
        network=KIND,
        config=config or asdict(CONFIG),
        data="none",
        split="none",
        budget="none",
        metrics={},
        limits=("It knows nothing.",),
        trained="2024-05-06",
        commit="",
        code_version="0.1.0",
        site=site,
        organs=organs,
        n_beams_max=5,
        candidates=candidates,
        extent_mm=extent_mm,
    )


def a_network(seed=1):
    """A network whose prediction is not the coarse fitness, but not far from it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = AngleNetwork(CONFIG)
        with torch.no_grad():
            network.last.weight.normal_(std=0.1)
    return network


def a_network_file(file, *, network=None, **card):
    """Write a network and its card; gives the file."""
    network = network or a_network()
    save_checkpoint(file, network, a_card(asdict(network.config), **card))
    return file
