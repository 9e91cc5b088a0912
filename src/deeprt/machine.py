"""The treatment machine: geometry, leaves, limits and the beam model's parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Mlc:
    """A multileaf collimator whose leaves travel along Xb; lengths at the isocenter plane, mm.

    Parameters
    ----------
    leaf_edges_mm : (n_pairs + 1,) increasing, along +Yb
    max_position_mm : farthest a leaf tip gets from the axis on its own side
    max_overtravel_mm : farthest a leaf tip gets beyond the axis to the other side
    max_span_mm : largest distance between tips of one bank
    min_gap_mm : between opposing tips that are not closed behind a jaw
    interdigitation : whether a leaf may pass a neighbor of the opposing bank
    transmission : share of the fluence that passes the leaves
    tip_offset_mm : how much further back than its nominal position a rounded tip's 50 % fluence lies
    max_speed_mm_per_s : of a leaf
    """

    leaf_edges_mm: NDArray[np.float64]
    max_position_mm: float
    max_overtravel_mm: float
    max_span_mm: float
    min_gap_mm: float
    interdigitation: bool
    transmission: float
    tip_offset_mm: float
    max_speed_mm_per_s: float

    def __post_init__(self) -> None:
        if self.leaf_edges_mm.size < 2 or not np.all(np.diff(self.leaf_edges_mm) > 0):
            raise ValueError("MLC leaf edges must increase and bound at least one leaf pair.")
        if not 0 <= self.transmission < 1:
            raise ValueError(f"MLC transmission must lie in 0 to 1, got {self.transmission}.")
        if self.tip_offset_mm < 0:
            raise ValueError(f"MLC tip offset must not be negative, got {self.tip_offset_mm} mm.")

    @property
    def n_pairs(self) -> int:
        """Number of leaf pairs."""
        return self.leaf_edges_mm.size - 1


@dataclass(frozen=True)
class Jaws:
    """Limits of the jaws at the isocenter plane, mm: the field lies within ``±max_x`` by ``±max_y``.

    ``margin_mm`` is left between the outermost open leaf and the jaw.
    """

    max_x_mm: float
    max_y_mm: float
    margin_mm: float


@dataclass(frozen=True)
class Clearance:
    """What the gantry head must not touch, lengths in mm from the isocenter.

    Parameters
    ----------
    head_distance_mm, head_radius_mm : of the head's face, a disk, from the isocenter
    half_width_mm, half_length_mm : of the box that holds couch and patient, across and along the couch
    below_mm, above_mm : reach of that box below and above the isocenter
    max_couch_deg : largest rotation of the couch to either side
    """

    head_distance_mm: float
    head_radius_mm: float
    half_width_mm: float
    half_length_mm: float
    below_mm: float
    above_mm: float
    max_couch_deg: float


@dataclass(frozen=True, eq=False)
class Kernels:
    """Pencil-beam model in water: three depth terms, each with a lateral kernel that is a sum of Gaussians.

    ``dose(d, r) = Σ_k β_k/(β_k − m) (e^{−m d} − e^{−β_k d}) Σ_j weight[k, j] · G(r; sigma_mm[j])`` after
    Bortfeld, Schlegel and Rhein, Med. Phys. 20, 311 (1993), doi:10.1118/1.597070, who tabulate the lateral
    kernels. Gaussians (normalized to unit integral, in mm at the isocenter plane) make their convolution with
    any rectangle exact. The focal spot's ``penumbra_sigma_mm`` is added in quadrature to every ``sigma_mm``.

    Parameters
    ----------
    attenuation_per_mm : m
    beta_per_mm : (3,), β
    sigma_mm : (n_gaussians,) for a surface at the SSD of the machine's `Output`; they scale with the distance
    weight : (3, n_gaussians)
    penumbra_sigma_mm : of the source, at the isocenter plane
    """

    attenuation_per_mm: float
    beta_per_mm: NDArray[np.float64]
    sigma_mm: NDArray[np.float64]
    weight: NDArray[np.float64]
    penumbra_sigma_mm: float

    def __post_init__(self) -> None:
        if self.beta_per_mm.shape != (3,) or self.weight.shape != (3, self.sigma_mm.size):
            raise ValueError("Kernels need three beta and a (3, n_gaussians) weight table.")
        if np.any(np.abs(self.beta_per_mm - self.attenuation_per_mm) < 1e-9):
            raise ValueError("Kernels: no beta may equal the attenuation.")

    def depth_terms(self, depth_mm: ArrayLike) -> NDArray[np.float64]:
        """Depth terms ``D_k(d) = β_k/(β_k − m) (e^{−m d} − e^{−β_k d})``.

        Parameters
        ----------
        depth_mm : (...,) radiological depth, mm of water

        Returns
        -------
        (3, ...) float64
        """
        d = np.asarray(depth_mm, dtype=np.float64)
        m = self.attenuation_per_mm
        primary = np.exp(-m * d)
        return np.stack([beta / (beta - m) * (primary - np.exp(-beta * d)) for beta in self.beta_per_mm])


@dataclass(frozen=True, eq=False)
class HeadScatter:
    """In-air output ratio S_c, which measured output factors contain beside the phantom scatter of the kernels.

    Definition: T. C. Zhu et al. (AAPM TG-74), Med. Phys. 36, 5261 (2009), doi:10.1118/1.3227367.

    Parameters
    ----------
    field_mm : (n,) increasing sides of square collimator openings at the isocenter plane
    factor : (n,) S_c, 1 for the reference field
    """

    field_mm: NDArray[np.float64]
    factor: NDArray[np.float64]

    def __post_init__(self) -> None:
        _check_table("Head scatter", "fields", self.field_mm, self.factor)

    def of_opening(self, width_mm: float, height_mm: float) -> float:
        """S_c of a rectangular opening through its equivalent square ``2ab/(a + b)``; ends are held.

        >>> HeadScatter(np.array([40.0, 100.0]), np.array([0.97, 1.0])).of_opening(50.0, 100.0)
        0.9833...
        """
        side = equivalent_square_mm(width_mm, height_mm)
        return float(np.interp(side, self.field_mm, self.factor))


@dataclass(frozen=True, eq=False)
class OffAxis:
    """Horns Ψ of the primary fluence: relative to the axis, by the distance from it at the isocenter plane.

    Parameters
    ----------
    radius_mm : (n,) increasing from 0
    ratio : (n,) beginning with 1
    """

    radius_mm: NDArray[np.float64]
    ratio: NDArray[np.float64]

    def __post_init__(self) -> None:
        _check_table("Off-axis ratio", "radii", self.radius_mm, self.ratio)
        if self.radius_mm[0] != 0 or self.ratio[0] != 1:
            raise ValueError("Off-axis ratio: the table must begin with 1 on the axis.")

    def at(self, radius_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ψ at distances from the axis, same shape; linear between the entries, ends held."""
        return np.asarray(np.interp(radius_mm, self.radius_mm, self.ratio))


