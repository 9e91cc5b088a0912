"""Fluence maps as one-slice volumes that stand on the isocenter plane of their beams."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer
from numpy.typing import NDArray

from deeprt.beams import Beam
from deeprt.geometry import Grid
from deeprt_mrml.beam_models import beam_name
from deeprt_mrml.coordinates import beam_to_ras, matrix_to_lps
from deeprt_mrml.subject_hierarchy import keep_only, plan_node
from deeprt_mrml.volumes import color_table, set_scale, set_volume

_THICKNESS_MM = 1.0  # of the one slice, along +Zb


def show_fluence(
    scene: slicer.vtkMRMLScene,
    plan: str,
    beams: Sequence[Beam],
    fluence_mu: Sequence[NDArray[np.floating]],
    *,
    top_mu: float | None = None,
) -> tuple[slicer.vtkMRMLScalarVolumeNode, ...]:
    """Show the fluence maps of a plan on one scale; volumes of an earlier call are changed, those left over removed.

    Parameters
    ----------
    fluence_mu : one (n_rows, n_cols) of each beam's beamlets, MU per fraction
    top_mu : upper end of the scale; the highest fluence of all beams if None

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
        node = plan_node(scene, plan, f"fluence/{number}", "vtkMRMLScalarVolumeNode", f"{beam_name(beam)} fluence")
        set_volume(node, values, grid)
        nodes.append(node)
    highest = max((float(np.max(f)) for f in fluence_mu), default=0.0)
    set_scale(nodes, 0.0, top_mu or highest or 1.0, color_table(scene, "cividis"))
    keep_only(scene, plan, "fluence/", nodes)
    return tuple(nodes)


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
    if fluence.shape != beam.open_beamlets.shape:
        raise ValueError(
            f"{beam.name}: the fluence has shape {fluence.shape}, its beamlets {beam.open_beamlets.shape}."
        )
    (columns, x_mm, width_mm), (rows, y_mm, height_mm) = _pixels(beam.x_edges_mm), _pixels(beam.y_edges_mm)
    to_beam = np.diag([width_mm, height_mm, _THICKNESS_MM, 1.0])
    to_beam[:2, 3] = x_mm, y_mm
    values = fluence[np.ix_(rows, columns)].astype(np.float32)[None]
    return values, Grid((1, rows.size, columns.size), matrix_to_lps(beam_to_ras(beam)) @ to_beam)


def _pixels(edges_mm: NDArray[np.float64]) -> tuple[NDArray[np.int64], float, float]:
    """Interval of each pixel along an axis, center of the first pixel, size of all."""
    extent = float(edges_mm[-1] - edges_mm[0])
    n = int(np.ceil(extent / np.diff(edges_mm).min() - 1e-6))
    size = extent / n
    centers = edges_mm[0] + size * (np.arange(n) + 0.5)
    return np.searchsorted(edges_mm, centers, side="right") - 1, float(centers[0]), size
