"""Prediction of fluence from dose: by correction of mimicked maps, by the paper's network, refined, or refused."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from Core.fluence_prediction_samples import (
    EXACT,
    MACHINE,
    PAPER,
    SMALL,
    a_card_of,
    a_network_file,
    a_paper_network,
    a_planned_case,
    a_random_network,
    an_influence,
    known_dose,
    known_fluence,
    some_beams,
)
from Core.samples import a_phantom
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose

from deeprt.beams import BeamAngles, place_beams
from deeprt.dose.influence import dose_influence
from deeprt.errors import InputError
from deeprt.fluence.inversion import FEATURES, invert
from deeprt.fluence.predict import KIND, beyond_training, monitor_units, network_of, predict_fluence
from deeprt.geometry import Grid
from deeprt.networks.beams_eye_view import ViewSampling, beams_eye_view, fluence_to_map, map_to_fluence
from deeprt.networks.case_views import case_views
from deeprt.networks.contour_labels import contour_labels
from deeprt.networks.fluence_network import FluenceConfig, FluenceNetwork
from deeprt.structures import Role, Structure


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of an untrained network, of one of random weights, and of the paper's."""
    folder = tmp_path_factory.mktemp("networks")
    networks = {"untrained": FluenceNetwork(SMALL), "random": a_random_network(), "paper": a_paper_network()}
    return {name: a_network_file(folder / f"{name}.safetensors", n) for name, n in networks.items()}


@pytest.fixture
def predicted(files):
    """Predict from the known dose."""

    def predict(name, n_refinements=0, wished_gy=None):
        wished = known_dose() if wished_gy is None else wished_gy
        return predict_fluence(
            a_planned_case(), an_influence(), MACHINE, wished, network=files[name], n_refinements=n_refinements
        )

    return predict


@cache
def an_inversion():
    """As the prediction makes it."""
    return invert(a_planned_case(), some_beams(), MACHINE, known_dose())


@cache
def an_exact_inversion():
    """Whose problem is zero at the known fluence; its own fluence is of no account."""
    return invert(a_planned_case(), some_beams(), MACHINE, known_dose(), replace(EXACT, n_iterations=2))


def own(maps):
    """Maps on the open beamlets of the beams."""
    return [map_to_fluence(b, m).numpy() for b, m in zip(some_beams(), maps, strict=True)]


def assert_maps_close(found, expected, **tolerance):
    for one, other in zip(found, expected, strict=True):
        assert_allclose(one, other, **tolerance)


# The default network


def test_the_untrained_network_returns_the_mimicked_fluence(predicted):
    solution = predicted("untrained")
    assert_maps_close(solution.fluence_mu, own(an_inversion().to_maps(an_inversion().fluence_mu)), atol=1e-4)
    assert solution.source == "fluence network"
    assert solution.fluence_mu[0].dtype == np.float64


def test_the_dose_is_that_of_the_open_beamlets_on_the_whole_body(predicted):
    solution, influence = predicted("random"), an_influence()
    dose = a_planned_case().n_fractions * influence.dose(influence.from_maps(solution.fluence_mu)[None])[0]
    assert_allclose(solution.dose_gy, influence.to_volume(dose), rtol=1e-5)
    assert solution.dose_gy.dtype == np.float32
    for maps, beam in zip(solution.fluence_mu, some_beams(), strict=True):
        assert not maps[~beam.open_beamlets].any()


def test_the_untrained_networks_dose_comes_near_the_wished_one(predicted):
    dose, wished = predicted("untrained").dose_gy, known_dose()
    high = wished > 0.1 * wished.max()
    assert np.abs(dose - wished)[high].mean() < 0.02 * wished.max()


def test_a_network_changes_the_fluence_which_stays_positive(predicted):
    solution, untrained = predicted("random"), predicted("untrained")
    assert max(np.abs(a - b).max() for a, b in zip(solution.fluence_mu, untrained.fluence_mu, strict=True)) > 1.0
    assert min(m.min() for m in solution.fluence_mu) >= 0


def test_negative_fluence_is_cut_off(tmp_path):
    network = a_random_network()
    with torch.no_grad():
        network.last.bias.fill_(-0.7)
    file = a_network_file(tmp_path / "negative.safetensors", network)
    solution = predict_fluence(a_planned_case(), an_influence(), MACHINE, known_dose(), network=file)
    assert min(m.min() for m in solution.fluence_mu) == 0
    opened = np.concatenate([m[b.open_beamlets] for m, b in zip(solution.fluence_mu, some_beams(), strict=True)])
    assert 0 < (opened > 0).sum() < opened.size


