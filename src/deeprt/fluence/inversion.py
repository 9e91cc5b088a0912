"""Maps from dose: a few steps of dose mimicking, and what they leave for a network to correct.

A dose is linear in the fluence, so that the fluence that gave it can be found by least squares; all beams of a plan
are seen together. A few iterations bring back the coarse shape of every map within a fraction of a second; fine detail
would take hundreds and would amplify whatever the wished dose and the model of the beam do not agree on. A network that
knows what maps of sequenced beams look like gets the rest from what is named in `FEATURES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeprt.beams import Beam
from deeprt.case import PatientCase, union
from deeprt.dose.influence import DoseInfluence, beam_influence
from deeprt.dose.threads import one_thread
from deeprt.fluence.mimicking import mimicked_voxels, mimicking_problem
from deeprt.fluence.objectives import SquaredDeviation
from deeprt.fluence.problem import FluenceProblem, Roughness
from deeprt.fluence.solvers import SolverSettings, solve
from deeprt.machine import Machine
from deeprt.networks.beams_eye_view import fluence_to_map, map_to_fluence
from deeprt.structures import Role

FEATURES = (
    "fluence",  # mimicked, over the beam's scale
    "last step",  # change of it over the second half of the iterations
    "lack",  # wished dose over that of the mimicked fluence, each as the beamlet sees it, less one, times ten
    "reach",  # dose per monitor unit on the voxels that count, over the beam's largest
    "wished dose",  # mean over what the beamlet reaches, over the largest wished dose
    "target share",  # of the dose that the beamlet gives, 0 to 1
    "organ share",  # the same of all organs at risk
    "open",  # 1 for beamlets near the targets
    "jaws",  # 1 between the jaws
)
# Doses of this beam model are inverted to 0.1 to 0.7 % of their largest, those that a network predicts to 1 %, those of
# another system to 1.5 to 2 %.
_LARGEST_MISFIT = 0.008
TRAINED_PIXELS = 96  # of the map, around the axis, that networks learn from: 24 cm; beams with wider jaws are left out
_SCALE_PERCENTILE = 99.0
_USUAL_GY = 48.0  # largest dose of plans that networks learn from


@dataclass(frozen=True)
class InversionSettings:
    """How far a dose is inverted.

    Parameters
    ----------
    n_voxels : drawn from those of at least ``least_share`` of the largest wished dose
    image_pixel_mm : sampling of the convolved fluence
    n_iterations : of the mimicking
    smoothness : objective weight, Gy², of the mean squared relative difference between neighboring beamlets
    seed : of the voxels
    """

    n_voxels: int = 20_000
    least_share: float = 0.1
    image_pixel_mm: float = 2.5
    n_iterations: int = 30
    smoothness: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_voxels < 1 or self.n_iterations < 2 or not 0 <= self.least_share < 1 or self.image_pixel_mm <= 0:
            raise ValueError(
                "Dose inversion: it takes a voxel, two iterations and positive pixels at least, and a share below 1."
            )
        if self.smoothness < 0:
            raise ValueError(f"Dose inversion: the smoothness must not be negative, got {self.smoothness:g}.")


@dataclass(frozen=True, eq=False)
class Inversion:
    """Mimicked fluence of all beams, and the features of their maps.

    Parameters
    ----------
    beams : with every beamlet between the jaws open, since leaves leak
    problem : whose objective is the mean squared difference to the wished dose
    fluence_mu : (1, n_beamlets) that the mimicking ended with, MU per fraction
    features : (n_beams, len(FEATURES), n_pixels, n_pixels) float32
    scale_mu : (n_beams,) float32, fluence that is 1 in features
    misfit : root mean squared difference of the mimicked to the wished dose, over the largest wished dose
    """

    beams: tuple[Beam, ...]
    problem: FluenceProblem
    fluence_mu: Tensor
    features: Tensor
    scale_mu: Tensor
    misfit: float

    @property
    def is_of_this_model(self) -> bool:
        """Whether the wished dose may come from the beam model that inverts it."""
        return self.misfit <= _LARGEST_MISFIT

    def to_fluence(self, maps_mu: Tensor) -> Tensor:
        """Maps (n_beams, n_pixels, n_pixels), MU, as fluence of all beamlets between the jaws, (1, n_beamlets)."""
        return torch.cat([map_to_fluence(b, m).flatten() for b, m in zip(self.beams, maps_mu, strict=True)])[None]

    def to_maps(self, fluence_mu: Tensor) -> Tensor:
        """Fluence of all beamlets between the jaws, (1, n_beamlets), as maps (n_beams, n_pixels, n_pixels), MU."""
        return _to_maps(self.beams, fluence_mu)[:, 0]


def invert(
    case: PatientCase,
    beams: Sequence[Beam],
    machine: Machine,
    wished_gy: NDArray[np.float32],
    settings: InversionSettings = InversionSettings(),
    *,
    device: str = "cpu",
) -> Inversion:
    """Mimic a dose for a few iterations.

    Parameters
    ----------
    beams : placed on the targets
    wished_gy : (n_k, n_j, n_i) whole course, on the case's grid

    Raises
    ------
    InputError
        If a beam reaches beyond the map of `deeprt.networks.beams_eye_view.ViewSampling`.
    """
    wide = tuple(between_jaws(beam, machine) for beam in beams)
    problem = inversion_problem(case, wide, machine, wished_gy, settings, device=device)
    n_first = settings.n_iterations // 2
    with one_thread():
        halfway = mimicked(problem, _even_start(problem, beams), n_first)
        fluence = mimicked(problem, halfway, settings.n_iterations - n_first)
        features, scale = _features(case, beams, wide, problem, halfway, fluence)
        wished = wished_of(problem)
        misfit = float((problem.dose(fluence)[0] - wished).square().mean().sqrt() / wished.max())
    return Inversion(wide, problem, fluence, features, scale, misfit)


def inversion_problem(
    case: PatientCase,
    beams: Sequence[Beam],
    machine: Machine,
    wished_gy: NDArray[np.float32],
    settings: InversionSettings,
    *,
    device: str = "cpu",
) -> FluenceProblem:
    """Mean squared difference to a wished dose on drawn voxels, and the roughness of the fluence.

    It counts as that of a dose of usual size: the first steps of L-BFGS-B depend on the size of the objective.
    """
    rng, where = np.random.default_rng(settings.seed), torch.device(device)
    voxels = mimicked_voxels(case, wished_gy, n_voxels=settings.n_voxels, least_share=settings.least_share, rng=rng)
    points = case.grid.points_lps(voxels)
    parts = (beam_influence(case, b, machine, points, where, pixel_mm=settings.image_pixel_mm) for b in beams)
    problem = mimicking_problem(DoseInfluence(tuple(parts), voxels, case.grid.shape), wished_gy, case.n_fractions)
    (term,) = problem.terms
    weight = term.weight * (_USUAL_GY / float(wished_of(problem).max())) ** 2
    return replace(problem, terms=(replace(term, weight=weight),), roughness=_roughness(problem, settings.smoothness))


def _roughness(problem: FluenceProblem, smoothness: float) -> Roughness | None:
    """Roughness relative to the even fluence whose dose is nearest to the wished one."""
    if smoothness == 0:
        return None
    assert isinstance(problem.operator, DoseInfluence)
    wished = wished_of(problem)
    dose = problem.dose(torch.ones(1, problem.operator.n_beamlets, device=wished.device))[0]
    mean_mu = float((dose * wished).sum() / (dose**2).sum())
    first, second = problem.operator.neighbors()
    return Roughness(first, second, smoothness / (first.numel() * mean_mu**2))


def mimicked(problem: FluenceProblem, start: Tensor, n_iterations: int) -> Tensor:
    """Fluence after some iterations from a start, (1, n_beamlets) MU."""
    return solve(problem, start, SolverSettings(max_iterations=n_iterations, tolerance=1e-12)).fluence_mu


def between_jaws(beam: Beam, machine: Machine) -> Beam:
    """The beam with all beamlets between jaws that stand back from its own ones by their margin."""
    margin = machine.jaws.margin_mm

    def widened(edges_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([[edges_mm[0] - margin], edges_mm, [edges_mm[-1] + margin]])

    x_edges, y_edges = widened(beam.x_edges_mm), widened(beam.y_edges_mm)
    return replace(
        beam, x_edges_mm=x_edges, y_edges_mm=y_edges, open_beamlets=np.ones((y_edges.size - 1, x_edges.size - 1), bool)
    )


def _even_start(problem: FluenceProblem, beams: Sequence[Beam]) -> Tensor:
    """Equal fluence of the beamlets near the targets whose dose is nearest to the wished one, (1, n_beamlets)."""
    x = _near_targets(beams)[None].to(problem.operator.device)
    dose, wished = problem.dose(x), wished_of(problem)
    return x * (dose * wished).sum() / (dose**2).sum()


def wished_of(problem: FluenceProblem) -> Tensor:
    """Wished dose of the problem's voxels, (n_voxels,)."""
    objective = problem.terms[0].objective
    assert isinstance(objective, SquaredDeviation) and isinstance(objective.dose_gy, Tensor)
    return objective.dose_gy


