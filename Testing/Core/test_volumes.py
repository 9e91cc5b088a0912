import numpy as np
import pytest
import SimpleITK
from numpy.testing import assert_allclose

from deeprt.dicom.read import ReadOptions, read_case
from deeprt.dicom.volumes import read_segmentation, sampled_fraction
from deeprt.errors import InputError
from deeprt.geometry import Grid
from deeprt.roles import StructureChoice
from deeprt.structures import Role

SHAPE = (12, 20, 24)


def image(values, *, spacing=(4.0, 4.0, 3.0), origin=(-40.0, -35.0, 7.0), degrees=0.0, is_vector=False):
    """A SimpleITK image whose axes are turned about S."""
    made = SimpleITK.GetImageFromArray(values, isVector=is_vector)
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    made.SetDirection([c, -s, 0, s, c, 0, 0, 0, 1])
    made.SetSpacing(spacing)
    made.SetOrigin(origin)
    return made


def name_segments(segmentation, *segments):
    """Segments of (name, label, layer), as 3D Slicer's header keeps them."""
    for n, (name, label, layer) in enumerate(segments):
        keys = {
            "Name": name,
            "LabelValue": str(label),
            "Layer": str(layer),
            "Color": "0.5 0.25 1",
            "ID": f"Segment_{n}",
        }
        for key, value in keys.items():
            segmentation.SetMetaData(f"Segment{n}_{key}", value)
    return segmentation


def grid_of(made) -> Grid:
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(made.GetDirection()).reshape(3, 3) * made.GetSpacing()
    matrix[:3, 3] = made.GetOrigin()
    return Grid(made.GetSize()[::-1], matrix)


@pytest.fixture
def ct_values():
    hu = np.full(SHAPE, -1000, np.int16)
    hu[:, 3:17, 3:21] = 20
    return hu


@pytest.fixture
def layers():
    """A body with a rectum in the first layer and a target over it in the second."""
    values = np.zeros((*SHAPE, 2), np.uint8)
    values[:, 3:17, 3:21, 0] = 1
    values[2:8, 12:15, 10:14, 0] = 4
    values[3:9, 8:12, 10:15, 1] = 2
    return values


def segmentation_of(layers, **where):
    segments = (("Body", 1, 0), ("PTV_60", 2, 1), ("Bladder", 3, 0), ("Rectum", 4, 0))
    return name_segments(image(layers, is_vector=True, **where), *segments)


@pytest.fixture
def a_folder(tmp_path, ct_values, layers):
    SimpleITK.WriteImage(image(ct_values), tmp_path / "scan.nrrd")
    SimpleITK.WriteImage(segmentation_of(layers), tmp_path / "plan.seg.nrrd")
    return tmp_path


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".nii", ".nii.gz"])
def test_a_ct_and_its_segmentation_are_read_in_every_format(a_folder, ct_values, layers, suffix):
    (a_folder / "scan.nrrd").unlink()
    SimpleITK.WriteImage(image(ct_values), a_folder / f"scan{suffix}")
    case = read_case(a_folder / f"scan{suffix}")
    assert (case.case_id, case.position, case.dicom) == ("scan", "HFS", None)
    assert "head first supine (HFS) is assumed" in case.notes[0]
    assert case.grid.same_as(Grid.axial(SHAPE, (4.0, 4.0, 3.0), (-40.0, -35.0, 7.0)))
    assert_allclose(case.ct_hu, ct_values)
    assert_allclose(case.structure("PTV_60").fraction, layers[..., 1] == 2)
    assert_allclose(case.external.fraction, layers[..., 0] == 1)
    assert_allclose(case.structure("Rectum").fraction, layers[..., 0] == 4)
    assert "Structure 'Bladder' is empty and left out." in case.notes
    assert case.structure("PTV_60").prescription_gy == 60.0
    assert case.structure("PTV_60").color == (128, 64, 255)


def test_a_cropped_finer_segmentation_keeps_its_volume_and_place(a_folder):
    values = np.zeros((14, 26, 30), np.uint8)
    values[2:12, 5:20, 4:27] = 1
    fine = image(values, spacing=(1.5, 2.0, 1.0), origin=(-3.3, -8.1, 15.2))
    SimpleITK.WriteImage(name_segments(fine, ("PTV", 1, 0)), a_folder / "plan.seg.nrrd")
    case = read_case(a_folder / "scan.nrrd")
    target = case.structure("PTV")
    assert_allclose(case.volume_cc(target), 10 * 15 * 23 * 3 / 1000, rtol=0.02)  # 3 to 4 lookups a voxel and axis
    weights = target.fraction.ravel() / target.fraction.sum()
    center = np.array([-3.3 + 1.5 * 15, -8.1 + 2 * 12, 15.2 + 6.5])
    assert_allclose(weights @ case.grid.points_lps(), center, atol=0.5)  # mm, half a step between lookups
    assert "No structure is the external; 'BODY' was made from the CT above -400 HU." in case.notes


