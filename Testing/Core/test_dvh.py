"""DVHs against closed forms, and against the analytic benchmark of Nelms et al., Med. Phys. 42, 4435 (2015)."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import brentq
from scipy.spatial.transform import Rotation

from deeprt.dicom.read_dose import read_dose
from deeprt.dicom.scan import read_header
from deeprt.dicom.structure_set import read_structures
from deeprt.evaluation.dvh import _points_in_voxel, dvh, structure_dvh
from deeprt.geometry import Grid

BENCHMARK = Path(__file__).parents[3] / "shared" / "cases" / "dvh_benchmark"


@pytest.fixture
def an_oblique_grid():
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [12.0, -9.0, 23.0], degrees=True).as_matrix() * (1.0, 1.1, 1.2)
    matrix[:3, 3] = (-61.3, 212.7, -845.9)
    return Grid((36, 38, 42), matrix)


def sphere(grid, radius_mm, *, n_sub=4):
    """Share of each voxel inside a sphere at the grid's center, counted on n_sub³ points a voxel."""
    shift = (np.arange(n_sub) + 0.5) / n_sub - 0.5
    share = np.zeros(grid.n_voxels)
    points = grid.points_lps() - grid.center_lps
    for offset in np.stack(np.meshgrid(shift, shift, shift), axis=-1).reshape(-1, 3):
        share += np.linalg.norm(points + grid.index_to_lps[:3, :3] @ offset, axis=1) < radius_mm
    return (share / n_sub**3).reshape(grid.shape).astype(np.float32)


def linear_dose(grid, gy_per_mm, at_center_gy):
    distance = (grid.points_lps() - grid.center_lps) @ (np.ones(3) / np.sqrt(3))
    return (at_center_gy + gy_per_mm * distance).reshape(grid.shape).astype(np.float32)


def test_a_linear_dose_over_a_box_gives_a_straight_dvh():
    dose = np.linspace(10, 50, 4001, dtype=np.float32).reshape(1, 1, -1)
    curve = dvh(dose, np.ones_like(dose), 0.001)
    for percent in (2, 5, 50, 95, 98):
        # One voxel is 0.01 Gy of the gradient.
        assert_allclose(curve.dose_at_volume(percent), 50 - 0.4 * percent, atol=0.011)
        assert_allclose(curve.volume_at_dose(50 - 0.4 * percent), percent / 100, atol=0.0003)
    assert_allclose((curve.min_gy, curve.mean_gy, curve.max_gy), (10, 30, 50), rtol=1e-6)
    assert_allclose(curve.volume_cc, 4.001)


def test_volume_and_doses_of_a_sphere_on_an_oblique_grid_are_analytic(an_oblique_grid):
    radius = 15.0
    curve = dvh(
        linear_dose(an_oblique_grid, 1.0, 30.0), sphere(an_oblique_grid, radius), an_oblique_grid.voxel_volume_cc
    )
    assert_allclose(curve.volume_cc, 4 / 3 * np.pi * radius**3 / 1000, rtol=2e-3)  # 64 points a voxel
    assert_allclose(curve.mean_gy, 30.0, atol=0.01)
    for percent in (2, 5, 50, 95, 98):
        # Share of a sphere beyond t radii from its center: (2 - 3 t + t³) / 4.
        t = brentq(lambda t, p=percent: (2 - 3 * t + t**3) / 4 - p / 100, -1, 1)
        # A voxel's dose stands for 1.1 mm; the sphere's edge smears over that much.
        assert_allclose(curve.dose_at_volume(percent), 30 + radius * t, atol=0.15)


def test_look_ups_are_exact_steps_of_the_voxels():
    dose = np.float32([[[5, 20, 20, 40, 60]]])
    curve = dvh(dose, np.float32([[[0, 1, 1, 1, 1]]]), 0.5)
    assert [curve.dose_at_volume(p) for p in (0, 25, 25.01, 50, 75, 100)] == [60, 60, 40, 40, 20, 20]
    assert [curve.volume_at_dose(d) for d in (0, 20, 20.01, 40, 60, 60.01)] == [1, 1, 0.5, 0.5, 0.25, 0]
    assert [curve.dose_at_volume_cc(v) for v in (0.03, 0.5, 0.6, 9.0)] == [60, 60, 40, 20]


