"""The beam selection problem of a case: its grid, candidates and objectives, as column generation wants them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from deeprt.beams import BeamAngles, place_beams
from deeprt.case import PatientCase, outside_higher_targets, with_tuning_structures
from deeprt.dose.gather import IMAGE_PIXEL_MM
from deeprt.errors import InputError
from deeprt.fluence.objectives import SquaredDeviation
from deeprt.fluence.problem import Term, VoxelSample, make_term, sample_voxels
from deeprt.fluence.solvers import SolverSettings
from deeprt.machine import Machine
from deeprt.orientation.candidates import candidate_beams, excluded
from deeprt.orientation.column_generation import SelectionProblem
from deeprt.orientation.pool import CandidatePool
from deeprt.structures import Role, Structure


@dataclass(frozen=True)
class OrganWeights:
    """Organ weights w of the paper's objective ``Σ_s w_s²/2 Σ_i (y_i − p_s)²``; targets have 1, all others p = 0.

    The defaults are the middles of the ranges that the paper draws from (ring and skin are its shell and skin); that
    of the body is ours.

    Parameters
    ----------
    organs_at_risk, ring, skin, external : by role
    structures : instead of these, by a structure's name or TG-263 organ
    """

    organs_at_risk: float = 0.1
    ring: float = 0.05
    skin: float = 0.15
    external: float = 0.02
    structures: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        by_role = (self.organs_at_risk, self.ring, self.skin, self.external)
        if min((*by_role, *self.structures.values())) < 0:
            raise InputError("Organ weights must not be negative.")

    def of(self, structure: Structure) -> float:
        """Weight of a structure; zero for those that do not count."""
        for name in (structure.name, structure.organ):
            if name in self.structures:
                return self.structures[name]
        if structure.role is Role.TUNING:
            return {"Ring": self.ring, "Skin": self.skin}.get(structure.name, 0.0)
        by_role = {Role.TARGET: 1.0, Role.ORGAN_AT_RISK: self.organs_at_risk, Role.EXTERNAL: self.external}
        return by_role.get(structure.role, 0.0)


@dataclass(frozen=True)
class CandidateSettings:
    """Candidates of beam selection and how finely they are computed.

    Parameters
    ----------
    candidates : ``coplanar:2`` or ``noncoplanar:6``, with the step in degrees
    exclude_deg : sectors of gantry angles that are not chosen, each (from, to) clockwise
    min_separation_deg : between central axes
    voxel_mm, beamlet_mm : size of the voxels and of the square beamlets
    image_pixel_mm : sampling of the convolved fluence at the isocenter plane
    margin_mm : around the targets within which beamlets are open
    background_share : of the patient's voxels outside targets, organs and ring that take part
    memory_mb : most that candidates' influences may take; others are set up anew at each step
    improve_s : seconds that a search with the exact objective may take to improve the set; none if 0
    sweeps : how often each beam that the network chose is put to the test against others, judged coarsely
    network : file of the network that is asked for beams; the shipped one if None
    cache : whether a selection made before, from the same case and settings, is taken from the user's cache
    weights : organ weights
    solver : of P(B)
    """

    candidates: str = "coplanar:2"
    exclude_deg: tuple[tuple[float, float], ...] = ()
    min_separation_deg: float = 0.0
    voxel_mm: float = 4.0
    beamlet_mm: float = 5.0
    image_pixel_mm: float = IMAGE_PIXEL_MM
    margin_mm: float = 5.0
    background_share: float = 0.05
    memory_mb: float = 4000.0
    improve_s: float = 0.0
    sweeps: int = 1
    network: str | None = None
    cache: bool = True
    weights: OrganWeights = field(default_factory=OrganWeights)
    solver: SolverSettings = SolverSettings(max_iterations=100, tolerance=1e-4)

    def __post_init__(self) -> None:
        if (
            min(self.voxel_mm, self.beamlet_mm, self.image_pixel_mm, self.memory_mb) <= 0
            or min(self.margin_mm, self.min_separation_deg, self.sweeps) < 0
        ):
            raise InputError(
                "Beam selection: voxel_mm, beamlet_mm, image_pixel_mm and memory_mb must be positive, "
                "margins and sweeps not negative."
            )
        if not 0 <= self.improve_s < math.inf:
            raise InputError(f"The time to improve beams must be finite and not negative, got {self.improve_s:g} s.")


def selection_problem(
    case: PatientCase,
    machine: Machine,
    settings: CandidateSettings,
    *,
    given: Sequence[BeamAngles] = (),
    weightings: Sequence[OrganWeights] = (),
    pool: CandidatePool | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> tuple[SelectionProblem, tuple[int, ...]]:
    """Set the selection problem of a case up; influences are computed when they are first needed.

    Parameters
    ----------
    case : with prescribed targets
    given : beams that the selection must begin with; they join the candidates if they are none
    weightings : organ weights of a batch of problems; those of the settings if there are none
    pool : influences of the same case and settings, if there are any; only the weights may differ

    Returns
    -------
    The problem, and the positions of the given beams among its candidates
    """
    candidates = list(candidate_beams(settings.candidates, machine.clearance))
    positions = []
    for angles in given:
        if angles not in candidates:
            candidates.append(angles)
        positions.append(candidates.index(angles))
    coarse = with_tuning_structures(case.resampled(settings.voxel_mm))
    whole = [s for s in coarse.structures if s.role in (Role.TARGET, Role.ORGAN_AT_RISK) or s.name == "Ring"]
    rng = np.random.default_rng(seed)
    sample = sample_voxels(coarse, whole, background_share=settings.background_share, rng=rng)
    where = torch.device(device)
    if pool is None:
        # The centroid is that of the case, not of its coarser copy.
        pool = _pool(coarse, candidates, machine, settings, sample.voxels, where, case.isocenter_lps())
    problem = SelectionProblem(
        candidates=tuple(candidates),
        pool=pool,
        terms=_quadratic_terms(coarse, weightings or (settings.weights,), sample, where),
        n_fractions=case.n_fractions,
        start_mu=1.0,
        selectable=~excluded(candidates, settings.exclude_deg),
        min_separation_deg=settings.min_separation_deg,
        solver=settings.solver,
    )
    return problem, tuple(positions)


def _pool(
    case: PatientCase,
    candidates: Sequence[BeamAngles],
    machine: Machine,
    settings: CandidateSettings,
    voxels: NDArray[np.int64],
    device: torch.device,
    isocenter_lps: NDArray[np.float64],
) -> CandidatePool:
    """Place the candidates and make a pool of them."""
    beams = place_beams(
        case,
        candidates,
        machine,
        beamlet_width_mm=settings.beamlet_mm,
        beamlet_height_mm=settings.beamlet_mm,
        margin_mm=settings.margin_mm,
        isocenter_lps=isocenter_lps,
    )
    return CandidatePool(
        case,
        beams,
        machine,
        voxels,
        device=device,
        memory_mb=settings.memory_mb,
        pixel_mm=settings.image_pixel_mm,
    )


def _quadratic_terms(
    case: PatientCase, weightings: Sequence[OrganWeights], sample: VoxelSample, device: torch.device
) -> tuple[Term, ...]:
    """The paper's equation 16 for a batch of weightings; nested targets want dose outside higher ones only."""
    terms = []
    for structure in case.structures:
        weights = [w.of(structure) ** 2 / 2 for w in weightings]
        if max(weights) == 0 or (structure.role is Role.TARGET and structure.prescription_gy is None):
            continue
        part = outside_higher_targets(case, structure)
        if (part.fraction.ravel()[sample.voxels] > 0).any():
            objective = SquaredDeviation(structure.prescription_gy or 0.0)
            terms.append(make_term(part, objective, weights, sample, device=device, per_volume=False))
    return tuple(terms)
