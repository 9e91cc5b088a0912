from dataclasses import replace

import numpy as np
import pytest
import torch
from Core.fluence_samples import a_matrix, a_planned_case, a_problem, a_sample, an_influence
from numpy.testing import assert_allclose

from deeprt.fluence.objectives import Geud, MaxDvh, MeanDose, SquaredDeviation, SquaredOverdose, SquaredUnderdose
from deeprt.fluence.problem import Roughness, make_term, sample_voxels
from deeprt.structures import Role

CPU = torch.device("cpu")
LINES = (
    ("PTV_60", SquaredUnderdose(60.0), [30.0]),
    ("PTV_50", SquaredDeviation(52.0), [10.0]),
    ("Tube", Geud(15.0, 5.0), [2.0]),
    ("Tube", MaxDvh(20.0, 40.0), [3.0]),
    ("Ring", SquaredOverdose(30.0), [4.0]),
    ("Körper", MeanDose(), [7.0]),
)


def a_rough_problem(*lines):
    first, second = an_influence().neighbors()
    return replace(a_problem(*lines), roughness=Roughness(first, second, 0.03))


def an_uneven_fluence(n_beamlets, n_batch=1):
    return torch.from_numpy(np.random.default_rng(8).uniform(0, 4, (n_batch, n_beamlets)).astype(np.float32))


def value_of(problem, fluence_mu):
    return problem.value(fluence_mu, problem.dose(fluence_mu))


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{type(line[1]).__name__} of {line[0]}")
def test_the_gradient_is_the_slope_of_the_value_through_the_influence(line):
    problem = a_rough_problem(line)
    x = an_uneven_fluence(problem.operator.n_beamlets)
    gradient = problem.gradient(x, problem.dose(x))
    rng = np.random.default_rng(9)
    for _ in range(4):
        direction = torch.from_numpy(rng.normal(size=x.shape).astype(np.float32))
        step = 0.01  # MU; the dose is float32, so that smaller steps drown in its rounding
        slope = (value_of(problem, x + step * direction) - value_of(problem, x - step * direction)) / (2 * step)
        scale = float(gradient.norm() * direction.norm())
        assert_allclose(slope, (gradient * direction).sum(), atol=3e-4 * scale)
    steepest = gradient / gradient.norm()
    slope = (value_of(problem, x + 0.01 * steepest) - value_of(problem, x - 0.01 * steepest)) / 0.02
    assert_allclose(slope, gradient.norm(), rtol=5e-3)


def test_overlapping_structures_count_in_full():
    """The boost lies inside the larger target, and the ring is drawn over both."""
    problem = a_problem(*LINES, per_volume=False)
    case, sample = a_planned_case(), a_sample()
    x = an_uneven_fluence(problem.operator.n_beamlets)
    dose = problem.dose(x)
    shared = case.structure("PTV_60").fraction * case.structure("PTV_50").fraction
    assert (shared > 0).sum() > 50
    expected = 0.0
    for name, objective, (weight,) in LINES:
        measure = torch.from_numpy(case.structure(name).fraction.ravel()[sample.voxels] * sample.weight)
        expected += weight * float(objective.value(dose.double(), measure.double())[0])
    assert_allclose(problem.value(x, dose)[0], expected, rtol=1e-5)


def test_the_papers_objective_sums_over_voxels():
    """Sadeghnejad Barkousaraie et al. 2020, equation 16: half the squared organ weight, no number of voxels."""
    problem = a_problem(("PTV_50", SquaredDeviation(50.0), [0.5]), ("Tube", SquaredDeviation(0.0), [0.5 * 0.2**2]),
                        per_volume=False)  # fmt: skip
    case, sample = a_planned_case(), a_sample()
    x = an_uneven_fluence(problem.operator.n_beamlets)
    y = a_matrix() @ x[0].numpy().astype(np.float64)
    target, tube = (case.structure(n).fraction.ravel()[sample.voxels] for n in ("PTV_50", "Tube"))
    expected = 0.5 * target @ (y - 50) ** 2 + 0.5 * 0.2**2 * tube @ y**2
    assert_allclose(value_of(problem, x)[0], expected, rtol=1e-5)  # of float32 dose


def test_normalized_objectives_do_not_depend_on_the_size_of_the_structure():
    dose = torch.full((1, a_sample().voxels.size), 57.0)
    x = torch.zeros(1, an_influence().n_beamlets)
    for name in ("PTV_50", "PTV_60", "Tube", "Körper"):
        problem = a_problem((name, SquaredDeviation(50.0), [3.0]), (name, MeanDose(), [2.0]))
        assert_allclose(problem.terms[0].measure.sum(), 1, rtol=1e-5)
        assert_allclose(problem.value(x, dose), 3 * 7**2 + 2 * 57, rtol=1e-5)


def test_a_batch_of_weights_equals_single_problems():
    batch = a_problem(*((name, objective, [w[0], 5 * w[0], 0.1]) for name, objective, w in LINES))
    x = an_uneven_fluence(batch.operator.n_beamlets, n_batch=3)
    dose = batch.dose(x)
    for n in range(3):
        single = a_problem(*((name, o, [[w[0], 5 * w[0], 0.1][n]]) for name, o, w in LINES))
        assert_allclose(batch.value(x, dose)[n], single.value(x[n : n + 1], dose[n : n + 1])[0], rtol=1e-6)
        expected = single.gradient(x[n : n + 1], dose[n : n + 1])[0]
        assert_allclose(batch.gradient(x, dose)[n], expected, atol=1e-5 * float(expected.abs().max()))


