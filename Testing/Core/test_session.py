from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.beams import BeamAngles
from deeprt.errors import InputError
from deeprt.orientation.candidates import excluded, separations_deg
from deeprt.orientation.session import BeamSession, SessionBeam
from deeprt.orientation.teacher import OrganWeights

CANDIDATES = tuple(BeamAngles(10.0 * k) for k in range(36))
WEIGHTS, OTHER_WEIGHTS = OrganWeights(), OrganWeights(skin=0.3)


@dataclass
class Farthest:
    """Finds a beam the fitter the farther it is from all chosen ones and, by little, the nearer to its favorite."""

    favorite_deg: float = 40.0
    calls: list = field(default_factory=list)
    candidates = CANDIDATES

    def notes(self, n_beams):
        favorite = f"Favors {self.favorite_deg:.0f}°."
        return (favorite, f"{n_beams} beams are many.") if n_beams > 7 else (favorite,)

    def fitness(self, chosen):
        self.calls.append(tuple(chosen))
        if any(a.gantry_deg == 13.0 for a in chosen):
            raise InputError("Unlucky.")
        away = [separations_deg(CANDIDATES, a) for a in chosen]
        near = 180.0 - separations_deg(CANDIDATES, BeamAngles(self.favorite_deg))
        return (np.min([*away, np.full(36, 180.0)], axis=0) * 0.9 + near * 0.1).astype(np.float32) / 180.0

    def exchanged(self, chosen, *, n_kept, n_sweeps, selectable, min_separation_deg, progress=None):
        """Exchanges each free beam in turn for the candidate nearest to the favorite, if that is nearer."""
        beams = list(chosen)
        for _ in range(n_sweeps * (len(chosen) - n_kept)):
            gone = beams.pop(n_kept)
            nearness = 180.0 - separations_deg((*CANDIDATES, gone), BeamAngles(self.favorite_deg))
            open_ = np.append(selectable, True)
            for a in beams:
                open_[:-1] &= separations_deg(CANDIDATES, a) >= min_separation_deg
            beams.append((*CANDIDATES, gone)[np.argmax(np.where(open_, nearness, -1))])
        return tuple(beams)

    def reweighted(self, weights):
        return Farthest(40.0 + 1000.0 * (weights.skin - WEIGHTS.skin), self.calls)


def a_session(**options):
    return BeamSession(Farthest(), WEIGHTS, **options)


def gantry_of(state):
    return [b.angles.gantry_deg for b in state.beams]


def test_a_session_begins_with_the_prediction_for_no_beam():
    state = a_session(n_beams=7, excluded_deg=[(100, 200)], min_separation_deg=12.0).state
    assert state.beams == () and (state.n_beams, state.min_separation_deg) == (7, 12.0)
    assert state.excluded_deg == ((100.0, 200.0),) and state.weights == WEIGHTS
    assert state.fitness.shape == (36,) and state.fitness.dtype == np.float32
    assert_array_equal(state.selectable, ~excluded(CANDIDATES, [(100, 200)]))
    assert CANDIDATES[state.best].gantry_deg == 40.0
    assert state.notes == ("Favors 40°.",)


def test_the_best_candidate_of_the_current_set_is_added():
    session = a_session()
    for expected in (40.0, 220.0):
        best = session.state.best
        state = session.add_best()
        assert state.angles[-1] == CANDIDATES[best] == BeamAngles(expected)
        assert not state.selectable[best] and state.best != best
        assert_array_equal(state.fitness, Farthest().fitness(state.angles))


def test_completing_predicts_anew_after_each_beam_and_is_one_step_to_undo():
    one_by_one, at_once = a_session(), a_session()
    for _ in range(5):
        one_by_one.add_best()
    state = at_once.complete(5)
    assert state.angles == one_by_one.state.angles and state.n_beams == 5
    assert at_once.undo().beams == () and not at_once.can_undo


def test_completing_goes_on_from_the_users_beams():
    session = a_session()
    session.add(BeamAngles(91.0))
    session.add(BeamAngles(91.0, 90.0))
    state = session.complete(3)
    assert state.angles[:2] == (BeamAngles(91.0), BeamAngles(91.0, 90.0))
    assert state.angles[2] == CANDIDATES[np.argmax(Farthest().fitness(state.angles[:2]))]