def test_the_same_dose_gives_the_same_fluence(predicted):
    for one, other in zip(predicted("random", 2).fluence_mu, predicted("random", 2).fluence_mu, strict=True):
        assert np.array_equal(one, other)


def test_jaws_that_fill_the_map_are_seen_whole(files):
    """A target that makes the field as large as the map."""
    grid = Grid.axial((9, 9, 41), 10.0, (-200.0, -40.0, -40.0))
    case = a_wide_case(grid, slice(6, 35))
    beams = place_beams(case, [BeamAngles(0.0)], MACHINE, beamlet_width_mm=5.0)
    solution = predict_fluence(
        case, dose_influence(case, beams, MACHINE), MACHINE, case.targets[0].fraction * 50, network=files["untrained"]
    )
    assert beams[0].x_edges_mm[-1] >= 150
    assert solution.fluence_mu[0][:, [2, -3]].max(axis=0).min() > 0


def a_wide_case(grid, columns):
    target = Structure("Wide", Role.TARGET, np.zeros(grid.shape, np.float32), 50.0)
    target.fraction[3:6, 3:6, columns] = 1
    case = a_phantom(grid, np.zeros(grid.shape))
    return replace(case, structures=(case.external, target))


# Refinement


def test_refining_lowers_the_objective(predicted):
    objectives = [predicted("random", n).objective for n in (1, 4, 12)]
    assert objectives[1] < 0.7 * objectives[0]
    assert objectives[2] < 0.9 * objectives[1]  # smoothness counts beside it


def test_refining_brings_the_dose_nearer(predicted):
    def error(solution):
        return np.abs(solution.dose_gy - known_dose()).mean()

    for name in ("random", "paper"):
        assert error(predicted(name, 8)) < 0.5 * error(predicted(name))


def test_refined_fluence_is_not_negative_and_says_how_it_came_about(predicted):
    solution = predicted("random", 4)
    assert min(m.min() for m in solution.fluence_mu) >= 0
    assert solution.source == "fluence network, 4 refinements"


# Doses that the beam model cannot give


def a_dose_of_another_system():
    """The known dose, up to 15 % too high and too low from place to place."""
    k, j, i = np.indices(known_dose().shape)
    return (known_dose() * (1 + 0.15 * np.sin(1.3 * i + 0.9 * j + 1.1 * k))).astype(np.float32)


def test_a_dose_of_another_system_is_fitted_by_smooth_maps_without_the_network(predicted):
    solution, other = (
        predicted("random", 0, a_dose_of_another_system()),
        predicted("untrained", 10, a_dose_of_another_system()),
    )
    assert solution.source == "dose inversion, 10 refinements"
    assert "the fluence network has learned" in solution.notes[0]
    for a, b in zip(solution.fluence_mu, other.fluence_mu, strict=True):
        assert_allclose(a, b)  # whatever the network

    def roughness(maps):
        return sum(np.square(np.diff(m)).sum() for m in maps)

    assert roughness(solution.fluence_mu) < roughness(predicted("untrained").fluence_mu)
    assert not any("smooth maps" in note for note in predicted("random").notes)


def test_the_misfit_is_that_of_the_dose_of_the_mimicked_fluence():
    inversion = an_inversion()
    problem = inversion.problem
    dose, wished = problem.dose(inversion.fluence_mu)[0], known_dose().ravel()[problem.operator.voxels]
    expected = np.sqrt(np.mean((dose.numpy() - wished) ** 2)) / wished.max()
    assert_allclose(inversion.misfit, expected, rtol=1e-4)
    assert invert(a_planned_case(), some_beams(), MACHINE, a_dose_of_another_system()).misfit > 5 * inversion.misfit


# Monitor units of the paper's network


def unit_maps():
    """The known maps, each over a number that stands for the monitor units of its beam."""
    maps, mu = an_exact_inversion().to_maps(known_fluence()), np.array([40.0, 170.0, 95.0])
    return maps / torch.from_numpy(mu)[:, None, None].float(), mu


def test_monitor_units_of_beams_are_found_from_the_sum_of_their_doses():
    fmu, mu = unit_maps()
    assert_allclose(monitor_units(an_exact_inversion(), fmu), mu, rtol=1e-3)  # doses in single precision


def test_monitor_units_make_up_for_the_scale_of_a_map():
    fmu, mu = unit_maps()
    scales = torch.tensor([2.0, 0.5, 1.0])
    found = monitor_units(an_exact_inversion(), fmu * scales[:, None, None])
    assert_allclose(found, mu / scales.numpy(), rtol=1e-3)


