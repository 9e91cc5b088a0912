"""RAS, the coordinates of a scene: they exist here and nowhere else, everything beyond speaks LPS.

In RAS the first two axes point to the patient's right and anterior, in LPS to the left and posterior; mm in both.
"""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from numpy.typing import ArrayLike, NDArray

from deeprt.beams import Beam
from deeprt.errors import InputError
from deeprt.geometry import Grid

Float = NDArray[np.float64]

_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


def points_to_ras(points_lps: ArrayLike) -> Float:
    """Bring points from LPS to RAS, (n, 3) or (3,), mm."""
    return np.asarray(points_lps, np.float64) @ _FLIP[:3, :3]


def points_to_lps(points_ras: ArrayLike) -> Float:
    """Bring points from RAS to LPS, (n, 3) or (3,), mm."""
    return np.asarray(points_ras, np.float64) @ _FLIP[:3, :3]


def matrix_to_ras(to_lps: ArrayLike) -> Float:
    """Let a 4 x 4 matrix that maps anything, such as voxel indices or a beam's frame, to LPS map it to RAS."""
    return _FLIP @ np.asarray(to_lps, np.float64)


def matrix_to_lps(to_ras: ArrayLike) -> Float:
    """Let a 4 x 4 matrix that maps anything, such as voxel indices or a beam's frame, to RAS map it to LPS."""
    return _FLIP @ np.asarray(to_ras, np.float64)


def beam_to_ras(beam: Beam) -> Float:
    """Matrix from a beam's frame (+Xb, +Yb, +Zb from the isocenter, mm) to RAS, (4, 4)."""
    to_lps = np.eye(4)
    to_lps[:3, :3], to_lps[:3, 3] = beam.rotation, beam.isocenter_lps
    return matrix_to_ras(to_lps)


def grid_of(volume_node: slicer.vtkMRMLScalarVolumeNode) -> Grid:
    """Voxel grid of a volume as it lies in the scene, under its parent transforms.

    Raises
    ------
    InputError
        If the volume has no voxels, or its transforms are not linear or leave its axes not orthogonal.
    """
    image = volume_node.GetImageData()
    if image is None or 0 in image.GetDimensions():
        raise InputError(f"Volume '{volume_node.GetName()}' has no voxels; choose another or load it again.")
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    n_i, n_j, n_k = image.GetDimensions()
    return grid_in_scene(volume_node, (n_k, n_j, n_i), slicer.util.arrayFromVTKMatrix(matrix))


def grid_in_scene(node: slicer.vtkMRMLTransformableNode, shape: tuple[int, int, int], index_to_node: Float) -> Grid:
    """Grid of voxels that a node holds, as it lies in the scene.

    Parameters
    ----------
    shape : (n_k, n_j, n_i)
    index_to_node : (4, 4) from ``(i, j, k, 1)`` to the node's own RAS, before its parent transforms

    Raises
    ------
    InputError
        If the transforms are not linear or leave the grid's axes not orthogonal.
    """
    to_lps = matrix_to_lps(to_scene(node) @ index_to_node)
    to_lps[3] = (0.0, 0.0, 0.0, 1.0)  # which inverting and multiplying leaves a rounding away
    try:
        return Grid(shape, to_lps)
    except ValueError as error:
        raise InputError(
            f"The axes of '{node.GetName()}' are not orthogonal where it lies in the scene; "
            "resample it to a plain grid, or take the transform with shear away."
        ) from error


def set_grid(volume_node: slicer.vtkMRMLScalarVolumeNode, grid: Grid) -> None:
    """Lay a volume's voxels where a grid says, in the scene: its parent transforms stay and are made up for.

    Raises
    ------
    InputError
        If its transforms are not linear.
    """
    to_node = np.linalg.inv(to_scene(volume_node)) @ matrix_to_ras(grid.index_to_lps)
    volume_node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(to_node))


def to_scene(node: slicer.vtkMRMLTransformableNode) -> Float:
    """Matrix of all parent transforms of a node, from its own RAS to the scene's, (4, 4).

    Raises
    ------
    InputError
        If one of them is not linear.
    """
    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    if not parent.IsTransformToWorldLinear():
        raise InputError(
            f"'{node.GetName()}' lies under the transform '{parent.GetName()}', which is not linear; harden it."
        )
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return np.asarray(slicer.util.arrayFromVTKMatrix(matrix), np.float64)
