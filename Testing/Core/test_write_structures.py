import numpy as np
import pydicom
import pytest
from Core.dicom_tools import dciodvfy_errors, needs_dciodvfy
from Core.plan_samples import TARGET_RADIUS_MM, TUBE_LENGTH_MM, TUBE_RADII_MM, a_case, a_dicom_identity, an_oblique_grid
from numpy.testing import assert_allclose
from skimage.draw import polygon2mask

from deeprt.dicom.common import with_new_dicom_identity, write_dataset
from deeprt.dicom.write_images import ct_datasets
from deeprt.dicom.write_structures import slice_contours, structure_set_dataset

OVERSAMPLING = 5


def an_exported_structure_set(case, folder, **options):
    ct = ct_datasets(case)
    write_dataset(structure_set_dataset(case, ct, **options), folder / "RTSTRUCT.dcm")
    return pydicom.dcmread(folder / "RTSTRUCT.dcm"), ct


def contours_of(dataset, name):
    """Contour points of a structure, one (n, 3) array each, LPS."""
    number = next(roi.ROINumber for roi in dataset.StructureSetROISequence if roi.ROIName == name)
    item = next(item for item in dataset.ROIContourSequence if item.ReferencedROINumber == number)
    return [np.reshape(c.ContourData, (-1, 3)).astype(float) for c in item.get("ContourSequence", [])]


def rasterized(grid, contours, *, combine):
    """Share of each voxel inside, from subvoxels whose center is inside; contours combined by ``combine``."""
    n = OVERSAMPLING
    shape = np.array(grid.shape[1:]) * n
    masks = np.zeros((grid.shape[0], *shape), bool)
    for points in contours:
        index = grid.lps_to_index(points)
        assert_allclose(index[:, 2], np.round(index[0, 2]), atol=0.01)  # in the plane of a slice
        k = round(index[0, 2])
        masks[k] = combine(masks[k], polygon2mask(shape, (index[:, 1::-1] + 0.5) * n - 0.5))
    return masks.reshape(grid.shape[0], grid.shape[1], n, grid.shape[2], n).mean(axis=(2, 4))


@pytest.mark.parametrize("left_handed", [False, True])
@pytest.mark.parametrize("combine", [np.logical_xor, np.logical_or])
@pytest.mark.parametrize("name", ["Körper", "PTV_50", "Tube"])
def test_structures_keep_volume_and_place_however_contours_are_combined(tmp_path, name, combine, left_handed):
    case = with_new_dicom_identity(a_case(grid=an_oblique_grid(left_handed=left_handed)))
    dataset, _ = an_exported_structure_set(case, tmp_path)
    original = case.structure(name).fraction
    read = rasterized(case.grid, contours_of(dataset, name), combine=combine)
    assert_allclose(read.sum(), original.sum(), rtol=0.03)  # whole slices, straight lines between isoline points
    assert np.abs(read - original).sum() / original.sum() < 0.12  # partial end slices and subvoxels only


def test_a_contoured_disk_has_its_analytic_radius_to_a_tenth_of_a_voxel():
    j, i = np.mgrid[:60, :50]
    disk = np.clip(0.5 + 17.3 - np.hypot(j - 29.4, i - 24.7), 0, 1).astype(np.float32)
    (contour,) = slice_contours(disk)
    assert_allclose(np.hypot(contour[:, 0] - 29.4, contour[:, 1] - 24.7), 17.3, atol=0.1)


def test_a_cavity_is_joined_by_a_keyhole_and_an_island_in_it_stands_alone():
    j, i = np.mgrid[:60, :60]
    radius = np.hypot(j - 30, i - 30)
    shape = (np.clip(25.5 - radius, 0, 1) - np.clip(15.5 - radius, 0, 1) + np.clip(5.5 - radius, 0, 1)).astype(
        np.float32
    )
    island, ring = slice_contours(shape)
    assert_allclose(np.hypot(*(island - 30).T), 5, atol=0.1)
    distances = np.hypot(*(ring - 30).T)
    assert distances.min() < 15.1
    assert distances.max() > 24.9
    following = np.roll(ring, -1, axis=0)
    area = abs((ring[:, 0] * following[:, 1] - ring[:, 1] * following[:, 0]).sum() / 2)
    assert_allclose(area, np.pi * (25**2 - 15**2), rtol=0.01)


def test_a_region_at_the_edge_of_the_image_has_a_closed_outline():
    fraction = np.zeros((8, 9), np.float32)
    fraction[:4, 3:] = 1
    (contour,) = slice_contours(fraction)
    assert_allclose(contour.min(axis=0), [-0.5, 2.5])
    assert_allclose(contour.max(axis=0), [3.5, 8.5])


def test_contours_never_exceed_what_one_attribute_holds():
    comb = np.zeros((40, 1500), np.float32)
    comb[:, ::2] = 1
    comb[0] = 1
    (contour,) = slice_contours(comb)
    assert 500 < len(contour) <= 2000  # each of the 750 teeth has at least four corners


