"""Photon machine files of matRad and pyRadPlan (``photons_*.mat``), read as machines."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import ndtr

from deeprt.errors import InputError
from deeprt.machine import HeadScatter, Kernels, Machine, OffAxis, Output

logger = logging.getLogger(__name__)

KERNEL_SSD_MM = 900.0  # the file tabulates kernels by SSD; a machine has one, that of an isocenter 10 cm deep
MU_PER_WEIGHT = 100.0  # matRad's own factor from its fluence weights to monitor units when it sequences

_LATTICE_MM = 0.5  # on which matRad convolves: a kernel's value at its center stands for one cell of this lattice
_FIELD_MM = 100.0  # reference field
_FWHM_PER_SIGMA = np.sqrt(8 * np.log(2))

# The fit: fields and depths of clinical use, and where the search for the Gaussians' widths begins.
_HALF_WIDTHS_MM = np.geomspace(2.0, 150.0, 40)
_DEPTHS_MM = np.array([5.0, 10.0, 15.0, 30.0, 50.0, 75.0, 100.0, 150.0, 200.0, 250.0, 300.0])
_START_SIGMA_MM = np.geomspace(2.0, 100.0, 5)
_RIDGE = 1e-4  # keeps Gaussians of like width from cancelling each other


def read_matrad_machine(path: Path, *, like: Machine) -> Machine:
    """Read a photon machine file of matRad or pyRadPlan.

    The three tabulated kernels become sums of one set of Gaussians, fitted to the dose on the axis of square fields
    of 4 to 300 mm in depths of 5 to 300 mm, as matRad would compute it; weights may be negative, as the tabulated
    kernels are. Of the kernels, which matRad chooses anew for every beam, those nearest to an SSD of 900 mm are taken.
    Monitor units follow matRad's sequencing: a fluence weight of 1 is 100 MU. The horns are the file's primary
    fluence, which matRad and pyRadPlan apply only on request. The file's kernels hold the whole output factor, so
    there is no further head scatter.

    Parameters
    ----------
    like : whose leaves, jaws, clearance and limits the machine gets, of which the file says nothing

    Raises
    ------
    InputError
        If the file is no such machine file, lacks an entry, or is of another kind of radiation.
    """
    meta, data, version = _contents(path)
    radius, table = _kernel_table(path, data)
    if version < 2:  # older files give the integral over a cell of the lattice instead of a value per mm²
        table = table / _LATTICE_MM**2
    try:
        kernels = fit_kernels(
            radius,
            table,
            attenuation_per_mm=float(data["m"]),
            beta_per_mm=np.asarray(data["betas"], np.float64),
            penumbra_sigma_mm=float(data["penumbraFWHMatIso"]) / _FWHM_PER_SIGMA,
        )
        horns = np.asarray(data["primaryFluence"], np.float64)
        sad_mm = float(meta["SAD"])
        machine = replace(
            like,
            name=path.stem,
            energy_mv=float(data["energy"]),
            sad_mm=sad_mm,
            kernels=kernels,
            head_scatter=HeadScatter(np.array([_FIELD_MM]), np.array([1.0])),
            off_axis=OffAxis(horns[:, 0], horns[:, 1] / horns[0, 1]),
            output=_output(radius, table, kernels, sad_mm),
        )
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(f"Machine file '{path}': {error}") from error
    logger.info("%s: leaves, jaws, clearance and limits are those of %s", machine.name, like.name)
    return machine


def fit_kernels(
    radius_mm: NDArray[np.float64],
    table: NDArray[np.float64],
    *,
    attenuation_per_mm: float,
    beta_per_mm: NDArray[np.float64],
    penumbra_sigma_mm: float,
) -> Kernels:
    """Fit sums of Gaussians to tabulated lateral kernels.

    One Gaussian has no width but the penumbra's: it stands for the kernels' central peak. The widths of the others
    are searched for; for each choice the weights follow by linear least squares of relative deviations of dose.

    Parameters
    ----------
    radius_mm : (n_radii,) at the isocenter plane, increasing from 0
    table : (3, n_radii) per mm², one kernel a depth term
    attenuation_per_mm, beta_per_mm, penumbra_sigma_mm : as in `Kernels`
    """
    plain = Kernels(attenuation_per_mm, beta_per_mm, np.zeros(1), np.zeros((3, 1)), penumbra_sigma_mm)
    terms = plain.depth_terms(_DEPTHS_MM)  # (3, n_depths)
    dose = square_integrals(radius_mm, table, _HALF_WIDTHS_MM, penumbra_sigma_mm).T @ terms  # (n_fields, n_depths)
    if not np.all(dose > 0):
        raise ValueError("its kernels give no positive dose on the axis of square fields.")

    def fitted(sigma_mm: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights, (3, n_gaussians), and the relative deviations they leave, flat."""
        width = np.hypot(sigma_mm, penumbra_sigma_mm)
        share = (2 * ndtr(_HALF_WIDTHS_MM[:, None] / width) - 1) ** 2
        model = np.einsum("fj,kd->fdkj", share, terms) / dose[:, :, None, None]
        matrix = model.reshape(dose.size, -1)
        n = matrix.shape[1]
        rows = np.vstack([matrix, _RIDGE * np.eye(n)])
        weight = np.linalg.lstsq(rows, np.r_[np.ones(dose.size), np.zeros(n)], rcond=None)[0]
        return weight.reshape(3, -1), matrix @ weight - 1

    found = least_squares(lambda p: fitted(np.r_[0.0, np.exp(p)])[1], np.log(_START_SIGMA_MM), max_nfev=50)
    sigma = np.r_[0.0, np.sort(np.exp(found.x))]
    weight, deviation = fitted(sigma)
    logger.info("Gaussian kernels: deviation up to %.2f %% on the axis of square fields", 100 * np.abs(deviation).max())
    return replace(plain, sigma_mm=sigma, weight=weight)


