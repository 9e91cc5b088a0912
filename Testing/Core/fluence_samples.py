"""A small fluence problem through a real dose influence, and its explicit matrix."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from Core.plan_samples import a_case

from deeprt.beams import BeamAngles, place_beams
from deeprt.case import with_tuning_structures
from deeprt.dose.influence import dose_influence
from deeprt.fluence.problem import FluenceProblem, make_term, sample_voxels
from deeprt.machine_file import read_machine
from deeprt.structures import Role

ANGLES = (BeamAngles(20.0, 0.0, 10.0), BeamAngles(140.0, 350.0, 0.0), BeamAngles(265.0, 0.0, 85.0))


@cache
def a_planned_case():
    """The sample case with ring and skin."""
    return with_tuning_structures(a_case())


@cache
def an_influence():
    """Three beams of 5 x 5 mm beamlets, two of them oblique, on all voxels of the sample case's body."""
    case, machine = a_planned_case(), read_machine("generic_6mv")
    beams = place_beams(case, ANGLES, machine, beamlet_width_mm=5.0, beamlet_height_mm=5.0)
    return dose_influence(case, beams, machine)


@cache
def a_sample(background_share=0.3, seed=1):
    """All voxels of targets, organs and tuning structures, and a share of the body's others."""
    case = a_planned_case()
    whole = [s for s in case.structures if s.role in (Role.TARGET, Role.ORGAN_AT_RISK, Role.TUNING)]
    return sample_voxels(case, whole, background_share=background_share, rng=np.random.default_rng(seed))


@cache
def a_matrix():
    """Dose of the whole course per MU on the sample's voxels, (n_voxels, n_beamlets) float64."""
    case = a_planned_case()
    sparse = an_influence().restricted(a_sample().voxels).to_sparse()
    return case.n_fractions * sparse.toarray().astype(np.float64)


def a_problem(*lines, per_volume=True, operator=None):
    """Problem of lines (structure, objective, weights), one weight per problem of the batch."""
    case, sample = a_planned_case(), a_sample()
    device = torch.device("cpu")
    terms = tuple(
        make_term(case.structure(name), objective, weights, sample, device=device, per_volume=per_volume)
        for name, objective, weights in lines
    )
    return FluenceProblem(
        operator=operator or an_influence().restricted(sample.voxels), terms=terms, n_fractions=case.n_fractions
    )


def a_start(problem):
    """Equal fluence that gives the target of highest prescription its mean dose, (1, n_beamlets)."""
    target = a_planned_case().targets[0]
    return problem.uniform_start(target.prescription_gy, target)


@dataclass(frozen=True, eq=False)
class MatrixInfluence:
    """An explicit dose influence matrix as operator: (n_beamlets, n_voxels) Gy per MU and fraction."""

    matrix: torch.Tensor
    voxels: np.ndarray

    @property
    def n_beamlets(self):
        return self.matrix.shape[0]

    @property
    def device(self):
        return self.matrix.device

    def dose(self, fluence_mu):
        return fluence_mu @ self.matrix

    def adjoint(self, voxel_values):
        return voxel_values @ self.matrix.T


@cache
def a_matrix_influence():
    """The sample's influence as a matrix: the same operator, quick to apply hundreds of times."""
    per_fraction = a_matrix().T / a_planned_case().n_fractions
    return MatrixInfluence(torch.from_numpy(per_fraction.astype(np.float32)), a_sample().voxels)
