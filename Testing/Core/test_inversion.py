"""Inversion of a dose: known fluence comes back, and features say what they are named after."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from Core.fluence_prediction_samples import (
    EXACT,
    MACHINE,
    a_planned_case,
    dose_of,
    known_dose,
    known_fluence,
    some_beams,
    wide_beams,
)
from Core.samples import a_centered_grid, a_phantom, a_sphere
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.beams import BeamAngles, place_beams
from deeprt.errors import InputError
from deeprt.fluence.inversion import (
    FEATURES,
    InversionSettings,
    between_jaws,
    inversion_problem,
    invert,
    mimicked,
    wished_of,
)
from deeprt.geometry import Grid
from deeprt.networks.beams_eye_view import fluence_to_map
from deeprt.structures import Role, Structure


@cache
def an_inversion(n_iterations=20, n_voxels=5000, seed=0):
    settings = InversionSettings(n_voxels=n_voxels, n_iterations=n_iterations, seed=seed)
    return invert(a_planned_case(), some_beams(), MACHINE, known_dose(), settings)


def feature(name, inversion=None):
    """A feature of all beams, (n_beams, n_pixels, n_pixels)."""
    return (inversion or an_inversion()).features[:, FEATURES.index(name)]


def error_of(inversion):
    """Mean absolute error of each map, as a share of the known one's mean."""
    known = inversion.to_maps(known_fluence())
    found = inversion.to_maps(inversion.fluence_mu)
    return ((found - known).abs().sum((1, 2)) / known.sum((1, 2))).numpy()


# Fluence


def test_more_iterations_bring_every_map_back_better():
    exact = (replace(EXACT, n_iterations=n) for n in (2, 6, 20, 80))  # as accurate as the known dose
    found = [error_of(invert(a_planned_case(), some_beams(), MACHINE, known_dose(), e)) for e in exact]
    assert np.all(np.diff(found, axis=0) < 0)
    assert found[0].min() > 0.1
    assert found[-1].max() < 0.01


def test_the_dose_comes_back_with_the_fluence():
    dose = dose_of(an_inversion(80).fluence_mu)
    # Half of the voxels are mimicked, with coarser pixels than those of the dose engine.
    assert_allclose(dose, known_dose(), atol=0.02 * known_dose().max())


def test_fluence_is_never_negative():
    for n in (2, 20):
        assert an_inversion(n).fluence_mu.min() >= 0


def test_going_on_lowers_the_objective():
    inversion = an_inversion(6)
    problem, x = inversion.problem, inversion.fluence_mu
    further = mimicked(problem, x, 5)
    assert problem.value(further, problem.dose(further)) < 0.7 * problem.value(x, problem.dose(x))


def test_the_problem_is_zero_at_the_fluence_that_gave_the_dose():
    inversion = invert(a_planned_case(), some_beams(), MACHINE, known_dose(), replace(EXACT, n_iterations=2))
    value = inversion.problem.value(known_fluence(), inversion.problem.dose(known_fluence()))
    assert float(value[0]) < 1e-9 * float(known_dose().max()) ** 2  # single precision


def test_the_same_seed_inverts_the_same_and_another_one_draws_other_voxels():
    again = invert(a_planned_case(), some_beams(), MACHINE, known_dose(), InversionSettings(5000, n_iterations=20))
    assert torch.equal(again.fluence_mu, an_inversion().fluence_mu)
    assert torch.equal(again.features, an_inversion().features)
    other = an_inversion(seed=1)
    assert not np.array_equal(other.problem.operator.voxels, again.problem.operator.voxels)
    assert_allclose(error_of(other), error_of(again), atol=0.02)  # voxels are many enough


def test_twice_the_dose_is_twice_the_fluence_with_the_same_features():
    two = invert(a_planned_case(), some_beams(), MACHINE, 2 * known_dose(), InversionSettings(5000, n_iterations=20))
    # Rounding in single precision, which twenty iterations amplify.
    assert_allclose(two.scale_mu, 2 * an_inversion(20).scale_mu, rtol=1e-3)
    assert_allclose(two.features, an_inversion(20).features, atol=2e-3)


# Between the jaws


def test_jaws_stand_back_from_the_beam_by_their_margin():
    for beam, wide in zip(some_beams(), wide_beams(), strict=True):
        for edges, own in ((wide.x_edges_mm, beam.x_edges_mm), (wide.y_edges_mm, beam.y_edges_mm)):
            assert_array_equal(edges[1:-1], own)
            assert_allclose([own[0] - edges[0], edges[-1] - own[-1]], MACHINE.jaws.margin_mm)
        assert wide.open_beamlets.all()
        assert (wide.angles, wide.name) == (beam.angles, beam.name)
        assert_array_equal(wide.isocenter_lps, beam.isocenter_lps)


