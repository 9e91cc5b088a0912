"""How well a machine's model agrees with the measurements it was fitted to, curve by curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deeprt.commissioning.measurements import Measurements
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
    kind : depth dose or profile
    field_mm : side of the square field
    depth_mm : of a profile; None for a depth dose
    position_mm : (n,) depth of a depth dose, distance from the axis of a profile
    measured_percent, model_percent : (n,)
    gamma : (n,) of 1 % of the maximum and 1 mm
    judged : (n,) which points count: of a depth dose those from its maximum on, of a profile all
    """

    kind: str
    field_mm: float
    depth_mm: float | None
    position_mm: Float
    measured_percent: Float
    model_percent: Float
    gamma: Float
    judged: NDArray[np.bool_]

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
    ssd, depth_of_factors = machine.output.ssd_mm, data.conditions.output_factor_depth_mm
    reference = axis_dose(machine, [depth_of_factors], field_mm=machine.output.field_mm, ssd_mm=ssd)[0]
    curves, outputs = [], []
    for d in data.depth_doses:
        percent = 100 * d.dose_percent / d.dose_percent.max()
        factor = data.output_factor[d.field_mm]
        scale = np.interp(depth_of_factors, d.depth_mm, percent) / factor / reference

        def model(depth: Float, field: float = d.field_mm, scale: float = scale) -> Float:
            return scale * axis_dose(machine, depth, field_mm=field, ssd_mm=ssd)

        dense = np.arange(d.depth_mm[0], d.depth_mm[-1] + _STEP_MM, _STEP_MM)
        gamma = _gamma(d.depth_mm, percent, dense, model(dense))
        judged = d.depth_mm >= d.depth_of_maximum_mm
        curves.append(
            CurveAgreement("depth dose", d.field_mm, None, d.depth_mm, percent, model(d.depth_mm), gamma, judged)
        )
        modeled = axis_dose(machine, [depth_of_factors], field_mm=d.field_mm, ssd_mm=ssd)[0] / reference
        outputs.append(OutputAgreement(d.field_mm, factor, float(modeled)))
    for p in data.profiles:
        dense = np.arange(p.position_mm[0], p.position_mm[-1] + _STEP_MM, _STEP_MM)
        modeled = square_field_dose(machine, np.full_like(dense, p.depth_mm), dense, field_mm=p.field_mm, ssd_mm=ssd)
        measured = p.dose_percent / np.interp(0.0, p.position_mm, p.dose_percent)
        modeled = modeled / np.interp(0.0, dense, modeled)
        scale = 100 / measured.max()
        measured, modeled = scale * measured, scale * modeled
        gamma = _gamma(p.position_mm, measured, dense, modeled)
        at_points = np.interp(p.position_mm, dense, modeled)
        everywhere = np.ones(p.position_mm.size, bool)
        curves.append(
            CurveAgreement("profile", p.field_mm, p.depth_mm, p.position_mm, measured, at_points, gamma, everywhere)
        )
    return Agreement(tuple(curves), tuple(outputs))


def _gamma(position_mm: Float, measured: Float, dense_mm: Float, model: Float) -> Float:
    """Gamma index of a curve in percent of its maximum, (n,); Low et al., Med. Phys. 25, 656 (1998)."""
    distance = (dense_mm - position_mm[:, None]) / DISTANCE_MM
    difference = (model - measured[:, None]) / DOSE_PERCENT
    return np.asarray(np.sqrt((distance**2 + difference**2).min(axis=1)))
