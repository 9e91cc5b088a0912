from dataclasses import replace

import pydicom
import pytest
from Core.plan_samples import a_case, a_dicom_identity
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from deeprt.dicom.common import decimal, new_dataset, rounded, with_new_dicom_identity, write_dataset
from deeprt.dicom.write_images import ct_datasets


def test_a_case_without_identity_gets_fresh_uids_and_its_own_name():
    case = a_case()
    first, second = with_new_dicom_identity(case).dicom, with_new_dicom_identity(case).dicom
    assert first.patient_id == "sample case"
    assert first.study_instance_uid != second.study_instance_uid
    assert first.frame_of_reference_uid != second.frame_of_reference_uid
    assert case.dicom is None


def test_roi_numbers_are_given_to_all_structures_but_tuning_ones():
    assert with_new_dicom_identity(a_case()).dicom.roi_numbers == {
        "Körper": 1, "PTV_50": 2, "PTV_60": 3, "Tube": 4, "Marker": 5,
    }  # fmt: skip


def test_a_case_identifier_that_dicom_cannot_hold_is_made_to_fit():
    identity = with_new_dicom_identity(replace(a_case(), case_id="a\\b^c=" + "x" * 70)).dicom
    assert identity.patient_id == "a/b^c=" + "x" * 58
    assert identity.patient_name == "a/b c " + "x" * 58


def test_an_identity_from_the_input_is_not_replaced():
    with pytest.raises(ValueError, match="already has a DICOM identity"):
        with_new_dicom_identity(a_case(dicom=a_dicom_identity()))


def test_an_object_of_a_case_without_identity_names_the_remedy():
    with pytest.raises(ValueError, match="call with_new_dicom_identity first"):
        ct_datasets(a_case())


def test_every_attribute_of_the_input_study_is_repeated(tmp_path):
    identity = a_dicom_identity()
    dataset = new_dataset(a_case(dicom=identity), CTImageStorage, "CT", series_description="x", series_number=1)
    write_dataset(dataset, tmp_path / "object.dcm")
    read = pydicom.dcmread(tmp_path / "object.dcm")
    repeated = {
        "PatientName": identity.patient_name,
        "PatientID": identity.patient_id,
        "PatientBirthDate": identity.patient_birth_date,
        "PatientSex": identity.patient_sex,
        "StudyInstanceUID": identity.study_instance_uid,
        "StudyID": identity.study_id,
        "StudyDate": identity.study_date,
        "StudyTime": identity.study_time,
        "StudyDescription": identity.study_description,
        "AccessionNumber": identity.accession_number,
        "ReferringPhysicianName": identity.referring_physician_name,
        "FrameOfReferenceUID": identity.frame_of_reference_uid,
        "PositionReferenceIndicator": identity.position_reference_indicator,
    }
    assert {keyword: str(read[keyword].value) for keyword in repeated} == repeated


def test_files_are_written_in_explicit_little_endian_and_leave_the_dataset_alone(tmp_path):
    dataset = new_dataset(
        a_case(dicom=a_dicom_identity()), CTImageStorage, "CT", series_description="x", series_number=1
    )
    write_dataset(dataset, tmp_path / "object.dcm")
    read = pydicom.dcmread(tmp_path / "object.dcm")
    assert read.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert read.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert not hasattr(dataset, "file_meta")


@pytest.mark.filterwarnings("ignore:A value of type 'object'")
def test_a_failed_write_leaves_neither_a_new_file_nor_a_damaged_old_one(tmp_path):
    path = tmp_path / "object.dcm"
    path.write_bytes(b"the old file")
    dataset = new_dataset(
        a_case(dicom=a_dicom_identity()), CTImageStorage, "CT", series_description="x", series_number=1
    )
    dataset.add_new("PixelData", "OW", object())
    with pytest.raises((TypeError, AttributeError)):
        write_dataset(dataset, path)
    assert path.read_bytes() == b"the old file"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("value", [1 / 3, -1e-7 / 3, 12345.678901234567, 2e-300, 0.0, -123456789.123456789])
def test_decimals_keep_all_digits_that_fit(value):
    text = str(decimal(value))
    assert len(text) <= 16
    assert float(text) == pytest.approx(value, rel=1e-9)  # a negative exponent leaves ten digits


def test_rounding_keeps_the_order_of_opposing_leaves():
    assert rounded([1.004999, 1.005001, -0.004], 2) == [1.0, 1.01, 0.0]
