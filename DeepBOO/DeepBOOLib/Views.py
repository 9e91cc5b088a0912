"""What the views of Slicer show of the plan, and clicks into them."""

import qt
import slicer
import vtk

from deeprt_mrml.fitness_ring import on_peak_clicked
from deeprt_mrml.subject_hierarchy import plan_nodes

_DOSE_OPACITY = 0.5


class Views:
    """Slice views, the chart beside them, and what can be clicked on in them.

    Parameters
    ----------
    onPeak : called with the number of a peak of the ring, from 0
    onPoint : called with the ID of a plot series and the number of a point on it, from 0
    """

    def __init__(self, *, onPeak, onPoint):
        self._onPeak, self._onPoint = onPeak, onPoint
        self._peaksNode, self._unwatchPeaks = None, None
        self._plotViews = []
        self._layoutBefore = None

    def showCt(self, ct):
        """Show a CT in the slice views."""
        slicer.util.setSliceViewerLayers(background=ct, fit=True)

    def showDose(self, ct, dose, *, fit=False):
        """Show a dose, or none, over its CT."""
        slicer.util.setSliceViewerLayers(background=ct, foreground=dose, foregroundOpacity=_DOSE_OPACITY, fit=fit)

    def showPlan(self, plan, plans):
        """Show beams and ring of one of the plans only."""
        for each in plans:
            for node in plan_nodes(each.scene, each.key):
                if node.IsA("vtkMRMLModelNode") or node.IsA("vtkMRMLMarkupsNode"):
                    node.SetDisplayVisibility(plan is not None and each.key == plan.key)

    def showChart(self, chart):
        """Show a chart beside the other views; without one, the layout from before comes back."""
        layouts = slicer.app.layoutManager()
        if layouts is None:
            return
        if chart is None:
            if self._layoutBefore is not None:
                layouts.setLayout(self._layoutBefore)
            self._layoutBefore = None
            return
        before = layouts.layout
        slicer.modules.plots.logic().ShowChartInLayout(chart)
        if layouts.layout != before:
            self._layoutBefore = before
        for index in range(layouts.plotViewCount):
            view = layouts.plotWidget(index).plotView()
            if view not in self._plotViews:
                view.connect("dataSelected(vtkStringArray*,vtkCollection*)", self._selected)
                self._plotViews.append(view)

    def watchPeaks(self, node):
        """Take clicks on the points of a node, or on none."""
        if node is self._peaksNode:
            return
        if self._unwatchPeaks is not None:
            self._unwatchPeaks()
        self._peaksNode = node
        self._unwatchPeaks = None if node is None else on_peak_clicked(node, self._later(self._onPeak))

    def stop(self):
        """Take no more clicks; for when the panel goes away."""
        self.watchPeaks(None)
        for view in self._plotViews:
            view.disconnect("dataSelected(vtkStringArray*,vtkCollection*)", self._selected)
        self._plotViews = []

    def _selected(self, seriesIds, selections):
        for n in range(seriesIds.GetNumberOfValues()):
            points = vtk.vtkIdTypeArray.SafeDownCast(selections.GetItemAsObject(n))
            if points is not None and points.GetNumberOfValues() == 1:
                self._later(self._onPoint)(seriesIds.GetValue(n), points.GetValue(0))
                return

    @staticmethod
    def _later(function):
        """The function called after the click is through, since it changes what was clicked on."""
        return lambda *arguments: qt.QTimer.singleShot(0, lambda: function(*arguments))
