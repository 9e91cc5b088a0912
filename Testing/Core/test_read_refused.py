import shutil

import numpy as np
import pytest
from Core.dicom_samples import Roi, circle, ct_slices, file_name, rectangle, save, structure_set
from Core.read_samples import BODY, CASES, PLANES, PTV, RECTUM, SHAPE, folder_of, phantom, refused
from numpy.testing import assert_allclose
from pydicom.uid import MRImageStorage

from deeprt.dicom.read import ReadOptions, read_case, read_hu_table
from deeprt.errors import InputError
from deeprt.roles import StructureChoice
from deeprt.structures import Role


@pytest.fixture
def slices():
    return ct_slices(phantom())


# What is refused


def test_a_folder_without_a_case_is_refused(tmp_path):
    refused(tmp_path / "nowhere", "does not exist; give a folder of DICOM files")
    refused(tmp_path, "is empty; give a folder with the CT")
    (tmp_path / "readme.txt").write_text("no DICOM here")
    refused(tmp_path, "holds no DICOM file among its 1 files")
    refused(tmp_path / "readme.txt", "is neither a folder of DICOM files nor a CT in NRRD or NIfTI")


def test_no_ct_or_mr_in_its_place_is_refused(tmp_path, slices):
    refused(folder_of(tmp_path, []), "holds no CT slices, only 1 of RTSTRUCT files")
    for data in slices:
        data.SOPClassUID, data.Modality = MRImageStorage, "MR"
    refused(folder_of(tmp_path / "mr", slices), "holds no CT slices, only 12 of MR, 1 of RTSTRUCT files")


def test_several_ct_series_are_listed(tmp_path, slices):
    other = ct_slices(phantom()[:7])
    folder = folder_of(tmp_path, [*slices, *other])
    refused(
        folder,
        rf"holds 2 CT series; choose one with --series UID.*{other[0].SeriesInstanceUID} \('planning', 7 slices\)",
    )
    refused(folder, "holds no CT series with a UID ending in '9.9.9'", ReadOptions(series_uid="9.9.9"))


def test_several_structure_sets_are_listed(tmp_path, slices):
    folder = folder_of(tmp_path, slices)
    other = structure_set((BODY, PTV))
    save([other], folder)
    expected = (
        rf"holds 2 structure sets; choose one with --structure-set UID.*{other.SOPInstanceUID} \('drawn', 20260102"
    )
    refused(folder, expected)
    refused(folder, "holds no structure sets with a UID ending in 'x'", ReadOptions(structure_set_uid="x"))


def test_a_ct_without_structures_is_refused(tmp_path, slices):
    save(slices, tmp_path)
    refused(tmp_path, r"has a CT but no structure set \(RTSTRUCT\)")
    empty = structure_set(())
    save([empty], tmp_path)
    refused(tmp_path, f"'{file_name(empty)}' holds no structures")


def test_a_structure_set_of_another_frame_of_reference_is_refused(tmp_path, slices):
    folder = folder_of(tmp_path, slices, frame_of_reference_uid="1.2.9")
    refused(folder, r"lies in the frame of reference 1\.2\.9, the CT in 1\.2\.3\.4; give the structure set")


def test_a_missing_slice_is_refused_with_its_place(tmp_path, slices):
    refused(
        folder_of(tmp_path, slices[:5] + slices[6:]),
        r"at z = 22 and 28 mm lie 6 mm apart, the others 3 mm: slices are miss",
    )


def test_uneven_slices_are_refused(tmp_path, slices):
    slices[4].ImagePositionPatient = [-62, -50, 21]
    refused(folder_of(tmp_path, slices), "lie 2 mm apart, the others 3 mm: resample the CT evenly")


def test_duplicated_slices_are_refused(tmp_path, slices):
    copy = ct_slices(phantom()[:1], first_voxel_lps=(-62.0, -50.0, 16.0))[0]
    copy.SeriesInstanceUID = slices[0].SeriesInstanceUID
    refused(folder_of(tmp_path, [*slices, copy]), "are duplicates: both lie at z = 16 mm")


def test_a_single_slice_is_refused(tmp_path, slices):
    refused(folder_of(tmp_path, slices[:1]), "has a single slice")


