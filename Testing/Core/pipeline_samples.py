"""Small studies and quick plans: the whole flow in seconds."""

from functools import cache
from pathlib import Path

import numpy as np
from Core.dicom_samples import Roi, circle, ct_slices, rectangle, save, structure_set

from deeprt.config import BeamSettings, FluenceSettings, PlanningConfig
from deeprt.delivery.step_and_shoot import SequencingSettings
from deeprt.fluence.solvers import SolverSettings
from deeprt.pipeline import plan_case
from deeprt.preparation import VIRTUAL_PROSTATE, load_case

SHAPE = (12, 26, 32)  # x from -62 to 62 mm, y from -50 to 50, z from 10 to 43
PLANES = tuple(range(10, 44, 3))
BODY = Roi("BODY", "EXTERNAL", rectangle((-50, 50), (-40, 40), PLANES))
PTV = Roi("PTV_60", "PTV", circle((12.0, -7.0), 14.0, PLANES[3:9]))
CORD = Roi("SpinalCord", "ORGAN", rectangle((5, 20), (15, 30), PLANES[2:9]))

QUICK = PlanningConfig(
    dose_grid_mm=5.0,
    beams=BeamSettings(n_beams=3),
    fluence=FluenceSettings(beamlet_width_mm=5.0, solver=SolverSettings(max_iterations=40, tolerance=1e-3)),
    sequencing=SequencingSettings(max_segments_per_beam=5, max_rounds=5, n_dose_iterations=5),
)


def a_phantom_ct():
    """Slices of a water box of 100 by 80 mm in air."""
    hu = np.full(SHAPE, -1000, np.int16)
    hu[:, 3:23, 3:29] = 0
    return ct_slices(hu)


def a_study(folder, *rois, slices=None, **frame) -> Path:
    """Write a CT and a structure set; the phantom with body, target and cord if nothing else is given."""
    save([*(a_phantom_ct() if slices is None else slices), structure_set(rois or (BODY, PTV, CORD), **frame)], folder)
    return folder


@cache
def a_virtual_case():
    """The virtual patient on a coarse grid."""
    return load_case(VIRTUAL_PROSTATE, QUICK)


@cache
def a_virtual_plan():
    """Plan of three beams for the virtual patient, not a good one."""
    return plan_case(a_virtual_case(), QUICK)