def test_edge_voxels_count_by_their_share():
    curve = dvh(np.float32([[[10, 30]]]), np.float32([[[0.25, 0.75]]]), 0.008)
    assert_allclose((curve.mean_gy, curve.volume_at_dose(20), curve.volume_cc), (25.0, 0.75, 0.008))


def test_a_volume_that_only_rounding_misses_is_reached():
    fraction = np.full((1, 1, 20), 0.1, np.float32)
    assert dvh(np.arange(20, dtype=np.float32).reshape(1, 1, 20), fraction, 1.0).dose_at_volume(95) == 1.0


def test_the_inputs_stay_as_they_are():
    dose, fraction = np.float32([[[3, 1, 2]]]), np.float32([[[1, 0.5, 1]]])
    dvh(dose, fraction, 1.0)
    assert dose.ravel().tolist() == [3, 1, 2]
    assert fraction.ravel().tolist() == [1, 0.5, 1]


def test_an_empty_structure_has_no_dvh():
    with pytest.raises(ValueError, match="An empty structure has no DVH"):
        dvh(np.ones((2, 2, 2), np.float32), np.zeros((2, 2, 2), np.float32), 1.0)


def test_a_dose_on_another_grid_is_refused():
    with pytest.raises(ValueError, match=r"Dose has shape \(2, 2, 2\), the structure \(2, 2, 3\)"):
        dvh(np.ones((2, 2, 2), np.float32), np.ones((2, 2, 3), np.float32), 1.0)


@pytest.mark.parametrize("percent", [-1, 100.5])
def test_a_volume_beyond_the_structure_is_refused(percent):
    curve = dvh(np.ones((1, 1, 1), np.float32), np.ones((1, 1, 1), np.float32), 1.0)
    with pytest.raises(ValueError, match="must lie in 0 to 100 %"):
        curve.dose_at_volume(percent)
    with pytest.raises(ValueError, match="must not be negative"):
        curve.dose_at_volume_cc(-0.1)


# Below the size of a voxel


@pytest.mark.parametrize("radius", [3.0, 8.0, 15.0])
def test_a_sphere_of_any_size_has_its_analytic_dvh(an_oblique_grid, radius):
    dose = linear_dose(an_oblique_grid, 1.0, 30.0)
    curve = structure_dvh(dose, sphere(an_oblique_grid, radius), an_oblique_grid.voxel_volume_cc)
    for percent in (2, 5, 50, 95, 98):
        t = brentq(lambda t, p=percent: (2 - 3 * t + t**3) / 4 - p / 100, -1, 1)
        assert_allclose(curve.dose_at_volume(percent), 30 + radius * t, atol=0.1)  # of a voxel of 1 to 1.2 mm


def test_a_plane_that_cuts_voxels_leaves_the_part_on_its_inner_side():
    # The structure fills the upper 0.3 of each voxel of its lowest layer, where the dose is higher.
    fraction = np.ones((6, 8, 8), np.float32)
    fraction[0], fraction[1] = 0, 0.3
    dose = np.broadcast_to(np.arange(6, dtype=np.float32)[:, None, None] * 10, fraction.shape)
    curve = structure_dvh(dose, fraction, 1.0)
    assert_allclose(curve.volume_cc, 4.3 * 64, rtol=1e-6)
    assert_allclose(curve.min_gy, 12.0, atol=0.2)
    assert dvh(dose, fraction, 1.0).min_gy == 10.0


def test_a_voxel_alone_keeps_its_volume_and_has_the_doses_around_it():
    fraction = np.zeros((3, 3, 3), np.float32)
    fraction[1, 1, 1] = 0.4
    dose = np.broadcast_to(np.float32([0, 10, 20]), (3, 3, 3))
    curve = structure_dvh(dose, fraction, 0.5)
    assert_allclose((curve.volume_cc, curve.mean_gy), (0.2, 10.0), rtol=1e-5)
    assert (curve.min_gy, curve.max_gy) == pytest.approx((5.0, 15.0), abs=0.1)


def test_the_maximum_at_a_voxels_center_is_seen():
    dose = np.full((5, 5, 5), 10.0, np.float32)
    dose[2, 2, 2] = 60.0
    assert structure_dvh(dose, np.ones((5, 5, 5), np.float32), 1.0).max_gy == 60.0