def _features(
    case: PatientCase,
    beams: Sequence[Beam],
    wide: Sequence[Beam],
    problem: FluenceProblem,
    halfway: Tensor,
    fluence: Tensor,
) -> tuple[Tensor, Tensor]:
    """Features of the maps, (n_beams, n_features, n_pixels, n_pixels), and the scale of each, (n_beams,) MU."""
    wished, dose = wished_of(problem), problem.dose(fluence)[0]
    masks = torch.from_numpy(_masks(case, problem.operator.voxels)).to(wished)
    reach, seen_wished, seen_dose, *of_masks = problem.operator.adjoint(
        torch.stack([torch.ones_like(wished), wished, dose, *masks])
    )
    reach, seen_dose = (v.clamp(min=1e-6 * float(v.max())) for v in (reach, seen_dose))
    rows = torch.stack(
        [
            fluence[0],
            fluence[0] - halfway[0],
            10 * (seen_wished / seen_dose - 1).clamp(-1, 1),
            reach,
            seen_wished / reach / wished.max(),
            *(share / reach for share in of_masks),
            _near_targets(beams).to(wished),
            torch.ones_like(reach),
        ]
    )
    maps = _to_maps(wide, rows)
    scale = torch.stack([_scale(m[0]) for m in maps])
    maps[:, :2] /= scale[:, None, None, None]
    maps[:, 3] /= maps[:, 3].amax((1, 2), keepdim=True)
    return maps, scale


