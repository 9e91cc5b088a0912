import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import vtk
from Core.plan_samples import an_oblique_grid
from Core.samples import a_sphere
from Mrml.samples import a_case, a_rigid_transform
from numpy.testing import assert_allclose, assert_array_equal
from vtk.util.numpy_support import vtk_to_numpy

from deeprt.errors import InputError
from deeprt.geometry import Grid
from deeprt.roles import StructureChoice
from deeprt.structures import Role, Structure
from deeprt_mrml.cases import segmentation_from_case
from deeprt_mrml.coordinates import matrix_to_ras, points_to_ras
from deeprt_mrml.segments import add_segment, choices_of, segment_colors, segments_of, set_choices

RADIUS_MM = 20.0


@pytest.fixture
def segmentation(scene):
    return scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Contours")


def add_mask(segmentation, name, mask, grid):
    """A segment as another program makes it: a labelmap and nothing else."""
    return add_segment(segmentation, Structure(name, Role.OTHER, mask.astype(np.float32)), grid, (10, 20, 30))


def fraction_of(segmentation, name, grid):
    return next(s for s in segments_of(segmentation) if s.name == name).fraction_on(grid)


def a_finer_grid(factor=(3, 2, 4)):
    """Voxels of the oblique grid cut into smaller ones, along i, j and k."""
    grid, cut = an_oblique_grid(), np.array(factor)
    matrix = np.array(grid.index_to_lps)
    matrix[:3, 3] += matrix[:3, :3] @ ((1 - cut) / (2 * cut))
    matrix[:3, :3] /= cut
    return Grid(tuple(int(n * c) for n, c in zip(grid.shape, cut[::-1], strict=True)), matrix)


def test_a_finer_labelmap_counts_by_the_share_of_each_voxel(segmentation):
    grid, fine = an_oblique_grid(), a_finer_grid()
    mask = np.random.default_rng(1).random(fine.shape) < 0.3
    mask[:8] = False
    add_mask(segmentation, "Mesh", mask, fine)
    n_k, n_j, n_i = grid.shape
    expected = mask.reshape(n_k, 4, n_j, 2, n_i, 3).mean(axis=(1, 3, 5))
    assert_allclose(fraction_of(segmentation, "Mesh", grid), expected, atol=1e-6)


def test_a_labelmap_of_other_axes_keeps_its_volume_and_place(segmentation):
    grid = an_oblique_grid()
    center = np.add(grid.center_lps, (4.0, -3.0, 2.0))
    axial = Grid.axial((60, 60, 60), 1.5, center - 1.5 * 29.5)
    add_mask(segmentation, "Ball", a_sphere(axial, center, RADIUS_MM) >= 0.5, axial)
    fraction = fraction_of(segmentation, "Ball", grid)
    found = Structure("Ball", Role.OTHER, fraction)
    # Half a voxel of 1.5 mm on the surface averages out; what is left is the sampling at 3 x 3 x 3 points of a voxel.
    assert_allclose(fraction.sum() * grid.voxel_volume_cc, 4 / 3 * np.pi * RADIUS_MM**3 / 1000, rtol=0.01)
    assert_allclose(grid.index_to_lps[:3] @ [*found.centroid_index(), 1], center, atol=0.1)


def test_overlapping_segments_each_keep_all_of_theirs(segmentation):
    grid = an_oblique_grid()
    first = a_sphere(grid, grid.center_lps, 20.0) >= 0.5
    second = a_sphere(grid, np.add(grid.center_lps, (10.0, 0, 0)), 20.0) >= 0.5
    add_mask(segmentation, "First", first, grid)
    add_mask(segmentation, "Second", second, grid)
    segmentation.GetSegmentation().CollapseBinaryLabelmaps(False)
    assert (first & second).any()
    assert_array_equal(fraction_of(segmentation, "First", grid), first)
    assert_array_equal(fraction_of(segmentation, "Second", grid), second)


