"""Contours as labels and channels: order, overlaps, and the avoidance structures in closed form."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.case import PatientCase
from deeprt.cohort.virtual_patient import VirtualPatientSettings, virtual_prostate
from deeprt.geometry import Grid
from deeprt.networks.contour_labels import GROUPS, contour_fractions, contour_labels
from deeprt.structures import Role, Structure

SHAPE = (12, 40, 36)
NAMES = tuple(GROUPS)
# Slices, rows and columns of each box; the rectum stands behind the target, the bladder in front of it.
BOXES = {
    "BODY": np.s_[0:12, 2:38, 2:34],
    "Bag_Bowel": np.s_[8:12, 6:12, 8:28],
    "Femur_Head_R": np.s_[3:7, 18:23, 4:8],
    "Femur_Head_L": np.s_[3:7, 18:23, 28:32],
    "PenileBulb": np.s_[1:3, 20:23, 16:20],
    "Rectum": np.s_[2:10, 26:30, 15:21],
    "Prostate": np.s_[4:7, 17:21, 14:22],
    "Bladder": np.s_[5:10, 8:14, 14:22],
    "PTV": np.s_[3:8, 16:22, 12:24],
}
ROLES = {"BODY": Role.EXTERNAL, "PTV": Role.TARGET, "Prostate": Role.OTHER}


def a_box(name):
    fraction = np.zeros(SHAPE, np.float32)
    fraction[BOXES[name]] = 1
    return fraction


def a_structure(name, fraction=None, **options):
    role = ROLES.get(name, Role.ORGAN_AT_RISK)
    organ = "" if name in ("BODY", "PTV") else name
    dose = 44.0 if role is Role.TARGET else None
    return Structure(name, role, a_box(name) if fraction is None else fraction, dose, organ, **options)


def a_case(names=tuple(BOXES), *others):
    grid = Grid.axial(SHAPE, (2.0, 2.5, 4.0), (-13.0, 57.0, 210.0))
    structures = (*(a_structure(name) for name in names), *others)
    return PatientCase("boxes", "HFS", grid, np.zeros(SHAPE, np.float32), structures, 20)


def label_of(group):
    return NAMES.index(group) + 1


def test_there_are_ten_groups_from_body_to_target():
    assert [label_of(g) for g in ("body", "avoidance", "bowel", "femoral_head_right", "femoral_head_left")] == [
        *range(1, 6)
    ]
    assert [label_of(g) for g in ("penile_bulb", "rectum", "prostate", "bladder", "target")] == [*range(6, 11)]


def test_of_overlapping_groups_the_later_one_is_kept():
    labels = contour_labels(a_case())
    drawn = {"body": "BODY", "bowel": "Bag_Bowel", "femoral_head_right": "Femur_Head_R", "rectum": "Rectum"}
    drawn |= {"femoral_head_left": "Femur_Head_L", "penile_bulb": "PenileBulb", "prostate": "Prostate"}
    expected = np.zeros(SHAPE, int)
    for group in NAMES:
        name = {"bladder": "Bladder", "target": "PTV"}.get(group, drawn.get(group))
        if name:
            expected[BOXES[name]] = label_of(group)
    elsewhere = labels != label_of("avoidance")
    assert labels.dtype == np.uint8
    assert_array_equal(labels[elsewhere], expected[elsewhere])
    assert_array_equal(np.unique(expected[~elsewhere]), label_of("body"))  # avoidance is made of nothing else here


def test_reversed_labels_count_down_over_the_same_regions():
    labels, reverse = contour_labels(a_case()), contour_labels(a_case(), reverse=True)
    assert_array_equal(reverse, np.where(labels > 0, 11 - labels, 0))
    assert reverse[BOXES["PTV"]].max() == 1 and reverse.max() == 10


def test_a_voxel_belongs_to_a_group_if_half_of_it_lies_inside():
    share = np.linspace(0, 1, SHAPE[0], dtype=np.float32)
    share[5] = 0.5
    rectum = np.broadcast_to(share[:, None, None], SHAPE).copy()
    labels = contour_labels(a_case(("BODY",), a_structure("Rectum", rectum)))
    assert_array_equal(labels[:, 20, 20] == label_of("rectum"), share >= 0.5)


def test_a_group_is_the_union_of_its_structures_and_keeps_their_fractions():
    half = np.full(SHAPE, 0.5, np.float32)
    colon = Structure("Colon", Role.ORGAN_AT_RISK, half, organ="Colon")
    nodes = Structure("Nodes", Role.TARGET, half, 40.0)
    fractions = contour_fractions(a_case(tuple(BOXES), colon, nodes))
    assert fractions.shape == (10, *SHAPE) and fractions.dtype == np.float32
    assert_allclose(fractions[NAMES.index("bowel")], np.maximum(a_box("Bag_Bowel"), half))
    assert_allclose(fractions[NAMES.index("target")], np.maximum(a_box("PTV"), half))
    assert_allclose(fractions[NAMES.index("prostate")], a_box("Prostate"))


def test_groups_follow_organs_and_roles_not_names():
    renamed = tuple(replace(s, name=f"Structure {n}") for n, s in enumerate(a_case().structures))
    assert_array_equal(contour_labels(replace(a_case(), structures=renamed)), contour_labels(a_case()))


def test_missing_organs_are_absent():
    fractions = contour_fractions(a_case(("BODY", "PTV")))
    assert [name for name, fraction in zip(NAMES, fractions, strict=True) if fraction.any()] == ["body", "target"]


def avoided(case):
    return contour_fractions(case)[NAMES.index("avoidance")].astype(bool)


def test_the_region_posterior_to_the_rectum_reaches_to_the_skin_in_slices_that_hold_target():
    expected = np.zeros(SHAPE, bool)
    expected[3:8, 30:38, 15:21] = True  # to the last row of the body
    found = avoided(a_case(("BODY", "Rectum", "PTV")))
    assert_array_equal(found[:, 30:], expected[:, 30:])


def test_the_cavity_is_the_hull_of_organs_and_target_without_them():
    bladder = np.zeros(SHAPE, np.float32)
    bladder[4:7, 8:13, 12:24] = 1  # as wide as the target, so that the hull of both is a box
    found = avoided(a_case(("BODY", "PTV"), a_structure("Bladder", bladder)))
    expected = np.zeros(SHAPE, bool)
    expected[4:7, 13:16, 12:24] = True
    assert_array_equal(found, expected)


def test_avoidance_stays_inside_the_body_and_out_of_organs_and_target():
    case = a_case()
    found = avoided(case)
    assert found.any() and found[BOXES["BODY"]].sum() == found.sum()
    for name in ("Bag_Bowel", "Rectum", "Bladder", "PTV"):
        assert not found[BOXES[name]].any()


@pytest.mark.parametrize("order", [*permutations(range(3))])
@pytest.mark.parametrize("flipped", [(), (0,), (1,), (0, 1, 2)])
def test_the_order_of_the_grids_axes_does_not_matter(order, flipped):
    case = a_case()

    def turned(volume):
        return np.ascontiguousarray(np.flip(volume, flipped).transpose(order))

    matrix = case.grid.index_to_lps.copy()
    for axis in flipped:
        matrix[:3, 3] += (SHAPE[axis] - 1) * matrix[:3, 2 - axis]
        matrix[:3, 2 - axis] *= -1
    matrix[:3, :3] = matrix[:3, [2 - order[2], 2 - order[1], 2 - order[0]]]
    structures = tuple(replace(s, fraction=turned(s.fraction)) for s in case.structures)
    grid = Grid(tuple(SHAPE[a] for a in order), matrix)
    other = replace(case, grid=grid, ct_hu=turned(case.ct_hu), structures=structures)
    assert_array_equal(contour_labels(other), turned(contour_labels(case)))


def test_a_virtual_patient_has_all_ten_groups():
    case = virtual_prostate(np.random.default_rng(1), VirtualPatientSettings(spacing_mm=5.0, nodes=True))
    fractions = contour_fractions(case)
    assert all((fraction >= 0.5).any() for fraction in fractions)
    volume_cc = fractions[NAMES.index("avoidance")].sum() * case.grid.voxel_volume_cc
    assert 100 < volume_cc < 1500  # some of the pelvis, not the most of it
