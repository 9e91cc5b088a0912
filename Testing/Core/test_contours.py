from pathlib import Path

import numpy as np
import pydicom
import pytest
from Core.dicom_samples import circle, rectangle
from numpy.testing import assert_allclose

from deeprt.dicom.contours import polygon_coverage, rasterize
from deeprt.errors import InputError
from deeprt.geometry import Grid

BENCHMARK = Path(__file__).parents[3] / "shared" / "cases" / "dvh_benchmark" / "structures"


@pytest.fixture
def a_grid() -> Grid:
    """Off-center, with voxels of three different sizes."""
    return Grid.axial((20, 34, 40), (2.0, 2.5, 3.0), (-31.3, -47.1, 12.4))


def rotated(grid: Grid, *, mirrored: bool = False) -> Grid:
    """The grid turned by 30 degrees about the slice normal; mirrored runs against S, as feet-first images do."""
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    rotation = np.eye(4)
    rotation[:2, :2] = [[c, -s], [s, c]]
    flip = np.diag([-1.0, 1.0, -1.0 if mirrored else 1.0, 1.0])
    return Grid(grid.shape, rotation @ flip @ grid.index_to_lps)


def volume_mm3(fraction: np.ndarray, grid: Grid) -> float:
    return float(fraction.sum(dtype=np.float64)) * float(np.prod(grid.spacing_mm))


def test_coverage_of_a_rectangle_is_exact_across_and_within_a_line_spacing_along():
    box = np.array([[1.25, 2.0], [5.5, 2.0], [5.5, 7.25], [1.25, 7.25]])
    coverage = polygon_coverage([box], (10, 9))
    across = np.array([0, 0.25, 1, 1, 1, 1, 0, 0, 0])
    along = np.array([0, 0, 0.5, 1, 1, 1, 1, 0.75, 0, 0])
    assert_allclose(coverage, np.outer(along, across), atol=1 / 16)
    assert_allclose(coverage[4], across, atol=1e-6)


def test_coverage_of_a_disc_is_its_area():
    disc = circle((7.3, 6.1), 4.7, [0.0], 500)[0][:, :2]
    assert_allclose(polygon_coverage([disc], (14, 15)).sum(), np.pi * 4.7**2, rtol=1e-3)


def test_a_polygon_beyond_the_edges_is_cut_off_there():
    box = np.array([[-20.0, -20.0], [30.0, -20.0], [30.0, 4.5], [-20.0, 4.5]])
    expected = np.zeros((10, 8))
    expected[:5] = 1
    assert_allclose(polygon_coverage([box], (10, 8)), expected, atol=1e-6)


def test_inner_contour_and_keyhole_contour_make_the_same_hole(a_grid):
    z = [20.0, 23.0, 26.0]
    outer, inner = rectangle((-20, 30), (-30, 20), z), rectangle((-5, 10), (-12, 5), z)
    two = rasterize([*outer, *inner], a_grid, slice_spacing_mm=3.0)
    keyholes = [np.concatenate([o, o[:1], i[[0, 3, 2, 1]], i[:1]]) for o, i in zip(outer, inner, strict=True)]
    one = rasterize(keyholes, a_grid, slice_spacing_mm=3.0)
    assert_allclose(one, two, atol=0.03)  # where the cut meets the hole, a part of the hole's edge is taken for cut
    assert np.count_nonzero(np.abs(one - two) > 1e-6) <= 4
    assert_allclose(volume_mm3(two, a_grid), (50 * 50 - 15 * 17) * 9, rtol=5e-3)


