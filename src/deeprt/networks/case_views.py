"""What the paper's fluence network sees of a beam: contours and dose in beam's-eye view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeprt.beams import Beam
from deeprt.case import PatientCase
from deeprt.geometry import Grid
from deeprt.networks.beams_eye_view import beams_eye_view
from deeprt.networks.contour_labels import contour_labels
from deeprt.networks.dual_frame import DualFrameConfig


@dataclass(frozen=True, eq=False)
class CaseViews:
    """Volumes of a case from which views of its beams are made.

    Parameters
    ----------
    labels : (1, n_k, n_j, n_i) float32
    dose_gy_per_fraction : (1, n_k, n_j, n_i) float32
    config : of the network
    """

    grid: Grid
    labels: Tensor
    dose_gy_per_fraction: Tensor
    config: DualFrameConfig

    def of(self, beam: Beam) -> Tensor:
        """Views of a beam, (n_channels, n_pixels, n_pixels): slices of labels, if the network has them, and of dose."""
        sampling = self.config.sampling
        dose = beams_eye_view(beam, self.grid, self.dose_gy_per_fraction, sampling=sampling)
        if self.config.n_contour_volumes == 0:
            return dose[0]
        labels = beams_eye_view(beam, self.grid, self.labels, interpolation="nearest", sampling=sampling)
        return torch.cat([labels[0], dose[0]])


def case_views(config: DualFrameConfig, case: PatientCase, dose_gy: NDArray[np.float32]) -> CaseViews:
    """Make the volumes of a case ready.

    Parameters
    ----------
    dose_gy : (n_k, n_j, n_i) whole course
    """
    labels = contour_labels(case, reverse=config.reverse_labels).astype(np.float32)
    dose = (dose_gy / case.n_fractions).astype(np.float32)
    return CaseViews(case.grid, torch.from_numpy(labels)[None], torch.from_numpy(dose)[None], config)