def test_contours_refer_to_the_ct_slice_in_whose_plane_they_lie(tmp_path):
    case = with_new_dicom_identity(a_case())
    dataset, ct = an_exported_structure_set(case, tmp_path)
    origin = {s.SOPInstanceUID: np.array(s.ImagePositionPatient, float) for s in ct}
    normal = case.grid.index_to_lps[:3, 2] / case.grid.spacing_mm[2]
    for item in dataset.ROIContourSequence:
        for contour in item.get("ContourSequence", []):
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
            points = np.reshape(contour.ContourData, (-1, 3)).astype(float)
            assert contour.NumberOfContourPoints == len(points)
            uid = contour.ContourImageSequence[0].ReferencedSOPInstanceUID
            assert_allclose((points - origin[uid]) @ normal, 0, atol=0.01)  # coordinates have two decimals


def test_the_structure_set_refers_to_the_ct_series_and_frame_of_reference(tmp_path):
    case = with_new_dicom_identity(a_case())
    dataset, ct = an_exported_structure_set(case, tmp_path)
    (frame,) = dataset.ReferencedFrameOfReferenceSequence
    (study,) = frame.RTReferencedStudySequence
    (series,) = study.RTReferencedSeriesSequence
    assert frame.FrameOfReferenceUID == case.dicom.frame_of_reference_uid
    assert study.ReferencedSOPInstanceUID == case.dicom.study_instance_uid
    assert series.SeriesInstanceUID == ct[0].SeriesInstanceUID != dataset.SeriesInstanceUID
    assert [i.ReferencedSOPInstanceUID for i in series.ContourImageSequence] == [s.SOPInstanceUID for s in ct]


def test_types_follow_roles_and_tuning_structures_stay_at_home(tmp_path):
    case = with_new_dicom_identity(a_case())
    dataset, _ = an_exported_structure_set(case, tmp_path)
    names = {roi.ROINumber: roi.ROIName for roi in dataset.StructureSetROISequence}
    types = {names[o.ReferencedROINumber]: o.RTROIInterpretedType for o in dataset.RTROIObservationsSequence}
    assert types == {"Körper": "EXTERNAL", "PTV_50": "PTV", "PTV_60": "PTV", "Tube": "ORGAN", "Marker": ""}


def test_tuning_structures_are_written_on_request(tmp_path):
    case = with_new_dicom_identity(a_case())
    dataset, _ = an_exported_structure_set(case, tmp_path, with_tuning=True)
    assert dataset.StructureSetROISequence[-2].ROIName == "Ring"
    assert dataset.RTROIObservationsSequence[-2].RTROIInterpretedType == "CONTROL"


def test_structures_keep_their_numbers_and_new_ones_follow(tmp_path):
    dataset, _ = an_exported_structure_set(a_case(dicom=a_dicom_identity()), tmp_path)
    numbers = {roi.ROIName: roi.ROINumber for roi in dataset.StructureSetROISequence}
    assert numbers == {"Körper": 3, "PTV_50": 12, "PTV_60": 7, "Tube": 13, "Marker": 14}


def test_structures_keep_their_colors_and_others_get_one(tmp_path):
    dataset, _ = an_exported_structure_set(with_new_dicom_identity(a_case()), tmp_path)
    colors = [list(item.ROIDisplayColor) for item in dataset.ROIContourSequence]
    assert colors[1] == [255, 0, 0]
    assert len({tuple(c) for c in colors}) == len(colors)


def test_an_empty_structure_is_listed_without_contours(tmp_path):
    dataset, _ = an_exported_structure_set(with_new_dicom_identity(a_case()), tmp_path)
    assert contours_of(dataset, "Marker") == []


def test_a_ct_slice_off_the_grid_is_refused():
    case = with_new_dicom_identity(a_case())
    ct = ct_datasets(case)
    ct[5].ImagePositionPatient = [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="is no slice of the case's grid"):
        structure_set_dataset(case, ct)


def test_a_missing_ct_slice_is_refused():
    case = with_new_dicom_identity(a_case())
    ct = ct_datasets(case)
    with pytest.raises(ValueError, match="lacks 2 slices of the case's grid, first slice 4"):
        structure_set_dataset(case, ct[:4] + ct[6:])


@needs_dciodvfy
@pytest.mark.parametrize("position", ["HFS", "HFP", "FFS"])
def test_dciodvfy_finds_no_error_in_a_structure_set(tmp_path, position):
    case = with_new_dicom_identity(a_case(position=position))
    an_exported_structure_set(case, tmp_path)
    assert dciodvfy_errors(tmp_path / "RTSTRUCT.dcm", iod="RTStructureSet") == []


def test_the_sample_structures_are_what_their_constants_say():
    case = a_case()
    assert_allclose(case.volume_cc(case.structure("PTV_50")), 4 / 3 * np.pi * TARGET_RADIUS_MM**3 / 1000, rtol=0.03)
    inner, outer = TUBE_RADII_MM
    assert_allclose(
        case.volume_cc(case.structure("Tube")), np.pi * (outer**2 - inner**2) * TUBE_LENGTH_MM / 1000, rtol=0.03
    )
