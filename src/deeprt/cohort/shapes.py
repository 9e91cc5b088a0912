"""Shapes of virtual anatomy as signed distances, and the smooth random fields that deform them.

Points are three float32 arrays ``(x, y, z)`` of one shape: +x to the patient's left, +y posterior, +z superior, mm.
Every distance is in mm, negative inside, and exact only near the surface, which is where voxels are partly filled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator

Float = NDArray[np.float64]
Image = NDArray[np.float32]
Points = tuple[Image, Image, Image]

_TABLE_STEP_MM = 0.5  # of curves tabulated along z; their slopes stay near one, so the error is about 0.25 mm


class Shape(Protocol):
    """A solid with a bounding box."""

    @property
    def box(self) -> tuple[Float, Float]:
        """Lowest and highest corner, (3,) each."""

    def distance(self, points: Points) -> Image:
        """Signed distance of points, of their shape."""


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """An ellipsoid; the columns of ``rotation`` are its axes."""

    center: Sequence[float]
    half_axes: Sequence[float]
    rotation: Float | None = None

    @property
    def box(self) -> tuple[Float, Float]:
        """Lowest and highest corner of the ellipsoid, (3,) each."""
        axes = np.eye(3) if self.rotation is None else self.rotation
        reach = np.sqrt(((axes * np.asarray(self.half_axes)) ** 2).sum(axis=1))
        return np.asarray(self.center) - reach, np.asarray(self.center) + reach

    def distance(self, points: Points) -> Image:
        """First-order distance ``r (r - 1) / |grad r²/2|`` with ``r`` the normalized radius."""
        p = [c - np.float32(m) for c, m in zip(points, self.center, strict=True)]
        if self.rotation is not None:
            r = self.rotation.astype(np.float32)
            p = [p[0] * r[0, a] + p[1] * r[1, a] + p[2] * r[2, a] for a in range(3)]
        return _ellipse_distance(p, [np.float32(a) for a in self.half_axes])


@dataclass(frozen=True, eq=False)
class Capsule:
    """A rod with rounded ends whose radius changes linearly from ``start`` to ``end``."""

    start: Sequence[float]
    end: Sequence[float]
    start_radius: float
    end_radius: float

    @property
    def box(self) -> tuple[Float, Float]:
        """Lowest and highest corner of the rod, (3,) each."""
        ends, radius = np.array([self.start, self.end], float), max(self.start_radius, self.end_radius)
        return ends.min(axis=0) - radius, ends.max(axis=0) + radius

    def distance(self, points: Points) -> Image:
        """Distance to the nearest point of the axis, less the radius there."""
        axis = np.subtract(self.end, self.start).astype(np.float32)
        p = [c - np.float32(m) for c, m in zip(points, self.start, strict=True)]
        t = np.clip((p[0] * axis[0] + p[1] * axis[1] + p[2] * axis[2]) / (axis @ axis), 0, 1)
        square = sum(((c - t * a) ** 2 for c, a in zip(p, axis, strict=True)), start=np.float32(0))
        radius = np.float32(self.start_radius) + t * np.float32(self.end_radius - self.start_radius)
        return np.asarray(np.sqrt(square) - radius, dtype=np.float32)


def chain(points: Sequence[Sequence[float]], radii: Sequence[float]) -> tuple[Capsule, ...]:
    """Join points by capsules with the radius given at each point."""
    return tuple(Capsule(points[n], points[n + 1], radii[n], radii[n + 1]) for n in range(len(points) - 1))


@dataclass(frozen=True, eq=False)
class Tube:
    """A solid with flat ends whose axial sections are ellipses.

    Parameters
    ----------
    knots : (n, 5), rows of z, center x, center y, half-axis x, half-axis y, rising in z; smooth between
    """

    knots: ArrayLike

    @property
    def box(self) -> tuple[Float, Float]:
        """Lowest and highest corner of the tube, (3,) each."""
        z, x, y, rx, ry = np.asarray(self.knots, float).T
        return np.array([(x - rx).min(), (y - ry).min(), z[0]]), np.array([(x + rx).max(), (y + ry).max(), z[-1]])

    @cached_property
    def _table(self) -> Image:
        """Center x, y, half-axes x, y and the cosine of the axis to z, (5, n), at the levels."""
        knots = np.asarray(self.knots, float)
        curve = PchipInterpolator(knots[:, 0], knots[:, 1:])
        z = _levels(knots)
        slope = curve(z, 1)[:, :2]
        cosine = 1 / np.sqrt(1 + (slope**2).sum(axis=1))
        return np.vstack([curve(z).T, cosine]).astype(np.float32)

    def distance(self, points: Points) -> Image:
        """Distance to the section's ellipse, shortened by the obliquity of the tube, and to the flat ends."""
        z = _levels(np.asarray(self.knots, float))
        row = _row(points[2], z)
        x, y, rx, ry, cosine = (values[row] for values in self._table)
        side = cosine * _ellipse_distance([points[0] - x, points[1] - y], [rx, ry])
        ends = np.maximum(np.float32(z[0]) - points[2], points[2] - np.float32(z[-1]))
        return np.asarray(np.maximum(side, ends), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Wing:
    """A bent plate: in each axial plane a line of straight pieces of one thickness.

    Parameters
    ----------
    levels : (n_levels,) z, rising
    lines : (n_levels, n_points, 2), x and y of the line's points at each level; linear between levels
    half_thickness : (n_levels,)
    """

    levels: ArrayLike
    lines: ArrayLike
    half_thickness: ArrayLike

    @property
    def box(self) -> tuple[Float, Float]:
        """Lowest and highest corner of the plate, (3,) each."""
        lines, levels = np.asarray(self.lines, float).reshape(-1, 2), np.asarray(self.levels, float)
        thick = np.asarray(self.half_thickness, float).max()
        return np.array([*(lines.min(axis=0) - thick), levels[0]]), np.array([*(lines.max(axis=0) + thick), levels[-1]])

    def distance(self, points: Points) -> Image:
        """Distance in the axial plane to the line, less half the thickness, and to the flat ends."""
        x, y, z = points
        levels, lines = np.asarray(self.levels, float), np.asarray(self.lines, float)
        corners = [[np.interp(z, levels, c).astype(np.float32) for c in column.T] for column in lines.swapaxes(0, 1)]
        nearest = np.full(z.shape, np.inf, np.float32)
        for (ax, ay), (bx, by) in pairwise(corners):
            ux, uy, px, py = bx - ax, by - ay, x - ax, y - ay
            t = np.clip((px * ux + py * uy) / (ux * ux + uy * uy), 0, 1)
            nearest = np.minimum(nearest, np.hypot(px - t * ux, py - t * uy))
        side = nearest - np.interp(z, levels, np.asarray(self.half_thickness, float)).astype(np.float32)
        ends = np.maximum(np.float32(levels[0]) - z, z - np.float32(levels[-1]))
        return np.asarray(np.maximum(side, ends), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Trunk:
    """A trunk lying on its back: in each axial plane a superellipse, flatter behind than in front.

    Parameters
    ----------
    knots : (n, 4), rows of z, half-width, y of the front, y of the back, rising in z; smooth between, without ends
    widest_mm : how far the widest line lies in front of the back
    """

    knots: ArrayLike
    widest_mm: float = 82.0

    @property
    def box(self) -> tuple[Float, Float]:
        """Lowest and highest corner of the trunk, (3,) each."""
        z, half_width, front, back = np.asarray(self.knots, float).T
        low, high = (-half_width.max(), front.min(), z[0]), (half_width.max(), back.max(), z[-1])
        return np.array(low), np.array(high)

    def distance(self, points: Points) -> Image:
        """First-order distance to the superellipse ``|x / a|^n + |y / b|^n = 1`` of the plane."""
        knots = np.asarray(self.knots, float)
        z = _levels(knots)
        table = PchipInterpolator(knots[:, 0], knots[:, 1:])(z).T.astype(np.float32)
        half_width, front, back = (values[_row(points[2], z)] for values in table)
        y = points[1] - (back - np.float32(self.widest_mm))
        behind = y > 0
        depth = np.where(behind, np.float32(self.widest_mm), back - np.float32(self.widest_mm) - front)
        power = np.where(behind, np.float32(3.6), np.float32(2.3))
        u, v = np.abs(points[0]) / half_width + np.float32(1e-3), np.abs(y) / depth + np.float32(1e-3)
        un, vn = u**power, v**power
        radius = (un + vn) ** (1 / power)
        gradient = np.hypot(un / u / half_width, vn / v / depth) * radius / (un + vn)
        return np.asarray((radius - 1) / gradient, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Cup:
    """A spherical shell, cut off where the direction from its center turns away from ``axis`` (a unit vector)."""

    center: Sequence[float]
    inner_radius: float
    outer_radius: float
    axis: Sequence[float]

    @property
    def box(self) -> tuple[Float, Float]:
        """Lowest and highest corner of the full sphere, (3,) each."""
        return np.asarray(self.center) - self.outer_radius, np.asarray(self.center) + self.outer_radius

    def distance(self, points: Points) -> Image:
        """Distance to the shell and to the plane that opens it."""
        p = [c - np.float32(m) for c, m in zip(points, self.center, strict=True)]
        radius = np.sqrt(p[0] ** 2 + p[1] ** 2 + p[2] ** 2)
        along = p[0] * np.float32(self.axis[0]) + p[1] * np.float32(self.axis[1]) + p[2] * np.float32(self.axis[2])
        shell = np.maximum(radius - np.float32(self.outer_radius), np.float32(self.inner_radius) - radius)
        return np.asarray(np.maximum(shell, -along), dtype=np.float32)


def _levels(knots: Float) -> Float:
    """Positions from the first to the last z of knots, half a millimeter apart or a little less."""
    low, high = knots[0, 0], knots[-1, 0]
    return np.linspace(low, high, 2 + int((high - low) / _TABLE_STEP_MM))


def _row(z: Image, levels: Float) -> NDArray[np.int32]:
    """Index of the level nearest to each z; the first or last beyond the ends."""
    per_mm = (levels.size - 1) / (levels[-1] - levels[0])
    row = np.rint((z - np.float32(levels[0])) * np.float32(per_mm))
    return np.asarray(np.clip(row, 0, levels.size - 1), dtype=np.int32)


def _ellipse_distance(p: Sequence[Image], half_axes: Sequence[Image | np.float32]) -> Image:
    """First-order distance of centered points to an ellipse or ellipsoid, ``r (r - 1) / |p / a²|``."""
    u = [c / a for c, a in zip(p, half_axes, strict=True)]
    radius = np.sqrt(sum((c * c for c in u), start=np.float32(1e-6)))
    gradient = np.sqrt(sum(((c / a) ** 2 for c, a in zip(u, half_axes, strict=True)), start=np.float32(1e-8)))
    return np.asarray(radius * (radius - 1) / gradient, dtype=np.float32)


def smooth_union(a: Image, b: Image, width_mm: float) -> Image:
    """Union of two solids with a fillet of about ``width_mm`` where they meet."""
    h = np.maximum(np.float32(width_mm) - np.abs(a - b), 0) / np.float32(width_mm)
    return np.asarray(np.minimum(a, b) - h * h * np.float32(width_mm / 4), dtype=np.float32)


def rotation_xyz(x_deg: float, y_deg: float, z_deg: float) -> Float:
    """Rotation about x, then y, then z (fixed axes, right-handed), (3, 3)."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.deg2rad([x_deg, y_deg, z_deg])), np.sin(np.deg2rad([x_deg, y_deg, z_deg]))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, dtype=np.float64)


def smooth_field(
    rng: np.random.Generator, axes_mm: tuple[Float, Float, Float], box_mm: tuple[Float, Float], lattice_mm: float
) -> Image:
    """Draw a smooth random field of zero mean and unit variance.

    Cubic B-splines on a lattice of normal numbers, as in free-form deformation (Rueckert et al., IEEE Trans. Med.
    Imaging 18, 712, 1999, doi:10.1109/42.796284). The lattice hangs on the box, not on the positions: another
    voxel size samples the same field.

    Parameters
    ----------
    axes_mm : positions along the three axes of the result, inside the box
    box_mm : lowest and highest corner, (3,) each, in the order of the axes
    lattice_mm : distance of the lattice points; details are about twice as wide

    Returns
    -------
    (n_0, n_1, n_2) float32
    """
    n_points = np.ceil((box_mm[1] - box_mm[0]) / lattice_mm).astype(int) + 3
    values = rng.standard_normal(n_points, dtype=np.float32)
    for axis, low, n in zip(axes_mm, box_mm[0], n_points, strict=True):
        # Contracting the first dimension and appending the new one turns (a, b, c) into (b, c, n) three times.
        values = np.tensordot(values, _spline_weights((axis - low) / lattice_mm, n), axes=(0, 1))
    mean_square_weight = 151 / 315  # of cubic B-splines on white noise, per axis
    return np.ascontiguousarray(values / np.float32(mean_square_weight**1.5))


def _spline_weights(position: Float, n_points: int) -> Image:
    """Weights of uniform cubic B-splines, (n_positions, n_points); four in a row are not zero."""
    t = np.abs(position[:, None] + 1 - np.arange(n_points))
    weights = np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0.0))
    return weights.astype(np.float32)
