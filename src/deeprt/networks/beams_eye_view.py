"""Beam's-eye views: volumes of a patient on the diverging grid of a beam, and fluence on the pixels of that grid.

Slices stand normal to the central axis, around the isocenter. Each is sampled on the pixels of the fluence map,
projected from the source to its distance, so that a pixel sees what lies along one ray (H. Lee et al., Sci. Rep. 9,
15671, 2019, doi:10.1038/s41598-019-52262-x, figure 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from deeprt.beams import Beam
from deeprt.errors import InputError
from deeprt.geometry import Grid


@dataclass(frozen=True)
class ViewSampling:
    """Where a beam's-eye view is sampled; the defaults are the paper's.

    Parameters
    ----------
    n_slices, slice_mm : normal to the central axis, and their distance
    n_pixels, pixel_mm : of the square map, symmetric around the axis, and their size at the isocenter plane

    Raises
    ------
    ValueError
        If a count or length is not positive.
    """

    n_slices: int = 64
    slice_mm: float = 10.0
    n_pixels: int = 128
    pixel_mm: float = 2.5

    def __post_init__(self) -> None:
        for name in ("n_slices", "slice_mm", "n_pixels", "pixel_mm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Beam's-eye view: {name} must be positive, got {getattr(self, name)}.")

    @property
    def central_slice(self) -> int:
        """The slice on the isocenter, counted from 0: 31 of 64."""
        return (self.n_slices - 1) // 2

    @property
    def half_width_mm(self) -> float:
        """From the central axis to the map's edges, at the isocenter plane."""
        return self.n_pixels * self.pixel_mm / 2

    @property
    def edges_mm(self) -> NDArray[np.float64]:
        """Pixel edges along +Xb and along +Yb, at the isocenter plane, (n_pixels + 1,)."""
        return np.asarray(self.pixel_mm * (np.arange(self.n_pixels + 1) - self.n_pixels / 2), dtype=np.float64)


def beams_eye_view(
    beam: Beam,
    grid: Grid,
    volumes: Tensor,
    *,
    interpolation: Literal["linear", "nearest"] = "linear",
    sampling: ViewSampling = ViewSampling(),
) -> Tensor:
    """Sample volumes on the diverging grid of a beam; outside of their grid they are zero.

    Slices are ordered away from the source: the first lies nearest to it. The pixel at ``(u, v)`` of the isocenter
    plane is sampled in a slice at distance ``d`` from the source at ``(u, v) · d / SAD``, in beam axes.

    Parameters
    ----------
    grid : of the volumes, in any orientation
    volumes : (n_volumes, n_k, n_j, n_i) float32
    interpolation : trilinear, falling to zero over one voxel beyond the outermost centers; or that of the voxel in
        which the point lies, as labels need it

    Returns
    -------
    (n_volumes, n_slices, n_pixels, n_pixels) float32, on the device of the volumes; rows follow +Yb, columns +Xb

    Raises
    ------
    ValueError
        If the volumes do not have the grid's shape.
    """
    if volumes.ndim != 4 or volumes.shape[1:] != grid.shape:
        raise ValueError(f"Volumes of shape {tuple(volumes.shape)} do not lie on a grid of shape {grid.shape}.")
    mode = "bilinear" if interpolation == "linear" else "nearest"
    # Slices take the place of a batch: torch spreads it over the cores, and each gets the volumes without a copy.
    points = _sampling_points(beam, grid, sampling, volumes.device)[:, None]
    batch = volumes.expand(sampling.n_slices, *volumes.shape)
    views = functional.grid_sample(batch, points, mode=mode, align_corners=False)
    return views[:, :, 0].transpose(0, 1).contiguous()


