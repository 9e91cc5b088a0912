"""Segments fitted to the objectives of the dose: monitor units and leaf positions, leakage included.

Sequencing fits the fluence; what the patient gets is the dose, and leaves leak. Here segments are improved by the
objectives themselves, as in direct aperture optimization (D. M. Shepard et al., Med. Phys. 29, 1007, 2002,
doi:10.1118/1.1477415). A tip that moves opens or closes its row by (1 - transmission) · MU for every millimeter, so the
objective's derivative by the fluence where it stands, which the adjoint influence gives, is that by the tip. All tips
and monitor units move together along such derivatives (A. Cassioli and J. Unkelbach, Phys. Med. Biol. 58, 301,
2013, doi:10.1088/0031-9155/58/2/301), here by L-BFGS-B and with leaf transmission.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from deeprt.delivery.dose_of_plan import between_jaws, dose_on, segment_influence, with_segment_mu
from deeprt.delivery.fluence import Openings, fluence_derivatives, segment_openings
from deeprt.delivery.segments import DeliverablePlan
from deeprt.delivery.violations import open_area_mm2
from deeprt.dose.influence import BeamInfluence, DoseInfluence
from deeprt.errors import InputError
from deeprt.fluence.problem import FluenceProblem
from deeprt.fluence.solvers import SolverSettings, minimize_bounded, solve
from deeprt.machine import Machine
from deeprt.progress import Progress, Silent

_MU_SOLVER = SolverSettings(max_iterations=100, tolerance=1e-5)
_MU_ROUNDS = 3  # segments that are left out free others; seldom more than once
_ROUND = 30  # iterations with the same limits for every tip, which are half the ways to what it must not pass
_TIP_SCALE_MM = 15.0  # way of a tip that counts as much as the mean monitor units; 2 and 5 mm converge more slowly
_TOLERANCE = 1e-5  # share of the objective by which an iteration must lower it

Float = NDArray[np.float64]


def optimize_segments(
    plan: DeliverablePlan,
    influence: DoseInfluence,
    problem: FluenceProblem,
    *,
    n_iterations: int,
    progress: Progress | None = None,
) -> DeliverablePlan:
    """Improve standing segments by the objectives; segments that get too few monitor units are left out.

    Parameters
    ----------
    influence : of the plan's beams
    problem : objectives on some of the influence's voxels
    n_iterations : of moving all leaves together with all monitor units; these alone are fitted before and after

    Raises
    ------
    InputError
        If nothing is left of a beam.
    """
    report = progress or Silent()
    some = influence.restricted(problem.operator.voxels)
    plan = _with_fitted_mu(plan, some, problem)
    for first in range(0, n_iterations, _ROUND):
        report.step("segments", first / n_iterations, f"leaves, iteration {first} of {n_iterations}")
        plan = _with_moved_leaves(plan, some, problem, min(_ROUND, n_iterations - first))
    if n_iterations > 0:
        plan = _with_fitted_mu(_without_small(plan), some, problem)
    return plan


def _with_fitted_mu(plan: DeliverablePlan, influence: DoseInfluence, problem: FluenceProblem) -> DeliverablePlan:
    """Fit the monitor units alone, which is a convex problem where the objectives are convex."""
    for _ in range(_MU_ROUNDS):
        operator = segment_influence(plan, influence)
        mu = torch.tensor([[s.mu for s in plan.segments]], dtype=torch.float32, device=influence.device)
        optimum = solve(replace(problem, operator=operator, roughness=None), mu, _MU_SOLVER).fluence_mu[0]
        plan = with_enough_mu(with_segment_mu(plan, optimum.tolist()))
        if len(plan.segments) == optimum.numel():
            break
    return plan


def with_enough_mu(plan: DeliverablePlan) -> DeliverablePlan:
    """Leave out standing segments whose monitor units are below the machine's limit.

    Raises
    ------
    InputError
        If nothing is left of a beam.
    """
    least = plan.machine.min_segment_mu
    return _with_mu(plan, [s.mu if s.moves or s.mu >= least else 0.0 for s in plan.segments])


def _without_small(plan: DeliverablePlan) -> DeliverablePlan:
    """Leave out segments whose opening is below the machine's limit."""
    least = plan.machine.min_segment_area_mm2
    areas = [open_area_mm2(s, plan.jaws[s.beam_index], plan.machine) for s in plan.segments]
    return _with_mu(plan, [s.mu if a >= least else 0.0 for s, a in zip(plan.segments, areas, strict=True)])


