"""Bodies of water: from a structure set without CT, and the virtual cube."""

from dataclasses import replace

import numpy as np
import pytest
from Core.dicom_samples import Roi, ct_slices, save, structure_set
from Core.read_samples import BODY, CASES, PTV, RECTUM, phantom, refused
from numpy.testing import assert_allclose
from pydicom.dataset import Dataset
from pydicom.uid import RTPlanStorage, generate_uid

from deeprt.config import PlanningConfig
from deeprt.dicom.read import ReadOptions, read_case
from deeprt.errors import InputError
from deeprt.preparation import load_case, water_phantom
from deeprt.structures import Role

WATER = ReadOptions(spacing_mm=4.0, water_equivalent=True)


def folder_of(tmp_path, *rois):
    save([structure_set(rois or (BODY, PTV, RECTUM))], tmp_path / "set")
    return tmp_path / "set"


def plan_stating(*positions):
    plan = structure_set((BODY,))
    plan.SOPClassUID, plan.Modality = RTPlanStorage, "RTPLAN"
    plan.SOPInstanceUID = plan.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    plan.file_meta.MediaStorageSOPClassUID = RTPlanStorage
    plan.PatientSetupSequence = [Dataset() for _ in positions]
    for setup, position in zip(plan.PatientSetupSequence, positions, strict=True):
        setup.PatientPosition = position
    return plan


def test_a_structure_set_without_ct_makes_a_body_of_water(tmp_path):
    case = read_case(folder_of(tmp_path), WATER)
    assert_allclose(case.grid.spacing_mm, 4.0)
    assert_allclose(case.density, case.external.fraction)
    assert set(np.unique(case.ct_hu)) == {-1000.0, 0.0}
    assert_allclose(case.volume_cc(case.external), 100 * 80 * 36 / 1000, rtol=1e-3)
    assert_allclose(case.isocenter_lps(), (12.0, -7.0, 26.5), atol=0.05)
    assert case.notes == (
        "There is no CT: the body is taken for water within the external, the rest for air.",
        "Nothing states how the patient lay; head first supine (HFS) is assumed.",
    )
    assert case.dicom is not None and case.dicom.frame_of_reference_uid == "1.2.3.4"
    assert (case.dicom.ct_sop_instance_uids, case.dicom.patient_id) == ((), "S1")


def test_its_own_grid_has_a_layer_on_each_plane_and_reaches_beyond_everything(tmp_path):
    case = read_case(folder_of(tmp_path), replace(WATER, spacing_mm=None))
    assert_allclose(case.grid.spacing_mm, 3.0)
    layer = case.grid.lps_to_index([(0, 0, 10.0)])[0, 2]
    assert_allclose(layer, np.round(layer), atol=1e-6)
    for axis in range(3):
        other = tuple(a for a in range(3) if a != axis)
        assert not case.external.fraction.any(axis=other)[[0, -1]].any()


def test_the_position_is_that_of_the_plans_beside_it(tmp_path):
    folder = folder_of(tmp_path)
    save([plan_stating("FFS", "FFS")], folder)
    assert read_case(folder, WATER).position == "FFS"
    save([plan_stating("HFP")], folder)
    refused(folder, "state the patient position FFS and HFP; it must be one of HFS, HFP, FFS, FFP", WATER)


def test_what_cannot_be_a_body_of_water_is_refused(tmp_path):
    refused(folder_of(tmp_path), r"holds no CT slices, .* or --water-equivalent \(water_equivalent = true\) to take")
    refused(folder_of(tmp_path / "no outline", PTV), "No structure is the external, which a water-equ", WATER)
    empty = folder_of(tmp_path / "drawn", Roi("BODY", "EXTERNAL", []), Roi("PTV", "PTV", []))
    refused(empty, "holds no closed contours, so it has no body of water", WATER)
    save(ct_slices(phantom()), tmp_path / "ct")
    refused(tmp_path / "ct", "has a CT; leave out --water-equivalent", WATER)
    (tmp_path / "scan.nrrd").touch()
    refused(tmp_path / "scan.nrrd", r"scan\.nrrd' is a CT; leave out --water-equivalent", WATER)
    save([plan_stating("HFS")], tmp_path / "plan")
    refused(tmp_path / "plan", r"is to be a body of water but has no structure set \(RTSTRUCT\)", WATER)


def test_a_case_without_target_is_read_where_none_is_needed(tmp_path):
    folder = folder_of(tmp_path, BODY, RECTUM)
    config = PlanningConfig(dose_grid_mm=4.0, water_equivalent=True)
    assert not load_case(str(folder), config, needs_target=False).with_role(Role.TARGET)
    with pytest.raises(InputError, match="No structure is a target"):
        load_case(str(folder), config)


@pytest.mark.parametrize("spacing_mm", [7.0, 10.0])
def test_the_water_phantom_is_a_cube_with_a_cubic_target_in_its_middle(spacing_mm):
    case = water_phantom(spacing_mm)
    assert_allclose(case.volume_cc(case.external), 64_000, rtol=1e-5)
    assert_allclose(case.volume_cc(case.targets[0]), 64, rtol=1e-5)
    assert_allclose(case.isocenter_lps(), 0, atol=1e-6)
    assert_allclose(case.density.sum() * case.grid.voxel_volume_cc, 64_000, rtol=1e-5)


def test_another_virtual_patient_is_refused():
    with pytest.raises(InputError, match="no virtual patient 'virtual:head'; use virtual:prostate or virtual:water"):
        load_case("virtual:head", PlanningConfig())


@pytest.mark.skipif(not (CASES / "breast_eclipse").is_dir(), reason="shared/cases/breast_eclipse is not there")
def test_the_breast_case_is_read_as_water():
    case = load_case(str(CASES / "breast_eclipse"), PlanningConfig(dose_grid_mm=5.0, water_equivalent=True))
    assert (case.position, case.external.name) == ("HFS", "BODY")
    assert case.structure("Scar").density == 0.6
    assert case.density[case.external.fraction == 0].max() == 0
    assert_allclose(case.volume_cc(case.structure("Tumor Bed")), 12.809, rtol=0.05)  # Eclipse, without end slices