def test_overlapping_contours_of_a_plane_exclude_their_overlap(a_grid):
    z = [25.0]
    fraction = rasterize(
        [*rectangle((-20, 10), (-20, 10), z), *rectangle((0, 30), (-20, 10), z)], a_grid, slice_spacing_mm=3.0
    )
    assert_allclose(volume_mm3(fraction, a_grid), (2 * 900 - 2 * 300) * 3, rtol=5e-3)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_cylinder_keeps_its_volume_and_centroid_on_a_rotated_grid(a_grid, mirrored):
    grid = rotated(a_grid, mirrored=mirrored)
    x, y, z_middle = grid.center_lps
    planes = z_middle + np.array([-7.5, -4.5, -1.5, 1.5, 4.5, 7.5])
    fraction = rasterize(circle((x + 3.7, y - 2.2), 14.0, planes), grid, slice_spacing_mm=3.0)
    assert_allclose(volume_mm3(fraction, grid), np.pi * 14**2 * 18, rtol=2e-3)
    weights = fraction.ravel() / fraction.sum()
    assert_allclose(weights @ grid.points_lps(), (x + 3.7, y - 2.2, z_middle), atol=0.05)  # mm, a fiftieth of a voxel


def test_a_gap_of_slices_between_parallel_outlines_is_filled_by_straight_walls(a_grid):
    x, y = a_grid.center_lps[:2]
    planes = 20.0 + 6.0 * np.arange(5)
    cone = [c for n, z in enumerate(planes) for c in circle((x, y), 8.0 + 3.0 * n, [z])]
    fraction = rasterize(cone, a_grid, slice_spacing_mm=6.0, end_reach=0.0)
    exact = np.pi * 24 / 3 * (8**2 + 8 * 20 + 20**2)
    assert_allclose(volume_mm3(fraction, a_grid), exact, rtol=5e-3)


def test_a_tip_between_two_planes_keeps_its_volume(a_grid):
    radius, z_middle = 12.0, 40.0
    x, y = a_grid.center_lps[:2]
    heights = np.arange(-4, 5) * 3.0
    contours = [c for h in heights for c in circle((x, y), np.sqrt(max(radius**2 - h**2, 0.01)), [z_middle + h])]
    fraction = rasterize(contours, a_grid, slice_spacing_mm=3.0)
    exact = 4 / 3 * np.pi * radius**3
    slabs = sum(np.pi * (radius**2 - h**2) * 3.0 for h in heights)
    assert_allclose(volume_mm3(fraction, a_grid), exact, rtol=0.02)
    tips = np.abs(a_grid.points_lps()[:, 2] - z_middle).reshape(a_grid.shape) > 10.6
    cap = np.pi * 1.4**2 * (3 * radius - 1.4) / 3  # two of them, each 1.4 mm high; in slabs they would be empty
    assert abs(exact - slabs) / exact < 0.02
    assert volume_mm3(np.where(tips, fraction, 0), a_grid) > 0.3 * 2 * cap


def test_the_end_planes_reach_outward_as_told(a_grid):
    box = rectangle((-20, 30), (-30, 20), [20.0, 23.0, 26.0])
    for reach in (0.0, 0.25, 0.5):
        fraction = rasterize(box, a_grid, slice_spacing_mm=3.0, end_reach=reach)
        assert_allclose(volume_mm3(fraction, a_grid), 2500 * (6 + 6 * reach), rtol=1e-3)
    single = rasterize(box[:1], a_grid, slice_spacing_mm=3.0, end_reach=0.0)
    assert_allclose(volume_mm3(single, a_grid), 2500 * 3, rtol=1e-3)


def test_a_sphere_has_the_volume_of_its_slabs(a_grid):
    planes = 40.0 + np.arange(-15, 16)
    x, y, _ = a_grid.center_lps
    contours = [c for z in planes for c in circle((x, y), np.sqrt(max(15.5**2 - (z - 40.0) ** 2, 0.01)), [z])]
    fraction = rasterize(contours, a_grid, slice_spacing_mm=1.0)
    assert_allclose(volume_mm3(fraction, a_grid), 4 / 3 * np.pi * 15.5**3, rtol=5e-3)


