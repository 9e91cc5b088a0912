"""What Slicer's views show of a plan."""

from __future__ import annotations

from collections.abc import Sequence

import slicer

from deeprt_mrml.plan import Plan
from deeprt_mrml.subject_hierarchy import plan_nodes

_HIDDEN = "DeepRT.HiddenWithPlan"  # attribute of what is shown again with its plan


def show_volumes(
    ct: slicer.vtkMRMLScalarVolumeNode | None,
    dose: slicer.vtkMRMLScalarVolumeNode | None = None,
    *,
    opacity: float = 0.5,
    fit: bool = False,
) -> None:
    """Show a CT in the slice views, and over it a dose or none.

    Parameters
    ----------
    opacity : of the dose, 0 to 1
    fit : whether the views show all of the CT then
    """
    slicer.util.setSliceViewerLayers(background=ct, foreground=dose, foregroundOpacity=opacity, fit=fit)


def show_only(plan: Plan | None, plans: Sequence[Plan]) -> None:
    """Show models and markups of one of the plans only; what the user has hidden of it stays hidden."""
    for each in plans:
        is_shown = plan is not None and each.key == plan.key
        for node in plan_nodes(each.scene, each.key):
            if not (node.IsA("vtkMRMLModelNode") or node.IsA("vtkMRMLMarkupsNode")):
                continue
            if is_shown and node.GetAttribute(_HIDDEN):
                node.RemoveAttribute(_HIDDEN)
                node.SetDisplayVisibility(True)
            elif not is_shown and node.GetDisplayVisibility():
                node.SetAttribute(_HIDDEN, "1")
                node.SetDisplayVisibility(False)


class ChartView:
    """A chart beside the other views, in a layout that has room for one."""

    def __init__(self) -> None:
        self._layout_before: int | None = None

    def show(self, chart: slicer.vtkMRMLPlotChartNode | None) -> None:
        """Show a chart; without one, the layout from before comes back."""
        layouts = slicer.app.layoutManager()
        if layouts is None:  # as without a main window
            return
        if chart is not None:
            before = layouts.layout
            slicer.modules.plots.logic().ShowChartInLayout(chart)
            if layouts.layout != before:
                self._layout_before = before
        elif self._layout_before is not None:
            layouts.setLayout(self._layout_before)
            self._layout_before = None