def test_the_users_hand_overrides_sectors_and_separation_but_never_duplicates():
    session = a_session(excluded_deg=[(80, 100)], min_separation_deg=30.0)
    session.add(BeamAngles(90.0))
    assert gantry_of(session.add(BeamAngles(95.0))) == [90.0, 95.0]
    for twin in (BeamAngles(90.0), BeamAngles(90.0, collimator_deg=45.0), BeamAngles(270.0, 180.0)):
        with pytest.raises(InputError, match=r"Beam 1 comes from gantry .*° and couch .*° already; choose another"):
            session.add(twin)
    with pytest.raises(InputError, match="Beam 1 comes from gantry 90"):
        session.move(1, BeamAngles(90.0))


def test_a_moved_beam_keeps_its_place():
    session = a_session()
    for gantry in (0.0, 100.0, 200.0):
        session.add(BeamAngles(gantry))
    state = session.move(1, BeamAngles(123.4, 5.0, 45.0))
    assert [b.angles for b in state.beams] == [BeamAngles(0.0), BeamAngles(123.4, 5.0, 45.0), BeamAngles(200.0)]
    assert_array_equal(state.fitness, Farthest().fitness(state.angles))
    assert session.move(1, BeamAngles(123.4, 5.0, 90.0)).angles[1].collimator_deg == 90.0  # not its own twin


def test_a_removed_beam_may_be_chosen_again():
    session = a_session()
    best = session.state.best
    session.add_best()
    state = session.remove(0)
    assert state.beams == () and state.best == best and state.selectable[best]


def test_locked_beams_stay():
    session = a_session()
    session.complete(3)
    state = session.lock(1, True)
    assert [b.locked for b in state.beams] == [False, True, False]
    with pytest.raises(InputError, match="Beam 2 is locked; unlock it to move it"):
        session.move(1, BeamAngles(5.0))
    with pytest.raises(InputError, match="Beam 2 is locked; unlock it to remove it"):
        session.remove(1)
    kept = state.beams[1]
    assert session.clear().beams == (kept,)
    session.lock(0, False)
    assert session.remove(0).beams == ()


def test_exchanged_beams_take_the_places_of_others_and_locked_ones_stay():
    session = a_session()
    for gantry in (300.0, 43.0, 100.0, 200.0):
        session.add(BeamAngles(gantry))
    session.lock(2)
    before = session.state
    state = session.exchange()
    assert gantry_of(state) == [40.0, 43.0, 100.0, 30.0]
    assert [b.locked for b in state.beams] == [False, False, True, False]
    assert_array_equal(state.fitness, Farthest().fitness(state.angles))
    assert session.undo() is before, "it is one step"
    assert session.redo() is state


def test_a_beam_that_goes_and_comes_back_for_another_has_never_left_its_place():
    session = a_session()
    for gantry in (30.0, 200.0):
        session.add(BeamAngles(gantry))
    assert gantry_of(session.exchange()) == [30.0, 40.0]  # 40° came for 30°, which then came for 200°


def test_what_comes_in_keeps_to_sectors_and_separation():
    session = a_session(excluded_deg=[(20, 55)], min_separation_deg=40.0)
    for gantry in (30.0, 180.0, 200.0):  # as the user wants it, in the sector and too close
        session.add(BeamAngles(gantry))
    session.lock(0)
    found = gantry_of(session.exchange(2))
    assert found == [30.0, 70.0, 350.0]
    assert gantry_of(session.exchange(2)) == found


@pytest.mark.parametrize(("n_sweeps", "prepare"), [(0, BeamSession.add_best), (1, lambda s: None)])
def test_exchanges_that_change_nothing_are_no_step(n_sweeps, prepare):
    session = a_session()
    session.add(BeamAngles(200.0))
    session.undo()
    prepare(session)
    before = session.state, session.can_undo, session.can_redo
    assert session.exchange(n_sweeps) is before[0]
    assert (session.can_undo, session.can_redo) == before[1:]


def test_notes_follow_the_number_of_beams():
    session = a_session()
    assert session.state.notes == ("Favors 40°.",)
    assert session.complete(8).notes == ("Favors 40°.", "8 beams are many.")
    assert session.add(BeamAngles(1.0)).notes[1] == "9 beams are many.", "though fewer are wished"