def square_integrals(
    radius_mm: NDArray[np.float64],
    table: NDArray[np.float64],
    half_widths_mm: NDArray[np.float64],
    penumbra_sigma_mm: float,
) -> NDArray[np.float64]:
    """Tabulated kernels, convolved with square fields and the penumbra on matRad's lattice, on the axis.

    Returns
    -------
    (3, n_fields)
    """
    reach = np.ceil(radius_mm[-1] / _LATTICE_MM)
    x = _LATTICE_MM * np.arange(-reach, reach + 1)
    radius = np.hypot(x[:, None], x)
    cells = np.stack([_LATTICE_MM**2 * np.interp(radius, radius_mm, values, right=0.0) for values in table])
    half = half_widths_mm[:, None]
    window = ndtr((x + half) / penumbra_sigma_mm) - ndtr((x - half) / penumbra_sigma_mm)
    return np.asarray(np.einsum("fx,kxy,fy->kf", window, cells, window, optimize=True))


def _output(radius: NDArray[np.float64], table: NDArray[np.float64], kernels: Kernels, sad_mm: float) -> Output:
    """Dose per MU at the isocenter, from the tabulated kernels, in the reference field of unit weight."""
    depth = sad_mm - KERNEL_SSD_MM
    integrals = square_integrals(radius, table, np.array([_FIELD_MM / 2]), kernels.penumbra_sigma_mm)[:, 0]
    terms = kernels.depth_terms(depth)
    return Output(float(integrals @ terms) / MU_PER_WEIGHT, depth, _FIELD_MM, KERNEL_SSD_MM)


def _contents(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Any], int]:
    """Sections ``meta`` and ``data`` with all entries that are needed, and the format's version."""
    try:
        machine = scipy.io.loadmat(path, simplify_cells=True).get("machine")
    except (OSError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"Machine file '{path}' cannot be read as a MATLAB file (version 7 or older): {error}"
        ) from error
    if not isinstance(machine, dict):
        raise InputError(f"Machine file '{path}' has no variable 'machine', as files of matRad and pyRadPlan do.")
    sections = []
    for name, entries in (
        ("meta", ("radiationMode", "SAD")),
        ("data", ("betas", "energy", "m", "primaryFluence", "kernel", "kernelPos", "penumbraFWHMatIso")),
    ):
        section = machine.get(name)
        if not isinstance(section, dict):
            raise InputError(f"Machine file '{path}': 'machine.{name}' is not one structure, with one energy.")
        if name == "meta" and section.get("radiationMode") != "photons":
            raise InputError(f"Machine file '{path}' is for {section.get('radiationMode')}; DeepRT plans photons.")
        for entry in entries:
            if entry not in section:
                raise InputError(f"Machine file '{path}': entry 'machine.{name}.{entry}' is missing.")
        sections.append(section)
    return sections[0], sections[1], int(machine.get("version", 1))


def _kernel_table(path: Path, data: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Radii, (n_radii,), and the kernels of the SSD nearest to `KERNEL_SSD_MM`, (3, n_radii)."""
    listed = data["kernel"]
    by_ssd = [listed] if isinstance(listed, dict) else list(listed)
    radius = np.asarray(data["kernelPos"], np.float64)
    try:
        nearest = min(by_ssd, key=lambda k: abs(float(k["SSD"]) - KERNEL_SSD_MM))
        table = np.stack([np.asarray(nearest[f"kernel{n}"], np.float64) for n in (1, 2, 3)])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"Machine file '{path}': each 'kernel' must hold SSD and kernel1 to kernel3.") from error
    if np.shape(data["betas"]) != (3,) or "kernel4" in nearest:
        raise InputError(f"Machine file '{path}': DeepRT needs three depth terms, 'betas' and kernels.")
    if table.shape[1:] != radius.shape or radius.size < 2 or radius[0] != 0 or not np.all(np.diff(radius) > 0):
        raise InputError(f"Machine file '{path}': 'kernelPos' must increase from 0 and match the kernels' length.")
    return radius, table
