"""Cases on an oblique, off-center grid, beams, and transforms to put over nodes."""

from dataclasses import replace

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import vtk
from Core.plan_samples import an_oblique_grid
from Core.samples import a_sphere, irregular_beams
from scipy.spatial.transform import Rotation

from deeprt.case import PatientCase
from deeprt.structures import Role, Structure


def a_case(position="HFS"):
    """A body with two overlapping organs that fill voxels partly, a target in one of them, and a sharp box."""
    grid, rng = an_oblique_grid(), np.random.default_rng(4)
    center = grid.center_lps
    behind, before = np.add(center, (3.0, 12.0, -5.0)), np.add(center, (0.0, -6.0, 4.0))
    box = np.zeros(grid.shape, np.float32)
    box[3:9, 20:27, 5:17] = 1
    structures = (
        Structure("BODY", Role.EXTERNAL, a_sphere(grid, center, 45.0)),
        Structure("Rectum", Role.ORGAN_AT_RISK, a_sphere(grid, behind, 14.0), None, "Rectum"),
        Structure("Bladder", Role.ORGAN_AT_RISK, a_sphere(grid, before, 16.0), None, "Bladder"),
        Structure("PTV", Role.TARGET, a_sphere(grid, center, 11.0), 60.0, color=(200, 30, 40)),
        Structure("Metal", Role.OTHER, box, density=3.5),
    )
    hu = rng.normal(20, 300, grid.shape).astype(np.float32)
    return PatientCase("Phantom", position, grid, hu, structures, 20)


def beams_of(case, n=3):
    """Beams from all around with a field that is not symmetric about anything."""
    beams = irregular_beams(case.isocenter_lps(), position=case.position)[:n]
    return tuple(replace(b, name=f"Beam {k}") for k, b in enumerate(beams, start=1))


def a_rigid_transform(scene, *, angles_deg=(20.0, -35.0, 50.0), shift_ras=(13.0, -27.0, 8.0), about_ras=(0, 0, 0)):
    """A transform node that turns about all axes through a point and shifts; and its matrix in RAS."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    matrix[:3, 3] = about_ras - matrix[:3, :3] @ about_ras + shift_ras
    return a_transform(scene, matrix), matrix


def a_transform(scene, matrix):
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Couch shift")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.asarray(matrix, float)))
    return node


def a_bend(scene):
    """A transform node that is not linear."""
    bend = vtk.vtkThinPlateSplineTransform()
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for point in ((0, 0, 0), (50, 0, 0), (0, 50, 0), (0, 0, 50), (50, 50, 50)):
        source.InsertNextPoint(point)
        target.InsertNextPoint(np.add(point, (0, 0, point[0] * point[1] / 100)))
    bend.SetSourceLandmarks(source)
    bend.SetTargetLandmarks(target)
    bend.SetBasisToR()
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "Bend")
    node.SetAndObserveTransformToParent(bend)
    return node


def in_lps(matrix_ras):
    """The same map of points, of LPS to LPS."""
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    return flip @ matrix_ras @ flip