def test_a_structure_of_very_many_voxels_is_sampled_at_their_centers():
    fraction = np.ones((60, 60, 60), np.float32)
    dose = np.random.default_rng(3).uniform(0, 60, fraction.shape).astype(np.float32)
    sampled, whole = structure_dvh(dose, fraction, 1.0), dvh(dose, fraction, 1.0)
    assert_allclose(sampled.dose_gy, whole.dose_gy)
    assert_allclose(sampled.volume_fraction, whole.volume_fraction)


@pytest.mark.parametrize("n_voxels", [10, 5_000, 500_000])
def test_the_points_of_a_voxel_are_symmetric_and_differ_along_each_axis(n_voxels):
    points = _points_in_voxel(n_voxels)
    assert len(points) * n_voxels <= 200_000 or len(points) == 1
    assert np.abs(points).max() < 0.5
    for axis in range(3):
        assert_allclose(np.sort(points[:, axis]), np.sort(-points[:, axis]), atol=1e-12)
        assert np.unique(np.round(points[:, axis], 9)).size == len(points)


def test_a_structure_that_is_empty_or_on_another_grid_has_no_dvh():
    with pytest.raises(ValueError, match="An empty structure has no DVH"):
        structure_dvh(np.ones((2, 2, 2), np.float32), np.zeros((2, 2, 2), np.float32), 1.0)
    with pytest.raises(ValueError, match=r"Dose has shape \(2, 2, 2\), the structure \(2, 2, 3\)"):
        structure_dvh(np.ones((2, 2, 2), np.float32), np.ones((2, 2, 3), np.float32), 1.0)


# D99, D95, D5, D1 and D0.03cc of "Extracted Analytical D points.xlsx", Gy, contours and dose every 3 mm.
ANALYTIC = {
    ("Sphere", "AntPost"): (5.41, 7.245, 24.75, 26.585, 27.095),
    ("Sphere", "SupInf"): (5.41, 7.245, 24.75, 26.585, 27.095),
    ("Cylinder", "AntPost"): (4.785, 6.335, 25.66, 27.21, 27.69),
    ("Cylinder", "SupInf"): (2.765, 3.85, 28.15, 29.225, 29.43),
    ("Cone", "AntPost"): (5.755, 7.895, 24.10, 26.24, 26.54),
    ("Cone", "SupInf"): (9.475, 13.36, 29.02, 29.40, 29.43),
    ("RtCylinder", "AntPost"): (4.24, 5.20, 26.80, 27.76, 27.93),
    ("RtCylinder", "SupInf"): (4.785, 6.335, 25.665, 27.21, 27.665),
    ("RtCone", "AntPost"): (9.17, 12.84, 27.59, 27.915, 27.93),
    ("RtCone", "SupInf"): (6.21, 8.295, 23.70, 25.785, 25.95),
}


@pytest.mark.skipif(not BENCHMARK.is_dir(), reason="the DVH benchmark is not beside the checkout")
@pytest.mark.parametrize(("shape", "direction"), ANALYTIC)
@pytest.mark.parametrize("first_voxel_lps", [(-24.0, -30.0, -30.0), (-25.3, -28.9, -31.2)])
def test_the_benchmark_has_its_analytic_dose_points(shape, direction, first_voxel_lps):
    grid = Grid.axial((19, 19, 19), 3.0, first_voxel_lps)
    header = read_header(BENCHMARK / "structures" / f"{shape}_30_0.dcm")
    frame = header.StructureSetROISequence[-1].ReferencedFrameOfReferenceUID
    structures, _, _ = read_structures(header, frame_of_reference_uid=frame, slice_spacing_mm=3.0)
    dose = read_dose(BENCHMARK / "dose" / f"Linear_{direction}_3mm_Aligned.dcm", grid)
    curve = structure_dvh(dose, structures[-1].fraction_on(grid), grid.voxel_volume_cc)
    found = [curve.dose_at_volume(p) for p in (99, 95, 5, 1)] + [curve.dose_at_volume_cc(0.03)]
    assert_allclose(found, ANALYTIC[shape, direction], rtol=0, atol=0.5)  # 0.5 mm of a gradient of 1 Gy/mm
