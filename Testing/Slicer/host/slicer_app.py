"""The application around the scene: `slicer.app`, its main window and its modules."""

import ctypes
import os
import sys
import tempfile
from pathlib import Path

import slicer
from PySide6.QtCore import Property, QObject, QProcessEnvironment, QSettings, Signal, Slot
from PySide6.QtGui import QFont, QIcon
from PySide6.QtWidgets import QApplication, QMainWindow, QStackedWidget, QVBoxLayout, QWidget

from . import faults
from .stored import stored
from .widgets_mrml import qMRMLWidget


class qSlicerApplication(QApplication):
    """`slicer.app`: one for the process, with the scene and the layout of the test that runs."""

    startupCompleted = Signal()
    mrmlSceneChanged = Signal(object)
    renderPaused = Signal(bool)
    _scene = _logic = _layout = _modules = _files = None
    _is_testing = False

    slicerHome = Property(str, lambda self: str(Path(sys.prefix)))
    temporaryPath = stored(str, tempfile.gettempdir())
    majorVersion = Property(int, lambda self: 5)
    minorVersion = Property(int, lambda self: 10)
    revision = Property(str, lambda self: "0")
    isInstalled = Property(bool, lambda self: True)
    mainApplicationName = Property(str, lambda self: "Slicer")
    documentationBaseUrl = Property(str, lambda self: "https://slicer.readthedocs.io/en/latest/")

    def mrmlScene(self):
        return self._scene

    def applicationLogic(self):
        return self._logic

    def layoutManager(self):
        return self._layout

    def moduleManager(self):
        return self._modules

    def coreIOManager(self):
        return self._files

    def testingEnabled(self):
        return self._is_testing

    def startupEnvironment(self):
        environment = QProcessEnvironment()
        for name, value in os.environ.items():
            environment.insert(name, value)
        return environment

    environment = startupEnvironment

    def settings(self):
        return QSettings()

    userSettings = revisionUserSettings = settings

    def moduleDocumentationUrl(self, name):
        return f"{self.documentationBaseUrl}user_guide/modules/{name.lower()}.html"

    @Slot()
    def pauseRender(self):
        self.renderPaused.emit(True)

    @Slot()
    def resumeRender(self):
        self.renderPaused.emit(False)

    @Slot(bool)
    def setRenderPaused(self, pause):
        self.renderPaused.emit(pause)


class qSlicerCoreIOManager(QObject):
    """Reads and writes scenes; nodes are read and written through their storage nodes."""

    def loadNodes(self, fileType, properties, loadedNodes, userMessages):
        return self._scene_file(fileType, properties, "Read" if properties.get("clear") else "Import")

    def saveNodes(self, fileType, properties, userMessages):
        return self._scene_file(fileType, properties, "Write")

    def _scene_file(self, kind, properties, action):
        path = properties["fileName"]
        if kind != "SceneFile" or not path.endswith(".mrb"):
            faults.refuse(f"The host reads and writes scenes as .mrb only, not '{path}' as {kind}")
        if action == "Write":
            return bool(slicer.mrmlScene.WriteToMRB(path))
        return bool(slicer.mrmlScene.ReadFromMRB(path, action == "Read"))


class qSlicerModuleManager(QObject):
    """The modules by their names."""

    moduleLoaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)

    def __init__(self):
        super().__init__()
        self._by_name = {}

    def module(self, name):
        return self._by_name.get(name)

    def modulesNames(self):
        return list(self._by_name)


class qSlicerLoadableModule(QObject):
    """A module of Slicer's own, of which there is the logic."""

    name = stored(str, "")
    title = stored(str, "")
    path = stored(str, "")
    _logic = None

    def logic(self):
        return self._logic

    def mrmlScene(self):
        return self._logic.GetMRMLScene()

    def widgetRepresentation(self):
        return None


class qSlicerScriptedLoadableModule(QObject):
    """A module written in Python: what its class sets on `parent`."""

    name = stored(str, "")
    title = stored(str, "")
    path = stored(str, "")
    categories = stored("QStringList", [])
    contributors = stored("QStringList", [])
    associatedNodeTypes = stored("QStringList", [])
    dependencies = stored("QStringList", [])
    helpText = stored(str, "")
    acknowledgementText = stored(str, "")
    icon = stored(QIcon, QIcon())
    hidden = stored(bool, False)
    index = stored(int, -1)
    widgetRepresentationCreationEnabled = stored(bool, True)
    _widget = None

    def mrmlScene(self):
        return slicer.mrmlScene

    def logic(self):
        return None

    def widgetRepresentation(self):
        if self._widget is None:
            self._widget = qSlicerScriptedLoadableModuleWidget(self.name)
            self._widget._instantiate()
            self._widget.setMRMLScene(slicer.mrmlScene)
        return self._widget


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """The widget of a module in the module panel, which Python fills."""

    def __init__(self, name):
        super().__init__()
        self._name, self._python = name, None
        QVBoxLayout(self)

    moduleName = Property(str, lambda self: self._name)

    def self(self):
        return self._python

    def reload(self):
        self._instantiate()

    def _instantiate(self):
        from .pythonqt import wrap

        kind = getattr(sys.modules[self._name], f"{self._name}Widget")
        self._python = kind(wrap(self))
        setattr(slicer.modules, f"{self._name}Widget", self._python)
        self._python.setup()


class qSlicerModuleSelectorToolBar(QWidget):
    """Chooses the module that is shown."""

    moduleSelected = Signal(str)
    selectedModule = stored(str, "", notify="moduleSelected")
    _show = None

    @Slot(str)
    def selectModule(self, name):
        self._show(name)
        self.selectedModule = name


class qSlicerMainWindow(QMainWindow):
    """The main window: a status bar, a module selector and the panel of the module."""

    def __init__(self):
        super().__init__(objectName="qSlicerMainWindow")
        self._selector, self._panels = qSlicerModuleSelectorToolBar(self), QStackedWidget(self)
        self._selector.hide()
        self.setCentralWidget(self._panels)
        self.statusBar()
        self.resize(480, 900)

    def moduleSelector(self):
        return self._selector

    def _show_panel(self, widget):
        self._panels.addWidget(widget)
        self._panels.setCurrentWidget(widget)
        self.show()


def _keep_constants():
    """Before Python 3.12, PySide 6.12 drops a reference of a constant at slots, events and `emit(True)`.

    With references that nobody owns they last, as they do from Python 3.12 on.
    """
    if sys.version_info < (3, 12):
        for constant in (None, True, False):
            ctypes.c_ssize_t.from_address(id(constant)).value += 1 << 40


def application():
    """The application of this process, made when first asked for: off the screen, in Qt's own style."""
    app = QApplication.instance()
    if app is None:
        _keep_constants()
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        app = qSlicerApplication(["Slicer"])
        app.setApplicationName("Slicer")
        app.setOrganizationName("DeepRT test host")
        app.setStyle("Fusion")
        app.setFont(QFont("DejaVu Sans", 9))
    if not isinstance(app, qSlicerApplication):
        raise RuntimeError("Another QApplication was made before the host's own")
    return app


STAND_INS = {
    kind.__name__: kind
    for kind in (
        qSlicerApplication,
        qSlicerLoadableModule,
        qSlicerMainWindow,
        qSlicerScriptedLoadableModule,
        qSlicerScriptedLoadableModuleWidget,
    )
}
