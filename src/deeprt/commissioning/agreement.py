"""How well a machine's model agrees with the measurements it was fitted to, curve by curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deeprt.commissioning.measurements import DepthDose, Measurements, Profile
from deeprt.dose.kernels import axis_dose, square_field_dose
from deeprt.machine import Machine

Float = NDArray[np.float64]

DOSE_PERCENT, DISTANCE_MM = 1.0, 1.0  # criteria of the gamma index
_STEP_MM = 0.1  # of the modeled curve in which the gamma index is searched


@dataclass(frozen=True, eq=False)
class CurveAgreement:
    """A measured curve and the model of it, both in percent of the measured maximum.

    Parameters
    ----------
    field_mm : side of the square field
    depth_mm : of a profile; None for a depth dose
    position_mm : (n,) depth of a depth dose, distance from the axis of a profile
    measured_percent, model_percent : (n,)
    gamma : (n,) of 1 % of the maximum and 1 mm
    judged : (n,) which points count: of a depth dose those from its maximum on, of a profile all
    """

    field_mm: float
    depth_mm: float | None
    position_mm: Float
    measured_percent: Float
    model_percent: Float
    gamma: Float
    judged: NDArray[np.bool_]

    @property
    def kind(self) -> str:
        """Depth dose or profile."""
        return "depth dose" if self.depth_mm is None else "profile"

    @property
    def deviation_percent(self) -> Float:
        """Model minus measurement at the judged points."""
        return (self.model_percent - self.measured_percent)[self.judged]

    @property
    def pass_rate(self) -> float:
        """Share of the judged points, 0 to 1, whose gamma is at most 1."""
        return float(np.mean(self.gamma[self.judged] <= 1))


@dataclass(frozen=True)
class OutputAgreement:
    """Measured and modeled output factor of a field."""

    field_mm: float
    measured: float
    model: float

    @property
    def deviation_percent(self) -> float:
        """Model minus measurement, of the measurement."""
        return 100 * (self.model / self.measured - 1)


@dataclass(frozen=True, eq=False)
class Agreement:
    """Agreement of all curves and output factors."""

    curves: tuple[CurveAgreement, ...]
    outputs: tuple[OutputAgreement, ...]

    @property
    def depth_doses(self) -> tuple[CurveAgreement, ...]:
        """Depth doses, fields increasing."""
        return tuple(c for c in self.curves if c.depth_mm is None)

    @property
    def profiles(self) -> tuple[CurveAgreement, ...]:
        """Profiles by field and depth."""
        return tuple(c for c in self.curves if c.depth_mm is not None)

    @property
    def largest_percent(self) -> float:
        """Largest deviation of any depth dose beyond its maximum, in percent of that maximum."""
        return max(float(np.abs(c.deviation_percent).max()) for c in self.depth_doses)


def agreement(machine: Machine, data: Measurements) -> Agreement:
    """Compare a machine with measurements.

    Depth doses are compared absolutely, output factor included, and so are not helped by normalization; profiles are
    normalized to the axis.
    """
    depth_of_factors, reference_mm = data.conditions.output_factor_depth_mm, data.conditions.reference.field_mm
    per_reference = 1 / _axis_dose(machine, depth_of_factors, reference_mm)
    outputs = tuple(
        OutputAgreement(
            d.field_mm,
            data.output_factor[d.field_mm],
            per_reference * _axis_dose(machine, depth_of_factors, d.field_mm),
        )
        for d in data.depth_doses
    )
    # Percent of the measured maximum that a model dose of one reference dose is worth.
    scales = [100 * d.at(depth_of_factors) / d.dose_percent.max() / o.measured * per_reference
              for d, o in zip(data.depth_doses, outputs, strict=True)]  # fmt: skip
    depth_doses = [_depth_dose(machine, d, scale) for d, scale in zip(data.depth_doses, scales, strict=True)]
    return Agreement((*depth_doses, *(_profile(machine, p) for p in data.profiles)), outputs)


def _axis_dose(machine: Machine, depth_mm: float, field_mm: float) -> float:
    return float(axis_dose(machine, [depth_mm], field_mm=field_mm, ssd_mm=machine.output.ssd_mm)[0])


def _depth_dose(machine: Machine, d: DepthDose, scale: float) -> CurveAgreement:
    dense = np.arange(d.depth_mm[0], d.depth_mm[-1] + _STEP_MM, _STEP_MM)
    model = scale * axis_dose(machine, dense, field_mm=d.field_mm, ssd_mm=machine.output.ssd_mm)
    measured = 100 * d.dose_percent / d.dose_percent.max()
    judged = d.depth_mm >= d.depth_of_maximum_mm
    return _curve(d.field_mm, None, d.depth_mm, measured, dense, model, judged)


def _profile(machine: Machine, p: Profile) -> CurveAgreement:
    dense, ssd = np.arange(p.position_mm[0], p.position_mm[-1] + _STEP_MM, _STEP_MM), machine.output.ssd_mm
    model = square_field_dose(machine, np.full_like(dense, p.depth_mm), dense, field_mm=p.field_mm, ssd_mm=ssd)
    measured = 100 * p.dose_percent / p.dose_percent.max()
    model = model * np.interp(0.0, p.position_mm, measured) / np.interp(0.0, dense, model)
    return _curve(p.field_mm, p.depth_mm, p.position_mm, measured, dense, model, np.ones(measured.size, bool))


def _curve(
    field_mm: float,
    depth_mm: float | None,
    position_mm: Float,
    measured: Float,
    dense_mm: Float,
    model: Float,
    judged: NDArray[np.bool_],
) -> CurveAgreement:
    gamma = _gamma(position_mm, measured, dense_mm, model)
    at_points = np.interp(position_mm, dense_mm, model)
    return CurveAgreement(field_mm, depth_mm, position_mm, measured, at_points, gamma, judged)


def _gamma(position_mm: Float, measured: Float, dense_mm: Float, model: Float) -> Float:
    """Gamma index of a curve in percent of its maximum, (n,); Low et al., Med. Phys. 25, 656 (1998)."""
    distance = (dense_mm - position_mm[:, None]) / DISTANCE_MM
    difference = (model - measured[:, None]) / DOSE_PERCENT
    return np.asarray(np.sqrt((distance**2 + difference**2).min(axis=1)))
