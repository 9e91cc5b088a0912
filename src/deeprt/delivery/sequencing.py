"""What both ways of sequencing share: their settings, the field of a fluence map, its leaf pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deeprt.beams import Beam
from deeprt.delivery.leaf_fitting import Field
from deeprt.machine import Machine, Mlc

Float = NDArray[np.float64]

_EDGE_TOLERANCE_MM = 1e-3  # rounding of leaf edges in files


@dataclass(frozen=True)
class SequencingSettings:
    """How fluence maps are sequenced, and how finely.

    Parameters
    ----------
    technique : static segments, or leaves that move while the beam is on
    negligible : fluence below this share of a beam's maximum is not delivered
    n_control_points : of a sliding-window beam
    max_segments_per_beam : budget of each step-and-shoot beam, as all that follows
    max_levels : most fluence levels of the map whose decomposition the fit starts from
    start_ratio : the decomposition may have this many times the budget; it is thinned out while fitting
    max_rounds : of moving all leaves and fitting all monitor units
    tolerance : the fit ends when a round lowers its error by less than this share
    n_dose_iterations : that then move leaves by the objectives of the dose, see `deeprt.segment_optimization`
    """

    technique: Literal["step-and-shoot", "sliding-window"] = "step-and-shoot"
    negligible: float = 0.01
    n_control_points: int = 120
    max_segments_per_beam: int = 12
    max_levels: int = 30
    start_ratio: float = 2.0
    max_rounds: int = 40
    tolerance: float = 1e-3
    n_dose_iterations: int = 30

    def __post_init__(self) -> None:
        if self.max_segments_per_beam < 1 or self.max_levels < 1 or self.start_ratio < 1:
            raise ValueError("SequencingSettings: segments, levels and start_ratio must be at least 1.")
        if min(self.max_rounds, self.tolerance, self.n_dose_iterations) < 0 or not 0 <= self.negligible < 1:
            raise ValueError(
                "SequencingSettings: max_rounds, tolerance and n_dose_iterations must not be negative, negligible must "
                "lie in 0 to 1."
            )
        if self.n_control_points < 2:
            raise ValueError(f"SequencingSettings: n_control_points must be at least 2, got {self.n_control_points}.")


def check_maps(beams: Sequence[Beam], fluence_mu: Sequence[Float]) -> None:
    """Raise a ValueError unless there is one map a beam."""
    if len(fluence_mu) != len(beams):
        raise ValueError(f"There are {len(beams)} beams but {len(fluence_mu)} fluence maps.")


def field_of(beam: Beam, wished: Float, machine: Machine, settings: SequencingSettings) -> tuple[Field, int]:
    """The part of a map that holds fluence, and the index of its first row's leaf pair."""
    if wished.shape != beam.open_beamlets.shape:
        raise ValueError(
            f"Beam '{beam.name}': the fluence map has shape {wished.shape}, the beam {beam.open_beamlets.shape}."
        )
    if not np.all(np.isfinite(wished)) or wished.min() < 0:
        raise ValueError(f"Beam '{beam.name}': fluence must be finite and not negative.")
    if wished.max() == 0:
        raise ValueError(f"Beam '{beam.name}': its fluence is zero everywhere; leave the beam out.")
    edges = machine.mlc.leaf_edges_mm
    pair = int(np.abs(edges - beam.y_edges_mm[0]).argmin())
    leaves = edges[pair : pair + beam.y_edges_mm.size]
    if leaves.size != beam.y_edges_mm.size or np.abs(leaves - beam.y_edges_mm).max() > _EDGE_TOLERANCE_MM:
        raise ValueError(
            f"Beam '{beam.name}': the rows of its fluence map are not the leaf pairs of {machine.name}; "
            "place the beam with the machine's leaf widths."
        )
    used = wished > settings.negligible * wished.max()
    rows, cols = np.flatnonzero(used.any(axis=1)), np.flatnonzero(used.any(axis=0))
    box = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
    x_edges = beam.x_edges_mm[cols[0] : cols[-1] + 2]
    x1, x2 = with_margin(x_edges[0], x_edges[-1], machine.jaws.margin_mm, machine.jaws.max_x_mm)
    heights = np.diff(beam.y_edges_mm)[box[0]]
    field = Field(np.pad(wished[box], ((1, 1), (0, 0))), x_edges, np.pad(heights, 1), x1, x2, _as_radiated(machine.mlc))
    return field, pair + int(rows[0])


def _as_radiated(mlc: Mlc) -> Mlc:
    """Limits of the leaves for the edges of their fluence, which stand back from the tips by the offset."""
    offset = mlc.tip_offset_mm
    return replace(
        mlc,
        min_gap_mm=mlc.min_gap_mm + 2 * offset,
        max_position_mm=mlc.max_position_mm + offset,
        max_overtravel_mm=mlc.max_overtravel_mm - offset,
    )


def with_margin(low: float, high: float, margin: float, limit: float) -> tuple[float, float]:
    """Jaws that leave a margin around an interval, within their limit."""
    return max(float(low) - margin, -limit), min(float(high) + margin, limit)


def for_all_pairs(tips_mm: Float, first_pair: int, mlc: Mlc) -> Float:
    """Tips of all leaf pairs from those of a field's rows, whose first and last stand for the pairs beside it.

    Parameters
    ----------
    tips_mm : (..., n_rows)
    first_pair : leaf pair of the second row

    Returns
    -------
    (..., n_pairs)
    """
    n_inside = tips_mm.shape[-1] - 2
    return np.repeat(tips_mm, [first_pair, *n_inside * [1], mlc.n_pairs - first_pair - n_inside], axis=-1)
