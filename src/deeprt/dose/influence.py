"""The dose influence of beams as an operator: set up by one ray trace a beam, applied in milliseconds.

For voxel *i* with radiological depth *d*, distance *s* from the source and projection *(u, v)* onto the isocenter
plane, and a fluence image *x* on that plane (Bortfeld, Schlegel and Rhein, Med. Phys. 20, 311, 1993,
doi:10.1118/1.597070):

    dose_i = c · S_c · (SAD/s)² · Σ_k  D_k(d) · (w_k ∗ g ∗ [Ψ · x])(u, v)

with the head-scatter factor S_c of the collimator opening and the horns Ψ. The influence of a beam therefore
factorizes into ``Σ_k diag(A_k) · S · C_k · P``: a depth factor per voxel, a sparse bilinear gather with four entries
a voxel, a convolution of the beamlet image, a factor per beamlet. What differs from the paper: the lateral kernels
are sums of Gaussians, so their convolution with rectangular beamlets is separable and exact, and there is no lateral
cut-off. Nothing of size voxels x beamlets is ever built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeprt.beams import Beam, source_to_surface_mm
from deeprt.case import PatientCase
from deeprt.dose.gather import IMAGE_PIXEL_MM, bilinear_gather, image_axis, some_rows, transposed
from deeprt.dose.kernels import gy_per_mu_scale, lateral_sigma_mm, line_integrals
from deeprt.dose.raytrace import radiological_depth
from deeprt.machine import Kernels, Machine
from deeprt.progress import Progress, Silent


@dataclass(frozen=True, eq=False)
class BeamInfluence:
    """Dose influence of one beam on the chosen voxels.

    Parameters
    ----------
    beam : whose open beamlets carry the fluence
    depth_factors : (n_voxels, 3) float32, ``A_k``: calibration, inverse square and depth terms
    gather : (n_voxels, n_v * n_u) sparse CSR float32, ``S``
    u_mm, v_mm : sampling of the convolved image along +Xb and +Yb
    spread_x : (n_cols, n_gaussians * n_u) float32, factor of ``C_k`` along +Xb
    spread_y : (3 * n_v, n_gaussians * n_rows) float32, factor of ``C_k`` along +Yb with the Gaussians' weights
    pixel_factors : (n_open,) float32, ``P``: horns, and head scatter of the rectangle that bounds the open beamlets
    machine : beam model, from which the factors for other pixels follow
    sigma_mm : (n_gaussians,) widths of the lateral Gaussians, penumbra included, at the SSD of the beam
    """

    beam: Beam
    depth_factors: Tensor
    gather: Tensor
    u_mm: NDArray[np.float64]
    v_mm: NDArray[np.float64]
    spread_x: Tensor
    spread_y: Tensor
    pixel_factors: Tensor
    machine: Machine
    sigma_mm: NDArray[np.float64]

    @cached_property
    def scatter(self) -> Tensor:
        """Transpose of ``gather``, (n_v * n_u, n_voxels) sparse CSR."""
        return transposed(self.gather)

    @cached_property
    def _open(self) -> Tensor:
        """Flat indices of the open beamlets, (n_open,)."""
        return torch.from_numpy(np.flatnonzero(self.beam.open_beamlets)).to(self.depth_factors.device)

    def dose(self, fluence_mu: Tensor) -> Tensor:
        """Dose per fraction of fluences: (n_batch, n_open) MU -> (n_batch, n_voxels) Gy."""
        n_batch, (n_rows, n_cols), n_u = fluence_mu.shape[0], self.beam.open_beamlets.shape, self.u_mm.size
        image = fluence_mu.new_zeros(n_batch, n_rows * n_cols).index_copy(
            1, self._open, fluence_mu * self.pixel_factors
        )
        along_x = (image.view(n_batch * n_rows, n_cols) @ self.spread_x).view(n_batch, n_rows, -1, n_u)
        stacked = along_x.permute(2, 1, 0, 3).reshape(-1, n_batch * n_u)  # (n_gaussians * n_rows, n_batch * n_u)
        convolved = (self.spread_y @ stacked).view(3, self.v_mm.size, n_batch, n_u)
        pixels = convolved.permute(1, 3, 0, 2).reshape(-1, 3 * n_batch)  # (n_v * n_u, 3 * n_batch)
        terms = (self.gather @ pixels).view(-1, 3, n_batch) * self.depth_factors[:, :, None]
        # Term by term: sums and einsums over the short axis of three are several times slower on CPUs.
        dose: Tensor = terms[:, 0] + terms[:, 1] + terms[:, 2]
        return dose.T

    def adjoint(self, voxel_values: Tensor) -> Tensor:
        """Transpose of ``dose``: (n_batch, n_voxels) -> (n_batch, n_open)."""
        n_batch, (n_rows, n_cols), n_u = voxel_values.shape[0], self.beam.open_beamlets.shape, self.u_mm.size
        weighted = voxel_values.T[:, None, :] * self.depth_factors[:, :, None]  # (n_voxels, 3, n_batch)
        pixels = (self.scatter @ weighted.flatten(1)).view(self.v_mm.size, n_u, 3, n_batch)
        convolved = pixels.permute(2, 0, 3, 1).reshape(3 * self.v_mm.size, n_batch * n_u)
        stacked = (self.spread_y.T @ convolved).view(-1, n_rows, n_batch, n_u)
        along_x = stacked.permute(2, 1, 0, 3).reshape(n_batch * n_rows, -1)  # (.., n_gaussians * n_u)
        return (along_x @ self.spread_x.T).view(n_batch, n_rows * n_cols)[:, self._open] * self.pixel_factors

    def restricted(self, index: NDArray[np.integer]) -> BeamInfluence:
        """Return the same beam for some of the voxels, given by their positions, (n,), among the present ones."""
        rows = torch.from_numpy(np.asarray(index, dtype=np.int64)).to(self.depth_factors.device)
        depth_factors = self.depth_factors[rows]
        return replace(self, depth_factors=depth_factors, gather=some_rows(self.gather, rows))

    def on_pixels(
        self,
        x_edges_mm: NDArray[np.float64],
        y_edges_mm: NDArray[np.float64],
        *,
        open_: NDArray[np.bool_] | None = None,
    ) -> BeamInfluence:
        """Return the same beam and voxels for a fluence given on other pixels, without tracing rays again.

        Parameters
        ----------
        x_edges_mm, y_edges_mm : increasing edges along +Xb and +Yb at the isocenter plane
        open_ : (n_rows, n_cols) pixels that carry fluence; all if None
        """
        mask = np.ones((y_edges_mm.size - 1, x_edges_mm.size - 1), bool) if open_ is None else open_
        beam = replace(self.beam, x_edges_mm=x_edges_mm, y_edges_mm=y_edges_mm, open_beamlets=mask)
        device = self.depth_factors.device
        spread_x, spread_y = _spreads(self.machine.kernels, self.sigma_mm, beam, self.u_mm, self.v_mm, device)
        factors = _float(_pixel_factors(self.machine, beam), device)
        return replace(self, beam=beam, spread_x=spread_x, spread_y=spread_y, pixel_factors=factors)


@dataclass(frozen=True, eq=False)
class DoseInfluence:
    """Dose influence of several beams; fluence vectors hold the open beamlets of all beams, beam after beam.

    Parameters
    ----------
    beams : one ``BeamInfluence`` a beam
    voxels : (n_voxels,) flat indices into the case's grid
    grid_shape : (n_k, n_j, n_i)
    """

    beams: tuple[BeamInfluence, ...]
    voxels: NDArray[np.int64]
    grid_shape: tuple[int, int, int]

    @property
    def n_beamlets(self) -> int:
        """Number of open beamlets of all beams."""
        return sum(b.beam.n_open for b in self.beams)

    @property
    def device(self) -> torch.device:
        """Where the operator's tensors live."""
        return self.beams[0].depth_factors.device

    def dose(self, fluence_mu: Tensor) -> Tensor:
        """Dose per fraction: (n_batch, n_beamlets) MU -> (n_batch, n_voxels) Gy."""
        parts = torch.split(fluence_mu, [b.beam.n_open for b in self.beams], dim=1)
        total = self.beams[0].dose(parts[0])
        for beam, part in zip(self.beams[1:], parts[1:], strict=True):
            total = total + beam.dose(part)
        return total

    def adjoint(self, voxel_values: Tensor) -> Tensor:
        """Transpose of ``dose``: (n_batch, n_voxels) -> (n_batch, n_beamlets)."""
        return torch.cat([b.adjoint(voxel_values) for b in self.beams], dim=1)

    def restricted(self, voxels: NDArray[np.integer]) -> DoseInfluence:
        """Return the same beams for some of the voxels.

        Parameters
        ----------
        voxels : (n,) flat indices into the case's grid, all among the present ones
        """
        index = np.searchsorted(self.voxels, voxels)
        if index.max(initial=0) >= self.voxels.size or not np.array_equal(self.voxels[index], voxels):
            raise ValueError("Dose influence: some of the chosen voxels are not among the present ones.")
        return DoseInfluence(
            tuple(b.restricted(index) for b in self.beams), np.asarray(voxels, np.int64), self.grid_shape
        )

    def to_sparse(self, *, n_batch: int = 64) -> scipy.sparse.csc_array:
        """Explicit dose influence matrix, (n_voxels, n_beamlets), for export and for tests on small cases."""
        columns = []
        for first in range(0, self.n_beamlets, n_batch):
            unit = torch.zeros(min(n_batch, self.n_beamlets - first), self.n_beamlets, device=self.device)
            unit[torch.arange(unit.shape[0]), first + torch.arange(unit.shape[0])] = 1
            columns.append(scipy.sparse.csc_array(self.dose(unit).cpu().numpy().T))
        return scipy.sparse.csc_array(scipy.sparse.hstack(columns))

    def to_volume(self, voxel_values: Tensor) -> NDArray[np.float32]:
        """Put values of the voxels, (n_voxels,), onto the grid; zero elsewhere, (n_k, n_j, n_i) float32."""
        volume = np.zeros(int(np.prod(self.grid_shape)), np.float32)
        volume[self.voxels] = voxel_values.cpu().numpy()
        return volume.reshape(self.grid_shape)

    def to_maps(self, fluence_mu: Tensor) -> tuple[NDArray[np.float64], ...]:
        """Fluence vector (n_beamlets,) as one (n_rows, n_cols) map a beam, zero where closed."""
        maps = []
        for b, part in zip(self.beams, torch.split(fluence_mu.cpu(), [b.beam.n_open for b in self.beams]), strict=True):
            image = np.zeros(b.beam.open_beamlets.shape)
            image[b.beam.open_beamlets] = part.numpy()
            maps.append(image)
        return tuple(maps)

    def neighbors(self) -> tuple[Tensor, Tensor]:
        """Pairs of open beamlets side by side in one beam, as positions in the fluence vector, (n_pairs,) each."""
        firsts, seconds, n_before = [], [], 0
        for b in self.beams:
            mask = b.beam.open_beamlets
            number = np.full(mask.shape, -1)
            number[mask] = n_before + np.arange(mask.sum())
            for a, z in ((number[:, :-1], number[:, 1:]), (number[:-1], number[1:])):
                both = (a >= 0) & (z >= 0)
                firsts.append(a[both])
                seconds.append(z[both])
            n_before += b.beam.n_open
        return (
            torch.from_numpy(np.concatenate(firsts)).to(self.device),
            torch.from_numpy(np.concatenate(seconds)).to(self.device),
        )

    def from_maps(self, maps: Sequence[NDArray[np.float64]]) -> Tensor:
        """Fluence vector (n_beamlets,) float32 of one (n_rows, n_cols) map a beam."""
        parts = [m[b.beam.open_beamlets] for b, m in zip(self.beams, maps, strict=True)]
        return _float(np.concatenate(parts), self.device)


