"""Dose influence of all candidate beams, kept as far as memory allows and set up anew beyond that."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from deeprt.beams import Beam, BeamAngles, place_beams
from deeprt.case import PatientCase
from deeprt.dose.gather import IMAGE_PIXEL_MM
from deeprt.dose.influence import BeamInfluence, beam_influence
from deeprt.machine import Machine

_BYTES_PER_VOXEL = 88  # depth factors 12, gather 36, its transpose 32 and some


class CandidatePool:
    """The candidates' influences on the voxels of one optimization.

    Parameters
    ----------
    case : on the grid of the optimization
    beams : one a candidate
    voxels : (n_voxels,) flat indices into the case's grid
    device : of the tensors
    memory_mb : most that kept influences may take
    pixel_mm : sampling of the convolved fluence, see `deeprt.dose.influence.beam_influence`
    """

    def __init__(
        self,
        case: PatientCase,
        beams: Sequence[Beam],
        machine: Machine,
        voxels: NDArray[np.int64],
        *,
        device: torch.device,
        memory_mb: float,
        pixel_mm: float = IMAGE_PIXEL_MM,
    ) -> None:
        self.voxels, self.grid_shape, self.device = voxels, case.grid.shape, device
        self.set_up_s = 0.0
        self.beams = tuple(beams)
        self._case, self._machine = case, machine
        self._pixel_mm = pixel_mm
        self._points = case.grid.points_lps(voxels)
        self._n_kept = int(memory_mb * 1e6 // (_BYTES_PER_VOXEL * voxels.size))
        self._kept: dict[int, BeamInfluence] = {}

    def __len__(self) -> int:
        return len(self.beams)

    def __getitem__(self, candidate: int) -> BeamInfluence:
        if candidate in self._kept:
            return self._kept[candidate]
        start = time.perf_counter()
        beam = self.beams[candidate]
        influence = beam_influence(self._case, beam, self._machine, self._points, self.device, pixel_mm=self._pixel_mm)
        self.set_up_s += time.perf_counter() - start
        if len(self._kept) < self._n_kept:
            self._kept[candidate] = influence
        return influence

    def add(self, angles: BeamAngles, beamlet_mm: float, margin_mm: float) -> int:
        """Add a beam that is no candidate; returns its position."""
        placed = place_beams(
            self._case,
            [angles],
            self._machine,
            beamlet_width_mm=beamlet_mm,
            beamlet_height_mm=beamlet_mm,
            margin_mm=margin_mm,
            isocenter_lps=self.beams[0].isocenter_lps,
        )
        self.beams += placed
        return len(self.beams) - 1
