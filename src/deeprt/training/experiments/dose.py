"""The dose of column generation's plan and of the network's in one scenario, for a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deeprt.case import PatientCase
from deeprt.dose.influence import dose_influence
from deeprt.errors import InputError
from deeprt.evaluation.dvh import structure_dvh
from deeprt.progress import Progress
from deeprt.structures import Role
from deeprt.training.experiments.plans import PlanSolver, solved_fluence
from deeprt.training.experiments.setup import FIRST_FOLD, LabeledPatient, Setup, load_labeled_patient
from deeprt.training.experiments.statistics import DEFAULT, TEACHER

_GRID_MM, _DVH_STEP_GY = 3.0, 0.25
_SHOWN = (Role.EXTERNAL, Role.TARGET, Role.ORGAN_AT_RISK)


def dose(setup: Setup, progress: Progress) -> dict[str, NDArray[Any]]:
    """Dose and DVHs of both plans, as `deeprt.training.experiments.dose_figure.dose_comparison` takes them.

    The scenario is the one of the median ratio of objectives among those in which the beams differ. Fluences are the
    optimum at the resolution of the labels; their dose is computed on 3 mm voxels of the whole patient.
    """
    own, teacher = median_pair(setup)
    patient = load_labeled_patient(setup.data, own["patient"])
    spacing_mm = patient.case.grid.spacing_mm
    case = patient.case if np.allclose(spacing_mm, _GRID_MM) else patient.case.resampled(_GRID_MM)
    middle = round(float(case.grid.lps_to_index(case.isocenter_lps()[None])[0, 2]))
    shown = [s for s in case.structures if s.role in _SHOWN and s.fraction.any()]
    arrays: dict[str, NDArray[Any]] = {f"contour_{s.name}": s.fraction[middle] for s in shown}
    arrays["ct_hu"] = case.ct_hu[middle]
    for method, row in (("teacher", teacher), ("network", own)):
        volume = _dose_volume(case, patient, row["scenario"], row["beams"])
        arrays[f"dose_{method}"] = volume[middle]
        gy = np.arange(0.0, float(volume.max()) + _DVH_STEP_GY, _DVH_STEP_GY)
        for s in shown:
            curve = structure_dvh(volume, s.fraction, case.grid.voxel_volume_cc)
            arrays[f"dvh_{s.name}_{method}"] = np.stack([gy, 100 * curve.curve(gy)], axis=1)
    arrays["caption"] = np.array(_caption(patient, own, teacher))
    return arrays


def median_pair(setup: Setup) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plans of the network's first fold and of column generation, of the median ratio where their beams differ.

    Raises
    ------
    InputError
        If there are no plans yet, or the beams differ nowhere.
    """
    file = setup.out / "plans.json"
    if not file.exists():
        raise InputError(f"'{file}' is not there; run the experiment plans first.")
    rows = json.loads(file.read_text(encoding="utf-8"))
    teacher = {(r["patient"], r["scenario"]): r for r in rows if r["method"] == TEACHER}
    own = [r for r in rows if r["method"] == DEFAULT and r["fold"] == FIRST_FOLD]
    pairs = [(r, teacher[r["patient"], r["scenario"]]) for r in own]
    differing = [(r, t) for r, t in pairs if set(r["beams"]) != set(t["beams"])]
    if not differing:
        raise InputError(
            f"In '{file}' the network's beams are column generation's everywhere; there is no dose to compare."
        )
    ordered = sorted(differing, key=lambda pair: pair[0]["objective"] / pair[1]["objective"])
    return ordered[len(ordered) // 2]


def _dose_volume(
    case: PatientCase, patient: LabeledPatient, scenario: int, beams: Sequence[int]
) -> NDArray[np.float32]:
    """Dose of the optimal fluence of some beams on the voxels of a case, (n_k, n_j, n_i) Gy, whole course."""
    problem = PlanSolver(patient.problem.only(scenario)).problem
    _, fluence = solved_fluence(problem, beams)
    influence = dose_influence(case, [problem.pool.beams[b] for b in fluence], patient.machine)
    gy = problem.n_fractions * influence.dose(torch.cat(list(fluence.values()), dim=1))
    return influence.to_volume(gy[0])


def _caption(patient: LabeledPatient, own: dict[str, Any], teacher: dict[str, Any]) -> str:
    labels, candidates = patient.labels, patient.problem.candidates
    named = zip(labels.structures, labels.weights[own["scenario"]].tolist(), strict=True)
    weights = ", ".join(f"{name} {weight:.3f}" for name, weight in named)

    def of(row: dict[str, Any]) -> str:
        gantry = ", ".join(f"{candidates[b].gantry_deg:g}°" for b in sorted(row["beams"]))
        return f"{gantry} (objective {row['objective']:.4g})"

    return (
        f"{patient.about.id}, scenario {own['scenario'] + 1}. Organ weights: {weights}\n"
        f"Column generation: {of(teacher)}. Network: {of(own)}."
    )
