"""The CT of a case that did not come from DICOM as CT Image objects (DICOM PS3.3, A.3), and references to one."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, generate_uid

from deeprt.case import PatientCase
from deeprt.dicom.common import DISCLAIMER, decimal, identity_of, new_dataset, set_plane

_LIMITS = np.iinfo(np.int16)


def ct_datasets(case: PatientCase) -> list[Dataset]:
    """Describe the CT slice by slice in one new series, in the order of the grid's k axis.

    Hounsfield units are rounded to whole numbers and stored as they are (slope 1, intercept 0).

    Raises
    ------
    ValueError
        If Hounsfield units are not finite or exceed 16 bits, or the case has no DICOM identity.
    """
    low, high = float(case.ct_hu.min()), float(case.ct_hu.max())
    if not (low >= _LIMITS.min and high <= _LIMITS.max):
        raise ValueError(f"CT values must lie in {_LIMITS.min} to {_LIMITS.max} HU, got {low} to {high}.")
    stored = np.rint(case.ct_hu).astype("<i2")
    series_uid = generate_uid()
    slices = []
    for k in range(case.grid.shape[0]):
        dataset = new_dataset(case, CTImageStorage, "CT", series_description="CT", series_number=1)
        dataset.SeriesInstanceUID = series_uid
        dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        dataset.ImageComments = DISCLAIMER
        dataset.InstanceNumber = k + 1
        dataset.AcquisitionNumber = None
        dataset.KVP = None
        dataset.Laterality = ""
        dataset.PatientPosition = case.position
        set_plane(dataset, case.grid, k)
        dataset.SliceLocation = decimal(k * case.grid.spacing_mm[2])
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated = 16
        dataset.BitsStored = 16
        dataset.HighBit = 15
        dataset.PixelRepresentation = 1
        dataset.RescaleIntercept = 0
        dataset.RescaleSlope = 1
        dataset.RescaleType = "HU"
        dataset.PixelData = stored[k].tobytes()
        slices.append(dataset)
    return slices


def ct_references(case: PatientCase) -> list[Dataset]:
    """Describe the CT images that a case came from as far as a structure set refers to them, in the order of k.

    Parameters
    ----------
    case : on its CT's own grid

    Raises
    ------
    ValueError
        If the case does not know an image for each slice of its grid.
    """
    identity, n_slices = identity_of(case), case.grid.shape[0]
    uids = identity.ct_sop_instance_uids
    if len(uids) != n_slices:
        raise ValueError(f"Case '{case.case_id}' has {n_slices} slices and came from {len(uids)} CT images.")
    images = []
    for k, uid in enumerate(uids):
        image = Dataset()
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, uid
        image.SeriesInstanceUID = identity.ct_series_uid
        set_plane(image, case.grid, k)
        images.append(image)
    return images
