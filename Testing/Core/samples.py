"""Phantoms, beams and plans whose geometry is known in closed form."""

from dataclasses import replace

import numpy as np
import torch
from Core.plan_samples import an_oblique_grid as an_oblique_grid

from deeprt.beams import Beam, BeamAngles
from deeprt.case import PatientCase
from deeprt.delivery.segments import DeliverablePlan, JawOpening, Segment
from deeprt.geometry import Grid
from deeprt.machine import HeadScatter, OffAxis
from deeprt.machine_file import read_machine
from deeprt.structures import Role, Structure

# Without horns and head scatter, so that closed forms hold.
MACHINE = replace(
    read_machine("generic_6mv"),
    head_scatter=HeadScatter(np.array([100.0]), np.array([1.0])),
    off_axis=OffAxis(np.array([0.0]), np.array([1.0])),
)
X_EDGES = np.array([-32.5, -20.0, -17.5, -5.0, 0.0, 2.5, 10.0, 27.5, 40.0])  # nothing symmetric about the axis
Y_EDGES = np.array([-30.0, -20.0, -15.0, 0.0, 5.0, 25.0])
MASK = np.array(
    [
        [0, 0, 1, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 1, 1, 1, 0],
        [1, 1, 1, 0, 0, 1, 1, 1],
        [0, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 1, 1, 1, 0, 0],
    ],
    bool,
)


def a_centered_grid(n=31, spacing_mm=4.0, center_lps=(0.0, 0.0, 0.0)):
    """An axial cube of cubic voxels."""
    return Grid.axial((n, n, n), spacing_mm, np.asarray(center_lps) - spacing_mm * (n - 1) / 2)


def random_grid(rng):
    """Any orientation, handedness, spacing, shape and place."""
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    matrix = np.eye(4)
    matrix[:3, :3] = axes * rng.uniform(0.5, 6.0, 3)
    matrix[:3, 3] = rng.uniform(-800, 800, 3)
    return Grid(tuple(int(n) for n in rng.integers(1, 40, 3)), matrix)


def axes_of(grid):
    """Directions of i, j, k in LPS, as columns."""
    return grid.index_to_lps[:3, :3] / grid.spacing_mm


def share_inside(grid, signed_distance_mm):
    """Share of each voxel inside a smooth surface, from the distance of its center (negative inside)."""
    return np.clip(0.5 - signed_distance_mm / grid.spacing_mm.mean(), 0, 1).astype(np.float32).reshape(grid.shape)


def a_sphere(grid, center_lps, radius_mm):
    """Share of each voxel inside a sphere."""
    return share_inside(grid, np.linalg.norm(grid.points_lps() - center_lps, axis=1) - radius_mm)


def a_phantom(grid, hu, *, body=None, position="HFS", target_center_lps=None, target_radius_mm=15.0):
    """A phantom that fills its grid, or the share ``body`` of it, with a spherical target."""
    body = np.ones(grid.shape, np.float32) if body is None else body
    target = a_sphere(grid, grid.center_lps if target_center_lps is None else target_center_lps, target_radius_mm)
    structures = (Structure("Outline", Role.EXTERNAL, body), Structure("Ball", Role.TARGET, target, 50.0))
    hu = np.broadcast_to(np.asarray(hu, np.float32), grid.shape)
    return PatientCase("phantom", position, grid, hu, structures, 20)


def a_uniform_phantom(grid, density=1.0, **options):
    """Water, or another density, that fills its grid."""
    return a_phantom(grid, 1000.0 * (density - 1) if density <= 1 else 100.0 + (density - 1.1) * 2000, **options)


def a_field(angles, isocenter_lps, x_edges_mm, y_edges_mm, *, open_beamlets=None, position="HFS", name="Field"):
    """A beam of given beamlets, all open unless told otherwise."""
    x, y = np.asarray(x_edges_mm, float), np.asarray(y_edges_mm, float)
    mask = np.ones((y.size - 1, x.size - 1), bool) if open_beamlets is None else open_beamlets
    return Beam(name, angles, np.asarray(isocenter_lps, float), position, 1000.0, x, y, mask)


def depth_in_box(grid, source_lps, points_lps):
    """Length of the ray from the source to each point that lies inside the grid's box, mm."""
    start = (source_lps - grid.center_lps) @ axes_of(grid)
    ends = (points_lps - grid.center_lps) @ axes_of(grid)
    half = np.array(grid.shape[::-1]) * grid.spacing_mm / 2
    with np.errstate(divide="ignore"):
        faces = np.stack([(-half - start) / (ends - start), (half - start) / (ends - start)])
    enter = np.clip(faces.min(axis=0).max(axis=1), 0, 1)
    leave = np.clip(faces.max(axis=0).min(axis=1), 0, 1)
    return np.maximum(leave - enter, 0) * np.linalg.norm(points_lps - source_lps, axis=1)


def a_one_beam_plan(beam, openings, *, jaws=(-60.0, 55.0, -50.0, 45.0), n_fractions=20, machine=None):
    """Segments of one beam, each ``(left_mm, right_mm, low_mm, high_mm, mu)``: pairs between low and high are open."""
    machine = machine or MACHINE
    edges = machine.mlc.leaf_edges_mm
    segments = []
    for left, right, low, high, mu in openings:
        is_open = (edges[:-1] >= low) & (edges[1:] <= high)
        tips = [np.where(is_open, tip, left) for tip in (left, right)]
        segments.append(Segment(0, tips[0], tips[1], mu))
    return DeliverablePlan(machine, (beam,), (JawOpening(*jaws),), tuple(segments), n_fractions)


def some_angles():
    """Gantry, couch and collimator all turned."""
    return BeamAngles(37.0, 0.0, 12.0), BeamAngles(281.5, 344.5, 95.0), BeamAngles(160.0, 20.0, 330.0)


def irregular_beams(isocenter, angles=None, *, position="HFS"):
    """Beams with open beamlets of many sizes, some rows with a gap."""
    return tuple(
        a_field(a, isocenter, X_EDGES, Y_EDGES, open_beamlets=np.roll(MASK, n, axis=1), position=position, name=f"F{n}")
        for n, a in enumerate(angles or some_angles())
    )


def random_fluence(influence, *, n_batch=1, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).uniform(0, 40, (n_batch, influence.n_beamlets))).float()
