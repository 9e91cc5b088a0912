"""The patient case: density, tuning structures and nested targets against closed forms."""

from dataclasses import replace

import numpy as np
import pytest
from Core.plan_samples import a_case
from Core.samples import a_phantom, a_sphere, a_uniform_phantom, an_oblique_grid, axes_of, share_inside
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial import KDTree

from deeprt.case import (
    GENERIC_HU_TABLE,
    NESTED_MARGIN_MM,
    HuTable,
    PatientCase,
    outside_higher_targets,
    union,
    with_tuning_structures,
)
from deeprt.geometry import Grid
from deeprt.structures import Role, Structure

RADIUS_MM = 15.0
SPACING_MM = np.array([1.6, 2.0, 2.8])  # along i, j, k
DIAGONAL_MM = np.linalg.norm(SPACING_MM)  # of a voxel; distances between voxels are taken between their centers


def a_fine_grid():
    """Small voxels, turned and far from the origin."""
    return an_oblique_grid().resampled(SPACING_MM)


def half_width_mm(grid):
    """From the middle of the grid to its faces along i."""
    return grid.shape[2] * SPACING_MM[0] / 2


def a_ball_in_a_slab():
    """A spherical target off the middle of a phantom that ends 9 mm before the grid does, along i only."""
    grid = a_fine_grid()
    center = grid.center_lps + axes_of(grid) @ (6.0, -4.0, 5.0)
    along_i = (grid.points_lps() - grid.center_lps) @ axes_of(grid)[:, 0]
    body = share_inside(grid, np.abs(along_i) - (half_width_mm(grid) - 9))
    return a_phantom(grid, 0.0, body=body, target_center_lps=center, target_radius_mm=RADIUS_MM), center


def distance_from(case, center):
    return np.linalg.norm(case.grid.points_lps() - center, axis=1).reshape(case.grid.shape)


def test_the_ring_lies_between_the_stated_distances_from_a_spherical_target():
    case, center = a_ball_in_a_slab()
    case = with_tuning_structures(case, ring_gap_mm=4.0, ring_width_mm=9.0)
    ring, distance = case.structure("Ring"), distance_from(case, center)
    # The nearest voxel center inside lies up to a voxel's diagonal below the surface, hardly above it.
    assert ring.role is Role.TUNING
    assert distance[ring.fraction > 0].min() > RADIUS_MM + 4.0 - DIAGONAL_MM
    assert distance[ring.fraction > 0].max() < RADIUS_MM + 13.0 + 0.5
    sure = (distance > RADIUS_MM + 4.0 + 0.5) & (distance < RADIUS_MM + 13.0 - DIAGONAL_MM)
    assert_array_equal(ring.fraction[sure], case.external.fraction[sure])


def test_the_ring_has_the_volume_of_a_spherical_shell():
    grid = a_fine_grid()
    case = a_uniform_phantom(grid, target_radius_mm=RADIUS_MM)
    case = with_tuning_structures(case, ring_gap_mm=3.0, ring_width_mm=12.0)
    shell_cc = 4 / 3 * np.pi * ((RADIUS_MM + 15) ** 3 - (RADIUS_MM + 3) ** 3) / 1000
    # A voxel center inside lies on average a part of a millimeter below the surface.
    assert_allclose(case.volume_cc(case.structure("Ring")), shell_cc, rtol=0.05)


def test_the_skin_has_the_stated_depth_and_also_runs_along_the_border_of_the_grid():
    case, _ = a_ball_in_a_slab()
    case = with_tuning_structures(case, skin_mm=6.0)
    skin = case.structure("Skin").fraction
    # From voxel centers to the faces of the body: the grid's box, and 9 mm before it along i.
    index, size = np.indices(case.grid.shape)[::-1], np.array(case.grid.shape[::-1])[:, None, None, None]
    to_box = SPACING_MM[:, None, None, None] * np.minimum(index + 0.5, size - index - 0.5)
    depth = np.minimum(to_box.min(axis=0), to_box[0] - 9.0)
    outside_target = 1 - case.structure("Ball").fraction
    half = SPACING_MM.max() / 2  # from the surface to the nearest voxel center outside
    within, beyond = (depth > 0) & (depth < 6.0 - half), depth > 6.0 + half
    assert_allclose(skin[within], (case.external.fraction * outside_target)[within])
    assert skin[beyond].max() == 0
    assert skin[case.external.fraction == 0].max() == 0


