"""Results of a plan from fluence to comparison: what each was made for, and whether that still holds.

What a result was made for is kept as text in the plan's node. Numbers that a saved scene rounds, or that follow from
such numbers, are compared with a tolerance.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from enum import StrEnum
from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray

from deeprt.case import PatientCase
from deeprt.config import DEFAULT_MACHINE, FluenceSettings
from deeprt.errors import InputError
from deeprt.evaluation.normalization import Normalization
from deeprt.geometry import Grid
from deeprt_mrml.coordinates import grid_of
from deeprt_mrml.fluence_results import SEGMENTS, SYNTHETIC, WISHED, difference_of, dose_of, fluence_maps
from deeprt_mrml.plan import Plan
from deeprt_mrml.session import PlanSession, Prepared
from deeprt_mrml.volumes import array_of, stamp_of_volume

# Scenes keep images exactly and matrices with six digits or more.
_RELATIVE, _ABSOLUTE = 1e-6, 2e-5


class Stage(StrEnum):
    """Results in the order they are made."""

    FLUENCE = "fluence"
    SEGMENTS = "segments"
    DOSE = "dose"
    COMPARISON = "comparison"


class StageState(StrEnum):
    """What has become of a result: there is none, it is that of the plan as it is, or the plan has changed since."""

    MISSING = "missing"
    CURRENT = "current"
    OUTDATED = "outdated"


_MISSING = {
    Stage.FLUENCE: "Predict or optimize the fluence first.",
    Stage.SEGMENTS: "Sequence the fluence first.",
    Stage.DOSE: "Calculate the dose of the segments first.",
    Stage.COMPARISON: "Compare the dose with the wished one first.",
}
_CHANGED = {  # after what, and the remedy
    Stage.SEGMENTS: "the segments were made; sequence the fluence anew",
    Stage.DOSE: "the dose was calculated; calculate it anew",
    Stage.COMPARISON: "the doses were compared; compare them anew",
}


class PlanStages:
    """Tells how the results of the plan in work stand. Asking is quick unless patient or structures have changed."""

    def __init__(self, session: PlanSession) -> None:
        self._session = session
        self._of_case: tuple[Prepared, list[Any]] | None = None
        self._of_volumes: dict[str, tuple[object, list[Any]]] = {}  # by node ID

    def state(self, stage: Stage) -> StageState:
        """Whether a result is there, and that of the plan as it is."""
        plan = self._session.plan
        if plan is None or not _is_there(plan, stage):
            return StageState.MISSING
        return StageState.OUTDATED if self.why_not_current(stage) else StageState.CURRENT

    def why_not_current(self, stage: Stage) -> str:
        """One sentence what must be made anew, or first, for a result to be that of the plan; empty if it is."""
        if reason := self._session.why_not_ready():
            return reason
        plan = self._session.current_plan
        for each in tuple(Stage)[: tuple(Stage).index(stage) + 1]:
            if not _is_there(plan, each):
                return _MISSING[each]
            try:
                part = changed_part(plan, each, self.made_for(each))
            except InputError as error:  # the case can no longer be planned
                return str(error)
            if part:
                return f"The {part} changed after {_CHANGED.get(each) or _found(plan)}."
        return ""

    def made_for(self, stage: Stage) -> dict[str, Any]:
        """What a result would be made for now, by name of part.

        Raises
        ------
        InputError
            If nodes and settings do not make a case.
        """
        plan, config = self._session.current_plan, self._session.current_plan.config
        if stage is Stage.FLUENCE:
            is_given = config.fluence.method == "network" and config.fluence.wished == "given"
            return {
                "CT or structures": self._case_numbers(),
                "beams": [
                    [[b.angles.gantry_deg, b.angles.couch_deg] for b in plan.beams], config.beams.collimator_deg
                ],
                "machine": config.machine or DEFAULT_MACHINE,
                "fluence settings": self._fluence_settings(),
                "wished dose": self._volume_numbers(plan.wished_dose_node) if is_given else None,
            }  # fmt: skip
        if stage is Stage.SEGMENTS:
            return {
                "fluence": digest_of_maps(fluence_maps(plan)),
                "delivery settings": settings_text(config.sequencing),
            }
        wished = self._volume_numbers(self.wished_node)
        if stage is Stage.DOSE:
            rule = self.normalization()
            is_kept = rule.rule == "wished-mean"
            return {"segments": "", "normalization": settings_text(rule), "wished dose": wished if is_kept else None}
        return {"dose": "", "wished dose": wished}

    def normalization(self) -> Normalization:
        """Rule of the configuration, else the wished dose's mean if fluence is predicted, else the protocol's."""
        config = self._session.current_plan.config
        if config.normalization is not None:
            return config.normalization
        if config.fluence.method == "network":
            return Normalization(rule="wished-mean")
        return self._session.prepared().protocol.normalization

    @property
    def wished_node(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """Dose to compare with: the one that is given, or the one that fluence was found from; None without one."""
        plan = self._session.plan
        if plan is None:
            return None
        given = plan.wished_dose_node if plan.config.fluence.wished == "given" else None
        return dose_of(plan, WISHED) if given is None else given

    def _fluence_settings(self) -> str:
        """Settings that fluence hangs on."""
        config = self._session.current_plan.config
        used = config.fluence
        if used.method == "optimize":
            unused = FluenceSettings()
            used = replace(
                used, network=unused.network, n_refinements=unused.n_refinements, wished=unused.wished,
                dose_network=unused.dose_network, quick=unused.quick,
            )  # fmt: skip
        objectives = config.objectives or self._session.prepared().protocol.objectives
        is_optimized = used.method == "optimize" or used.wished == "optimize"
        return settings_text(used, objectives if is_optimized else (), config.seed)

    def _case_numbers(self) -> list[Any]:
        prepared = self._session.prepared()
        if self._of_case is None or self._of_case[0] is not prepared:
            self._of_case = prepared, numbers_of_case(prepared.case)
        return self._of_case[1]

    def _volume_numbers(self, node: slicer.vtkMRMLScalarVolumeNode | None) -> list[Any] | None:
        if node is None:
            return None
        stamp, kept = stamp_of_volume(node), self._of_volumes.get(node.GetID())
        if kept is None or kept[0] != stamp:
            kept = self._of_volumes[node.GetID()] = stamp, numbers_of_volume(array_of(node), grid_of(node))
        return kept[1]


def keep_made_for(plan: Plan, stage: Stage, made_for: Mapping[str, Any]) -> None:
    """Keep what a result was made for, by name of part; what followed from an earlier result is outdated by it.

    Parameters
    ----------
    made_for : texts, numbers and lists of them by name of part, such as *beams*
    """
    plan.set_text(_text_of(stage), json.dumps(made_for))
    stages = tuple(Stage)
    for later in stages[stages.index(stage) + 1 :]:
        plan.set_text(_text_of(later), "")


def changed_part(plan: Plan, stage: Stage, now: Mapping[str, Any]) -> str:
    """First part of what a result was made for that is no longer as it was; empty if all is."""
    kept = json.loads(plan.text(_text_of(stage)) or "{}")
    return next((part for part, value in now.items() if not _same(kept.get(part), value)), "")


def numbers_of_case(case: PatientCase) -> list[Any]:
    """What tells a case from another one: grid, position, fractions, calibration, and sums over CT and structures."""
    structures = [
        [s.name, str(s.role), s.organ, s.prescription_gy, s.density, float(s.fraction.sum(dtype=np.float64)),
         *(s.centroid_index().tolist() if s.fraction.any() else [])]
        for s in case.structures
    ]  # fmt: skip
    table = [case.hu_table.name, case.hu_table.hu.tolist(), case.hu_table.density.tolist()]
    return [case.position, case.n_fractions, table, *numbers_of_volume(case.ct_hu, case.grid), structures]


def numbers_of_volume(values: NDArray[np.float32], grid: Grid) -> list[Any]:
    """What tells a volume from another one: its grid, and mean, mean square and first moments of its values."""
    wide = values.astype(np.float64)
    moments = [float(wide.mean()), float(np.square(wide).mean())]
    for axis, n in enumerate(values.shape):
        profile = wide.mean(axis=tuple(a for a in range(3) if a != axis))
        moments.append(float(profile @ np.linspace(0, 1, n)) / n)
    return [list(grid.shape), grid.index_to_lps.tolist(), moments]


def digest_of_maps(maps: Sequence[NDArray[np.floating]]) -> str:
    """What tells fluence maps from others, as volumes keep them."""
    digest = hashlib.blake2b(digest_size=16)
    for each in maps:
        digest.update(np.ascontiguousarray(each, np.float32).tobytes())
    return digest.hexdigest()


def settings_text(*settings: Any) -> str:
    """Settings, frozen dataclasses or tuples of them, as text that is compared as it is."""
    return json.dumps(settings, default=lambda s: asdict(s))


def _is_there(plan: Plan, stage: Stage) -> bool:
    if stage is Stage.FLUENCE:
        return bool(fluence_maps(plan))
    if stage is Stage.SEGMENTS:
        return bool(plan.text(SEGMENTS))
    return (dose_of(plan, SYNTHETIC) if stage is Stage.DOSE else difference_of(plan)) is not None


def _found(plan: Plan) -> str:
    if plan.config.fluence.method == "network":
        return "the fluence was predicted; predict it anew"
    return "the fluence was optimized; optimize it anew"


def _text_of(stage: Stage) -> str:
    return f"MadeFor.{stage}"


def _same(kept: Any, now: Any) -> bool:
    if isinstance(kept, list) and isinstance(now, list):
        return len(kept) == len(now) and all(_same(a, b) for a, b in zip(kept, now, strict=True))
    if isinstance(kept, float) and isinstance(now, float):
        return math.isclose(kept, now, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
    return bool(kept == now)
