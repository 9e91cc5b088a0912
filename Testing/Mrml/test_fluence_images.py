import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import vtk
from Core.samples import a_field
from Mrml.samples import a_case, beams_of
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.beams import BeamAngles
from deeprt_mrml.coordinates import points_to_lps
from deeprt_mrml.fluence_images import (
    MapKind,
    fluence_image,
    fluence_of_image,
    fluence_of_plan,
    remove_fluence,
    show_fluence,
)
from deeprt_mrml.subject_hierarchy import plan_nodes
from deeprt_mrml.volumes import array_of

ISOCENTER_LPS = np.array([31.0, -204.5, 812.0])
X_EDGES = 2.5 * np.arange(-6, 9)
Y_EDGES = np.array([-40.0, -30.0, -20.0, -15.0, -10.0, -5.0, 0.0, 5.0, 15.0])  # leaves of 10 and of 5 mm


@pytest.fixture
def beam():
    return a_field(BeamAngles(281.5, 344.5, 95.0), ISOCENTER_LPS, X_EDGES, Y_EDGES)


@pytest.fixture
def fluence(beam):
    return np.random.default_rng(3).uniform(1, 9, beam.open_beamlets.shape)


def test_each_pixel_lies_where_the_beam_sees_its_beamlet(scene, beam, fluence):
    """Asked of MRML: the pixel's place in RAS, projected from the source, falls into the beamlet whose value it has."""
    (node,) = show_fluence(scene, "Plan", [beam], [fluence])
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    image = array_of(node)
    for _, row, column in np.ndindex(image.shape):
        point = points_to_lps(matrix.MultiplyPoint((column, row, 0, 1))[:3])
        u, v, distance = beam.project(point[None])
        assert distance[0] == pytest.approx(1000.0)
        beamlet = np.searchsorted(Y_EDGES, v[0]) - 1, np.searchsorted(X_EDGES, u[0]) - 1
        assert image[0, row, column] == np.float32(fluence[beamlet])


def test_the_image_covers_the_beamlets_and_keeps_the_integral_of_the_fluence(beam, fluence):
    values, grid = fluence_image(beam, fluence)
    assert values.shape == grid.shape == (1, 11, 14)
    assert_allclose(grid.spacing_mm, [2.5, 5.0, 1.0])
    area = np.outer(np.diff(Y_EDGES), np.diff(X_EDGES))
    assert values.sum() * 2.5 * 5 == pytest.approx((fluence * area).sum(), rel=1e-6)
    u, v, _ = beam.project(grid.center_lps[None])
    assert_allclose([u[0], v[0]], [(X_EDGES[0] + X_EDGES[-1]) / 2, (Y_EDGES[0] + Y_EDGES[-1]) / 2], atol=1e-9)


def test_a_map_of_other_beamlets_is_refused(beam, fluence):
    with pytest.raises(ValueError, match=r"Field: the fluence has shape \(8, 13\), its beamlets \(8, 14\)"):
        fluence_image(beam, fluence[:, 1:])


def test_all_beams_share_the_scale_of_the_highest(scene):
    beams = beams_of(a_case())
    maps = [np.full(b.open_beamlets.shape, top) for b, top in zip(beams, (3.0, 12.0, 7.0), strict=True)]
    nodes = show_fluence(scene, "Plan", beams, maps)
    scales = {(n.GetDisplayNode().GetWindowLevelMin(), n.GetDisplayNode().GetWindowLevelMax()) for n in nodes}
    assert scales == {(0.0, 12.0)}
    assert len({n.GetDisplayNode().GetColorNodeID() for n in nodes}) == 1
    (first, *_) = show_fluence(scene, "Plan", beams, maps, top_mu=20.0)
    assert first.GetDisplayNode().GetWindowLevelMax() == 20.0


