"""The paper's network: fitness of every candidate from the anatomy and the beams chosen so far.

A. Sadeghnejad Barkousaraie, O. Ogunmolu, S. Jiang and D. Nguyen, Med. Phys. 47, 880 (2020), section II.A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

POOLS = (12, 4, 2, 1)  # candidates that one position stands for after each upsampling
_COARSEST = 36  # and before the first one: 180 candidates make the paper's 5 positions


@dataclass(frozen=True)
class PaperConfig:
    """Sizes of the network; the defaults that the paper does not give are explained at `PaperNetwork`.

    Parameters
    ----------
    n_candidates : evenly spaced over the circle, a multiple of 36
    n_voxels, voxel_mm : edge of the anatomy's cube, and of its voxels
    encoder_channels : of the three levels
    n_features : of the anatomy, and of each position before the third block
    third_block : convolutional stages, or the fully connected layers of DNNFull
    stage_widths : channels of the first four stages; the fifth has half of the fourth's, then one
    full_widths : features of the first four layers of DNNFull
    """

    n_candidates: int = 180
    n_voxels: int = 64
    voxel_mm: float = 7.0
    encoder_channels: tuple[int, int, int] = (8, 16, 32)
    n_features: int = 1024
    third_block: Literal["convolution", "full"] = "convolution"
    stage_widths: tuple[int, int, int, int] = (128, 64, 64, 32)
    full_widths: tuple[int, int, int, int] = (64, 128, 128, 128)

    def __post_init__(self) -> None:
        if self.n_candidates < 1 or self.n_candidates % _COARSEST:
            raise ValueError(f"The paper's network: n_candidates must be a multiple of 36, got {self.n_candidates}.")
        if self.encoded_edge < 1:
            raise ValueError(f"The paper's network: n_voxels must be at least 52, got {self.n_voxels}.")

    @property
    def encoded_edge(self) -> int:
        """Edge of the anatomy after the third level: 4 of 64 voxels."""
        return ((self.n_voxels - 8) // 2 - 8) // 2 - 6

    @property
    def n_positions(self) -> int:
        """Positions on the circle before the first stage."""
        return self.n_candidates // _COARSEST


class PaperNetwork(nn.Module):
    """Three blocks: anatomy to features, join with the chosen beams, positions on the circle up to all candidates.

    As in the paper: two channels of 64³; two levels of two 5³ convolutions and a max pooling of 2³; a level of three
    3³ convolutions; 1,024 features; joined with the chosen beams B and their complement; 5,120 features, which are
    5 positions of 1,024; five stages of two convolutions of 3, all but the last with an upsampling, after which the
    max-pooled B and its complement join, so that lengths are 5, 15, 45, 90 and 180; one value a candidate; SELU after
    every layer, the last one included. DNNFull has five fully connected layers for the stages; as there, B and its
    complement join after each of the first four.

    What the paper leaves open, and here:

    - Convolutions in three dimensions are not padded. From 64³ the levels make 28³, 10³ and 4³, and the first dense
      layer stays small; padded, it alone would pass 20 MB. Voxels at the cube's border take part in fewer positions.
    - 8, 16 and 32 channels in the three levels, and 128, 64, 64, 32 and 16 in the stages. With the dense layer to
      5,120 features, which has 7.1 of 10 million parameters, this keeps the weights below 20 MB in half precision.
    - Convolutions over angles are padded circularly: the last candidate is the neighbor of the first.
    - Upsampling repeats values. A position then stands for the candidates that max pooling of B joins in it.
    - The complement at a pooled length is that of the pooled B. Pooling the complement would give ones
      wherever not all 12 candidates of a position are chosen.
    - Weights begin normally distributed with variance 1 / fan-in, as SELU asks for (Klambauer et al., Self-normalizing
      neural networks, 2017, arXiv:1706.02515), biases at zero. There is no dropout and no normalization.

    Fitness lies where the last SELU is linear. Below zero it flattens out at -1.76, where training can get stuck if
    its steps are too large, in small networks of a rate of 0.01; the paper's rate is 1e-5.

    Parameters
    ----------
    config : sizes
    generator : of the initial weights; torch's default one if None
    """

    def __init__(self, config: PaperConfig = PaperConfig(), *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        n_features, n_beams = config.n_features, 2 * config.n_candidates
        self.encoder = _encoder(config)
        self.join = _dense(n_features + n_beams, config.n_positions * n_features)
        self.third: _ConvolutionStages | _FullLayers = (
            _ConvolutionStages(config) if config.third_block == "convolution" else _FullLayers(config)
        )
        _initialize(self, generator)
        # Faster on a CPU: the few channels of each voxel lie together.
        self.encoder.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def encode(self, channels: Tensor) -> Tensor:
        """Anatomy to features, which do not depend on the chosen beams.

        Parameters
        ----------
        channels : (n_batch, 2, n_voxels, n_voxels, n_voxels) float32, see `deeprt.networks.anatomy.channels`

        Returns
        -------
        (n_batch, n_features) float32
        """
        features: Tensor = self.encoder(channels.contiguous(memory_format=torch.channels_last_3d))
        return features

    def forward(self, features: Tensor, chosen: Tensor) -> Tensor:
        """Fitness of every candidate; trained towards 0 to 1, but not confined to it.

        Parameters
        ----------
        features : (n_batch, n_features) float32, of `encode`
        chosen : (n_batch, n_candidates) bool, beams chosen so far

        Returns
        -------
        (n_batch, n_candidates) float32
        """
        beams = chosen.to(features.dtype)
        joined = self.join(torch.cat([features, beams, 1 - beams], dim=1))
        fitness: Tensor = self.third(joined, beams)
        return fitness


def _encoder(config: PaperConfig) -> nn.Sequential:
    """First block, (n_batch, 2, n, n, n) -> (n_batch, n_features)."""
    first, second, third = config.encoder_channels
    return nn.Sequential(
        *_convolution(2, first, 5),
        *_convolution(first, first, 5),
        nn.MaxPool3d(2),
        *_convolution(first, second, 5),
        *_convolution(second, second, 5),
        nn.MaxPool3d(2),
        *_convolution(second, third, 3),
        *_convolution(third, third, 3),
        *_convolution(third, third, 3),
        nn.Flatten(),
        _dense(third * config.encoded_edge**3, config.n_features),
    )


class _ConvolutionStages(nn.Module):
    """Third block, (n_batch, n_positions · n_features) and beams (n_batch, n_candidates) -> (n_batch, n_candidates)."""

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        inputs = (config.n_features, *(width + 2 for width in config.stage_widths))
        last = config.stage_widths[-1] // 2
        outputs = (*((width, width) for width in config.stage_widths), (last, 1))
        self.n_positions = config.n_positions
        self.stages = nn.ModuleList(
            nn.Sequential(*_over_angles(n_in, middle), *_over_angles(middle, n_out))
            for n_in, (middle, n_out) in zip(inputs, outputs, strict=True)
        )

    def forward(self, joined: Tensor, beams: Tensor) -> Tensor:
        # The channels of a position lie together in the dense layer's output: (n_batch, n_features, n_positions).
        values = joined.reshape(len(joined), self.n_positions, -1).transpose(1, 2)
        for stage, (before, pool) in zip(self.stages, pairwise((_COARSEST, *POOLS)), strict=False):
            raised = stage(values).repeat_interleave(before // pool, dim=2)
            pooled = functional.max_pool1d(beams[:, None], pool)
            values = torch.cat([raised, pooled, 1 - pooled], dim=1)
        fitness: Tensor = self.stages[-1](values)[:, 0]
        return fitness


class _FullLayers(nn.Module):
    """Third block of DNNFull; shapes as of `_ConvolutionStages`."""

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        joins = (width + 2 * config.n_candidates for width in config.full_widths)
        inputs = (config.n_positions * config.n_features, *joins)
        outputs = (*config.full_widths, config.n_candidates)
        self.layers = nn.ModuleList(_dense(n_in, n_out) for n_in, n_out in zip(inputs, outputs, strict=True))

    def forward(self, joined: Tensor, beams: Tensor) -> Tensor:
        fitness: Tensor = self.layers[0](joined)
        for layer in self.layers[1:]:
            fitness = layer(torch.cat([fitness, beams, 1 - beams], dim=1))
        return fitness


def _convolution(n_in: int, n_out: int, size: int) -> tuple[nn.Module, ...]:
    return nn.Conv3d(n_in, n_out, size), nn.SELU(inplace=True)


def _over_angles(n_in: int, n_out: int) -> tuple[nn.Module, ...]:
    return nn.Conv1d(n_in, n_out, 3, padding=1, padding_mode="circular"), nn.SELU(inplace=True)


def _dense(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, n_out), nn.SELU(inplace=True))


def _initialize(network: nn.Module, generator: torch.Generator | None) -> None:
    """Normally distributed weights of variance 1 / fan-in, biases zero."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            else:
                parameter.normal_(0.0, 1 / math.sqrt(parameter[0].numel()), generator=generator)