def test_tuning_structures_contain_no_target():
    grid = a_fine_grid()
    near_the_surface = grid.center_lps + axes_of(grid) @ (half_width_mm(grid) - RADIUS_MM, 0, 0)
    case = with_tuning_structures(a_uniform_phantom(grid, target_center_lps=near_the_surface))
    target = case.structure("Ball").fraction
    for name in ("Ring", "Skin"):
        made = case.structure(name).fraction
        assert made[target == 1].max() == 0
        assert np.all(made + target <= 1 + 1e-6)
        assert made.max() == 1


def test_tuning_structures_of_the_same_name_are_replaced_and_others_kept():
    case = a_case()  # has a structure named Ring
    once = with_tuning_structures(case)
    twice = with_tuning_structures(once, ring_width_mm=5.0)
    assert [s.name for s in twice.structures] == ["Körper", "PTV_50", "PTV_60", "Tube", "Marker", "Ring", "Skin"]
    assert case.volume_cc(twice.structure("Ring")) < case.volume_cc(once.structure("Ring"))
    assert case.structure("Ring") is case.structures[4]


def a_nested_case(*, apart_mm):
    """Two spherical targets of 50 and 60 Gy, their centers ``apart_mm`` from each other."""
    grid = a_fine_grid()
    center = grid.center_lps
    high = a_sphere(grid, center + axes_of(grid) @ (apart_mm, 0, 0), 8.0)
    case = a_uniform_phantom(grid, target_radius_mm=RADIUS_MM)
    boost = Structure("Boost", Role.TARGET, high, 60.0)
    return replace(case, structures=(*case.structures, boost)), center + axes_of(grid) @ (apart_mm, 0, 0)


def test_a_target_ends_before_the_margin_around_one_of_higher_prescription():
    case, high_center = a_nested_case(apart_mm=6.0)
    low = case.structure("Ball")
    part = outside_higher_targets(case, low)
    centers = case.grid.points_lps()
    high = centers[np.linalg.norm(centers - high_center, axis=1) <= 8.0]  # voxels at least half inside
    distance, _ = KDTree(high).query(centers)
    expected = np.where(distance.reshape(case.grid.shape) > NESTED_MARGIN_MM, low.fraction, 0)
    assert part.prescription_gy == 50.0
    assert 0 < part.fraction.sum() < low.fraction.sum()
    assert_array_equal(part.fraction, expected)


def test_structures_that_no_higher_target_comes_near_are_returned_as_they_are():
    case, _ = a_nested_case(apart_mm=32.0)
    for name in ("Ball", "Boost", "Outline"):
        assert outside_higher_targets(case, case.structure(name)) is case.structure(name)


def test_an_empty_higher_target_takes_nothing_away():
    case, _ = a_nested_case(apart_mm=6.0)
    empty = Structure("Boost", Role.TARGET, np.zeros(case.grid.shape, np.float32), 60.0)
    case = replace(case, structures=(*case.structures[:2], empty))
    assert outside_higher_targets(case, case.structure("Ball")) is case.structure("Ball")


def test_density_is_zero_outside_the_external_structure_and_shared_at_its_border():
    case, _ = a_ball_in_a_slab()
    case = replace(case, ct_hu=np.full(case.grid.shape, 1000.0, np.float32))  # also outside, as a couch would be
    share = case.external.fraction
    assert share.min() == 0
    assert np.any((share > 0) & (share < 1))
    assert_allclose(case.density, np.where(share < 1, share, 1.55), rtol=1e-6)  # at most water where it is cut
    assert case.density.dtype == np.float32


