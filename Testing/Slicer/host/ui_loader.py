"""Reads the `.ui` files of panels, and refuses what Qt's own loader would skip silently."""

from functools import cache
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

from PySide6 import QtWidgets
from PySide6.QtCore import QBuffer, QByteArray, QDir, QObject, SignalInstance
from PySide6.QtUiTools import QUiLoader as _Loader

from . import pythonqt, signals

_LAYOUTS = ("QVBoxLayout", "QHBoxLayout", "QGridLayout", "QFormLayout")
_OF_DESIGNER_ONLY = {("QLabel", "buddy"), ("Line", "orientation")}


class UiError(RuntimeError):
    """A `.ui` file that Slicer would load only in part."""


class QUiLoader(QObject):
    """Stands for Qt's loader of forms; `widgets` are the classes that Slicer and CTK add to those of Qt."""

    widgets: ClassVar[dict[str, type]] = {}

    def load(self, file, parent=None):
        return load(Path(file.fileName()), self.widgets, parent)


def load(path, widgets, parent=None):
    """The widget tree that a `.ui` file describes, with its connections."""
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    classes, enumerations = _checked(root, widgets, path)
    connections = root.find("connections")
    if connections is not None:
        root.remove(connections)
    for custom in root.findall("customwidgets"):
        root.remove(custom)
    widget = _built(root, widgets, parent, path)
    for name, properties in enumerations.items():
        for key, value in properties.items():
            pythonqt.wrap(_by_name(widget, name)).__setattr__(key, value)
    buddies = {e[0].text: "buddy" for e in root.iter("property") if e.get("name") == "buddy"}
    missing = [name for name in classes | buddies if _by_name(widget, name) is None]
    if missing:
        raise UiError(f"{path.name}: could not make {', '.join(missing)}")
    for connection in connections if connections is not None else ():
        _connect(widget, connection, path)
    return widget


def _checked(root, widgets, path):
    """Names and classes of the widgets; and the enumerations of stand-ins, taken out of the tree."""
    classes, enumerations = {}, {}
    for element in root.iter("widget"):
        kind, name = element.get("class"), element.get("name")
        known = widgets.get(kind) or getattr(QtWidgets, "QFrame" if kind == "Line" else kind, None)
        if known is None:
            raise UiError(f"{path.name}: widget '{name}' is of class {kind}, which neither Qt nor the host knows")
        if name in classes:
            raise UiError(f"{path.name}: two widgets are named '{name}'")
        classes[name] = kind
        for declared in list(element.findall("property")):
            key = declared.get("name")
            if declared.get("stdset") == "0":  # a dynamic property
                continue
            if key not in _properties(known) and (kind, key) not in _OF_DESIGNER_ONLY:
                raise UiError(f"{path.name}: {kind} '{name}' has no property '{key}'")
            value = declared[0]
            if kind in widgets and value.tag in ("enum", "set"):
                element.remove(declared)
                enumerations.setdefault(name, {})[key] = _enumeration(known, value.text)
    for element in root.iter("layout"):
        if element.get("class") not in _LAYOUTS:
            raise UiError(f"{path.name}: layout of unknown class {element.get('class')}")
    return classes, enumerations


@cache
def _properties(kind):
    """Names of the properties, of a living object: PySide deletes the meta-object that a class hands out."""
    sample = kind()
    meta = sample.metaObject()
    return frozenset(meta.property(index).name() for index in range(meta.propertyCount()))


def _enumeration(kind, text):
    value = 0
    for part in (text or "").split("|"):
        *scope, name = part.split("::")
        member = getattr(getattr(QtWidgets, scope[0], kind) if scope else kind, name)
        value |= member.value
    return value


def _built(root, widgets, parent, path):
    problems = []

    class Loader(_Loader):
        def createWidget(self, kind, parent=None, name=""):
            try:
                made = widgets[kind](parent) if kind in widgets else super().createWidget(kind, parent, name)
                made.setObjectName(name)
                return made
            except Exception as error:
                problems.append(error)
                raise

    loader = Loader()
    loader.setWorkingDirectory(QDir(str(path.parent)))
    for kind in widgets.values():
        loader.registerCustomWidget(kind)
    buffer = QBuffer()
    buffer.setData(QByteArray(ElementTree.tostring(root)))
    buffer.open(QBuffer.OpenModeFlag.ReadOnly)
    widget = loader.load(buffer, parent)
    if problems:
        raise problems[0]
    if widget is None:
        raise UiError(f"{path.name}: {loader.errorString()}")
    return widget


def _by_name(widget, name):
    return widget if widget.objectName() == name else widget.findChild(QObject, name)


def _connect(widget, connection, path):
    parts = ("sender", "signal", "receiver", "slot")
    sender_name, signal, receiver_name, slot = (connection.find(part).text for part in parts)
    sender, receiver = _by_name(widget, sender_name), _by_name(widget, receiver_name)
    for name, found in ((sender_name, sender), (receiver_name, receiver)):
        if found is None:
            raise UiError(f"{path.name}: a connection names '{name}', which is not there")
    if not signals.resolved(sender, signal):
        raise UiError(f"{path.name}: {sender_name} has no signal {signal}")
    if not signals.resolved(receiver, slot, is_signal=False):
        raise UiError(f"{path.name}: {receiver_name} has no slot {slot}")
    n_arguments = slot.count(",") + 1 if "()" not in slot else 0
    method = getattr(receiver, slot.partition("(")[0])
    forward = method.emit if isinstance(method, SignalInstance) else method
    signals.connect(sender, signal, lambda *values: forward(*[pythonqt.unwrap(v) for v in values][:n_arguments]))