@pytest.mark.parametrize(
    "orientation",
    [
        [1, 0, 0, 0, np.cos(0.2), np.sin(0.2)],  # gantry tilt
        [0, 1, 0, 0, 0, -1],  # sagittal
        [np.cos(0.1), np.sin(0.1), 0, -np.sin(0.1), np.cos(0.1), 0],
    ],
)
def test_a_ct_that_is_not_axial_is_refused(tmp_path, slices, orientation):
    for data in slices:
        data.ImageOrientationPatient = [f"{v:.6f}" for v in orientation]
    refused(
        folder_of(tmp_path, slices), r"is not axial: its rows and columns run along .* \(gantry tilt or reformatted"
    )


def test_slices_sheared_by_a_tilted_gantry_are_refused(tmp_path, slices):
    for n, data in enumerate(slices):
        data.ImagePositionPatient = [-62, -50 + 0.6 * n, 10 + 3 * n]
    refused(folder_of(tmp_path, slices), r"is shifted by 6\.60 mm in its plane against the first \(gantry tilt\?\)")


def test_a_stated_tilt_of_axial_slices_is_noted(tmp_path, slices):
    for data in slices:
        data.GantryDetectorTilt = "12.5"
    assert "states a gantry tilt of 12.5°" in read_case(folder_of(tmp_path, slices)).notes[0]


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("ImageOrientationPatient", [-1, 0, 0, 0, 1, 0]), ("PixelSpacing", [4, 4.5]), ("Rows", 13), ("Columns", 64)],
)
def test_slices_that_differ_are_refused(tmp_path, slices, keyword, value):
    setattr(slices[7], keyword, value)
    refused(folder_of(tmp_path, slices), f"differ in {keyword}: .* all slices of a series must share it")


def test_slices_of_two_frames_of_reference_are_refused(tmp_path, slices):
    slices[7].FrameOfReferenceUID = "1.2.5"
    refused(folder_of(tmp_path, slices), "slices of the CT have 2 frames of reference")


@pytest.mark.parametrize("keyword", ["RescaleSlope", "ImagePositionPatient", "PixelSpacing"])
def test_a_slice_without_a_needed_attribute_is_refused(tmp_path, slices, keyword):
    delattr(slices[7], keyword)
    refused(folder_of(tmp_path, slices), f"CT slice '{file_name(slices[7])}' has no valid {keyword}")


@pytest.mark.parametrize(("position", "stated"), [("HFDL", "'HFDL'"), ("", "none")])
def test_an_unsupported_patient_position_is_refused(tmp_path, slices, position, stated):
    for data in slices:
        data.PatientPosition = position
    refused(folder_of(tmp_path, slices), rf"states the patient position {stated} .* one of HFS, HFP, FFS, FFP")


@pytest.mark.parametrize("share", [0.2, 0.8, 0.999])
def test_a_truncated_slice_is_refused(tmp_path, slices, share):
    folder = folder_of(tmp_path, slices)
    path = folder / file_name(slices[3])
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refused(folder, f"{path.name}.*(cannot be decoded|corrupt)")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_truncated_structure_set_is_refused(tmp_path, slices, share):
    folder = folder_of(tmp_path, slices)
    path = next(folder.glob("RTSTRUCT*"))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refused(folder, f"{path.name}.*looks like DICOM but is corrupt")


def test_a_corrupt_contour_is_refused(tmp_path, slices):
    folder = folder_of(tmp_path, slices)
    path = next(folder.glob("RTSTRUCT*"))
    path.write_bytes(path.read_bytes().replace(b"\\20\\15\\", b"\\2x\\15\\"))
    refused(folder, f"'{path.name}': a contour of 'rectum' is corrupt")


@pytest.mark.skipif(not (CASES / "corrupt").is_dir(), reason="shared/cases/corrupt is not there")
def test_a_corrupt_file_is_named_alone_or_among_good_ones(tmp_path, slices):
    message = r"RP_corrupted_by_CRLF.dcm' looks like DICOM but is corrupt or incomplete \(it ends too early\)"
    refused(CASES / "corrupt", message)
    folder = folder_of(tmp_path, slices)
    shutil.copy(CASES / "corrupt" / "RP_corrupted_by_CRLF.dcm", folder)
    refused(folder, message)