def test_volumes_are_used_again_and_those_left_over_removed(scene):
    beams = beams_of(a_case())
    maps = [np.ones(b.open_beamlets.shape) for b in beams]
    nodes = show_fluence(scene, "Plan", beams, maps)
    show_fluence(scene, "Other", beams[:1], maps[:1])
    again = show_fluence(scene, "Plan", beams[:2], [2 * m for m in maps[:2]])
    assert again == nodes[:2]
    assert plan_nodes(scene, "Plan", "fluence/") == again
    assert_array_equal(array_of(again[1]), 2)
    assert len(plan_nodes(scene, "Other", "fluence/")) == 1


def test_no_fluence_at_all_has_a_scale_all_the_same(scene, beam):
    (node,) = show_fluence(scene, "Plan", [beam], [np.zeros(beam.open_beamlets.shape)])
    assert node.GetDisplayNode().GetWindowLevelMax() == 1.0


# Back from volumes


def test_a_map_comes_back_from_its_image(beam, fluence):
    values, _ = fluence_image(beam, fluence)
    assert_allclose(fluence_of_image(beam, values), fluence.astype(np.float32), rtol=1e-12)


def test_an_edited_image_gives_the_mean_of_each_beamlet(beam, fluence):
    values, _ = fluence_image(beam, fluence)
    values[0, 0, 3] += 5.0  # one of the two pixels of a leaf of 10 mm
    expected = fluence.astype(np.float32).astype(float)
    expected[0, 3] += 2.5
    assert_allclose(fluence_of_image(beam, values), expected, rtol=1e-6)


def test_an_image_of_other_pixels_is_refused(beam, fluence):
    values, _ = fluence_image(beam, fluence)
    with pytest.raises(ValueError, match=r"Field: the image has shape \(1, 11, 13\), the beam's \(1, 11, 14\)"):
        fluence_of_image(beam, values[:, :, 1:])


def test_the_maps_of_a_plan_are_those_of_its_volumes(scene):
    beams = beams_of(a_case())
    maps = [np.random.default_rng(n).uniform(0, 9, b.open_beamlets.shape) for n, b in enumerate(beams)]
    assert fluence_of_plan(scene, "Plan", beams) == ()
    nodes = show_fluence(scene, "Plan", beams, maps)
    nodes[1].SetName("Renamed")
    for found, expected in zip(fluence_of_plan(scene, "Plan", beams), maps, strict=True):
        assert_allclose(found, expected, rtol=1e-6)
    assert fluence_of_plan(scene, "Plan", beams, kind=MapKind.REFERENCE) == ()
    assert fluence_of_plan(scene, "Other", beams) == ()
    slicer.util.updateVolumeFromArray(nodes[2], np.zeros((1, 3, 3), np.float32))
    assert fluence_of_plan(scene, "Plan", beams) == ()


def test_a_plan_of_many_beams_does_not_mix_them_up(scene, beam):
    beams = [beam] * 12
    maps = [np.full(beam.open_beamlets.shape, float(n)) for n in range(12)]
    show_fluence(scene, "Plan", beams, maps)
    assert [m[0, 0] for m in fluence_of_plan(scene, "Plan", beams)] == list(range(12))


def test_differences_have_a_scale_that_is_symmetric_about_zero(scene, beam, fluence):
    (node,) = show_fluence(scene, "Plan", [beam], [fluence - 20], kind=MapKind.DIFFERENCE)
    display = node.GetDisplayNode()
    assert display.GetWindowLevelMin() == -display.GetWindowLevelMax()
    assert display.GetWindowLevelMax() == pytest.approx(20 - fluence.min())
    assert display.GetColorNode().GetName() == "DeepRT RdBu_r"
    remove_fluence(scene, "Plan", MapKind.FLUENCE)
    assert plan_nodes(scene, "Plan", "fluence difference/") == (node,)
    remove_fluence(scene, "Plan", MapKind.DIFFERENCE)
    assert plan_nodes(scene, "Plan") == ()
