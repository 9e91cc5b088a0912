import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pydicom
import pytest
import SimpleITK
from Core.pipeline_samples import QUICK, a_study, a_virtual_case, a_virtual_plan
from numpy.testing import assert_allclose

from deeprt.cli import main
from deeprt.config import read_config
from deeprt.dicom.check_plan import check_plan
from deeprt.dicom.read import ReadOptions, read_case
from deeprt.errors import InputError
from deeprt.export import check_output_folder, write_plan_folder
from deeprt.pipeline import plan_case
from deeprt.preparation import load_case

EVERY_PLAN = {"RTPLAN.dcm", "RTDOSE.dcm", "report.json", "report.html", "plan.toml"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Folder of the virtual patient's plan."""
    folder = tmp_path_factory.mktemp("export") / "plan"
    write_plan_folder(a_virtual_plan(), folder)
    return folder


@pytest.fixture(scope="module")
def from_dicom(tmp_path_factory):
    """Plan of the phantom that came from DICOM, and its study's folder."""
    study = a_study(tmp_path_factory.mktemp("study"))
    return plan_case(load_case(str(study), QUICK), QUICK), study


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# A case that did not come from DICOM


def test_the_study_of_a_virtual_patient_is_complete(written):
    assert {p.name for p in written.iterdir()} == EVERY_PLAN | {"CT", "RTSTRUCT.dcm"}
    assert len(list((written / "CT").iterdir())) == a_virtual_case().grid.shape[0]
    assert not [p for p in written.parent.rglob("*") if p.name.endswith(".part") or p.name.startswith(".")]


def test_all_files_of_the_study_refer_to_each_other(written):
    ct = [pydicom.dcmread(p) for p in sorted((written / "CT").iterdir())]
    structures, plan, dose = (pydicom.dcmread(written / n) for n in ("RTSTRUCT.dcm", "RTPLAN.dcm", "RTDOSE.dcm"))
    every = [*ct, structures, plan, dose]
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
        assert len({str(d[keyword].value) for d in every if keyword in d}) == 1, keyword
    assert len({d.SOPInstanceUID for d in every}) == len(every)
    frame = structures.ReferencedFrameOfReferenceSequence[0]
    series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert frame.FrameOfReferenceUID == ct[0].FrameOfReferenceUID
    assert {image.ReferencedSOPInstanceUID for image in series.ContourImageSequence} == {c.SOPInstanceUID for c in ct}
    assert plan.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == structures.SOPInstanceUID
    assert dose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == plan.SOPInstanceUID
    assert check_plan(plan) == ()


def test_the_exported_study_reads_back_as_the_same_case(written):
    case, again = a_virtual_case(), read_case(written)
    assert again.grid.same_as(case.grid)
    assert again.position == case.position
    assert_allclose(again.ct_hu, case.ct_hu, atol=0.51)  # rounded to whole Hounsfield units
    assert [t.name for t in again.targets] == [t.name for t in case.targets]
    assert not {"Ring", "Skin"} & {s.name for s in again.structures}


def test_the_dose_file_holds_the_dose_of_the_segments(written):
    dose, result = pydicom.dcmread(written / "RTDOSE.dcm"), a_virtual_plan()
    assert (dose.DoseSummationType, dose.DoseUnits) == ("PLAN", "GY")
    gy = dose.pixel_array * float(dose.DoseGridScaling)
    assert_allclose(gy, result.dose_gy, atol=0.51 * float(dose.DoseGridScaling))
    assert_allclose(dose.ImagePositionPatient, result.case.grid.points_lps(np.array([0]))[0], atol=1e-3)


def test_the_plan_file_holds_the_monitor_units_of_the_report(written):
    plan = pydicom.dcmread(written / "RTPLAN.dcm")
    report = json.loads((written / "report.json").read_text())
    metersets = [b.BeamMeterset for b in plan.FractionGroupSequence[0].ReferencedBeamSequence]
    assert_allclose(metersets, [b["mu"] for b in report["beams"]], rtol=1e-6)
    assert_allclose(sum(metersets), report["total_mu"], rtol=1e-6)
    assert plan.FractionGroupSequence[0].NumberOfFractionsPlanned == a_virtual_plan().case.n_fractions


def test_a_finer_ct_completes_the_study_with_the_volumes_of_its_structures(tmp_path):
    fine = load_case("virtual:prostate", replace(QUICK, dose_grid_mm=3.0))
    write_plan_folder(a_virtual_plan(), tmp_path / "plan", image_case=fine)
    again = read_case(tmp_path / "plan")
    assert again.grid.same_as(fine.grid)
    for structure in again.structures:
        expected = fine.volume_cc(fine.structure(structure.name))
        # Contours where half of a 3 mm voxel is filled cut the corners of small organs: 3 % of the rectum.
        assert_allclose(again.volume_cc(structure), expected, rtol=0.04, atol=0.5)
    plan, dose = (pydicom.dcmread(tmp_path / "plan" / n) for n in ("RTPLAN.dcm", "RTDOSE.dcm"))
    structures = pydicom.dcmread(tmp_path / "plan" / "RTSTRUCT.dcm")
    assert dose.FrameOfReferenceUID == structures.FrameOfReferenceUID
    assert plan.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == structures.SOPInstanceUID


def test_the_configuration_used_reads_back_equal(written):
    assert read_config(written / "plan.toml") == QUICK


def test_the_report_is_there_as_data_and_as_one_page(written):
    report = json.loads((written / "report.json").read_text())
    for key in ("beams", "total_mu", "objective", "metrics", "definitions", "goals", "dvh", "timing_s",
                "peak_memory_mb", "versions", "seed"):  # fmt: skip
        assert report[key] is not None, key
    assert {"numpy", "torch", "pydicom", "deeprt", "python"} <= set(report["versions"])
    page = (written / "report.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?https?:|url\(\s*["']?https?:|@import""", page)


# A case that came from DICOM


def test_a_study_that_came_from_dicom_is_completed_not_copied(from_dicom, tmp_path):
    result, study = from_dicom
    write_plan_folder(result, tmp_path / "plan")
    assert {p.name for p in (tmp_path / "plan").iterdir()} == EVERY_PLAN
    given = [pydicom.dcmread(p) for p in study.iterdir()]
    structures = next(d for d in given if d.Modality == "RTSTRUCT")
    ct = next(d for d in given if d.Modality == "CT")
    plan, dose = (pydicom.dcmread(tmp_path / "plan" / n) for n in ("RTPLAN.dcm", "RTDOSE.dcm"))
    assert plan.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == structures.SOPInstanceUID
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "FrameOfReferenceUID"):
        assert plan[keyword].value == dose[keyword].value == ct[keyword].value
    assert plan.StudyInstanceUID == dose.StudyInstanceUID == ct.StudyInstanceUID


# Nothing is lost


def test_a_folder_with_a_plan_is_refused_unless_it_may_be_replaced(written, tmp_path):
    with pytest.raises(InputError, match="already holds a plan; choose another folder or add --overwrite"):
        check_output_folder(written, overwrite=False)
    check_output_folder(written, overwrite=True)
    check_output_folder(tmp_path / "new", overwrite=False)
    (tmp_path / "notes.txt").write_text("other files are no plan")
    check_output_folder(tmp_path, overwrite=False)
    with pytest.raises(InputError, match="is a file; give a folder"):
        check_output_folder(tmp_path / "notes.txt", overwrite=True)


def test_a_plan_is_replaced_and_what_else_lies_there_stays(from_dicom, tmp_path):
    folder = tmp_path / "plan"
    write_plan_folder(a_virtual_plan(), folder)
    (folder / "notes.txt").write_text("mine")
    (folder / "pictures").mkdir()
    (folder / "pictures" / "a.png").write_bytes(b"png")
    before = contents(folder)
    write_plan_folder(a_virtual_plan(), folder)
    after = contents(folder)
    assert set(after) == set(before)
    assert {str(n) for n in after if after[n] == before[n]} >= {"notes.txt", "pictures/a.png"}
    plan = pydicom.dcmread(folder / "RTPLAN.dcm")
    assert (
        plan.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID
        == pydicom.dcmread(folder / "RTSTRUCT.dcm").SOPInstanceUID
    )


def test_a_plan_of_another_case_leaves_nothing_of_the_old_study(from_dicom, tmp_path):
    """The old CT and structure set would contradict the new plan."""
    folder = tmp_path / "plan"
    write_plan_folder(a_virtual_plan(), folder)
    write_plan_folder(from_dicom[0], folder)
    assert {p.name for p in folder.iterdir()} == EVERY_PLAN


def test_what_deeprt_did_not_write_is_never_replaced(from_dicom, tmp_path):
    """The output folder may be the one that the case came from."""
    result, study = from_dicom
    folder = tmp_path / "study"
    shutil.copytree(study, folder / "CT")
    structures = next((folder / "CT").glob("RTSTRUCT*"))
    structures.rename(folder / "RTSTRUCT.dcm")
    before = contents(folder)
    write_plan_folder(result, folder)
    assert before.items() <= contents(folder).items()
    before = contents(folder)
    with pytest.raises(InputError, match=r"was not written by DeepRT and would be replaced; choose another folder"):
        write_plan_folder(a_virtual_plan(), folder)
    assert contents(folder) == before


def test_an_inconsistent_plan_is_not_written(monkeypatch, tmp_path):
    monkeypatch.setattr("deeprt.export.check_plan", lambda plan: ("The plan has no fraction group.",))
    with pytest.raises(InputError, match="The RTPLAN would be inconsistent: The plan has no fraction group"):
        write_plan_folder(a_virtual_plan(), tmp_path / "plan")
    assert list(tmp_path.iterdir()) == []


# NRRD


def test_a_ct_in_nrrd_with_a_segmentation_of_slicer_is_planned_and_its_study_exported(tmp_path):
    spacing, origin, shape = (3.0, 3.0, 4.0), (-52.0, -61.0, 33.0), (14, 36, 40)
    hu = np.full(shape, -1000, np.int16)
    hu[:, 3:33, 3:37] = 10
    labels = np.zeros((*shape, 2), np.uint8)
    labels[:, 3:33, 3:37, 0] = 1
    labels[4:10, 14:22, 16:25, 1] = 2
    labels[4:10, 24:30, 16:25, 1] = 3
    images = [SimpleITK.GetImageFromArray(hu), SimpleITK.GetImageFromArray(labels, isVector=True)]
    for n, (name, layer) in enumerate((("Body", 0), ("PTV_50", 1), ("Rectum", 1))):
        for key, value in {"Name": name, "LabelValue": str(n + 1), "Layer": str(layer), "Color": "1 0 0"}.items():
            images[1].SetMetaData(f"Segment{n}_{key}", value)
    for image, name in zip(images, ("ct.nrrd", "ct.seg.nrrd"), strict=True):
        image.SetSpacing(spacing)
        image.SetOrigin(origin)
        SimpleITK.WriteImage(image, tmp_path / name)
    (tmp_path / "quick.toml").write_text("dose_grid_mm = 4\n[fluence]\nbeamlet_width_mm = 5\n")
    out = tmp_path / "out"
    arguments = ["plan", str(tmp_path / "ct.nrrd"), "--out", str(out), "--config", str(tmp_path / "quick.toml")]
    assert main([*arguments, "--beams", "3"]) == 0
    assert {p.name for p in out.iterdir()} == EVERY_PLAN | {"CT", "RTSTRUCT.dcm"}
    again = read_case(out, ReadOptions())
    assert again.grid.shape == shape
    assert_allclose(again.grid.spacing_mm, spacing)
    assert_allclose(again.ct_hu, hu, atol=0.51)
    assert_allclose(again.volume_cc(again.structure("PTV_50")), 6 * 8 * 9 * 0.036, rtol=0.02)
    assert_allclose(again.isocenter_lps(), (-52 + 3 * 20, -61 + 3 * 17.5, 33 + 4 * 6.5), atol=0.2)
