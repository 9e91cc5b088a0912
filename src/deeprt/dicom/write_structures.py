"""The structures of a case as an RT Structure Set object (DICOM PS3.3, A.19)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage
from scipy.spatial.distance import cdist
from skimage.measure import approximate_polygon, find_contours, points_in_poly

from deeprt.case import PatientCase
from deeprt.dicom.common import decimal, identity_of, new_dataset, reference, rounded
from deeprt.structures import Role, Structure

Contour = NDArray[np.float64]

_INTERPRETED_TYPE = {
    Role.TARGET: "PTV",
    Role.ORGAN_AT_RISK: "ORGAN",
    Role.EXTERNAL: "EXTERNAL",
    Role.TUNING: "CONTROL",
    Role.SUPPORT: "SUPPORT",
    Role.BOLUS: "BOLUS",
    Role.OTHER: "",
}
_PALETTE = (
    (230, 25, 75), (60, 180, 75), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 240, 240), (240, 50, 230),
    (210, 245, 60), (250, 190, 212), (0, 128, 128),
)  # fmt: skip
_DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"  # retired class that RT Referenced Study Sequence still asks for
_SIMPLIFY_PIXELS = 0.02  # contour points this close to the line through their neighbors say nothing
_MAX_POINTS = 2000  # 3 x 9 characters each: Contour Data holds 65,534 in explicit VR


def structure_set_dataset(case: PatientCase, ct: Sequence[Dataset], *, with_tuning: bool = False) -> Dataset:
    """Describe the structures by contours on the CT slices, where half of a voxel is inside.

    A cavity is joined to its surrounding contour by a channel of no width (the standard's keyhole technique), so
    that readers that combine contours by union, by exclusive or, or not at all see the same shape.

    Parameters
    ----------
    ct : one dataset for each slice of ``case.grid``, in any order
    with_tuning : whether structures of role tuning are written too

    Raises
    ------
    ValueError
        If the CT slices are not those of the case's grid, or the case has no DICOM identity.
    """
    images = _images_by_slice(case, ct)
    dataset = new_dataset(
        case, RTStructureSetStorage, "RTSTRUCT", series_description="DeepRT structures", series_number=2
    )
    dataset.StructureSetLabel = "DeepRT"
    dataset.StructureSetDate = dataset.InstanceCreationDate
    dataset.StructureSetTime = dataset.InstanceCreationTime
    dataset.ReferencedFrameOfReferenceSequence = [_frame_of_reference(dataset, ct[0].SeriesInstanceUID, images)]
    dataset.StructureSetROISequence = []
    dataset.ROIContourSequence = []
    dataset.RTROIObservationsSequence = []
    written = [s for s in case.structures if with_tuning or s.role is not Role.TUNING]
    for number, structure in _numbered(written, identity_of(case).roi_numbers):
        roi = Dataset()
        roi.ROINumber = number
        roi.ReferencedFrameOfReferenceUID = dataset.FrameOfReferenceUID
        roi.ROIName = structure.name
        roi.ROIGenerationAlgorithm = ""
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(_roi_contours(case, structure, number, images))
        observation = Dataset()
        observation.ObservationNumber = number
        observation.ReferencedROINumber = number
        observation.RTROIInterpretedType = _INTERPRETED_TYPE[structure.role]
        if structure.density is not None:
            stated = Dataset()
            stated.ROIPhysicalProperty, stated.ROIPhysicalPropertyValue = "REL_ELEC_DENSITY", decimal(structure.density)
            observation.ROIPhysicalPropertiesSequence = [stated]
        observation.ROIInterpreter = ""
        dataset.RTROIObservationsSequence.append(observation)
    return dataset


def _images_by_slice(case: PatientCase, ct: Sequence[Dataset]) -> list[Dataset]:
    """Reference to the CT image of each slice of the grid, in the order of k."""
    found: dict[int, Dataset] = {}
    for image in ct:
        i, j, k = case.grid.lps_to_index(image.ImagePositionPatient)[0]
        on_grid = np.allclose([i, j, k - round(k)], 0, atol=0.01) and (image.Rows, image.Columns) == case.grid.shape[1:]
        if not on_grid or not 0 <= round(k) < case.grid.shape[0]:
            raise ValueError(f"CT slice at {list(image.ImagePositionPatient)} is no slice of the case's grid.")
        found[round(k)] = reference(image.SOPClassUID, image.SOPInstanceUID)
    missing = [k for k in range(case.grid.shape[0]) if k not in found]
    if missing:
        raise ValueError(f"The CT lacks {len(missing)} slices of the case's grid, first slice {missing[0]}.")
    return [found[k] for k in range(case.grid.shape[0])]


def _frame_of_reference(dataset: Dataset, ct_series_uid: str, images: list[Dataset]) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = ct_series_uid
    series.ContourImageSequence = images
    study = reference(_DETACHED_STUDY, dataset.StudyInstanceUID)
    study.RTReferencedSeriesSequence = [series]
    item = Dataset()
    item.FrameOfReferenceUID = dataset.FrameOfReferenceUID
    item.RTReferencedStudySequence = [study]
    return item


def _numbered(structures: list[Structure], roi_numbers: dict[str, int]) -> list[tuple[int, Structure]]:
    """Structures with their ROI numbers; those that have none yet follow the largest."""
    free = max(roi_numbers.values(), default=0)
    numbered = []
    for structure in structures:
        if structure.name in roi_numbers:
            numbered.append((roi_numbers[structure.name], structure))
        else:
            free += 1
            numbered.append((free, structure))
    return numbered


def _roi_contours(case: PatientCase, structure: Structure, number: int, images: list[Dataset]) -> Dataset:
    item = Dataset()
    item.ReferencedROINumber = number
    item.ROIDisplayColor = list(structure.color or _PALETTE[(number - 1) % len(_PALETTE)])
    contours = []
    for k in np.flatnonzero((structure.fraction > 0.5).any(axis=(1, 2))):
        for points in slice_contours(structure.fraction[k]):
            index = np.column_stack([points[:, ::-1], np.full(len(points), k), np.ones(len(points))])
            contour = Dataset()
            contour.ContourImageSequence = [images[k]]
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = rounded((index @ case.grid.index_to_lps[:3].T).ravel(), 2)
            contours.append(contour)
    if contours:
        item.ContourSequence = contours
    return item


def slice_contours(fraction: NDArray[np.float32]) -> list[Contour]:
    """Outlines of the region where more than half of a voxel is inside, cavities joined by keyholes.

    Parameters
    ----------
    fraction : (n_j, n_i) share of each voxel inside

    Returns
    -------
    One (n_points, 2) array for each connected region: positions ``(j, i)`` in voxel indices, first point not
    repeated.
    """
    # Without the margin a region at the image's edge would have an open outline.
    closed = find_contours(np.pad(fraction, 1), 0.5)  # type: ignore[no-untyped-call]
    outlines = [points for points in (_simplified(c - 1, _SIMPLIFY_PIXELS) for c in closed) if len(points) > 2]
    # find_contours turns one way around regions and the other way around cavities.
    regions = sorted((c for c in outlines if _signed_area(c) < 0), key=lambda c: -_signed_area(c))
    for cavity in (c for c in outlines if _signed_area(c) > 0):
        share_inside = [points_in_poly(cavity, region).mean() for region in regions]  # type: ignore[no-untyped-call]
        around = int(np.argmax(share_inside))
        regions[around] = _joined(regions[around], cavity)
    return [_limited(region) for region in regions]


def _simplified(closed: Contour, tolerance: float) -> Contour:
    """Leave out points that add no shape, and the last, which repeats the first."""
    points = approximate_polygon(closed, tolerance)  # type: ignore[no-untyped-call]
    return np.asarray(points[:-1], dtype=np.float64)


def _limited(points: Contour) -> Contour:
    """Simplify as far as needed to stay within the points that one contour can hold."""
    tolerance = _SIMPLIFY_PIXELS
    limited = points
    while len(limited) > _MAX_POINTS:
        tolerance *= 2
        limited = _simplified(np.concatenate([points, points[:1]]), tolerance)
    return limited


def _signed_area(points: Contour) -> float:
    """Shoelace area in voxels; the sign is the sense of rotation."""
    following = np.roll(points, -1, axis=0)
    return float((points[:, 0] * following[:, 1] - points[:, 1] * following[:, 0]).sum() / 2)


def _joined(outline: Contour, cavity: Contour) -> Contour:
    """Outline that enters the cavity's at the nearest points, goes around it and returns the same way."""
    distance = cdist(outline, cavity)
    at, start = np.unravel_index(int(distance.argmin()), distance.shape)
    around = np.roll(cavity, -int(start), axis=0)
    return np.concatenate([outline[: at + 1], around, around[:1], outline[at:]])
