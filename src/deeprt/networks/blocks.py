"""What U-Nets in two and in three dimensions share."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class ResidualBlock(nn.Module):
    """Two convolutions, added to what was there.

    Parameters
    ----------
    width : channels
    convolution : `nn.Conv2d` or `nn.Conv3d`
    """

    def __init__(self, width: int, convolution: type[nn.Conv2d] | type[nn.Conv3d]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            convolution(width, width, 3, padding=1), nn.SiLU(), convolution(width, width, 3, padding=1)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """(n_batch, width, ...) -> the same."""
        added: Tensor = hidden + self.layers(functional.silu(hidden))
        return added


def through_levels(
    hidden: Tensor, descending: nn.ModuleList, down: nn.ModuleList, up: nn.ModuleList, ascending: nn.ModuleList
) -> Tensor:
    """Go down through the levels of a U-Net and up again; what comes up is added to what went down.

    Parameters
    ----------
    hidden : (n_batch, width of the first level, ...)
    descending, ascending : one module a level; the coarsest level has none to ascend
    down, up : from each level to the coarser one, and back
    """

    def level(n: int, given: Tensor) -> Tensor:
        own: Tensor = descending[n](given)
        if n < len(down):
            own = ascending[n](own + up[n](level(n + 1, down[n](own))))
        return own

    return level(0, hidden)
