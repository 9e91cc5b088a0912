"""The default fluence network: it corrects mimicked maps, which already account for all beams of the plan.

What it is given of a map is named in `deeprt.fluence.inversion.FEATURES`. Beams meet in the dose only, and that is
inverted before; so the same weights serve every beam of every plan, whatever its angle and however many there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from deeprt.networks.blocks import ResidualBlock, through_levels


@dataclass(frozen=True)
class FluenceConfig:
    """Sizes of the network.

    Parameters
    ----------
    n_features : of a map; the first is the mimicked fluence, the last is 1 between the jaws and 0 elsewhere
    widths : channels of each level, from the map's pixels to the coarsest; each pixel is twice as large as before
    """

    n_features: int = 9
    widths: tuple[int, ...] = (32, 48, 64)

    @property
    def n_halvings(self) -> int:
        """How often rows and columns must be divisible by two."""
        return len(self.widths) - 1


class FluenceNetwork(nn.Module):
    """A U-Net that adds what it finds to the mimicked fluence.

    The last layer begins at zero, so that the untrained network returns the mimicked fluence as it is.
    """

    def __init__(self, config: FluenceConfig = FluenceConfig()) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.first = nn.Conv2d(config.n_features, widths[0], 3, padding=1)
        self.descending = nn.ModuleList(ResidualBlock(w, nn.Conv2d) for w in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(widths))
        self.ascending = nn.ModuleList(ResidualBlock(w, nn.Conv2d) for w in widths[:-1])
        self.last = nn.Conv2d(widths[0], 1, 1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)
        # Faster on a CPU: the channels of each pixel lie together.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, features: Tensor) -> Tensor:
        """Correct maps.

        Parameters
        ----------
        features : (n_batch, n_features, n_rows, n_columns) float32; rows and columns divisible by 2 for each level
            below the first

        Returns
        -------
        (n_batch, n_rows, n_columns) float32 in the features' scale; zero behind the jaws, elsewhere it may be negative
        """
        first = self.first(features.contiguous(memory_format=torch.channels_last))
        hidden = through_levels(first, self.descending, self.down, self.up, self.ascending)
        corrected: Tensor = (features[:, 0] + self.last(hidden)[:, 0]) * features[:, -1]
        return corrected
