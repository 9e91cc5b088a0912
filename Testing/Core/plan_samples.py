"""A small case on an oblique, off-center grid, a machine, and a plan for it."""

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from deeprt.beams import BeamAngles, place_beams
from deeprt.case import DicomReferences, PatientCase
from deeprt.delivery.segments import DeliverablePlan, JawOpening, Segment
from deeprt.geometry import Grid
from deeprt.machine import Clearance, HeadScatter, Jaws, Kernels, Machine, Mlc, OffAxis, Output
from deeprt.structures import Role, Structure

TARGET_RADIUS_MM = 18.0
TUBE_RADII_MM = (9.0, 17.0)
TUBE_LENGTH_MM = 56.0  # ends halfway between slices
SAMPLE_ANGLES = (BeamAngles(37.04, 0.0, 12.3), BeamAngles(281.5, 344.5, 95.0))


def an_oblique_grid(*, left_handed=False):
    """Unequal spacing, unequal counts, turned about all axes, far from the origin."""
    axes = Rotation.from_euler("xyz", [7.0, -11.0, 16.0], degrees=True).as_matrix()
    if left_handed:
        axes[:, 2] *= -1
    matrix = np.eye(4)
    matrix[:3, :3] = axes * (2.5, 3.0, 4.0)
    matrix[:3, 3] = (-61.3, 212.7, -845.9)
    return Grid((26, 32, 44), matrix)


def _coverage(grid, signed_distance_mm):
    """Share of each voxel inside a smooth surface, from the distance of its center (negative inside)."""
    width = grid.spacing_mm.mean()
    return np.clip(0.5 - signed_distance_mm / width, 0, 1).astype(np.float32).reshape(grid.shape)


def a_case(*, position="HFS", grid=None, dicom=None):
    """A body with a spherical target, a smaller boost inside it, and an organ that is a tube along k."""
    grid = grid or an_oblique_grid()
    center = grid.center_lps
    points = grid.points_lps() - center
    in_axes = points @ (grid.index_to_lps[:3, :3] / grid.spacing_mm)
    half_box = np.array(grid.shape[::-1]) * grid.spacing_mm / 2 - 8.0
    body = _coverage(grid, (np.abs(in_axes) - half_box).max(axis=1))
    target = _coverage(grid, np.linalg.norm(in_axes - (12, 5, 3), axis=1) - TARGET_RADIUS_MM)
    boost = _coverage(grid, np.linalg.norm(in_axes - (14, 7, 4), axis=1) - TARGET_RADIUS_MM / 2)
    from_axis = np.hypot(in_axes[:, 0] + 25, in_axes[:, 1] + 14)
    inner, outer = TUBE_RADII_MM
    tube = _coverage(
        grid, np.maximum(np.maximum(from_axis - outer, inner - from_axis), np.abs(in_axes[:, 2]) - TUBE_LENGTH_MM / 2)
    )
    structures = (
        Structure("Körper", Role.EXTERNAL, body),
        Structure("PTV_50", Role.TARGET, target, 50.0, color=(255, 0, 0)),
        Structure("PTV_60", Role.TARGET, boost, 60.0),
        Structure("Tube", Role.ORGAN_AT_RISK, tube),
        Structure("Ring", Role.TUNING, target),
        Structure("Marker", Role.OTHER, np.zeros(grid.shape, np.float32)),
    )
    hu = np.where(body > 0.5, 20.0 + 0.5 * in_axes[:, 0].reshape(grid.shape), -1000.0).astype(np.float32)
    return PatientCase("sample case", position, grid, hu, structures, 25, dicom=dicom)


def a_dicom_identity():
    """As a reader would find it in an input study; every field differs from its default."""
    return DicomReferences(
        patient_name="Doe^Jänis",
        patient_id="ID-77",
        patient_birth_date="19500102",
        patient_sex="F",
        study_instance_uid="1.2.3.4.5",
        study_id="S9",
        study_date="20240203",
        study_time="101112",
        study_description="Pelvis",
        accession_number="A1",
        referring_physician_name="Roe^R",
        frame_of_reference_uid="1.2.3.4.6",
        position_reference_indicator="XY",
        ct_series_uid="1.2.3.4.7",
        structure_set_uid="1.2.3.4.8",
        roi_numbers={"Körper": 3, "PTV_50": 12, "PTV_60": 7},
    )


def a_machine():
    """Sixty leaf pairs, 10 mm wide outside and 5 mm inside; the beam model is of no account here."""
    edges = np.concatenate([np.arange(-200, -100, 10), np.arange(-100, 100, 5), np.arange(100, 201, 10)]).astype(float)
    return Machine(
        name="Generic 6 MV, 120 leaves",
        energy_mv=6.0,
        sad_mm=1000.0,
        mlc=Mlc(edges, 200.0, 150.0, 145.0, 0.5, False, 0.015, 0.0, 25.0),
        jaws=Jaws(200.0, 200.0, 5.0),
        clearance=Clearance(415.0, 380.0, 265.0, 1000.0, 200.0, 200.0, 90.0),
        kernels=Kernels(0.005, np.array([0.3, 0.02, 0.01]), np.array([2.0, 10.0]), np.ones((3, 2)), 2.0),
        head_scatter=HeadScatter(np.array([100.0]), np.array([1.0])),
        off_axis=OffAxis(np.array([0.0]), np.array([1.0])),
        output=Output(0.01, 15.0, 100.0, 1000.0),
        dose_rate_mu_per_min=600.0,
        max_mu_per_beam=1000.0,
        min_segment_mu=2.0,
        min_segment_area_mm2=100.0,
    )


def _segment(machine, beam_index, beam, *, shrink_mm, mu):
    """The outline of the open beamlets, each side moved inwards; leaves of rows without any are closed."""
    left, right = np.zeros(machine.mlc.n_pairs), np.zeros(machine.mlc.n_pairs)
    for row, is_open in enumerate(beam.open_beamlets):
        columns = np.flatnonzero(is_open)
        if columns.size == 0:
            continue
        pair = int(np.searchsorted(machine.mlc.leaf_edges_mm, beam.y_edges_mm[row] + 0.1)) - 1
        middle = (beam.x_edges_mm[columns[0]] + beam.x_edges_mm[columns[-1] + 1]) / 2
        left[pair] = min(beam.x_edges_mm[columns[0]] + shrink_mm, middle)
        right[pair] = max(beam.x_edges_mm[columns[-1] + 1] - shrink_mm, middle)
    return Segment(beam_index, left, right, mu)


def a_plan(case, angles=SAMPLE_ANGLES):
    """Two beams with three and two segments; angles, positions and monitor units are no round numbers."""
    machine = a_machine()
    beams = place_beams(case, angles, machine)
    beams = (beams[0], replace(beams[1], name="Left, oblique"))
    segments = tuple(
        _segment(machine, index, beams[index], shrink_mm=shrink, mu=mu)
        for index, shrink, mu in ((0, 0.0, 31.7), (0, 3.333, 12.345678901234567), (0, 7.0, 100 / 3), (1, 1.0, 80.1),
                                  (1, 5.5555, 7 / 3))
    )  # fmt: skip
    jaws = (JawOpening(-41.2, 38.0, -36.0, 44.5), JawOpening(-30.0, 50.0, -45.0, 45.0))
    return DeliverablePlan(machine, beams, jaws, segments, case.n_fractions)
