"""The stand-in for Slicer: it keeps the rules of PythonQt, and nothing goes wrong in it unnoticed."""

import pytest

pytest.importorskip("PySide6", reason="PySide6 is not installed")
slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")


def caught(slicer_host):
    """The errors that were kept, which then no longer fail the test."""
    with pytest.raises(BaseException) as raised:
        slicer_host.process_events()
    return raised.value


# Properties and methods


def test_properties_are_attributes_and_no_calls(qt):
    label = qt.QLabel("dose")
    assert label.text == "dose"
    with pytest.raises(TypeError, match="'str' object is not callable"):
        label.text()
    label.text = "fluence"
    assert label.text == "fluence"
    box = qt.QComboBox()
    box.addItems(["a", "b"])
    assert (box.count, box.currentText, box.findText("b"), box.currentData) == (2, "a", 1, None)
    assert (label.enabled, label.isEnabled(), label.visible, label.isVisible()) == (True, True, False, False)
    assert label.size.width() == label.width


def test_items_of_tables_have_methods_only(qt):
    table = qt.QTableWidget(2, 3)
    table.setItem(0, 0, qt.QTableWidgetItem("PTV"))
    assert (table.rowCount, table.columnCount) == (2, 3)
    assert table.item(0, 0).text() == "PTV"
    assert table.item(1, 1) is None
    assert table.item(0, 0) == table.item(0, 0)
    item = table.item(0, 0)
    item.setFlags(item.flags() & ~qt.Qt.ItemIsEditable)
    item.setData(qt.Qt.UserRole + 1, "id")
    assert not item.flags() & qt.Qt.ItemIsEditable
    assert item.data(qt.Qt.UserRole + 1) == "id"


def test_tree_of_widgets_is_reached_by_methods(qt):
    parent = qt.QWidget()
    layout = qt.QVBoxLayout(parent)
    button = qt.QPushButton("Add")
    button.objectName = "addButton"
    layout.addWidget(button)
    assert parent.layout() is layout
    assert button.parent() is parent
    assert button in parent.children()
    assert parent.findChild(qt.QPushButton, "addButton") is button
    assert parent.addButton is button
    assert button.name == "addButton"


def test_an_unknown_attribute_is_an_error(qt):
    button = qt.QPushButton()
    with pytest.raises(AttributeError, match="QPushButton has no attribute named 'caption'"):
        button.caption  # noqa: B018
    with pytest.raises(AttributeError, match="creating new attributes on C\\+\\+ objects is not allowed"):
        button.caption = "x"
    with pytest.raises(AttributeError, match="can not be overwritten"):
        button.setText = "x"
    with pytest.raises(AttributeError, match="not writable"):
        button.width = 3
    with pytest.raises(AttributeError, match="has no attribute 'QNoSuchWidget'"):
        qt.QNoSuchWidget  # noqa: B018


@pytest.mark.parametrize("value", ["3", None, 2.5])
def test_a_property_takes_no_value_of_a_wrong_type(qt, value):
    box = qt.QSpinBox()
    with pytest.raises(AttributeError, match="Property 'value' of type 'int' does not accept"):
        box.value = value
    assert box.value == 0


def test_numbers_of_numpy_are_refused(qt):
    np = pytest.importorskip("numpy")
    box = qt.QSpinBox()
    with pytest.raises(TypeError, match="takes no int64 of numpy"):
        box.value = np.int64(3)
    with pytest.raises(TypeError, match="takes no int64 of numpy"):
        box.setValue(np.int64(3))


def test_a_dynamic_property_becomes_an_attribute(qt):
    label = qt.QLabel()
    label.setProperty("role", "target")
    assert label.role == "target"
    label.role = "organ"
    assert label.property("role") == "organ"


def test_no_class_derives_from_another_one(qt):
    button = qt.QPushButton()
    assert isinstance(button, qt.QPushButton)
    assert not isinstance(button, qt.QWidget)
    assert button.inherits("QWidget")
    assert button.className() == "QPushButton"


