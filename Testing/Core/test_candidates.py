from dataclasses import replace

import numpy as np
import pytest
from Core.selection_samples import MACHINE
from numpy.testing import assert_allclose
from scipy.spatial import cKDTree

from deeprt.beams import BeamAngles
from deeprt.errors import InputError
from deeprt.geometry import bld_to_lps_rotation
from deeprt.orientation.candidates import (
    angles_of,
    candidate_beams,
    collides,
    excluded,
    fittest_by_gantry,
    peaks_of,
    separations_deg,
    sphere,
)

CLEARANCE = MACHINE.clearance
ROUNDING_DEG = 0.05 * np.sqrt(2)  # gantry and couch are rounded to a tenth of a degree each


def directions(angles, position="HFS"):
    """Unit vectors from the isocenter to the sources, LPS, (n, 3)."""
    return np.array([bld_to_lps_rotation(a.gantry_deg, a.couch_deg, position=position)[:, 2] for a in angles])


def angle_deg(a, b):
    """Between rows of unit vectors; accurate for small angles as well."""
    return np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=1) / 2, 0, 1)))


def test_coplanar_candidates_divide_the_circle():
    angles = candidate_beams("coplanar:2", CLEARANCE)
    assert len(angles) == 180
    assert_allclose([a.gantry_deg for a in angles], np.arange(0, 360, 2))
    assert {a.couch_deg for a in angles} == {0.0}


def test_the_sphere_has_as_many_directions_as_in_the_paper():
    assert len(sphere(6.0)) == len(set(sphere(6.0))) == 1162


@pytest.mark.parametrize("step", [6.0, 10.0, 22.5])
def test_neighbors_on_the_sphere_are_about_a_step_apart(step):
    tree = cKDTree(directions(sphere(step)))
    nearest, _ = tree.query(tree.data, k=2)
    spacing = np.degrees(2 * np.arcsin(nearest[:, 1] / 2))
    # Rings are a step apart; on a ring the count is rounded up, which tells most on the smallest ones.
    assert spacing.max() <= step + 2 * ROUNDING_DEG
    assert spacing.min() >= 0.7 * step
    assert np.median(spacing) > 0.95 * step
    anywhere = np.random.default_rng(1).normal(size=(5000, 3))
    gap, _ = tree.query(anywhere / np.linalg.norm(anywhere, axis=1, keepdims=True))
    assert np.degrees(2 * np.arcsin(gap.max() / 2)) <= step / np.sqrt(2) + 2 * ROUNDING_DEG  # the middle of a square


def test_angles_give_the_direction_that_they_were_made_from():
    rng = np.random.default_rng(2)
    latitude = np.radians(np.arange(-90, 91, 6.0))
    ring = np.stack([np.cos(latitude), np.sin(latitude), 0 * latitude], axis=1)
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    fixed = np.concatenate([rng.normal(size=(300, 3)), axes, ring, ring[:, ::-1], -ring])
    fixed /= np.linalg.norm(fixed, axis=1, keepdims=True)
    angles = [angles_of(d) for d in fixed]
    lps = fixed[:, [0, 2, 1]] * (1, -1, 1)  # head first supine: IEC X is left, Y superior, Z anterior
    assert angle_deg(directions(angles), lps).max() <= ROUNDING_DEG
    assert np.abs((np.array([a.couch_deg for a in angles]) + 180) % 360 - 180).max() <= 90


def test_the_sphere_keeps_the_couch_within_a_quarter_turn():
    assert all(a.couch_deg <= 90 or a.couch_deg >= 270 for a in sphere(6.0))


def test_every_coplanar_beam_is_free_of_collision():
    assert not any(collides(a, CLEARANCE) for a in candidate_beams("coplanar:2", CLEARANCE))
    for gantry in (0.0, 90.0, 180.0, 270.0):
        assert not collides(BeamAngles(gantry), CLEARANCE)


@pytest.mark.parametrize(("gantry", "couch"), [(90, 90), (270, 90), (90, 270), (60, 90), (100, 60), (150, 90)])
def test_a_head_that_would_stand_in_the_patient_is_excluded(gantry, couch):
    """With the couch turned, the gantry swings along the patient."""
    angles = BeamAngles(gantry, couch)
    assert collides(angles, CLEARANCE)
    direction = directions([angles])
    left = directions(candidate_beams("noncoplanar:6", CLEARANCE))
    assert angle_deg(left, direction).min() > 3.0


@pytest.mark.parametrize(("gantry", "couch"), [(0, 90), (0, 270), (20, 90), (90, 10), (45, 20), (180, 0)])
def test_usual_noncoplanar_beams_are_free(gantry, couch):
    assert not collides(BeamAngles(gantry, couch), CLEARANCE)


def test_collisions_are_the_same_on_both_sides_of_the_patient():
    for a in sphere(15.0):
        assert collides(a, CLEARANCE) == collides(BeamAngles(-a.gantry_deg, -a.couch_deg), CLEARANCE)


