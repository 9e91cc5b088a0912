"""Small synthetic CT series and structure sets for tests, as datasets that a test may spoil before saving."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Roi:
    """A structure to write: its contours are (n, 3) in LPS, mm."""

    name: str
    interpreted_type: str
    contours: Sequence[Float]
    geometric_type: str = "CLOSED_PLANAR"
    color: tuple[int, int, int] = (200, 10, 20)


def rectangle(x: tuple[float, float], y: tuple[float, float], z: Iterable[float]) -> list[Float]:
    """Rectangular contours at heights z."""
    corners = [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])]
    return [np.array([(a, b, height) for a, b in corners]) for height in z]


def circle(center: tuple[float, float], radius_mm: float, z: Iterable[float], n_points: int = 200) -> list[Float]:
    """Circular contours at heights z."""
    angle = np.arange(n_points) * 2 * np.pi / n_points
    x, y = center[0] + radius_mm * np.cos(angle), center[1] + radius_mm * np.sin(angle)
    return [np.stack([x, y, np.full(n_points, height)], axis=1) for height in z]


def ct_slices(
    hu: NDArray[np.int16],
    *,
    spacing_mm: tuple[float, float, float] = (4.0, 4.0, 3.0),
    first_voxel_lps: tuple[float, float, float] = (-62.0, -50.0, 10.0),
    along_i: tuple[float, float, float] = (1.0, 0.0, 0.0),
    along_j: tuple[float, float, float] = (0.0, 1.0, 0.0),
    frame_of_reference_uid: str = "1.2.3.4",
    position: str = "HFS",
) -> list[Dataset]:
    """One dataset a slice of (n_k, n_j, n_i) Hounsfield units, stored with slope 1 and intercept -1024."""
    normal = np.cross(along_i, along_j)
    study, series = generate_uid(), generate_uid()
    slices = []
    for k, values in enumerate(hu):
        data = _new(CTImageStorage, "CT", study, series)
        data.PatientPosition = position
        data.FrameOfReferenceUID = frame_of_reference_uid
        data.PositionReferenceIndicator = "XY"
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.SeriesDescription = "planning"
        data.InstanceNumber = str(k + 1)
        data.ImagePositionPatient = [float(v) for v in np.array(first_voxel_lps) + k * spacing_mm[2] * normal]
        data.ImageOrientationPatient = [*along_i, *along_j]
        data.PixelSpacing = [spacing_mm[1], spacing_mm[0]]
        data.Rows, data.Columns = values.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
        data.RescaleSlope, data.RescaleIntercept = "1", "-1024"
        data.PixelData = (values.astype(np.int32) + 1024).astype("<u2").tobytes()
        slices.append(data)
    return slices


def structure_set(rois: Sequence[Roi], *, frame_of_reference_uid: str = "1.2.3.4") -> Dataset:
    """An RTSTRUCT; ROI numbers count from 11."""
    data = _new(RTStructureSetStorage, "RTSTRUCT", generate_uid(), generate_uid())
    data.StructureSetLabel, data.StructureSetDate = "drawn", "20260102"
    data.StructureSetROISequence, data.RTROIObservationsSequence, data.ROIContourSequence = [], [], []
    for number, roi in enumerate(rois, start=11):
        item, observation, drawing = Dataset(), Dataset(), Dataset()
        item.ROINumber, item.ROIName = number, roi.name
        item.ReferencedFrameOfReferenceUID = frame_of_reference_uid
        observation.ObservationNumber = observation.ReferencedROINumber = number
        observation.RTROIInterpretedType = roi.interpreted_type
        drawing.ReferencedROINumber, drawing.ROIDisplayColor = number, list(roi.color)
        drawing.ContourSequence = []
        for points in roi.contours:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = roi.geometric_type, len(points)
            contour.ContourData = [f"{value:.6g}" for value in np.ravel(points)]
            drawing.ContourSequence.append(contour)
        data.StructureSetROISequence.append(item)
        data.RTROIObservationsSequence.append(observation)
        data.ROIContourSequence.append(drawing)
    return data


def save(datasets: Iterable[Dataset], folder: Path) -> None:
    """Write one file a dataset, with names that say nothing of the order of slices."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in datasets:
        data.save_as(folder / file_name(data), enforce_file_format=True)


def file_name(data: Dataset) -> str:
    """Name that `save` gives."""
    return f"{data.Modality}{str(data.SOPInstanceUID)[-8:]}.dcm"


def _new(sop_class: str, modality: str, study: str, series: str) -> Dataset:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.SOPClassUID, data.SOPInstanceUID = sop_class, generate_uid()
    data.file_meta.MediaStorageSOPClassUID, data.file_meta.MediaStorageSOPInstanceUID = sop_class, data.SOPInstanceUID
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = study, series, modality
    data.PatientName, data.PatientID = "Sample^Sam", "S1"
    data.PatientBirthDate, data.PatientSex = "19500102", "O"
    data.StudyID, data.StudyDate, data.StudyTime, data.StudyDescription = "7", "20260101", "101112", "pelvis"
    data.AccessionNumber, data.ReferringPhysicianName = "A9", "Ref^Erring"
    return data
