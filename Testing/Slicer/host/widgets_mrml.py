"""Widgets of Slicer that show nodes of a scene: as much of them as panels use."""

from PySide6.QtCore import Signal, Slot
from PySide6.QtWidgets import QWidget

from .node_combo_box import qMRMLNodeComboBox


class qMRMLWidget(QWidget):
    """A widget that knows the scene."""

    mrmlSceneChanged = Signal(object)
    _signatures = ("mrmlSceneChanged(vtkMRMLScene*)", "setMRMLScene(vtkMRMLScene*)")
    _scene = None

    def mrmlScene(self):
        return self._scene

    @Slot(object)
    def setMRMLScene(self, scene):
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


STAND_INS = {kind.__name__: kind for kind in (qMRMLWidget, qMRMLNodeComboBox)}
