from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.stats import binomtest, chisquare, kstest

from deeprt.case import PatientCase, with_tuning_structures
from deeprt.cohort.labels import weight_names, weights_from, weights_row
from deeprt.cohort.scenarios import ScenarioSettings, draw_scenarios, draw_weights
from deeprt.geometry import Grid
from deeprt.structures import Role, Structure

N_DRAWS, N_CANDIDATES = 4000, 180
PAPER = ScenarioSettings()
ORGANS = {"Blase": "Bladder", "Rectum": "Rectum", "Femur_Head_L": "Femur_Head_L", "Femur_Head_R": "Femur_Head_R"}
UNLIKELY = 1e-3  # probability by which a right scheme would fail a test, were the seed not fixed


def a_case():
    """The paper's contours; one organ is known by its role and TG-263 name only."""
    grid = Grid.axial((2, 2, 2), 3.0, (0.0, 0.0, 0.0))
    all_of_it = np.ones(grid.shape, np.float32)
    structures = (
        Structure("BODY", Role.EXTERNAL, all_of_it),
        Structure("PTV", Role.TARGET, all_of_it, 60.0),
        Structure("Prostate", Role.OTHER, all_of_it, organ="Prostate"),
        *(Structure(name, Role.ORGAN_AT_RISK, all_of_it, organ=organ) for name, organ in ORGANS.items()),
    )
    return PatientCase("a case", "HFS", grid, np.zeros(grid.shape, np.float32), structures, 20)


@cache
def drawn():
    """Weights by name, (n_draws,) each."""
    rng, case = np.random.default_rng(11), a_case()
    weights = [draw_weights(rng, case) for _ in range(N_DRAWS)]
    by_role = {role: np.array([getattr(w, role) for w in weights]) for role in ("ring", "skin", "external")}
    return by_role | {name: np.array([w.structures[name] for w in weights]) for name in ORGANS}


def happens_with(probability, events):
    return binomtest(int(np.sum(events)), events.size, probability).pvalue > UNLIKELY


def of_the_third_part():
    """Draws that only the third part gives."""
    w = drawn()
    return np.maximum.reduce([w["skin"], w["Blase"], w["Rectum"]]) > 0.1


# Organ weights


def test_only_organs_at_risk_ring_skin_and_body_have_weights():
    weights = draw_weights(np.random.default_rng(0), a_case())
    assert set(weights.structures) == set(ORGANS)


def test_organs_named_as_tuning_structures_have_no_weight_of_their_own():
    case = a_case()
    skin, more = (Structure(n, Role.ORGAN_AT_RISK, case.structures[0].fraction, organ="Skin") for n in ("Skin", "skin"))
    named = replace(case, structures=(*case.structures[:4], skin, *case.structures[4:], more))
    weights, usual = (draw_weights(np.random.default_rng(3), c) for c in (named, case))
    assert list(weights.structures) == [*ORGANS, "skin"]
    assert replace(weights, structures=usual.structures) == usual
    row = weights_row(weight_names(named), weights)
    again = weights_from(weight_names(named), row)
    assert (
        again.skin
        == pytest.approx(weights.skin)
        != again.structures["skin"]
        == pytest.approx(weights.structures["skin"])
    )
    assert [again.of(s) for s in with_tuning_structures(named).structures if s.name == "Skin"] == [again.skin]


def test_weights_fill_their_ranges_and_stay_inside():
    highest = {"ring": 0.1, "skin": 0.3, "external": 0.04, "Blase": 0.2, "Rectum": 0.2}
    for name, values in drawn().items():
        high = highest.get(name, 0.1)
        assert values.min() >= 0
        assert 0.97 * high < values.max() <= high, name


def test_two_fifths_of_the_weightings_have_ranges_of_their_own():
    # Of those, a third of the skin's weights and half of the bladder's and of the rectum's are at most 0.1.
    assert happens_with(0.4 * (1 - 1 / 3 * 1 / 2 * 1 / 2), of_the_third_part())


