"""The shipped network in use: what it predicts, where it says that it has not learned that, and files it refuses."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from Core.network_samples import a_card, a_network, a_network_file
from Core.plan_samples import a_case
from Core.selection_samples import MACHINE, WEIGHTINGS, WEIGHTS, some_settings
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.beams import BeamAngles
from deeprt.errors import InputError
from deeprt.networks.angle_network import AngleConfig, AngleNetwork
from deeprt.networks.checkpoint import save_checkpoint
from deeprt.orientation.candidates import excluded, separations_deg
from deeprt.orientation.column_generation import solve_limited
from deeprt.orientation.network_prediction import KIND, NetworkPredictor, beyond_training, network_predictor
from deeprt.orientation.predictor import FitnessPredictor
from deeprt.orientation.session import BeamSession
from deeprt.orientation.teacher import OrganWeights
from deeprt.orientation.views import candidate_views
from deeprt.structures import Role

FOREIGN = BeamAngles(47.3, 12.0)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A network with random weights and its card."""
    return a_network_file(tmp_path_factory.mktemp("network") / "own.safetensors")


def a_predictor(file, **others):
    return network_predictor(a_case(), MACHINE, some_settings(network=str(file), **others))


# Prediction


def test_a_predictor_has_what_sessions_and_searches_ask_for(file):
    predictor: FitnessPredictor = a_predictor(file)
    assert len(predictor.candidates) == 12
    assert predictor.notes(5) == ()
    assert not predictor.network.training
    for chosen in ((), predictor.candidates[:2], (FOREIGN,)):
        fitness = predictor.fitness(chosen)
        assert fitness.shape == (12,)
        assert fitness.dtype == np.float32
        assert fitness.min() == 0 and fitness.max() == 1


def test_the_prediction_is_the_networks_for_the_views(file):
    predictor = a_predictor(file)
    views = candidate_views(a_case(), MACHINE, some_settings())[0]
    chosen = (predictor.candidates[4], FOREIGN)
    with torch.no_grad():
        expected = predictor.network(torch.from_numpy(views.of(chosen))[None], torch.from_numpy(views.axes))[0]
    assert_array_equal(predictor.fitness(chosen), expected.numpy())


def test_an_untrained_network_predicts_the_coarse_fitness(tmp_path):
    file = a_network_file(tmp_path / "new.safetensors", network=AngleNetwork())
    predictor = a_predictor(file)
    assert_allclose(predictor.fitness(()), predictor.views.of(())[:, 0], atol=1e-6)


def test_the_prediction_repeats_and_does_not_depend_on_what_was_asked_before(file):
    first, second = a_predictor(file), a_predictor(file)
    sets = [(), first.candidates[:1], (first.candidates[5], FOREIGN), first.candidates[3:7]]
    before = [first.fitness(chosen) for chosen in sets]
    for chosen, fitness in list(zip(sets, before, strict=True))[::-1]:
        assert_array_equal(second.fitness(chosen), fitness)


@pytest.mark.parametrize("position", range(3))
def test_a_reweighted_predictor_is_one_made_with_these_weights(file, position):
    predictor, weights = a_predictor(file), WEIGHTINGS[position]
    reweighted, anew = predictor.reweighted(weights), a_predictor(file, weights=weights)
    for chosen in ((), predictor.candidates[:2]):
        assert_array_equal(reweighted.fitness(chosen), anew.fitness(chosen))
    assert reweighted.views.settings == anew.views.settings
    assert reweighted.views.problem.pool is predictor.views.problem.pool
    back = reweighted.reweighted(WEIGHTS)
    assert_array_equal(back.fitness(back.candidates[:2]), predictor.fitness(back.candidates[:2]))


def test_organ_weights_change_the_prediction(file):
    predictor = a_predictor(file)
    other = predictor.reweighted(OrganWeights(organs_at_risk=5.0))
    assert np.abs(predictor.fitness(predictor.candidates[:1]) - other.fitness(other.candidates[:1])).max() > 0.01


def test_candidates_may_lie_on_the_sphere_and_it_says_that_these_are_others(file):
    predictor = a_predictor(file, candidates="noncoplanar:30")
    assert predictor.fitness(()).shape == (len(predictor.candidates),)
    assert predictor.notes(3) == ("The angle network has learned with candidates coplanar:30, not noncoplanar:30.",)


# Exchanges


def objective_of(predictor, beams):
    """The coarse objective of some beams."""
    views = predictor.views
    return solve_limited(views.problem, [tuple(views.position(a) for a in beams)], {})[1][0]


def test_exchanges_lower_the_coarse_objective_whatever_the_network_says(file, tmp_path):
    first, other = a_predictor(file), a_predictor(a_network_file(tmp_path / "b.safetensors", network=a_network(7)))
    poor, everywhere = first.candidates[:4], np.ones(12, bool)
    found = [
        p.exchanged(poor, n_kept=0, n_sweeps=2, selectable=everywhere, min_separation_deg=0.0) for p in (first, other)
    ]
    assert found[0] == found[1] and len(set(found[0])) == 4
    assert objective_of(first, found[0]) < 0.95 * objective_of(first, poor)


def test_a_beam_that_is_no_candidate_stays_if_it_is_kept_and_never_comes_in(file):
    predictor = a_predictor(file)
    stranger = BeamAngles(283.1, 5.0)
    predictor.fitness([stranger])  # so that it is known beside the candidates
    chosen, everywhere = (FOREIGN, *predictor.candidates[:3]), np.ones(12, bool)
    found = predictor.exchanged(chosen, n_kept=1, n_sweeps=3, selectable=everywhere, min_separation_deg=0.0)
    assert found[0] == FOREIGN
    assert set(found[1:]) <= set(predictor.candidates)


