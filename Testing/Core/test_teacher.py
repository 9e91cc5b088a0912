from dataclasses import replace

import numpy as np
import pytest
import torch
from Core.plan_samples import a_case
from Core.selection_samples import MACHINE, WEIGHTINGS, a_selection_problem, some_settings
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.beams import BeamAngles
from deeprt.case import outside_higher_targets, with_tuning_structures
from deeprt.errors import InputError
from deeprt.orientation.column_generation import generate_columns, solve_limited
from deeprt.orientation.teacher import CandidateSettings, OrganWeights, selection_problem
from deeprt.structures import Role


def the_problem(settings=None, **options):
    return selection_problem(a_case(), MACHINE, settings or some_settings("coplanar:45"), **options)


def the_coarse_case():
    """The case as the problem sees it."""
    return with_tuning_structures(a_case().resampled(7.0))


def test_organ_weights_follow_the_role():
    weights = OrganWeights(organs_at_risk=0.2, ring=0.3, skin=0.4, external=0.5)
    case = the_coarse_case()
    by_name = {s.name: weights.of(s) for s in case.structures}
    targets = {"PTV_50": 1.0, "PTV_60": 1.0}
    assert by_name == targets | {"Körper": 0.5, "Tube": 0.2, "Marker": 0.0, "Ring": 0.3, "Skin": 0.4}


def test_a_weight_by_name_or_organ_goes_before_the_role():
    tube = a_case().structure("Tube")
    assert OrganWeights(structures={"Tube": 0.9}).of(tube) == 0.9
    assert OrganWeights(structures={"Rectum": 0.8}).of(replace(tube, organ="Rectum")) == 0.8
    both = OrganWeights(structures={"Rectum": 0.8, "Tube": 0.9})
    assert both.of(replace(tube, organ="Rectum")) == 0.9
    assert OrganWeights(structures={"PTV_50": 0.5}).of(a_case().structure("PTV_50")) == 0.5


@pytest.mark.parametrize("change", [{"ring": -0.1}, {"structures": {"Tube": -1.0}}])
def test_negative_organ_weights_are_refused(change):
    with pytest.raises(InputError, match="Organ weights must not be negative"):
        OrganWeights(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"voxel_mm": 0.0},
        {"beamlet_mm": -5.0},
        {"memory_mb": 0.0},
        {"margin_mm": -1.0},
        {"min_separation_deg": -1.0},
        {"sweeps": -1},
    ],
)
def test_impossible_settings_are_refused(change):
    with pytest.raises(
        InputError, match="beamlet_mm, image_pixel_mm and memory_mb must be positive, margins and sweeps not"
    ):
        CandidateSettings(**change)


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_a_time_to_improve_that_is_none_is_refused(seconds):
    with pytest.raises(InputError, match=f"time to improve beams must be finite and not negative, got {seconds:g} s"):
        CandidateSettings(improve_s=seconds)


def test_candidates_aim_at_the_isocenter_of_the_case_on_its_own_grid():
    problem, given = the_problem()
    assert given == ()
    assert [a.gantry_deg for a in problem.candidates] == list(np.arange(0.0, 360.0, 45.0))
    for beam, angles in zip(problem.pool.beams, problem.candidates, strict=True):
        assert beam.angles == angles
        assert_allclose(beam.isocenter_lps, a_case().isocenter_lps(), atol=1e-9)
        assert_allclose(np.diff(beam.x_edges_mm), 10.0)
        assert_allclose(np.diff(beam.y_edges_mm), 10.0)


def test_all_voxels_of_targets_organs_and_ring_take_part_and_a_share_of_the_others():
    case, problem = the_coarse_case(), a_selection_problem()
    whole = [s for s in case.structures if s.role in (Role.TARGET, Role.ORGAN_AT_RISK) or s.name == "Ring"]
    certain = np.maximum.reduce([s.fraction.ravel() for s in whole]) > 0
    inside = case.external.fraction.ravel() > 0
    taken = np.isin(np.arange(case.grid.n_voxels), problem.pool.voxels)
    assert taken[certain].all()
    assert not taken[~inside & ~certain].any()
    n_rest = (inside & ~certain).sum()
    # Four standard deviations of the binomial distribution of the drawn number.
    assert abs(taken[inside & ~certain].sum() - 0.2 * n_rest) < 4 * np.sqrt(0.2 * 0.8 * n_rest)


