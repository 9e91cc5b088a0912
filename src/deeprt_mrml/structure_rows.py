"""Segments as rows of the table of structures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer

from deeprt.config import PlanningConfig
from deeprt.dicom.source import Color
from deeprt.structures import Role, Structure
from deeprt_mrml.cases import roles_of
from deeprt_mrml.segments import segment_colors


@dataclass(frozen=True)
class StructureRow:
    """A segment as the table of structures shows it.

    Parameters
    ----------
    color : RGB, 0 to 255
    role : in use; ``proposed`` is what its name says
    organ : TG-263 name of an organ at risk; empty if unknown
    prescription_gy : whole-course dose of a target; None without one
    weight : organ weight of beam selection; that of targets is 1 unless it is set
    """

    name: str
    color: Color
    role: Role
    proposed: Role
    organ: str
    prescription_gy: float | None
    weight: float


def structure_rows(node: slicer.vtkMRMLSegmentationNode, config: PlanningConfig) -> tuple[StructureRow, ...]:
    """Segments with their roles, prescriptions and weights.

    Raises
    ------
    InputError
        If the settings and the segments contradict each other.
    """
    colors = segment_colors(node)
    choices = {n: c for n, c in config.structure_choices().items() if n in colors}
    nothing = np.zeros((1, 1, 1), np.float32)
    return tuple(
        StructureRow(
            name, color, r.role, proposed.role, r.organ, r.prescription_gy,
            config.selection.weights.of(Structure(name, r.role, nothing, r.prescription_gy, r.organ)),
        )
        for (name, color), r, proposed in zip(colors.items(), roles_of(node, choices), roles_of(node), strict=True)
    )  # fmt: skip