def test_segments_that_share_a_labelmap_are_told_apart_by_their_label(segmentation):
    grid = an_oblique_grid()
    masks = [a_sphere(grid, np.add(grid.center_lps, (shift, 0, 0)), 9.0) >= 0.5 for shift in (-20.0, 0.0, 20.0)]
    for n, mask in enumerate(masks):
        add_mask(segmentation, f"Node {n}", mask, grid)
    segmentation.GetSegmentation().CollapseBinaryLabelmaps(False)
    assert segmentation.GetSegmentation().GetNumberOfLayers() == 1
    for n, mask in enumerate(masks):
        assert_array_equal(fraction_of(segmentation, f"Node {n}", grid), mask)


def erase_a_voxel(mask):
    mask[tuple(np.argwhere(mask)[0])] = False


def erase_the_last_slice(mask):
    mask[np.nonzero(mask)[0].max()] = False


def move_a_voxel(mask):
    """The box that holds the labelmap and its volume stay as they are."""
    inside, (k, j, i) = np.argwhere(mask), np.argwhere(mask).min(axis=0)
    mask[tuple(inside[len(inside) // 2])] = False
    mask[k, j, i] = True


@pytest.mark.parametrize("edit", [erase_a_voxel, erase_the_last_slice, move_a_voxel])
def test_exact_shares_count_only_as_long_as_the_labelmap_is_theirs(scene, edit):
    case = a_case()
    segmentation = segmentation_from_case(scene, case)
    assert_array_equal(fraction_of(segmentation, "Rectum", case.grid), case.structure("Rectum").fraction)
    segment_id = segmentation.GetSegmentation().GetSegmentIdBySegmentName("Rectum")
    image = segmentation.GetSegmentation().GetSegment(segment_id).GetRepresentation("Binary labelmap")
    expected = case.structure("Rectum").fraction >= 0.5
    edit(expected)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = expected.ravel()  # as with a brush
    assert_array_equal(fraction_of(segmentation, "Rectum", case.grid), expected)


def test_a_structure_that_is_added_under_a_transform_lies_where_its_grid_says(scene, segmentation):
    case = a_case()
    transform, _ = a_rigid_transform(scene)
    segmentation.SetAndObserveTransformNodeID(transform.GetID())
    for name in ("Rectum", "Metal"):  # with and without exact shares
        add_segment(segmentation, case.structure(name), case.grid, (10, 20, 30))
        assert_allclose(
            fraction_of(segmentation, name, case.grid), case.structure(name).fraction, atol=1e-6, err_msg=name
        )


def test_a_labelmap_that_was_cut_to_its_content_still_has_its_exact_shares(scene):
    """As Slicer does when it edits or saves."""
    case = a_case()
    segmentation = segmentation_from_case(scene, case)
    segment_id = segmentation.GetSegmentation().GetSegmentIdBySegmentName("Bladder")
    image = segmentation.GetSegmentation().GetSegment(segment_id).GetRepresentation("Binary labelmap")
    extent = [0] * 6
    slicer.vtkOrientedImageDataResample.CalculateEffectiveExtent(image, extent)
    cut = slicer.vtkOrientedImageData()
    slicer.vtkOrientedImageDataResample.CopyImage(image, cut, extent)
    image.DeepCopy(cut)
    assert image.GetDimensions() != case.grid.shape[::-1]
    assert_array_equal(fraction_of(segmentation, "Bladder", case.grid), case.structure("Bladder").fraction)


def test_a_closed_surface_is_filled_on_a_finer_grid_and_the_node_stays_as_it_is(scene, segmentation):
    """An imported structure set has surfaces only; under a transform, to see that the filling takes it along."""
    grid = an_oblique_grid()
    transform, matrix = a_rigid_transform(scene)
    segmentation.SetAndObserveTransformNodeID(transform.GetID())
    center = np.add(grid.center_lps, (5.0, 4.0, -6.0))
    local = np.linalg.solve(matrix, [*points_to_ras(center), 1])[:3]
    sphere = vtk.vtkSphereSource()
    sphere.SetCenter(local)
    sphere.SetRadius(RADIUS_MM)
    sphere.SetThetaResolution(60)
    sphere.SetPhiResolution(60)
    sphere.Update()
    segment = slicer.vtkSegment()
    segment.SetName("Ball")
    segment.AddRepresentation("Closed surface", sphere.GetOutput())
    segmentation.GetSegmentation().SetSourceRepresentationName("Closed surface")
    segmentation.GetSegmentation().AddSegment(segment)
    fraction = fraction_of(segmentation, "Ball", grid)
    assert ((fraction > 0) & (fraction < 1)).any()
    assert_allclose(fraction.sum() * grid.voxel_volume_cc, 4 / 3 * np.pi * RADIUS_MM**3 / 1000, rtol=0.02)
    found = Structure("Ball", Role.OTHER, fraction)
    assert_allclose(grid.index_to_lps[:3] @ [*found.centroid_index(), 1], center, atol=0.2)
    assert not segmentation.GetSegmentation().ContainsRepresentation("Binary labelmap")


def test_a_segment_that_nobody_drew_has_nothing_to_draw(segmentation):
    segmentation.GetSegmentation().AddEmptySegment("", "Later")
    assert segments_of(segmentation)[0].fraction_on is None


def test_two_segments_of_one_name_are_refused(segmentation):
    for _ in range(2):
        segmentation.GetSegmentation().AddEmptySegment("", "Bladder")
    with pytest.raises(InputError, match="'Contours' has two segments called 'Bladder'; rename one"):
        segments_of(segmentation)


def test_choices_are_kept_with_the_segments_and_can_be_taken_back(segmentation):
    for name in ("PTV", "Couch"):
        segmentation.GetSegmentation().AddEmptySegment("", name)
    assert choices_of(segmentation) == {}
    choices = {
        "PTV": StructureChoice(Role.TARGET, "", 59.4),
        "Couch": StructureChoice(Role.SUPPORT, density=0.25),
    }
    set_choices(segmentation, choices)
    assert choices_of(segmentation) == choices
    set_choices(segmentation, {"Couch": StructureChoice()})
    assert choices_of(segmentation) == {"PTV": choices["PTV"]}
    with pytest.raises(KeyError, match="No segment 'GTV' in 'Contours'"):
        set_choices(segmentation, {"GTV": StructureChoice(Role.OTHER)})


def test_colors_are_those_of_the_structures_or_of_their_roles(scene):
    colors = segment_colors(segmentation_from_case(scene, a_case()))
    assert colors["PTV"] == (200, 30, 40)
    assert len(set(colors.values())) == len(colors)


def test_slices_show_outlines_and_the_external_lets_the_others_be_seen(scene):
    segmentation = segmentation_from_case(scene, a_case())
    display = segmentation.GetDisplayNode()
    assert not display.GetVisibility2DFill()
    segments = segmentation.GetSegmentation()
    opacity = {n: display.GetSegmentOpacity3D(segments.GetSegmentIdBySegmentName(n)) for n in ("BODY", "PTV")}
    assert opacity["BODY"] < 0.5 < opacity["PTV"]


def test_a_labelmap_lies_in_the_scene_where_its_structure_lies(scene):
    """The matrix is asked of MRML."""
    case = a_case()
    segmentation = segmentation_from_case(scene, case)
    matrix = vtk.vtkMatrix4x4()
    segmentation.GetSegmentation().GetNthSegment(4).GetRepresentation("Binary labelmap").GetImageToWorldMatrix(matrix)
    assert_allclose(slicer.util.arrayFromVTKMatrix(matrix), matrix_to_ras(case.grid.index_to_lps), atol=1e-9)