def test_a_voxel_half_in_air_has_half_the_density_and_not_a_quarter():
    case = a_half_filled_row(hu=a_row(-1000, -500, 0, 0, -1000))
    assert_allclose(case.density, a_row(0, 0.5, 1, 1, 0))


def a_half_filled_row(*structures, hu=0.0):
    """Five voxels of 1 mm in a row: one of air, half a voxel and two voxels of patient, one of air."""
    grid = Grid.axial((1, 1, 5), 1.0, (0.0, 0.0, 0.0))
    body = Structure("Body", Role.EXTERNAL, a_row(0, 0.5, 1, 1, 0))
    ct = np.broadcast_to(np.asarray(hu, np.float32), grid.shape)
    return PatientCase("row", "HFS", grid, ct, (body, *structures), 1)


def a_row(*values):
    return np.array([[values]], np.float32)


def test_a_stated_density_takes_the_place_of_the_ct_by_share_within_the_patient():
    metal = Structure("Metal", Role.OTHER, a_row(0.5, 0.25, 1, 0.5, 0), density=3.0)
    assert_allclose(a_half_filled_row(metal).density, a_row(0, 0.25 + 0.75, 3, 0.5 + 1.5, 0))


@pytest.mark.parametrize("role", [Role.SUPPORT, Role.BOLUS])
def test_support_and_bolus_fill_what_the_patient_leaves_of_a_voxel(role):
    beside = Structure("Beside", role, a_row(1, 0.5, 0, 0, 0.25), density=0.6)
    assert_allclose(a_half_filled_row(beside).density, a_row(0.6, 0.5 + 0.3, 1, 1, 0.15))
    into = Structure("Beside", role, a_row(1, 0.75, 0.5, 0, 0), density=0.6)
    assert_allclose(a_half_filled_row(into).density, a_row(0.6, 0.25 + 0.45, 0.5 + 0.3, 1, 0))


def test_a_support_that_the_ct_shows_attenuates_as_it_shows_it():
    couch = Structure("Couch", Role.SUPPORT, a_row(0, 0, 0, 0.2, 0.5))
    assert_allclose(a_half_filled_row(couch, hu=a_row(-400, -500, 0, 0, -800)).density, a_row(0, 0.5, 1, 1, 0.2))


def test_of_overlapping_densities_the_smaller_structure_holds_in_any_order():
    large = Structure("Large", Role.ORGAN_AT_RISK, a_row(0, 0.5, 1, 1, 0), density=0.3)
    small = Structure("Small", Role.OTHER, a_row(0, 0, 0, 1, 0), density=2.0)
    for structures in ((large, small), (small, large)):
        assert_allclose(a_half_filled_row(*structures).density, a_row(0, 0.15, 0.3, 2.0, 0))


def test_of_overlapping_densities_of_equal_size_the_last_one_holds():
    first = Structure("First", Role.OTHER, a_row(0, 0, 1, 0, 0), density=0.3)
    last = Structure("Last", Role.OTHER, a_row(0, 0, 1, 0, 0), density=2.0)
    assert a_half_filled_row(first, last).density[0, 0, 2] == 2.0
    assert_allclose(a_half_filled_row(last, first).density[0, 0, 2], 0.3)


def test_a_couch_shell_and_its_foam_overlap_and_the_foam_holds_inside():
    shell = Structure("Couch", Role.SUPPORT, a_row(1, 0, 0, 0, 1), density=0.8)
    foam = Structure("Foam", Role.SUPPORT, a_row(0.5, 0, 0, 0, 0), density=0.1)
    assert_allclose(a_half_filled_row(shell, foam).density, a_row(0.45, 0.5, 1, 1, 0.8))


def test_densities_and_ct_of_another_voxel_size_are_averaged_alike():
    metal = Structure("Metal", Role.OTHER, a_row(0, 0, 0, 1, 0), density=3.0)
    case = a_half_filled_row(metal)
    coarse = case.resampled(5.0)
    assert_allclose(coarse.density.ravel(), [(2.5 - 1) / 5 + 3.0 / 5], rtol=1e-6)


