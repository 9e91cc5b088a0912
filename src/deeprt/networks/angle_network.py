"""The default network: it corrects a coarse column generation, with weights shared by all angles.

What a beam is worth depends on what it sees, wherever it stands. So every candidate is described by the same few
numbers (`deeprt.orientation.views`), the same layers act on each, and candidates exchange messages with weights that
depend on the angle between them only. Turning the patient therefore shifts the curve and changes nothing else, and any
number of candidates, coplanar or not, can be asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class AngleConfig:
    """Sizes of the network.

    Parameters
    ----------
    n_features : of a candidate
    width, message_width : channels of a candidate in the hidden layers, and of what it tells others
    n_layers : rounds of messages
    reach_deg : standard deviations of the Gaussian weights of messages, by the angle between central axes
    """

    n_features: int = 12
    width: int = 32
    message_width: int = 16
    n_layers: int = 3
    reach_deg: tuple[float, ...] = (3.0, 9.0, 30.0)


class AngleNetwork(nn.Module):
    """Fitness of every candidate from its view of the current plan.

    The last layer begins at zero, so that the untrained network returns the coarse fitness as it is.
    """

    def __init__(self, config: AngleConfig = AngleConfig()) -> None:
        super().__init__()
        self.config = config
        n_messages = 2 * len(config.reach_deg)  # from beside, and from opposite
        self.first = nn.Linear(config.n_features, config.width)
        self.layers = nn.ModuleList(_Layer(config, n_messages) for _ in range(config.n_layers))
        self.last = nn.Linear(config.width, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor, axes: Tensor) -> Tensor:
        """Predict fitness.

        Parameters
        ----------
        features : (n_batch, n_candidates, n_features) float32; the first is the coarse fitness
        axes : (n_candidates, 3) unit vectors from the isocenter to the sources

        Returns
        -------
        (n_batch, n_candidates) float32, least 0 and largest 1
        """
        mixing = message_weights(axes, self.config.reach_deg)
        hidden = self.first(features)
        for layer in self.layers:
            hidden = layer(hidden, mixing)
        curve = features[..., 0] + self.last(hidden).squeeze(-1)
        low, high = curve.amin(1, keepdim=True), curve.amax(1, keepdim=True)
        fitness: Tensor = (curve - low) / (high - low).clamp(min=1e-6)
        return fitness


class _Layer(nn.Module):
    """Messages from other angles, then the same two dense layers on every candidate, added to what was there."""

    def __init__(self, config: AngleConfig, n_messages: int) -> None:
        super().__init__()
        width = config.width
        self.norm = nn.LayerNorm(width)
        self.tell = nn.Linear(width, config.message_width)
        self.dense = nn.Sequential(
            nn.Linear(width + n_messages * config.message_width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, hidden: Tensor, mixing: Tensor) -> Tensor:
        """(n_batch, n_candidates, width) -> the same; mixing is (n_messages, n_candidates, n_candidates)."""
        own = self.norm(hidden)
        messages = mixing[:, None] @ self.tell(own)  # (n_messages, 1, n, n) @ (n_batch, n, message_width)
        mixed: Tensor = hidden + self.dense(torch.cat([own, *messages], dim=-1))
        return mixed


def message_weights(axes: Tensor, reach_deg: tuple[float, ...]) -> Tensor:
    """Weights of messages between candidates, (2 · n_reaches, n_candidates, n_candidates); each row sums to one.

    Gaussians of the angle to each other axis, then of the angle to its opposite.
    """
    cosine = (axes[:, None] * axes).sum(-1).clamp(-1, 1)  # a matrix product would be rounded by mixed precision
    angle = torch.rad2deg(torch.stack([torch.arccos(cosine), torch.arccos(-cosine)]))
    exponent = torch.stack([-((angle / reach) ** 2) / 2 for reach in reach_deg], dim=1).flatten(0, 1)
    return exponent.softmax(-1)  # also where no candidate is opposite: then the nearest ones to it stand in
