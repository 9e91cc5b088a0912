"""Beam's-eye views against points projected one by one, and fluence on the pixels of the map and back."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from Core.samples import X_EDGES, Y_EDGES, a_centered_grid, a_field, a_sphere, an_oblique_grid
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.beams import BeamAngles
from deeprt.errors import InputError
from deeprt.geometry import PATIENT_POSITIONS
from deeprt.networks.beams_eye_view import ViewSampling, beams_eye_view, fits_map, fluence_to_map, map_to_fluence

ANGLES = (BeamAngles(0.0), BeamAngles(90.0, 0.0, 90.0), BeamAngles(281.5, 344.5, 95.0), BeamAngles(160.0, 20.0, 330.0))
FINE = ViewSampling(n_slices=61, slice_mm=1.5, n_pixels=64, pixel_mm=1.5)  # the sample grid fits into it
COARSE = ViewSampling(n_slices=16, slice_mm=8.0, n_pixels=20, pixel_mm=5.0)
OFF_CENTER_LPS = np.array([6.0, -4.0, 9.0])  # of the isocenter, from the middle of the grid


def a_beam(angles, grid, position="HFS", *, x_edges_mm=X_EDGES, y_edges_mm=Y_EDGES, **options):
    """A beam whose isocenter is not the middle of the grid."""
    isocenter = grid.center_lps + OFF_CENTER_LPS
    return a_field(angles, isocenter, x_edges_mm, y_edges_mm, position=position, **options)


def as_volumes(*arrays):
    return torch.from_numpy(np.stack(arrays).astype(np.float32))


def points_seen(beam, sampling):
    """Every point of the view by its ray from the source, (n_slices, n_pixels, n_pixels, 3), LPS."""
    n = sampling.n_pixels
    centers = sampling.pixel_mm * (np.arange(n) - (n - 1) / 2)
    v, u = np.meshgrid(centers, centers, indexing="ij")
    on_plane = beam.isocenter_lps + np.stack([u, v, 0 * u], axis=-1) @ beam.rotation.T
    distance = beam.sad_mm + sampling.slice_mm * (np.arange(sampling.n_slices) - sampling.central_slice)
    return beam.source_lps + (on_plane - beam.source_lps) * (distance / beam.sad_mm)[:, None, None, None]


def index_seen(beam, grid, sampling):
    """Continuous indices (i, j, k) of the view's points, and their count along each axis."""
    index = grid.lps_to_index(points_seen(beam, sampling).reshape(-1, 3))
    return index.reshape(sampling.n_slices, sampling.n_pixels, sampling.n_pixels, 3), np.array(grid.shape[::-1])


def centroid(view):
    """Slice, row and column of the centroid."""
    view = np.asarray(view, float)
    return np.array([view.sum(tuple({0, 1, 2} - {a})) @ np.arange(view.shape[a]) for a in range(3)]) / view.sum()


def test_the_paper_has_64_slices_of_128_pixels_with_the_32nd_on_the_isocenter():
    sampling = ViewSampling()
    assert sampling.central_slice + 1 == 32
    assert_allclose(sampling.edges_mm[[0, 1, 64, -1]], [-160.0, -157.5, 0.0, 160.0])
    grid = a_centered_grid(n=5)
    assert beams_eye_view(a_beam(ANGLES[0], grid), grid, torch.ones(3, 5, 5, 5)).shape == (3, 64, 128, 128)


@pytest.mark.parametrize("position", PATIENT_POSITIONS)
@pytest.mark.parametrize("angles", ANGLES)
def test_a_dose_linear_in_space_is_linear_at_the_projected_points(angles, position):
    grid = an_oblique_grid(left_handed=position == "HFP")
    beam, slope = a_beam(angles, grid, position), np.array([0.7, -1.1, 0.4])
    dose = (grid.points_lps() - grid.center_lps) @ slope
    view = beams_eye_view(beam, grid, as_volumes(dose.reshape(grid.shape)), sampling=COARSE)[0].numpy()
    index, n = index_seen(beam, grid, COARSE)
    within = np.all((index >= 0) & (index <= n - 1), axis=-1)
    expected = (points_seen(beam, COARSE) - grid.center_lps) @ slope
    assert 500 < within.sum() < within.size
    assert_allclose(view[within], expected[within], atol=2e-3)  # single precision of doses up to 100
    assert_array_equal(view[np.any((index < -1.01) | (index > n + 0.01), axis=-1)], 0)