def test_density_goes_through_the_table_of_the_case():
    table = HuTable("scanner", np.array([-1000.0, 0.0, 500.0]), np.array([0.0, 1.0, 2.0]))
    case = replace(a_uniform_phantom(an_oblique_grid()), hu_table=table)
    case = replace(case, ct_hu=np.full(case.grid.shape, 250.0, np.float32))
    assert_allclose(case.density, 1.5)


@pytest.mark.parametrize(
    ("hu", "density"),
    [(-1024, 0.0), (-1000, 0.0), (-750, 0.25), (0, 1.0), (50, 1.05), (100, 1.1), (1e3, 1.55), (3e3, 2.55), (9e3, 2.55)],
)  # fmt: skip
def test_the_generic_table_is_linear_between_its_rows_and_constant_outside(hu, density):
    assert_allclose(GENERIC_HU_TABLE.to_density(np.array([hu], np.float32)), [density], atol=1e-6)


@pytest.mark.parametrize(
    ("hu", "density", "message"),
    [
        ([0.0], [1.0], "two columns of equal length, at least two rows"),
        ([0.0, 1.0], [1.0], "two columns of equal length, at least two rows"),
        ([0.0, 0.0], [1.0, 1.1], "the HU column must increase"),
        ([0.0, 1.0], [-0.1, 1.1], "densities must not be negative"),
    ],
)
def test_a_wrong_hu_table_is_an_error(hu, density, message):
    with pytest.raises(ValueError, match=f"HU table 'scanner'.*{message}"):
        HuTable("scanner", np.array(hu), np.array(density))


def test_the_isocenter_is_the_centroid_of_the_union_of_the_prescribed_targets():
    case, center = a_ball_in_a_slab()
    assert_allclose(case.isocenter_lps(), center, atol=0.05)  # mm, a sphere drawn in voxels
    nested, _ = a_nested_case(apart_mm=0.0)
    assert_allclose(nested.isocenter_lps(), nested.grid.center_lps, atol=0.05)
    unprescribed = replace(case.structure("Ball"), name="Far", prescription_gy=None, fraction=case.external.fraction)
    assert_allclose(replace(case, structures=(*case.structures, unprescribed)).isocenter_lps(), center, atol=0.05)


def test_targets_come_highest_prescription_first():
    assert [t.name for t in a_case().targets] == ["PTV_60", "PTV_50"]


def test_a_union_holds_the_largest_share_of_each_voxel():
    case = a_case()
    both = union("both", case.targets)
    assert_array_equal(both.fraction, np.maximum(case.targets[0].fraction, case.targets[1].fraction))


def test_the_volume_is_that_of_the_shares():
    case, _ = a_ball_in_a_slab()
    assert_allclose(case.volume_cc(case.structure("Ball")), 4 / 3 * np.pi * 1.5**3, rtol=0.01)  # as drawn in voxels


def test_a_wrong_case_is_an_error():
    case = a_case()
    with pytest.raises(ValueError, match="Patient position 'SITTING' is not supported; use one of HFS, HFP, FFS, FFP"):
        replace(case, position="SITTING")
    with pytest.raises(ValueError, match=r"CT has shape \(26, 32, 43\), the grid \(26, 32, 44\)"):
        replace(case, ct_hu=case.ct_hu[..., 1:])
    with pytest.raises(ValueError, match="number of fractions must be at least 1, got 0"):
        replace(case, n_fractions=0)
    with pytest.raises(ValueError, match="Structure 'Tube' occurs more than once"):
        replace(case, structures=(*case.structures, case.structure("Tube")))
    short = Structure("Short", Role.OTHER, np.zeros((25, 32, 44), np.float32))
    with pytest.raises(
        ValueError, match=r"'Short': fraction has shape \(25, 32, 44\), the grid \(26, 32, 44\); resample"
    ):
        replace(case, structures=(short,))
    with pytest.raises(KeyError, match="No structure 'Rectum'; the case has Körper, PTV_50, PTV_60, Tube"):
        case.structure("Rectum")
