"""Who the patient of a scene is, after DICOM files that this package wrote."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from Mrml.samples import a_case, a_rigid_transform
from Mrml.session_samples import ANGLES, a_session, finish
from numpy.testing import assert_allclose

from deeprt.case import PatientCase
from deeprt.dicom.check_plan import check_plan
from deeprt.dicom.common import with_new_dicom_identity, write_dataset
from deeprt.dicom.write_images import ct_datasets
from deeprt.errors import InputError
from deeprt.geometry import Grid
from deeprt_mrml.cases import ct_from_case, segmentation_from_case
from deeprt_mrml.dicom_identity import INSTANCES, dicom_identity
from deeprt_mrml.fluence_planning import FluencePlanning
from deeprt_mrml.subject_hierarchy import place, subject_hierarchy

STRUCTURE_SET = "1.2.3.4.5"


@pytest.fixture
def case():
    return with_new_dicom_identity(a_case("FFP"))


@pytest.fixture
def files(tmp_path, case):
    """Paths of the CT's files by SOP Instance UID, in the order of slices."""
    paths = {}
    (tmp_path / "ct").mkdir()
    for k, dataset in enumerate(ct_datasets(case)):
        dataset.ReferringPhysicianName = "Doe"
        path = tmp_path / "ct" / f"{k}.dcm"
        write_dataset(dataset, path)
        paths[str(dataset.SOPInstanceUID)] = str(path)
    return paths


@pytest.fixture
def ct_node(scene, case, files):
    node = ct_from_case(scene, replace(case, position="HFS"))
    node.SetAttribute("DICOM.PatientPosition", None)
    node.SetAttribute(INSTANCES, " ".join(files))
    return node


@pytest.fixture
def segmentation_node(scene, case):
    return segmentation_from_case(scene, case)


@pytest.fixture
def identity_of(ct_node, segmentation_node, files):
    return lambda: dicom_identity(ct_node, segmentation_node, lambda uid: files.get(uid, ""))


def as_slicerrt_reads(segmentation_node, numbers):
    """Make a segmentation look like one of an RTSTRUCT."""
    scene = segmentation_node.GetScene()
    hierarchy = subject_hierarchy(scene)
    place(scene, segmentation_node, hierarchy.GetSceneItemID())
    item = hierarchy.GetItemByDataNode(segmentation_node)
    hierarchy.SetItemUID(item, "DICOMInstanceUID", STRUCTURE_SET)
    segmentation = segmentation_node.GetSegmentation()
    segments = [segmentation.GetNthSegment(n) for n in range(segmentation.GetNumberOfSegments())]
    labelmaps = [s.GetRepresentation("Binary labelmap") for s in segments]
    segmentation.SetSourceRepresentationName("Planar contour")  # which takes all others away
    for segment, labelmap in zip(segments, labelmaps, strict=True):
        segment.AddRepresentation("Binary labelmap", labelmap)
    for name, number in numbers.items():
        segment = segmentation.GetSegment(segmentation.GetSegmentIdBySegmentName(name))
        segment.SetTag("DicomRtImport.RoiNumber", str(number))


def test_study_and_images_are_those_of_the_files(case, files, identity_of):
    identity = identity_of()
    first = pydicom.dcmread(next(iter(files.values())))
    references = identity.references
    assert references.patient_name == str(first.PatientName)
    assert references.referring_physician_name == "Doe"
    assert references.study_instance_uid == case.dicom.study_instance_uid
    assert references.frame_of_reference_uid == case.dicom.frame_of_reference_uid
    assert references.ct_series_uid == first.SeriesInstanceUID
    assert references.ct_sop_instance_uids == tuple(files)
    assert identity.position == "FFP"


def test_a_drawn_segmentation_gets_a_new_structure_set(identity_of):
    identity = identity_of()
    assert (identity.references.structure_set_uid, identity.references.roi_numbers) == ("", {})
    assert identity.notes == (
        "The structures of 'Phantom structures' are exported as a new structure set on the CT's images.",
    )


def test_a_structure_set_as_it_was_read_is_referred_to(segmentation_node, identity_of):
    as_slicerrt_reads(segmentation_node, {"PTV": 7, "BODY": 2})
    identity = identity_of()
    assert identity.references.structure_set_uid == STRUCTURE_SET
    assert identity.references.roi_numbers == {"BODY": 2, "PTV": 7}
    assert identity.notes == ()


def test_an_edited_structure_set_is_one_no_longer(segmentation_node, identity_of):
    as_slicerrt_reads(segmentation_node, {"PTV": 7})
    segmentation_node.GetSegmentation().SetSourceRepresentationName("Binary labelmap")
    assert identity_of().references.structure_set_uid == ""


def test_a_ct_that_is_not_from_dicom_has_no_identity(ct_node, identity_of):
    ct_node.SetAttribute(INSTANCES, None)
    identity = identity_of()
    assert (identity.references, identity.position, identity.notes) == (None, "", ())


def test_a_ct_whose_files_are_gone_is_exported_anew(files, identity_of):
    files.clear()
    assert identity_of().references is None
    assert identity_of().notes == (
        "The DICOM files of 'Phantom' are not in the database; a plan is exported as a study of its own, with a CT.",
    )