@pytest.mark.parametrize("position", PATIENT_POSITIONS)
@pytest.mark.parametrize("angles", ANGLES)
def test_a_small_sphere_projects_to_its_pixel_and_slice(angles, position):
    grid = an_oblique_grid()
    beam, at_bld = a_beam(angles, grid, position), np.array([11.0, -7.0, -16.0])
    center = beam.isocenter_lps + beam.rotation @ at_bld
    view = beams_eye_view(beam, grid, as_volumes(a_sphere(grid, center, 8.0)), sampling=FINE)[0]
    u, v, distance = beam.project(center[None])
    middle = (FINE.n_pixels - 1) / 2
    expected = [30 + (distance[0] - 1000) / 1.5, middle + v[0] / 1.5, middle + u[0] / 1.5]
    assert_allclose(centroid(view), expected, atol=0.15)  # 0.2 mm: voxels of 2.5 to 4 mm draw the sphere


@pytest.mark.parametrize("angles", ANGLES)
def test_labels_are_those_of_the_voxel_in_which_the_point_lies(angles):
    grid = an_oblique_grid()
    labels = np.random.default_rng(1).integers(1, 11, grid.shape)
    beam = a_beam(angles, grid)
    view = beams_eye_view(beam, grid, as_volumes(labels), interpolation="nearest", sampling=COARSE)[0].numpy()
    index, n = index_seen(beam, grid, COARSE)
    nearest = np.rint(index).astype(int)
    i, j, k = np.clip(nearest, 0, n - 1).reshape(-1, 3).T
    inside = np.all((nearest >= 0) & (nearest < n), axis=-1)
    clear = np.abs(index - np.floor(index) - 0.5).min(axis=-1) > 1e-3  # single precision may take either neighbor
    expected = np.where(inside, labels[k, j, i].reshape(inside.shape), 0)
    assert_array_equal(view[clear], expected[clear])
    assert inside.any() and not inside.all()


def test_slices_go_away_from_the_source_rows_along_y_and_columns_along_x():
    grid = a_centered_grid(n=41, spacing_mm=2.0)
    beam = a_beam(BeamAngles(0.0, 0.0, 90.0), grid)  # from anterior; +Xb is superior, +Yb the patient's right
    middle = (FINE.n_pixels - 1) / 2
    for towards_lps, axis, sign in (((0, -1, 0), 0, -1), ((-1, 0, 0), 1, 1), ((0, 0, 1), 2, 1)):
        ball = a_sphere(grid, beam.isocenter_lps + 15.0 * np.array(towards_lps), 6.0)
        found = centroid(beams_eye_view(beam, grid, as_volumes(ball), sampling=FINE)[0]) - (30, middle, middle)
        assert_allclose(found, sign * 10.0 * np.eye(3)[axis], atol=0.3)  # 15 mm, magnified by up to 1.5 %


def test_volumes_are_sampled_together_as_alone():
    grid = an_oblique_grid()
    beam, volumes = a_beam(ANGLES[2], grid), torch.rand(3, *grid.shape, generator=torch.Generator().manual_seed(1))
    together = beams_eye_view(beam, grid, volumes, sampling=COARSE)
    assert together.is_contiguous() and together.dtype == torch.float32
    assert torch.equal(together[1], beams_eye_view(beam, grid, volumes[1:2], sampling=COARSE)[0])


def test_a_single_slice_is_the_isocenter_plane():
    grid = an_oblique_grid()
    beam, volumes = a_beam(ANGLES[2], grid), torch.rand(1, *grid.shape, generator=torch.Generator().manual_seed(1))
    one = beams_eye_view(beam, grid, volumes, sampling=replace(COARSE, n_slices=1))
    assert torch.equal(one[0, 0], beams_eye_view(beam, grid, volumes, sampling=COARSE)[0, COARSE.central_slice])


def test_volumes_of_another_grid_are_refused():
    grid = an_oblique_grid()
    with pytest.raises(ValueError, match=r"shape \(1, 26, 32, 43\) do not lie on a grid of shape \(26, 32, 44\)"):
        beams_eye_view(a_beam(ANGLES[0], grid), grid, torch.zeros(1, 26, 32, 43))


@pytest.mark.parametrize("name", ["n_slices", "slice_mm", "n_pixels", "pixel_mm"])
def test_a_sampling_without_size_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        ViewSampling(**{name: 0})


# Fluence ---------------------------------------------------------------------------------------------------------


def some_fluence(beam, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).uniform(0, 40, beam.open_beamlets.shape))


