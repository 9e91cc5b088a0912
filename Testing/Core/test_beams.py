"""Beams: projection through the source, and the beamlets that see the target."""

import re
from dataclasses import replace

import numpy as np
import pytest
from Core.samples import MACHINE, a_field, a_uniform_phantom, an_oblique_grid, axes_of, some_angles
from numpy.testing import assert_allclose

from deeprt.beams import BeamAngles, place_beams

RADIUS_MM = 17.0


def a_case(*, shift_mm=(9.0, -6.0, 4.0), position="HFS"):
    """A spherical target off the middle of an oblique grid of 2 mm."""
    grid = an_oblique_grid().resampled(2.0)
    center = grid.center_lps + axes_of(grid) @ shift_mm
    case = a_uniform_phantom(grid, target_center_lps=center, target_radius_mm=RADIUS_MM, position=position)
    return case, center


def distance_to_beamlets(beam, u, v):
    """Smallest distance from any of the points to each beamlet's rectangle, (n_rows, n_cols), mm."""
    x, y = beam.x_edges_mm, beam.y_edges_mm
    dx = np.maximum(np.maximum(x[:-1, None] - u, u - x[1:, None]), 0)
    dy = np.maximum(np.maximum(y[:-1, None] - v, v - y[1:, None]), 0)
    return np.array([[np.hypot(dx[c], dy[r]).min() for c in range(x.size - 1)] for r in range(y.size - 1)])


def test_projecting_a_point_of_a_ray_gives_where_the_ray_meets_the_isocenter_plane():
    rng = np.random.default_rng(1)
    for angles in some_angles():
        beam = a_field(angles, (-61.0, 212.0, -845.0), [0, 1], [0, 1], position="FFP")
        u, v = rng.uniform(-150, 150, (2, 40))
        on_plane = beam.isocenter_lps + np.outer(u, beam.rotation[:, 0]) + np.outer(v, beam.rotation[:, 1])
        along = rng.uniform(0.5, 1.5, 40)
        points = beam.source_lps + along[:, None] * (on_plane - beam.source_lps)
        found_u, found_v, distance = beam.project(points)
        assert_allclose(found_u, u, atol=1e-9)
        assert_allclose(found_v, v, atol=1e-9)
        assert_allclose(distance, 1000.0 * along)


def test_the_source_stands_at_its_distance_on_the_far_side_of_the_beam():
    beam = a_field(BeamAngles(90.0), (10.0, 20.0, 30.0), [0, 1], [0, 1])
    assert_allclose(beam.source_lps, (1010.0, 20.0, 30.0))


def test_angles_are_brought_into_one_turn():
    assert BeamAngles(-90.0, 720.0, 365.0) == BeamAngles(270.0, 0.0, 5.0)
    with pytest.raises(ValueError, match="couch_deg must be finite, got nan"):
        BeamAngles(0.0, float("nan"))


def test_beamlets_of_a_sphere_at_the_isocenter_cover_a_disk():
    case, _ = a_case()
    # A sphere's shadow is bounded by the rays tangent to it.
    shadow = 1000.0 * RADIUS_MM / np.sqrt(1000.0**2 - RADIUS_MM**2)
    for margin in (0.0, 5.0):
        for beam in place_beams(
            case, some_angles(), MACHINE, beamlet_width_mm=5.0, beamlet_height_mm=5.0, margin_mm=margin
        ):
            distance = distance_to_beamlets(beam, np.zeros(1), np.zeros(1))  # of the nearest corner from the axis
            # Targets are drawn by the centers of their voxels (2 mm, partly filled ones too) on pixels of 1 mm.
            assert np.all(beam.open_beamlets[distance < shadow + margin - 1.5])
            assert not np.any(beam.open_beamlets[distance > shadow + margin + 3.0])


