"""DVHs against closed forms, and against the analytic benchmark of Nelms et al., Med. Phys. 42, 4435 (2015)."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import brentq
from scipy.spatial.transform import Rotation

from deeprt.evaluation.dvh import dvh
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


@pytest.mark.skipif(not BENCHMARK.is_dir(), reason="the DVH benchmark is not beside the checkout")
def test_the_benchmark_cylinder_in_an_anterior_posterior_gradient_has_its_analytic_dvh():
    import pydicom
    from skimage.draw import polygon2mask

    plan_dose = pydicom.dcmread(next((BENCHMARK / "dose").glob("*AntPost*")))
    structures = pydicom.dcmread(BENCHMARK / "structures" / "Cylinder_30_0.dcm")
    number = next(r.ROINumber for r in structures.StructureSetROISequence if r.ROIName == "Cylinder_30_0")
    contours = next(c for c in structures.ROIContourSequence if c.ReferencedROINumber == number).ContourSequence
    pixel_mm, half = 0.2, 100
    x0, y0 = np.array([0.0, -6.0]) - (half - 0.5) * pixel_mm  # around the cylinder's axis
    slices = []
    for contour in contours:
        points = np.reshape(np.asarray(contour.ContourData, float), (-1, 3))
        slices.append(polygon2mask((2 * half, 2 * half), (points[:, [1, 0]] - (y0, x0)) / pixel_mm))
    y_of_rows = plan_dose.ImagePositionPatient[1] + 3.0 * np.arange(plan_dose.Rows)
    gradient = plan_dose.pixel_array[9, :, 9] * float(plan_dose.DoseGridScaling)
    rows = np.interp(y0 + pixel_mm * np.arange(2 * half), y_of_rows, gradient).astype(np.float32)
    fraction = np.array(slices, np.float32)
    dose = np.broadcast_to(rows[None, :, None], fraction.shape)
    curve = dvh(dose, fraction, pixel_mm**2 * 3.0 / 1000)
    assert_allclose(curve.volume_cc, 12.2145, rtol=0.01)
    found = [curve.dose_at_volume(p) for p in (99, 95, 5, 1)] + [curve.dose_at_volume_cc(0.03), curve.mean_gy]
    # Half a pixel of the 1 Gy/mm gradient, and a contour of straight lines instead of a circle.
    assert_allclose(found, [4.785, 6.335, 25.66, 27.21, 27.69, 16.0], atol=0.2)
