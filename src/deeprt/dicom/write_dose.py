"""The dose of a plan as an RT Dose object (DICOM PS3.3, A.18)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import RTDoseStorage
from pydicom.valuerep import format_number_as_ds

from deeprt.case import PatientCase
from deeprt.dicom.common import DISCLAIMER, decimal, new_dataset, reference, set_plane

_MAX_COUNT = 2**16 - 1
MAX_COMMENT = 64  # characters of the value representation LO (PS3.5, 6.2)


def dose_dataset(
    case: PatientCase,
    dose_gy: NDArray[np.float32],
    plan: Dataset,
    *,
    only_beams: tuple[int, Sequence[int]] | None = None,
    comment: str = DISCLAIMER,
) -> Dataset:
    """Describe the physical dose of a plan, or of some of its beams, on the case's grid, in 16 bits.

    Counts times ``DoseGridScaling`` give the dose to half a scaling step, and the largest dose uses the whole
    range. Frames follow the normal of rows and columns: those of a grid whose k axis runs against it (left-handed
    axes) are written last slice first, so that the frame offsets increase, as every reader expects.

    Parameters
    ----------
    dose_gy : (n_k, n_j, n_i) float32, whole course, on ``case.grid``
    plan : the RT Plan that gives it; only its SOP Class and Instance UIDs are used
    only_beams : number of a fraction group and of the beams in it that give the dose; the whole plan if None.
        DICOM has no word for some beams of several groups
    comment : shown by readers, cut to 64 characters

    Raises
    ------
    ValueError
        If the dose is not on the case's grid, not finite or negative.
    """
    grid = case.grid
    if dose_gy.shape != grid.shape:
        raise ValueError(f"The dose has shape {dose_gy.shape}, the grid of the case {grid.shape}.")
    low, high = float(dose_gy.min()), float(dose_gy.max())
    if not (low >= 0 and np.isfinite(high)):
        raise ValueError(f"The dose must be finite and not negative, got {low} to {high} Gy.")
    n_frames = grid.shape[0]
    left_handed = np.linalg.det(grid.index_to_lps[:3, :3]) < 0
    scaling = format_number_as_ds(high / _MAX_COUNT if high > 0 else 1.0)
    counts = np.rint(dose_gy.astype(np.float64) / float(scaling)).clip(0, _MAX_COUNT).astype("<u2")

    dataset = new_dataset(case, RTDoseStorage, "RTDOSE", series_description="DeepRT dose", series_number=4)
    set_plane(dataset, grid, n_frames - 1 if left_handed else 0)
    dataset.NumberOfFrames = n_frames
    dataset.FrameIncrementPointer = Tag("GridFrameOffsetVector")
    dataset.GridFrameOffsetVector = [decimal(offset) for offset in np.arange(n_frames) * grid.spacing_mm[2]]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = 16
    dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.PixelData = (counts[::-1] if left_handed else counts).tobytes()
    dataset.DoseUnits = "GY"
    dataset.DoseType = "PHYSICAL"
    dataset.DoseSummationType = "PLAN" if only_beams is None else "BEAM"
    dataset.DoseComment = comment[:MAX_COMMENT].strip()
    dataset.DoseGridScaling = scaling
    dataset.TissueHeterogeneityCorrection = "IMAGE"
    dataset.ReferencedRTPlanSequence = [reference(plan.SOPClassUID, plan.SOPInstanceUID)]
    if only_beams is not None:
        dataset.ReferencedRTPlanSequence[0].ReferencedFractionGroupSequence = [_fraction_group(*only_beams)]
    return dataset


def _fraction_group(group_number: int, beam_numbers: Sequence[int]) -> Dataset:
    item = Dataset()
    item.ReferencedFractionGroupNumber = group_number
    item.ReferencedBeamSequence = []
    for number in beam_numbers:
        beam = Dataset()
        beam.ReferencedBeamNumber = number
        item.ReferencedBeamSequence.append(beam)
    return item