@pytest.mark.parametrize("position", ["HFS", "FFP"])
def test_beamlets_see_a_target_off_the_axis_in_any_direction(position):
    case, center = a_case(position=position)
    rng = np.random.default_rng(2)
    ball = rng.normal(size=(4000, 3))
    surface = center + RADIUS_MM * ball / np.linalg.norm(ball, axis=1, keepdims=True)
    inside = np.concatenate([surface, center + 0.7 * (surface - center)])
    isocenter = center + np.array([20.0, -35.0, 28.0])
    for beam in place_beams(case, some_angles(), MACHINE, isocenter_lps=isocenter):
        u, v, _ = beam.project(inside)
        assert np.hypot(u.mean(), v.mean()) > 10  # so that a mirrored or unturned field misses part of it
        distance = distance_to_beamlets(beam, u, v)
        assert np.all(beam.open_beamlets[distance < 5.0 - 1.5])
        assert not np.any(beam.open_beamlets[distance > 5.0 + 3.0])
        assert beam.n_open == beam.open_beamlets.sum()


def test_the_field_encloses_target_and_margin():
    case, center = a_case()
    for beam in place_beams(case, some_angles(), MACHINE, isocenter_lps=center + np.array([5.0, 9.0, -14.0])):
        u, v, _ = beam.project(center[None])
        reach = RADIUS_MM + 5.0
        assert beam.x_edges_mm[0] <= u - reach and beam.x_edges_mm[-1] >= u + reach
        assert beam.y_edges_mm[0] <= v - reach and beam.y_edges_mm[-1] >= v + reach


def test_rows_are_leaf_pairs_and_columns_have_the_stated_width():
    case, center = a_case()
    for beam in place_beams(
        case, some_angles(), MACHINE, beamlet_width_mm=2.5, isocenter_lps=center + np.array([0, 0, 90.0])
    ):
        leaves = MACHINE.mlc.leaf_edges_mm
        first = int(np.flatnonzero(leaves == beam.y_edges_mm[0])[0])
        assert_allclose(beam.y_edges_mm, leaves[first : first + beam.y_edges_mm.size])
        assert_allclose(np.diff(beam.x_edges_mm), 2.5)
        assert_allclose(beam.x_edges_mm / 2.5, np.round(beam.x_edges_mm / 2.5))


def test_beams_are_numbered_and_stand_on_the_centroid_of_the_targets():
    case, center = a_case(position="HFP")
    beams = place_beams(case, some_angles(), MACHINE)
    assert [b.name for b in beams] == ["Beam 1", "Beam 2", "Beam 3"]
    assert [b.angles for b in beams] == list(some_angles())
    for beam in beams:
        assert_allclose(beam.isocenter_lps, center, atol=0.05)  # mm, a sphere drawn in 2 mm voxels
        assert beam.position == "HFP"


def test_a_target_larger_than_the_field_is_an_error():
    case, center = a_case()
    message = (
        r"Beam 1: the target needs a field of ±\d+ x ±\d+ mm, but generic_6mv opens to ±200 x ±200 mm; move the iso"
    )
    with pytest.raises(ValueError, match=message):
        place_beams(case, some_angles()[:1], MACHINE, isocenter_lps=center + np.array([0.0, 0.0, 260.0]))


def test_the_smaller_jaw_limits_its_own_direction():
    case, _ = a_case()
    narrow = replace(MACHINE, jaws=replace(MACHINE.jaws, max_x_mm=15.0))
    with pytest.raises(ValueError, match=re.escape("opens to ±15 x ±200 mm")):
        place_beams(case, some_angles()[:1], narrow)


def test_beamlets_that_do_not_fit_their_edges_are_an_error():
    with pytest.raises(ValueError, match=r"'Field': open_beamlets has shape \(2, 3\), the edges give \(3, 2\)"):
        a_field(BeamAngles(0), (0, 0, 0), [0, 1, 2], [0, 1, 2, 3], open_beamlets=np.ones((2, 3), bool))
    with pytest.raises(ValueError, match="'Field': beamlet edges must increase"):
        a_field(BeamAngles(0), (0, 0, 0), [0, 2, 1], [0, 1])