def test_a_slab_fills_layers_by_their_overlap(a_grid):
    # Slab from 18.5 to 21.5; layers of 3 mm around 18.4 and 21.4 reach to 19.9.
    fraction = rasterize(rectangle((-20, 30), (-30, 20), [20.0]), a_grid, slice_spacing_mm=3.0)
    assert_allclose(fraction[:, 15, 20], [0, 0, 1.4 / 3, 1.6 / 3, *[0] * 16], atol=1e-5)


def test_contours_on_the_voxel_layers_fill_them_wholly(a_grid):
    planes = 12.4 + 3.0 * np.arange(4, 9)
    fraction = rasterize(rectangle((-20, 30), (-30, 20), planes), a_grid, slice_spacing_mm=3.0)
    assert_allclose(fraction[:, 15, 20], [0] * 4 + [1] * 5 + [0] * 11, atol=1e-5)


def test_a_gap_between_planes_is_not_bridged(a_grid):
    planes = [18.0, 21.0, 24.0, 39.0, 42.0, 45.0]
    fraction = rasterize(rectangle((-20, 30), (-30, 20), planes), a_grid, slice_spacing_mm=3.0)
    assert_allclose(volume_mm3(fraction, a_grid), 50 * 50 * 18, rtol=5e-3)
    assert fraction[7].max() == 0  # at 33.4 mm


def test_two_planes_farther_apart_than_the_slices_are_two_pieces(a_grid):
    fraction = rasterize(rectangle((-20, 30), (-30, 20), [20.0, 50.0]), a_grid, slice_spacing_mm=3.0)
    assert_allclose(volume_mm3(fraction, a_grid), 50 * 50 * 6, rtol=5e-3)


def test_contours_outside_the_grid_fill_nothing(a_grid):
    far = [*rectangle((500, 530), (-30, 20), [20.0]), *rectangle((-20, 30), (-30, 20), [500.0])]
    assert not rasterize(far, a_grid, slice_spacing_mm=3.0).any()
    assert not rasterize(far[:1], a_grid, slice_spacing_mm=3.0).any()
    assert not rasterize([], a_grid, slice_spacing_mm=3.0).any()


def test_a_contour_across_the_slices_is_refused(a_grid):
    sagittal = np.array([[0.0, -20, 15], [0, 20, 15], [0, 20, 40], [0, -20, 40]])
    with pytest.raises(InputError, match=r"'Cord': a contour leaves its slice by 25\.0 mm"):
        rasterize([sagittal], a_grid, slice_spacing_mm=3.0, name="Cord")


# Nelms et al., Med. Phys. 42 (2015): volumes of "Extracted Analytical D points.xlsx", cc. Theirs has half a slice
# beyond the end planes of cylinder and cone; contours 3 mm apart miss up to 3 % of shapes that end in a curve.
@pytest.mark.skipif(not BENCHMARK.is_dir(), reason="shared/cases/dvh_benchmark is not there")
@pytest.mark.parametrize(
    ("shape", "volume_cc", "tolerance"),
    [
        ("Sphere", 7.23838, 0.02),
        ("Cylinder", 12.21451, 0.002),
        ("Cone", 4.29770, 0.01),
        ("RtCylinder", 10.85806, 0.03),
        ("RtCone", 3.61911, 0.012),
    ],
)
def test_benchmark_shapes_have_their_analytic_volumes(shape, volume_cc, tolerance):
    grid = Grid.axial((20, 60, 60), (1.1, 0.9, 2.0), (-30.2, -32.1, -15.3))
    structures = pydicom.dcmread(BENCHMARK / f"{shape}_30_0.dcm")
    sequence = structures.ROIContourSequence[-1].ContourSequence
    contours = [np.array(c.ContourData, dtype=float).reshape(-1, 3) for c in sequence]
    fraction = rasterize(contours, grid, slice_spacing_mm=3.0)
    assert_allclose(volume_mm3(fraction, grid) / 1000, volume_cc, rtol=tolerance)
