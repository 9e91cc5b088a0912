"""Seconds: of seven maps and what they are made of, and of a whole plan."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deeprt.config import BeamSettings, FluenceSettings, PlanningConfig
from deeprt.delivery.sequencing import SequencingSettings
from deeprt.export import write_plan_folder
from deeprt.fluence.inversion import invert
from deeprt.fluence.predict import corrected_maps, view_maps
from deeprt.networks.case_views import case_views
from deeprt.networks.dual_frame import DualFrameConfig, DualFrameNetwork
from deeprt.networks.fluence_network import FluenceNetwork
from deeprt.pipeline import plan_case
from deeprt.preparation import VIRTUAL_PROSTATE, load_case
from deeprt.progress import Progress
from deeprt.training.fluence_experiments.methods import refined_maps
from deeprt.training.fluence_experiments.results import DEFAULT, N_REFINED
from deeprt.training.fluence_experiments.setup import Setup, load_planned_patient
from deeprt.training.measuring.times import THREADS, hardware, seconds
from deeprt.training.processes import threads

_REPEATS = 5


def times(setup: Setup, progress: Progress) -> dict[str, Any]:
    """Seconds on a test patient with seven beams, repeated after a warm-up."""
    patient = load_planned_patient(setup, setup.test_ids(setup.cohort)[0])
    case, beams, machine, wished_gy = patient.case, patient.beams, patient.machine, patient.plan.dose_gy
    with threads(THREADS):
        inversion = invert(case, beams, machine, wished_gy)
        views = case_views(DualFrameConfig(), case, wished_gy)
        work: dict[str, Callable[[], Any]] = {
            "inversion_s": partial(invert, case, beams, machine, wished_gy),
            "view_s": partial(views.of, beams[1]),
        }
        if DEFAULT in setup.trained:
            network = setup.network(DEFAULT)
            assert isinstance(network, FluenceNetwork)
            maps_mu = corrected_maps(network, inversion)
            work["network_s"] = partial(corrected_maps, network, inversion)
            work["seven_maps_s"] = lambda: corrected_maps(network, invert(case, beams, machine, wished_gy))
            work["refinement_s"] = partial(refined_maps, inversion, maps_mu, N_REFINED, case, machine, wished_gy)
        if "paper" in setup.trained:
            paper = setup.network("paper")
            assert isinstance(paper, DualFrameNetwork)
            work["paper_maps_s"] = partial(view_maps, paper, case, beams, wished_gy)
        if setup.released is not None:
            work["plan_s"] = partial(_plan, setup.released)
        found: dict[str, Any] = {}
        for n, (name, task) in enumerate(work.items()):
            progress.step("times", n / len(work), name)
            task()
            found[name] = [seconds(task) for _ in range(_REPEATS)]
    about = {"hardware": hardware(), "threads": THREADS, "case": patient.about.id, "n_beams": len(beams)}
    return {**about, "n_voxels": int(np.prod(case.grid.shape)), **found}


def _plan(network: Path) -> None:
    """From the virtual patient's name to the files of a seven-field plan, the wished dose included."""
    config = PlanningConfig(
        beams=BeamSettings(n_beams=7),
        fluence=FluenceSettings(method="network", network=str(network)),
        sequencing=SequencingSettings(technique="sliding-window"),
    )
    with tempfile.TemporaryDirectory() as folder:
        write_plan_folder(plan_case(load_case(VIRTUAL_PROSTATE, config), config), Path(folder) / "plan")