def test_monitor_units_are_those_of_least_squares():
    """Other monitor units of any beam are further from the dose, whatever the maps."""
    shares, inversion = central_slices(), an_inversion()
    mu = monitor_units(inversion, shares)

    def difference(of_beams):
        x = inversion.to_fluence(shares * torch.from_numpy(of_beams)[:, None, None].float())
        return float(inversion.problem.value(x, inversion.problem.dose(x))[0])

    for beam in np.eye(3):
        for factor in (-0.03, 0.03):
            assert difference(mu * (1 + factor * beam)) > difference(mu)


def test_monitor_units_are_not_negative():
    fmu, mu = unit_maps()
    problem = an_exact_inversion().problem
    alone = an_exact_inversion().to_fluence(torch.stack([mu[0] * fmu[0], 0 * fmu[1], -mu[2] / 2 * fmu[2]]))
    # A dose that would need a beam to take dose away.
    term = replace(problem.terms[0], objective=replace(problem.terms[0].objective, dose_gy=problem.dose(alone)[0]))
    found = monitor_units(replace(an_exact_inversion(), problem=replace(problem, terms=(term,))), fmu)
    assert found.min() == 0
    assert 0 < found[0] < mu[0]


def test_a_beam_without_fluence_gets_no_monitor_units():
    without = unit_maps()[0] * torch.tensor([1.0, 0.0, 1.0])[:, None, None]
    assert monitor_units(an_exact_inversion(), without)[1] == 0


# The paper's network


def central_slices():
    """Dose per fraction on the isocenter plane of each beam, on the map's pixels."""
    case = a_planned_case()
    dose = torch.from_numpy(known_dose() / case.n_fractions)[None]
    return torch.stack([beams_eye_view(b, case.grid, dose, sampling=PAPER.sampling)[0, 1] for b in some_beams()])


def test_the_papers_network_predicts_shares_of_monitor_units_that_meet_the_dose(predicted):
    """Untrained, its maps are the scaled central slices of the dose."""
    solution, shares = predicted("paper"), PAPER.dose_scale * central_slices()
    mu = monitor_units(an_inversion(), shares)
    assert mu.min() > 0
    expected = own(shares * torch.from_numpy(mu)[:, None, None].float())
    assert_maps_close(solution.fluence_mu, expected, rtol=2e-3, atol=1e-3)  # weights in half precision
    assert solution.source == "dual-frame U-Net"


def test_views_are_labels_of_the_nearest_voxel_and_dose_per_fraction():
    case, beam = a_planned_case(), some_beams()[1]
    views = case_views(PAPER, case, known_dose()).of(beam)
    labels, dose = contour_labels(case).astype(np.float32), known_dose() / case.n_fractions
    assert views.shape == (PAPER.n_channels, 128, 128)
    seen = beams_eye_view(
        beam, case.grid, torch.from_numpy(labels)[None], interpolation="nearest", sampling=PAPER.sampling
    )
    assert torch.equal(views[:3], seen[0])
    seen = beams_eye_view(beam, case.grid, torch.from_numpy(dose)[None], sampling=PAPER.sampling)
    assert_allclose(views[3:], seen[0], atol=1e-6)


def test_the_dose_only_variant_sees_no_contours_and_the_reversed_one_other_labels():
    case, beam = a_planned_case(), some_beams()[1]
    usual = case_views(PAPER, case, known_dose()).of(beam)
    dose_only = case_views(replace(PAPER, n_contour_volumes=0), case, known_dose()).of(beam)
    reverse = case_views(replace(PAPER, reverse_labels=True), case, known_dose()).of(beam)
    assert torch.equal(dose_only, usual[3:])
    assert torch.equal(reverse[3:], usual[3:])
    assert torch.equal(reverse[:3], torch.where(usual[:3] > 0, 11 - usual[:3], 0))


def test_the_dose_only_variant_predicts(tmp_path):
    network = a_paper_network(replace(PAPER, n_contour_volumes=0))
    file = a_network_file(tmp_path / "dose-only.safetensors", network)
    solution = predict_fluence(a_planned_case(), an_influence(), MACHINE, known_dose(), network=file)
    assert all(m.max() > 0 for m in solution.fluence_mu)


# Where the networks have not learned


def notes_of(case=None, **about):
    """Of a network whose card says that it has seen the sample's beams and targets, but for this."""
    known = {"n_beams_min": 3, "energy_mv": 6.0, "extent_mm": (200.0, 200.0, 200.0)}
    card = replace(a_card_of(KIND, FluenceNetwork(SMALL)), **known | about)
    return beyond_training(card, case or a_planned_case(), some_beams(), MACHINE)


def test_within_its_training_there_is_nothing_to_note():
    assert notes_of() == ()


