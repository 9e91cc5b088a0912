"""Beams as control points deliver them, and RT Plans that a test may spoil before saving."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from Core.plan_samples import a_case, a_dicom_identity, a_plan
from pydicom.dataset import Dataset

from deeprt.beams import BeamAngles
from deeprt.delivery.existing_plan import PlannedBeam
from deeprt.dicom.common import write_dataset
from deeprt.dicom.write_plan import plan_dataset

EDGES = np.array([-30.0, -20.0, -5.0, 0.0, 15.0, 40.0])


def a_moving_beam(rng: np.random.Generator, *, n_points: int = 5, moving_jaws: bool = False) -> PlannedBeam:
    """Leaves that cross pixels, each other's way and the jaws, in either direction."""
    left = rng.uniform(-60, 30, (n_points, EDGES.size - 1))
    jaws = np.tile([-40.0, 35.0, -22.0, 31.0], (n_points, 1))
    if moving_jaws:
        jaws += rng.uniform(-12, 12, jaws.shape)
    return PlannedBeam(
        number=3,
        name="Moving",
        group_number=1,
        angles=BeamAngles(37.0, 5.0, 12.0),
        isocenter_lps=np.array([4.0, -3.0, 2.0]),
        sad_mm=1000.0,
        energy_mv=6.0,
        is_flattened=True,
        machine_name="linac",
        mu=80.0,
        n_fractions=5,
        meterset=np.concatenate([[0.0], np.sort(rng.uniform(0, 1, n_points - 2)), [1.0]]),
        jaws_mm=jaws,
        leaf_edges_mm=EDGES,
        left_mm=left,
        right_mm=left + rng.uniform(0, 50, left.shape),
    )


def turned(beam: PlannedBeam) -> PlannedBeam:
    """The same beam, drawn with x and y exchanged: leaves along Yb."""
    return replace(beam, jaws_mm=beam.jaws_mm[:, [2, 3, 0, 1]], leaf_travel="y")


def a_plan_dataset() -> Dataset:
    """Our own RT Plan of two beams with three and two segments."""
    case = a_case(dicom=a_dicom_identity())
    return plan_dataset(case, a_plan(case), label="sample", structure_set_uid="1.2.3")


def saved(dataset: Dataset, folder: Path) -> Path:
    write_dataset(dataset, folder / "RTPLAN.dcm")
    return folder / "RTPLAN.dcm"
