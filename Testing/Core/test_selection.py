from itertools import combinations

import numpy as np
import platformdirs
import pytest
from Core.network_samples import a_network, a_network_file
from Core.plan_samples import a_case
from Core.selection_samples import MACHINE, CancelAt, a_selection_problem, some_settings
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.beams import BeamAngles
from deeprt.errors import InputError
from deeprt.orientation import network_prediction, selection
from deeprt.orientation.candidates import separations_deg
from deeprt.orientation.column_generation import generate_columns, solve_limited
from deeprt.orientation.network_prediction import network_predictor
from deeprt.orientation.selection import equispaced_angles, improve_beams, select_beams

FOREIGN = BeamAngles(47.3, 12.0)
METHODS = ("column-generation", "network")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A network with random weights and its card."""
    return a_network_file(tmp_path_factory.mktemp("network") / "own.safetensors")


@pytest.fixture
def selected(file):
    """Choose beams of the sample case; arguments that are no options of `select_beams` are settings."""

    def select(method, n_beams, *, given=(), first_gantry_deg=0.0, seed=0, progress=None, **settings):
        own = some_settings(**{"network": str(file), "cache": False, **settings})
        options = {"given": given, "first_gantry_deg": first_gantry_deg, "seed": seed, "progress": progress}
        return select_beams(a_case(), MACHINE, method, n_beams, own, **options)

    return select


def same(first, second):
    assert first.chosen == second.chosen
    assert_array_equal(first.fitness, second.fitness)


# Equispaced


@pytest.mark.parametrize("n_beams", [1, 2, 5, 7, 9])
def test_equispaced_beams_divide_the_circle(n_beams):
    gantry = [a.gantry_deg for a in equispaced_angles(n_beams, first_gantry_deg=200.0)]
    assert gantry[0] == 200.0
    assert len(set(gantry)) == n_beams
    steps = np.diff([*gantry, gantry[0]]) % 360.0
    assert_allclose(steps[steps > 0], 360.0 / n_beams, atol=0.1)  # angles are rounded to a tenth of a degree


def test_an_equispaced_selection_chooses_all_its_candidates_without_fitness(selected):
    selection = selected("equispaced", 4, first_gantry_deg=10.0)
    assert selection.angles == equispaced_angles(4, first_gantry_deg=10.0)
    assert {(a.couch_deg, a.collimator_deg) for a in selection.angles} == {(0.0, 0.0)}
    assert (selection.source, selection.n_steps, selection.n_given) == ("equispaced", 0, 0)


def test_no_beam_is_refused():
    with pytest.raises(InputError, match="number of beams must be at least 1, got 0"):
        equispaced_angles(0)


def test_equispaced_beams_cannot_go_on_from_given_ones(selected):
    with pytest.raises(InputError, match="Equispaced beams cannot go on from given ones"):
        selected("equispaced", 5, given=(BeamAngles(10.0),))


@pytest.mark.parametrize("method", METHODS)
def test_more_given_beams_than_wanted_are_refused(selected, method):
    with pytest.raises(InputError, match="2 beams are given, but only 1 are wanted in all"):
        selected(method, 1, given=(BeamAngles(10.0), BeamAngles(90.0)))


# Column generation


def test_column_generation_chooses_beams(selected):
    expected = generate_columns(a_selection_problem(), 3)[0]
    same(selected("column-generation", 3), expected)


# Network


def test_the_network_chooses_the_fittest_beam_one_after_the_other(selected, file):
    selection = selected("network", 4, sweeps=0)
    predictor = network_predictor(a_case(), MACHINE, some_settings(network=str(file)))
    assert selection.source == "network" and selection.candidates == predictor.candidates
    assert (selection.n_given, selection.n_steps, selection.objectives) == (0, 4, ())
    assert len(set(selection.chosen)) == 4
    for n, beam in enumerate(selection.chosen):
        fitness = predictor.fitness(selection.angles[:n])
        assert_array_equal(selection.fitness[n], fitness)
        assert beam == np.argmax(np.where(np.isin(range(12), selection.chosen[:n]), -1, fitness))
    assert set(selection.timing_s) == {"set-up", "prediction", "exchange"}
    assert min(selection.timing_s.values()) > 0


def coarse_objective_of(file, beams):
    """Minimum of the problem that exchanges are judged by."""
    views = network_predictor(a_case(), MACHINE, some_settings(network=str(file))).views
    return solve_limited(views.problem, [tuple(views.position(a) for a in beams)], {})[1][0]


def test_a_sweep_exchanges_the_networks_beams_where_that_lowers_the_coarse_objective(selected, file):
    own, shipped = selected("network", 4, sweeps=0), selected("network", 4)
    assert set(shipped.chosen) != set(own.chosen), "random weights choose badly"
    assert coarse_objective_of(file, shipped.angles) < coarse_objective_of(file, own.angles)
    twice = selected("network", 4, sweeps=2)
    assert coarse_objective_of(file, twice.angles) <= coarse_objective_of(file, shipped.angles) * (1 + 1e-3)
    given = own.angles[:2]
    assert selected("network", 4, given=given).angles[:2] == given


@pytest.mark.parametrize("method", METHODS)
def test_given_beams_come_first_and_are_not_chosen(selected, method):
    given = (FOREIGN, BeamAngles(120.0))
    selection = selected(method, 4, given=given)
    assert selection.angles[:2] == given
    assert (selection.n_given, selection.n_steps) == (2, 2)
    assert len(set(selection.angles)) == 4
    assert selection.fitness.shape == (2, 13)
    assert selection.candidates[12] == FOREIGN


@pytest.mark.parametrize("method", METHODS)
def test_as_many_given_beams_as_wanted_leave_nothing_to_choose(selected, method):
    selection = selected(method, 2, given=(BeamAngles(0.0), BeamAngles(90.0)))
    assert (selection.n_given, selection.n_steps, selection.chosen) == (2, 0, (0, 3))


def test_the_network_goes_on_from_given_beams_as_from_its_own(selected):
    whole = selected("network", 4, sweeps=0)
    on = selected("network", 4, given=whole.angles[:2], sweeps=0)
    assert on.chosen == whole.chosen
    assert_array_equal(on.fitness, whole.fitness[2:])


@pytest.mark.parametrize("method", METHODS)
def test_excluded_sectors_and_the_separation_bind_what_is_chosen(selected, method):
    given = (BeamAngles(100.0),)  # in the sector, as the user wants it
    limits = {"exclude_deg": ((80.0, 200.0),), "min_separation_deg": 45.0}
    selection = selected(method, 4, given=given, **limits)
    assert selection.angles[:1] == given
    assert not [a for a in selection.angles[1:] if 80 <= a.gantry_deg <= 200]
    for a, b in combinations(selection.angles, 2):
        assert separations_deg([a], b)[0] >= 45 - 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_more_beams_than_candidates_are_refused_before_anything_is_computed(selected, method, monkeypatch):
    monkeypatch.setattr(selection, "selection_problem", lambda *_, **__: pytest.fail("computed"))
    monkeypatch.setattr(selection, "network_predictor", lambda *_, **__: pytest.fail("computed"))
    with pytest.raises(InputError, match="13 beams are to be chosen, but no more than 12 candidates may be; ask for"):
        selected(method, 13)
    given = (BeamAngles(60.0, 0.0, 10.0), FOREIGN)  # the first one comes from a candidate's direction
    with pytest.raises(InputError, match="9 beams are to be chosen, but no more than 8 candidates may be"):
        selected(method, 11, given=given, exclude_deg=((80.0, 150.0),))


def test_a_network_that_finds_no_further_candidate_says_what_to_do(selected):
    with pytest.raises(InputError, match=r"No candidate is left to choose as beam 3; exclude less, lower the minimum"):
        selected("network", 4, min_separation_deg=130.0)


def test_a_selection_by_the_network_repeats(selected):
    same(selected("network", 4, seed=3), selected("network", 4, seed=3))


def test_what_the_network_has_not_learned_is_noted(selected):
    assert selected("network", 5).notes == ()
    assert selected("network", 6).notes == ("The angle network has learned from plans of up to 5 beams, not 6.",)
    improved = selected("network", 6, improve_s=1e-3)
    assert improved.notes == ("The angle network has learned from plans of up to 5 beams, not 6.",)


def test_progress_may_cancel_a_network(selected):
    with pytest.raises(InterruptedError, match="beams"):
        selected("network", 4, progress=CancelAt(2))


def test_a_network_is_read_once_for_a_selection(selected, file, cache, monkeypatch):
    read = []
    load = network_prediction.load_network
    monkeypatch.setattr(network_prediction, "load_network", lambda *which: read.append(which[0]) or load(*which))
    selected("network", 2, improve_s=1e-3, cache=True)
    assert read == [file]


def test_a_damaged_network_is_refused(selected, tmp_path):
    broken = a_network_file(tmp_path / "own.safetensors")
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged"):
        selected("network", 3, network=str(broken))


# A set of the user's, improved


def test_a_search_improves_a_poor_set_and_keeps_its_first_beams():
    poor = [BeamAngles(300.0), BeamAngles(0.0), FOREIGN]
    improved = improve_beams(a_case(), MACHINE, poor, some_settings(improve_s=30.0), n_kept=1)
    assert improved.angles[0] == poor[0]
    assert len(set(improved.angles)) == 3
    assert improved.source == "user, exchange search"
    problem = selection.selection_problem(a_case(), MACHINE, some_settings(), given=poor)[0]
    before, after = (
        solve_limited(problem, [[problem.candidates.index(a) for a in angles]], {})[1][0]
        for angles in (poor, improved.angles)
    )
    assert after < before
    assert_allclose(improved.objectives[-1], after, rtol=1e-4)  # the solver's accuracy


def test_a_set_of_which_all_beams_are_kept_stays():
    kept = [BeamAngles(300.0), BeamAngles(0.0)]
    same_set = improve_beams(a_case(), MACHINE, kept, some_settings(improve_s=5.0), n_kept=2)
    assert same_set.angles == tuple(kept)
    assert (same_set.n_steps, same_set.source) == (0, "user")


# Network, improved


def objective_of(beams):
    """Minimum of P(B)."""
    return solve_limited(a_selection_problem(), [beams], {})[1][0]


def test_with_time_to_improve_the_exact_objective_decides(selected):
    quick, improved = selected("network", 3), selected("network", 3, improve_s=60.0)
    assert len(set(improved.chosen)) == 3
    assert improved.objectives[-1] <= objective_of(quick.chosen) * (1 + 1e-4)  # the solver's accuracy
    assert improved.source.startswith(("network, guided search", "column generation"))
    if "without" not in improved.source:  # on a slow machine there may be no time for column generation
        greedy = generate_columns(a_selection_problem(), 3)[0]
        assert improved.objectives[-1] <= greedy.objectives[-1] * (1 + 1e-4)
    assert len(improved.objectives) == improved.n_steps + 1 == 4


def test_an_improved_selection_keeps_to_what_is_asked(selected):
    given = (FOREIGN,)
    limits = {"exclude_deg": ((80.0, 200.0),), "min_separation_deg": 45.0}
    selection = selected("network", 4, given=given, improve_s=1.0, **limits)
    assert selection.angles[:1] == given
    assert (selection.n_given, selection.n_steps) == (1, 3)
    assert not [a for a in selection.angles if 80 <= a.gantry_deg <= 200]
    for a, b in combinations(selection.angles, 2):
        assert separations_deg([a], b)[0] >= 45 - 1e-6


# Cache


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache, empty."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    return tmp_path / "deeprt"


def test_a_selection_made_before_comes_from_the_cache_and_says_so(selected, cache):
    made, found = (selected("column-generation", 3, cache=True) for _ in range(2))
    same(made, found)
    assert (made.source, found.source) == ("column generation", "column generation, from the cache")
    assert made.timing_s and not found.timing_s
    assert len(list(cache.iterdir())) == 1


def test_a_network_that_is_not_improved_is_as_quick_as_the_cache(selected, cache):
    selected("network", 3, cache=True)
    assert not cache.exists()


def test_without_a_cache_nothing_is_kept(selected, cache):
    selected("column-generation", 3)
    assert not cache.exists()


def test_another_network_in_the_same_file_is_asked_anew(selected, cache, tmp_path):
    own = tmp_path / "own.safetensors"
    for seed in (1, 2):
        a_network_file(own, network=a_network(seed), organs=("Rectum",))
        selection = selected("network", 2, network=str(own), cache=True, improve_s=1e-3)
        assert "from the cache" not in selection.source
    found = selected("network", 2, network=str(own), cache=True, improve_s=1e-3)
    same(found, selection)
    assert "from the cache" in found.source
    assert found.notes == selection.notes != ()
