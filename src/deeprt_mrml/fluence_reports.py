"""Evaluations of the doses of a plan in the scene: numbers, curves and isodoses, made from the volumes when asked."""

from __future__ import annotations

from collections.abc import Sequence

import slicer

from deeprt.errors import InputError
from deeprt_mrml.dose_reports import DoseReports
from deeprt_mrml.fluence_results import SYNTHETIC, GoalRow, MetricRow, dose_of, goal_rows, metric_rows
from deeprt_mrml.fluence_stages import PlanStages, Stage
from deeprt_mrml.isodoses import show_isodoses
from deeprt_mrml.plots import show_dvh
from deeprt_mrml.segments import segment_colors
from deeprt_mrml.session import PlanSession
from deeprt_mrml.subject_hierarchy import find_node

_DVH = "Synthetic DVH"  # beside that of the choice of beams


class FluenceReports:
    """Evaluates the dose of the segments beside the wished one."""

    def __init__(self, session: PlanSession, stages: PlanStages) -> None:
        self._session, self._stages = session, stages
        self._doses = DoseReports(session)

    @property
    def dose_node(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """Dose of the segments; None before it is calculated."""
        return None if self._session.plan is None else dose_of(self._session.plan, SYNTHETIC)

    def metrics(self) -> tuple[MetricRow, ...]:
        """Numbers of all structures; none without a dose."""
        report = self._doses.of(self.dose_node)
        return () if report is None else metric_rows(report, self._doses.of(self._stages.wished_node))

    def goals(self) -> tuple[GoalRow, ...]:
        """Goals; none without a dose."""
        report = self._doses.of(self.dose_node)
        return () if report is None else goal_rows(report, self._doses.of(self._stages.wished_node))

    def show_dvh(self) -> None:
        """Show the DVHs of the wished dose solid, those of the segments' dose dashed, if there is a case."""
        plan = self._session.current_plan
        if self._session.why_not_ready():
            return
        named = {"wished": self._doses.of(self._stages.wished_node), "synthetic": self._doses.of(self.dose_node)}
        reports = {name: report for name, report in named.items() if report is not None}
        show_dvh(self._session.scene, plan.key, reports, segment_colors(plan.segmentation_node), name=_DVH)

    @property
    def dvh_chart(self) -> slicer.vtkMRMLPlotChartNode | None:
        """Chart of the DVHs; None before there is one."""
        plan = self._session.plan
        return None if plan is None else find_node(self._session.scene, plan.key, _DVH.lower())

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
