"""What a reader found, before it is put on the grid of the case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deeprt.case import DicomReferences
from deeprt.geometry import Grid

Color = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class DrawnStructure:
    """A structure as its file has it.

    Parameters
    ----------
    name : unique in its file
    interpreted_type : DICOM RT ROI Interpreted Type; empty where the file has none
    color : RGB, 0 to 255
    fraction_on : computes the share of each voxel of a grid, (n_k, n_j, n_i) float32; None when nothing is drawn
    """

    name: str
    interpreted_type: str
    color: Color | None
    fraction_on: Callable[[Grid], NDArray[np.float32]] | None


@dataclass(frozen=True, eq=False)
class CaseSource:
    """A CT on its own grid with the structures drawn on it.

    Parameters
    ----------
    case_id : shown in reports, not the patient's identity
    position : DICOM Patient Position
    grid : the CT's
    ct_hu : (n_k, n_j, n_i) float32
    structures : as drawn
    dicom : identity of the study; None when it is not DICOM
    notes : what was assumed or dropped, one sentence each
    """

    case_id: str
    position: str
    grid: Grid
    ct_hu: NDArray[np.float32]
    structures: tuple[DrawnStructure, ...]
    dicom: DicomReferences | None
    notes: tuple[str, ...]