def test_enumerations_are_ints_without_a_scope(qt):
    assert qt.Qt.Horizontal == 1
    assert qt.Qt.AlignRight | qt.Qt.AlignVCenter == 0x82
    label = qt.QLabel()
    label.setAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    assert label.alignment == 0x82
    label.alignment = 1
    assert label.alignment == qt.Qt.AlignLeft
    table = qt.QTableWidget(1, 1)
    header = table.horizontalHeader()
    header.setSectionResizeMode(qt.QHeaderView.Stretch)
    assert header.sectionResizeMode(0) == qt.QHeaderView.Stretch
    header.setSectionResizeMode(2)
    assert header.sectionResizeMode(0) == qt.QHeaderView.Fixed
    policy = qt.QSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
    label.setSizePolicy(policy)
    assert label.sizePolicy.horizontalPolicy() == qt.QSizePolicy.Expanding
    with pytest.raises(AttributeError):
        qt.QHeaderView.ResizeMode.Stretch  # noqa: B018


def test_lists_come_back_as_tuples(slicer_host):
    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    assert box.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    assert slicer.app.layoutManager().sliceViewNames() == ("Red", "Green", "Yellow")


def test_a_class_of_python_may_override_what_is_virtual(qt, slicer_host):
    class Filter(qt.QObject):
        def __init__(self):
            super().__init__()
            self.seen = []

        def eventFilter(self, watched, event):
            self.seen.append((watched, event.type()))
            return False

    button, watch = qt.QPushButton(), Filter()
    button.installEventFilter(watch)
    button.setEnabled(False)
    assert (button, qt.QEvent.EnabledChange) in watch.seen


# Signals


def test_signals_are_connected_by_signature_and_by_name(qt):
    button, seen = qt.QPushButton(), []
    button.checkable = True
    assert button.connect("clicked()", lambda: seen.append("signature")) is True
    assert button.connect("clicked(bool)", lambda on: seen.append(on)) is True
    assert button.clicked.connect(lambda: seen.append("name")) is True
    button.click()
    assert seen == ["signature", True, "name"]


def test_an_unknown_signal_is_an_error(qt, slicer_host):
    with pytest.raises(RuntimeError, match="QPushButton has no signal 'pushed\\(\\)'"):
        qt.QPushButton().connect("pushed()", print)
    assert "pushed" in str(caught(slicer_host))
    with pytest.raises(RuntimeError, match="currentIndexChanged"):
        qt.QComboBox().connect("currentIndexChanged(QString)", print)
    caught(slicer_host)


def test_disconnecting_ends_it(qt):
    box, seen = qt.QSpinBox(), []
    box.connect("valueChanged(int)", seen.append)
    box.value = 3
    assert box.disconnect("valueChanged(int)", seen.append) is True
    assert box.disconnect("valueChanged(int)", seen.append) is False
    box.value = 4
    assert seen == [3]


def test_blocking_signals_gives_the_old_state(qt):
    box, seen = qt.QSpinBox(), []
    box.valueChanged.connect(seen.append)
    assert box.blockSignals(True) is False
    box.value = 3
    assert box.blockSignals(False) is True
    assert seen == []


def test_an_exception_in_a_slot_fails_the_test(qt, slicer_host):
    button = qt.QPushButton()
    button.clicked.connect(lambda: 1 / 0)
    button.click()
    assert isinstance(caught(slicer_host), ZeroDivisionError)


def test_an_exception_in_an_observer_of_a_node_fails_the_test(slicer_host):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    node.AddObserver("ModifiedEvent", lambda *_: {}["missing"])
    node.Modified()
    assert isinstance(caught(slicer_host), KeyError)


def test_timers_run(qt, slicer_host):
    timer, seen = qt.QTimer(), []
    timer.setInterval(1)
    timer.timeout.connect(lambda: seen.append("timer"))
    timer.start()
    qt.QTimer.singleShot(0, lambda: seen.append("once"))
    slicer_host.wait_until(lambda: "timer" in seen and "once" in seen, 5)
    timer.stop()
    with pytest.raises(TimeoutError):
        slicer_host.wait_until(lambda: False, 0.05)
