from dataclasses import replace

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from Core.dicom_tools import dciodvfy_errors, needs_dciodvfy
from Core.plan_samples import a_case, an_oblique_grid
from numpy.testing import assert_allclose

from deeprt.dicom.common import with_new_dicom_identity, write_dataset
from deeprt.dicom.write_images import ct_datasets


def an_exported_ct(case, folder):
    paths = [folder / f"CT.{k:03d}.dcm" for k in range(case.grid.shape[0])]
    for dataset, path in zip(ct_datasets(case), paths, strict=True):
        write_dataset(dataset, path)
    return paths


@pytest.mark.parametrize("left_handed", [False, True])
def test_simpleitk_finds_the_same_hounsfield_units_at_the_same_points(tmp_path, left_handed):
    case = with_new_dicom_identity(a_case(grid=an_oblique_grid(left_handed=left_handed)))
    an_exported_ct(case, tmp_path)
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path))
    image = sitk.ReadImage(files)
    for voxel in np.random.default_rng(1).integers(0, case.grid.n_voxels, 50):
        point = case.grid.points_lps(np.array([voxel]))[0]
        index = image.TransformPhysicalPointToContinuousIndex(point.tolist())
        assert_allclose(index, np.round(index), atol=1e-3)  # the series reader averages slice distances
        assert image[[round(x) for x in index]] == np.rint(case.ct_hu.ravel()[voxel])


def test_slices_share_one_series_and_have_their_own_identifiers(tmp_path):
    case = with_new_dicom_identity(a_case(position="FFS"))
    slices = [pydicom.dcmread(path) for path in an_exported_ct(case, tmp_path)]
    assert len({s.SeriesInstanceUID for s in slices}) == 1
    assert len({s.SOPInstanceUID for s in slices}) == case.grid.shape[0]
    assert {s.PatientPosition for s in slices} == {"FFS"}
    assert {s.FrameOfReferenceUID for s in slices} == {case.dicom.frame_of_reference_uid}


@pytest.mark.parametrize("bad", [40000.0, -40000.0, np.nan])
def test_hounsfield_units_beyond_sixteen_bits_are_refused(bad):
    case = with_new_dicom_identity(a_case())
    hu = case.ct_hu.copy()
    hu[1, 2, 3] = bad
    with pytest.raises(ValueError, match="CT values must lie in -32768 to 32767 HU"):
        ct_datasets(replace(case, ct_hu=hu))


@needs_dciodvfy
@pytest.mark.parametrize("position", ["HFS", "HFP", "FFS"])
def test_dciodvfy_finds_no_error_in_a_ct_slice(tmp_path, position):
    case = with_new_dicom_identity(a_case(position=position))
    path = an_exported_ct(case, tmp_path)[7]
    assert dciodvfy_errors(path, iod="CTImage") == []
