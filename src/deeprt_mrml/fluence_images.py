"""Fluence maps as one-slice volumes that stand on the isocenter plane of their beams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum

import numpy as np
import slicer
from numpy.typing import NDArray

from deeprt.beams import Beam, FluenceImage
from deeprt.geometry import Grid
from deeprt_mrml.beam_models import beam_name
from deeprt_mrml.coordinates import beam_to_ras, matrix_to_lps
from deeprt_mrml.subject_hierarchy import find_node, keep_only, plan_node
from deeprt_mrml.volumes import array_of, color_table, set_scale, set_volume

_THICKNESS_MM = 1.0  # of the one slice, along +Zb


class MapKind(StrEnum):
    """What maps of a plan there are in a scene."""

    FLUENCE = "fluence"
    REFERENCE = "reference fluence"
    DIFFERENCE = "fluence difference"


def show_fluence(
    scene: slicer.vtkMRMLScene,
    plan: str,
    beams: Sequence[Beam],
    fluence_mu: Sequence[NDArray[np.floating]],
    *,
    kind: MapKind = MapKind.FLUENCE,
    top_mu: float | None = None,
) -> tuple[slicer.vtkMRMLScalarVolumeNode, ...]:
    """Show the fluence maps of a plan on one scale; volumes of an earlier call are changed, those left over removed.

    Parameters
    ----------
    fluence_mu : one (n_rows, n_cols) of each beam's beamlets, MU per fraction
    kind : of the maps; the scale of differences is symmetric about zero
    top_mu : upper end of the scale; the highest value of all beams, regardless of its sign, if None

    Returns
    -------
    One volume a beam

    Raises
    ------
    ValueError
        If a map is not of its beam's beamlets.
    """
    nodes = []
    for number, (beam, fluence) in enumerate(zip(beams, fluence_mu, strict=True), start=1):
        values, grid = fluence_image(beam, fluence)
        node = plan_node(scene, plan, _part(kind, number), "vtkMRMLScalarVolumeNode", f"{beam_name(beam)} {kind}")
        set_volume(node, values, grid)
        nodes.append(node)
    top = top_mu or max((float(np.abs(f).max()) for f in fluence_mu), default=0.0) or 1.0
    low, colors = (-top, "RdBu_r") if kind is MapKind.DIFFERENCE else (0.0, "cividis")
    set_scale(nodes, low, top, color_table(scene, colors))
    keep_only(scene, plan, f"{kind}/", nodes)
    return tuple(nodes)


def remove_fluence(scene: slicer.vtkMRMLScene, plan: str, kind: MapKind) -> None:
    """Remove the maps of one kind of a plan."""
    keep_only(scene, plan, f"{kind}/", ())


def fluence_of_plan(
    scene: slicer.vtkMRMLScene, plan: str, beams: Sequence[Beam], *, kind: MapKind = MapKind.FLUENCE
) -> tuple[NDArray[np.float64], ...]:
    """Take the maps of a plan from its volumes, also where their values were edited.

    Parameters
    ----------
    beams : that they were shown for

    Returns
    -------
    One (n_rows, n_cols) a beam, MU per fraction; none at all unless each beam has a volume of its pixels
    """
    maps = []
    for number, beam in enumerate(beams, start=1):
        node = find_node(scene, plan, _part(kind, number))
        if node is None:
            return ()
        try:
            maps.append(fluence_of_image(beam, array_of(node)))
        except ValueError:  # another image took its place
            return ()
    return tuple(maps)


def fluence_image(beam: Beam, fluence: NDArray[np.floating]) -> tuple[NDArray[np.float32], Grid]:
    """Draw a fluence map on pixels of one size, as wide and as high as its smallest beamlets.

    Leaves of two widths make rows of two heights; where one is a multiple of the other, the image is exact.

    Parameters
    ----------
    fluence : (n_rows, n_cols), rows along +Yb, columns along +Xb

    Returns
    -------
    values : (1, n_rows of pixels, n_cols of pixels) float32
    grid : of the pixels, whose i, j, k run along +Xb, +Yb, +Zb

    Raises
    ------
    ValueError
        If the map is not of the beam's beamlets.
    """
    image = FluenceImage.of(beam, fluence)
    to_beam = np.diag([*image.pixel_mm, _THICKNESS_MM, 1.0])
    to_beam[:2, 3] = image.first_mm
    values = image.values.astype(np.float32)[None]
    return values, Grid(values.shape, matrix_to_lps(beam_to_ras(beam)) @ to_beam)


def fluence_of_image(beam: Beam, values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Take a fluence map from an image of `fluence_image`: the mean of each beamlet's pixels.

    Parameters
    ----------
    values : (1, n_rows of pixels, n_cols of pixels)

    Returns
    -------
    (n_rows, n_cols) float64

    Raises
    ------
    ValueError
        If the image does not have the beam's pixels.
    """
    image = FluenceImage.of(beam, np.zeros(beam.open_beamlets.shape))
    if values.shape != (1, *image.values.shape):
        raise ValueError(f"{beam.name}: the image has shape {values.shape}, the beam's {(1, *image.values.shape)}.")
    return replace(image, values=values[0].astype(np.float64)).on_beamlets(beam)


def _part(kind: MapKind, number: int) -> str:
    return f"{kind}/{number}/"  # with an end, so that no part begins like another
