from dataclasses import replace

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from Mrml.samples import a_bend, a_case, a_rigid_transform, in_lps
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.dicom.external import external_from_ct
from deeprt.errors import InputError
from deeprt.geometry import Grid
from deeprt.roles import StructureChoice
from deeprt.structures import Role, Structure
from deeprt_mrml.cases import POSITION, case_from_nodes, ct_from_case, segmentation_from_case
from deeprt_mrml.coordinates import points_to_ras
from deeprt_mrml.volumes import volume_node

ROUNDING_MM = 1e-9


@pytest.fixture
def nodes(scene):
    """CT and segmentation of a case."""
    case = a_case()
    return ct_from_case(scene, case), segmentation_from_case(scene, case)


def assert_same_case(case, expected):
    assert case.case_id == expected.case_id
    assert case.position == expected.position
    assert case.n_fractions == expected.n_fractions
    assert case.grid.shape == expected.grid.shape
    assert_allclose(case.grid.index_to_lps, expected.grid.index_to_lps, atol=ROUNDING_MM)
    assert_array_equal(case.ct_hu, expected.ct_hu)
    assert [s.name for s in case.structures] == [s.name for s in expected.structures]
    for structure, original in zip(case.structures, expected.structures, strict=True):
        assert_array_equal(structure.fraction, original.fraction, err_msg=structure.name)
        for field in ("role", "organ", "prescription_gy", "density"):
            assert getattr(structure, field) == getattr(original, field), (structure.name, field)


@pytest.mark.parametrize("position", ["HFS", "FFP"])
def test_a_case_comes_back_from_its_nodes_as_it_was(scene, position):
    case = a_case(position)
    ct, segmentation = ct_from_case(scene, case), segmentation_from_case(scene, case)
    back = case_from_nodes(ct, segmentation, n_fractions=case.n_fractions)
    assert_same_case(back, case)
    assert back.structure("PTV").color == (200, 30, 40)


def test_a_case_under_one_transform_is_the_same_case_elsewhere(scene, nodes):
    transform, matrix = a_rigid_transform(scene)
    for node in nodes:
        node.SetAndObserveTransformNodeID(transform.GetID())
    case = a_case()
    moved = replace(case, grid=Grid(case.grid.shape, in_lps(matrix) @ case.grid.index_to_lps))
    assert_same_case(case_from_nodes(*nodes, n_fractions=20), moved)


def test_a_transform_on_the_segmentation_alone_moves_the_structures_on_the_ct(scene, nodes):
    """By two voxels along i and minus three along j, so that what is expected is known voxel by voxel."""
    case = a_case()
    shift_lps = case.grid.index_to_lps[:3, :3] @ [2, -3, 0]
    transform, _ = a_rigid_transform(scene, angles_deg=(0, 0, 0), shift_ras=shift_lps * (-1, -1, 1))
    nodes[1].SetAndObserveTransformNodeID(transform.GetID())
    moved = case_from_nodes(*nodes)
    for name in ("Rectum", "Metal"):
        expected = np.roll(case.structure(name).fraction, (0, -3, 2), (0, 1, 2))
        # Interpolated at centers of voxels, which rounding of the transform puts a little beside them.
        assert_allclose(moved.structure(name).fraction, expected, atol=1e-5, err_msg=name)
    assert_array_equal(moved.ct_hu, case.ct_hu)


def test_a_transform_on_the_ct_alone_moves_the_grid_and_the_structures_stay(scene, nodes):
    center = points_to_ras(a_case().grid.center_lps)
    transform, matrix = a_rigid_transform(scene, angles_deg=(0.0, 3.0, -8.0), about_ras=center, shift_ras=(4, -2, 6))
    nodes[0].SetAndObserveTransformNodeID(transform.GetID())
    moved, case = case_from_nodes(*nodes), a_case()
    assert_allclose(moved.grid.index_to_lps, in_lps(matrix) @ case.grid.index_to_lps, atol=ROUNDING_MM)
    for name in ("Rectum", "PTV"):
        there, here = moved.structure(name), case.structure(name)
        centroid, expected = (
            c.grid.index_to_lps[:3] @ [*s.centroid_index(), 1] for c, s in ((moved, there), (case, here))
        )
        assert_allclose(centroid, expected, atol=0.1)  # of voxels of 2.5 to 4 mm, by interpolation
        assert_allclose(moved.volume_cc(there), case.volume_cc(here), rtol=0.01)


def test_a_bent_segmentation_is_refused(scene, nodes):
    nodes[1].SetAndObserveTransformNodeID(a_bend(scene).GetID())
    with pytest.raises(InputError, match="'Phantom structures' lies under the transform 'Bend', which is not linear"):
        case_from_nodes(*nodes)


def test_another_grid_averages_ct_and_structures_as_the_case_does(nodes):
    case = a_case()
    grid = case.grid.resampled(6.0)
    coarse, expected = case_from_nodes(*nodes, grid=grid), case.resampled(6.0)
    assert coarse.grid is grid
    assert_allclose(coarse.ct_hu, expected.ct_hu, atol=1e-3)
    for s in expected.structures:
        # The box of whole voxels has no exact shares: at its faces points of a voxel are counted.
        tolerance = 0.1 if s.name == "Metal" else 1e-6
        assert_allclose(coarse.structure(s.name).fraction, s.fraction, atol=tolerance, err_msg=s.name)


