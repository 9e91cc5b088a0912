from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from deeprt.case import PatientCase
from deeprt.cohort.anatomy import AnatomyRanges, draw_anatomy
from deeprt.cohort.virtual_patient import VirtualPatientSettings, virtual_prostate
from deeprt.structures import Role

COARSE = VirtualPatientSettings(spacing_mm=4.0)
SEEDS = (0, 1, 2)
RANGES = {  # those of Docs/cohort.md, a little wider, since other patients on coarser voxels are held to them
    "Prostate / cc": (24, 82),
    "Seminal vesicles / cc": (3, 13),
    "PTV / cc": (65, 190),
    "Bladder / cc": (78, 405),
    "Rectum / cc": (39, 123),
    "Femoral head / cc": (95, 200),
    "Penile bulb / cc": (2.2, 7.6),
    "Nodal PTV / cc": (220, 420),
    "Body, left to right / mm": (315, 425),
    "Body, front to back / mm": (190, 285),
    "PTV to femoral head / mm": (20, 50),
    "Rectum inside the PTV / %": (0.5, 12),
    "Bladder inside the PTV / %": (0.3, 15),
}


@cache
def a_patient(seed: int = 0, settings: VirtualPatientSettings = COARSE) -> PatientCase:
    return virtual_prostate(np.random.default_rng(seed), settings)


def fraction(case: PatientCase, name: str) -> NDArray[np.float32]:
    return case.structure(name).fraction


def volume_cc(case: PatientCase, name: str) -> float:
    return case.volume_cc(case.structure(name))


def center_lps(case: PatientCase, name: str) -> NDArray[np.float64]:
    index = case.structure(name).centroid_index()
    return case.grid.index_to_lps[:3, :3] @ index + case.grid.index_to_lps[:3, 3]


def overlap_cc(case: PatientCase, name: str, other: str) -> float:
    """Least volume that two structures share, whatever lies where within the voxels."""
    both = np.maximum(fraction(case, name) + fraction(case, other) - 1, 0)
    return float(both.sum()) * case.grid.voxel_volume_cc


def test_the_same_seed_makes_the_same_patient() -> None:
    again = virtual_prostate(np.random.default_rng(0), COARSE)
    assert again.grid.same_as(a_patient().grid)
    assert_array_equal(again.ct_hu, a_patient().ct_hu)
    for first, second in zip(a_patient().structures, again.structures, strict=True):
        assert first.name == second.name
        assert_array_equal(first.fraction, second.fraction)


def test_another_seed_makes_another_patient() -> None:
    assert abs(volume_cc(a_patient(0), "Bladder") - volume_cc(a_patient(1), "Bladder")) > 5


def test_another_spacing_samples_the_same_anatomy() -> None:
    fine = a_patient(0, replace(COARSE, spacing_mm=2.5))
    for s in a_patient().structures:
        # Organs of a few cc span few voxels of 4 mm; their volume is known to a few percent of a cc.
        assert_allclose(volume_cc(fine, s.name), volume_cc(a_patient(), s.name), rtol=0.03, atol=0.3)
        assert_allclose(center_lps(fine, s.name), center_lps(a_patient(), s.name), atol=1.5)


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_have_the_volumes_drawn(seed: int) -> None:
    anatomy = draw_anatomy(np.random.default_rng(seed), COARSE.anatomy)
    drawn = {
        "Prostate": anatomy.prostate_cc,
        "Bladder": anatomy.bladder_cc,
        "Rectum": anatomy.rectum_cc,
        "PenileBulb": anatomy.penile_bulb_cc,
    }
    for name, cc in drawn.items():
        assert_allclose(volume_cc(a_patient(seed), name), cc, rtol=0.03, atol=0.5, err_msg=name)


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_do_not_overlap(seed: int) -> None:
    names = ("Prostate", "SeminalVes", "Bladder", "Rectum", "PenileBulb", "Bag_Bowel", "Femur_Head_L", "Femur_Head_R")
    for n, name in enumerate(names):
        for other in names[n + 1 :]:
            assert overlap_cc(a_patient(seed), name, other) < 0.05, (name, other)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_patient_lies_inside_the_grid_with_air_around(seed: int) -> None:
    case = a_patient(seed)
    body = case.external.fraction
    outside = int(15 / case.grid.spacing_mm[0])
    assert not body[:, :outside].any() and not body[:, -outside:].any()
    assert not body[:, :, :outside].any() and not body[:, :, -outside:].any()
    assert_allclose(case.ct_hu[:, :outside].mean(), -1000, atol=10)  # noise is cut off at -1024
    for s in case.structures:
        assert (s.fraction <= body + 1e-3).all(), s.name
        assert not s.is_empty, s.name


