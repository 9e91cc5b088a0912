import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from Core.dicom_tools import dciodvfy_errors, needs_dciodvfy
from Core.plan_samples import a_case, a_dicom_identity, a_plan, an_oblique_grid
from numpy.testing import assert_allclose

from deeprt.dicom.common import write_dataset
from deeprt.dicom.write_dose import dose_dataset
from deeprt.dicom.write_plan import plan_dataset
from deeprt.geometry import Grid

ROUNDING = 1e-6  # float32 dose and 16-character scaling, relative


def an_exported_dose(case, dose_gy, folder):
    plan = plan_dataset(case, a_plan(case), label="sample", structure_set_uid="1.2.3")
    write_dataset(dose_dataset(case, dose_gy, plan), folder / "RTDOSE.dcm")
    return pydicom.dcmread(folder / "RTDOSE.dcm"), plan


def a_dose(case):
    return np.random.default_rng(4).uniform(0, 63.21, case.grid.shape).astype(np.float32)


def read_back(dataset):
    """Grid and dose as PS3.3 defines them: frame offsets run along the normal of rows and columns."""
    columns, rows = np.reshape(dataset.ImageOrientationPatient, (2, 3)).astype(float)
    offsets = np.array(dataset.GridFrameOffsetVector, float)
    matrix = np.eye(4)
    matrix[:3, 0] = columns * float(dataset.PixelSpacing[1])
    matrix[:3, 1] = rows * float(dataset.PixelSpacing[0])
    matrix[:3, 2] = np.cross(columns, rows) * (offsets[1] - offsets[0])
    matrix[:3, 3] = dataset.ImagePositionPatient
    return Grid(dataset.pixel_array.shape, matrix), dataset.pixel_array * float(dataset.DoseGridScaling)


def test_a_dose_on_an_oblique_grid_is_read_back_to_half_a_scaling_step(tmp_path):
    case = a_case(dicom=a_dicom_identity())
    dose = a_dose(case)
    dataset, _ = an_exported_dose(case, dose, tmp_path)
    grid, read = read_back(dataset)
    assert grid.same_as(case.grid)
    assert_allclose(read, dose, rtol=ROUNDING, atol=0.5 * float(dataset.DoseGridScaling))


def test_a_left_handed_grid_is_written_with_increasing_offsets_and_the_dose_stays_in_place(tmp_path):
    case = a_case(grid=an_oblique_grid(left_handed=True), dicom=a_dicom_identity())
    dose = a_dose(case)
    dataset, _ = an_exported_dose(case, dose, tmp_path)
    grid, read = read_back(dataset)
    assert np.all(np.diff(np.array(dataset.GridFrameOffsetVector, float)) > 0)
    assert_allclose(grid.points_lps(), case.grid.points_lps().reshape(*dose.shape, 3)[::-1].reshape(-1, 3), atol=1e-6)
    assert_allclose(read[::-1], dose, rtol=ROUNDING, atol=0.5 * float(dataset.DoseGridScaling))


@pytest.mark.parametrize("left_handed", [False, True])
def test_simpleitk_finds_the_same_counts_at_the_same_points(tmp_path, left_handed):
    case = a_case(grid=an_oblique_grid(left_handed=left_handed), dicom=a_dicom_identity())
    dose = a_dose(case)
    dataset, _ = an_exported_dose(case, dose, tmp_path)
    image = sitk.ReadImage(str(tmp_path / "RTDOSE.dcm"))
    step = float(dataset.DoseGridScaling)
    for k, j, i in np.argwhere(dose > 62.9)[:20]:
        point = case.grid.index_to_lps @ (i, j, k, 1)
        index = image.TransformPhysicalPointToIndex(point[:3].tolist())
        assert_allclose(image[index] * step, dose[k, j, i], rtol=ROUNDING, atol=0.5 * step)


def test_the_largest_dose_uses_the_whole_range(tmp_path):
    case = a_case(dicom=a_dicom_identity())
    dataset, _ = an_exported_dose(case, a_dose(case), tmp_path)
    assert dataset.pixel_array.max() == 65535


