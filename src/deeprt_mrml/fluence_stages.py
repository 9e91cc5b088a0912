"""Results of a plan from fluence to comparison: what each was made for, and whether that still holds.

What a result was made for is kept as text in the plan's node.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, Literal

import slicer

from deeprt.errors import InputError
from deeprt.evaluation.normalization import Normalization
from deeprt_mrml.fluence_results import SEGMENTS, SYNTHETIC, WISHED, difference_of, dose_of, fluence_maps
from deeprt_mrml.made_for import Inputs, changed_part, digest_of_maps, settings_text
from deeprt_mrml.plan import Plan
from deeprt_mrml.session import PlanSession

Method = Literal["optimize", "network"]


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
_ANY = "any"  # of what comes before: nothing is kept of a result that followed from an earlier one
_CHANGED = {  # after what, and the remedy
    Stage.SEGMENTS: "the segments were made; sequence the fluence anew",
    Stage.DOSE: "the dose was calculated; calculate it anew",
    Stage.COMPARISON: "the doses were compared; compare them anew",
}


class PlanStages:
    """Tells how the results of the plan in work stand. Asking is quick unless patient or structures have changed."""

    def __init__(self, session: PlanSession) -> None:
        self._session, self._inputs = session, Inputs(session)

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
                part = changed_part(_kept(plan, each), self.made_for(each) | self.result(each))
            except InputError as error:  # the case can no longer be planned
                return str(error)
            if part:
                return f"The {part} changed after {_CHANGED.get(each) or _found(plan)}."
        return ""

    def made_for(self, stage: Stage, *, method: Method | None = None) -> dict[str, Any]:
        """What a result would be made for now, by name of part.

        Parameters
        ----------
        method : by which fluence is found; that of the plan's fluence if None

        Raises
        ------
        InputError
            If nodes and settings do not make a case.
        """
        plan, config = self._session.current_plan, self._session.current_plan.config
        if stage is Stage.FLUENCE:
            settings = replace(config.fluence, method=method or config.fluence.method)
            is_given = settings.method == "network" and settings.wished == "given"
            wished = self._inputs.of_volume(plan.wished_dose_node) if is_given else None
            return {**self._inputs.of_fluence([b.angles for b in plan.beams], settings), "wished dose": wished}
        if stage is Stage.SEGMENTS:
            return {
                "fluence": digest_of_maps(fluence_maps(plan)),
                "delivery settings": settings_text(config.sequencing),
            }
        wished = self._inputs.of_volume(self.wished_node)
        if stage is Stage.DOSE:
            rule = self.normalization()
            is_kept = rule.rule == "wished-mean"
            return {"segments": _ANY, "normalization": settings_text(rule), "wished dose": wished if is_kept else None}
        return {"dose": _ANY, "wished dose": wished}

    def result(self, stage: Stage) -> dict[str, Any]:
        """What of a result must stay as it was made, by name of part: nobody may edit or move the dose of segments."""
        if stage is not Stage.DOSE:
            return {}
        return {"dose volume": self._inputs.of_volume(dose_of(self._session.current_plan, SYNTHETIC))}

    def normalization(self, *, method: Method | None = None) -> Normalization:
        """Rule of the configuration, else the wished dose's mean if fluence is predicted, else the protocol's."""
        config = self._session.current_plan.config
        if config.normalization is not None:
            return config.normalization
        if (method or config.fluence.method) == "network":
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


def _kept(plan: Plan, stage: Stage) -> dict[str, Any]:
    return dict(json.loads(plan.text(_text_of(stage)) or "{}"))


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