@dataclass(frozen=True)
class Output:
    """Calibration: ``gy_per_mu`` at ``depth_mm`` on the axis of a square field at the stated SSD."""

    gy_per_mu: float
    depth_mm: float
    field_mm: float
    ssd_mm: float


@dataclass(frozen=True, eq=False)
class Machine:
    """A treatment machine with one photon energy."""

    name: str
    energy_mv: float
    sad_mm: float
    mlc: Mlc
    jaws: Jaws
    clearance: Clearance
    kernels: Kernels
    head_scatter: HeadScatter
    off_axis: OffAxis
    output: Output
    dose_rate_mu_per_min: float
    max_mu_per_beam: float
    min_segment_mu: float
    min_segment_area_mm2: float


def equivalent_square_mm(width_mm: ArrayLike, height_mm: ArrayLike) -> NDArray[np.float64]:
    """Side ``2ab/(a + b)`` of the squares that scatter like rectangles, same shape; 0 for closed ones."""
    width, height = np.asarray(width_mm, float), np.asarray(height_mm, float)
    return np.asarray(2 * width * height / np.maximum(width + height, 1e-9))


def _check_table(name: str, abscissa: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    if x.ndim != 1 or x.size < 1 or x.shape != y.shape or not np.all(np.diff(x) > 0):
        raise ValueError(f"{name}: needs increasing {abscissa} and one value each.")
    if not (np.all(np.isfinite(y)) and np.all(y > 0)):
        raise ValueError(f"{name}: every value must be positive and finite.")