def test_maps_of_fluence_are_that_fluence_again_where_pixels_hold_the_beamlets():
    x = torch.rand(1, known_fluence().shape[1], generator=torch.Generator().manual_seed(1))
    assert_allclose(an_inversion().to_fluence(an_inversion().to_maps(x)), x, rtol=1e-6)


def test_maps_stand_in_the_order_of_the_beams():
    inversion = an_inversion()
    parts = torch.split(known_fluence()[0], [b.n_open for b in inversion.beams])
    for beam, part, found in zip(inversion.beams, parts, inversion.to_maps(known_fluence()), strict=True):
        assert torch.equal(found, fluence_to_map(beam, part.reshape(beam.open_beamlets.shape)))


def test_a_map_is_averaged_over_beamlets_that_its_pixels_do_not_hold():
    machine = replace(MACHINE, jaws=replace(MACHINE.jaws, margin_mm=4.0))
    inversion = replace(an_inversion(), beams=tuple(between_jaws(b, machine) for b in some_beams()))
    even = torch.ones(3, 128, 128)
    n_beamlets = sum(b.n_open for b in inversion.beams)
    assert_allclose(inversion.to_fluence(even), np.ones((1, n_beamlets)), rtol=1e-6)


# Features


def test_there_is_a_map_of_every_feature_of_every_beam():
    assert an_inversion().features.shape == (3, len(FEATURES), 128, 128)
    assert an_inversion().features.dtype == torch.float32
    assert an_inversion().scale_mu.shape == (3,)


def test_jaws_are_one_between_them_and_all_features_are_zero_behind():
    for beam, jaws, features in zip(wide_beams(), feature("jaws"), an_inversion().features, strict=True):
        area_mm2 = (beam.x_edges_mm[-1] - beam.x_edges_mm[0]) * (beam.y_edges_mm[-1] - beam.y_edges_mm[0])
        assert_allclose(float(jaws.sum()) * 2.5**2, area_mm2, rtol=1e-6)
        assert set(jaws.unique().tolist()) == {0.0, 1.0}
        assert not features[:, jaws == 0].any()


def test_the_first_feature_is_the_fluence_over_its_scale():
    inversion = an_inversion()
    maps = feature("fluence") * inversion.scale_mu[:, None, None]
    assert_allclose(inversion.to_fluence(maps), inversion.fluence_mu, atol=1e-4)
    for one in feature("fluence"):
        assert_allclose(one[one > 0].quantile(0.99), 1.0, rtol=1e-5)


def test_the_last_step_is_what_the_second_half_of_the_iterations_changed():
    inversion = an_inversion(20)
    problem, even = inversion.problem, inversion.to_fluence(feature("open", inversion))
    dose = problem.dose(even)
    start = even * float((dose * wished_of(problem)).sum() / (dose**2).sum())  # the best even fluence
    change = inversion.to_maps(inversion.fluence_mu - mimicked(problem, start, 10))
    assert_allclose(feature("last step", inversion) * inversion.scale_mu[:, None, None], change, atol=1e-3)
    assert change.abs().max() > 0.1


def test_shares_and_doses_lie_between_zero_and_one():
    for name in ("reach", "wished dose", "target share", "organ share", "open"):
        values = feature(name)
        assert values.min() == 0 and 0 < values.max() <= 1 + 1e-6, name
    assert (feature("target share") + feature("organ share")).max() <= 1 + 1e-6
    assert_allclose(feature("reach").amax((1, 2)), 1.0, rtol=1e-6)
    assert feature("lack").abs().max() <= 10


def test_open_beamlets_are_those_near_the_targets():
    for beam, wide, seen in zip(some_beams(), wide_beams(), feature("open"), strict=True):
        as_map = fluence_to_map(wide, torch.from_numpy(np.pad(beam.open_beamlets, 1).astype(np.float32)))
        assert_allclose(seen, as_map, atol=1e-6)


def test_nothing_lacks_where_the_dose_is_met():
    assert feature("lack", an_inversion(80)).abs().max() < 0.2  # 2 %
    assert feature("lack", an_inversion(2)).abs().max() > 0.4


def test_the_wished_dose_is_its_mean_over_what_a_beamlet_reaches():
    """An even dose has the mean one everywhere."""
    case = a_planned_case()
    even = np.where(case.external.fraction > 0.5, 30.0, 0.0).astype(np.float32)
    inversion = invert(case, some_beams(), MACHINE, even, InversionSettings(3000, n_iterations=2))
    inside = feature("jaws", inversion) > 0
    assert_allclose(feature("wished dose", inversion)[inside], 1.0, rtol=1e-4)


