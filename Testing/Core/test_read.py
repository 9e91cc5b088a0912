import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from Core.dicom_samples import Roi, circle, ct_slices, file_name, rectangle, save, structure_set
from numpy.testing import assert_allclose
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, MRImageStorage

from deeprt.dicom.read import ReadOptions, read_case, read_hu_table
from deeprt.errors import InputError
from deeprt.geometry import Grid
from deeprt.resampling import average_onto
from deeprt.roles import StructureChoice
from deeprt.structures import Role

CASES = Path(__file__).parents[3] / "shared" / "cases"
SHAPE = (12, 26, 32)  # x from -62 to 62 mm, y from -50 to 50, z from 10 to 43
PLANES = tuple(range(10, 44, 3))
BODY = Roi("BODY", "EXTERNAL", rectangle((-50, 50), (-40, 40), PLANES))
PTV = Roi("PTV_60", "PTV", circle((12.0, -7.0), 14.0, PLANES[3:9]), color=(1, 2, 3))
RECTUM = Roi("rectum", "ORGAN", rectangle((5, 20), (15, 30), PLANES[2:9]))


def phantom() -> np.ndarray:
    """Water of 100 by 80 mm in air, with a hole, on a couch 8 mm thick."""
    x = -62 + 4 * np.arange(SHAPE[2])
    y = -50 + 4 * np.arange(SHAPE[1])
    water = (np.abs(y)[:, None] <= 40) & (np.abs(x) <= 50)
    water &= (np.abs(y)[:, None] > 7) | (np.abs(x + 20) > 7)
    couch = (y[:, None] > 46) & (np.abs(x) <= 60)
    return np.tile(np.where(water | couch, 0, -1000).astype(np.int16), (SHAPE[0], 1, 1))


def folder_of(tmp_path: Path, slices: list[Dataset], *rois: Roi, **frame: str) -> Path:
    save([*slices, structure_set(rois or (BODY, PTV, RECTUM), **frame)], tmp_path / "study")
    return tmp_path / "study"


@pytest.fixture
def slices():
    return ct_slices(phantom())


def refused(folder: Path, message: str, options: ReadOptions = ReadOptions()) -> None:  # noqa: B008 - frozen
    with pytest.raises(InputError, match=message) as caught:
        read_case(folder, options)
    assert "\n" not in str(caught.value)


# What a case holds


def test_a_case_has_the_ct_in_hu_on_its_own_grid(tmp_path, slices):
    case = read_case(folder_of(tmp_path, slices), ReadOptions(n_fractions=20))
    assert case.grid.same_as(Grid.axial(SHAPE, (4.0, 4.0, 3.0), (-62.0, -50.0, 10.0)))
    assert_allclose(case.ct_hu, phantom())
    assert (case.case_id, case.position, case.n_fractions, case.notes) == ("study", "HFS", 20, ())


def test_slices_lie_in_any_sub_folder_beside_files_that_are_not_dicom(tmp_path, slices):
    folder = folder_of(tmp_path, slices[::2])
    save(slices[1::2], folder / "more" / "deep")
    (folder / "notes.txt").write_text("no DICOM")
    (folder / "empty").write_bytes(b"")
    directory = Dataset()
    directory.file_meta = FileMetaDataset()
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.file_meta.MediaStorageSOPInstanceUID = "1.2"
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.FileSetID = "DISC"
    directory.save_as(folder / "DICOMDIR", enforce_file_format=True)
    assert_allclose(read_case(folder).ct_hu, phantom())