@pytest.mark.parametrize(
    "change", [{"head_distance_mm": 350.0}, {"head_radius_mm": 450.0}, {"above_mm": 300.0}, {"half_width_mm": 350.0}]
)
def test_less_room_leaves_fewer_candidates(change):
    free, fewer = (set(candidate_beams("noncoplanar:10", c)) for c in (CLEARANCE, replace(CLEARANCE, **change)))
    assert fewer < free < set(sphere(10.0))


def test_the_couch_stays_within_its_range():
    narrow = candidate_beams("noncoplanar:10", replace(CLEARANCE, max_couch_deg=30.0))
    assert max(abs((a.couch_deg + 180) % 360 - 180) for a in narrow) <= 30.0
    assert collides(BeamAngles(0.0, 31.0), replace(CLEARANCE, max_couch_deg=30.0))


@pytest.mark.parametrize(
    "kind", ["coplanar", "coplanar:0", "coplanar:7", "coplanar:-2", "sphere:6", "noncoplanar:x", ""]
)
def test_other_kinds_of_candidates_are_refused(kind):
    with pytest.raises(InputError, match=f"Candidates '{kind}' are not understood; write coplanar:2 or noncoplanar:6"):
        candidate_beams(kind, CLEARANCE)


def test_excluded_sectors_run_clockwise_also_across_zero():
    angles = [BeamAngles(g) for g in (340, 350, 355, 0, 10, 11, 80, 90, 100, 102)]
    assert [a.gantry_deg for a, out in zip(angles, excluded(angles, [(350, 10)]), strict=True) if out] == [
        350,
        355,
        0,
        10,
    ]
    both = excluded(angles, [(350.0, 10.0), (80.0, 100.0)])
    assert [a.gantry_deg for a, out in zip(angles, both, strict=True) if not out] == [340, 11, 102]
    assert not excluded(angles, []).any()


def test_separation_is_the_angle_between_central_axes():
    gantry = [0.0, 10.0, 90.0, 180.0, 350.0]
    assert_allclose(
        separations_deg([BeamAngles(g) for g in gantry], BeamAngles(0.0, 40.0)), [0, 10, 90, 180, 10], atol=1e-5
    )
    some = sphere(22.5)
    axes = directions(some, position="FFP")  # whatever way the patient lies
    assert_allclose(separations_deg(some, some[20]), angle_deg(axes, axes[20]), atol=1e-5)


def test_of_several_couch_angles_the_fittest_counts():
    gantry, fittest = fittest_by_gantry([BeamAngles(g, c) for c in (0, 30) for g in (90, 10)], np.array([1, 9, 5, 2]))
    assert_allclose([gantry, fittest], [[10, 90], [9, 5]])


# Peaks of the fitness


def bumps(candidates, centers, heights, width_deg=20.0):
    """Fitness that falls off around some beams with the angle between central axes."""
    apart = np.array([separations_deg(candidates, c) for c in centers])
    return (np.array(heights)[:, None] * np.exp(-((apart / width_deg) ** 2))).max(axis=0)


@pytest.mark.parametrize("kind", ["coplanar:2", "coplanar:30", "noncoplanar:6", "noncoplanar:22.5"])
def test_peaks_are_where_the_fitness_is_highest_around(kind):
    candidates = candidate_beams(kind, CLEARANCE)
    everywhere = np.ones(len(candidates), bool)
    tops = [int(separations_deg(candidates, BeamAngles(g)).argmin()) for g in (0, 90, 240)]  # one across zero
    fitness = bumps(candidates, [candidates[i] for i in tops], (0.5, 0.9, 0.7))
    assert peaks_of(candidates, fitness, everywhere) == (tops[1], tops[2], tops[0])


def test_ripples_nearer_than_fifteen_degrees_are_one_peak():
    candidates = candidate_beams("coplanar:2", CLEARANCE)
    ripple = 0.01 * np.cos(np.arange(180) * np.pi)
    fitness = bumps(candidates, [BeamAngles(100.0)], [0.8]) + ripple
    near = [i for i in peaks_of(candidates, fitness, np.ones(180, bool)) if 60 <= candidates[i].gantry_deg <= 140]
    assert near == [50]


def test_only_candidates_that_may_be_chosen_are_peaks_and_compared():
    candidates = candidate_beams("coplanar:2", CLEARANCE)
    fitness = bumps(candidates, [BeamAngles(100.0), BeamAngles(280.0)], (0.8, 0.4))
    selectable = ~excluded(candidates, [(90.0, 104.0)])
    assert peaks_of(candidates, fitness, selectable)[0] == 53  # 106°, nearer than 88°
    assert 140 in peaks_of(candidates, fitness, selectable)
    assert peaks_of(candidates, fitness, np.zeros(180, bool)) == ()
    assert peaks_of(candidates, fitness, np.arange(180) == 7) == (7,)


def test_of_equally_fit_neighbors_one_is_the_peak():
    candidates = candidate_beams("coplanar:2", CLEARANCE)
    fitness = np.where(np.isin(np.arange(180), (40, 41, 42)), 1.0, 0.0)
    assert peaks_of(candidates, fitness, np.ones(180, bool))[0] == 40
    assert not {41, 42} & set(peaks_of(candidates, fitness, np.ones(180, bool)))
