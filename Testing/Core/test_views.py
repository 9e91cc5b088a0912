"""What the network is given of each candidate: the coarse column generation, and where the chosen beams stand."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from Core.plan_samples import a_case
from Core.selection_samples import MACHINE, WEIGHTINGS, WEIGHTS, some_settings
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.beams import BeamAngles
from deeprt.dose.threads import one_thread as one_thread_at_work
from deeprt.networks.angle_network import AngleConfig
from deeprt.orientation.candidates import axes_of, candidate_beams, separations_deg, sphere
from deeprt.orientation.column_generation import generate_columns, solve_limited
from deeprt.orientation.teacher import selection_problem
from deeprt.orientation.views import COARSE, FEATURES, candidate_views

CANDIDATES = candidate_beams("coplanar:30", MACHINE.clearance)
SETS = ((), (CANDIDATES[3],), (CANDIDATES[0], CANDIDATES[4], CANDIDATES[7]))
FOREIGN = BeamAngles(47.3, 12.0)
SINGLE = 1e-6  # features are given in single precision


def some_views(weightings=(), **others):
    """Views of the sample case whose rays are traced anew."""
    return candidate_views(a_case(), MACHINE, some_settings(**others), weightings=weightings)


@cache
def shared_views():
    """Views that all tests ask, one after the other."""
    return some_views()[0]


def feature(name, chosen, views=None):
    return (views or shared_views()).of(chosen)[:, FEATURES.index(name)]


@cache
def coarse_problem():
    """What column generation solves at the resolution of the views."""
    settings = replace(COARSE, candidates="coplanar:30", weights=WEIGHTS)
    return selection_problem(a_case(), MACHINE, settings)[0]


def reduced_costs(beams):
    """Of every candidate with these beams chosen."""
    multipliers, _ = solve_limited(coarse_problem(), [beams], {})
    return coarse_problem().reduced_costs(multipliers)[0]


# Their form


def test_there_is_a_name_for_every_feature_and_the_network_takes_that_many():
    assert len(set(FEATURES)) == len(FEATURES) == AngleConfig().n_features
    assert FEATURES[0] == "fitness"


@pytest.mark.parametrize("chosen", SETS, ids=len)
def test_every_candidate_has_finite_features(chosen):
    features = shared_views().of(chosen)
    assert features.shape == (12, len(FEATURES))
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert np.abs(features).max() <= 5


def test_axes_point_from_the_isocenter_to_the_sources():
    axes = shared_views().axes
    assert axes.dtype == np.float32
    assert_allclose(axes, axes_of(CANDIDATES), atol=SINGLE)


# What they say


@pytest.mark.parametrize("chosen", SETS, ids=len)
def test_the_fitness_is_that_of_a_coarse_column_generation(chosen):
    given = [CANDIDATES.index(angles) for angles in chosen]
    step = generate_columns(coarse_problem(), len(given) + 1, given=given)[0]
    assert_allclose(feature("fitness", chosen), step.fitness[0], atol=1e-5)  # sums in single and double precision


@pytest.mark.parametrize("chosen", SETS, ids=len)
def test_cost_share_and_drop_are_the_reduced_costs_over_three_others(chosen):
    given = [CANDIDATES.index(angles) for angles in chosen]
    none, some = reduced_costs([]), reduced_costs(given)
    assert_allclose(10 ** feature("cost", chosen) - 1e-4, some / none.max(), atol=1e-5)
    assert_allclose(feature("share", chosen), some / some.max(), atol=1e-5)
    assert_allclose(10 ** feature("drop", chosen) - 1e-4, some / none, atol=1e-5)
    assert_allclose(feature("first cost", chosen), none / none.max(), atol=1e-5)


def test_without_a_beam_all_that_is_open_gains_and_nothing_has_dropped():
    assert_array_equal(feature("open gain", ()), 1.0)
    assert_allclose(feature("loss", ()), -4.0, atol=SINGLE)  # no loss, of which the logarithm is cut at 1e-4
    assert_allclose(feature("drop", ()), np.log10(1 + 1e-4), atol=SINGLE)
    for name in ("chosen", "beside", "opposite", "number"):
        assert_array_equal(feature(name, ()), 0.0)


def test_a_chosen_beam_has_hardly_a_gain_left():
    first = int(np.argmax(feature("fitness", ())))
    assert feature("drop", (CANDIDATES[first],))[first] < -1
    assert feature("loss", (CANDIDATES[first],))[first] > -4


def test_gains_that_are_spread_evenly_are_less_sharp():
    sharpness, share = feature("sharpness", SETS[2]), feature("share", SETS[2])
    assert sharpness.max() == share.max() == 1
    assert np.all((sharpness >= 0) & (sharpness <= 1))


def test_chosen_beams_are_marked_and_known_from_beside_and_from_opposite():
    chosen = SETS[2]
    assert_array_equal(feature("chosen", chosen), np.isin(range(12), (0, 4, 7)))
    assert_array_equal(feature("number", chosen), np.float32(0.3))
    away_deg = np.min([separations_deg(CANDIDATES, angles) for angles in chosen], axis=0)
    opposite_deg = np.min([180 - separations_deg(CANDIDATES, angles) for angles in chosen], axis=0)
    for name, angle in (("beside", away_deg), ("opposite", opposite_deg)):
        assert_allclose(feature(name, chosen), np.exp(-((angle / 8.0) ** 2) / 2), atol=SINGLE)


def test_a_chosen_beam_is_marked_whatever_its_collimator():
    turned = replace(CANDIDATES[4], collimator_deg=30.0)
    assert_array_equal(feature("chosen", (turned, CANDIDATES[7])), np.isin(range(12), (4, 7)))


def test_threads_that_overlap_leave_the_number_of_torchs_threads_as_it_was():
    inside, left, found, before = threading.Event(), threading.Event(), [], torch.get_num_threads()

    def second():
        inside.wait(60)
        with one_thread_at_work():
            left.wait(60)
            found.append(torch.get_num_threads())

    torch.set_num_threads(3)
    other = threading.Thread(target=second)
    other.start()
    with one_thread_at_work(), one_thread_at_work():
        inside.set()
        other.join(0.2)
        assert torch.get_num_threads() == 1
    left.set()
    other.join(60)
    new = ThreadPoolExecutor(1).submit(torch.get_num_threads).result()  # begins with what was set last
    numbers = found, torch.get_num_threads(), new
    torch.set_num_threads(before)
    assert numbers == ([1], 3, 3)


def test_organ_weights_matter_only_once_there_is_dose():
    views = some_views(WEIGHTINGS)
    without = [v.of(()) for v in views]
    assert_array_equal(without[0], without[1])
    some = [v.of(SETS[1])[:, 0] for v in views]
    assert min(np.abs(some[0] - some[1]).max(), np.abs(some[0] - some[2]).max()) > 0.01


# What they do not depend on


def test_the_answer_does_not_depend_on_what_was_asked_before():
    views = some_views()[0]
    asked = [views.of(chosen) for chosen in (*SETS, (FOREIGN,), *SETS)]
    for chosen, before, after in zip(SETS, asked, asked[4:], strict=False):
        assert_array_equal(before, after)
        assert_array_equal(before, some_views()[0].of(chosen))


@pytest.mark.parametrize("chosen", [SETS[2], (CANDIDATES[2], FOREIGN, CANDIDATES[9])], ids=["candidates", "foreign"])
def test_the_order_of_the_chosen_beams_does_not_matter(chosen):
    assert_array_equal(shared_views().of(chosen), shared_views().of(chosen[::-1]))


def test_the_order_in_which_other_beams_became_known_does_not_matter():
    first, second = FOREIGN, BeamAngles(200.0, 5.0)
    views = some_views()[0], some_views()[0]
    views[0].of((first,))
    views[1].of((second,))
    chosen = (CANDIDATES[3], first, second)
    assert_allclose(views[0].of(chosen), views[1].of(chosen), atol=1e-3)  # doses are added in another order


def test_a_beam_that_is_no_candidate_may_be_chosen():
    features = shared_views().of((FOREIGN,))
    assert features.shape == (12, len(FEATURES))
    assert_array_equal(features[:, FEATURES.index("chosen")], 0)
    near = feature("fitness", (BeamAngles(60.4),))
    assert_allclose(near, feature("fitness", (CANDIDATES[2],)), atol=0.05)  # of the beam four tenths of a degree away
    assert len(shared_views().problem.candidates) == 12


@pytest.mark.parametrize("position", range(3))
def test_reweighted_views_are_those_made_anew_with_these_weights(position):
    reweighted = shared_views().reweighted(WEIGHTINGS[position])
    anew = candidate_views(a_case(), MACHINE, some_settings(weights=WEIGHTINGS[position]))[0]
    for chosen in (*SETS, (FOREIGN,)):
        assert_array_equal(reweighted.of(chosen), anew.of(chosen))
    assert reweighted.problem.pool is shared_views().problem.pool, "rays are not traced again"


def test_views_of_several_weightings_are_those_of_each():
    for weights, views in zip(WEIGHTINGS, some_views(WEIGHTINGS), strict=True):
        alone = some_views(weights=weights)[0]
        for chosen in SETS:
            assert_array_equal(views.of(chosen), alone.of(chosen))


def test_how_finely_a_plan_is_optimized_does_not_change_its_views():
    fine = replace(some_settings(), voxel_mm=2.0, beamlet_mm=2.5, image_pixel_mm=1.0, background_share=1.0)
    assert_array_equal(candidate_views(a_case(), MACHINE, fine)[0].of(SETS[1]), shared_views().of(SETS[1]))


def test_candidates_may_lie_on_the_sphere():
    views = some_views(candidates="noncoplanar:15")[0]
    allowed = [a for a in sphere(15.0) if a in views.problem.candidates]
    assert len(allowed) == len(views.problem.candidates) > 24
    features = views.of((allowed[5],))
    assert features.shape == (len(allowed), len(FEATURES))
    assert features[:, FEATURES.index("chosen")].nonzero()[0].tolist() == [5]