def test_files_without_preamble_and_transfer_syntax_are_read(tmp_path, slices):
    folder = folder_of(tmp_path, [])
    for n, data in enumerate(slices):
        data.file_meta.clear()
        data.save_as(folder / f"{n}.ima", implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert (folder / f"{n}.ima").read_bytes()[:2] == b"\x08\x00"
    assert_allclose(read_case(folder).ct_hu, phantom())


def test_structures_have_role_color_and_volume(tmp_path, slices):
    case = read_case(folder_of(tmp_path, slices))
    target = case.structure("PTV_60")
    assert (target.role, target.prescription_gy, target.color) == (Role.TARGET, 60.0, (1, 2, 3))
    assert (case.structure("rectum").role, case.structure("rectum").organ) == (Role.ORGAN_AT_RISK, "Rectum")
    assert case.external.name == "BODY"
    assert_allclose(case.volume_cc(target), np.pi * 14**2 * 18 / 1000, rtol=2e-3)
    assert_allclose(case.isocenter_lps(), (12.0, -7.0, 26.5), atol=0.05)


@pytest.mark.parametrize(
    ("position", "along_i", "along_j", "first"),
    [
        ("HFP", (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (62.0, 50.0, 10.0)),
        ("FFS", (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (62.0, -50.0, 43.0)),
        ("FFP", (1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (-62.0, 50.0, 43.0)),
    ],
)
@pytest.mark.parametrize("spacing_mm", [None, 3.5])
def test_a_structure_lies_where_it_was_drawn_in_every_position(tmp_path, position, along_i, along_j, first, spacing_mm):
    hu = phantom()[:, ::-1, ::-1] if position == "HFP" else phantom()
    slices = ct_slices(hu, along_i=along_i, along_j=along_j, first_voxel_lps=first, position=position)
    case = read_case(folder_of(tmp_path, slices), ReadOptions(spacing_mm=spacing_mm))
    assert case.position == position
    assert_allclose(case.isocenter_lps(), (12.0, -7.0, 26.5), atol=0.05)
    assert np.linalg.det(case.grid.index_to_lps) > 0


def test_another_voxel_size_keeps_box_center_mean_and_volumes(tmp_path, slices):
    folder = folder_of(tmp_path, slices)
    own, coarse = read_case(folder), read_case(folder, ReadOptions(spacing_mm=6.0))
    assert_allclose(coarse.grid.center_lps, own.grid.center_lps)
    assert_allclose(coarse.grid.spacing_mm, 6.0)
    assert coarse.ct_hu.dtype == np.float32
    for structure in own.structures:
        assert_allclose(coarse.volume_cc(coarse.structure(structure.name)), own.volume_cc(structure), rtol=5e-3)


def test_averaging_keeps_the_mean_and_a_linear_image():
    source = Grid.axial((12, 20, 18), (2.0, 1.5, 3.0), (-7.0, 4.0, 30.0))
    points = source.points_lps()
    linear = (3 * points[:, 0] - 2 * points[:, 1] + points[:, 2] + 7).reshape(source.shape).astype(np.float32)
    coarse = source.resampled((4.0, 4.5, 6.0))
    averaged = average_onto(linear, source, coarse)
    assert_allclose(averaged.mean(), linear.mean(), rtol=1e-5)
    for target in (coarse, source.resampled((1.3, 1.1, 2.2))):
        points = target.points_lps()
        expected = (3 * points[:, 0] - 2 * points[:, 1] + points[:, 2] + 7).reshape(target.shape)
        inner = (slice(2, -2),) * 3  # the outermost voxels reach beyond the image
        assert_allclose(average_onto(linear, source, target)[inner], expected[inner], atol=1e-3)


def test_the_identity_of_the_study_is_kept(tmp_path, slices):
    folder = folder_of(tmp_path, slices)
    dicom = read_case(folder).dicom
    assert dicom is not None
    assert (dicom.patient_name, dicom.patient_id, dicom.patient_birth_date) == ("Sample^Sam", "S1", "19500102")
    assert dicom.ct_series_uid == slices[0].SeriesInstanceUID
    assert dicom.ct_sop_instance_uids == tuple(s.SOPInstanceUID for s in slices)
    assert dicom.roi_numbers == {"BODY": 11, "PTV_60": 12, "rectum": 13}
    assert dicom.frame_of_reference_uid == "1.2.3.4"
    assert all(getattr(dicom, f.name) for f in fields(dicom))


def test_progress_rises_to_one_and_a_cancelled_read_ends(tmp_path, slices):
    fractions: list[float] = []

    class Recorder:
        def step(self, name: str, fraction: float, message: str = "") -> None:
            assert name == "Reading case"
            fractions.append(fraction)

    class Canceller:
        def step(self, name: str, fraction: float, message: str = "") -> None:
            if fraction > 0.5:
                raise KeyboardInterrupt

    folder = folder_of(tmp_path, slices)
    read_case(folder, progress=Recorder())
    assert_allclose(fractions, np.sort(fractions))
    assert fractions[-1] == 1.0
    with pytest.raises(KeyboardInterrupt):
        read_case(folder, progress=Canceller())


# What is assumed, made or dropped


def test_a_missing_external_is_made_from_the_ct_without_the_couch_and_with_its_hole(tmp_path, slices):
    case = read_case(folder_of(tmp_path, slices, PTV))
    assert case.notes == ("No structure is the external; 'BODY' was made from the CT above -400 HU.",)
    rows, columns = (
        np.flatnonzero(case.external.fraction[5].any(axis=1)),
        np.flatnonzero(case.external.fraction[5].any(axis=0)),
    )
    drawn = read_case(folder_of(tmp_path / "drawn", ct_slices(phantom()))).external.fraction[5] >= 0.5
    assert (rows[0], rows[-1]) == tuple(np.flatnonzero(drawn.any(axis=1))[[0, -1]])
    assert (columns[0], columns[-1]) == tuple(np.flatnonzero(drawn.any(axis=0))[[0, -1]])
    assert case.external.fraction[5, 12, 10] == 1  # in the hole
    assert case.density[:, 24:].max() == 0


def test_markers_points_and_empty_structures_are_left_out_with_a_note(tmp_path, slices):
    rois = (
        BODY,
        PTV,
        Roi("Iso", "ISOCENTER", [np.zeros((1, 3))], "POINT"),
        Roi("Seed", "", [np.zeros((1, 3))], "POINT"),
        Roi("Bladder", "ORGAN", []),
        Roi("Far", "ORGAN", rectangle((500, 510), (0, 5), [13, 16])),
    )
    case = read_case(folder_of(tmp_path, slices, *rois))
    assert [s.name for s in case.structures] == ["BODY", "PTV_60"]
    assert case.notes == (
        "Structure 'Iso' is left out: it marks a point or line (ISOCENTER).",
        "Structure 'Seed' is left out: it marks a point or line (no type).",
        "Structure 'Bladder' is empty and left out.",
        "Structure 'Far' is empty and left out.",
    )


def test_a_name_that_occurs_twice_gets_its_number(tmp_path, slices):
    case = read_case(folder_of(tmp_path, slices, BODY, PTV, RECTUM, RECTUM))
    assert [s.name for s in case.structures][2:] == ["rectum", "rectum (14)"]
    assert case.notes == ("A second structure 'rectum' is called 'rectum (14)'.",)


def test_a_ctv_is_the_target_where_no_ptv_is_and_a_note_says_so(tmp_path, slices):
    ctv = Roi("CTV_54", "CTV", PTV.contours)
    case = read_case(folder_of(tmp_path, slices, BODY, ctv))
    assert case.targets[0].prescription_gy == 54.0
    assert case.notes == ("Structure 'CTV_54' is planned as a target: no PTV, so the CTV is the target.",)


def test_localizers_are_ignored_with_a_note(tmp_path, slices):
    scout = ct_slices(phantom()[:1])[0]
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    case = read_case(folder_of(tmp_path, [*slices, scout]))
    assert case.notes == ("1 CT localizer image(s) were ignored.",)


def test_the_user_sets_role_organ_and_prescription(tmp_path, slices):
    choices = {
        "PTV_60": StructureChoice(prescription_gy=66.0),
        "rectum": StructureChoice(organ="Bowel_Small"),
        "Boost": StructureChoice(prescription_gy=70.0),
        "BODY": StructureChoice(role=Role.OTHER),
        "Shape": StructureChoice(role=Role.EXTERNAL),
    }
    boost, shape = Roi("Boost", "ORGAN", PTV.contours), Roi("Shape", "ORGAN", BODY.contours)
    folder = folder_of(tmp_path, slices, BODY, PTV, RECTUM, boost, shape)
    case = read_case(folder, ReadOptions(structures=choices))
    assert [(t.name, t.prescription_gy) for t in case.targets] == [("Boost", 70.0), ("PTV_60", 66.0)]
    assert case.structure("rectum").organ == "Bowel_Small"
    assert case.external.name == "Shape"
    assert case.structure("BODY").role is Role.OTHER
    assert case.notes == ()


def test_one_of_several_series_and_structure_sets_is_chosen_by_the_end_of_its_uid(tmp_path, slices):
    folder = folder_of(tmp_path, slices)
    save(ct_slices(phantom()[:, :, ::-1], frame_of_reference_uid="1.9"), folder)
    save([structure_set((BODY, Roi("PTV_50", "PTV", PTV.contours)), frame_of_reference_uid="1.9")], folder)
    first = next(p for p in folder.glob("RTSTRUCT*") if b"PTV_60" in p.read_bytes())
    chosen = ReadOptions(series_uid=slices[0].SeriesInstanceUID[-12:], structure_set_uid=first.stem[-8:])
    case = read_case(folder, chosen)
    assert case.targets[0].name == "PTV_60"
    assert_allclose(case.ct_hu, phantom())


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


# Real cases


@pytest.mark.skipif(not (CASES / "cort_prostate").is_dir(), reason="shared/cases/cort_prostate is not there")
def test_the_prostate_case_is_read():
    case = read_case(CASES / "cort_prostate", ReadOptions(spacing_mm=3.0))
    assert [(t.name, t.prescription_gy) for t in case.targets] == [("PTV_68", 68.0), ("PTV_56", 56.0)]
    organs = {s.organ: s.name for s in case.with_role(Role.ORGAN_AT_RISK)}
    assert set(organs) == {"Rectum", "Bladder", "PenileBulb", "Femur_Head_L", "Femur_Head_R"}
    assert [s.name for s in case.with_role(Role.OTHER)] == ["Lymph_Nodes", "prostate_bed"]
    assert case.external.name == "BODY"
    assert case.grid.index_to_lps[0, 3] < case.grid.center_lps[0]
    left = case.structure("Lt_femoral_head").centroid_index()[0]
    assert left > case.structure("Rt_femoral_head").centroid_index()[0]  # i runs towards the patient's left
    assert case.notes == ()


@pytest.mark.skipif(not (CASES / "tg119").is_dir(), reason="shared/cases/tg119 is not there")
def test_the_c_shape_phantom_is_read_and_its_outline_found_without_the_couch():
    options = ReadOptions(spacing_mm=3.0, structures={"BODY": StructureChoice(role=Role.OTHER)})
    case = read_case(CASES / "tg119", options)
    assert (case.structure("Core").organ, case.structure("OuterTarget").role) == ("Core", Role.TARGET)
    drawn, made = case.structure("BODY").fraction, case.external.fraction
    assert case.external.name == "BODY (CT)"
    overlap = 2 * np.minimum(drawn, made).sum() / (drawn.sum() + made.sum())
    assert overlap > 0.97  # Dice; the drawn outline runs along voxel faces of the 3 mm CT
    assert made[:, int(drawn.any(axis=(0, 2)).nonzero()[0][-1]) + 3 :].max() == 0


@pytest.mark.skipif(not (CASES / "dvh_benchmark").is_dir(), reason="shared/cases/dvh_benchmark is not there")
def test_a_fine_ct_with_several_structure_sets_is_read_with_a_choice(tmp_path):
    folder = tmp_path / "benchmark"
    shutil.copytree(CASES / "dvh_benchmark" / "ct", folder)
    shutil.copy(CASES / "dvh_benchmark" / "structures" / "Sphere_30_0.dcm", folder)
    options = ReadOptions(spacing_mm=2.0, structures={"Sphere_30_0": StructureChoice(prescription_gy=2.0)})
    case = read_case(folder, options)
    assert_allclose(case.volume_cc(case.targets[0]), 7.23838, rtol=0.02)
    assert_allclose(case.isocenter_lps(), (0.0, -6.0, 6.0), atol=0.05)
    assert_allclose(case.ct_hu, 0, atol=1e-4)
    assert "Structure 'POI_1' is left out" in case.notes[0]
