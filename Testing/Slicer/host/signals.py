"""Signals of Qt as PythonQt connects them: by signature, or as an attribute of the object."""

import re
import types

from PySide6.QtCore import SIGNAL, QMetaMethod, QMetaObject, QObject

from . import faults, pythonqt

_signals: dict[type, dict[str, str]] = {}


class BoundSignal:
    """A signal of an object; calling it emits it."""

    __slots__ = ("_owner", "_signature")

    def __init__(self, owner, signature):
        self._owner, self._signature = owner, signature

    def connect(self, slot):
        return _connect(self._owner, self._signature, slot)

    def disconnect(self, *slot):
        return _disconnect(self._owner, self._signature, *slot)

    def emit(self, *values):
        getattr(self._owner, self._signature.partition("(")[0]).emit(*map(pythonqt.unwrap, values))

    __call__ = emit


def named(qt_object, name):
    """Signature of the signal of this name, with all its arguments; "" if there is none."""
    if not isinstance(qt_object, QObject):
        return ""
    kind = type(qt_object)
    if kind not in _signals:
        meta = qt_object.metaObject()
        methods = [meta.method(index) for index in range(meta.methodCount())]
        found = [m for m in methods if m.methodType() == QMetaMethod.MethodType.Signal]
        _signals[kind] = {bytes(m.name()).decode(): bytes(m.methodSignature()).decode() for m in reversed(found)}
    return _signals[kind].get(name, "")


def resolved(qt_object, signature, *, is_signal=True):
    """The signature as Qt knows it here: stand-ins write `PyObject` where Slicer's widgets have a class of VTK."""
    normal = bytes(QMetaObject.normalizedSignature(signature).data()).decode()
    meta = qt_object.metaObject()
    index = meta.indexOfSignal if is_signal else meta.indexOfMethod
    if normal in getattr(type(qt_object), "_signatures", ()):
        normal = re.sub(r"vtk\w+\*", "PyObject", normal)
    return normal if index(normal) >= 0 and "PyObject" not in signature else ""


def connect(qt_object, signature, *target):
    """Connect a signal with a function, or with a slot of another object named by its signature."""
    known = resolved(qt_object, signature)
    if not known:
        faults.refuse(f"{type(qt_object).__name__} has no signal '{signature}' to connect to")
    return _connect(qt_object, known, target[0] if len(target) == 1 else _slot(*target))


def disconnect(qt_object, signature, *slot):
    """Undo connections made from Python: with one function, or all of the signal; whether there were any."""
    known = resolved(qt_object, signature)
    if not known:
        faults.refuse(f"{type(qt_object).__name__} has no signal '{signature}' to disconnect")
    return _disconnect(qt_object, known, *slot)


def disconnect_all(qt_object, signature=None):
    """Undo all connections made from Python, or those of one signal."""
    for known in {connection[0] for connection in _connections(qt_object)}:
        if signature in (None, known):
            _disconnect(qt_object, known)


def guarded(slot):
    """The function as a receiver that takes as many arguments as the function wants and keeps its errors."""
    n_arguments = _n_arguments(slot)

    def receive(*values):
        try:
            slot(*[pythonqt.wrap(v) for v in values][:n_arguments])
        except BaseException as error:
            faults.record(error)

    return receive


def _connect(qt_object, signature, slot):
    if not callable(slot):
        faults.refuse(f"'{signature}' of {type(qt_object).__name__} was connected to {slot!r}, which is no function")
    receiver = guarded(slot)
    QObject.connect(qt_object, SIGNAL(signature), receiver)
    _connections(qt_object).append((signature, slot, receiver))
    return True


def _disconnect(qt_object, signature, *slot):
    connections = _connections(qt_object)
    gone = [c for c in connections if c[0] == signature and (not slot or c[1] == slot[0])]
    for connection in gone:
        QObject.disconnect(qt_object, SIGNAL(signature), connection[2])
        connections.remove(connection)
    return bool(gone)


def _slot(receiver, signature):
    name = signature.partition("(")[0]
    if not resolved(receiver._qt, signature, is_signal=False):
        faults.refuse(f"{type(receiver).__name__} has no slot '{signature}' to connect to")
    return getattr(receiver, name)


def _n_arguments(slot):
    """How many arguments PythonQt passes to a function of Python, defaults counted; None for all of them."""
    is_method = isinstance(slot, types.MethodType)
    function = slot.__func__ if is_method else slot
    if not isinstance(function, types.FunctionType) or function.__code__.co_flags & 0x04:
        return None
    return function.__code__.co_argcount - is_method


def _connections(qt_object):
    if not hasattr(qt_object, "_connections"):
        qt_object._connections = []
    return qt_object._connections