def _scale(map_mu: Tensor) -> Tensor:
    """High percentile of where there is fluence, (); 1 where there is none."""
    used = map_mu[map_mu > 0]
    return used.quantile(_SCALE_PERCENTILE / 100) if used.numel() else map_mu.new_ones(())


def _near_targets(beams: Sequence[Beam]) -> Tensor:
    """1 for beamlets that are open in the beams themselves, (n_beamlets,) between the jaws."""
    return torch.from_numpy(np.concatenate([np.pad(b.open_beamlets, 1).ravel() for b in beams]).astype(np.float32))


def _to_maps(wide: Sequence[Beam], rows: Tensor) -> Tensor:
    """Values of all beamlets, (n, n_beamlets), as maps (n_beams, n, n_pixels, n_pixels)."""
    parts = torch.split(rows, [w.n_open for w in wide], dim=1)
    maps = [fluence_to_map(w, p.reshape(-1, *w.open_beamlets.shape)) for w, p in zip(wide, parts, strict=True)]
    return torch.stack(maps)


def _masks(case: PatientCase, voxels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Share of each voxel in the targets and in the organs at risk outside them, (2, n_voxels)."""
    nothing = np.zeros(voxels.size, np.float32)
    target = union("targets", case.targets).fraction.ravel()[voxels] if case.targets else nothing
    organs = case.with_role(Role.ORGAN_AT_RISK)
    organ = union("organs", organs).fraction.ravel()[voxels] if organs else nothing
    return np.stack([target, np.minimum(organ, 1 - target)])