def test_names_of_organs_count_only_where_none_was_learned():
    tube = a_planned_case().structure("Tube")
    case = replace(a_planned_case(), structures=(*a_planned_case().structures, replace(tube, name="R", organ="Rectum")))
    assert notes_of(case, organs=("Bladder", "Rectum")) == ()
    (note,) = notes_of(organs=("Bladder", "Rectum"), site="pelvis")
    assert note == "The fluence network has learned from pelvis patients; this one has none of their organs."


def test_targets_and_beams_that_were_not_learned_are_noted():
    number, plane = notes_of(n_beams_min=5, candidates="coplanar")
    assert number == "The fluence network has learned from plans of 5 beams, not 3."
    assert plane == "The fluence network has learned from coplanar beams only."
    (larger,) = notes_of(extent_mm=(10.0, 200.0, 200.0))
    assert "beyond the largest that the fluence network has learned from, 10 x 200 x 200 mm." in larger


def test_the_shipped_network_says_what_it_has_learned():
    card = network_of(None)[0]
    assert (card.n_beams_min, card.n_beams_max, card.energy_mv, card.candidates) == (5, 9, 15.0, "coplanar")


# Progress


class Recorded:
    """Progress that is kept."""

    def __init__(self):
        self.steps = []

    def step(self, name, fraction, message=""):
        self.steps.append((name, fraction, message))


def test_progress_goes_from_the_inversion_to_the_end(files):
    progress = Recorded()
    predict_fluence(
        a_planned_case(), an_influence(), MACHINE, known_dose(), network=files["untrained"], n_refinements=1,
        progress=progress,
    )  # fmt: skip
    assert {name for name, _, _ in progress.steps} == {"fluence"}
    fractions = [fraction for _, fraction, _ in progress.steps]
    assert fractions == sorted(fractions) and (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert [m for _, _, m in progress.steps if m] == ["dose inversion", "prediction", "1 refinements"]


# Refused


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (0.0, r"The wished dose is zero inside '.*'; give the dose of a plan of this case\."),
        (np.nan, r"The wished dose is not finite everywhere; give the dose of a plan\."),
    ],
)
def test_a_dose_that_is_none_is_refused(predicted, factor, message):
    with pytest.raises(InputError, match=message):
        predicted("untrained", wished_gy=known_dose() * np.float32(factor))


def test_a_dose_that_misses_the_target_is_refused(predicted):
    missing = np.where(a_planned_case().targets[0].fraction > 0, np.float32(0), known_dose())
    with pytest.raises(InputError, match="The wished dose does not reach 'PTV"):
        predicted("untrained", wished_gy=missing)


def test_a_beam_beyond_the_map_is_refused(files):
    case = a_wide_case(Grid.axial((9, 9, 41), 10.0, (-200.0, -40.0, -40.0)), slice(3, 38))
    beams = place_beams(case, [BeamAngles(0.0)], MACHINE, beamlet_width_mm=5.0)
    influence = dose_influence(case, beams, MACHINE)
    with pytest.raises(InputError, match=r"Beam 1: its beamlets reach 1\d\d mm .* 160 mm; turn the collimator"):
        predict_fluence(case, influence, MACHINE, case.targets[0].fraction * 50, network=files["untrained"])


def test_a_network_of_other_features_is_refused(tmp_path):
    network = FluenceNetwork(FluenceConfig(n_features=len(FEATURES) - 1, widths=(4,)))
    file = a_network_file(tmp_path / "old.safetensors", network)
    with pytest.raises(InputError, match=r"old\.safetensors' takes 8 features of a map, this version makes 9; train"):
        network_of(file)


def test_a_damaged_file_is_refused(tmp_path, files):
    file = tmp_path / "damaged.safetensors"
    file.write_bytes(files["untrained"].read_bytes()[:-1])
    file.with_suffix(".json").write_text(files["untrained"].with_suffix(".json").read_text(encoding="utf-8"))
    with pytest.raises(InputError, match=r"damaged\.safetensors' are damaged"):
        network_of(file)
    with pytest.raises(InputError, match=r"model card '.*missing\.json' cannot be read: No such file"):
        network_of(tmp_path / "missing.safetensors")


def test_a_network_for_something_else_is_refused(tmp_path):
    from Core.network_samples import a_network_file as an_angle_network_file

    file = an_angle_network_file(tmp_path / "angles.safetensors")
    with pytest.raises(InputError, match=r"holds a network '.*'; known here are fluence network, dual-frame U-Net\."):
        network_of(file)


def test_maps_of_the_sampling_of_views_hold_the_fluence():
    """What makes monitor units of the paper's maps exact: pixels divide the beamlets."""
    for beam, part in zip(some_beams(), own(an_inversion().to_maps(known_fluence())), strict=True):
        again = map_to_fluence(beam, fluence_to_map(beam, torch.from_numpy(part), sampling=ViewSampling()))
        assert_allclose(again, part, rtol=1e-6)
