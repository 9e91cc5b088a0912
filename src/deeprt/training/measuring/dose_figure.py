"""Two doses of one patient to look at: DVHs of both, and an axial slice as a case of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from deeprt.case import PatientCase
from deeprt.evaluation.figure_style import INK, structure_colors
from deeprt.evaluation.report import RESEARCH_ONLY
from deeprt.geometry import Grid
from deeprt.structures import Role, Structure

_DASHES = (0, (4, 1.5))
_MARKERS = "osD^vP*Xh<"


@dataclass(frozen=True, eq=False)
class DvhPair:
    """DVHs of a structure under two doses.

    Parameters
    ----------
    structure : its name
    solid, dashed : (n, 2) each, Gy and percent of the volume
    """

    structure: str
    solid: NDArray[np.float64]
    dashed: NDArray[np.float64]


def slice_case(ct_hu: NDArray[np.float32], structures: Iterable[Structure], pixel_mm: float) -> PatientCase:
    """An axial slice as a case, for what draws cases.

    Parameters
    ----------
    ct_hu : (n_rows, n_cols), rows from anterior to posterior, columns from the patient's right to left
    structures : of fractions (1, n_rows, n_cols)
    """
    volume = np.asarray(ct_hu, np.float32)[None]
    grid = Grid.axial(volume.shape, pixel_mm, (0.0, 0.0, 0.0))
    return PatientCase("slice", "HFS", grid, volume, tuple(structures), n_fractions=1)


def draw_dvhs(
    axes: Axes, case: PatientCase, pairs: Sequence[DvhPair], names: tuple[str, str], *, prescriptions: bool = False
) -> None:
    """Draw DVHs of two doses, solid and dashed; a marker and a color a structure.

    Parameters
    ----------
    case : of the structures
    names : of the solid and of the dashed dose
    prescriptions : whether lines show those of the targets
    """
    colors = structure_colors(case)
    for pair, marker in zip(pairs, _MARKERS, strict=False):
        is_target = case.structure(pair.structure).role is Role.TARGET
        for curve, dashes in ((pair.solid, "-"), (pair.dashed, _DASHES)):
            gy, percent = curve.T
            axes.plot(
                gy, percent, color=colors[pair.structure], linestyle=dashes, linewidth=2.2 if is_target else 1.4,
                marker=marker, markevery=max(1, gy.size // 9), markersize=5, zorder=3 if is_target else 2,
                fillstyle="full" if dashes == "-" else "none", label=pair.structure if dashes == "-" else None,
            )  # fmt: skip
    for target in case.targets if prescriptions else ():
        axes.axvline(target.prescription_gy or 0.0, color=colors[target.name], linewidth=0.9, linestyle=":")
    for name, dashes in ((names[0], "-"), (names[1], _DASHES)):
        axes.plot([], [], color=INK, linestyle=dashes, label=name)
    if prescriptions:
        axes.plot([], [], color=INK, linewidth=0.9, linestyle=":", label="prescription")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axes.set(xlim=(0, None), ylim=(0, 101), xlabel="Dose, whole course / Gy", ylabel="Volume / %")
    axes.grid(color=INK, alpha=0.13, linewidth=0.5)
    axes.text(1.0, 1.01, RESEARCH_ONLY, transform=axes.transAxes, ha="right", va="bottom", fontsize=7, alpha=0.7)