def test_beamlets_through_a_target_have_the_larger_share_of_it():
    case, target = a_planned_case(), feature("target share")
    for beam, seen, jaws in zip(some_beams(), target, feature("jaws"), strict=True):
        u, v, _ = beam.project(case.grid.points_lps(np.flatnonzero(case.structure("PTV_50").fraction > 0.9)))
        column, row = int(np.round(u.mean() / 2.5 + 63.5)), int(np.round(v.mean() / 2.5 + 63.5))
        assert seen[row, column] > 0.8 * seen.max()
        assert seen[row, column] > 1.5 * seen[jaws > 0].mean()


def test_without_organs_their_share_is_zero():
    case = a_planned_case()
    bare = replace(case, structures=tuple(s for s in case.structures if s.role is not Role.ORGAN_AT_RISK))
    inversion = invert(bare, some_beams(), MACHINE, known_dose(), InversionSettings(1000, n_iterations=2))
    assert not feature("organ share", inversion).any()
    assert feature("target share", inversion).any()


# A patient and its mirror image


def a_lopsided_case(sign):
    """Target, organ and body all off the midline; mirrored with the sign."""
    grid = a_centered_grid(n=25, spacing_mm=5.0, center_lps=(sign * 13.0, -40.0, 7.0))
    center = grid.center_lps
    beside = center + np.array([sign * 17.0, 9.0, 6.0])
    case = a_phantom(grid, np.zeros(grid.shape), target_center_lps=center + np.array([sign * -8.0, 3.0, -5.0]))
    organ = Structure("Organ", Role.ORGAN_AT_RISK, a_sphere(grid, beside, 12.0))
    return replace(case, structures=(*case.structures, organ))


def inverted(case, wished_gy, sign):
    angles = (BeamAngles(sign * 25.0, 0.0, sign * 10.0), BeamAngles(sign * 150.0, sign * 15.0, 0.0))
    beams = place_beams(case, angles, MACHINE, beamlet_width_mm=5.0)
    return invert(case, beams, MACHINE, wished_gy, InversionSettings(100_000, n_iterations=4))


def test_the_mirror_image_of_a_patient_has_mirrored_features():
    case, mirrored = a_lopsided_case(1.0), a_lopsided_case(-1.0)
    assert_allclose(mirrored.targets[0].fraction, case.targets[0].fraction[:, :, ::-1], atol=1e-5)
    points = case.grid.points_lps() - case.isocenter_lps()
    wished = 50 * np.exp(-(points**2) @ (1 / 800, 1 / 500, 1 / 650) + points[:, 0] / 60)
    wished = wished.reshape(case.grid.shape).astype(np.float32)
    one = inverted(case, wished, 1.0)
    other = inverted(mirrored, np.ascontiguousarray(wished[:, :, ::-1]), -1.0)
    assert_allclose(other.features, one.features.flip(-1), atol=5e-3)  # single precision through the iterations
    assert (one.features - one.features.flip(-1)).abs().max() > 0.2


# Refused


def test_a_beam_beyond_the_map_is_refused():
    grid = Grid.axial((9, 9, 41), 10.0, (-200.0, -40.0, -40.0))
    target = Structure("Wide", Role.TARGET, np.zeros(grid.shape, np.float32), 50.0)
    target.fraction[3:6, 3:6, 3:38] = 1
    case = a_phantom(grid, np.zeros(grid.shape))
    case = replace(case, structures=(case.external, target))
    beams = place_beams(case, [BeamAngles(0.0)], MACHINE, beamlet_width_mm=5.0)
    with pytest.raises(InputError, match=r"Beam 1: its beamlets reach 1\d\d mm from the axis, the network's map 160"):
        invert(case, beams, MACHINE, 50 * target.fraction, InversionSettings(1000, n_iterations=2))


def test_the_wished_dose_of_a_problem_is_that_of_its_voxels():
    problem = an_inversion().problem
    assert_allclose(wished_of(problem), known_dose().ravel()[problem.operator.voxels])


def test_smoothness_keeps_neighboring_beamlets_alike():
    noise = np.random.default_rng(1).normal(1, 0.05, known_dose().shape).astype(np.float32)
    wide = wide_beams()
    fluence = []
    for smoothness in (0.0, 3.0, 300.0):
        settings = InversionSettings(5000, smoothness=smoothness)
        problem = inversion_problem(a_planned_case(), wide, MACHINE, known_dose() * noise, settings)
        fluence.append(mimicked(problem, torch.ones(1, problem.operator.n_beamlets), 30)[0])
    first, second = problem.operator.neighbors()
    rough, less, least = (float((x[first] - x[second]).square().mean() / x.mean() ** 2) for x in fluence)
    assert least < less < rough