def test_beyond_the_ct_there_is_air(scene, nodes):
    grid = a_case().grid
    shifted = np.array(grid.index_to_lps)
    shifted[:3, 3] += shifted[:3, :3] @ [20, 0, 0]
    ct_hu = case_from_nodes(*nodes, grid=Grid(grid.shape, shifted)).ct_hu
    assert_array_equal(ct_hu[:, :, -20:], -1000)
    assert_allclose(ct_hu[:, :, :-20], a_case().ct_hu[:, :, 20:], atol=0.01)  # interpolated a rounding off the centers


# Roles


def test_roles_are_proposed_from_names_where_none_is_kept(scene):
    case = a_case()
    ct, segmentation = ct_from_case(scene, case), segmentation_from_case(scene, case)
    for n in range(5):
        segment = segmentation.GetSegmentation().GetNthSegment(n)
        for tag in ("Role", "Organ", "PrescriptionGy", "Density"):
            segment.RemoveTag(f"DeepRT.{tag}")
    segmentation.GetSegmentation().GetNthSegment(3).SetName("PTV_5040cGy")
    structures = {s.name: s for s in case_from_nodes(ct, segmentation).structures}
    assert structures["BODY"].role is Role.EXTERNAL
    assert (structures["Rectum"].role, structures["Rectum"].organ) == (Role.ORGAN_AT_RISK, "Rectum")
    assert (structures["PTV_5040cGy"].role, structures["PTV_5040cGy"].prescription_gy) == (Role.TARGET, 50.4)
    assert (structures["Metal"].role, structures["Metal"].density) == (Role.OTHER, None)


def test_what_the_user_sets_goes_before_what_is_kept(nodes):
    choices = {
        "Rectum": StructureChoice(Role.TARGET, prescription_gy=45.0),
        "Metal": StructureChoice(Role.BOLUS, density=1.1),
    }
    case = case_from_nodes(*nodes, choices=choices)
    assert (case.structure("Rectum").role, case.structure("Rectum").prescription_gy) == (Role.TARGET, 45.0)
    assert (case.structure("Metal").role, case.structure("Metal").density) == (Role.BOLUS, 1.1)
    assert case.structure("PTV").prescription_gy == 60.0
    assert any("'Metal' has the relative electron density 1.1" in note for note in case.notes)


def test_a_choice_for_no_segment_is_refused(nodes):
    with pytest.raises(InputError, match="No structure 'Rektum' in this case; it has BODY, Rectum"):
        case_from_nodes(*nodes, choices={"Rektum": StructureChoice(Role.OTHER)})


def test_without_an_external_one_is_made_from_the_ct(scene):
    case = a_case()
    body = case.external.fraction
    case = replace(case, ct_hu=np.where(body > 0.5, 0, -1000).astype(np.float32), structures=case.structures[1:])
    made = case_from_nodes(ct_from_case(scene, case), segmentation_from_case(scene, case))
    assert made.external.name == "BODY"
    assert_array_equal(made.external.fraction, external_from_ct(case.ct_hu, case.grid))
    assert "No segment is the external; 'BODY' was made from the CT above -400 HU." in made.notes


def test_a_ct_of_air_without_an_external_is_refused(scene):
    case = a_case()
    case = replace(case, ct_hu=np.full_like(case.ct_hu, -1000), structures=case.structures[1:])
    with pytest.raises(InputError, match="No segment is the external, and the CT shows no patient"):
        case_from_nodes(ct_from_case(scene, case), segmentation_from_case(scene, case))


def test_an_empty_segment_is_left_out_and_said_so(scene):
    case = a_case()
    empty = Structure("Anus", Role.ORGAN_AT_RISK, np.zeros(case.grid.shape, np.float32))
    filled = replace(case, structures=(*case.structures, empty))
    back = case_from_nodes(ct_from_case(scene, filled), segmentation_from_case(scene, filled))
    assert [s.name for s in back.structures] == [s.name for s in case.structures]
    assert "Structure 'Anus' is empty and left out." in back.notes


# Position


def test_the_position_is_stated_by_the_caller_or_the_volume_or_assumed_with_a_note(nodes):
    ct, segmentation = nodes
    ct.SetAttribute(POSITION, "HFP")
    assert case_from_nodes(ct, segmentation).position == "HFP"
    assert case_from_nodes(ct, segmentation, position="FFS").position == "FFS"
    ct.RemoveAttribute(POSITION)
    case = case_from_nodes(ct, segmentation)
    assert case.position == "HFS"
    assert case.notes[0] == "'Phantom' does not state how the patient lay; head first supine (HFS) is assumed."


def test_a_position_that_cannot_be_planned_is_refused(nodes):
    nodes[0].SetAttribute(POSITION, "HFDR")
    with pytest.raises(InputError, match="Patient position 'HFDR' is not supported"):
        case_from_nodes(*nodes)


def test_integer_voxels_of_a_ct_are_hounsfield_units_too(scene, nodes):
    case = a_case()
    ct = volume_node(scene, "Integers", np.round(case.ct_hu).astype(np.int16), case.grid)
    assert_array_equal(case_from_nodes(ct, nodes[1]).ct_hu, np.round(case.ct_hu))