def test_the_grid_is_axial_and_not_centered_on_zero() -> None:
    grid = a_patient().grid
    assert_array_equal(grid.index_to_lps[:3, :3], np.eye(3) * 4.0)
    assert np.abs(grid.center_lps).max() > 1


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_lie_where_they_belong(seed: int) -> None:
    case = a_patient(seed)
    prostate = center_lps(case, "Prostate")
    _, bladder_y, bladder_z = center_lps(case, "Bladder") - prostate
    _, rectum_y, _ = center_lps(case, "Rectum") - prostate
    bulb_z = center_lps(case, "PenileBulb")[2] - prostate[2]
    left, right = center_lps(case, "Femur_Head_L") - prostate, center_lps(case, "Femur_Head_R") - prostate
    assert bladder_y < 5 and 30 < bladder_z < 80, "the bladder lies above and in front"
    assert 20 < rectum_y < 50, "the rectum lies behind"
    assert -70 < bulb_z < -30, "the penile bulb lies below"
    assert 90 < left[0] < 125 and -125 < right[0] < -90, "the patient's left is +x"
    assert center_lps(case, "Bag_Bowel")[2] > prostate[2] + 60


@pytest.mark.parametrize("seed", SEEDS)
def test_the_planning_target_reaches_a_little_into_rectum_and_bladder(seed: int) -> None:
    case = a_patient(seed)
    ptv = case.targets[0].name
    assert 0.3 < overlap_cc(case, ptv, "Rectum") < 0.25 * volume_cc(case, "Rectum")
    assert 0.3 < overlap_cc(case, ptv, "Bladder") < 0.25 * volume_cc(case, "Bladder")
    assert overlap_cc(case, ptv, "Femur_Head_L") == 0


def size_of(case: PatientCase) -> dict[str, list[float]]:
    """What the ranges are of; two values where there is a left and a right."""
    target, body = case.targets[0], case.external.fraction
    i, j, k = np.rint(target.centroid_index()).astype(int)
    spacing_mm = float(case.grid.spacing_mm[0])
    from_target = distance_transform_edt(target.fraction < 0.5, sampling=spacing_mm)
    heads = ("Femur_Head_L", "Femur_Head_R")
    organs = {name: fraction(case, name) for name in ("Rectum", "Bladder")}
    inside = {name: 100 * float((organ * target.fraction).sum() / organ.sum()) for name, organ in organs.items()}
    return {
        "Prostate / cc": [volume_cc(case, "Prostate")],
        "Seminal vesicles / cc": [volume_cc(case, "SeminalVes")],
        "PTV / cc": [case.volume_cc(target)],
        "Bladder / cc": [volume_cc(case, "Bladder")],
        "Rectum / cc": [volume_cc(case, "Rectum")],
        "Femoral head / cc": [volume_cc(case, head) for head in heads],
        "Penile bulb / cc": [volume_cc(case, "PenileBulb")],
        "Nodal PTV / cc": [case.volume_cc(t) for t in case.targets[1:]],
        "Body, left to right / mm": [float(body[k, j].sum()) * spacing_mm],
        "Body, front to back / mm": [float(body[k, :, i].sum()) * spacing_mm],
        "PTV to femoral head / mm": [float(from_target[fraction(case, head) >= 0.5].min()) for head in heads],
        "Rectum inside the PTV / %": [inside["Rectum"]],
        "Bladder inside the PTV / %": [inside["Bladder"]],
    }


@pytest.mark.parametrize("nodes", [False, True])
@pytest.mark.parametrize("seed", [11, 12, 13, 14])
def test_sizes_distances_and_overlaps_lie_in_the_ranges_stated(seed: int, nodes: bool) -> None:
    case = virtual_prostate(np.random.default_rng(seed), VirtualPatientSettings(spacing_mm=5.0, nodes=nodes))
    found = size_of(case)
    assert len(found["Nodal PTV / cc"]) == nodes
    for name, (low, high) in RANGES.items():
        assert all(low <= value <= high for value in found[name]), (name, found[name])


def test_margins_grow_the_target_less_behind() -> None:
    case = a_patient(3, VirtualPatientSettings(spacing_mm=2.0, margin_mm=8.0, margin_posterior_mm=4.0))
    clinical, planning = fraction(case, "CTV"), fraction(case, "PTV_60")
    assert (planning >= clinical - 1e-6).all()
    nearest = distance_transform_edt(clinical < 0.5, sampling=2.0, return_distances=False, return_indices=True)
    surface = np.argwhere((planning > 0.3) & (planning < 0.7))
    step = 2.0 * (surface - nearest[:, *surface.T].T)
    margin = np.linalg.norm(step, axis=1) - 1.0  # the clinical surface lies about half a voxel off its last center
    k, j, i = step.T / np.linalg.norm(step, axis=1)
    # Between voxel centers a distance is known to about a voxel.
    assert_allclose(np.median(margin[j > 0.95]), 4.0, atol=1.2)
    for elsewhere in (j < -0.95, i > 0.95, i < -0.95, k > 0.95, k < -0.95):
        assert_allclose(np.median(margin[elsewhere]), 8.0, atol=1.5)