def test_a_mask_on_an_oblique_grid_keeps_its_volume_and_place():
    tilt = np.deg2rad(25)
    rotation = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation @ np.diag([2.0, 1.5, 2.5]), (-14.2, 3.1, 8.8)
    mask_grid = Grid((10, 16, 12), matrix)
    mask = np.ones(mask_grid.shape, bool)
    grid = Grid.axial((40, 40, 40), (3.0, 2.5, 2.0), (-40.0, -40.0, -30.0))
    fraction = sampled_fraction(mask, mask_grid, grid)
    assert_allclose(fraction.sum() * 15, mask.size * 7.5, rtol=0.01)
    weights = fraction.ravel() / fraction.sum()
    assert_allclose(weights @ grid.points_lps(), mask_grid.center_lps, atol=0.05)
    assert fraction.min() == 0 and fraction.max() == 1


@pytest.mark.parametrize("ratio", [1, 2, 3, 4, 5])
def test_a_mask_on_an_even_multiple_of_the_grid_is_exact(ratio):
    grid = Grid.axial((5, 6, 7), 3.0, (1.0, 2.0, 3.0))
    mask_grid = grid.resampled(3.0 / ratio)
    mask = np.random.default_rng(4).random(mask_grid.shape) < 0.4
    expected = mask.reshape(5, ratio, 6, ratio, 7, ratio).mean(axis=(1, 3, 5))
    assert_allclose(sampled_fraction(mask, mask_grid, grid), expected, atol=1e-6)


def test_a_turned_ct_with_its_segmentation_is_read_as_it_lies(a_folder, ct_values, layers):
    turned = image(ct_values, degrees=20.0)
    SimpleITK.WriteImage(turned, a_folder / "scan.nrrd")
    SimpleITK.WriteImage(segmentation_of(layers, degrees=20.0), a_folder / "plan.seg.nrrd")
    case = read_case(a_folder / "scan.nrrd")
    assert case.grid.same_as(grid_of(turned))
    assert_allclose(case.structure("PTV_60").fraction, layers[..., 1] == 2)


def test_a_resampled_case_keeps_volumes_and_the_role_the_user_sets(a_folder):
    options = ReadOptions(spacing_mm=5.0, structures={"PTV_60": StructureChoice(prescription_gy=50.0)})
    case = read_case(a_folder / "scan.nrrd", options)
    assert_allclose(case.grid.spacing_mm, 5.0)
    assert_allclose(case.volume_cc(case.structure("PTV_60")), 6 * 4 * 5 * 48 / 1000, rtol=0.03)
    assert case.structure("PTV_60").prescription_gy == 50.0
    assert case.structure("Body").role is Role.EXTERNAL


def test_no_or_several_segmentations_are_listed(a_folder):
    (a_folder / "other.seg.nrrd").write_bytes((a_folder / "plan.seg.nrrd").read_bytes())
    with pytest.raises(InputError, match=r"exactly one segmentation .* found 'other.seg.nrrd', 'plan.seg.nrrd'"):
        read_case(a_folder / "scan.nrrd")
    for path in a_folder.glob("*.seg.nrrd"):
        path.unlink()
    with pytest.raises(InputError, match="found none"):
        read_case(a_folder / "scan.nrrd")


def test_the_segmentation_itself_is_no_case(a_folder):
    with pytest.raises(InputError, match="is a segmentation; give the CT"):
        read_case(a_folder / "plan.seg.nrrd")


def test_unreadable_geometry_is_named(a_folder):
    path = a_folder / "plan.seg.nrrd"
    data = path.read_bytes()
    path.write_bytes(b"".join(line for line in data.splitlines(keepends=True) if not line.startswith(b"space")))
    with pytest.raises(InputError, match=r"plan.seg.nrrd' does not say where it lies in the patient"):
        read_case(a_folder / "scan.nrrd")
    path.write_bytes(data.replace(b" (4,0,0)", b" (0,0,0)"))
    with pytest.raises(InputError, match=r"plan.seg.nrrd' cannot be read"):
        read_case(a_folder / "scan.nrrd")
    path.write_bytes(data[:-40])
    with pytest.raises(InputError, match=r"plan.seg.nrrd' cannot be read"):
        read_case(a_folder / "scan.nrrd")


def test_a_segmentation_without_names_labels_or_layers_is_refused(tmp_path, layers):
    path = tmp_path / "a.seg.nrrd"
    plain = image(layers[..., 0])
    SimpleITK.WriteImage(plain, path)
    with pytest.raises(InputError, match="names no segments"):
        read_segmentation(path)
    plain.SetMetaData("Segment0_Name", "PTV")
    SimpleITK.WriteImage(plain, path)
    with pytest.raises(InputError, match="has no valid Segment0_LabelValue"):
        read_segmentation(path)
    SimpleITK.WriteImage(name_segments(plain, ("PTV", 1, 2)), path)
    with pytest.raises(InputError, match="segment 'PTV' has label 1 in layer 2 of 1"):
        read_segmentation(path)
    SimpleITK.WriteImage(name_segments(plain, ("PTV", 1, 0), ("PTV", 2, 0)), path)
    with pytest.raises(InputError, match="two segments called 'PTV'"):
        read_segmentation(path)


def test_a_ct_of_vectors_or_of_four_dimensions_is_refused(a_folder, ct_values):
    SimpleITK.WriteImage(image(np.stack([ct_values] * 3, axis=-1), is_vector=True), a_folder / "scan.nrrd")
    with pytest.raises(InputError, match="has 3 values a voxel; a CT has one"):
        read_case(a_folder / "scan.nrrd")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((2, 4, 5, 6), np.int16), False), a_folder / "scan.nii")
    with pytest.raises(InputError, match="has 4 dimensions"):
        read_case(a_folder / "scan.nii")
