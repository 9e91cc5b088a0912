"""What can be clicked on in the views of Slicer."""

import qt
import slicer
import vtk

from deeprt_mrml.fitness_ring import on_peak_clicked

_SELECTED = "dataSelected(vtkStringArray*,vtkCollection*)"


class Clicks:
    """Takes clicks on the peaks of the ring around the patient, and on points of charts.

    Parameters
    ----------
    onPeak : called with the number of a peak, from 0
    onPoint : called with the ID of a plot series and the number of a point on it, from 0
    """

    def __init__(self, *, onPeak, onPoint):
        self._onPeak, self._onPoint = onPeak, onPoint
        self._peaksNode, self._unwatchPeaks = None, None
        self._plotViews = []

    def watchPeaks(self, node):
        """Take clicks on the points of a node, or on none."""
        if node is self._peaksNode:
            return
        if self._unwatchPeaks is not None:
            self._unwatchPeaks()
        self._peaksNode = node
        self._unwatchPeaks = None if node is None else on_peak_clicked(node, self._later(self._onPeak))

    def watchCharts(self):
        """Take clicks on the charts that the layout shows now, too."""
        layouts = slicer.app.layoutManager()
        for index in range(layouts.plotViewCount if layouts is not None else 0):
            view = layouts.plotWidget(index).plotView()
            if view not in self._plotViews:
                view.connect(_SELECTED, self._selected)
                self._plotViews.append(view)

    def stop(self):
        """Take no more clicks; for when the panel goes away, or the scene is closed."""
        self.watchPeaks(None)
        for view in self._plotViews:
            view.disconnect(_SELECTED, self._selected)
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
