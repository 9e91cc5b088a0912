"""Plans of known fluence on the sample case, the doses they give, and untrained networks that bring fluence back."""

from dataclasses import asdict, replace
from functools import cache

import numpy as np
import torch
from Core.network_samples import a_card
from Core.plan_samples import a_case

from deeprt.beams import BeamAngles, place_beams
from deeprt.case import with_tuning_structures
from deeprt.dose.gather import IMAGE_PIXEL_MM
from deeprt.dose.influence import dose_influence
from deeprt.fluence.inversion import InversionSettings, between_jaws
from deeprt.fluence.predict import KIND, PAPER_KIND
from deeprt.fluence.solvers import SolverSettings
from deeprt.machine_file import read_machine
from deeprt.networks.beams_eye_view import ViewSampling
from deeprt.networks.checkpoint import save_checkpoint
from deeprt.networks.dual_frame import DualFrameConfig, DualFrameNetwork
from deeprt.networks.fluence_network import FluenceConfig, FluenceNetwork
from deeprt.preparation import VIRTUAL_PROSTATE
from deeprt.training.cohort import CohortPatient
from deeprt.training.reference_plans import ReferenceSettings

MACHINE = read_machine("generic_6mv")
ANGLES = (BeamAngles(20.0, 0.0, 10.0), BeamAngles(140.0, 350.0, 0.0), BeamAngles(265.0, 0.0, 85.0))
# Every voxel that counts, on the pixels of the dose engine: the dose of a fluence is then met exactly.
EXACT = InversionSettings(n_voxels=100_000, image_pixel_mm=IMAGE_PIXEL_MM)
SMALL = FluenceConfig(widths=(8, 8, 8))
PAPER = DualFrameConfig(sampling=ViewSampling(n_slices=3, slice_mm=20.0), widths=(2, 2))

# Reference plans of coarse voxels, few beams and iterations: plans, not good ones.
QUICK = ReferenceSettings(spacing_mm=5.0, n_beams=(3,), solver=SolverSettings(max_iterations=8, tolerance=1e-3))
PATIENT = CohortPatient("P1", VIRTUAL_PROSTATE, 11, "development", nodes=True)


@cache
def a_planned_case():
    """The sample case with ring and skin, on an oblique, off-center grid."""
    return with_tuning_structures(a_case())


@cache
def some_beams():
    """Three beams, two of them oblique, with rows as high as the leaves."""
    return place_beams(a_planned_case(), ANGLES, MACHINE, beamlet_width_mm=5.0)


@cache
def wide_beams():
    """The same with every beamlet between the jaws."""
    return tuple(between_jaws(beam, MACHINE) for beam in some_beams())


@cache
def an_influence():
    """Of the beams' open beamlets, on the whole body."""
    return dose_influence(a_planned_case(), some_beams(), MACHINE)


@cache
def a_wide_influence():
    """Of all beamlets between the jaws, on the whole body."""
    return dose_influence(a_planned_case(), wide_beams(), MACHINE)


@cache
def known_fluence(seed=3):
    """Waves of 10 to 30 MU on the open beamlets, (1, n_beamlets) of all between the jaws."""
    rng, maps = np.random.default_rng(seed), []
    for beam in some_beams():
        x, y = ((edges[:-1] + edges[1:]) / 2 for edges in (beam.x_edges_mm, beam.y_edges_mm))
        first, second = rng.uniform(0, 6, 2)
        waves = 20 + 10 * np.outer(np.cos(y / 7 + second), np.sin(x / 9 + first))
        maps.append(np.pad(waves * beam.open_beamlets, 1))
    return a_wide_influence().from_maps(maps)[None]


@cache
def known_dose():
    """Dose of the known fluence, whole course, on the grid."""
    return dose_of(known_fluence())


def dose_of(fluence_mu):
    """Whole-course dose of fluence between the jaws, on the grid."""
    influence = a_wide_influence()
    return influence.to_volume(a_planned_case().n_fractions * influence.dose(fluence_mu)[0])


def a_random_network(config=SMALL, seed=1):
    """A network that changes what it is given."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = FluenceNetwork(config)
        with torch.no_grad():
            network.last.weight.normal_(std=0.1)
    return network.eval()


def a_paper_network(config=PAPER):
    """The paper's network, smaller; untrained, it returns the scaled central slice of the dose."""
    return DualFrameNetwork(config, generator=torch.Generator().manual_seed(1)).eval()


def a_network_file(file, network=None):
    """Write a network and its card, the small untrained default one if none is given; gives the file."""
    network = FluenceNetwork(SMALL) if network is None else network
    kind = PAPER_KIND if isinstance(network, DualFrameNetwork) else KIND
    save_checkpoint(file, network, a_card_of(kind, network))
    return file


def a_card_of(kind, network):
    """The card of a network that knows nothing."""
    return replace(a_card(asdict(network.config)), network=kind)
