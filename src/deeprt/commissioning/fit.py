"""Fit the pencil-beam model to measurements in water.

For a square field the model's dose is linear in the weights of the lateral Gaussians. The weights follow by
non-negative least squares of relative deviations for given depth terms (m, β) and penumbra, which are searched by the
simplex of J. A. Nelder and R. Mead, Comput. J. 7, 308 (1965). Horns follow from the ratio of measured to modeled
profiles of the largest field, the in-air output ratio from what the output factors leave to explain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, nnls

from deeprt.commissioning.measurements import Measurements, Profile
from deeprt.dose.kernels import lateral_integrals, lateral_sigma_mm, open_field, square_field_dose
from deeprt.machine import HeadScatter, Kernels, Machine, OffAxis
from deeprt.progress import Progress, Silent

Float = NDArray[np.float64]

_SIGMA_MM = (1.0, 3.0, 7.0, 15.0, 30.0, 60.0, 120.0)  # logarithmic: penumbra to the widest phantom scatter
_START = (0.006, 0.25, 0.012, 0.0025)  # m and β per mm, of the size published for 6 to 15 MV
_PENUMBRA_START_MM = 2.5
_BUILDUP_SHARE = 0.5  # of the depth of maximum; shallower points are no dose of this model's photons
_BUILDUP_WEIGHT, _PROFILE_WEIGHT = 0.2, 0.3
_FAR = 3.0  # of a logarithm from where the search began: beyond it, depth terms are no longer told apart
_HORN_ROUNDS, _HORN_STEP_MM, _HORN_REACH = 3, 10.0, 0.95  # reach: share of the half field free of penumbra


@dataclass(frozen=True, eq=False)
class _Curve:
    """Measured points of one curve: where, how much per MU relative to the reference, how much they count."""

    field_mm: float
    depth_mm: Float
    x_mm: Float
    dose: Float
    weight: Float  # over the dose on the axis, so that residuals are relative


def fit_machine(data: Measurements, like: Machine, progress: Progress | None = None) -> Machine:
    """Fit kernels, penumbra, horns and head scatter to measurements.

    Parameters
    ----------
    data : as `read_measurements` checked them
    like : machine whose collimators and limits are taken over
    """
    report = progress or Silent()
    c = data.conditions
    machine = replace(
        like,
        name=c.name,
        energy_mv=c.energy_mv,
        output=c.reference,
        off_axis=_first_horns(data, like.sad_mm),
        head_scatter=_head_scatter(data.in_air_factor or {c.reference.field_mm: 1.0}),
    )
    curves = _curves(data)
    start = np.log([*_START, _PENUMBRA_START_MM])
    for round_ in range(_HORN_ROUNDS):
        report.step("commissioning", round_ / _HORN_ROUNDS, f"round {round_ + 1} of {_HORN_ROUNDS}")
        start = _search(machine, curves, start)
        machine = replace(machine, kernels=_kernels(machine, curves, start))
        machine = replace(machine, off_axis=_horns(machine, data.profiles))
    machine = replace(machine, kernels=_kernels(machine, curves, start))
    machine = replace(machine, head_scatter=_head_scatter(_remaining_output(machine, data)))
    report.step("commissioning", 1.0)
    return machine


def _first_horns(data: Measurements, sad_mm: float) -> OffAxis:
    """Take the shallowest profile of the largest field, which holds least scatter, for the horns."""
    largest = max(p.field_mm for p in data.profiles)
    p = min((p for p in data.profiles if p.field_mm == largest), key=lambda p: p.depth_mm)
    at_isocenter = p.position_mm * sad_mm / (data.conditions.reference.ssd_mm + p.depth_mm)
    knots = _knots(largest)
    both = [np.interp(side * knots, at_isocenter, p.dose_percent) for side in (-1, 1)]
    mean = (both[0] + both[1]) / 2
    return OffAxis(knots, _rounded(mean / mean[0]))


def _knots(field_mm: float) -> Float:
    return np.arange(0.0, _HORN_REACH * field_mm / 2 + 1e-6, 2 * _HORN_STEP_MM)


def _head_scatter(factor: Mapping[float, float]) -> HeadScatter:
    fields = sorted(factor)
    return HeadScatter(np.array(fields, float), np.array([factor[f] for f in fields], float))


def _curves(data: Measurements) -> tuple[_Curve, ...]:
    """All curves as dose per MU relative to the reference field at the depth of the output factors."""
    depth_of_factors = data.conditions.output_factor_depth_mm
    curves = []
    for d in data.depth_doses:
        kept = d.depth_mm >= _BUILDUP_SHARE * d.depth_of_maximum_mm
        dose = (data.output_factor[d.field_mm] / d.at(depth_of_factors) * d.dose_percent)[kept]
        depth = d.depth_mm[kept]
        weight = np.where(depth < d.depth_of_maximum_mm, _BUILDUP_WEIGHT, 1.0) / dose
        curves.append(_Curve(d.field_mm, depth, np.zeros_like(depth), dose, weight))
    for p in data.profiles:
        on_axis = _axis_value(data, p.field_mm, p.depth_mm)
        dose = on_axis * p.dose_percent / np.interp(0.0, p.position_mm, p.dose_percent)
        weight = np.full_like(dose, _PROFILE_WEIGHT / on_axis)
        curves.append(_Curve(p.field_mm, np.full_like(dose, p.depth_mm), p.position_mm, dose, weight))
    return tuple(curves)


def _axis_value(data: Measurements, field_mm: float, depth_mm: float) -> float:
    d = data.depth_dose(field_mm)
    return data.output_factor[field_mm] * d.at(depth_mm) / d.at(data.conditions.output_factor_depth_mm)


def _search(machine: Machine, curves: tuple[_Curve, ...], start: Float) -> Float:
    """Find m, β and the penumbra, as logarithms, (5,)."""

    def residual(p: Float) -> float:
        if np.abs(p - start).max() > _FAR:
            return np.inf
        return _weights(*_system(machine, curves, p))[1]

    simplex = np.vstack([start, start + 0.15 * np.eye(start.size)])
    options = {"maxiter": 400, "xatol": 1e-3, "fatol": 1e-6, "initial_simplex": simplex}
    return np.asarray(minimize(residual, start, method="Nelder-Mead", options=options).x)


def _kernels(machine: Machine, curves: tuple[_Curve, ...], p: Float) -> Kernels:
    """Kernels of given depth terms and penumbra, in five digits."""
    kernels = _unweighted(p)
    weight, _ = _weights(*_system(machine, curves, p))
    return replace(kernels, weight=_rounded(weight.reshape(3, -1)))


def _unweighted(p: Float) -> Kernels:
    m, *beta, penumbra = _rounded(np.exp(p))
    return Kernels(float(m), np.array(beta), np.array(_SIGMA_MM), np.zeros((3, len(_SIGMA_MM))), float(penumbra))


def _rounded(values: Float) -> Float:
    return np.array([float(f"{v:.5g}") for v in values.ravel()]).reshape(values.shape)


def _system(machine: Machine, curves: tuple[_Curve, ...], p: Float) -> tuple[Float, Float]:
    """Weighted equations of the Gaussians' weights: matrix (n_points, 3 * n_gaussians) and right side."""
    kernels, ssd, sad = _unweighted(p), machine.output.ssd_mm, machine.sad_mm
    sigma = lateral_sigma_mm(replace(machine, kernels=kernels), ssd)
    rows, right = [], []
    for q in curves:
        from_source = np.hypot(ssd + q.depth_mm, q.x_mm)
        lateral = lateral_integrals(sigma, *open_field(machine, q.field_mm), q.x_mm * sad / (ssd + q.depth_mm))
        terms = kernels.depth_terms(q.depth_mm * from_source / (ssd + q.depth_mm)) * (sad / from_source) ** 2
        rows.append(np.einsum("kn,jn,n->nkj", terms, lateral, q.weight).reshape(q.dose.size, -1))
        right.append(q.weight * q.dose)
    return np.vstack(rows), np.concatenate(right)