def test_excluding_a_sector_binds_the_next_choices_only():
    session = a_session()
    session.add_best()
    state = session.exclude([(350, 50)])
    assert gantry_of(state) == [40.0]
    assert not state.selectable[excluded(CANDIDATES, [(350, 50)])].any()
    state = session.exclude([(200, 240)])
    assert state.excluded_deg == ((200.0, 240.0),) and state.selectable[0]
    assert gantry_of(session.add_best())[1] in (190.0, 250.0)  # the nearest to the opposite that are left


def test_a_minimum_separation_binds_the_next_choices_only():
    session = a_session()
    session.add(BeamAngles(40.0))
    session.add(BeamAngles(45.0))
    state = session.separate(20.0)
    assert gantry_of(state) == [40.0, 45.0]
    away = np.minimum(*(separations_deg(CANDIDATES, a) for a in state.angles))
    assert_array_equal(state.selectable, away >= 20.0 - 1e-6)
    assert state.selectable[2] and not state.selectable[6]  # 20° away is far enough, 60° is 15° away


def test_other_organ_weights_are_predicted_for_and_undone():
    session = a_session()
    first = session.state
    state = session.reweight(OTHER_WEIGHTS)
    assert state.weights == OTHER_WEIGHTS and state.notes == ("Favors 190°.",)
    assert CANDIDATES[state.best].gantry_deg == 190.0
    assert session.undo() is first
    assert session.redo() is state


def test_every_operation_is_undone_and_redone_without_asking_the_predictor():
    predictor = Farthest()
    session = BeamSession(predictor, WEIGHTS)
    states = [session.state]
    for operation in (
        lambda: session.add(BeamAngles(33.0)),
        lambda: session.complete(4),
        lambda: session.lock(2, True),
        lambda: session.exclude([(0, 30)]),
        lambda: session.reweight(OTHER_WEIGHTS),
        lambda: session.separate(10.0),
        lambda: session.move(0, BeamAngles(34.0)),
        lambda: session.remove(1),
        lambda: session.clear(),
    ):
        states.append(operation())
    n_calls = len(predictor.calls)
    for state in states[-2::-1]:
        assert session.undo() is state is session.state
    assert not session.can_undo and session.can_redo
    for state in states[1:]:
        assert session.redo() is state
    assert session.can_undo and not session.can_redo
    assert len(predictor.calls) == n_calls


def test_a_set_is_predicted_once_for_each_weighting_whatever_the_order_of_its_beams():
    predictor = Farthest()
    session = BeamSession(predictor, WEIGHTS)
    session.add(BeamAngles(10.0))
    session.add(BeamAngles(20.0))
    session.reweight(OTHER_WEIGHTS)
    n_calls = len(predictor.calls)
    session.reweight(WEIGHTS)
    session.reweight(OrganWeights(skin=0.3))
    session.lock(0, True)
    session.exclude([(0, 30)])
    session.separate(5.0)
    session.lock(0, False)
    session.reweight(WEIGHTS)
    session.remove(0)
    session.add(BeamAngles(10.0))  # now second
    assert len(predictor.calls) == n_calls + 1  # for 20° alone


def test_a_new_edit_forgets_what_was_undone():
    session = a_session()
    session.add_best()
    session.undo()
    session.add(BeamAngles(77.0))
    assert not session.can_redo
    with pytest.raises(InputError, match="nothing to redo"):
        session.redo()


def test_an_operation_that_changes_nothing_is_no_step():
    session = a_session()
    session.add_best()
    session.undo()
    state = session.state
    for same in (session.clear(), session.exclude([]), session.separate(0.0), session.reweight(OrganWeights())):
        assert same is state
    assert session.can_redo and not session.can_undo


def test_a_failed_operation_changes_nothing():
    session = a_session(excluded_deg=[(30, 350)])  # only 0, 10 and 20 are left
    session.add(BeamAngles(180.0))
    session.lock(0, True)
    session.add_best()
    session.undo()
    before = session.state
    failures = (
        (lambda: session.complete(5), "4 beams are to be chosen, but no more than 3 candidates may be; ask for fewer"),
        (lambda: session.complete(1), "The number of beams is 1 already; remove some"),
        (lambda: session.complete(0), "must be at least 1, got 0"),
        (lambda: session.add(BeamAngles(180.0)), "already"),
        (lambda: session.add(BeamAngles(13.0)), "Unlucky"),
        (lambda: session.move(0, BeamAngles(5.0)), "locked"),
        (lambda: session.remove(1), "There is no beam 2; the set has 1"),
        (lambda: session.move(-1, BeamAngles(5.0)), "There is no beam 0"),
        (lambda: session.lock(3), "There is no beam 4"),
        (lambda: session.exchange(-1), "number of sweeps must not be negative, got -1"),
        (lambda: session.separate(-1.0), "must be from 0° to 180°, got -1°"),
        (lambda: session.separate(float("nan")), "got nan°"),
        (lambda: session.exclude([(10, 20), (0, 360)]), "sector from 0° to 360° must have finite ends less than 360°"),
        (lambda: session.exclude([(float("inf"), 20)]), "finite ends"),
    )
    for operation, message in failures:
        with pytest.raises(InputError, match=message):
            operation()
        assert session.state is before
        assert session.can_redo
    assert session.undo().beams == (SessionBeam(BeamAngles(180.0)),)


