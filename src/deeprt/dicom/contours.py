"""Planar contours to volume fractions, straight onto the case's grid.

In the plane of a contour the share of a voxel is exact along i and sampled on lines along j; between planes the
outline is interpolated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import maximum_filter, minimum_filter
from scipy.spatial import KDTree

from deeprt.errors import InputError
from deeprt.geometry import Grid

Float = NDArray[np.float64]

_LINES_PER_VOXEL = 16  # of a row of voxels; the share of a cut voxel is then right to about 1/32
_PLANE_TOLERANCE_MM = 0.1  # contours nearer than this lie in one plane
_GAP = 1.5  # planes farther apart than this multiple of the usual spacing are separate pieces
_FINE_MM, _MOST_PIXELS = 1.0, 40_000  # pixels between planes, as small as the one, as long as a plane has the other
_STEP_MM = 0.75  # along the slices, in which interpolated outlines are summed


def rasterize(
    contours: Sequence[Float],
    grid: Grid,
    *,
    slice_spacing_mm: float,
    end_reach: float = 0.5,
    name: str = "structure",
) -> NDArray[np.float32]:
    """Compute the share of each voxel inside closed planar contours.

    In a plane a point is inside when it lies within an odd number of contours (even-odd rule), which makes holes of
    inner contours and of keyhole contours alike. Between planes the signed distance from the outline is interpolated
    by monotone cubics through up to four planes (shape-based interpolation), so that a tip between two planes keeps
    its volume. Planes farther apart than 1.5 times the usual spacing (the median) are not bridged. The first and the
    last plane of each piece reach outward by a share of the usual spacing.

    Parameters
    ----------
    contours : each (n, 3), LPS, mm; closed by the caller or not
    grid : voxels to fill; its slices must be parallel to the contours
    slice_spacing_mm : spacing of the slices the contours were drawn on, used where one or two planes tell none
    end_reach : share, 0 to 0.5; by default a plane stands for as much as its slice
    name : of the structure, for messages

    Returns
    -------
    (n_k, n_j, n_i) float32, 0 to 1

    Raises
    ------
    InputError
        If a contour does not lie in a slice of the grid.

    Notes
    -----
    G. T. Herman, J. Zheng, C. A. Bucholtz, Shape-based interpolation, IEEE Comput. Graph. Appl. 12(3), 69 (1992),
    doi:10.1109/38.135915; here with exact distances and the monotone cubics of F. N. Fritsch and J. Butland, SIAM J.
    Sci. Stat. Comput. 5, 300 (1984), doi:10.1137/0905021, which do not swing beyond the planes they join.
    """
    fraction = np.zeros(grid.shape, dtype=np.float32)
    if not contours:
        return fraction
    indices = [grid.lps_to_index(points) for points in contours]
    heights_mm = np.array([_height(points[:, 2], grid, name) for points in indices]) * grid.spacing_mm[2]
    planes = _planes(heights_mm)
    plane_mm = np.array([heights_mm[members].mean() for members in planes])
    i, j = (_voxel_range([points[:, axis] for points in indices], grid.shape[2 - axis]) for axis in (0, 1))
    if i.start == i.stop or j.start == j.stop:
        return fraction
    box = (j.stop - j.start, i.stop - i.start)
    for piece, usual_mm in _pieces(plane_mm, slice_spacing_mm):
        drawn = [[indices[m][:, :2] - (i.start, j.start) for m in planes[n]] for n in piece]
        outlines = _Outlines(drawn, plane_mm[piece], box, grid.spacing_mm[:2])
        reach_mm = end_reach * usual_mm if piece.size > 1 else usual_mm / 2  # a single plane is a slice in any case
        _fill(fraction[:, j, i], outlines, reach_mm, float(grid.spacing_mm[2]))
    return np.clip(fraction, 0, 1, out=fraction)


def _fill(fraction: NDArray[np.float32], outlines: _Outlines, reach_mm: float, layer_mm: float) -> None:
    """Add the share of each voxel in one piece, (n_k, n_j, n_i); its end planes reach ``reach_mm`` outward."""
    ends_mm = outlines.plane_mm
    edges = np.concatenate([[ends_mm[0] - reach_mm], ends_mm, [ends_mm[-1] + reach_mm]]) / layer_mm
    for n, (low, high) in enumerate(pairwise(edges)):
        # Voxel layer k reaches from k - 0.5 to k + 0.5.
        for k in range(max(0, int(np.floor(low + 0.5))), min(len(fraction) - 1, int(np.ceil(high - 0.5))) + 1):
            bottom, top = max(low, k - 0.5), min(high, k + 0.5)
            if top > bottom:
                fraction[k] += np.float32(top - bottom) * outlines.mean_coverage(
                    n - 1, bottom * layer_mm, top * layer_mm
                )


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


def _pieces(plane_mm: Float, slice_spacing_mm: float) -> Iterator[tuple[NDArray[np.intp], float]]:
    """Planes that belong together, lowest first, with the usual spacing."""
    spacing = np.diff(plane_mm)
    usual = float(np.median(spacing)) if spacing.size > 1 else min([slice_spacing_mm, *spacing])
    for piece in np.split(np.arange(plane_mm.size), np.flatnonzero(spacing > _GAP * usual) + 1):
        yield piece, usual


class _Outlines:
    """Outlines of one piece of a structure at any height, on pixels as fine as their number allows.

    Parameters
    ----------
    drawn : polygons of each plane, as `polygon_coverage` takes them
    plane_mm : (n_planes,) increasing
    shape : (n_rows, n_columns) of the grid's pixels
    spacing_mm : of the pixels along columns and rows
    """

    def __init__(
        self,
        drawn: Sequence[Sequence[Float]],
        plane_mm: Float,
        shape: tuple[int, int],
        spacing_mm: Float,
    ) -> None:
        limit = int(np.sqrt(_MOST_PIXELS / (shape[0] * shape[1])))
        self.n_fine = max(1, min(limit, int(np.ceil(max(spacing_mm) / _FINE_MM))))
        self.plane_mm, self.shape = plane_mm, shape
        self.pixel_mm = spacing_mm / self.n_fine
        fine = [[(p + 0.5) * self.n_fine - 0.5 for p in polygons] for polygons in drawn]
        size = (shape[0] * self.n_fine, shape[1] * self.n_fine)
        self.coverage = np.stack([polygon_coverage(polygons, size) for polygons in fine])
        lower, upper = self.coverage[:-1], self.coverage[1:]
        self.differs = (lower != upper) | ((lower > 0) & (lower < 1))
        self.distance_mm = self._distances(fine)

    def _distances(self, fine: Sequence[Sequence[Float]]) -> NDArray[np.float32]:
        """Signed distance from the outline of each plane, inside positive, mm, of the pixels that need it."""
        distance_mm = np.zeros(self.coverage.shape, np.float32)
        for n, polygons in enumerate(fine if len(fine) > 1 else ()):
            # The interpolation between two planes also looks at one plane beyond each.
            needed = self.differs[max(0, n - 2) : n + 2].any(axis=0)
            rows, columns = np.nonzero(needed)
            centers = np.stack([columns, rows], axis=1) * self.pixel_mm
            nearest, _ = KDTree(self._outline(polygons, self.coverage[n]) * self.pixel_mm).query(centers)
            distance_mm[n][needed] = np.where(self.coverage[n][needed] >= 0.5, nearest, -nearest)
        return distance_mm

    @staticmethod
    def _outline(polygons: Sequence[Float], coverage: NDArray[np.float32]) -> Float:
        """Points on the outline of a plane, (n, 2), in pixels, without the cuts that join an outline to its holes."""
        points = np.concatenate([_points_along(p, 1 / 8) for p in polygons])
        column, row = (np.clip(np.floor(points[:, a]).astype(int), 0, coverage.shape[1 - a] - 1) for a in (0, 1))
        # A cut has nothing but inside, or outside, in the four pixels around it; so has a tip, which must stay.
        least, most = minimum_filter(coverage, 2, origin=-1), maximum_filter(coverage, 2, origin=-1)
        is_cut = (least[row, column] > 0.9) | (most[row, column] == 0)
        return points if is_cut.all() else points[~is_cut]

    def mean_coverage(self, below: int, bottom_mm: float, top_mm: float) -> NDArray[np.float32]:
        """Share of each pixel of the grid inside, averaged over heights between planes ``below`` and the next.

        Before the first plane, and after the last, it is that plane's own.
        """
        if below in (-1, len(self.plane_mm) - 1):
            return self._binned(self.coverage[max(below, 0)])
        n_steps = int(np.ceil((top_mm - bottom_mm) / _STEP_MM))
        heights = bottom_mm + (np.arange(n_steps) + 0.5) * (top_mm - bottom_mm) / n_steps
        window = slice(max(0, below - 1), below + 3)
        differs = self.differs[below]
        area = self.coverage[below].copy()
        if differs.any():
            distance = PchipInterpolator(self.plane_mm[window], self.distance_mm[window, differs])(heights)
            area[differs] = np.clip(0.5 + distance / self.pixel_mm.mean(), 0, 1).mean(axis=0)
        return self._binned(area)

    def _binned(self, fine: NDArray[np.float32]) -> NDArray[np.float32]:
        n_rows, n_columns = self.shape
        return np.asarray(fine.reshape(n_rows, self.n_fine, n_columns, self.n_fine).mean(axis=(1, 3)), np.float32)


def _points_along(polygon: Float, step: float) -> Float:
    """Points on a closed polygon, at most a step apart, (n, 2)."""
    edges = np.roll(polygon, -1, axis=0) - polygon
    n_points = np.maximum(1, np.ceil(np.linalg.norm(edges, axis=1) / step)).astype(int)
    edge = np.repeat(np.arange(len(polygon)), n_points)
    along = (np.arange(edge.size) - np.repeat(np.cumsum(n_points) - n_points, n_points)) / n_points[edge]
    return np.asarray(polygon[edge] + along[:, None] * edges[edge])
