"""The treatment machine: geometry, leaves, limits and the beam model's parameters, read from JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeprt.errors import InputError


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
    max_speed_mm_per_s : of a leaf
    """

    leaf_edges_mm: NDArray[np.float64]
    max_position_mm: float
    max_overtravel_mm: float
    max_span_mm: float
    min_gap_mm: float
    interdigitation: bool
    transmission: float
    max_speed_mm_per_s: float

    def __post_init__(self) -> None:
        if self.leaf_edges_mm.size < 2 or not np.all(np.diff(self.leaf_edges_mm) > 0):
            raise ValueError("MLC leaf edges must increase and bound at least one leaf pair.")
        if not 0 <= self.transmission < 1:
            raise ValueError(f"MLC transmission must lie in 0 to 1, got {self.transmission}.")

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
    sigma_mm : (n_gaussians,)
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
    output: Output
    dose_rate_mu_per_min: float
    max_mu_per_beam: float
    min_segment_mu: float
    min_segment_area_mm2: float


def machine_names() -> tuple[str, ...]:
    """Names of the machines that ship with the package."""
    folder = resources.files("deeprt") / "data" / "machines"
    return tuple(sorted(f.name.removesuffix(".json") for f in folder.iterdir() if f.name.endswith(".json")))


def read_machine(name_or_file: str | Path) -> Machine:
    """Read a shipped machine by name, or a machine file.

    In the file every number stands as ``{"value": ..., "source": "..."}``.

    Raises
    ------
    InputError
        If there is no such machine or file, or the file lacks an entry or has an unknown one.
    """
    if str(name_or_file) in machine_names():
        source = resources.files("deeprt") / "data" / "machines" / f"{name_or_file}.json"
        return _parse(json.loads(source.read_text(encoding="utf-8")), str(name_or_file))
    path = Path(name_or_file)
    if not path.is_file():
        raise InputError(f"No machine '{name_or_file}': it is neither a file nor one of {', '.join(machine_names())}.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"Machine file '{path}' is not valid JSON: {error}.") from error
    return _parse(content, str(path))


_ENTRIES = {
    "": ("name", "energy_mv", "sad_mm", "dose_rate_mu_per_min", "max_mu_per_beam", "min_segment_mu",
         "min_segment_area_mm2", "mlc", "jaws", "clearance", "kernels", "output"),
    "mlc": ("leaf_edges_mm", "max_position_mm", "max_overtravel_mm", "max_span_mm", "min_gap_mm",
            "interdigitation", "transmission", "max_speed_mm_per_s"),
    "jaws": ("max_x_mm", "max_y_mm", "margin_mm"),
    "clearance": ("head_distance_mm", "head_radius_mm", "half_width_mm", "half_length_mm", "below_mm", "above_mm",
                  "max_couch_deg"),
    "kernels": ("attenuation_per_mm", "beta_per_mm", "sigma_mm", "weight", "penumbra_sigma_mm"),
    "output": ("gy_per_mu", "depth_mm", "field_mm", "ssd_mm"),
}  # fmt: skip


def _values(content: Any, section: str, origin: str) -> dict[str, Any]:
    """Unwrap the values of one section, arrays as float64; the errors name entry and file."""
    where = f"Machine '{origin}'" + (f", section '{section}'" if section else "")
    if not isinstance(content, dict):
        raise InputError(f"{where}: expected a JSON object, got {type(content).__name__}.")
    known = _ENTRIES[section]
    for key in content:
        if key not in known and key != "comment":
            raise InputError(f"{where}: unknown entry '{key}'; known are {', '.join(known)}.")
    values = {}
    for key in known:
        if key not in content:
            raise InputError(f"{where}: entry '{key}' is missing.")
        entry = content[key]
        if key in _ENTRIES:
            values[key] = entry
            continue
        if not isinstance(entry, dict) or set(entry) != {"value", "source"}:
            raise InputError(f"{where}: entry '{key}' must be an object with 'value' and 'source'.")
        value = entry["value"]
        values[key] = np.array(value, dtype=np.float64) if isinstance(value, list) else value
    return values


def _parse(content: Any, origin: str) -> Machine:
    top = _values(content, "", origin)
    try:
        return Machine(
            **{k: v for k, v in top.items() if k not in _ENTRIES},
            mlc=Mlc(**_values(top["mlc"], "mlc", origin)),
            jaws=Jaws(**_values(top["jaws"], "jaws", origin)),
            clearance=Clearance(**_values(top["clearance"], "clearance", origin)),
            kernels=Kernels(**_values(top["kernels"], "kernels", origin)),
            output=Output(**_values(top["output"], "output", origin)),
        )
    except (TypeError, AttributeError, ValueError) as error:
        raise InputError(f"Machine '{origin}': {error}") from error