def test_there_is_nothing_to_undo_or_to_select_at_the_beginning():
    session = a_session()
    with pytest.raises(InputError, match="nothing to undo"):
        session.undo()
    with pytest.raises(InputError, match="No beam is chosen yet"):
        session.selection()


def test_where_all_is_excluded_there_is_no_best():
    session = a_session()
    session.add(BeamAngles(90.0))
    state = session.exclude([(0, 359)])
    assert state.best is None and not state.selectable.any()
    with pytest.raises(InputError, match="No candidate is left to choose as beam 2"):
        session.add_best()


def test_a_state_cannot_be_written_to_by_its_reader():
    session = a_session()
    with pytest.raises(ValueError, match="read-only"):
        session.state.fitness[0] = 2.0


def test_a_selection_has_the_fitness_before_each_beam():
    session = a_session()
    session.complete(4)
    selection = session.selection()
    assert selection.candidates == CANDIDATES and selection.angles == session.state.angles
    assert (selection.source, selection.n_given, selection.objectives) == ("network", 0, ())
    for n in range(4):
        assert_array_equal(selection.fitness[n], Farthest().fitness(selection.angles[:n]))
        assert selection.chosen[n] == np.argmax(selection.fitness[n])


def test_an_edited_set_is_selected_with_beams_that_are_no_candidates():
    session = a_session()
    session.complete(3)
    session.move(0, BeamAngles(43.0))
    session.move(2, BeamAngles(258.0, 1.0))
    selection = session.selection()
    assert selection.angles == session.state.angles
    assert selection.candidates == (*CANDIDATES, BeamAngles(43.0), BeamAngles(258.0, 1.0))
    assert selection.fitness.shape == (3, 38) and selection.fitness.dtype == np.float32
    assert_array_equal(selection.fitness[1, :36], Farthest().fitness([BeamAngles(43.0)]))
    assert_allclose(selection.fitness[:, 36:], selection.fitness[:, [4, 26]])  # of the candidates nearest to them


# Whole sets


def test_a_session_may_begin_with_beams_which_cannot_be_undone():
    beams = (SessionBeam(BeamAngles(10.0), locked=True), SessionBeam(BeamAngles(47.0)))
    session = a_session(beams=beams)
    assert session.state.beams == beams
    assert_array_equal(session.state.fitness, Farthest().fitness([b.angles for b in beams]))
    assert not session.can_undo


def test_a_session_does_not_begin_with_two_beams_from_one_direction():
    with pytest.raises(InputError, match=r"Beam 1 comes from gantry 10\.0° and couch 0\.0° already"):
        a_session(beams=[SessionBeam(BeamAngles(10.0)), SessionBeam(BeamAngles(10.0, 0.0, 90.0))])


def test_other_beams_take_the_place_of_all_in_one_step():
    session = a_session(beams=[SessionBeam(BeamAngles(10.0), locked=True), SessionBeam(BeamAngles(20.0))])
    taken = session.take([BeamAngles(200.0), BeamAngles(10.0)])
    assert taken.beams == (SessionBeam(BeamAngles(200.0)), SessionBeam(BeamAngles(10.0), locked=True))
    assert gantry_of(session.undo()) == [10.0, 20.0]


def test_a_locked_beam_must_be_among_those_that_are_taken():
    session = a_session(beams=[SessionBeam(BeamAngles(10.0), locked=True)])
    with pytest.raises(InputError, match="Beam 1 is locked and not among the new beams; unlock it first"):
        session.take([BeamAngles(200.0)])
    assert gantry_of(session.state) == [10.0]