def dose_influence(
    case: PatientCase,
    beams: Sequence[Beam],
    machine: Machine,
    *,
    voxels: NDArray[np.integer] | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> DoseInfluence:
    """Set up the dose influence of beams.

    Parameters
    ----------
    voxels : (n_voxels,) flat indices into the case's grid; every voxel with a part in the external structure if None
    device : of the operator's tensors

    Raises
    ------
    ValueError
        If there is no beam, or a voxel lies behind the source.
    """
    if not beams:
        raise ValueError("Dose influence needs at least one beam.")
    report = progress or Silent()
    chosen = np.flatnonzero(case.external.fraction > 0) if voxels is None else np.asarray(voxels)
    if chosen.size == 0:
        raise ValueError("Dose influence needs at least one voxel; is the external structure empty?")
    points = case.grid.points_lps(chosen)
    parts = []
    for number, beam in enumerate(beams):
        report.step("dose influence", number / len(beams), f"{beam.name} of {len(beams)}")
        parts.append(beam_influence(case, beam, machine, points, torch.device(device)))
    report.step("dose influence", 1.0)
    return DoseInfluence(tuple(parts), chosen.astype(np.int64), case.grid.shape)


def beam_influence(
    case: PatientCase,
    beam: Beam,
    machine: Machine,
    points: NDArray[np.float64],
    device: torch.device,
    *,
    pixel_mm: float = IMAGE_PIXEL_MM,
) -> BeamInfluence:
    """Set up the influence of one beam.

    Parameters
    ----------
    points : (n_voxels, 3) LPS, mm
    pixel_mm : sampling of the convolved image at the isocenter plane
    """
    u, v, distance = beam.project(points)
    if distance.min() <= 0:
        raise ValueError(f"{beam.name}: a voxel lies behind the source; check the isocenter and the grid.")
    depth = radiological_depth(case.density, case.grid, beam.source_lps, points)
    scale = gy_per_mu_scale(machine) * (machine.sad_mm / np.linalg.norm(points - beam.source_lps, axis=1)) ** 2
    u_mm, v_mm = image_axis(u, pixel_mm), image_axis(v, pixel_mm)
    # Where the axis misses the patient there is no SSD; that of the calibration is as good as any.
    sigma_mm = lateral_sigma_mm(machine, source_to_surface_mm(case, beam) or machine.output.ssd_mm)
    spread_x, spread_y = _spreads(machine.kernels, sigma_mm, beam, u_mm, v_mm, device)
    return BeamInfluence(
        beam=beam,
        depth_factors=_float((scale * machine.kernels.depth_terms(depth)).T, device),
        gather=bilinear_gather(u, v, u_mm, v_mm, device),
        u_mm=u_mm,
        v_mm=v_mm,
        spread_x=spread_x,
        spread_y=spread_y,
        pixel_factors=_float(_pixel_factors(machine, beam), device),
        machine=machine,
        sigma_mm=sigma_mm,
    )


def _spreads(
    kernels: Kernels,
    sigma_mm: NDArray[np.float64],
    beam: Beam,
    u_mm: NDArray[np.float64],
    v_mm: NDArray[np.float64],
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Factors of the convolution along +Xb and +Yb, as `BeamInfluence` holds them."""
    along_x = line_integrals(sigma_mm, u_mm, beam.x_edges_mm)  # (n_gaussians, n_u, n_cols)
    along_y = line_integrals(sigma_mm, v_mm, beam.y_edges_mm)  # (n_gaussians, n_v, n_rows)
    weighted = np.einsum("kj,jvr->kvjr", kernels.weight, along_y)
    return (
        _float(along_x.transpose(2, 0, 1).reshape(beam.x_edges_mm.size - 1, -1), device),
        _float(weighted.reshape(3 * v_mm.size, -1), device),
    )


def _pixel_factors(machine: Machine, beam: Beam) -> NDArray[np.float64]:
    """Head scatter and horns of the open beamlets, (n_open,)."""
    rows, columns = np.nonzero(beam.open_beamlets)
    if rows.size == 0:
        return np.ones(0)
    x, y = beam.x_edges_mm, beam.y_edges_mm
    width, height = x[columns.max() + 1] - x[columns.min()], y[rows.max() + 1] - y[rows.min()]
    radius = np.hypot((x[columns] + x[columns + 1]) / 2, (y[rows] + y[rows + 1]) / 2)
    return machine.head_scatter.of_opening(width, height) * machine.off_axis.at(radius)


def _float(array: NDArray[np.float64], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(device)