def _weights(matrix: Float, right: Float) -> tuple[Float, float]:
    """Solve for non-negative weights; also the root mean square of the weighted residual."""
    # The triangular factor has the same solution and 40 times fewer rows.
    q, r = np.linalg.qr(matrix)
    weight, rest = nnls(r, q.T @ right)
    outside = max(float(right @ right - np.sum((q.T @ right) ** 2)), 0.0)
    return weight, float(np.sqrt((rest**2 + outside) / right.size))


def _horns(machine: Machine, profiles: tuple[Profile, ...]) -> OffAxis:
    """Correct the horns by the ratio of measured to modeled profiles of the largest field, over all depths."""
    largest = max(p.field_mm for p in profiles)
    ssd = machine.output.ssd_mm
    radius, ratio = [], []
    for p in profiles:
        if p.field_mm < largest:
            continue
        at_isocenter = p.position_mm * machine.sad_mm / (ssd + p.depth_mm)
        flat = np.abs(at_isocenter) <= _HORN_REACH * largest / 2
        depth = np.full_like(p.position_mm, p.depth_mm)
        model = square_field_dose(machine, depth, p.position_mm, field_mm=largest, ssd_mm=ssd)
        on_axis = [np.interp(0.0, p.position_mm, curve) for curve in (p.dose_percent, model)]
        radius.append(np.abs(at_isocenter[flat]))
        ratio.append((p.dose_percent / on_axis[0] / (model / on_axis[1]))[flat])
    r, correction = np.concatenate(radius), np.concatenate(ratio)
    knots = _knots(largest)
    correction = np.array([np.average(correction, weights=_near(r, knot)) for knot in knots])
    values = machine.off_axis.at(knots) * correction
    return OffAxis(knots, _rounded(np.concatenate([[1.0], values[1:] / values[0]])))


def _near(radius_mm: Float, knot_mm: float) -> Float:
    """Weights of points around a knot, (n,); all of them a little, so that no knot stands alone."""
    return np.exp(-(((radius_mm - knot_mm) / _HORN_STEP_MM) ** 2) / 2) + 1e-9


def _remaining_output(machine: Machine, data: Measurements) -> dict[float, float]:
    """In-air output ratio that makes the model's output factors the measured ones."""
    plain = replace(machine, head_scatter=_head_scatter({machine.output.field_mm: 1.0}))
    depth = np.array([data.conditions.output_factor_depth_mm])

    def model(field_mm: float) -> float:
        return float(square_field_dose(plain, depth, np.zeros(1), field_mm=field_mm, ssd_mm=machine.output.ssd_mm)[0])

    reference = model(machine.output.field_mm)
    return {f: float(f"{v * reference / model(f):.5g}") for f, v in data.output_factor.items()}
