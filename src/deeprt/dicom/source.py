"""What a reader found, before it is put on the grid of the case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from deeprt.case import DicomReferences
from deeprt.geometry import Grid

Color = tuple[int, int, int]
AIR_HU = -1000.0
_ON_FACE = 0.01  # of a voxel; a corner that near to the face of the CT lies in it


@dataclass(frozen=True, eq=False)
class DrawnStructure:
    """A structure as its file has it.

    Parameters
    ----------
    name : unique in its file
    interpreted_type : DICOM RT ROI Interpreted Type; empty where the file has none
    color : RGB, 0 to 255
    density : relative electron density that the file states; None where it states none
    bounds_lps : (2, 3) lowest and highest corner of what is drawn; None where it is not known to leave the CT
    fraction_on : computes the share of each voxel of a grid, (n_k, n_j, n_i) float32; None when nothing is drawn
    """

    name: str
    interpreted_type: str
    color: Color | None
    fraction_on: Callable[[Grid], NDArray[np.float32]] | None
    density: float | None = None
    bounds_lps: NDArray[np.float64] | None = None


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

    def around(self, bounds_lps: Sequence[NDArray[np.float64]]) -> CaseSource:
        """Add air around the CT where boxes, each (2, 3) of lowest and highest corner, reach beyond it."""
        if not bounds_lps:
            return self
        corners = [corner for box in bounds_lps for corner in product(*np.transpose(box))]
        index = self.grid.lps_to_index(corners)
        size = np.array(self.grid.shape[::-1])
        before = np.maximum(0, np.ceil(-0.5 - index.min(axis=0) - _ON_FACE)).astype(int)
        after = np.maximum(0, np.ceil(index.max(axis=0) - (size - 0.5) - _ON_FACE)).astype(int)
        if not (before.any() or after.any()):
            return self
        matrix = np.array(self.grid.index_to_lps)
        matrix[:3, 3] -= matrix[:3, :3] @ before
        n_k, n_j, n_i = (int(n) for n in (size + before + after)[::-1])
        margins = list(zip(before[::-1], after[::-1], strict=True))
        note = "Air was added around the CT, since a support or bolus reaches beyond it."
        return replace(
            self,
            grid=Grid((n_k, n_j, n_i), matrix),
            ct_hu=np.pad(self.ct_hu, margins, constant_values=AIR_HU),
            notes=(*self.notes, note),
        )
