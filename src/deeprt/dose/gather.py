"""Sparse interpolation between the image on the isocenter plane and the voxels."""

from __future__ import annotations

import warnings

import numba as nb
import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor

IMAGE_PIXEL_MM = 1.25  # sampling of the convolved image; its sharpest feature has a sigma above 2 mm


def image_axis(values: NDArray[np.float64], pixel_mm: float = IMAGE_PIXEL_MM) -> NDArray[np.float64]:
    """Sampling positions, ``pixel_mm`` apart, that enclose all values."""
    first = np.floor(values.min() / pixel_mm)
    last = np.floor(values.max() / pixel_mm) + 2  # one to spare: rounding may put a value on the last but one
    return pixel_mm * np.arange(first, last + 1)


def bilinear_gather(
    u: NDArray[np.float64],
    v: NDArray[np.float64],
    u_mm: NDArray[np.float64],
    v_mm: NDArray[np.float64],
    device: torch.device,
) -> Tensor:
    """Bilinear interpolation from the image to the voxels, (n_voxels, n_v * n_u) CSR."""
    pixel_mm = u_mm[1] - u_mm[0]
    columns, values = _bilinear_entries((u - u_mm[0]) / pixel_mm, (v - v_mm[0]) / pixel_mm, u_mm.size)
    rows = np.arange(0, 4 * u.size + 1, 4, dtype=np.int32)
    return _to_torch_csr(scipy.sparse.csr_array((values, columns, rows), shape=(u.size, u_mm.size * v_mm.size)), device)


def some_rows(gather: Tensor, rows: Tensor) -> Tensor:
    """Rows of a bilinear gather, given by their positions, (n,)."""
    columns = gather.col_indices().view(-1, 4)[rows].flatten()
    values = gather.values().view(-1, 4)[rows].flatten()
    first = torch.arange(0, 4 * rows.numel() + 1, 4, dtype=torch.int32, device=rows.device)
    return _csr(first, columns, values, (rows.numel(), gather.shape[1]))


def transposed(gather: Tensor) -> Tensor:
    """Transpose as CSR, on the same device."""
    g = gather.cpu()
    parts = (g.values().numpy(), g.col_indices().numpy(), g.crow_indices().numpy())
    return _to_torch_csr(scipy.sparse.csr_array(parts, shape=tuple(g.shape)).T.tocsr(), gather.device)


@nb.njit(parallel=True, cache=True)
def _bilinear_entries(
    u: NDArray[np.float64], v: NDArray[np.float64], n_u: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    columns = np.empty(4 * u.size, np.int32)
    values = np.empty(4 * u.size, np.float32)
    for n in nb.prange(u.size):
        i, j = int(np.floor(u[n])), int(np.floor(v[n]))
        a, b = u[n] - i, v[n] - j
        corner, e = j * n_u + i, 4 * n
        columns[e], values[e] = corner, (1 - a) * (1 - b)
        columns[e + 1], values[e + 1] = corner + 1, a * (1 - b)
        columns[e + 2], values[e + 2] = corner + n_u, (1 - a) * b
        columns[e + 3], values[e + 3] = corner + n_u + 1, a * b
    return columns, values


def _to_torch_csr(matrix: scipy.sparse.csr_array, device: torch.device) -> Tensor:
    first, columns = (torch.from_numpy(a.astype(np.int32)).to(device) for a in (matrix.indptr, matrix.indices))
    values = torch.from_numpy(matrix.data.astype(np.float32)).to(device)
    return _csr(first, columns, values, matrix.shape)


def _csr(first: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Sparse CSR tensor; int32 indices, on CPUs several times faster in the product than int64."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(first, columns, values, size=shape, check_invariants=False)