def test_nodes_are_a_second_target_beside_the_first() -> None:
    case = a_patient(1, replace(COARSE, nodes=True, nodes_prescription_gy=44.0))
    assert [(t.name, t.prescription_gy) for t in case.targets] == [("PTV_60", 60.0), ("PTV_44", 44.0)]
    assert overlap_cc(case, "PTV_60", "PTV_44") < 1e-3
    assert 150 < volume_cc(case, "PTV_44") < 450
    right, left = np.array_split(fraction(case, "PTV_44").sum(axis=(0, 1)), 2)
    assert min(right.sum(), left.sum()) > 0.25 * (right.sum() + left.sum())


def test_tissues_have_their_hounsfield_units() -> None:
    case = a_patient(0, replace(COARSE, anatomy=AnatomyRanges(rectal_gas=(0.0, 0.0))))
    core = {name: case.ct_hu[fraction(case, name) > 0.999] for name in ("Bladder", "Prostate", "Femur_Head_L")}
    assert_allclose(core["Bladder"].mean(), 10, atol=8)
    assert_allclose(core["Prostate"].mean(), 40, atol=8)
    assert 250 < core["Femur_Head_L"].mean() < 600
    assert (case.ct_hu[fraction(case, "Rectum") > 0.999] > -300).all(), "no gas was asked for"


def test_noise_has_the_spread_asked_for() -> None:
    noisy, clean = a_patient(0, replace(COARSE, noise_hu=20.0)), a_patient(0, replace(COARSE, noise_hu=0.0))
    inside = clean.external.fraction > 0.99
    assert_allclose((noisy.ct_hu - clean.ct_hu)[inside].std(), 20.0, rtol=0.02)


def test_settings_reach_the_case() -> None:
    settings = replace(COARSE, inferior_mm=100.0, superior_mm=140.0, n_fractions=37, prescription_gy=74.0, air_mm=40.0)
    case = a_patient(0, settings)
    assert case.grid.shape[0] == 60
    assert case.grid.shape[2] > a_patient().grid.shape[2]
    assert (case.n_fractions, case.targets[0].name, case.targets[0].prescription_gy) == (37, "PTV_74", 74.0)


def test_an_unbent_patient_is_symmetric() -> None:
    still = AnatomyRanges(pitch_deg=(0, 0), roll_deg=(0, 0), yaw_deg=(0, 0), off_midline_mm=(0, 0))
    straight = a_patient(0, replace(COARSE, deformation_mm=0.0, anatomy=still))
    left, right = fraction(straight, "Femur_Head_L"), fraction(straight, "Femur_Head_R")
    assert_allclose(left[:, :, ::-1], right, atol=1e-3)
    bent = a_patient(0, replace(COARSE, anatomy=still))
    assert np.abs(fraction(bent, "Femur_Head_L")[:, :, ::-1] - fraction(bent, "Femur_Head_R")).max() > 0.2


def test_a_fixed_range_fixes_the_value() -> None:
    case = a_patient(5, replace(COARSE, anatomy=AnatomyRanges(bladder_cc=(210.0, 210.0))))
    assert_allclose(volume_cc(case, "Bladder"), 210.0, rtol=0.02)


def test_roles_and_organs_are_set() -> None:
    case = a_patient()
    assert case.external.name == "BODY"
    assert {s.organ for s in case.with_role(Role.ORGAN_AT_RISK)} == {
        "Rectum", "Bladder", "Femur_Head_L", "Femur_Head_R", "PenileBulb", "Bag_Bowel",
    }  # fmt: skip
    assert {s.name for s in case.with_role(Role.OTHER)} == {"CTV", "Prostate", "SeminalVes"}
    assert "virtual" in case.notes[0]


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"spacing_mm must lie in 1 to 5, got 0\.5"):
        VirtualPatientSettings(spacing_mm=0.5)
    with pytest.raises(ValueError, match="margin_posterior_mm must lie in 0 to 6, got 7"):
        VirtualPatientSettings(margin_mm=6.0, margin_posterior_mm=7.0)
    with pytest.raises(ValueError, match="nodes_prescription_gy must lie between 0 and the primary target's 60 Gy"):
        VirtualPatientSettings(nodes=True, nodes_prescription_gy=60.0)
    with pytest.raises(ValueError, match="Anatomy range 'fat_mm' must rise, got 20 to 10"):
        AnatomyRanges(fat_mm=(20, 10))