@pytest.mark.parametrize("change", ["moved", "turned", "cropped", "resampled"])
def test_a_ct_that_is_not_as_its_files_have_it_is_exported_anew(scene, ct_node, case, identity_of, change):
    """A plan that named its frame of reference would lie elsewhere in the patient than it was planned."""
    if change == "moved":
        transform, _ = a_rigid_transform(scene, angles_deg=(0, 0, 0), shift_ras=(0.3, 0, 0))
        ct_node.SetAndObserveTransformNodeID(transform.GetID())
    elif change == "turned":
        center_ras = case.grid.center_lps * (-1, -1, 1)
        transform, _ = a_rigid_transform(scene, angles_deg=(0, 0, 1), shift_ras=(0, 0, 0), about_ras=center_ras)
        ct_node.SetAndObserveTransformNodeID(transform.GetID())
    elif change == "cropped":
        slicer.util.updateVolumeFromArray(ct_node, case.ct_hu[:, :, :-1])
    else:
        ct_node.SetSpacing(np.multiply(ct_node.GetSpacing(), (1.0, 1.01, 1.0)))
    identity = identity_of()
    assert identity.references is None
    assert identity.position == "FFP"
    assert identity.notes[0].startswith("'Phantom' lies or is sampled otherwise than its DICOM files say;")


def test_slices_in_reverse_are_known_with_their_uids(scene, case, files, segmentation_node):
    """Slicer reverses the slices of a left-handed volume, and their UIDs with them."""
    matrix = np.array(case.grid.index_to_lps)
    matrix[:3, 3] += matrix[:3, 2] * (case.grid.shape[0] - 1)
    matrix[:3, 2] *= -1
    plain = PatientCase("Phantom", "HFS", Grid(case.grid.shape, matrix), case.ct_hu[::-1].copy(), (), 1)
    node = ct_from_case(scene, plain)
    node.SetAttribute(INSTANCES, " ".join(reversed(files)))
    identity = dicom_identity(node, segmentation_node, files.get)
    assert identity.references.ct_sop_instance_uids == tuple(reversed(files))
    node.SetAttribute(INSTANCES, " ".join(files))
    assert dicom_identity(node, segmentation_node, files.get).references is None


def test_a_file_that_says_nothing_of_its_place_is_refused(files, identity_of):
    path = next(iter(files.values()))
    header = pydicom.dcmread(path)
    del header.PixelSpacing
    header.save_as(path)
    with pytest.raises(InputError, match="does not state where its pixels lie"):
        identity_of()


def test_a_plan_is_exported_into_the_study_of_its_ct(scene, tmp_path, case, files, segmentation_node):
    """With a new structure set on the CT's images, whose targets the plan refers to, and with no second CT."""
    case = replace(case, dicom=None)
    session = a_session(scene, tmp_path / "jobs", case, file_of_instance=lambda uid: files.get(uid, ""))
    session.plan.ct_node.SetAttribute(INSTANCES, " ".join(files))
    planning = FluencePlanning(session)
    planning.set_beams(ANGLES[:2])
    planning.start_all()
    finish(session)
    planning.start_export(tmp_path / "out")
    finish(session)
    assert not (tmp_path / "out" / "CT").exists()
    plan, structures, dose = (pydicom.dcmread(tmp_path / "out" / f"{n}.dcm") for n in ("RTPLAN", "RTSTRUCT", "RTDOSE"))
    ct = pydicom.dcmread(next(iter(files.values())))
    for attribute in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
        assert {d[attribute].value for d in (plan, structures, dose)} == {ct[attribute].value}
    assert plan.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == structures.SOPInstanceUID
    series = structures.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == ct.SeriesInstanceUID
    assert [i.ReferencedSOPInstanceUID for i in series.ContourImageSequence] == list(files)
    numbers = {r.ROIName: r.ROINumber for r in structures.StructureSetROISequence}
    assert plan.DoseReferenceSequence[0].ReferencedROINumber == numbers["PTV"]
    assert check_plan(plan) == ()
    isocenter = np.array(plan.BeamSequence[0].ControlPointSequence[0].IsocenterPosition, float)
    assert_allclose(isocenter, case.isocenter_lps(), atol=0.5)


def test_a_plan_refers_to_the_structure_set_that_was_read(scene, tmp_path, case, files):
    session = a_session(scene, tmp_path / "jobs", replace(case, dicom=None), file_of_instance=files.get)
    session.plan.ct_node.SetAttribute(INSTANCES, " ".join(files))
    as_slicerrt_reads(session.plan.segmentation_node, {"PTV": 7, "BODY": 2})
    planning = FluencePlanning(session)
    planning.set_beams(ANGLES[:2])
    planning.start_all()
    finish(session)
    planning.start_export(tmp_path / "out")
    finish(session)
    assert not (tmp_path / "out" / "RTSTRUCT.dcm").exists()
    plan = pydicom.dcmread(tmp_path / "out" / "RTPLAN.dcm")
    assert plan.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == STRUCTURE_SET
    assert plan.DoseReferenceSequence[0].ReferencedROINumber == 7
    assert session.work.commands[-1][1] == "export"
    assert not list((tmp_path / "jobs").rglob("images.npz"))