def test_a_tenth_of_the_weightings_are_small():
    w = drawn()
    small = np.maximum.reduce([w[name] for name in ("ring", "skin", *ORGANS)]) <= 0.05
    by_chance = 0.5 * (1 / 2) ** 6 + 0.4 * (1 / 6) * (1 / 4) ** 2 * (1 / 2) ** 3
    assert happens_with(0.1 + by_chance, small)


def test_half_of_the_weightings_go_to_a_tenth():
    w = drawn()
    above = (w["ring"] > 0.05) & ~of_the_third_part()
    # The first part, and what of the third cannot be told from it.
    assert happens_with(0.5 * 1 / 2 + 0.4 * 1 / 12 * 1 / 2, above)


def test_each_weight_of_the_third_part_is_uniform():
    w, third = drawn(), of_the_third_part()
    certain = w["skin"] > 0.1  # tells the part by the skin alone, so the others are as drawn
    for name, high in (("Blase", 0.2), ("Rectum", 0.2), ("ring", 0.1), ("Femur_Head_L", 0.1), ("external", 0.04)):
        assert kstest(w[name][certain] / high, "uniform").pvalue > UNLIKELY, name
    assert kstest((w["skin"][certain] - 0.1) / 0.2, "uniform").pvalue > UNLIKELY
    assert certain.sum() < third.sum()


def test_organs_are_weighted_separately():
    w = drawn()
    certain = w["skin"] > 0.1
    together = np.corrcoef([w[name][certain] for name in ("ring", "Blase", "Rectum", "Femur_Head_L", "Femur_Head_R")])
    # Four standard deviations of the correlation of independent draws.
    assert np.abs(together - np.eye(len(together))).max() < 4 / np.sqrt(certain.sum())


def test_the_body_is_weighted_alike_in_every_part():
    assert kstest(drawn()["external"] / 0.04, "uniform").pvalue > UNLIKELY


# Scenarios


def scenarios(seed=3, settings=PAPER):
    return draw_scenarios(np.random.default_rng(seed), a_case(), N_CANDIDATES, settings)


def test_the_paper_has_ten_runs_and_sixty_starts_a_patient():
    drawn_scenarios = scenarios()
    runs, starts = drawn_scenarios[:10], drawn_scenarios[10:]
    assert all(s.given == () for s in runs)
    assert len(starts) == 60
    assert all(s.given for s in starts)
    assert 10 * 5 + 60 == (10 + 12) * 5, "the states a patient gives, as the paper counts them"


@pytest.mark.parametrize(("n_beams", "n_starts"), [(5, 60), (3, 10), (2, 4)])
def test_starts_have_every_size_below_the_wished_number_equally_often(n_beams, n_starts):
    sizes = Counter(len(s.given) for s in scenarios(settings=ScenarioSettings(0, n_starts, n_beams)))
    assert sizes == dict.fromkeys(range(1, n_beams), n_starts // (n_beams - 1))


def test_starts_have_distinct_beams_from_all_candidates():
    given = [s.given for s in scenarios(settings=ScenarioSettings(0, 2000))]
    assert all(len(set(beams)) == len(beams) for beams in given)
    counts = np.bincount(np.concatenate(given), minlength=N_CANDIDATES)
    assert counts.size == N_CANDIDATES
    assert chisquare(counts).pvalue > UNLIKELY


def test_every_scenario_has_weights_of_its_own():
    rings = [s.weights.ring for s in scenarios()]
    assert len(set(rings)) == len(rings)


def test_the_same_seed_draws_the_same_scenarios():
    assert scenarios(3) == scenarios(3)
    assert scenarios(3) != scenarios(4)


@pytest.mark.parametrize("wrong", [(0, 0, 5), (-1, 5, 5), (5, -1, 5), (1, 1, 1)])
def test_counts_that_make_no_scenario_are_refused(wrong):
    with pytest.raises(ValueError, match="at least one run or start, and at least two beams"):
        ScenarioSettings(*wrong)
