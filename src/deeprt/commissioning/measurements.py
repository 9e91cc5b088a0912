"""Measurements in a water tank: a folder with ``measurements.toml`` and three tables, read and checked."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeprt.config import read_settings
from deeprt.errors import InputError
from deeprt.machine import Output

Float = NDArray[np.float64]

SETTINGS_FILE = "measurements.toml"
DEPTH_DOSES_FILE, PROFILES_FILE, OUTPUT_FACTORS_FILE = "depth_doses.csv", "profiles.csv", "output_factors.csv"
_PER_UNIT = {"mm": 1.0, "cm": 10.0}
_MIN_FIELDS, _MIN_LAST_DEPTH_MM = 3, 200.0
_FACTOR_TOLERANCE = 0.005  # of the reference field's output factor, which is 1 by definition


@dataclass(frozen=True)
class Conditions:
    """What holds for all measurements.

    Parameters
    ----------
    name, energy_mv : of the machine
    source : where the measurements come from; it stands beside every number of the machine file
    reference : calibration: dose per MU at a depth on the axis of a square field, at the SSD of all measurements
    output_factor_depth_mm : at which output factors were measured
    like : machine, shipped or a file, whose collimators and limits are taken over
    """

    name: str
    energy_mv: float
    source: str
    reference: Output
    output_factor_depth_mm: float
    like: str = "generic_6mv"


@dataclass(frozen=True, eq=False)
class DepthDose:
    """Dose along the axis: ``dose_percent`` at ``depth_mm``, (n,) each, in any normalization."""

    field_mm: float
    depth_mm: Float
    dose_percent: Float

    @property
    def depth_of_maximum_mm(self) -> float:
        """Of the measured points."""
        return float(self.depth_mm[self.dose_percent.argmax()])

    def at(self, depth_mm: float) -> float:
        """Dose at a depth, linear between the points."""
        return float(np.interp(depth_mm, self.depth_mm, self.dose_percent))


@dataclass(frozen=True, eq=False)
class Profile:
    """Dose across the axis at one depth: ``dose_percent`` at ``position_mm``, (n,) each, in any normalization."""

    field_mm: float
    depth_mm: float
    position_mm: Float
    dose_percent: Float


@dataclass(frozen=True, eq=False)
class Measurements:
    """What was measured in the water tank.

    Parameters
    ----------
    conditions : that hold for all
    depth_doses : one a field, fields increasing
    profiles : in the file's order
    output_factor : by field side in mm, 1 for the reference field
    in_air_factor : S_c by field side, empty if it was not measured
    """

    conditions: Conditions
    depth_doses: tuple[DepthDose, ...]
    profiles: tuple[Profile, ...]
    output_factor: Mapping[float, float]
    in_air_factor: Mapping[float, float]

    def depth_dose(self, field_mm: float) -> DepthDose:
        """Return the depth dose of a field."""
        return next(d for d in self.depth_doses if d.field_mm == field_mm)


def read_measurements(folder: Path) -> Measurements:
    """Read and check the measurements of one beam.

    The folder holds ``measurements.toml`` (see `Conditions`) and tables with a header: ``depth_doses.csv`` (field,
    depth, dose_percent), ``profiles.csv`` (field, depth, position, dose_percent) and ``output_factors.csv`` (field,
    factor and, if measured, in_air_factor). Lengths carry their unit in the header: ``depth_mm`` or ``depth_cm``.

    Raises
    ------
    InputError
        If a file is missing or the data cannot be right, with file, place and remedy.
    """
    if not folder.is_dir():
        raise InputError(f"'{folder}' is not a folder of measurements; it needs {SETTINGS_FILE} and three tables.")
    conditions = read_settings(Conditions, folder / SETTINGS_FILE)
    _check_conditions(folder / SETTINGS_FILE, conditions)
    reference = conditions.reference.field_mm
    depth_doses = _depth_doses(folder / DEPTH_DOSES_FILE, reference)
    profiles = _profiles(folder / PROFILES_FILE)
    factors, in_air = _output_factors(folder / OUTPUT_FACTORS_FILE, reference)
    for d in depth_doses:
        if d.field_mm not in factors:
            raise InputError(
                f"'{folder / OUTPUT_FACTORS_FILE}' has no factor for the field of {d.field_mm:g} mm, which has a depth"
                " dose; add it."
            )
        if d.depth_mm[-1] < conditions.output_factor_depth_mm:
            raise InputError(
                f"'{folder / DEPTH_DOSES_FILE}', field of {d.field_mm:g} mm: the depths end at {d.depth_mm[-1]:g} mm, "
                f"short of the {conditions.output_factor_depth_mm:g} mm of the output factors."
            )
    known = {d.field_mm for d in depth_doses}
    for p in profiles:
        if p.field_mm not in known:
            raise InputError(
                f"'{folder / DEPTH_DOSES_FILE}' lacks a depth dose of the field of {p.field_mm:g} mm of the profiles."
            )
    return Measurements(conditions, depth_doses, profiles, factors, in_air)


def _check_conditions(path: Path, conditions: Conditions) -> None:
    """Refuse values that are in another unit than the names say."""
    r = conditions.reference
    plausible = (
        ("reference.gy_per_mu", r.gy_per_mu, 0.001, 0.05, "Gy per MU, usually 0.01"),
        ("reference.depth_mm", r.depth_mm, 5.0, 300.0, "mm"),
        ("reference.field_mm", r.field_mm, 20.0, 400.0, "mm"),
        ("reference.ssd_mm", r.ssd_mm, 500.0, 2000.0, "mm"),
        ("output_factor_depth_mm", conditions.output_factor_depth_mm, 12.0, 300.0, "mm"),
        ("energy_mv", conditions.energy_mv, 1.0, 50.0, "MV"),
    )
    for name, value, low, high, unit in plausible:
        if not low <= value <= high:
            raise InputError(f"'{path}': {name} is {value:g}, not within {low:g} to {high:g}; it is in {unit}.")
    if conditions.like.endswith(".mat"):
        raise InputError(
            f"'{path}': like must name a shipped machine or a machine file of DeepRT, not '{conditions.like}'."
        )


def _depth_doses(path: Path, reference_mm: float) -> tuple[DepthDose, ...]:
    table = _read_table(path, lengths=("field", "depth"), others=("dose_percent",))
    curves = []
    for field in np.unique(table["field"]):
        rows = table["field"] == field
        depth, dose = table["depth"][rows], table["dose_percent"][rows]
        where = f"'{path}', field of {field:g} mm"
        _check_increasing(where, "depth", depth)
        _check_percent(where, dose)
        if depth[-1] < _MIN_LAST_DEPTH_MM:
            raise InputError(
                f"{where}: the depths end at {depth[-1]:g} mm, {_MIN_LAST_DEPTH_MM:g} mm are needed; "
                "if they are in centimeters, name the column depth_cm."
            )
        if dose[depth > 0].min() <= 0:
            raise InputError(f"{where}: a dose below the surface is zero; leave out what was not measured.")
        if dose[-1] >= dose.max():
            raise InputError(f"{where}: the dose does not fall with depth; is the depth axis reversed?")
        curves.append(DepthDose(float(field), depth, dose))
    if reference_mm not in [c.field_mm for c in curves]:
        raise InputError(f"'{path}' lacks the reference field of {reference_mm:g} mm.")
    if len(curves) < _MIN_FIELDS:
        raise InputError(f"'{path}' has {len(curves)} fields; at least {_MIN_FIELDS} are needed for the scatter.")
    return tuple(curves)


def _profiles(path: Path) -> tuple[Profile, ...]:
    table = _read_table(path, lengths=("field", "depth", "position"), others=("dose_percent",))
    curves = []
    for field, depth in np.unique(np.stack([table["field"], table["depth"]], axis=1), axis=0):
        rows = (table["field"] == field) & (table["depth"] == depth)
        position, dose = table["position"][rows], table["dose_percent"][rows]
        where = f"'{path}', field of {field:g} mm at {depth:g} mm"
        _check_increasing(where, "position", position)
        _check_percent(where, dose)
        if position[0] > -field / 2 or position[-1] < field / 2:
            raise InputError(
                f"{where}: positions from {position[0]:g} to {position[-1]:g} mm do not reach both edges of "
                "the field; if they are in centimeters, name the column position_cm."
            )
        if np.interp(0.0, position, dose) <= 0:
            raise InputError(f"{where}: there is no dose on the axis; positions are measured from it.")
        curves.append(Profile(float(field), float(depth), position, dose))
    return tuple(curves)


def _output_factors(path: Path, reference_mm: float) -> tuple[dict[float, float], dict[float, float]]:
    table = _read_table(path, lengths=("field",), others=("factor",), optional=("in_air_factor",))
    _check_increasing(f"'{path}'", "field", table["field"])
    columns = {name: dict(zip(table["field"].tolist(), table[name].tolist(), strict=True))
               for name in ("factor", "in_air_factor") if name in table}  # fmt: skip
    for name, factors in columns.items():
        if min(factors.values()) <= 0:
            raise InputError(f"'{path}': every {name} must be positive.")
        if reference_mm not in factors:
            raise InputError(f"'{path}' lacks the reference field of {reference_mm:g} mm.")
        if abs(factors[reference_mm] - 1) > _FACTOR_TOLERANCE:
            raise InputError(
                f"'{path}': the {name} of the reference field of {reference_mm:g} mm is {factors[reference_mm]:g}; "
                "it must be 1, so divide all by it."
            )
    return columns["factor"], columns.get("in_air_factor", {})


def _read_table(
    path: Path, *, lengths: Sequence[str], others: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, Float]:
    """Read columns of numbers, lengths as mm."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            header, *rows = [row for row in csv.reader(stream) if any(cell.strip() for cell in row)] or [[]]
    except OSError as error:
        raise InputError(f"Cannot read '{path}': {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' is not text in UTF-8.") from error
    columns, places = [cell.strip() for cell in header], {}
    for name in (*lengths, *others, *optional):
        spelled = [f"{name}_{unit}" for unit in _PER_UNIT] if name in lengths else [name]
        found = [s for s in spelled if s in columns]
        if not found and name not in optional:
            raise InputError(f"'{path}' has no column {' or '.join(spelled)}; its first row must name the columns.")
        if found:
            factor = _PER_UNIT[found[0].rpartition("_")[2]] if name in lengths else 1.0
            places[name] = (columns.index(found[0]), factor)
    if not rows:
        raise InputError(f"'{path}' has no rows.")
    return {
        name: np.array([_number(path, n, row, place) for n, row in enumerate(rows, start=2)]) * factor
        for name, (place, factor) in places.items()
    }


def _number(path: Path, row_number: int, row: Sequence[str], place: int) -> float:
    try:
        value = float(row[place])
    except (IndexError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"'{path}', row {row_number}, column {place + 1}: expected a number.")
    return value


def _check_increasing(where: str, axis: str, values: Float) -> None:
    if values.size < 2:
        raise InputError(f"{where}: a single {axis} is no curve.")
    if not np.all(np.diff(values) > 0):
        n = int(np.flatnonzero(np.diff(values) <= 0)[0]) + 1
        raise InputError(
            f"{where}: {axis} {values[n]:g} mm follows {values[n - 1]:g} mm; the {axis} axis must increase."
        )


def _check_percent(where: str, dose: Float) -> None:
    if dose.min() < 0:
        raise InputError(f"{where}: a dose is negative.")
    if dose.max() < 2:
        raise InputError(f"{where}: doses end at {dose.max():g}; dose_percent is in percent, so multiply by 100.")
