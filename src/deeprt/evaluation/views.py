"""Anatomical planes of a volume, however its grid lies in the patient."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from deeprt.geometry import Grid

_OBLIQUE = 0.3  # a direction this much along a second anatomical axis shows its letter too


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane of voxels as seen on a screen: columns to the right, rows downwards.

    Parameters
    ----------
    name : Axial, Coronal or Sagittal
    fixed : grid axis (0 = i, 1 = j, 2 = k) and voxel index that all its voxels share
    columns, rows : grid axis and +1 or -1, the direction in which the screen runs along it
    right_lps, down_lps : (3,) unit vectors of the screen's axes
    x_mm, y_mm : (n_cols,) and (n_rows,) voxel centers along them, from the point the plane was asked for
    """

    name: str
    fixed: tuple[int, int]
    columns: tuple[int, int]
    rows: tuple[int, int]
    right_lps: NDArray[np.float64]
    down_lps: NDArray[np.float64]
    x_mm: NDArray[np.float64]
    y_mm: NDArray[np.float64]

    def cut(self, volume: NDArray[np.float32]) -> NDArray[np.float32]:
        """Voxels of an (n_k, n_j, n_i) volume in this plane, (n_rows, n_cols)."""
        image: NDArray[np.float32] = np.take(volume, self.fixed[1], axis=2 - self.fixed[0])
        if self.rows[0] < self.columns[0]:  # arrays run k, j, i
            image = image.T
        return image[:: self.rows[1], :: self.columns[1]]

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """Distance of rows and of columns."""
        return float(self.y_mm[1] - self.y_mm[0]), float(self.x_mm[1] - self.x_mm[0])

    @property
    def edges_mm(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top edge of the outermost voxels."""
        dy, dx = self.pixel_mm
        return (
            float(self.x_mm[0]) - dx / 2,
            float(self.x_mm[-1]) + dx / 2,
            float(self.y_mm[-1]) + dy / 2,
            float(self.y_mm[0]) - dy / 2,
        )

    @property
    def letters(self) -> tuple[str, str, str, str]:
        """Patient directions at the left, right, top and bottom of the screen, such as R, L, A, P."""
        return (
            orientation_letters(-self.right_lps),
            orientation_letters(self.right_lps),
            orientation_letters(-self.down_lps),
            orientation_letters(self.down_lps),
        )


def orientation_letters(direction_lps: NDArray[np.float64]) -> str:
    """Patient direction as DICOM writes it, the main letter first.

    >>> orientation_letters(np.array([0.0, -0.9, 0.43]))
    'AS'
    """
    letters = ["RAI"[a] if direction_lps[a] < 0 else "LPS"[a] for a in range(3)]
    order = np.argsort(-np.abs(direction_lps), kind="stable")
    return "".join(letters[a] for n, a in enumerate(order) if n == 0 or abs(direction_lps[a]) > _OBLIQUE)


def planes_through(grid: Grid, point_lps: NDArray[np.float64]) -> tuple[Plane, Plane, Plane]:
    """Axial, coronal and sagittal plane of voxels nearest to a point, seen from the feet, front and left.

    Patient left is to the right of the axial and coronal plane and posterior to the right of the sagittal one;
    on an oblique grid the planes are those of the grid that lie closest to the anatomical ones.
    """
    directions = grid.index_to_lps[:3, :3] / grid.spacing_mm
    axis_of = max(permutations(range(3)), key=lambda p: sum(abs(directions[a, p[a]]) for a in range(3)))
    signs = [1 if directions[a, axis_of[a]] > 0 else -1 for a in range(3)]
    center = grid.lps_to_index(point_lps)[0]
    counts = grid.shape[::-1]

    def screen_axis(anatomical: int, sign: int) -> tuple[tuple[int, int], NDArray[np.float64], NDArray[np.float64]]:
        axis, step = axis_of[anatomical], sign * signs[anatomical]
        positions = step * (np.arange(counts[axis]) - center[axis]) * grid.spacing_mm[axis]
        return (axis, step), step * directions[:, axis], positions[::step]

    def plane(name: str, normal: int, column: int, row: tuple[int, int]) -> Plane:
        axis = axis_of[normal]
        nearest = int(np.clip(np.rint(center[axis]), 0, counts[axis] - 1))
        columns, right, x = screen_axis(column, 1)
        rows, down, y = screen_axis(*row)
        return Plane(name, (axis, nearest), columns, rows, right, down, x, y)

    return plane("Axial", 2, 0, (1, 1)), plane("Coronal", 1, 0, (2, -1)), plane("Sagittal", 0, 1, (2, -1))


def extent(mask: NDArray[np.bool_], plane: Plane) -> tuple[float, float, float, float]:
    """Smallest x, largest x, smallest y, largest y, mm, of the voxels in a mask of a plane; of all if it is empty."""
    inside = mask if mask.any() else np.ones_like(mask)
    x, y = plane.x_mm[inside.any(axis=0)], plane.y_mm[inside.any(axis=1)]
    return float(x[0]), float(x[-1]), float(y[0]), float(y[-1])
