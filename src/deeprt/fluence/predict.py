"""Fluence from dose by a network, without inverse planning.

The dose is inverted for a few iterations (`deeprt.fluence.inversion`), and a network makes maps of sequenced beams of
what comes out. The paper's network sees one beam at a time and gives its fluence per monitor unit only; the monitor
units follow from the dose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from deeprt.beams import Beam
from deeprt.case import PatientCase
from deeprt.dose.gather import IMAGE_PIXEL_MM
from deeprt.dose.influence import DoseInfluence
from deeprt.errors import InputError
from deeprt.fluence.inversion import (
    FEATURES,
    TRAINED_PIXELS,
    Inversion,
    InversionSettings,
    inversion_problem,
    invert,
    mimicked,
    wished_of,
)
from deeprt.fluence.problem import FluenceProblem
from deeprt.fluence.solution import FluenceSolution
from deeprt.machine import Machine
from deeprt.networks.beams_eye_view import ViewSampling, map_to_fluence
from deeprt.networks.beyond_training import larger_targets, other_beams
from deeprt.networks.case_views import case_views
from deeprt.networks.checkpoint import ModelCard, load_network
from deeprt.networks.dual_frame import DualFrameConfig, DualFrameNetwork
from deeprt.networks.fluence_network import FluenceConfig, FluenceNetwork
from deeprt.progress import Progress, Silent

KIND, PAPER_KIND = "fluence network", "dual-frame U-Net"  # as in their model cards
SHIPPED = "deepfluence.safetensors"

# Where wished dose and beam model do not agree, rough changes would fit the difference, at the cost of monitor units.
_REFINEMENT = InversionSettings(n_voxels=60_000, image_pixel_mm=IMAGE_PIXEL_MM, smoothness=3.0)
# Of doses that are not of this beam model the default network has learned nothing, and rough maps would fit what cannot
# be fitted.
_OTHER_MODEL_SMOOTHNESS, _OTHER_MODEL_REFINEMENTS = 20.0, 10


def predict_fluence(
    case: PatientCase,
    influence: DoseInfluence,
    machine: Machine,
    wished_gy: NDArray[np.float32],
    *,
    network: Path | None = None,
    n_refinements: int = 0,
    progress: Progress | None = None,
) -> FluenceSolution:
    """Predict the fluence that gives a dose.

    Parameters
    ----------
    influence : of the beams, on every voxel whose dose is wanted
    wished_gy : (n_k, n_j, n_i) whole course, on the case's grid
    network : file of the network; the shipped one if None
    n_refinements : iterations that pull the dose of the prediction to the wished one

    Returns
    -------
    Fluence of the beams' open beamlets as delivered, leaf transmission included, and its dose; the objective is the
    mean squared difference to the wished dose where that is high, Gy², leakage beside the open beamlets included

    Raises
    ------
    InputError
        If the dose is not one of this case, a beam reaches beyond the map, or the network's file is damaged.
    """
    _check_dose(case, wished_gy)
    report, beams = progress or Silent(), tuple(b.beam for b in influence.beams)
    report.step("fluence", 0.0, "dose inversion")
    card, asked = network_of(network)
    inversion = invert(case, beams, machine, wished_gy, device=str(influence.device))
    report.step("fluence", 0.4, "prediction")
    source, notes = card.network, beyond_training(card, case, beams, machine)
    if isinstance(asked, DualFrameNetwork):
        fmu = view_maps(asked.to(inversion.features.device), case, beams, wished_gy)
        maps_mu = fmu * torch.from_numpy(monitor_units(inversion, fmu)).to(fmu)[:, None, None]
    elif inversion.is_of_this_model:
        maps_mu = corrected_maps(asked, inversion)
    else:
        maps_mu = inversion.to_maps(inversion.fluence_mu)
        n_refinements = max(n_refinements, _OTHER_MODEL_REFINEMENTS)
        source, notes = "dose inversion", (_not_asked(card, inversion, n_refinements),)
    problem, fluence = inversion.problem, inversion.to_fluence(maps_mu)
    if n_refinements > 0:
        source += f", {n_refinements} refinements"
        report.step("fluence", 0.6, f"{n_refinements} refinements")
        problem, fluence = refined(case, machine, wished_gy, inversion, fluence, n_refinements)
        maps_mu = inversion.to_maps(fluence)
    own = [map_to_fluence(b, m) for b, m in zip(beams, maps_mu, strict=True)]
    report.step("fluence", 1.0)
    return _solution(case, influence, problem, fluence, own, source=source, notes=notes)


def _not_asked(card: ModelCard, inversion: Inversion, n_refinements: int) -> str:
    return (
        f"These beams come no nearer to the wished dose than {100 * inversion.misfit:.1f} % of its largest (root mean "
        f"square). Check their angles, if it is of DeepRT's beam model, of which alone the {card.network} has learned; "
        f"it was not asked, and smooth maps were fitted by {n_refinements} refinements."
    )


def refined(
    case: PatientCase,
    machine: Machine,
    wished_gy: NDArray[np.float32],
    inversion: Inversion,
    fluence_mu: Tensor,
    n_refinements: int,
) -> tuple[FluenceProblem, Tensor]:
    """Pull the dose of predicted fluence, (1, n_beamlets) between the jaws, to the wished one.

    By smooth changes of it if the wished dose can be one of this beam model; otherwise to smooth maps.

    Returns
    -------
    The problem that the iterations bring nearer to its optimum, and the fluence
    """
    settings = _REFINEMENT
    if not inversion.is_of_this_model:
        settings = replace(_REFINEMENT, smoothness=_OTHER_MODEL_SMOOTHNESS)
    problem = inversion_problem(case, inversion.beams, machine, wished_gy, settings, device=str(fluence_mu.device))
    if inversion.is_of_this_model and problem.roughness is not None:
        problem = replace(problem, roughness=replace(problem.roughness, origin=fluence_mu))
    return problem, mimicked(problem, fluence_mu, n_refinements)


def refine_fluence(
    case: PatientCase,
    influence: DoseInfluence,
    machine: Machine,
    wished_gy: NDArray[np.float32],
    fluence_mu: Sequence[NDArray[np.float64]],
    n_refinements: int,
) -> FluenceSolution:
    """Pull the dose of given fluence to a wished one, as `predict_fluence` does it with its own.

    Parameters
    ----------
    influence : of the beams, on every voxel whose dose is wanted
    wished_gy : (n_k, n_j, n_i) whole course, on the case's grid
    fluence_mu : one (n_rows, n_cols) a beam, MU per fraction; closed beamlets have none
    n_refinements : iterations, one or more

    Returns
    -------
    As of `predict_fluence`

    Raises
    ------
    InputError
        If there is no iteration, the dose is not one of this case, the fluence is not of these beams, or a beam reaches
        beyond the map.
    """
    if n_refinements < 1:
        raise InputError(f"The number of refinements must be at least 1, got {n_refinements}.")
    _check_dose(case, wished_gy)
    beams = tuple(b.beam for b in influence.beams)
    if [m.shape for m in fluence_mu] != [b.open_beamlets.shape for b in beams]:
        raise InputError("The fluence is not of these beams; predict or optimize it anew.")
    inversion = invert(case, beams, machine, wished_gy, device=str(influence.device))
    # Between the jaws of the inversion's beams lies one more beamlet on every side.
    wide = [np.pad(np.where(b.open_beamlets, m, 0.0), 1).ravel() for b, m in zip(beams, fluence_mu, strict=True)]
    start = torch.from_numpy(np.concatenate(wide).astype(np.float32)).to(influence.device)[None]
    problem, fluence = refined(case, machine, wished_gy, inversion, start, n_refinements)
    parts = torch.split(fluence[0], [w.n_open for w in inversion.beams])
    inner = [p.reshape(w.open_beamlets.shape)[1:-1, 1:-1] for w, p in zip(inversion.beams, parts, strict=True)]
    return _solution(case, influence, problem, fluence, inner, source=f"{n_refinements} refinements")


def _solution(
    case: PatientCase,
    influence: DoseInfluence,
    problem: FluenceProblem,
    fluence_mu: Tensor,
    maps_mu: Sequence[Tensor],
    *,
    source: str,
    notes: tuple[str, ...] = (),
) -> FluenceSolution:
    """Solution with the open beamlets of maps; its objective is that of the fluence between the jaws."""
    masks = [torch.from_numpy(b.beam.open_beamlets).to(m.device) for b, m in zip(influence.beams, maps_mu, strict=True)]
    row = torch.cat([m[mask] for mask, m in zip(masks, maps_mu, strict=True)])[None]
    return FluenceSolution(
        fluence_mu=tuple((m * mask).cpu().numpy().astype(np.float64) for mask, m in zip(masks, maps_mu, strict=True)),
        dose_gy=influence.to_volume(case.n_fractions * influence.dose(row)[0]),
        objective=float((problem.dose(fluence_mu)[0] - wished_of(problem)).square().mean()),
        history=(), converged=True, source=source, notes=notes,
    )  # fmt: skip


def network_of(file: Path | None) -> tuple[ModelCard, FluenceNetwork | DualFrameNetwork]:
    """A network and its card; the shipped one without a file."""
    return _shipped() if file is None else _load(file)


def beyond_training(card: ModelCard, case: PatientCase, beams: Sequence[Beam], machine: Machine) -> tuple[str, ...]:
    """Where a case and its beams lie outside what the network was trained on, one sentence each."""
    notes: tuple[str, ...] = ()
    if card.organs and not {s.organ for s in case.structures} & set(card.organs):
        notes = (f"The {card.network} has learned from {card.site} patients; this one has none of their organs.",)
    return (*notes, *larger_targets(card, case), *other_beams(card, beams, machine))


@cache
def _shipped() -> tuple[ModelCard, FluenceNetwork | DualFrameNetwork]:
    with resources.as_file(resources.files("deeprt") / "data" / "models") as folder:
        return _load(folder / SHIPPED)


def _load(file: Path) -> tuple[ModelCard, FluenceNetwork | DualFrameNetwork]:
    kinds = {KIND: (FluenceConfig, FluenceNetwork), PAPER_KIND: (DualFrameConfig, DualFrameNetwork)}
    card, network = load_network(file, kinds)
    assert isinstance(network, FluenceNetwork | DualFrameNetwork)
    if isinstance(network, FluenceNetwork) and network.config.n_features != len(FEATURES):
        raise InputError(
            f"The network '{file}' takes {network.config.n_features} features of a map, this version makes "
            f"{len(FEATURES)}; train it anew."
        )
    sampling = ViewSampling()
    if isinstance(network, DualFrameNetwork) and _map_of(network.config.sampling) != _map_of(sampling):
        raise InputError(
            f"The network '{file}' makes maps of other pixels than the {sampling.n_pixels} of {sampling.pixel_mm:g} mm "
            "of this version; train it anew."
        )
    return card, network


def _map_of(sampling: ViewSampling) -> tuple[int, float]:
    return sampling.n_pixels, sampling.pixel_mm


def _check_dose(case: PatientCase, wished_gy: NDArray[np.float32]) -> None:
    if not np.isfinite(wished_gy).all():
        raise InputError("The wished dose is not finite everywhere; give the dose of a plan.")
    inside = wished_gy[case.external.fraction > 0.5]
    if inside.size == 0 or not inside.max() > 0:
        raise InputError(
            f"The wished dose is zero inside '{case.external.name}'; give the dose of a plan of this case."
        )
    for target in case.targets:
        if not np.average(wished_gy, weights=target.fraction) > 0:
            raise InputError(f"The wished dose does not reach '{target.name}'; give the dose of a plan of this case.")


def corrected_maps(network: FluenceNetwork, inversion: Inversion) -> Tensor:
    """Maps of the default network, (n_beams, n_pixels, n_pixels) MU."""
    features = inversion.features
    box = _jaws_box(features[:, -1], 2**network.config.n_halvings)
    maps = torch.zeros_like(features[:, 0])
    with torch.inference_mode():
        maps[:, box, box] = network.to(features.device)(features[:, :, box, box]).clamp(min=0)
    return maps * inversion.scale_mu[:, None, None]


def _jaws_box(jaws: Tensor, step: int) -> slice:
    """Smallest centered square that holds the jaws of all beams and what is trained, its size divisible by a step."""
    n_pixels = jaws.shape[-1]
    used = (jaws > 0).any(0)
    reach = torch.nonzero(used.any(0) | used.any(1)).flatten() - (n_pixels - 1) / 2
    half = step / 2 * float(torch.ceil((reach.abs().max() + 0.5) / (step / 2)))
    half = min(max(half, TRAINED_PIXELS / 2), n_pixels / 2)
    return slice(int(n_pixels / 2 - half), int(n_pixels / 2 + half))


def view_maps(
    network: DualFrameNetwork,
    case: PatientCase,
    beams: Sequence[Beam],
    wished_gy: NDArray[np.float32],
) -> Tensor:
    """Maps of the paper's network, (n_beams, n_pixels, n_pixels) fluence per monitor unit: one beam at a time."""
    views, device = case_views(network.config, case, wished_gy), next(network.parameters()).device
    with torch.inference_mode():
        return torch.cat([network(views.of(beam)[None].to(device)) for beam in beams]).clamp(min=0)


def monitor_units(inversion: Inversion, fmu: Tensor) -> NDArray[np.float64]:
    """Monitor units of beams, by least squares of their doses to the wished one, not negative, (n_beams,).

    Parameters
    ----------
    fmu : (n_beams, n_pixels, n_pixels) fluence per monitor unit
    """
    problem = inversion.problem
    sizes = [b.n_open for b in inversion.beams]
    parts = torch.split(inversion.to_fluence(fmu), sizes, dim=1)
    alone = torch.block_diag(*parts)  # type: ignore[no-untyped-call]  # (n_beams, n_beamlets)
    doses = problem.dose(alone).double().cpu().numpy()
    found, _ = nnls(doses.T, wished_of(problem).double().cpu().numpy())
    return np.asarray(found)
