"""The stand-in for Slicer: forms, dialogs, the application, and modules that are opened, reloaded and closed."""

import importlib
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("PySide6", reason="PySide6 is not installed")
slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

FORM = """<ui version="4.0">
 <class>Sample</class>
 <widget class="qMRMLWidget" name="Sample">
  <layout class="QVBoxLayout" name="layout">
   <item><widget class="qMRMLNodeComboBox" name="ctSelector">
     <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
     <property name="noneEnabled"><bool>true</bool></property>
   </widget></item>
   <item><widget class="ctkCollapsibleButton" name="section">
     <property name="text"><string>Section</string></property>
     <property name="collapsed"><bool>true</bool></property>
     <layout class="QHBoxLayout" name="row">
      <item><widget class="QPushButton" name="goButton"><property name="text"><string>Go</string></property>
       <property name="checkable"><bool>true</bool></property></widget></item>
      <item><widget class="QCheckBox" name="goBox"/></item>
      <item><widget class="ctkPathLineEdit" name="path">
       <property name="filters"><set>ctkPathLineEdit::Dirs|ctkPathLineEdit::Readable</set></property></widget></item>
     </layout>
   </widget></item>
   <item><widget class="QWidget" name="extra"/></item>
  </layout>
 </widget>
 <customwidgets/>
 <connections>
  <connection><sender>Sample</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
   <receiver>ctSelector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection>
  <connection><sender>goButton</sender><signal>toggled(bool)</signal>
   <receiver>goBox</receiver><slot>setChecked(bool)</slot></connection>
 </connections>
</ui>"""

MODULE = """
import logging
import qt
import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import *

class Sample(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("Sample")
        slicer.app.connect("startupCompleted()", register)

def register():
    import SampleData
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="Test", sampleName="Phantom", customDownloader=lambda source: slicer.mrmlScene.AddNewNodeByClass(
            "vtkMRMLScalarVolumeNode", "Phantom"))

class SampleWidget(ScriptedLoadableModuleWidget):
    events = []

    def setup(self):
        super().setup()
        self.form = slicer.util.loadUI(self.resourcePath("UI/Sample.ui"))
        self.layout.addWidget(self.form)
        self.ui = slicer.util.childWidgetVariables(self.form)
        self.form.setMRMLScene(slicer.mrmlScene)
        self.ui.goButton.clicked.connect(lambda: self.events.append("go"))

    def enter(self):
        self.events.append("enter")

    def exit(self):
        self.events.append("exit")

    def cleanup(self):
        self.events.append("cleanup")
"""


@pytest.fixture
def a_form(slicer_host, tmp_path):
    """Writes the form, with one text in place of another, and loads it."""

    def load(old="", new=""):
        path = tmp_path / "Sample.ui"
        path.write_text(FORM.replace(old, new) if old else FORM)
        return slicer.util.loadUI(str(path))

    return load


@pytest.fixture
def panel(slicer_host, tmp_path):
    """The panel of a small module."""
    folder = tmp_path / "Sample"
    (folder / "Resources/UI").mkdir(parents=True)
    (folder / "Sample.py").write_text(MODULE)
    (folder / "Resources/UI/Sample.ui").write_text(FORM)
    return slicer_host.open_module("Sample", folder=tmp_path)


# Forms


def test_a_form_is_loaded_with_its_connections(a_form):
    form = a_form()
    ui = slicer.util.childWidgetVariables(form)
    form.setMRMLScene(slicer.mrmlScene)
    assert ui.ctSelector.mrmlScene() is slicer.mrmlScene
    assert ui.ctSelector.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    assert (ui.section.collapsed, ui.section.text) == (True, "Section")
    assert ui.path.filters == 0x11
    ui.goButton.click()
    assert ui.goBox.checked


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('class="QCheckBox"', 'class="ctkUnknownBox"', "of class ctkUnknownBox, which neither Qt nor the host knows"),
        ('name="checkable"', 'name="checkabel"', "QPushButton 'goButton' has no property 'checkabel'"),
        ('name="goBox"', 'name="goButton"', "two widgets are named 'goButton'"),
        ("toggled(bool)", "switched(bool)", "goButton has no signal switched"),
        ("setChecked(bool)", "setTicked(bool)", "goBox has no slot setTicked"),
        ("<sender>goButton", "<sender>stopButton", "a connection names 'stopButton'"),
        ("QHBoxLayout", "QDiagonalLayout", "layout of unknown class QDiagonalLayout"),
    ],
)
def test_what_is_wrong_in_a_form_is_an_error(a_form, old, new, message):
    with pytest.raises(RuntimeError, match=message):
        a_form(old, new)


