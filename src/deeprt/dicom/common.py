"""What every exported DICOM object shares: patient, study, equipment, frame of reference, and safe writing."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat

import deeprt
from deeprt.case import DicomReferences, PatientCase
from deeprt.geometry import Grid
from deeprt.structures import Role

MANUFACTURER = "DeepRT"
DISCLAIMER = f"DeepRT {deeprt.__version__}: research software, not for clinical use"
_TEXT_LIMIT = 64  # characters of the value representations LO and PN (PS3.5, 6.2)


def with_new_dicom_identity(case: PatientCase) -> PatientCase:
    """Give a case that did not come from DICOM a patient, a study and a frame of reference.

    Every structure that is exported gets its ROI number. UIDs of the objects themselves are made with the
    objects, so ``structure_set_uid`` and the CT's UIDs stay empty.

    Raises
    ------
    ValueError
        If the case has an identity already.
    """
    if case.dicom is not None:
        raise ValueError(f"Case '{case.case_id}' already has a DICOM identity, which its plan must repeat.")
    now = datetime.now()
    patient = case.case_id.replace("\\", "/")[:_TEXT_LIMIT]
    identity = DicomReferences(
        patient_name=patient.translate(str.maketrans("^=", "  ")),  # both separate parts of a person's name
        patient_id=patient,
        study_instance_uid=generate_uid(),
        study_id="1",
        study_date=now.strftime("%Y%m%d"),
        study_time=now.strftime("%H%M%S"),
        study_description="DeepRT",
        frame_of_reference_uid=generate_uid(),
        roi_numbers=new_roi_numbers(case),
    )
    return replace(case, dicom=identity)


def new_roi_numbers(case: PatientCase) -> dict[str, int]:
    """ROI Number of every structure that is exported, by name, counted from 1."""
    exported = [s.name for s in case.structures if s.role is not Role.TUNING]
    return {name: number for number, name in enumerate(exported, start=1)}


def identity_of(case: PatientCase) -> DicomReferences:
    """DICOM identity of the case; ValueError names the remedy if it has none."""
    if case.dicom is None:
        raise ValueError(f"Case '{case.case_id}' has no DICOM identity; call with_new_dicom_identity first.")
    return case.dicom


def new_dataset(
    case: PatientCase, sop_class_uid: UID, modality: str, *, series_description: str, series_number: int
) -> Dataset:
    """Start an object of the case's study in a new series: all modules that do not depend on the kind of object."""
    identity = identity_of(case)
    now = datetime.now()
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.InstanceCreationDate = now.strftime("%Y%m%d")
    dataset.InstanceCreationTime = now.strftime("%H%M%S")
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = generate_uid()

    dataset.PatientName = identity.patient_name
    dataset.PatientID = identity.patient_id
    dataset.PatientBirthDate = identity.patient_birth_date
    dataset.PatientSex = identity.patient_sex

    dataset.StudyInstanceUID = identity.study_instance_uid
    dataset.StudyID = identity.study_id
    dataset.StudyDate = identity.study_date
    dataset.StudyTime = identity.study_time
    dataset.AccessionNumber = identity.accession_number
    dataset.ReferringPhysicianName = identity.referring_physician_name
    if identity.study_description:
        dataset.StudyDescription = identity.study_description

    dataset.Modality = modality
    dataset.SeriesInstanceUID = generate_uid()
    dataset.SeriesNumber = series_number
    dataset.SeriesDescription = series_description
    dataset.OperatorsName = ""
    dataset.InstanceNumber = 1

    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = MANUFACTURER
    dataset.SoftwareVersions = deeprt.__version__

    dataset.FrameOfReferenceUID = identity.frame_of_reference_uid
    dataset.PositionReferenceIndicator = identity.position_reference_indicator
    return dataset


def set_plane(dataset: Dataset, grid: Grid, k: int) -> None:
    """Say where slice ``k`` of a grid lies: rows follow the grid's j axis, columns its i axis."""
    directions = grid.index_to_lps[:3, :3] / grid.spacing_mm
    first_voxel_lps = grid.index_to_lps[:3] @ (0, 0, k, 1)
    spacing_i, spacing_j, spacing_k = grid.spacing_mm
    dataset.Rows, dataset.Columns = grid.shape[1:]
    dataset.ImagePositionPatient = [decimal(x) for x in first_voxel_lps]
    dataset.ImageOrientationPatient = [decimal(x) for x in (*directions[:, 0], *directions[:, 1])]
    dataset.PixelSpacing = [decimal(spacing_j), decimal(spacing_i)]
    dataset.SliceThickness = decimal(spacing_k)


def reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """Item of a sequence that refers to another object."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item


def decimal(value: float) -> DSfloat:
    """Decimal string with as many digits as its 16 characters hold."""
    return DSfloat(float(value), auto_format=True)


def rounded(values: ArrayLike, digits: int) -> list[float]:
    """Values rounded to a number of decimal places, without negative zeros.

    >>> rounded([1.23456, -0.001], 2)
    [1.23, 0.0]
    """
    return [float(x) for x in np.atleast_1d(np.round(np.asarray(values, float), digits) + 0.0)]


def write_dataset(dataset: Dataset, path: Path) -> None:
    """Write a DICOM file in explicit VR little endian; it appears under its name only when complete."""
    complete = Dataset(dataset)
    complete.file_meta = FileMetaDataset()
    complete.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    unfinished = path.with_name(path.name + ".part")
    try:
        complete.save_as(unfinished, enforce_file_format=True)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