def test_a_session_exchanges_what_is_not_locked_within_its_limits(file):
    predictor = a_predictor(file)
    session = BeamSession(predictor, WEIGHTS, excluded_deg=[(80, 130)], min_separation_deg=40.0)
    for angles in (FOREIGN, *predictor.candidates[3:6]):  # by hand: in the sector, and too close
        session.add(angles)
    session.lock(0)
    session.lock(2)
    before = session.state
    after = session.exchange(2)
    assert (after.beams[0], after.beams[2]) == (before.beams[0], before.beams[2])
    assert objective_of(predictor, after.angles) < objective_of(predictor, before.angles)
    new = [a for a in after.angles if a not in before.angles]
    assert new and not excluded(new, [(80, 130)]).any()
    for a in new:
        assert np.sort(separations_deg(after.angles, a))[1] >= 40.0 - 1e-6
    assert session.undo() is before


# Where it has not learned


def notes_of(card=None, case=None, **settings):
    return beyond_training(card or a_card(), case or a_case(), some_settings(**settings))


def with_organs(*organs):
    """The sample case with the tube as each of these organs."""
    case = a_case()
    tubes = tuple(replace(case.structure("Tube"), name=organ.lower(), organ=organ) for organ in organs)
    return replace(case, structures=(*case.structures, *tubes))


def test_within_its_training_there_is_nothing_to_note():
    assert notes_of() == ()


def test_missing_organs_are_noted():
    card = a_card(organs=("Bladder", "Rectum"), site="virtual prostate")
    start = "The angle network has learned from virtual prostate patients; this one has"
    assert notes_of(card) == (f"{start} no Bladder and no Rectum.",)
    assert notes_of(card, with_organs("Rectum")) == (f"{start} no Bladder.",)
    assert notes_of(card, with_organs("Rectum", "Bladder", "Bowel")) == ()


def test_other_candidates_are_noted():
    expected = "The angle network has learned with candidates coplanar:30, not coplanar:10."
    assert notes_of(candidates="coplanar:10") == (expected,)


def test_more_beams_than_learned_are_noted(file):
    predictor = a_predictor(file, candidates="coplanar:10")
    others = ("The angle network has learned with candidates coplanar:30, not coplanar:10.",)
    assert predictor.notes(1) == predictor.notes(5) == others
    assert predictor.notes(9) == (*others, "The angle network has learned from plans of up to 5 beams, not 9.")
    assert NetworkPredictor(predictor.network, predictor.views).notes(9) == ()


@pytest.mark.parametrize("axis", range(3))
def test_targets_larger_than_any_known_one_are_noted(axis):
    known = [200.0, 200.0, 200.0]
    assert notes_of(a_card(extent_mm=tuple(known))) == ()
    known[axis] = 20.0
    (note,) = notes_of(a_card(extent_mm=tuple(known)))
    listed = " x ".join(f"{e:.0f}" for e in known)
    assert note.startswith("The targets extend over ")
    assert note.endswith(f" mm (L, P, S), beyond the largest that the angle network has learned from, {listed} mm.")


def test_the_extent_is_that_of_all_prescribed_targets():
    case, bigger = a_case(), a_card(extent_mm=(45.0, 45.0, 45.0))  # the sphere has a diameter of 36 mm
    assert notes_of(bigger) == ()
    second = replace(case.structure("Tube"), name="PTV_2", role=Role.TARGET, prescription_gy=45.0)
    (note,) = notes_of(bigger, replace(case, structures=(*case.structures, second)))
    assert "beyond the largest" in note
    unprescribed = replace(second, prescription_gy=None)
    assert notes_of(bigger, replace(case, structures=(*case.structures, unprescribed))) == ()


def test_every_reason_is_a_note_of_its_own():
    card = a_card(organs=("Bladder",), extent_mm=(1.0, 1.0, 1.0))
    notes = notes_of(card, candidates="coplanar:10")
    assert len(notes) == 3
    assert all(note.startswith("The ") and note.endswith(".") for note in notes)


# Files


@pytest.mark.parametrize("name", ["own.safetensors", "own.json"])
@pytest.mark.parametrize("damage", [b"", b"no network", "cut"])
def test_a_damaged_file_is_refused_in_one_sentence(file, tmp_path, name, damage):
    for part in (file, file.with_suffix(".json")):
        (tmp_path / part.name).write_bytes(part.read_bytes())
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2] if damage == "cut" else damage)
    with pytest.raises(InputError) as error:
        a_predictor(tmp_path / file.name)
    assert "own." in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.json' cannot be read: No such file or directory"):
        a_predictor(tmp_path / "nowhere.safetensors")


def test_a_network_of_another_kind_is_refused(tmp_path):
    network = AngleNetwork(AngleConfig(n_layers=1))
    card = replace(a_card(asdict(network.config)), network="tea leaves")
    save_checkpoint(tmp_path / "own.safetensors", network, card)
    with pytest.raises(InputError, match=f"holds a network 'tea leaves'; known here are {KIND}"):
        a_predictor(tmp_path / "own.safetensors")


def test_a_card_of_other_sizes_is_refused(file, tmp_path):
    for part in (file, file.with_suffix(".json")):
        (tmp_path / part.name).write_bytes(part.read_bytes())
    card = json.loads((tmp_path / "own.json").read_text(encoding="utf-8"))
    card["config"]["width"] += 1
    (tmp_path / "own.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(InputError, match="states another network or configuration; get the card anew"):
        a_predictor(tmp_path / "own.safetensors")
