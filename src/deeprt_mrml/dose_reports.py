"""Evaluations of dose volumes on the case of a plan, made when asked and kept until volume, case or goals change."""

from __future__ import annotations

import slicer

from deeprt.errors import InputError
from deeprt.evaluation.evaluate import PlanReport, check_dose_of_case, evaluate
from deeprt_mrml.session import PlanSession
from deeprt_mrml.volumes import dose_on, stamp_of_volume


class DoseReports:
    """Evaluates dose volumes for the plan in work."""

    def __init__(self, session: PlanSession) -> None:
        self._session = session
        self._kept: dict[str, tuple[object, PlanReport | None]] = {}  # by node ID

    def of(self, node: slicer.vtkMRMLScalarVolumeNode | None) -> PlanReport | None:
        """Evaluation of a dose on the case as it is; None without a case, or if the volume is no dose of it."""
        if node is None or self._session.why_not_ready():
            return None
        prepared = self._session.prepared()
        goals = self._session.current_plan.config.goals or prepared.protocol.goals
        try:
            stamp, kept = (stamp_of_volume(node), goals, prepared), self._kept.get(node.GetID())
            if kept is not None and kept[0] == stamp:
                return kept[1]
            dose_gy = dose_on(node, prepared.case.grid)
        except InputError:  # no voxels, some that are no numbers, or no place in the scene
            return None
        try:
            check_dose_of_case(prepared.case, dose_gy, node.GetName())
            report = evaluate(prepared.case, dose_gy, goals)
        except InputError:
            report = None
        self._kept[node.GetID()] = stamp, report
        return report
