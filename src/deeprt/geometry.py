"""Voxel grids and the rotation from the beam to the patient.

Everything here speaks DICOM patient coordinates (LPS, mm) and IEC 61217 angles (degrees).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]

# IEC 61217 fixed axes X, Y, Z in LPS, as columns, by DICOM Patient Position (C.7.3.1.1.2).
_FIXED_AXES_LPS: dict[str, Float] = {
    "HFS": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]),  # +L +S -P
    "HFP": np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]),  # -L +S +P
    "FFS": np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, -1.0, 0.0]]),  # -L -S -P
    "FFP": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]),  # +L -S +P
}
PATIENT_POSITIONS = tuple(_FIXED_AXES_LPS)


@dataclass(frozen=True, eq=False)
class Grid:
    """A voxel grid in patient coordinates.

    Parameters
    ----------
    shape : (n_k, n_j, n_i), slices first, like SimpleITK arrays and torch ``(D, H, W)``
    index_to_lps : (4, 4) float64, maps ``(i, j, k, 1)`` to the voxel's *center* in LPS, mm

    Raises
    ------
    ValueError
        If a dimension is not positive or the matrix is not an invertible affine map with orthogonal axes.
    """

    shape: tuple[int, int, int]
    index_to_lps: Float

    def __post_init__(self) -> None:
        matrix = np.array(self.index_to_lps, dtype=np.float64)
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"Grid shape must be three positive counts (n_k, n_j, n_i), got {self.shape}.")
        if matrix.shape != (4, 4) or not np.array_equal(matrix[3], [0, 0, 0, 1]):
            raise ValueError("Grid index_to_lps must be a 4 x 4 affine matrix with last row (0, 0, 0, 1).")
        gram = matrix[:3, :3].T @ matrix[:3, :3]
        scale = np.sqrt(np.diag(gram))
        if scale.min() <= 0 or np.abs(gram / np.outer(scale, scale) - np.eye(3)).max() > 1e-4:
            raise ValueError("Grid axes must be orthogonal and of positive length (no shear, no gantry tilt).")
        matrix.flags.writeable = False
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "index_to_lps", matrix)

    @classmethod
    def axial(cls, shape: tuple[int, int, int], spacing_mm: ArrayLike, first_voxel_lps: ArrayLike) -> Grid:
        """Make a grid whose i, j, k run along L, P, S.

        Parameters
        ----------
        shape : (n_k, n_j, n_i)
        spacing_mm : scalar or (3,), along i, j, k
        first_voxel_lps : (3,), center of voxel (0, 0, 0)
        """
        matrix = np.eye(4)
        matrix[:3, :3] = np.diag(np.broadcast_to(np.asarray(spacing_mm, float), 3))
        matrix[:3, 3] = np.asarray(first_voxel_lps, float)
        return cls(shape, matrix)

    @property
    def n_voxels(self) -> int:
        """Number of voxels."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @cached_property
    def spacing_mm(self) -> Float:
        """Voxel size along i, j, k, (3,)."""
        return np.asarray(np.linalg.norm(self.index_to_lps[:3, :3], axis=0))

    @property
    def voxel_volume_cc(self) -> float:
        """Volume of one voxel in cubic centimeters."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    @cached_property
    def center_lps(self) -> Float:
        """Center of the grid's box, (3,)."""
        middle = (np.array(self.shape[::-1]) - 1) / 2
        return self.index_to_lps[:3, :3] @ middle + self.index_to_lps[:3, 3]

    @cached_property
    def lps_to_index_matrix(self) -> Float:
        """Inverse of ``index_to_lps``, (4, 4)."""
        return np.asarray(np.linalg.inv(self.index_to_lps), dtype=np.float64)

    def points_lps(self, voxels: NDArray[np.integer] | None = None) -> Float:
        """Centers of voxels.

        Parameters
        ----------
        voxels : (n,) flat indices in C order of ``shape``; all voxels if None

        Returns
        -------
        (n, 3) float64, LPS, mm
        """
        flat = np.arange(self.n_voxels) if voxels is None else np.asarray(voxels)
        k, j, i = np.unravel_index(flat, self.shape)
        return np.stack([i, j, k], axis=1) @ self.index_to_lps[:3, :3].T + self.index_to_lps[:3, 3]

    def lps_to_index(self, points_lps: ArrayLike) -> Float:
        """Continuous indices ``(i, j, k)`` of points, (n, 3) -> (n, 3)."""
        points = np.atleast_2d(np.asarray(points_lps, float))
        return points @ self.lps_to_index_matrix[:3, :3].T + self.lps_to_index_matrix[:3, 3]

    def resampled(self, spacing_mm: ArrayLike) -> Grid:
        """Make a grid of the same axes and box center with another spacing, at least as large a box.

        >>> grid = Grid.axial((10, 20, 20), 2.5, (-10.0, 3.0, 7.0))
        >>> finer = grid.resampled(1.0)
        >>> finer.shape, bool(np.allclose(finer.center_lps, grid.center_lps))
        ((25, 50, 50), True)
        """
        spacing = np.broadcast_to(np.asarray(spacing_mm, float), 3)
        if spacing.min() <= 0:
            raise ValueError(f"Grid spacing must be positive, got {spacing.tolist()} mm.")
        extent = np.array(self.shape[::-1]) * self.spacing_mm
        count = np.maximum(1, np.ceil(extent / spacing - 1e-6)).astype(int)
        matrix = np.eye(4)
        matrix[:3, :3] = self.index_to_lps[:3, :3] / self.spacing_mm * spacing
        matrix[:3, 3] = self.center_lps - matrix[:3, :3] @ ((count - 1) / 2)
        return Grid((int(count[2]), int(count[1]), int(count[0])), matrix)

    def same_as(self, other: Grid) -> bool:
        """Whether both grids have the same voxels, to 1e-3 mm."""
        return self.shape == other.shape and bool(np.allclose(self.index_to_lps, other.index_to_lps, rtol=0, atol=1e-3))


def _rotation(axis: int, angle_deg: float) -> Float:
    """Right-handed rotation about a coordinate axis (0 = x, 1 = y, 2 = z), (3, 3)."""
    c, s = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    a, b = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[a, a], matrix[a, b], matrix[b, a], matrix[b, b] = c, -s, s, c
    return matrix


def bld_to_lps_rotation(
    gantry_deg: float, couch_deg: float = 0.0, collimator_deg: float = 0.0, *, position: str = "HFS"
) -> Float:
    """Rotation from the beam-limiting-device axes to the patient.

    ``p_lps = isocenter + M(position) Rz(-couch) Ry(gantry) Rz(collimator) p_bld`` (IEC 61217); the columns of
    the result are +Xb (along leaf travel), +Yb (across leaves) and +Zb (towards the source) in LPS.

    Raises
    ------
    ValueError
        If the patient position is not HFS, HFP, FFS or FFP.

    Examples
    --------
    >>> bld_to_lps_rotation(90.0)[:, 2].round(6) + 0.0  # towards the source, head first supine
    array([1., 0., 0.])
    """
    if position not in _FIXED_AXES_LPS:
        raise ValueError(f"Patient position '{position}' is not supported; use one of {', '.join(PATIENT_POSITIONS)}.")
    return (
        _FIXED_AXES_LPS[position] @ _rotation(2, -couch_deg) @ _rotation(1, gantry_deg) @ _rotation(2, collimator_deg)
    )
