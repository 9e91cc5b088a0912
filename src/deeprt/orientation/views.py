"""What each candidate's beam sees of the current plan, at a resolution that is quick and coarse.

The fluence of the chosen beams is optimized with voxels and beamlets so large that this takes a twentieth of a second,
and every candidate is priced for it, see `deeprt.orientation.column_generation`. A network brings the resulting
curve nearer to that of the fine teacher; what it is given of each candidate is named in `FEATURES`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeprt.beams import BeamAngles
from deeprt.case import PatientCase
from deeprt.dose.threads import one_thread
from deeprt.fluence.solvers import SolverSettings
from deeprt.machine import Machine
from deeprt.orientation.beam_sets import Budget, solved
from deeprt.orientation.candidates import SAME_DEG, axes_of
from deeprt.orientation.column_generation import SelectionProblem, fitness_of, solve_limited
from deeprt.orientation.search import exchanged
from deeprt.orientation.teacher import CandidateSettings, OrganWeights, selection_problem
from deeprt.progress import Progress

FEATURES = (
    "fitness",  # reduced cost from 0 to 1, which the network corrects
    "cost",  # log10 of the reduced cost r over the largest one without any beam
    "share",  # r over its largest value
    "sharpness",  # root of the sum of squared gains of beamlets, over its largest value
    "open gain",  # share of beamlets with a gain
    "loss",  # log10 of what the other beamlets would cost
    "first cost",  # r without any beam over its largest value: how well the beam reaches the targets
    "drop",  # log10 of r over r without any beam
    "chosen",  # 1 for chosen beams
    "beside",  # nearness to the nearest chosen beam
    "opposite",  # nearness to the opposite of the nearest chosen beam
    "number",  # of chosen beams over ten
)
_NEAR_DEG = 8.0  # standard deviation of the nearness to chosen beams
_SMALL = 1e-4  # of a cost relative to the largest one, below which differences do not matter

COARSE = CandidateSettings(
    voxel_mm=8.0,
    beamlet_mm=10.0,
    image_pixel_mm=4.0,
    background_share=0.1,
    solver=SolverSettings(max_iterations=40, tolerance=1e-3),
)


@dataclass(frozen=True, eq=False)
class _Prices:
    """Of each candidate's beamlets, (n_candidates,) float64: what they would gain or cost per unit of fluence.

    Parameters
    ----------
    gain, square : sums of their gains and of the squares of these; ``gain`` is the reduced cost
    share : of beamlets with a gain
    loss : sum of what the others cost
    """

    gain: NDArray[np.float64]
    square: NDArray[np.float64]
    share: NDArray[np.float64]
    loss: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CandidateViews:
    """Candidates of one patient and one weighting, ready to be asked for their views.

    Parameters
    ----------
    case, machine : whose candidates they are
    problem : coarse, of one weighting
    settings : that it was made with
    first : prices without any beam; they do not depend on organ weights
    """

    case: PatientCase
    machine: Machine
    problem: SelectionProblem
    settings: CandidateSettings
    first: _Prices

    @property
    def axes(self) -> NDArray[np.float32]:
        """Unit vectors from the isocenter to the sources, (n_candidates, 3)."""
        return axes_of(self.problem.candidates).astype(np.float32)

    def of(self, chosen: Sequence[BeamAngles]) -> NDArray[np.float32]:
        """Features of every candidate for chosen beams, candidates or not, (n_candidates, len(FEATURES)) float32."""
        positions = tuple(self.position(angles) for angles in chosen)
        prices = self.first
        if chosen:
            # Always from the same start: the answer must not depend on what was asked before.
            with one_thread():
                multipliers, _ = solve_limited(self.problem, [positions], {})
                prices = _prices(self.problem, multipliers)
        gain, first, top = prices.gain, self.first.gain, self.first.gain.max()
        is_chosen, beside, opposite = self._nearness(chosen)
        columns = (
            fitness_of(gain),
            np.log10(gain / top + _SMALL),
            gain / max(gain.max(), _SMALL * top),
            np.sqrt(prices.square / max(prices.square.max(), 1e-30)),
            prices.share,
            np.log10(prices.loss / top + _SMALL),
            first / top,
            np.log10(gain / np.maximum(first, _SMALL * top) + _SMALL),
            is_chosen,
            beside,
            opposite,
            np.full(first.size, len(chosen) / 10),
        )
        return np.stack(columns, axis=1).astype(np.float32)

    def reweighted(self, weights: OrganWeights) -> CandidateViews:
        """The same candidates with other organ weights; rays are not traced again."""
        coarse, pool = replace(self.settings, weights=weights), self.problem.pool
        problem, _ = selection_problem(self.case, self.machine, coarse, device=str(pool.device), pool=pool)
        return replace(self, problem=problem, settings=coarse)

    def exchanged(
        self,
        chosen: Sequence[BeamAngles],
        *,
        n_kept: int,
        n_sweeps: int,
        selectable: NDArray[np.bool_],
        min_separation_deg: float,
        progress: Progress | None = None,
    ) -> tuple[BeamAngles, ...]:
        """Exchange beams for others that lower the coarse objective, see `deeprt.orientation.predictor`."""
        positions, pool = tuple(self.position(angles) for angles in chosen), self.problem.pool
        problem = replace(
            self.problem,
            candidates=tuple(b.angles for b in pool.beams),
            selectable=np.pad(selectable, (0, len(pool) - selectable.size)),  # others may stay, not come in
            min_separation_deg=min_separation_deg,
        )
        with one_thread():
            found = exchanged(
                problem,
                solved(problem, positions, {}),
                n_given=n_kept,
                budget=Budget(math.inf),
                max_tried=n_sweeps * (len(chosen) - n_kept),
                progress=progress,
            )
        return tuple(problem.candidates[b] for b in found.beams)

    def position(self, angles: BeamAngles) -> int:
        """Of a beam in the pool, which one that is no candidate joins."""
        pool = self.problem.pool
        for n, beam in enumerate(pool.beams):
            if beam.angles == angles:
                return n
        return pool.add(angles, self.settings.beamlet_mm, self.settings.margin_mm)

    def _nearness(self, chosen: Sequence[BeamAngles]) -> tuple[NDArray[np.float64], ...]:
        """Of each candidate to a chosen beam: 1 for one direction, and nearness to the nearest and to an opposite.

        Two beams whose collimators differ have one direction.
        """
        if not chosen:
            nothing = np.zeros(len(self.problem.candidates))
            return nothing, nothing, nothing
        cosine = np.clip(axes_of(self.problem.candidates) @ axes_of(chosen).T, -1, 1)
        angle_deg = np.degrees(np.arccos(np.stack([cosine.max(1), -cosine.min(1)])))
        beside, opposite = np.exp(-((angle_deg / _NEAR_DEG) ** 2) / 2)
        return (angle_deg[0] < SAME_DEG).astype(np.float64), beside, opposite


def candidate_views(
    case: PatientCase,
    machine: Machine,
    settings: CandidateSettings,
    *,
    weightings: Sequence[OrganWeights] = (),
    device: str = "cpu",
) -> tuple[CandidateViews, ...]:
    """Set the views of a case up, one for each weighting.

    Parameters
    ----------
    settings : candidates, constraints and weights; how finely is decided by `COARSE`
    weightings : organ weights; those of the settings if there are none
    """
    coarse = replace(
        settings,
        voxel_mm=COARSE.voxel_mm,
        beamlet_mm=COARSE.beamlet_mm,
        image_pixel_mm=COARSE.image_pixel_mm,
        background_share=COARSE.background_share,
        solver=COARSE.solver,
    )
    batch, _ = selection_problem(case, machine, coarse, weightings=weightings, device=device)
    first = batch.only(0)
    with one_thread():
        multipliers, _ = solve_limited(first, [()], {})
        without_beams = _prices(first, multipliers)
    return tuple(CandidateViews(case, machine, batch.only(n), coarse, without_beams) for n in range(batch.n_batch))


def _prices(problem: SelectionProblem, multipliers: Tensor) -> _Prices:
    """Price the beamlets of every candidate for the multipliers of a plan, (1, n_voxels)."""
    parts = [problem.pool[candidate].adjoint(multipliers)[0] for candidate in range(len(problem.candidates))]
    v = problem.n_fractions * torch.cat(parts).double().cpu().numpy()
    firsts = np.cumsum([0, *(part.numel() for part in parts[:-1])])
    gain = np.maximum(-v, 0)
    columns = (gain, gain**2, (v < 0).astype(np.float64), np.maximum(v, 0))
    total, square, n_gaining, loss = (np.add.reduceat(c, firsts) for c in columns)
    return _Prices(total, square, n_gaining / np.array([part.numel() for part in parts]), loss)