def areas_mm2(x_edges_mm, y_edges_mm):
    return torch.from_numpy(np.outer(np.diff(y_edges_mm), np.diff(x_edges_mm)))


@pytest.mark.parametrize("sampling", [ViewSampling(), ViewSampling(n_pixels=41, pixel_mm=3.1)])
def test_the_integral_of_fluence_stays_on_the_map_and_on_the_way_back(sampling):
    beam = a_beam(ANGLES[0], an_oblique_grid())
    fluence, pixels = some_fluence(beam), areas_mm2(sampling.edges_mm, sampling.edges_mm)
    integral = (fluence * areas_mm2(X_EDGES, Y_EDGES)).sum().item()
    made = fluence_to_map(beam, fluence, sampling=sampling)
    assert_allclose((made * pixels).sum().item(), integral, rtol=1e-12)
    wide = a_beam(ANGLES[0], an_oblique_grid(), x_edges_mm=np.linspace(-60, 60, 35), y_edges_mm=np.linspace(-60, 60, 9))
    back = map_to_fluence(wide, made, sampling=sampling)
    assert_allclose((back * areas_mm2(wide.x_edges_mm, wide.y_edges_mm)).sum().item(), integral, rtol=1e-12)


def test_a_beamlet_fills_its_pixels_by_their_share():
    beam = a_beam(ANGLES[0], an_oblique_grid(), x_edges_mm=[-3.0, 0.0, 6.0, 8.0], y_edges_mm=[-10.0, 0.0, 10.0])
    fluence = torch.tensor([[0.0, 0.0, 0.0], [0.0, 8.0, 0.0]])
    made = fluence_to_map(beam, fluence, sampling=ViewSampling(n_pixels=8, pixel_mm=4.0))
    expected = np.zeros((8, 8))
    expected[4:6, 4:6], expected[6, 4:6] = [8.0, 4.0], [4.0, 2.0]  # +Yb from 0 to 10 mm, +Xb from 0 to 6 mm
    assert made.dtype == torch.float32
    assert_allclose(made, expected, rtol=1e-6)


@pytest.mark.parametrize("leaf_mm", [5.0, 10.0])
def test_beamlets_that_are_made_of_whole_pixels_come_back_as_they_were(leaf_mm):
    edges = {"x_edges_mm": 2.5 * np.arange(-13, 17), "y_edges_mm": leaf_mm * np.arange(-6, 4)}
    mask = np.random.default_rng(3).random((9, 29)) < 0.7
    beam = a_beam(ANGLES[1], an_oblique_grid(), open_beamlets=mask, **edges)
    fluence = some_fluence(beam) * torch.from_numpy(mask)
    batch = torch.stack([fluence, 2 * fluence])
    assert_allclose(map_to_fluence(beam, fluence_to_map(beam, batch)), batch, rtol=1e-12)


def test_closed_beamlets_take_nothing_from_a_map():
    beam = a_beam(ANGLES[0], an_oblique_grid(), open_beamlets=np.eye(5, 8, dtype=bool))
    assert_allclose(map_to_fluence(beam, torch.full((128, 128), 3.0)), 3.0 * np.eye(5, 8), rtol=1e-6)


def test_fluence_is_differentiable_in_the_map():
    beam, values = a_beam(ANGLES[0], an_oblique_grid()), torch.ones(128, 128, dtype=torch.float64, requires_grad=True)
    (map_to_fluence(beam, values) * areas_mm2(X_EDGES, Y_EDGES)).sum().backward()
    field = (X_EDGES[-1] - X_EDGES[0]) * (Y_EDGES[-1] - Y_EDGES[0])
    assert_allclose(values.grad.sum().item(), field, rtol=1e-12)


@pytest.mark.parametrize("edges", ["x_edges_mm", "y_edges_mm"])
def test_a_beam_beyond_the_map_is_refused(edges):
    grid = an_oblique_grid()
    at_the_edge = a_beam(ANGLES[0], grid, **{edges: np.array([-160.0, 0.0, 150.0])})
    beyond = a_beam(ANGLES[0], grid, **{edges: np.array([-162.5, 0.0, 150.0])})
    assert fits_map(at_the_edge) and not fits_map(beyond)
    message = r"Field: its beamlets reach 16[23] mm from the axis, the network's map 160 mm"
    with pytest.raises(InputError, match=message):
        fluence_to_map(beyond, some_fluence(beyond))
    with pytest.raises(InputError, match=message):
        map_to_fluence(beyond, torch.zeros(128, 128))
