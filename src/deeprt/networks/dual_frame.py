"""The paper's fluence network: a dual-frame U-Net from a beam's-eye view to the beam's fluence map, and its loss.

H. Lee et al., Sci. Rep. 9, 15671 (2019), doi:10.1038/s41598-019-52262-x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from deeprt.networks.beams_eye_view import ViewSampling

_WINDOW, _WINDOW_SIGMA = 11, 1.5  # pixels; Wang et al. 2004, see `ssim`
_K1, _K2 = 0.01, 0.03


@dataclass(frozen=True)
class DualFrameConfig:
    """Sizes of the network; the defaults that the paper does not give are explained at `DualFrameNetwork`.

    Parameters
    ----------
    sampling : of the views and the map
    n_contour_volumes : views of contours beside that of the dose: 1 for the paper's labels, 0 for its dose-only
        variant, or as many as there are groups
    reverse_labels : whether contours are labeled in reverse order, see `deeprt.networks.contour_labels`
    widths : channels of each level, from the map's pixels to the coarsest; each pixel is twice as large as before
    dose_scale : what the central slice of the dose is multiplied with before it is added, 1/Gy
    learned_dose_scale : whether training changes it; the paper has a fixed scale of 1

    Raises
    ------
    ValueError
        If widths fall or the first is odd, or the number of pixels cannot be halved often enough.
    """

    sampling: ViewSampling = ViewSampling()
    n_contour_volumes: int = 1
    reverse_labels: bool = False
    widths: tuple[int, ...] = (32, 64, 128, 256, 256)
    dose_scale: float = 0.2
    learned_dose_scale: bool = True

    def __post_init__(self) -> None:
        if self.widths[0] % 2 or any(finer > coarser for finer, coarser in pairwise(self.widths)):
            raise ValueError(f"Dual-frame U-Net: widths must begin even and not fall, got {self.widths}.")
        if self.sampling.n_pixels % 2 ** (len(self.widths) - 1):
            raise ValueError(
                f"Dual-frame U-Net: {self.sampling.n_pixels} pixels cannot be halved {len(self.widths) - 1} times."
            )

    @property
    def n_channels(self) -> int:
        """Channels that come in: the slices of all volumes."""
        return (self.n_contour_volumes + 1) * self.sampling.n_slices


class DualFrameNetwork(nn.Module):
    """A dual-frame U-Net that adds what it finds to the central slice of the dose.

    A U-Net joins the skip connection *B* of a level with what its coarser levels return, *C*, brought up by *Φ*. If
    these return what went down, ``C = Φᵀ B``, the sum is ``B + ΦΦᵀ B``: low frequencies count twice. The dual frame
    (Y. Han and J. C. Ye, IEEE Trans. Med. Imaging 37, 1418, 2018, doi:10.1109/TMI.2018.2823768) has instead
    ``(I + ΦΦᵀ)⁻¹ (B + Φ C) = (B - ½ ΦΦᵀ B) + ½ Φ C``, if ``ΦΦᵀΦ = Φ`` as for pooling, and that is B. So half of what
    a level sends down is brought up again and subtracted from its skip connection.

    As in Lee et al.: 64 slices of contours and 64 of dose come in as channels; strided 2 x 2 convolutions bring
    down, transposed 2 x 2 convolutions up; a last transposed convolution keeps the size and halves the number of
    channels; the central slice of the dose is added at the end.

    What the paper leaves open, and here:

    - The strided and the transposed convolution of a level are *Φᵀ* and *Φ*: linear, without bias or activation.
      They begin as average pooling and its transpose, with orthonormal mixing of channels, so that ``ΦΦᵀ`` replaces
      every 2 x 2 pixels by their mean; training changes them.
    - ``B - ½ ΦΦᵀB`` and ``½ Φ C`` stand beside each other as channels; the next convolution sums them.
    - Two convolutions a level on the way down and two on the way up: 3 x 3, zero padding, batch normalization, ReLU.
      Five levels of 32, 64, 128, 256 and 256 channels, with 6.0 million weights.
    - The last transposed convolution is 3 x 3, with bias and ReLU; a 1 x 1 convolution, which begins at zero, makes
      one channel of it. The untrained network returns the scaled central slice.
    - Gray per fraction and the map's share of the beam's monitor units differ in scale; one learned factor stands
      between them. A dose scale of 1, not learned, is the paper's plain sum.
    - Labels and dose come in as they are: the first normalization follows the first convolution.
    - Weights begin normally distributed with variance 2 / fan-in, as ReLU asks for (K. He et al., ICCV 2015,
      doi:10.1109/ICCV.2015.123).

    Parameters
    ----------
    config : sizes
    generator : of the initial weights; torch's default one if None
    """

    def __init__(
        self, config: DualFrameConfig = DualFrameConfig(), *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        inputs = (config.n_channels, *widths[1:])
        self.descending = nn.ModuleList(_convolutions(a, b) for a, b in zip(inputs, widths, strict=True))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2, bias=False) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2, bias=False) for a, b in pairwise(widths))
        self.ascending = nn.ModuleList(_convolutions(2 * width, width) for width in widths[:-1])
        self.same_size = nn.ConvTranspose2d(widths[0], widths[0] // 2, 3, padding=1)
        self.last = nn.Conv2d(widths[0] // 2, 1, 1)
        self.dose_scale = nn.Parameter(torch.tensor(config.dose_scale), requires_grad=config.learned_dose_scale)
        _initialize(self, generator)
        # Faster on a CPU: the channels of each pixel lie together.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, views: Tensor) -> Tensor:
        """Predict fluence maps.

        Parameters
        ----------
        views : (n_batch, n_channels, n_pixels, n_pixels) float32, slices of `deeprt.networks.beams_eye_view`: those
            of the contours, then those of the dose, Gy per fraction

        Returns
        -------
        (n_batch, n_pixels, n_pixels) float32, share of the beam's monitor units; not confined to 0 to 1
        """
        sampling = self.config.sampling
        central_dose = views[:, views.shape[1] - sampling.n_slices + sampling.central_slice]
        features = self._level(0, views.contiguous(memory_format=torch.channels_last))
        change = self.last(functional.relu(self.same_size(features)))
        fluence: Tensor = self.dose_scale * central_dose + change[:, 0]
        return fluence

    def _level(self, n: int, given: Tensor) -> Tensor:
        """A level and all coarser ones, (n_batch, n_in, size, size) -> (n_batch, widths[n], size, size)."""
        skip: Tensor = self.descending[n](given)
        if n == len(self.down):
            return skip
        sent = self.down[n](skip)
        returned = self._level(n + 1, sent)
        up = self.up[n]
        joined: Tensor = self.ascending[n](torch.cat([skip - up(sent) / 2, up(returned) / 2], dim=1))
        return joined


def _convolutions(n_in: int, n_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n in (n_in, n_out):
        layers += [nn.Conv2d(n, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


@torch.no_grad()
def _initialize(network: DualFrameNetwork, generator: torch.Generator | None) -> None:
    """Normally distributed weights of variance 2 / fan-in; `down` and `up` pool averages; the last layer is zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.normal_(0.0, math.sqrt(2 / module.weight[0].numel()), generator=generator)
    last_up = network.same_size.weight  # (n_in, n_out, 3, 3)
    last_up.normal_(0.0, math.sqrt(2 / last_up[:, 0].numel()), generator=generator)
    for modules in zip(network.down, network.up, strict=True):
        kernels = [module.get_parameter("weight") for module in modules]  # (n_coarse, n_fine, 2, 2)
        orthonormal, _ = torch.linalg.qr(torch.randn(kernels[0].shape[:2], generator=generator))
        for kernel in kernels:
            kernel.copy_(orthonormal[:, :, None, None] / 2)  # the four pixels make a vector of length one
    for name in ("same_size.bias", "last.weight", "last.bias"):
        network.get_parameter(name).zero_()