# Dialogs


def test_a_dialog_without_an_answer_fails_the_test(slicer_host):
    with pytest.raises(RuntimeError, match=r"opened that the test does not answer: .*text='Disk full'"):
        slicer.util.errorDisplay("Disk full")
    with pytest.raises(RuntimeError, match="Disk full"):
        slicer_host.process_events()


def test_dialogs_are_answered_in_order_and_recorded(slicer_host):
    slicer_host.answer(True)
    slicer_host.answer(False)
    slicer_host.answer(True)
    assert slicer.util.confirmYesNoDisplay("Remove the plan?")
    assert not slicer.util.confirmOkCancelDisplay("Install?")
    slicer.util.infoDisplay("Done")
    assert [d.text for d in slicer_host.dialogs] == ["Remove the plan?", "Install?", "Done"]


def test_file_dialogs_give_paths_as_in_slicer(qt, slicer_host, tmp_path):
    slicer_host.answer_file_dialog(tmp_path)
    slicer_host.answer_file_dialog("")
    assert qt.QFileDialog.getExistingDirectory(None, "Export to") == str(tmp_path)
    assert qt.QFileDialog.getOpenFileName(None, "RTPLAN", "", "DICOM (*.dcm)") == ""
    assert slicer_host.dialogs[0].title == "Export to"


def test_a_dialog_of_the_panel_is_answered_by_a_function(qt, slicer_host):
    dialog, seen = qt.QDialog(), []
    dialog.windowTitle = "Log"
    dialog.accepted.connect(lambda: seen.append("accepted"))
    slicer_host.answer(lambda opened: opened is dialog)
    assert dialog.exec_() == qt.QDialog.Accepted
    assert seen == ["accepted"]
    box = qt.QMessageBox()
    install = box.addButton("&Install", qt.QMessageBox.AcceptRole)
    box.addButton("Later", qt.QMessageBox.RejectRole)
    slicer_host.answer("Install")
    box.exec_()
    assert box.clickedButton() == install


def test_an_answer_that_nobody_asked_for_fails_the_test(slicer_host):
    slicer_host.answer(True)
    with pytest.raises(AssertionError, match="1 answers were given to dialogs that did not open"):
        slicer_host.check()


# The application


def test_the_application_has_views_and_logics(slicer_host):
    layout = slicer.app.layoutManager()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    slicer.util.setSliceViewerLayers(background=node)
    assert layout.sliceWidget("Red").sliceLogic().GetSliceCompositeNode().GetBackgroundVolumeID() == node.GetID()
    layout.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpPlotView)
    assert layout.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpPlotView
    chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", "DVH")
    slicer.modules.plots.logic().ShowChartInLayout(chart)
    assert layout.plotWidget(0).mrmlPlotViewNode().GetPlotChartNodeID() == chart.GetID()
    slicer.util.resetSliceViews()
    slicer.util.resetThreeDViews()
    slicer.util.forceRenderAllViews()
    assert slicer.util.showStatusMessage("Planning", 100)
    assert slicer.app.applicationLogic().GetMRMLScene() is slicer.mrmlScene
    with pytest.raises(AttributeError):
        slicer.app.noSuchThing  # noqa: B018


def test_a_point_of_a_chart_is_selected(slicer_host):
    view, seen = slicer.app.layoutManager().plotWidget(0).plotView(), []
    view.connect("dataSelected(vtkStringArray*,vtkCollection*)", lambda series, points: seen.append((series, points)))
    view.dataSelected("series", "points")
    assert seen == [("series", "points")]


