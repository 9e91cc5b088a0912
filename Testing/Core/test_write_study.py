from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from Core.plan_samples import a_case, a_plan
from numpy.testing import assert_allclose

from deeprt.dicom.check_plan import check_plan
from deeprt.dicom.common import with_new_dicom_identity, write_dataset
from deeprt.dicom.contours import rasterize
from deeprt.dicom.read import read_case
from deeprt.dicom.write_dose import dose_dataset
from deeprt.dicom.write_images import ct_datasets
from deeprt.dicom.write_plan import plan_dataset
from deeprt.dicom.write_structures import structure_set_dataset
from deeprt.geometry import PATIENT_POSITIONS, Grid

CASES = Path(__file__).parents[3] / "shared" / "cases"
GRID = Grid.axial((26, 32, 44), (2.5, 3.0, 4.0), (-61.3, 212.7, -845.9))


def write_study(case, folder):
    """CT, structures, plan and dose of a case that did not come from DICOM."""
    ct = ct_datasets(case)
    structure_set = structure_set_dataset(case, ct)
    plan = plan_dataset(case, a_plan(case), label="sample", structure_set_uid=structure_set.SOPInstanceUID)
    dose = dose_dataset(case, np.ones(case.grid.shape, np.float32), plan)
    for k, dataset in enumerate(ct):
        write_dataset(dataset, folder / f"CT.{k:03d}.dcm")
    for dataset in (structure_set, plan, dose):
        write_dataset(dataset, folder / f"{dataset.Modality}.dcm")


@pytest.mark.parametrize("position", PATIENT_POSITIONS)
def test_an_exported_study_is_read_as_the_same_case(tmp_path, position):
    case = a_case(position=position, grid=GRID)
    case = with_new_dicom_identity(replace(case, structures=case.structures[:4]))
    write_study(case, tmp_path)
    read = read_case(tmp_path)
    assert read.position == position
    assert read.grid.same_as(case.grid)
    assert_allclose(read.ct_hu, case.ct_hu, atol=0.5)  # whole Hounsfield units
    assert [s.role for s in read.structures] == [s.role for s in case.structures]
    for structure in case.structures:
        fraction = read.structure(structure.name).fraction
        assert_allclose(fraction.sum(), structure.fraction.sum(), rtol=0.06)  # the boost is five slices high
        assert np.abs(fraction - structure.fraction).sum() / structure.fraction.sum() < 0.2
    assert read.dicom.roi_numbers == case.dicom.roi_numbers
    assert read.dicom.study_instance_uid == case.dicom.study_instance_uid
    assert read.dicom.frame_of_reference_uid == case.dicom.frame_of_reference_uid
    assert read.dicom.patient_id == case.dicom.patient_id


def test_objects_of_a_study_are_consistent_and_have_their_own_series(tmp_path):
    write_study(with_new_dicom_identity(a_case()), tmp_path)
    ct, structures, plan, dose = (
        pydicom.dcmread(tmp_path / f"{name}.dcm") for name in ("CT.000", "RTSTRUCT", "RTPLAN", "RTDOSE")
    )
    assert check_plan(plan) == ()
    assert plan.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == structures.SOPInstanceUID
    assert dose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == plan.SOPInstanceUID
    for keyword, n_distinct in (
        ("StudyInstanceUID", 1), ("FrameOfReferenceUID", 1), ("SeriesInstanceUID", 4), ("SeriesNumber", 4),
    ):  # fmt: skip
        assert len({dataset[keyword].value for dataset in (ct, structures, plan, dose)}) == n_distinct


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not beside the checkout")
@pytest.mark.parametrize("name", ["tg119", "cort_prostate"])
def test_structures_of_real_cases_keep_volume_and_place(name):
    case = with_new_dicom_identity(replace(read_case(CASES / name), dicom=None))
    structure_set = structure_set_dataset(case, ct_datasets(case))
    assert len(structure_set.ROIContourSequence) == len(case.structures)
    for structure, item in zip(case.structures, structure_set.ROIContourSequence, strict=True):
        contours = [np.reshape(c.ContourData, (-1, 3)).astype(float) for c in item.ContourSequence]
        read = rasterize(contours, case.grid, slice_spacing_mm=case.grid.spacing_mm[2])
        assert_allclose(read.sum(), structure.fraction.sum(), rtol=0.03)
        # Reading rounds what lies between the slices once more; the smallest, of 100 voxels, shows it most.
        assert np.abs(read - structure.fraction).sum() / structure.fraction.sum() < 0.04