def test_the_dose_is_that_of_the_whole_course():
    problem = a_problem(LINES[0])
    x = an_uneven_fluence(problem.operator.n_beamlets)
    assert problem.n_fractions == 25
    assert_allclose(problem.dose(x)[0], a_matrix() @ x[0].numpy(), rtol=1e-4, atol=1e-4)


def test_the_start_is_uniform_and_gives_the_target_its_mean_dose():
    problem, target = a_problem(LINES[0]), a_planned_case().structure("PTV_50")
    start = problem.uniform_start(47.0, target)
    assert start.shape == (1, problem.operator.n_beamlets)
    assert start.min() == start.max() > 0
    share = target.fraction.ravel()[a_sample().voxels]
    assert_allclose(np.average(problem.dose(start)[0], weights=share), 47.0, rtol=1e-5)


def test_roughness_is_the_squared_difference_of_neighbors():
    rough = Roughness(torch.tensor([0, 1]), torch.tensor([1, 2]), weight=0.5)
    x = torch.tensor([[1.0, 4.0, 2.0, 9.0], [3.0, 3.0, 3.0, 0.0]])
    assert_allclose(rough.value(x), [0.5 * (9 + 4), 0])
    assert_allclose(rough.gradient(x), [[-3, 5, -2, 0], [0, 0, 0, 0]])


def test_neighbors_are_open_beamlets_side_by_side_in_one_beam():
    influence = an_influence()
    first, second = influence.neighbors()
    image = influence.to_maps(torch.arange(influence.n_beamlets, dtype=torch.float32) + 1)
    place = {int(m[r, c]) - 1: (b, r, c) for b, m in enumerate(image) for r, c in np.argwhere(m > 0)}
    pairs = {frozenset(pair) for pair in zip(first.tolist(), second.tolist(), strict=True)}
    expected = {
        frozenset((a, b)) for a in place for b in place if a < b and place[a][0] == place[b][0]
        and abs(place[a][1] - place[b][1]) + abs(place[a][2] - place[b][2]) == 1
    }  # fmt: skip
    assert pairs == expected


# Sampled voxels


def test_every_voxel_of_the_chosen_structures_is_taken_and_the_rest_weighs_its_inverse_probability():
    case = a_planned_case()
    whole = (case.structure("PTV_50"), case.structure("Tube"))
    sample = sample_voxels(case, whole, background_share=0.25, rng=np.random.default_rng(2))
    certain = np.flatnonzero((whole[0].fraction > 0) | (whole[1].fraction > 0))
    body = np.flatnonzero(case.external.fraction > 0)
    assert (np.diff(sample.voxels) > 0).all()
    assert np.isin(certain, sample.voxels).all()
    assert np.isin(sample.voxels, np.union1d(certain, body)).all()
    is_certain = np.isin(sample.voxels, certain)
    assert_allclose(sample.weight, np.where(is_certain, 1, 4))
    rest = np.setdiff1d(body, certain).size
    # Four standard deviations of a binomial count.
    assert_allclose((~is_certain).sum(), 0.25 * rest, atol=4 * np.sqrt(rest * 0.25 * 0.75))


def test_a_share_of_one_takes_every_voxel_of_the_patient():
    case = a_planned_case()
    sample = sample_voxels(case, (), background_share=1.0, rng=np.random.default_rng(2))
    assert_allclose(sample.voxels, np.flatnonzero(case.external.fraction > 0))
    assert_allclose(sample.weight, 1)


def test_the_expectation_of_a_sampled_objective_is_that_of_all_voxels():
    case = a_planned_case()
    body, target = case.external, case.structure("PTV_50")
    # Any dose will do; this one varies over the patient.
    dose = torch.from_numpy((20 + 0.3 * case.grid.points_lps()[:, 0]).astype(np.float32))[None]
    objective = SquaredOverdose(10.0)

    def value(share, seed):
        sample = sample_voxels(case, (target,), background_share=share, rng=np.random.default_rng(seed))
        term = make_term(body, objective, [1.0], sample, device=CPU, per_volume=False)
        return float(objective.value(dose[:, sample.voxels][:, term.index], term.measure)[0])

    full = value(1.0, 0)
    values = np.array([value(0.1, seed) for seed in range(60)])
    standard_error = values.std(ddof=1) / np.sqrt(values.size)
    assert standard_error < 0.005 * full
    assert_allclose(values.mean(), full, atol=4 * standard_error)


def test_the_same_generator_draws_the_same_voxels():
    case, whole = a_planned_case(), a_planned_case().with_role(Role.TARGET)
    a, b, other = (
        sample_voxels(case, whole, background_share=0.1, rng=np.random.default_rng(seed)).voxels for seed in (5, 5, 6)
    )
    assert np.array_equal(a, b)
    assert not np.array_equal(a, other)


# What is refused


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01])
def test_a_share_that_is_no_probability_is_refused(share):
    with pytest.raises(ValueError, match=f"background share must lie above 0 and up to 1, got {share}"):
        sample_voxels(a_planned_case(), (), background_share=share, rng=np.random.default_rng(0))


def test_a_structure_without_voxels_in_the_problem_is_refused():
    with pytest.raises(ValueError, match="Structure 'Marker' has no voxel among those of the optimization"):
        a_problem(("Marker", MeanDose(), [1.0]))


def test_only_the_change_from_an_origin_is_rough():
    origin = torch.tensor([[4.0, 0.0, 9.0]])
    plain = Roughness(torch.tensor([0, 1]), torch.tensor([1, 2]), weight=0.5)
    rough, change = replace(plain, origin=origin), torch.tensor([[1.0, 2.0, 0.0]])
    assert rough.value(origin) == 0
    assert_allclose(rough.value(origin + change), plain.value(change))
    assert_allclose(rough.gradient(origin + change), plain.gradient(change))
