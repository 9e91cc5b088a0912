"""The pencil-beam model in closed form: lateral Gaussians, square fields, calibration."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from deeprt.machine import Machine

_PIXEL_MM = 5.0  # within which the horns are taken as constant
_TYPICAL_DEPTH_MM = 100.0  # at 900 mm SSD the true scale differs from this by 1 % at the surface and at 20 cm


def lateral_sigma_mm(machine: Machine, ssd_mm: float) -> NDArray[np.float64]:
    """Widths of the Gaussians at the isocenter plane for a surface at ``ssd_mm``, penumbra included, (n_gaussians,).

    In water the kernels have the same widths wherever the source is; seen on the isocenter plane they scale with the
    inverse of the distance from the source. Machines hold them for the SSD of their output, and the ratio of distances
    at a depth that is typical of the isocenter's stands for all depths. (Planning systems after Bortfeld et al.
    tabulate the kernels by SSD instead.)
    """
    scale = (machine.output.ssd_mm + _TYPICAL_DEPTH_MM) / (ssd_mm + _TYPICAL_DEPTH_MM)
    return np.hypot(scale * machine.kernels.sigma_mm, machine.kernels.penumbra_sigma_mm)


def line_integrals(sigma_mm: NDArray[np.float64], at_mm: ArrayLike, edges_mm: ArrayLike) -> NDArray[np.float64]:
    """Integrals of Gaussians over intervals, the one-dimensional factor of their convolution with a rectangle.

    Parameters
    ----------
    sigma_mm : (n_gaussians,)
    at_mm : (n_at,) where the convolution is evaluated
    edges_mm : (n_intervals + 1,) increasing

    Returns
    -------
    (n_gaussians, n_at, n_intervals); rows sum to at most 1

    Examples
    --------
    >>> line_integrals(np.array([2.0]), [0.0], [-2.0, 2.0]).round(4)  # one standard deviation to each side
    array([[[0.6827]]])
    """
    at, edges = np.asarray(at_mm, float), np.asarray(edges_mm, float)
    scaled = (edges[None, None, :] - at[None, :, None]) / sigma_mm[:, None, None]
    return np.diff(ndtr(scaled), axis=2)


def square_field_dose(
    machine: Machine, depth_mm: ArrayLike, x_mm: ArrayLike, *, field_mm: float, ssd_mm: float
) -> NDArray[np.float64]:
    """Dose per MU of an open square field in water, Gy, in closed form.

    Parameters
    ----------
    depth_mm, x_mm : (n,) below the surface, and off the axis along +Xb at that depth
    field_mm : side of the field at the isocenter plane
    ssd_mm : source to water surface
    """
    return gy_per_mu_scale(machine) * _relative_dose(machine, depth_mm, x_mm, field_mm, ssd_mm)


def axis_dose(machine: Machine, depth_mm: ArrayLike, *, field_mm: float, ssd_mm: float) -> NDArray[np.float64]:
    """Dose per MU on the axis of an open square field in water, Gy; as `square_field_dose`."""
    depth = np.asarray(depth_mm, float)
    return square_field_dose(machine, depth, np.zeros_like(depth), field_mm=field_mm, ssd_mm=ssd_mm)


def gy_per_mu_scale(machine: Machine) -> float:
    """Factor that turns the model's relative dose of unit fluence into Gy per MU, from the machine's output."""
    o = machine.output
    return float(o.gy_per_mu / _relative_dose(machine, [o.depth_mm], [0.0], o.field_mm, o.ssd_mm)[0])


def open_field(machine: Machine, field_mm: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixels of an open square field: edges along either axis, (n + 1,), and their relative fluence, (n, n)."""
    edges = np.linspace(-field_mm / 2, field_mm / 2, int(np.ceil(field_mm / _PIXEL_MM)) + 1)
    centers = (edges[1:] + edges[:-1]) / 2
    horns = machine.off_axis.at(np.hypot(centers[:, None], centers))
    return edges, machine.head_scatter.of_opening(field_mm, field_mm) * horns


def _relative_dose(
    machine: Machine, depth_mm: ArrayLike, x_mm: ArrayLike, field_mm: float, ssd_mm: float
) -> NDArray[np.float64]:
    depth, x = np.asarray(depth_mm, float), np.asarray(x_mm, float)
    from_source = np.hypot(ssd_mm + depth, x)
    lateral = lateral_integrals(
        lateral_sigma_mm(machine, ssd_mm), *open_field(machine, field_mm), x * machine.sad_mm / (ssd_mm + depth)
    )
    terms = machine.kernels.depth_terms(depth * from_source / (ssd_mm + depth))
    inverse_square = (machine.sad_mm / from_source) ** 2
    return np.asarray(inverse_square * np.einsum("kj,jn,kn->n", machine.kernels.weight, lateral, terms))


def lateral_integrals(
    sigma_mm: NDArray[np.float64], edges_mm: NDArray[np.float64], fluence: NDArray[np.float64], at_mm: ArrayLike
) -> NDArray[np.float64]:
    """Convolve the fluence of a square field with Gaussians, on the +Xb axis.

    Parameters
    ----------
    sigma_mm : (n_gaussians,)
    edges_mm, fluence : (n + 1,) along either axis and (n, n), of `open_field`
    at_mm : (n_at,) at the isocenter plane

    Returns
    -------
    (n_gaussians, n_at) float64
    """
    along_x = line_integrals(sigma_mm, at_mm, edges_mm)
    along_y = line_integrals(sigma_mm, [0.0], edges_mm)[:, 0]
    return np.asarray(np.einsum("jnc,jc->jn", along_x, along_y @ fluence))