def test_the_objective_is_that_of_equation_16():
    """``Σ_s w_s²/2 Σ_i (y_i − p_s)²`` over all voxels, those of the body estimated from the drawn ones."""
    case, weights = the_coarse_case(), WEIGHTINGS[0]
    problem = a_selection_problem()
    dose = np.random.default_rng(1).uniform(0, 60, problem.pool.voxels.size).astype(np.float32)
    of_voxel = np.zeros(case.grid.n_voxels)
    of_voxel[problem.pool.voxels] = dose
    expected = {}
    for s in case.structures:
        if (weight := weights.of(s)) > 0 and not s.is_empty:
            share = outside_higher_targets(case, s).fraction.ravel().astype(float)
            expected[s.name] = weight**2 / 2 * np.sum(share * (of_voxel - (s.prescription_gy or 0.0)) ** 2)
    found = {
        t.structure: float(t.weight * t.objective.value(torch.from_numpy(dose)[None, t.index], t.measure))
        for t in problem.terms
    }
    assert found.keys() == expected.keys()
    for name in ("PTV_50", "PTV_60", "Tube", "Ring"):  # every voxel of these takes part
        assert_allclose(found[name], expected[name], rtol=1e-5)


def test_drawn_voxels_stand_for_those_left_out():
    body = next(t for t in a_selection_problem().terms if t.structure == "Körper")
    # Of some 900 other voxels a fifth is drawn: their sum is uncertain by 6 %, that of all by 3 %.
    assert_allclose(body.measure.sum(), the_coarse_case().external.fraction.sum(), rtol=0.1)


def test_without_beams_the_objective_is_that_of_targets_without_dose():
    problem, case = a_selection_problem(), the_coarse_case()
    _, objective = solve_limited(problem, [[]], {})
    parts = [outside_higher_targets(case, t).fraction.sum(dtype=float) * t.prescription_gy**2 / 2 for t in case.targets]
    assert_allclose(objective, sum(parts), rtol=1e-5)


def test_given_beams_join_the_candidates_unless_they_are_some():
    given = (BeamAngles(90.0), BeamAngles(17.0, 5.0), BeamAngles(33.3))
    problem, positions = the_problem(given=given)
    assert positions == (2, 8, 9)
    assert len(problem.candidates) == len(problem.pool) == 10
    assert problem.candidates[8:] == given[1:]
    assert generate_columns(problem, 4, given=positions)[0].angles[:3] == given


def test_given_beams_may_lie_where_none_may_be_chosen():
    settings = some_settings("coplanar:45", exclude_deg=((350.0, 100.0),), min_separation_deg=60.0)
    problem, positions = the_problem(settings, given=(BeamAngles(45.0),))
    assert_array_equal(problem.selectable, [False, False, False, True, True, True, True, True])
    selection = generate_columns(problem, 3, given=positions)[0]
    assert selection.chosen[0] == 1
    assert min(selection.chosen[1:]) >= 3
    assert selection.fitness.shape == (2, 8)


def test_weightings_become_a_batch():
    problem, _ = the_problem(weightings=WEIGHTINGS)
    assert problem.n_batch == len(WEIGHTINGS)
    tube = next(t for t in problem.terms if t.structure == "Tube")
    assert_allclose(tube.weight[:, 0], [w.organs_at_risk**2 / 2 for w in WEIGHTINGS], rtol=1e-6)
    skin = next(t for t in problem.terms if t.structure == "Skin")  # does not count in the last weighting
    assert skin.weight[-1] == 0


def test_structures_without_weight_take_no_part():
    problem, _ = the_problem(some_settings("coplanar:45", weights=OrganWeights(0.0, 0.0, 0.0, 0.0)))
    assert {t.structure for t in problem.terms} == {"PTV_50", "PTV_60"}


def test_the_draw_of_voxels_repeats_with_its_seed():
    first, again, other = (the_problem(seed=seed)[0].pool.voxels for seed in (3, 3, 4))
    assert_array_equal(first, again)
    assert not np.array_equal(first, other)
