"""The patient's outline from the CT, where nobody drew it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, distance_transform_edt, label

from deeprt.geometry import Grid

_THRESHOLD_HU = -400.0
_THIN_MM = 6.0  # parts thinner than twice this, such as a couch top, are not patient


def external_from_ct(ct_hu: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """Find the patient by threshold.

    Voxels above -400 HU, opened by a ball of 6 mm (which takes off a thin couch and sheets), the largest connected part
    of them, and in each slice what it encloses (lungs, bowel gas).

    Parameters
    ----------
    ct_hu : (n_k, n_j, n_i), Hounsfield units

    Returns
    -------
    (n_k, n_j, n_i) float32, 0 or 1; all 0 if nothing is that dense and thick
    """
    sampling = grid.spacing_mm[::-1]
    dense = ct_hu > _THRESHOLD_HU
    if dense.all():
        return np.ones(grid.shape, dtype=np.float32)
    core = distance_transform_edt(dense, sampling=sampling) > _THIN_MM
    if not core.any():
        return np.zeros(grid.shape, dtype=np.float32)
    opened = distance_transform_edt(~core, sampling=sampling) <= _THIN_MM
    parts, _ = label(opened)
    sizes = np.bincount(parts.ravel())
    patient = parts == 1 + int(sizes[1:].argmax())
    return np.stack([binary_fill_holes(layer) for layer in patient]).astype(np.float32)