def _sampling_points(beam: Beam, grid: Grid, sampling: ViewSampling, device: torch.device) -> Tensor:
    """Points as `functional.grid_sample` wants them, -1 to 1 across the grid's box, (n_slices, n_rows, n_cols, 3).

    In each slice they are affine in the pixel: ``row + column``.
    """
    size = np.array(grid.shape[::-1])
    axes = (2 / size)[:, None] * grid.lps_to_index_matrix[:3, :3] @ beam.rotation  # columns: per mm along +Xb, +Yb, +Zb
    isocenter = (2 * grid.lps_to_index(beam.isocenter_lps)[0] + 1) / size - 1
    behind_mm = sampling.slice_mm * (np.arange(sampling.n_slices) - sampling.central_slice)
    centers_mm = (sampling.edges_mm[:-1] + sampling.edges_mm[1:]) / 2
    projected_mm = np.outer(1 + behind_mm / beam.sad_mm, centers_mm)  # (n_slices, n_pixels)
    middle = isocenter[:, None] - np.outer(axes[:, 2], behind_mm)  # (3, n_slices)
    row = middle[:, :, None] + axes[:, 1, None, None] * projected_mm
    column = axes[:, 0, None, None] * projected_mm
    row, column = row[:, :, :, None].astype(np.float32), column[:, :, None, :].astype(np.float32)
    points = torch.from_numpy(row).to(device) + torch.from_numpy(column).to(device)
    return points.movedim(0, -1)


def fits_map(beam: Beam, *, sampling: ViewSampling = ViewSampling()) -> bool:
    """Whether all beamlets of a beam lie on the map."""
    return _reach_mm(beam) <= sampling.half_width_mm + 1e-6


def fluence_to_map(beam: Beam, fluence: Tensor, *, sampling: ViewSampling = ViewSampling()) -> Tensor:
    """Average a beam's fluence over the pixels of the map; its integral over the plane stays.

    Parameters
    ----------
    fluence : (..., n_rows, n_cols) on the beam's beamlets, floating point

    Returns
    -------
    (..., n_pixels, n_pixels), same type and device; zero beyond the beamlets

    Raises
    ------
    InputError
        If the beam reaches beyond the map, see `fits_map`.
    """
    _check_fit(beam, sampling)
    rows, columns = (_shares(e, sampling.edges_mm, like=fluence) for e in (beam.y_edges_mm, beam.x_edges_mm))
    return rows @ fluence @ columns.T


def map_to_fluence(beam: Beam, values: Tensor, *, sampling: ViewSampling = ViewSampling()) -> Tensor:
    """Average a map over a beam's beamlets; what lies on closed beamlets, or beside the beam, is lost.

    Linear in the map, and differentiable. What `fluence_to_map` made of open beamlets comes back as it was where
    their edges are edges of pixels too.

    Parameters
    ----------
    values : (..., n_pixels, n_pixels), floating point

    Returns
    -------
    (..., n_rows, n_cols), same type and device; zero where closed

    Raises
    ------
    InputError
        If the beam reaches beyond the map, see `fits_map`.
    """
    _check_fit(beam, sampling)
    rows, columns = (_shares(sampling.edges_mm, e, like=values) for e in (beam.y_edges_mm, beam.x_edges_mm))
    return (rows @ values @ columns.T) * torch.from_numpy(beam.open_beamlets).to(values)


def _shares(edges_mm: NDArray[np.float64], of_edges_mm: NDArray[np.float64], *, like: Tensor) -> Tensor:
    """Share of each interval of the second edges that each one of the first covers, (n_of, n); like another tensor."""
    low = np.maximum(of_edges_mm[:-1, None], edges_mm[:-1])
    high = np.minimum(of_edges_mm[1:, None], edges_mm[1:])
    shares = np.maximum(high - low, 0) / np.diff(of_edges_mm)[:, None]
    return torch.from_numpy(shares).to(like)


def _reach_mm(beam: Beam) -> float:
    return float(max(np.abs(beam.x_edges_mm).max(), np.abs(beam.y_edges_mm).max()))


def _check_fit(beam: Beam, sampling: ViewSampling) -> None:
    if not fits_map(beam, sampling=sampling):
        raise InputError(
            f"{beam.name}: its beamlets reach {_reach_mm(beam):.0f} mm from the axis, the network's map "
            f"{sampling.half_width_mm:.0f} mm; turn the collimator, or optimize the fluence instead."
        )
