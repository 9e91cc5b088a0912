"""The layout manager and the widgets of views: no pictures, but the nodes and logics behind them."""

import slicer
import vtk
from PySide6.QtCore import Property, QObject, Signal, Slot
from PySide6.QtWidgets import QWidget


class _View(QWidget):
    """What all views do; nothing is drawn."""

    def forceRender(self):
        self.repaint()

    @Slot()
    def scheduleRender(self):
        self.update()


class qMRMLSliceView(_View):
    """A slice view."""


class qMRMLThreeDView(_View):
    """A 3-D view."""

    _node = None

    def mrmlViewNode(self):
        return self._node

    @Slot()
    def resetFocalPoint(self):
        pass

    @Slot()
    def resetCamera(self):
        pass


class qMRMLPlotView(_View):
    """A chart view, in which points can be selected."""

    dataSelected = Signal(object, object)
    _signatures = ("dataSelected(vtkStringArray*,vtkCollection*)",)

    @Slot()
    def fitToContent(self):
        pass


class qMRMLSliceWidget(QWidget):
    """A slice view with its controls."""

    def __init__(self, node, application_logic):
        super().__init__()
        self._logic = slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLApplicationLogic(application_logic)
        self._logic.SetMRMLScene(node.GetScene())
        self._logic.SetSliceNode(node)
        self._view = qMRMLSliceView(self)

    sliceViewName = Property(str, lambda self: self._logic.GetSliceNode().GetLayoutName())

    def sliceLogic(self):
        return self._logic

    def mrmlSliceNode(self):
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self):
        return self._logic.GetSliceCompositeNode()

    def sliceView(self):
        return self._view

    @Slot()
    def fitSliceToBackground(self):
        self._logic.FitSliceToBackground()


class qMRMLThreeDWidget(QWidget):
    """A 3-D view with its controls."""

    def __init__(self, node):
        super().__init__()
        self._view = qMRMLThreeDView(self)
        self._view._node = node

    def mrmlViewNode(self):
        return self._view._node

    def threeDView(self):
        return self._view


class qMRMLPlotWidget(QWidget):
    """A chart view with its controls."""

    def __init__(self, layout):
        super().__init__()
        self._layout, self._view = layout, qMRMLPlotView(self)

    def mrmlPlotViewNode(self):
        return self._layout.mrmlScene().GetFirstNodeByClass("vtkMRMLPlotViewNode")

    def plotView(self):
        return self._view


class qSlicerLayoutManager(QObject):
    """The views of the main window, as the layout node of the scene has them."""

    layoutChanged = Signal(int)

    def __init__(self, scene, application_logic):
        super().__init__()
        self._logic, self._slices = slicer.vtkMRMLLayoutLogic(), {}
        self._logic.SetMRMLScene(scene)
        self.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        logics = vtk.vtkCollection()
        for k in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceNode")):
            node = scene.GetNthNodeByClass(k, "vtkMRMLSliceNode")
            self._slices[node.GetLayoutName()] = qMRMLSliceWidget(node, application_logic)
            logics.AddItem(self._slices[node.GetLayoutName()].sliceLogic())
        application_logic.SetSliceLogics(logics)
        self._slice_logics = logics
        self._three_d = qMRMLThreeDWidget(scene.GetFirstNodeByClass("vtkMRMLViewNode"))
        self._plot = qMRMLPlotWidget(self)

    layout = Property(int, lambda self: self._node().GetViewArrangement(), lambda self, value: self.setLayout(value))
    threeDViewCount = Property(int, lambda self: 1)
    plotViewCount = Property(int, lambda self: 1)
    tableViewCount = Property(int, lambda self: 0)

    def mrmlScene(self):
        return self._logic.GetMRMLScene()

    def layoutLogic(self):
        return self._logic

    def sliceViewNames(self):
        return list(self._slices)

    def sliceWidget(self, name):
        return self._slices.get(name)

    def mrmlSliceLogics(self):
        return self._slice_logics

    def threeDWidget(self, view):
        return self._three_d if view in (0, "View1") else None

    def plotWidget(self, view):
        return self._plot if view == 0 else None

    @Slot(int)
    def setLayout(self, layout):
        self._node().SetViewArrangement(layout)
        self.layoutChanged.emit(layout)

    @Slot()
    def resetThreeDViews(self):
        pass

    @Slot()
    def resetSliceViews(self):
        for widget in self._slices.values():
            widget.fitSliceToBackground()

    def _node(self):
        return self._logic.GetLayoutNode()

    def _close(self):
        self._logic.SetMRMLScene(None)
        for widget in self._slices.values():
            widget.sliceLogic().SetMRMLScene(None)
