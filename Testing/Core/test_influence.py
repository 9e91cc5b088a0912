"""The dose influence operator: its adjoint, its explicit matrix, its voxels, pixels and fluence vectors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from Core.samples import (
    MACHINE,
    MASK,
    X_EDGES,
    Y_EDGES,
    a_centered_grid,
    a_field,
    a_phantom,
    a_sphere,
    a_uniform_phantom,
    an_oblique_grid,
    irregular_beams,
    random_fluence,
)
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.beams import BeamAngles
from deeprt.dose.influence import dose_influence

FLOAT32 = 1e-5  # relative, of sums of some hundred products in float32


def an_irregular_influence(**options):
    """Three turned beams on a phantom of changing density on an oblique grid, the isocenter off its middle."""
    grid = an_oblique_grid()
    hu = np.random.default_rng(3).uniform(-900, 400, grid.shape)
    case = a_phantom(grid, hu)
    return dose_influence(case, irregular_beams(grid.center_lps + np.array([8.0, -5.0, 7.0])), MACHINE, **options)


@pytest.fixture(scope="module")
def an_influence():
    return an_irregular_influence()


def test_the_adjoint_passes_the_dot_test(an_influence):
    rng = np.random.default_rng(4)
    fluence = random_fluence(an_influence, n_batch=3)
    values = torch.from_numpy(rng.uniform(0, 1, (3, an_influence.voxels.size))).float()
    dose, back = an_influence.dose(fluence), an_influence.adjoint(values)
    assert_allclose(
        (dose.double() * values.double()).sum(1), (fluence.double() * back.double()).sum(1), rtol=1e-5
    )  # the accuracy asked of the operator; positive numbers, so nothing cancels


def test_the_adjoint_passes_the_dot_test_with_values_of_both_signs(an_influence):
    rng = np.random.default_rng(5)
    fluence = torch.from_numpy(rng.normal(size=(2, an_influence.n_beamlets))).float()
    values = torch.from_numpy(rng.normal(size=(2, an_influence.voxels.size))).float()
    dose, back = an_influence.dose(fluence).double(), an_influence.adjoint(values).double()
    size = dose.norm(dim=1) * values.double().norm(dim=1)
    assert_allclose((dose * values).sum(1) / size, (fluence * back).sum(1) / size, atol=1e-5)


def test_the_operator_agrees_with_its_explicit_matrix(an_influence):
    matrix = an_influence.to_sparse(n_batch=7)
    assert matrix.shape == (an_influence.voxels.size, an_influence.n_beamlets)
    fluence = random_fluence(an_influence, n_batch=2)
    values = torch.from_numpy(np.random.default_rng(6).uniform(0, 1, (2, an_influence.voxels.size))).float()
    dose, back = an_influence.dose(fluence).numpy(), an_influence.adjoint(values).numpy()
    assert_allclose(dose, (matrix @ fluence.numpy().T).T, rtol=1e-4, atol=1e-4 * dose.max())
    assert_allclose(back, (matrix.T @ values.numpy().T).T, rtol=1e-4)


def test_each_batch_entry_is_computed_as_if_alone(an_influence):
    fluence = random_fluence(an_influence, n_batch=4)
    values = torch.from_numpy(np.random.default_rng(7).normal(size=(4, an_influence.voxels.size))).float()
    dose, back = an_influence.dose(fluence), an_influence.adjoint(values)
    for n in range(4):
        assert_allclose(an_influence.dose(fluence[n : n + 1])[0], dose[n], rtol=FLOAT32, atol=1e-7)
        alone = an_influence.adjoint(values[n : n + 1])[0]
        assert_allclose(alone, back[n], rtol=0, atol=FLOAT32 * back.abs().max())


def test_dose_is_linear_in_monitor_units(an_influence):
    one, other = random_fluence(an_influence, seed=8), random_fluence(an_influence, seed=9)
    together = an_influence.dose(2.5 * one + 0.75 * other)
    parts = 2.5 * an_influence.dose(one) + 0.75 * an_influence.dose(other)
    assert_allclose(together, parts, rtol=FLOAT32, atol=1e-7)
    assert_array_equal(an_influence.dose(0 * one), 0)


def test_restricting_gives_the_rows_of_the_whole(an_influence):
    rng = np.random.default_rng(12)
    some = rng.permutation(an_influence.voxels)[:700]  # in any order
    part = an_influence.restricted(some)
    assert_array_equal(part.voxels, some)
    fluence = random_fluence(an_influence, n_batch=2)
    position = np.searchsorted(an_influence.voxels, some)
    assert_allclose(part.dose(fluence), an_influence.dose(fluence)[:, position], rtol=1e-6)
    values = torch.from_numpy(rng.uniform(size=(2, 700))).float()
    embedded = torch.zeros(2, an_influence.voxels.size)
    embedded[:, position] = values
    assert_allclose(part.adjoint(values), an_influence.adjoint(embedded), rtol=1e-4)


def test_voxels_chosen_at_set_up_are_those_of_the_whole(an_influence):
    some = np.arange(5, an_influence.voxels.size, 211)
    fluence = random_fluence(an_influence)
    dose = an_influence.to_volume(an_influence.dose(fluence)[0]).ravel()[some]
    assert_allclose(an_irregular_influence(voxels=some).dose(fluence)[0], dose, rtol=1e-4, atol=1e-5 * dose.max())


def test_splitting_pixels_leaves_the_dose_unchanged():
    grid = an_oblique_grid()
    beam = irregular_beams(grid.center_lps)[2]
    influence = dose_influence(a_uniform_phantom(grid), [beam], MACHINE).beams[0]
    fluence = np.random.default_rng(13).uniform(0, 30, beam.n_open).astype(np.float32)
    image = np.zeros(beam.open_beamlets.shape, np.float32)
    image[beam.open_beamlets] = fluence
    x, y = np.unique(np.concatenate([X_EDGES, X_EDGES[:-1] + 0.3 * np.diff(X_EDGES)])), np.linspace(-30, 25, 56)
    column = np.searchsorted(X_EDGES, x[:-1], side="right") - 1
    row = np.searchsorted(Y_EDGES, y[:-1], side="right") - 1
    whole = influence.dose(torch.from_numpy(fluence)[None])
    split = image[np.ix_(row, column)]
    all_pixels = influence.on_pixels(x, y)
    assert_allclose(all_pixels.dose(torch.from_numpy(split).reshape(1, -1)), whole, rtol=1e-4, atol=1e-6 * whole.max())
    mask = split > 0
    open_pixels = influence.on_pixels(x, y, open_=mask)
    assert_array_equal(open_pixels.beam.open_beamlets, mask)
    assert_allclose(open_pixels.dose(torch.from_numpy(split[mask])[None]), whole, rtol=1e-4, atol=1e-6 * whole.max())


def test_influence_on_other_pixels_is_that_of_a_beam_made_with_them():
    grid = an_oblique_grid()
    case, beam = a_uniform_phantom(grid), irregular_beams(grid.center_lps)[0]
    x, y = np.linspace(-13.0, 21.0, 9), np.array([-7.0, 2.0, 30.0])
    made = replace(beam, x_edges_mm=x, y_edges_mm=y, open_beamlets=np.ones((2, 8), bool))
    fluence = torch.rand(1, 16, generator=torch.Generator().manual_seed(1))
    moved = dose_influence(case, [beam], MACHINE).beams[0].on_pixels(x, y)
    assert_allclose(moved.dose(fluence), dose_influence(case, [made], MACHINE).dose(fluence), rtol=1e-6)


def test_voxels_that_project_exactly_onto_the_last_image_pixel_are_read_within_the_image():
    grid = a_centered_grid(21, 20.0)  # corners project to (±250, ±250) mm, up to rounding
    case = a_uniform_phantom(grid)
    for gantry in np.arange(0.0, 360.0, 30.0):
        for collimator in (0.0, 90.0):
            beam = a_field(BeamAngles(gantry, 0.0, collimator), (0, 0, 0), X_EDGES, Y_EDGES)
            influence = dose_influence(case, [beam], MACHINE).beams[0]
            n_image, columns = influence.gather.shape[1], influence.gather.col_indices()
            assert columns.min() >= 0 and columns.max() < n_image


def test_maps_and_vectors_of_fluence_are_inverse(an_influence):
    fluence = random_fluence(an_influence)[0]
    maps = an_influence.to_maps(fluence)
    assert_array_equal(an_influence.from_maps(maps), fluence)
    for part, image in zip(an_influence.beams, maps, strict=True):
        assert image.shape == part.beam.open_beamlets.shape
        assert np.all(image[~part.beam.open_beamlets] == 0)
    assert_allclose(sum(m.sum() for m in maps), fluence.sum(), rtol=1e-6)
    first_row = maps[0][0][an_influence.beams[0].beam.open_beamlets[0]]
    assert_allclose(first_row, fluence[: first_row.size])  # row by row, from low Yb


def test_values_come_back_to_their_voxels():
    grid = an_oblique_grid()
    voxels = np.array([3, 1000, 20000])
    influence = dose_influence(a_uniform_phantom(grid), irregular_beams(grid.center_lps)[:1], MACHINE, voxels=voxels)
    volume = influence.to_volume(torch.tensor([1.0, 2.0, 3.0]))
    assert volume.shape == grid.shape and volume.dtype == np.float32
    assert_array_equal(volume.ravel()[voxels], [1, 2, 3])
    assert volume.sum() == 6


def test_without_a_choice_of_voxels_those_of_the_external_structure_get_dose():
    grid = an_oblique_grid()
    case = a_phantom(grid, 0.0, body=a_sphere(grid, grid.center_lps, 35.0))
    influence = dose_influence(case, irregular_beams(grid.center_lps)[:1], MACHINE)
    assert_array_equal(influence.voxels, np.flatnonzero(case.external.fraction))
    assert influence.grid_shape == grid.shape


def test_several_beams_add_up_in_their_order(an_influence):
    fluence = random_fluence(an_influence)
    parts = torch.split(fluence, [b.beam.n_open for b in an_influence.beams], dim=1)
    assert [b.beam.name for b in an_influence.beams] == ["F0", "F1", "F2"]
    assert an_influence.n_beamlets == sum(p.shape[1] for p in parts)
    total = sum(b.dose(p) for b, p in zip(an_influence.beams, parts, strict=True))
    assert_allclose(an_influence.dose(fluence), total, rtol=FLOAT32)


def test_neighbors_are_open_beamlets_side_by_side():
    beam = a_field(BeamAngles(0.0), (0, 0, 0), X_EDGES, Y_EDGES, open_beamlets=MASK)
    grid = a_centered_grid(5, 5.0)
    influence = dose_influence(a_uniform_phantom(grid), [beam, beam], MACHINE)
    first, second = (t.numpy() for t in influence.neighbors())
    places = np.concatenate([np.argwhere(MASK), np.argwhere(MASK) + np.array([100, 100])])  # the second beam far away
    assert np.all(np.abs(places[first] - places[second]).sum(axis=1) == 1)
    n_pairs = (MASK[:, 1:] & MASK[:, :-1]).sum() + (MASK[1:] & MASK[:-1]).sum()
    assert first.size == 2 * n_pairs == len(set(zip(first, second, strict=True)))


class Notes:
    def __init__(self):
        self.steps = []

    def step(self, name, fraction, message=""):
        self.steps.append((name, fraction, message))


def test_set_up_reports_beam_after_beam():
    notes = Notes()
    an_irregular_influence(voxels=np.arange(10), progress=notes)
    assert [s[2] for s in notes.steps] == ["F0 of 3", "F1 of 3", "F2 of 3", ""]
    assert_allclose([s[1] for s in notes.steps], [0, 1 / 3, 2 / 3, 1])


def test_the_operator_lives_on_the_chosen_device(an_influence):
    assert an_influence.device == torch.device("cpu")
    assert an_irregular_influence(voxels=np.arange(10), device="meta").device == torch.device("meta")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_dose_of_the_cpu(an_influence):
    on_cuda = an_irregular_influence(device="cuda")
    fluence = random_fluence(an_influence, n_batch=3)
    dose = an_influence.dose(fluence)
    assert on_cuda.device.type == "cuda"
    assert_allclose(on_cuda.dose(fluence.cuda()).cpu(), dose, rtol=1e-4, atol=1e-5 * dose.max())
    values = torch.rand(3, an_influence.voxels.size, generator=torch.Generator().manual_seed(2))
    assert_allclose(on_cuda.adjoint(values.cuda()).cpu(), an_influence.adjoint(values), rtol=1e-4)
    some = an_influence.voxels[::50]
    part = on_cuda.restricted(some).dose(fluence.cuda()).cpu()
    assert_allclose(part, an_influence.restricted(some).dose(fluence), rtol=1e-4, atol=1e-5 * dose.max())


def test_an_influence_without_beams_is_an_error():
    with pytest.raises(ValueError, match="needs at least one beam"):
        dose_influence(a_uniform_phantom(an_oblique_grid()), [], MACHINE)


def test_a_voxel_behind_the_source_is_an_error():
    grid = an_oblique_grid()
    beam = a_field(BeamAngles(0.0), grid.center_lps + np.array([0.0, 980.0, 0.0]), X_EDGES, Y_EDGES, name="Far")
    with pytest.raises(ValueError, match="Far: a voxel lies behind the source; check the isocenter and the grid"):
        dose_influence(a_uniform_phantom(grid), [beam], MACHINE)


@pytest.mark.parametrize("strange", [[10**9], [7, 8], [0]])
def test_restricting_to_voxels_that_are_not_present_is_an_error(strange):
    influence = an_irregular_influence(voxels=np.array([1, 7, 9]))
    with pytest.raises(ValueError, match="some of the chosen voxels are not among the present ones"):
        influence.restricted(np.array(strange))