def ssim(one: Tensor, other: Tensor, *, data_range: float) -> Tensor:
    """Mean structural similarity of each pair of images, over the pixels whose whole window lies in the image.

    Z. Wang, A. C. Bovik, H. R. Sheikh and E. P. Simoncelli, IEEE Trans. Image Process. 13, 600 (2004),
    doi:10.1109/TIP.2003.819861, equation 13, with its Gaussian window of 11 x 11 pixels and sigma 1.5.

    Parameters
    ----------
    one, other : (n_batch, n_rows, n_cols), at least 11 x 11
    data_range : between the least and the largest possible value

    Returns
    -------
    (n_batch,) float64
    """
    # Variances are differences of near equals: double precision, which mixed precision and TF32 leave as it is.
    x, y = one.double(), other.double()
    offset = torch.arange(_WINDOW, dtype=torch.float64, device=x.device) - _WINDOW // 2
    window = torch.softmax(-(offset**2) / (2 * _WINDOW_SIGMA**2), 0)
    images = torch.cat([x, y, x * x, y * y, x * y])[:, None]
    means = functional.conv2d(functional.conv2d(images, window[None, None, :, None]), window[None, None, None])
    mean_x, mean_y, xx, yy, xy = means[:, 0].chunk(5)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * (xy - mean_x * mean_y) + c2) / (xx - mean_x**2 + yy - mean_y**2 + c2)
    return (luminance * structure).mean((1, 2))


def fluence_loss(predicted: Tensor, wished: Tensor, *, data_range: float) -> Tensor:
    """Loss of the paper: ``1 - SSIM`` plus the mean absolute error over the data range, means over the batch.

    Parameters
    ----------
    predicted, wished : (n_batch, n_pixels, n_pixels)
    data_range : of a map; 1 for shares of the beam's monitor units

    Returns
    -------
    () float64
    """
    dissimilarity = 1 - ssim(predicted, wished, data_range=data_range).mean()
    return dissimilarity + (predicted.double() - wished.double()).abs().mean() / data_range
