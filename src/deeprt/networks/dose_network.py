"""The dose network: it corrects the dose of even beams to what a planner would reach, and its loss.

What the beams do by themselves is known from physics and comes in as a channel of its own; the network learns only how
planning shapes it around organs at risk.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from deeprt.networks.blocks import ResidualBlock, through_levels

FEATURES = (
    "prescription",  # of the targets, over the highest one; where they overlap the higher holds
    "distance",  # to the union of targets, negative inside, over 50 mm, cut off at -0.5 and 2
    "density",  # relative electron density
    "body",  # share of the voxel inside the external structure
    "even dose",  # of beams of equal fluence and weight, mean 1 in the target of highest prescription
)  # then the share of the voxel inside each organ at risk of the configuration
PRESCRIPTION, BODY, EVEN_DOSE = (FEATURES.index(name) for name in ("prescription", "body", "even dose"))


@dataclass(frozen=True)
class DoseConfig:
    """What the network sees, and its sizes.

    Parameters
    ----------
    organs : TG-263 names of the organs at risk, a channel each; one that a case does not have is zero
    voxel_mm : edge of the voxels
    widths : channels of each level, from the voxels to the coarsest; each voxel is twice as large as before
    """

    organs: tuple[str, ...]
    voxel_mm: float = 6.0
    widths: tuple[int, ...] = (16, 32, 64, 96)

    @property
    def n_features(self) -> int:
        """Channels that come in."""
        return len(FEATURES) + len(self.organs)


class DoseNetwork(nn.Module):
    """A 3-D U-Net that adds what it finds to the dose of even beams.

    The last layer begins at zero, so that the untrained network returns the dose of even beams as it is.
    """

    def __init__(self, config: DoseConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.first = nn.Conv3d(config.n_features, widths[0], 3, padding=1)
        self.descending = nn.ModuleList(ResidualBlock(w, nn.Conv3d) for w in widths)
        self.down = nn.ModuleList(nn.Conv3d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose3d(b, a, 2, stride=2) for a, b in pairwise(widths))
        self.ascending = nn.ModuleList(ResidualBlock(w, nn.Conv3d) for w in widths[:-1])
        self.last = nn.Conv3d(widths[0], 1, 1)
        for name in ("last.weight", "last.bias"):
            nn.init.zeros_(self.get_parameter(name))
        # Faster on a CPU: the channels of each voxel lie together.
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def forward(self, features: Tensor) -> Tensor:
        """Predict dose.

        Parameters
        ----------
        features : (n_batch, n_features, n_k, n_j, n_i) float32, of any extent; slices from inferior to superior, rows
            to posterior, columns to the patient's left

        Returns
        -------
        (n_batch, n_k, n_j, n_i) float32 over the highest prescription; zero outside the body, elsewhere it may be
        negative
        """
        n_k, n_j, n_i = features.shape[2:]
        step = 2 ** len(self.down)
        padding = [p for n in (n_i, n_j, n_k) for p in (0, -n % step)]
        padded = functional.pad(features, padding, mode="replicate")
        first = self.first(padded.contiguous(memory_format=torch.channels_last_3d))
        hidden = through_levels(first, self.descending, self.down, self.up, self.ascending)
        change = self.last(hidden)[:, 0, :n_k, :n_j, :n_i]
        dose: Tensor = (features[:, EVEN_DOSE] + change) * (features[:, BODY] > 0)
        return dose


def dose_loss(predicted: Tensor, wished: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute error of each patient's dose, and the mean of patients.

    Parameters
    ----------
    predicted, wished : (n_batch, n_k, n_j, n_i) over the highest prescription
    weight : (n_batch, n_k, n_j, n_i) of each voxel, not negative; zero where the dose is not known

    Returns
    -------
    () over the highest prescription
    """
    error = (predicted - wished).abs()
    return ((weight * error).sum((1, 2, 3)) / weight.sum((1, 2, 3))).mean()


def symmetric_dose(network: DoseNetwork, features: Tensor) -> Tensor:
    """Mean of the predictions for a patient and, mirrored back, for the mirror image: the same whichever side is left.

    It takes less time than the network takes for the patient alone: PyTorch has slow 3-D convolutions for a batch of
    one on a single thread.

    Parameters
    ----------
    features : (n_features, n_k, n_j, n_i) float32

    Returns
    -------
    (n_k, n_j, n_i) float32 over the highest prescription
    """
    seen, image = network(torch.stack([features, mirrored(features, network.config)]))
    mean: Tensor = (seen + image.flip(-1)) / 2
    return mean


def mirrored(features: Tensor, config: DoseConfig) -> Tensor:
    """The mirror image of a patient: left is right, and organs ending in ``_L`` and ``_R`` change places.

    Parameters
    ----------
    features : (..., n_features, n_k, n_j, n_i), columns to the patient's left

    Raises
    ------
    ValueError
        If the configuration has an organ of one side only.
    """
    sides = {"_L": "_R", "_R": "_L"}
    partners = [name[:-2] + sides[name[-2:]] if name[-2:] in sides else name for name in config.organs]
    for name, partner in zip(config.organs, partners, strict=True):
        if partner not in config.organs:
            raise ValueError(f"Dose network: '{name}' is among its organs, '{partner}' is not; give both or none.")
    order = [*range(len(FEATURES)), *(len(FEATURES) + config.organs.index(name) for name in partners)]
    return features[..., order, :, :, :].flip(-1)