def _with_mu(plan: DeliverablePlan, mu: Sequence[float]) -> DeliverablePlan:
    """The plan with other monitor units, if something is left of every beam."""
    plan = with_segment_mu(plan, mu)
    for index, beam in enumerate(plan.beams):
        if not plan.segments_of(index):
            gantry = beam.angles.gantry_deg
            raise InputError(f"{beam.name} at gantry {gantry:g}° gets no monitor units worth delivering; leave it out.")
    return plan


def _with_moved_leaves(
    plan: DeliverablePlan, influence: DoseInfluence, problem: FluenceProblem, n_iterations: int
) -> DeliverablePlan:
    """L-BFGS-B on leaf positions and monitor units; each tip has a room of its own, within all limits of the leaves."""
    beams = [_BeamSegments.of(plan, n, b) for n, b in enumerate(influence.beams)]
    mean_mu = plan.total_mu / len(plan.segments)
    start, low, high = (np.concatenate(rows) for rows in zip(*(b.start_and_limits() for b in beams), strict=True))
    scale = np.concatenate([b.row(_TIP_SCALE_MM, _TIP_SCALE_MM, mean_mu) for b in beams])
    ends = np.cumsum([b.n_variables for b in beams])[:-1]

    def openings_at(scaled: Float) -> list[Openings]:
        return [b.openings_at(own) for b, own in zip(beams, np.split(scaled * scale, ends), strict=True)]

    def value_and_gradient(scaled: Float) -> tuple[float, Float]:
        openings = openings_at(scaled)
        parts = [dose_on(b.pixels, o, plan.machine) for b, o in zip(beams, openings, strict=True)]
        dose = plan.n_fractions * torch.stack(parts).sum(0, keepdim=True)
        by_dose = plan.n_fractions * problem.dose_gradient(dose)
        gradient = np.concatenate([b.derivatives(o, by_dose) for b, o in zip(beams, openings, strict=True)])
        return float(problem.terms_value(dose)[0]), gradient * scale

    bounds = np.stack([low / scale, high / scale], axis=1)
    result = minimize_bounded(
        value_and_gradient, start / scale, bounds=bounds, max_iterations=n_iterations, tolerance=_TOLERANCE
    )
    return _with_openings(plan, openings_at(result.x))


def _with_openings(plan: DeliverablePlan, openings: Sequence[Openings]) -> DeliverablePlan:
    """The plan with other tips and monitor units of its segments, which stand."""
    rows = [(o.left_mm[n, 0], o.right_mm[n, 0], float(o.mu[n])) for o in openings for n in range(o.mu.size)]
    segments = [
        replace(s, left_mm=left, right_mm=np.maximum(left, right), mu=mu)  # rounding
        for s, (left, right, mu) in zip(plan.segments, rows, strict=True)
    ]
    return _with_mu(replace(plan, segments=tuple(segments)), [s.mu for s in segments])


