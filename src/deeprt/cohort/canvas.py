"""The voxels on which a virtual patient is painted: where each lies in the undeformed anatomy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deeprt.cohort.shapes import Float, Image, Points, Shape, smooth_field

_REACH_MM = 20.0  # distances are computed at least this far from a shape
_FAR_MM = 1000.0  # the distance of all that lies beyond
_COARSE = 4  # voxels per step of the search for a shape's voxels


@dataclass(frozen=True, eq=False)
class Canvas:
    """Voxels of one patient, seen from the undeformed anatomy.

    Parameters
    ----------
    points : anatomical coordinates of the voxels' centers, three (n_k, n_j, n_i) float32
    scale : size of the patient against the anatomy
    spacing_mm : edge of the cubic voxels
    axes_mm : positions of the voxels along k, j, i from the anatomy's origin, in the patient
    box_mm : lowest and highest corner of the region of random fields, in the order of the axes
    """

    points: Points
    scale: float
    spacing_mm: float
    axes_mm: tuple[Float, Float, Float]
    box_mm: tuple[Float, Float]

    def field(self, rng: np.random.Generator, lattice_mm: float) -> Image:
        """Draw a smooth random field of zero mean and unit variance, (n_k, n_j, n_i)."""
        return smooth_field(rng, self.axes_mm, self.box_mm, lattice_mm)

    def distance(self, shapes: Sequence[Shape]) -> Image:
        """Signed distance in mm to the union of shapes, (n_k, n_j, n_i); far from all of them 1000."""
        nearest = np.full(self.points[0].shape, _FAR_MM / self.scale, np.float32)
        for shape in shapes:
            box = self._crop(*shape.box)
            if box is not None:
                x, y, z = (c[box] for c in self.points)
                np.minimum(nearest[box], shape.distance((x, y, z)), out=nearest[box])
        nearest *= np.float32(self.scale)
        return nearest

    def fraction(self, distance: Image) -> Image:
        """Share of each voxel inside, from the distance of its center; exact for planes along the grid."""
        share = np.float32(0.5) - distance / np.float32(self.spacing_mm)
        return np.asarray(np.clip(share, 0, 1), dtype=np.float32)

    def _crop(self, low: Float, high: Float) -> tuple[slice, slice, slice] | None:
        """Voxels that may lie within reach of a box; None if there are none."""
        pad = (_REACH_MM + _COARSE * self.spacing_mm) / self.scale
        near = np.ones(1, bool)
        for c, a, b in zip(self.points, low, high, strict=True):
            coarse = c[::_COARSE, ::_COARSE, ::_COARSE]
            near = near & (coarse > a - pad) & (coarse < b + pad)
        if not near.any():
            return None
        rows = [np.flatnonzero(near.any(axis=tuple(o for o in range(3) if o != axis))) for axis in range(3)]
        k, j, i = (slice(max(0, _COARSE * int(r[0]) - _COARSE), _COARSE * int(r[-1] + 1)) for r in rows)
        return k, j, i
