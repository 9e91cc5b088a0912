import shutil
from dataclasses import fields

import numpy as np
import pytest
from Core.dicom_samples import Roi, ct_slices, rectangle, save, structure_set
from Core.read_samples import BODY, CASES, PTV, RECTUM, SHAPE, folder_of, phantom
from numpy.testing import assert_allclose
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from deeprt.dicom.read import ReadOptions, read_case
from deeprt.geometry import Grid
from deeprt.resampling import average_onto
from deeprt.roles import StructureChoice
from deeprt.structures import Role


@pytest.fixture
def slices():
    return ct_slices(phantom())


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
