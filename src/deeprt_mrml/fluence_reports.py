"""Evaluations of the doses of a plan in the scene: numbers, curves and isodoses, made from the volumes when asked."""

from __future__ import annotations

from collections.abc import Sequence

import slicer

from deeprt.errors import InputError
from deeprt.evaluation.evaluate import PlanReport, check_dose_of_case, evaluate
from deeprt_mrml.fluence_results import SYNTHETIC, GoalRow, MetricRow, dose_of, goal_rows, metric_rows
from deeprt_mrml.fluence_stages import PlanStages, Stage
from deeprt_mrml.isodoses import show_isodoses
from deeprt_mrml.plots import show_dvh
from deeprt_mrml.segments import segment_colors
from deeprt_mrml.session import PlanSession
from deeprt_mrml.subject_hierarchy import plan_nodes
from deeprt_mrml.volumes import dose_on, stamp_of_volume

_DVH = "Synthetic DVH"  # beside that of the choice of beams


class FluenceReports:
    """Evaluates the dose of the segments beside the wished one; what was evaluated is kept until a volume changes."""

    def __init__(self, session: PlanSession, stages: PlanStages) -> None:
        self._session, self._stages = session, stages
        self._kept: dict[str, tuple[object, PlanReport | None]] = {}  # by node ID

    @property
    def dose_node(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """Dose of the segments; None before it is calculated."""
        return None if self._session.plan is None else dose_of(self._session.plan, SYNTHETIC)

    def metrics(self) -> tuple[MetricRow, ...]:
        """Numbers of all structures; none without a dose."""
        report = self._of(self.dose_node)
        return () if report is None else metric_rows(report, self._of(self._stages.wished_node))

    def goals(self) -> tuple[GoalRow, ...]:
        """Goals; none without a dose."""
        report = self._of(self.dose_node)
        return () if report is None else goal_rows(report, self._of(self._stages.wished_node))

    def show_dvh(self) -> None:
        """Show the DVHs of the wished dose solid, those of the segments' dose dashed."""
        plan = self._session.current_plan
        named = {"wished": self._of(self._stages.wished_node), "synthetic": self._of(self.dose_node)}
        reports = {name: report for name, report in named.items() if report is not None}
        show_dvh(self._session.scene, plan.key, reports, segment_colors(plan.segmentation_node), name=_DVH)

    @property
    def dvh_chart(self) -> slicer.vtkMRMLPlotChartNode | None:
        """Chart of the DVHs; None before there is one."""
        plan = self._session.plan
        nodes = () if plan is None else plan_nodes(self._session.scene, plan.key, _DVH.lower())
        return next((n for n in nodes if n.IsA("vtkMRMLPlotChartNode")), None)

    def show_isodoses(self, levels_percent: Sequence[float]) -> None:
        """Show isodoses of the segments' dose, in percent of the highest prescription.

        Raises
        ------
        InputError
            If there is no dose yet.
        """
        node = self.dose_node
        if node is None:
            raise InputError(self._stages.why_not_current(Stage.DOSE))
        highest_gy = self._session.prepared().case.targets[0].prescription_gy or 0.0
        levels_gy = [level / 100 * highest_gy for level in levels_percent]
        show_isodoses(self._session.scene, self._session.current_plan.key, node, levels_gy)

    def _of(self, node: slicer.vtkMRMLScalarVolumeNode | None) -> PlanReport | None:
        """Evaluation of a dose on the case as it is; None without a case, or if the dose is not one of it."""
        if node is None or self._session.why_not_ready():
            return None
        prepared = self._session.prepared()
        goals = self._session.current_plan.config.goals or prepared.protocol.goals
        stamp, kept = (stamp_of_volume(node), goals, prepared), self._kept.get(node.GetID())
        if kept is None or kept[0] != stamp:
            dose_gy = dose_on(node, prepared.case.grid)
            try:
                check_dose_of_case(prepared.case, dose_gy, node.GetName())
                report = evaluate(prepared.case, dose_gy, goals)
            except InputError:
                report = None
            kept = self._kept[node.GetID()] = stamp, report
        return kept[1]