def test_no_target_is_refused_with_the_structures_to_choose_from(tmp_path, slices):
    refused(folder_of(tmp_path, slices, BODY, RECTUM), "No structure is a target; .* out of BODY, rectum")


def test_an_empty_target_is_refused(tmp_path, slices):
    boost = Roi("PTV_boost", "PTV", [])
    folder = folder_of(tmp_path, slices, BODY, PTV, boost)
    refused(folder, "Target 'PTV_boost' has no contours; draw it, or give it the role 'other'")
    other = ReadOptions(structures={"PTV_boost": StructureChoice(role=Role.OTHER)})
    assert read_case(folder, other).targets[0].name == "PTV_60"


def test_a_target_outside_the_ct_or_the_external_is_refused(tmp_path, slices):
    far = Roi("PTV", "PTV", circle((500, 0), 10, PLANES))
    refused(folder_of(tmp_path, slices, BODY, far), "Target 'PTV' lies outside the CT")
    half = Roi("PTV", "PTV", circle((50, 0), 10, PLANES[2:8]))
    expected = r"Target 'PTV' lies outside the external 'BODY' with 2\.\d cc \((48|49|50)%\)"
    refused(folder_of(tmp_path / "half", ct_slices(phantom()), BODY, half), expected)


def test_a_target_may_touch_the_external(tmp_path, slices):
    near = Roi("PTV", "PTV", rectangle((20, 50.05), (-30, 30), PLANES[2:8]))
    assert read_case(folder_of(tmp_path, slices, BODY, near)).with_role(Role.TARGET)


def test_a_ct_of_air_has_no_patient(tmp_path):
    air = ct_slices(np.full(SHAPE, -1000, np.int16))
    refused(folder_of(tmp_path, air, PTV), "the CT shows no patient above -400 HU; draw the external")


def test_wrong_choices_of_the_user_are_refused(tmp_path, slices):
    folder = folder_of(tmp_path, slices)

    def options(**choices: StructureChoice) -> ReadOptions:
        return ReadOptions(structures=choices)

    refused(
        folder, "No structure 'Rectum' in this case; it has BODY, PTV_60, rectum", options(Rectum=StructureChoice())
    )
    both = StructureChoice(role=Role.ORGAN_AT_RISK, prescription_gy=50.0)
    refused(folder, "'rectum' has a prescription but the role organ_at_risk", options(rectum=both))
    refused(
        folder, "the prescription must be positive, got -2 Gy", options(PTV_60=StructureChoice(prescription_gy=-2.0))
    )
    external = StructureChoice(role=Role.EXTERNAL)
    refused(
        folder, "Only one structure can be the external, not rectum and BODY", options(rectum=external, BODY=external)
    )
    with pytest.raises(InputError, match=r"voxel size must be within 0\.5 to 20 mm, got 0\.1 mm"):
        ReadOptions(spacing_mm=0.1)


def test_two_patient_ids_are_noted(tmp_path, slices):
    for data in slices:
        data.PatientID = "S2"
    assert "different patient IDs" in read_case(folder_of(tmp_path, slices)).notes[0]


# The scanner's calibration


def test_a_hu_table_is_read(tmp_path):
    path = tmp_path / "scanner.csv"
    path.write_text("hu,relative_electron_density\n-1000,0\n0,1.0\n1500,1.8\n\n")
    table = read_hu_table(path)
    assert table.name == "scanner.csv"
    assert_allclose(table.to_density(np.array([-500.0, 750.0], np.float32)), [0.5, 1.4])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hu,red\n0,1\nx,2\n", "must have one header line, then lines of two numbers"),
        ("hu,red\n0,1\n5\n", "must have one header line, then lines of two numbers"),
        ("hu,red\n0,1,2\n3,4,5\n", "must have one header line, then lines of two numbers"),
        ("hu,red\n0,1\n", "at least two rows"),
        ("", "at least two rows"),
        ("hu,red\n0,1\n0,2\n", "must increase from row to row"),
        ("hu,red\n0,-1\n5,2\n", "must not be negative"),
        ("hu,red\n0,nan\n5,2\n", "not finite"),
    ],
)
def test_a_wrong_hu_table_is_refused(tmp_path, text, message):
    path = tmp_path / "scanner.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_hu_table(path)


def test_a_missing_hu_table_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.csv' cannot be read"):
        read_hu_table(tmp_path / "nowhere.csv")
