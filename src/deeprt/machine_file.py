"""Machine files: JSON with a source beside every number, and those of matRad."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from deeprt.errors import InputError
from deeprt.machine import Clearance, HeadScatter, Jaws, Kernels, Machine, Mlc, OffAxis, Output


def machine_names() -> tuple[str, ...]:
    """Names of the machines that ship with the package."""
    folder = resources.files("deeprt") / "data" / "machines"
    return tuple(sorted(f.name.removesuffix(".json") for f in folder.iterdir() if f.name.endswith(".json")))


def read_machine(name_or_file: str | Path) -> Machine:
    """Read a shipped machine by name, a machine file, or a photon machine of matRad (``.mat``).

    In a machine file every number stands as ``{"value": ..., "source": "..."}``.

    Raises
    ------
    InputError
        If there is no such machine or file, or the file lacks an entry or has an unknown one.
    """
    path = Path(name_or_file)
    if path.suffix == ".mat":
        from deeprt.matrad_machine import read_matrad_machine  # fits kernels with SciPy, which others need not load

        return read_matrad_machine(path, like=read_machine("generic_6mv"))
    return _parse(_content(name_or_file), str(name_or_file))


def machine_text(machine: Machine, *, like: str | Path, source: str) -> str:
    """Write a commissioned machine as the text of a machine file.

    Parameters
    ----------
    like : machine, shipped or a file, whose entries that commissioning does not touch are repeated with their sources
    source : of everything that commissioning found
    """
    content = _content(like)
    content["comment"] = "For research; no machine in clinical use."
    for key in ("name", "energy_mv"):
        content[key] = {"value": getattr(machine, key), "source": source}
    for section in ("kernels", "head_scatter", "off_axis", "output"):
        part = getattr(machine, section)
        content[section] = {key: {"value": _plain(getattr(part, key)), "source": source} for key in _ENTRIES[section]}
    lines = []
    for key in ("comment", *_ENTRIES[""]):
        entry = content[key]
        if key in _ENTRIES:
            inner = ",\n".join(f"    {json.dumps(k)}: {_line(v)}" for k, v in entry.items())
            lines.append(f"  {json.dumps(key)}: {{\n{inner}\n  }}")
        else:
            lines.append(f"  {json.dumps(key)}: {_line(entry)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _line(entry: Any) -> str:
    return json.dumps(entry, ensure_ascii=False)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _content(name_or_file: str | Path) -> Any:
    """Read the JSON of a shipped machine or of a machine file."""
    if str(name_or_file) in machine_names():
        shipped = resources.files("deeprt") / "data" / "machines" / f"{name_or_file}.json"
        return json.loads(shipped.read_text(encoding="utf-8"))
    try:
        return json.loads(Path(name_or_file).read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        known = ", ".join(machine_names())
        raise InputError(f"No machine '{name_or_file}': it is neither a file nor one of {known}.") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"Machine file '{name_or_file}' is not valid JSON: {error}.") from error


_ENTRIES = {
    "": ("name", "energy_mv", "sad_mm", "dose_rate_mu_per_min", "max_mu_per_beam", "min_segment_mu",
         "min_segment_area_mm2", "mlc", "jaws", "clearance", "kernels", "head_scatter", "off_axis", "output"),
    "mlc": ("leaf_edges_mm", "max_position_mm", "max_overtravel_mm", "max_span_mm", "min_gap_mm",
            "interdigitation", "transmission", "tip_offset_mm", "max_speed_mm_per_s"),
    "jaws": ("max_x_mm", "max_y_mm", "margin_mm"),
    "clearance": ("head_distance_mm", "head_radius_mm", "half_width_mm", "half_length_mm", "below_mm", "above_mm",
                  "max_couch_deg"),
    "kernels": ("attenuation_per_mm", "beta_per_mm", "sigma_mm", "weight", "penumbra_sigma_mm"),
    "head_scatter": ("field_mm", "factor"),
    "off_axis": ("radius_mm", "ratio"),
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
            head_scatter=HeadScatter(**_values(top["head_scatter"], "head_scatter", origin)),
            off_axis=OffAxis(**_values(top["off_axis"], "off_axis", origin)),
            output=Output(**_values(top["output"], "output", origin)),
        )
    except (TypeError, AttributeError, ValueError) as error:
        raise InputError(f"Machine '{origin}': {error}") from error
