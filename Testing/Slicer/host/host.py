"""The host: sets a scene and an application up for one test, opens modules in it and acts as their user."""

import importlib.util
import os
import sys
import time
import types
from pathlib import Path

import slicer
from PySide6.QtCore import QEvent, QSettings
from PySide6.QtWidgets import QAbstractButton, QWidget

from . import dialogs, faults, pythonqt, scripted, signals, slicer_app, ui_loader, views, widgets_ctk, widgets_mrml

_CTK = {name: kind for name, kind in vars(widgets_ctk).items() if name.startswith("ctk")}
_MRML = widgets_mrml.STAND_INS
ui_loader.QUiLoader.widgets = _CTK | _MRML
QT = pythonqt.QtModule("qt", {"QUiLoader": ui_loader.QUiLoader}, with_qt=True)
CTK = pythonqt.QtModule("ctk", _CTK, with_qt=False)
_LOGICS = {
    "Volumes": "vtkSlicerVolumesLogic",
    "Models": "vtkSlicerModelsLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Transforms": "vtkSlicerTransformLogic",
}
ROOT = Path(__file__).resolve().parents[3]


class Host:
    """Slicer, as far as a panel can tell; `panel` below is the object of a module's `...Widget` class."""

    def __init__(self, folder, monkeypatch):
        faults.taken()
        dialogs.reset()
        self.folder, self.pip_installed = folder, []
        self._app, self._patch, self._shown = slicer_app.application(), monkeypatch, None
        QSettings.setDefaultFormat(QSettings.Format.IniFormat)
        QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(folder / "settings"))
        QSettings().clear()
        self.scene = slicer.vtkMRMLScene()
        self._logics = self._scene_logics()
        self._app._scene, self._app._logic = self.scene, self._logics["application"]
        self._app.temporaryPath = str(folder)
        self._app._layout = views.qSlicerLayoutManager(self.scene, self._logics["application"])
        self._app._modules = slicer_app.qSlicerModuleManager()
        self._app._files = slicer_app.qSlicerCoreIOManager()
        self.main_window = slicer_app.qSlicerMainWindow()
        self.main_window.moduleSelector()._show = self._show
        self._install()

    # Modules

    def open_module(self, name, *, folder=ROOT):
        """Choose the scripted module in the folder of this name; gives its panel."""
        if not self._app._modules.module(name):
            self._load(name, folder / name / f"{name}.py")
        slicer.util.selectModule(name)
        self.process_events()
        return self._app._modules.module(name)._widget._python

    def leave(self, panel):
        """Choose no module any more, in place of this one."""
        if self._shown is not self._app._modules.module(panel.moduleName):
            raise AssertionError(f"{panel.moduleName} is not shown")
        self._exit()
        self.process_events()

    def reload(self, panel):
        """Press Slicer's Reload button; gives the new panel."""
        panel.onReload()
        self.process_events()
        return self._app._modules.module(panel.moduleName)._widget._python

    # Widgets

    def widget(self, panel, name):
        """The widget of this name anywhere in the panel."""
        found = panel.parent._qt.findChildren(QWidget, name)
        if not found:
            raise LookupError(f"{panel.moduleName} has no widget named '{name}'")
        return pythonqt.wrap(found[-1])  # a reload leaves the old widgets there, hidden

    def click(self, panel, name):
        """Press a button, as long as a user could: it is there, visible and enabled."""
        button = self.widget(panel, name)._qt
        if not isinstance(button, QAbstractButton):
            raise AssertionError(f"'{name}' is a {type(button).__name__} and no button")
        self._unfold(button)
        if not button.isVisible():
            raise AssertionError(f"Button '{name}' is hidden")
        if not button.isEnabled():
            raise AssertionError(f"Button '{name}' is disabled: {button.toolTip()}")
        button.click()
        self.process_events()

    # Time

    def process_events(self, seconds=0.0):
        """Let Qt work for a while; raises what slots have raised."""
        end = time.monotonic() + seconds
        while True:
            self._app.processEvents()
            self._app.sendPostedEvents(None, QEvent.Type.DeferredDelete)
            faults.raise_any()
            if time.monotonic() >= end:
                return
            time.sleep(0.01)

    def wait_until(self, condition, seconds=10.0):
        """Let Qt work until the condition holds; TimeoutError if it does not in time."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"not true within {seconds} s")
            self.process_events(0.02)
        self.process_events()

    # Dialogs

    @property
    def dialogs(self):
        """The dialogs that were opened, oldest first: `kind`, `title`, `text`."""
        return tuple(dialogs.shown)

    def answer(self, value):
        """Answer the next dialog: True or False, a text, a button of `qt.QMessageBox`, or a function of the dialog."""
        dialogs.answer(value)

    def answer_file_dialog(self, path):
        """Choose a file or folder in the next file dialog; "" cancels it."""
        dialogs.answer(path if isinstance(path, list | tuple) else str(path))

    # Scene

    def close_scene(self):
        """File, Close scene."""
        self.scene.Clear(0)
        self.process_events()

    def save_scene(self, path):
        """File, Save, as a bundle (`.mrb`)."""
        if not slicer.util.saveScene(str(path)):
            raise OSError(f"could not write {path}")

    def load_scene(self, path):
        """File, Open, of a bundle (`.mrb`)."""
        self.scene.Clear(0)
        slicer.util.loadScene(str(path))
        self.process_events()

    def load_sample(self, name):
        """Press a button of the module Sample Data."""
        sources = [s for kind in slicer.modules.sampleDataSources.values() for s in kind if s.sampleName == name]
        if not sources:
            raise LookupError(f"no sample data '{name}' is registered")
        return sources[0].customDownloader(sources[0])

    def screenshot(self, widget, path):
        """Draw a panel or a widget into a PNG file."""
        if not hasattr(widget, "_qt"):
            widget = widget.parent
        self.process_events()
        if not widget._qt.grab().save(str(path)):
            raise OSError(f"could not write {path}")

    def close(self):
        """End the application: panels clean up, the scene is emptied; raises what slots have raised."""
        for name in self._app._modules.modulesNames():
            self._app._modules.moduleAboutToBeUnloaded.emit(name)
        signals.disconnect_all(self._app)
        for widget in self._app.topLevelWidgets():
            widget.deleteLater()
        self._app.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        self._app._layout._close()
        self.scene.Clear(True)
        self.scene.RemoveAllObservers()  # or they are called while Python collects the scene
        self._app._scene = self._app._logic = self._app._layout = self._app._modules = None
        self.check()

    def check(self):
        """Raise what slots have raised, and for answers to dialogs that did not open."""
        if dialogs.n_unused():
            faults.record(AssertionError(f"{dialogs.n_unused()} answers were given to dialogs that did not open"))
            dialogs.reset()
        faults.raise_any()

    def _load(self, name, path):
        """What Slicer does with a module when it starts."""
        self._patch.syspath_prepend(str(path.parent))
        spec = importlib.util.spec_from_file_location(name, path)
        python = importlib.util.module_from_spec(spec)
        self._patch.setitem(sys.modules, name, python)
        spec.loader.exec_module(python)
        module = self._app._modules._by_name[name] = slicer_app.qSlicerScriptedLoadableModule()
        module.path, module.name = str(path), name
        setattr(slicer.modules, name.lower(), pythonqt.wrap(module))
        getattr(python, name)(pythonqt.wrap(module))
        self._app.startupCompleted.emit()
        signals.disconnect_all(self._app, "startupCompleted()")

    def _show(self, name):
        """Leave the module that is shown and enter another one."""
        module = self._app._modules.module(name)
        if module is None:
            raise LookupError(f"The host has no module '{name}'; open it first")
        self._exit()
        self.main_window._show_panel(module.widgetRepresentation())
        self._shown = module
        if hasattr(module._widget._python, "enter"):
            module._widget._python.enter()

    def _exit(self):
        if self._shown:
            self._shown, panel = None, self._shown._widget._python
            if hasattr(panel, "exit"):
                panel.exit()

    def _unfold(self, widget):
        """Open the collapsible sections around a widget, as a user would to reach it."""
        while widget is not None:
            if isinstance(widget, widgets_ctk.ctkCollapsibleButton):
                widget.setChecked(True)
            widget = widget.parentWidget()

    def _scene_logics(self):
        scene, folder = self.scene, str(self.folder)
        application = slicer.vtkSlicerApplicationLogic()
        application.SetMRMLScene(scene)
        application.SetTemporaryPath(folder)
        application.GetColorLogic().SetMRMLScene(scene)
        remote, data = slicer.vtkMRMLRemoteIOLogic(), slicer.vtkDataIOManagerLogic()
        remote.GetCacheManager().SetRemoteCacheDirectory(folder)
        remote.SetMRMLScene(scene)
        remote.AddDataIOToScene()
        data.SetMRMLApplicationLogic(application)
        data.SetAndObserveDataIOManager(remote.GetDataIOManager())
        logics = {name: getattr(slicer, kind)() for name, kind in _LOGICS.items()}
        for name, logic in logics.items():
            logic.SetMRMLApplicationLogic(application)
            logic.SetMRMLScene(scene)
            application.SetModuleLogic(name, logic)
        slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        return logics | {"application": application, "remote": remote, "data": data}

    def _install(self):
        """Put the stand-ins where modules import them from, until the test ends."""
        patch, modules = self._patch, types.ModuleType("slicer.modules")
        modules.sampleDataSources = {}
        for name in [*_LOGICS, "SampleData"]:
            module = slicer_app.qSlicerLoadableModule()
            module.name, module._logic = name, self._logics.get(name)
            setattr(modules, name.lower(), pythonqt.wrap(module))
        patch.setitem(sys.modules, "qt", QT)
        patch.setitem(sys.modules, "ctk", CTK)
        provided = scripted.modules()
        base = os.environ.get("SLICER_BASE_PYTHON")
        for name, value in {"app": pythonqt.wrap(self._app), "mrmlScene": self.scene, "modules": modules}.items():
            patch.setattr(slicer, name, value, raising=False)
        for name, kind in (_MRML | slicer_app.STAND_INS).items():
            patch.setattr(slicer, name, pythonqt.class_of(kind), raising=False)
        for name, module in provided.items():
            self._provide(name, module)
        if base:
            patch.setattr(slicer, "__path__", [str(Path(base, "slicer")), *slicer.__path__])
            for name in ("slicer.i18n", "slicer.util", "slicer.ScriptedLoadableModule"):
                path = Path(base, *name.split(".")).with_suffix(".py")
                spec = importlib.util.spec_from_file_location(name, path)
                module = importlib.util.module_from_spec(spec)
                self._provide(name, module)
                spec.loader.exec_module(module)
        patch.setattr(slicer.util, "pip_install", self.pip_installed.append)
        patch.setattr(sys, "excepthook", faults.hook)
        faults.watch_qt()

    def _provide(self, name, module):
        self._patch.setitem(sys.modules, name, module)
        if name.startswith("slicer."):
            self._patch.setattr(slicer, name.removeprefix("slicer."), module, raising=False)
