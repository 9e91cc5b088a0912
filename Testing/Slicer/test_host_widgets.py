"""The stand-in for Slicer: widgets of CTK, and widgets that follow a scene of real MRML."""

import pytest

pytest.importorskip("PySide6", reason="PySide6 is not installed")
slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")


@pytest.fixture
def volumes_box(slicer_host):
    """A combo box of volumes that follows the scene."""
    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    box.noneEnabled = True
    box.setMRMLScene(slicer.mrmlScene)
    return box


def volume(name, **attributes):
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetName(name)
    for key, value in attributes.items():
        node.SetAttribute(key, value)
    return slicer.mrmlScene.AddNode(node)


def test_setters_that_are_no_slots_do_not_exist(ctk, volumes_box):
    slider = ctk.ctkSliderWidget()
    slider.minimum, slider.maximum, slider.decimals = -5.0, 5.0, 1
    slider.setValue(1.25)
    assert slider.value == pytest.approx(1.3, abs=0.051)
    without = ((slider, "setMinimum"), (volumes_box, "setNoneEnabled"), (ctk.ctkPathLineEdit(), "setFilters"))
    for widget, name in without:
        with pytest.raises(AttributeError, match=name):
            getattr(widget, name)


def test_a_slider_tells_its_value(ctk):
    slider, seen = ctk.ctkSliderWidget(), []
    slider.connect("valueChanged(double)", seen.append)
    slider.value = 30
    slider.value = 200
    assert seen == [30.0, 100.0]


def test_a_section_hides_what_is_in_it(qt, ctk, slicer_host):
    section = ctk.ctkCollapsibleButton()
    section.text = "Beams"
    button, spare = qt.QPushButton(), qt.QPushButton()
    for child in (button, spare):
        child.setParent(section)
    spare.hide()
    section.show()
    section.collapsed = True
    assert not button.isVisible()
    button.show()
    assert not button.isVisible()
    section.collapsed = False
    assert button.isVisible()
    assert not spare.isVisible()


def test_a_path_is_chosen_in_a_dialog(ctk, slicer_host, tmp_path):
    line, seen = ctk.ctkPathLineEdit(), []
    line.filters = ctk.ctkPathLineEdit.Files | ctk.ctkPathLineEdit.Readable
    line.connect("currentPathChanged(QString)", seen.append)
    slicer_host.answer_file_dialog(tmp_path / "plan.toml")
    line.browse()
    assert seen == [str(tmp_path / "plan.toml")]
    assert line.currentPath == str(tmp_path / "plan.toml")


def test_a_node_combo_box_follows_the_scene(volumes_box):
    seen = []
    volumes_box.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: seen.append(node and node.GetName()))
    assert volumes_box.currentNode() is None
    ct, dose = volume("CT"), volume("Dose")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Structures")
    assert (volumes_box.nodeCount(), volumes_box.currentNode()) == (2, None)
    volumes_box.setCurrentNode(dose)
    assert volumes_box.currentNodeID == dose.GetID()
    slicer.mrmlScene.RemoveNode(dose)
    assert volumes_box.currentNode() is ct
    slicer.mrmlScene.Clear(0)
    assert volumes_box.currentNode() is None
    assert seen == ["Dose", "CT", None]


def test_a_node_combo_box_without_none_takes_the_first_node(volumes_box):
    volumes_box.noneEnabled = False
    ct = volume("CT")
    volume("Dose")
    assert volumes_box.currentNode() is ct


def test_a_node_combo_box_filters_by_attribute(volumes_box):
    volumes_box.addAttribute("vtkMRMLScalarVolumeNode", "Dose", "1")
    ct, dose = volume("CT"), volume("Dose", Dose="1")
    assert [volumes_box.nodeFromIndex(k) for k in range(volumes_box.nodeCount())] == [dose]
    ct.SetAttribute("Dose", "1")
    dose.SetAttribute("Dose", "0")
    assert [volumes_box.nodeFromIndex(k) for k in range(volumes_box.nodeCount())] == [ct]
    made = []
    volumes_box.connect("nodeAddedByUser(vtkMRMLNode*)", made.append)
    new = volumes_box.addNode()
    assert made == [new]
    assert new.GetAttribute("Dose") == "1"
    assert volumes_box.currentNode() is new


def test_a_node_combo_box_shows_new_names(volumes_box):
    volumes_box.setCurrentNode(volume("CT"))
    volumes_box.currentNode().SetName("Planning CT")
    hidden = volume("Mask")
    hidden.SetHideFromEditors(True)
    assert volumes_box.nodeCount() == 1
    hidden.SetHideFromEditors(False)  # Slicer does not look again at a node that it has refused
    assert volumes_box.nodeCount() == 1
    assert volumes_box._qt._combo.currentText() == "Planning CT"
