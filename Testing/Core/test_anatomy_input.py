"""Inputs of the paper's network: what the cube holds, and that turning it turns what the beams see."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from Core.plan_samples import a_case
from Core.samples import a_centered_grid, a_sphere, a_uniform_phantom
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.case import with_tuning_structures
from deeprt.geometry import PATIENT_POSITIONS, bld_to_lps_rotation
from deeprt.networks.anatomy import AnatomyInput, anatomy_shares, channels, rotated
from deeprt.structures import Role, Structure

VOXEL_MM, N = 4.0, 40  # the sample case fits into the cube
NAMES = ("PTV_60", "PTV_50", "Körper", "Tube", "Ring", "Skin")


@cache
def a_sample_case():
    return with_tuning_structures(a_case())


@cache
def a_sample_input():
    return anatomy_shares(a_sample_case(), voxel_mm=VOXEL_MM, n=N)


def centroid_mm(image):
    """Centroid relative to the middle of the cube, along i, j, k."""
    image = np.asarray(image, float)
    middle = (N - 1) / 2
    return np.array([image.sum(tuple({0, 1, 2} - {a})) @ (np.arange(N) - middle) for a in (2, 1, 0)]) * (
        VOXEL_MM / image.sum()
    )


def a_phantom_with_organ(offset_lps, position="HFS"):
    """Water with a target in the middle and an organ beside it."""
    phantom = a_uniform_phantom(a_centered_grid(n=41, center_lps=(20.0, -30.0, 50.0)), position=position)
    organ = a_sphere(phantom.grid, phantom.grid.center_lps + offset_lps, 12.0)
    return replace(phantom, structures=(*phantom.structures, Structure("Organ", Role.ORGAN_AT_RISK, organ)))


def organ_image(case):
    return anatomy_shares(case, voxel_mm=VOXEL_MM, n=N).shares[-1]


def test_prescribed_targets_come_first_and_what_has_no_weight_is_left_out():
    anatomy = a_sample_input()
    assert anatomy.names == NAMES
    assert_allclose(anatomy.relative_prescription, [1, 50 / 60, 0, 0, 0, 0], rtol=1e-6)
    assert anatomy.shares.shape == (len(NAMES), N, N, N) and anatomy.shares.dtype == np.uint8


@pytest.mark.parametrize("name", NAMES)
def test_volume_and_centroid_of_a_structure_hold_on_an_oblique_grid(name):
    case, image = a_sample_case(), a_sample_input().shares[NAMES.index(name)]
    structure = case.structure(name)
    # Interpolation and the 255 steps cost less than a hundredth of the smallest structure.
    assert_allclose(image.sum() / 255 * VOXEL_MM**3 / 1000, case.volume_cc(structure), rtol=0.01)
    index = structure.centroid_index()
    at_lps = case.grid.index_to_lps[:3, :3] @ index + case.grid.index_to_lps[:3, 3]
    assert_allclose(centroid_mm(image), at_lps - case.isocenter_lps(), atol=0.1)


def test_shares_are_averages_over_the_voxel():
    images = [anatomy_shares(a_sample_case(), voxel_mm=v, n=n).shares.astype(float) for v, n in ((4.0, 40), (8.0, 20))]
    averaged = images[0].reshape(-1, 20, 2, 20, 2, 20, 2).mean((2, 4, 6))
    # Both smooth a little more than over their own voxels; edges of the body are the steepest.
    assert np.abs(averaged - images[1]).max() < 0.3 * 255
    assert np.abs(averaged - images[1]).mean() < 0.01 * 255


def test_what_the_cube_does_not_reach_is_left_out():
    anatomy = anatomy_shares(a_sample_case(), voxel_mm=2.0, n=6)
    assert_array_equal(anatomy.shares[NAMES.index("PTV_50")], 255)
    assert not anatomy.shares[NAMES.index("Skin")].any()


def test_outside_the_grid_there_is_nothing():
    image = organ_image(a_phantom_with_organ((0.0, 0.0, 0.0)))
    body = anatomy_shares(a_phantom_with_organ((0.0, 0.0, 0.0)), voxel_mm=8.0, n=N).shares[1]
    assert image.max() == 255
    assert_allclose(body.sum() / 255 * 8.0**3, (41 * 4.0) ** 3, rtol=0.02)


@pytest.mark.parametrize("position", PATIENT_POSITIONS)
def test_a_beam_comes_from_the_same_side_of_the_cube_in_every_position(position):
    for gantry_deg, along_ijk in ((0.0, (0, -1, 0)), (90.0, (1, 0, 0))):
        to_source = bld_to_lps_rotation(gantry_deg, position=position)[:, 2]
        image = organ_image(a_phantom_with_organ(50 * to_source, position))
        assert_allclose(centroid_mm(image), 50 * np.array(along_ijk), atol=0.1)


def a_random_input(rng, n=8):
    relative = np.array([1.0, 0.8, 0.0, 0.0], np.float32)
    return AnatomyInput(("High", "Low", "A", "B"), relative, rng.integers(0, 256, (4, n, n, n), np.uint8))


def test_channels_are_the_largest_products_of_weight_and_share():
    anatomy = a_random_input(np.random.default_rng(1))
    weights = torch.tensor([[1, 1, 0.1, 0.05], [1, 1, 0.0, 0.3]])
    made = channels(anatomy, weights).numpy()
    high, low, a, b = anatomy.shares / 255
    for n in range(2):
        assert_allclose(made[n, 0], np.maximum(high, 0.8 * low), atol=1e-6)  # single precision
        assert_allclose(made[n, 1], np.maximum(float(weights[n, 2]) * a, float(weights[n, 3]) * b), atol=1e-6)


def test_a_structure_without_weight_does_not_count():
    anatomy = a_random_input(np.random.default_rng(1))
    assert not channels(anatomy, torch.tensor([[1.0, 1.0, 0.0, 0.0]]))[0, 1].any()


def test_the_anterior_organ_ends_on_the_left_when_the_curve_rolls_by_a_quarter():
    image = torch.from_numpy(organ_image(a_phantom_with_organ((0.0, -50.0, 20.0))).copy())
    assert_allclose(centroid_mm(rotated(image, 1)), (50, 0, 20), atol=0.1)


def facing(image):
    """How much of an image lies towards each of 180 sources, by the rotation that places beams."""
    k, j, i = np.indices(image.shape).reshape(3, -1) - (len(image) - 1) / 2
    to_source = [bld_to_lps_rotation(2.0 * c)[:, 2] for c in range(180)]
    return np.maximum(np.array(to_source) @ np.stack([i, j, k]), 0) @ image.numpy().ravel()


@pytest.mark.parametrize("turns", [-1, 1, 2, 3, 4])
def test_turning_the_anatomy_rolls_the_curve_by_a_quarter_of_the_candidates_a_turn(turns):
    image = torch.from_numpy(np.random.default_rng(3).random((6, 8, 8)).repeat(2, axis=0)[:8])
    turned = rotated(image, turns)
    assert_allclose(facing(turned), np.roll(facing(image), 45 * turns), rtol=1e-9)
    assert_allclose(turned.sum((1, 2)), image.sum((1, 2)), rtol=1e-12)  # slices stay where they are


def test_a_batch_turns_as_its_images_do():
    images = torch.rand(2, 2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(rotated(images, 1)[1, 0], rotated(images[1, 0], 1))