def test_processes_start_in_the_environment_of_before(slicer_host):
    assert slicer.util.startupEnvironment()["PATH"] == os.environ["PATH"]
    process = slicer.util.launchConsoleProcess([sys.executable, "-c", "print('planned')"])
    assert process.communicate()[0].strip() == "planned"


def test_settings_last_for_one_test_only(qt, slicer_host):
    assert slicer.util.settingsValue("DeepRT/Folder", "none") == "none"
    qt.QSettings().setValue("DeepRT/Folder", "here")
    assert slicer.util.settingsValue("DeepRT/Folder", "none") == "here"


def test_installing_packages_is_only_recorded(slicer_host):
    slicer.util.pip_install("deeprt")
    assert slicer_host.pip_installed == ["deeprt"]


# Modules


def test_a_module_is_opened_left_reloaded_and_closed(slicer_host, panel):
    events = panel.events
    assert slicer.modules.SampleWidget is panel
    assert slicer.modules.sample.title == "Sample"
    assert slicer.util.getModuleWidget("Sample") is panel
    slicer_host.leave(panel)
    again = slicer_host.reload(panel)
    assert again is not panel
    assert slicer.modules.SampleWidget is again
    assert events == ["enter", "exit", "cleanup"]
    slicer_host.click(again, "goButton")
    assert type(again).events == ["go"]


def test_another_module_is_chosen(slicer_host, panel, tmp_path):
    folder = tmp_path / "Other"
    folder.mkdir()
    (folder / "Other.py").write_text(MODULE.replace("Sample(", "Other(").replace("SampleWidget", "OtherWidget"))
    (folder / "Resources").symlink_to(tmp_path / "Sample/Resources")
    (folder / "Resources/UI/Other.ui").write_text(FORM)
    other = slicer_host.open_module("Other", folder=tmp_path)
    assert panel.events == ["enter", "exit"]
    assert not slicer_host.widget(panel, "ctSelector").visible
    slicer_host.click(other, "goButton")
    slicer.util.selectModule("Sample")
    assert other.events == ["enter", "go", "exit"]
    assert slicer.util.selectedModule() == "Sample"
    slicer_host.click(panel, "goButton")
    assert len(slicer.modules.sampleDataSources["Test"]) == 2


def test_a_button_is_pressed_only_as_a_user_could(slicer_host, panel):
    with pytest.raises(LookupError, match="Sample has no widget named 'stopButton'"):
        slicer_host.click(panel, "stopButton")
    button = slicer_host.widget(panel, "goButton")
    button.enabled, button.toolTip = False, "Choose a CT"
    with pytest.raises(AssertionError, match="'goButton' is disabled: Choose a CT"):
        slicer_host.click(panel, "goButton")
    button.enabled = True
    button.hide()
    with pytest.raises(AssertionError, match="'goButton' is hidden"):
        slicer_host.click(panel, "goButton")


def test_sample_data_is_loaded_from_its_registry(slicer_host, panel):
    slicer_host.load_sample("Phantom")
    assert slicer_host.widget(panel, "ctSelector").nodeCount() == 1


def test_the_scene_is_saved_closed_and_loaded(slicer_host, panel, tmp_path):
    slicer_host.load_sample("Phantom")
    slicer_host.save_scene(tmp_path / "scene.mrb")
    slicer_host.close_scene()
    box = slicer_host.widget(panel, "ctSelector")
    assert box.nodeCount() == 0
    slicer_host.load_scene(tmp_path / "scene.mrb")
    assert box.nodeFromIndex(0).GetName() == "Phantom"


def test_a_screenshot_shows_the_panel(qt, slicer_host, panel, tmp_path):
    slicer_host.screenshot(panel, tmp_path / "panel.png")
    image = qt.QImage(str(tmp_path / "panel.png"))
    assert image.width() > 300
    colors = {image.pixel(x, y) for x in range(image.width()) for y in range(0, image.height(), 10)}
    assert len(colors) > 3


def test_nothing_of_the_host_is_left_after_a_test():
    assert "qt" not in sys.modules
    assert not hasattr(slicer, "app")
    assert importlib.util.find_spec("slicer").origin == slicer.__file__
    assert Path(slicer.__file__).parts[-3] == "site-packages"