def test_no_dose_at_all_is_written_as_zeros(tmp_path):
    case = a_case(dicom=a_dicom_identity())
    dataset, _ = an_exported_dose(case, np.zeros(case.grid.shape, np.float32), tmp_path)
    assert float(dataset.DoseGridScaling) > 0
    assert not dataset.pixel_array.any()


def test_the_dose_is_that_of_the_whole_plan_and_says_which(tmp_path):
    case = a_case(dicom=a_dicom_identity())
    dataset, plan = an_exported_dose(case, a_dose(case), tmp_path)
    assert (dataset.DoseUnits, dataset.DoseType, dataset.DoseSummationType) == ("GY", "PHYSICAL", "PLAN")
    referenced = dataset.ReferencedRTPlanSequence[0]
    assert (referenced.ReferencedSOPClassUID, referenced.ReferencedSOPInstanceUID) == (
        plan.SOPClassUID,
        plan.SOPInstanceUID,
    )
    assert dataset.StudyInstanceUID == plan.StudyInstanceUID == case.dicom.study_instance_uid
    assert dataset.FrameOfReferenceUID == case.dicom.frame_of_reference_uid
    assert dataset.SeriesInstanceUID != plan.SeriesInstanceUID


def test_the_dose_of_some_beams_names_them_and_says_so(tmp_path):
    case = a_case(dicom=a_dicom_identity())
    plan = plan_dataset(case, a_plan(case), label="sample", structure_set_uid="1.2.3")
    comment = "WITHOUT beam 1 of the plan " + 50 * "x"
    write_dataset(dose_dataset(case, a_dose(case), plan, only_beams=(1, [2, 5]), comment=comment), tmp_path / "d.dcm")
    dataset = pydicom.dcmread(tmp_path / "d.dcm")
    assert (dataset.DoseSummationType, dataset.DoseComment) == ("BEAM", comment[:64])
    (group,) = dataset.ReferencedRTPlanSequence[0].ReferencedFractionGroupSequence
    assert group.ReferencedFractionGroupNumber == 1
    assert [b.ReferencedBeamNumber for b in group.ReferencedBeamSequence] == [2, 5]


@pytest.mark.parametrize(("bad", "message"), [(-0.01, "not negative"), (np.nan, "finite"), (np.inf, "finite")])
def test_a_dose_that_cannot_be_is_refused(bad, message):
    case = a_case(dicom=a_dicom_identity())
    dose = a_dose(case)
    dose[3, 4, 5] = bad
    with pytest.raises(ValueError, match=message):
        dose_dataset(case, dose, pydicom.Dataset())


def test_a_dose_on_another_grid_is_refused():
    case = a_case(dicom=a_dicom_identity())
    with pytest.raises(ValueError, match=r"shape \(3, 4, 5\), the grid of the case \(26, 32, 44\)"):
        dose_dataset(case, np.zeros((3, 4, 5), np.float32), pydicom.Dataset())


@needs_dciodvfy
@pytest.mark.parametrize("left_handed", [False, True])
def test_dciodvfy_finds_no_error_in_a_dose(tmp_path, left_handed):
    case = a_case(grid=an_oblique_grid(left_handed=left_handed), dicom=a_dicom_identity())
    an_exported_dose(case, a_dose(case), tmp_path)
    assert dciodvfy_errors(tmp_path / "RTDOSE.dcm", iod="RTDose") == []


@needs_dciodvfy
def test_dciodvfy_finds_no_error_in_the_dose_of_some_beams(tmp_path):
    case = a_case(dicom=a_dicom_identity())
    plan = plan_dataset(case, a_plan(case), label="sample", structure_set_uid="1.2.3")
    write_dataset(dose_dataset(case, a_dose(case), plan, only_beams=(1, [2])), tmp_path / "RTDOSE.dcm")
    assert dciodvfy_errors(tmp_path / "RTDOSE.dcm", iod="RTDose") == []