@dataclass(frozen=True, eq=False)
class _BeamSegments:
    """Variables of one beam, in a row: left tips, right tips of the pairs between the jaws, monitor units.

    Parameters
    ----------
    openings : of the segments as they are
    pixels : influence on fine pixels between the jaws
    machine : that delivers
    pairs : (n_moving,) leaf pairs between the jaws
    """

    openings: Openings
    pixels: BeamInfluence
    machine: Machine
    pairs: NDArray[np.int64]

    @classmethod
    def of(cls, plan: DeliverablePlan, index: int, influence: BeamInfluence) -> _BeamSegments:
        """Those of a plan's beam."""
        openings, mlc = segment_openings(plan, index), plan.machine.mlc
        _, _, y1, y2 = openings.bounds_mm
        pairs = np.flatnonzero((mlc.leaf_edges_mm[1:] > y1) & (mlc.leaf_edges_mm[:-1] < y2))
        return cls(openings, between_jaws(openings, influence, plan.machine), plan.machine, pairs)

    @property
    def n_variables(self) -> int:
        return self.openings.mu.size * (2 * self.pairs.size + 1)

    def row(self, left: Float | float, right: Float | float, mu: Float | float) -> Float:
        """Variables in a row, from what tips of all pairs, (n_segments, n_pairs), and monitor units have."""
        n = self.openings.mu.size
        tips = [np.broadcast_to(t, (n, self.machine.mlc.n_pairs))[:, self.pairs].ravel() for t in (left, right)]
        return np.concatenate([*tips, np.broadcast_to(mu, n)])

    def start_and_limits(self) -> tuple[Float, Float, Float]:
        """The variables as they are, their least and their largest values.

        What two tips must not pass is divided halfway between them, so that every tip may move by itself.
        """
        left, right, mlc = self.openings.left_mm[:, 0], self.openings.right_mm[:, 0], self.machine.mlc
        left_low, left_high = _window(left, -mlc.max_position_mm, mlc.max_overtravel_mm, mlc.max_span_mm)
        right_low, right_high = _window(right, -mlc.max_overtravel_mm, mlc.max_position_mm, mlc.max_span_mm)
        x1, x2 = self.openings.jaws_mm[0, :2]
        stand_back = self.machine.jaws.margin_mm + mlc.tip_offset_mm  # of tips, as sequencing sets the jaws
        left_low, right_high = np.maximum(left_low, x1 + stand_back), np.minimum(right_high, x2 - stand_back)
        middle, half = (left + right) / 2, mlc.min_gap_mm / 2
        left_high, right_low = np.minimum(left_high, middle - half), np.maximum(right_low, middle + half)
        if not mlc.interdigitation:
            for here, there in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
                between = (left[:, here] + right[:, there]) / 2
                left_high[:, here] = np.minimum(left_high[:, here], between)
                right_low[:, there] = np.maximum(right_low[:, there], between)
        low = self.row(np.minimum(left_low, left), np.minimum(right_low, right), 0.0)  # no tip is outside by rounding
        high = self.row(np.maximum(left_high, left), np.maximum(right_high, right), np.inf)
        return self.row(left, right, self.openings.mu), low, high

    def openings_at(self, variables: Float) -> Openings:
        """Openings of other variables."""
        n, n_pairs = self.openings.mu.size, self.pairs.size
        left, right = self.openings.left_mm.copy(), self.openings.right_mm.copy()
        left[:, :, self.pairs], right[:, :, self.pairs] = variables[: 2 * n * n_pairs].reshape(2, n, 1, n_pairs)
        return replace(self.openings, left_mm=left, right_mm=right, mu=variables[2 * n * n_pairs :])

    def derivatives(self, openings: Openings, by_dose: torch.Tensor) -> Float:
        """Derivatives by the variables, from those by the dose per fraction, (1, n_voxels)."""
        beam = self.pixels.beam
        by_fluence = self.pixels.adjoint(by_dose).reshape(beam.open_beamlets.shape).double().cpu().numpy()
        return self.row(*fluence_derivatives(openings, self.machine.mlc, beam.x_edges_mm, beam.y_edges_mm, by_fluence))


def _window(tips: Float, low_mm: float, high_mm: float, span_mm: float) -> tuple[Float, Float]:
    """Where tips of a bank may go so that none of a segment's lies too far from another, (n_segments, n_pairs) each."""
    spare = np.maximum(0.0, span_mm - np.ptp(tips, axis=1, keepdims=True)) / 2
    low = np.maximum(low_mm, tips.min(axis=1, keepdims=True) - spare)
    high = np.minimum(high_mm, tips.max(axis=1, keepdims=True) + spare)
    return np.broadcast_to(low, tips.shape).copy(), np.broadcast_to(high, tips.shape).copy()
