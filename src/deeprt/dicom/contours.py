"""Planar contours to volume fractions, straight onto the case's grid.

In a slice the share of a voxel is exact along i and sampled on lines along j; a contour stands for a slab along k.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deeprt.errors import InputError
from deeprt.geometry import Grid

Float = NDArray[np.float64]

_LINES_PER_VOXEL = 16  # of a row of voxels; the share of a cut voxel is then right to about 1/32
_PLANE_TOLERANCE_MM = 0.1  # contours nearer than this lie in one plane
_GAP = 1.5  # planes farther apart than this multiple of the usual spacing are separate pieces


def rasterize(
    contours: Sequence[Float], grid: Grid, *, slice_spacing_mm: float, name: str = "structure"
) -> NDArray[np.float32]:
    """Compute the share of each voxel inside closed planar contours.

    In a plane a point is inside when it lies within an odd number of contours (even-odd rule), which makes holes of
    inner contours and of keyhole contours alike. Along the slices each plane stands for a slab that reaches
    half-way to its neighbors, and half the usual spacing outward at both ends. Planes farther apart than 1.5 times
    the usual spacing (the median) are not bridged: each piece ends half the usual spacing after its last plane.

    Parameters
    ----------
    contours : each (n, 3), LPS, mm; closed by the caller or not
    grid : voxels to fill; its slices must be parallel to the contours
    slice_spacing_mm : spacing of the slices the contours were drawn on, used where one or two planes tell none
    name : of the structure, for messages

    Returns
    -------
    (n_k, n_j, n_i) float32, 0 to 1

    Raises
    ------
    InputError
        If a contour does not lie in a slice of the grid.
    """
    fraction = np.zeros(grid.shape, dtype=np.float32)
    if not contours:
        return fraction
    indices = [grid.lps_to_index(points) for points in contours]
    heights_mm = np.array([_height(points[:, 2], grid, name) for points in indices]) * grid.spacing_mm[2]
    planes = _planes(heights_mm)
    plane_mm = np.array([heights_mm[members].mean() for members in planes])
    slabs = _slabs(plane_mm, slice_spacing_mm) / grid.spacing_mm[2]
    i, j = (_voxel_range([points[:, axis] for points in indices], grid.shape[2 - axis]) for axis in (0, 1))
    box = (j.stop - j.start, i.stop - i.start)
    for members, (low, high) in zip(planes, slabs, strict=True):
        # Voxel layer k reaches from k - 0.5 to k + 0.5.
        first, last = max(0, int(np.floor(low + 0.5))), min(grid.shape[0] - 1, int(np.ceil(high - 0.5)))
        if first > last:
            continue
        area = polygon_coverage([indices[m][:, :2] - (i.start, j.start) for m in members], box)
        for k in range(first, last + 1):
            overlap = min(high, k + 0.5) - max(low, k - 0.5)
            fraction[k, j, i] += np.float32(max(0.0, overlap)) * area
    return np.clip(fraction, 0, 1, out=fraction)


def polygon_coverage(polygons: Sequence[Float], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Compute the share of each pixel inside polygons, even-odd rule.

    Horizontal lines, several a row of pixels, are cut by the polygons' edges. Sorted along a line, the cuts enter
    and leave in turn; each adds or takes away everything to its right, which a running sum turns into coverage.

    Parameters
    ----------
    polygons : each (n, 2), columns x and y in pixels; pixel (row, column) covers column -0.5 to +0.5 and row likewise
    shape : (n_rows, n_columns)

    Returns
    -------
    (n_rows, n_columns) float32, 0 to 1
    """
    n_rows, n_columns = shape
    start = np.concatenate(polygons)
    end = np.concatenate([np.roll(p, -1, axis=0) for p in polygons])
    y0, y1 = ((p[:, 1] + 0.5) * _LINES_PER_VOXEL - 0.5 for p in (start, end))  # line n lies at y = n
    # Half-open in y, so that an edge's end and the next one's start are never both cut.
    first = np.clip(np.ceil(np.minimum(y0, y1)), 0, n_rows * _LINES_PER_VOXEL).astype(np.int64)
    stop = np.clip(np.ceil(np.maximum(y0, y1)), 0, n_rows * _LINES_PER_VOXEL).astype(np.int64)
    n_cuts = stop - first
    edge = np.repeat(np.arange(len(start)), n_cuts)
    line = np.arange(edge.size) - np.repeat(np.cumsum(n_cuts) - n_cuts, n_cuts) + first[edge]
    x = start[edge, 0] + (line - y0[edge]) / (y1 - y0)[edge] * (end - start)[edge, 0]
    order = np.lexsort((x, line))
    x = np.clip(x[order] + 0.5, 0, n_columns)
    sign = np.where(np.arange(x.size) % 2 == 0, 1.0, -1.0)  # every line has an even number of cuts
    column = x.astype(np.int64)
    inside = x - column
    cell = line[order] // _LINES_PER_VOXEL * (n_columns + 2) + column
    steps = np.bincount(cell, sign * (1 - inside), minlength=n_rows * (n_columns + 2))
    steps += np.bincount(cell + 1, sign * inside, minlength=steps.size)
    coverage = np.cumsum(steps.reshape(n_rows, n_columns + 2), axis=1)[:, :n_columns] / _LINES_PER_VOXEL
    return coverage.astype(np.float32)


def _height(k: Float, grid: Grid, name: str) -> float:
    """Slice position of a contour in slices of the grid."""
    if np.ptp(k) * grid.spacing_mm[2] > _PLANE_TOLERANCE_MM:
        raise InputError(
            f"Structure '{name}': a contour leaves its slice by {np.ptp(k) * grid.spacing_mm[2]:.1f} mm; only contours "
            "drawn on the CT's slices can be read."
        )
    return float(k.mean())


def _voxel_range(positions: list[Float], n_voxels: int) -> slice:
    """Voxels along one axis that contours touch."""
    low, high = min(p.min() for p in positions), max(p.max() for p in positions)
    start = int(np.clip(np.floor(low + 0.5), 0, n_voxels))
    return slice(start, int(np.clip(np.ceil(high + 0.5), start, n_voxels)))


def _planes(heights_mm: Float) -> list[NDArray[np.intp]]:
    """Group contours by plane, lowest first; each group holds indices of contours."""
    order = np.argsort(heights_mm)
    return np.split(order, np.flatnonzero(np.diff(heights_mm[order]) > _PLANE_TOLERANCE_MM) + 1)


def _slabs(plane_mm: Float, slice_spacing_mm: float) -> Float:
    """Lower and upper end of each plane's slab, (n, 2), mm."""
    spacing = np.diff(plane_mm)
    usual = float(np.median(spacing)) if spacing.size > 1 else min([slice_spacing_mm, *spacing])
    reach = np.where(spacing > _GAP * usual, usual, spacing) / 2
    below = np.concatenate([[usual / 2], reach])
    above = np.concatenate([reach, [usual / 2]])
    return np.stack([plane_mm - below, plane_mm + above], axis=1)
