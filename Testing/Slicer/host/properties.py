"""Properties of Qt objects, read and written by Qt's meta-information, with the types that PythonQt takes."""

from enum import Enum

from PySide6.QtCore import QTimer

_ACCEPTED = {
    "bool": (bool, int),
    "int": int,
    "uint": int,
    "double": (int, float),
    "float": (int, float),
    "QString": str,
}


def declared(qt_object, name):
    """What Qt declares of a property, or None; `name` stands for `objectName`, as in PythonQt."""
    meta = qt_object.metaObject()
    if name == "singleShot" and isinstance(qt_object, QTimer):
        return None
    index = meta.indexOfProperty("objectName" if name == "name" and meta.indexOfProperty(name) < 0 else name)
    return meta.property(index) if index >= 0 else None


def read(qt_object, found):
    """The value of a property, as PySide gives it."""
    try:
        return found.read(qt_object)
    except RuntimeError:  # PySide knows no converter for this enumeration: ask the getter
        name = found.name()
        for getter in (name, f"is{name[0].upper()}{name[1:]}", f"has{name[0].upper()}{name[1:]}"):
            if hasattr(qt_object, getter):
                return getattr(qt_object, getter)()
        raise


def write(qt_object, found, value):
    """Set a property to a value of PySide; AttributeError if the property does not take it."""
    name, kind = found.name(), found.metaType().name()
    problem = AttributeError(
        f"Property '{name}' of type '{kind}' does not accept an object of type {type(value)} ({value!r})"
    )
    if not found.isWritable():
        raise AttributeError(f"Property '{name}' of {type(qt_object).__name__} object is not writable")
    if not _is_accepted(found, kind, value):
        raise problem
    if found.isEnumType() and not isinstance(value, str):
        value = value.value if isinstance(value, Enum) else int(value)
    try:
        written = found.write(qt_object, value)
    except (TypeError, RuntimeError) as error:
        raise problem from error
    if not written:
        raise problem


def _is_accepted(found, kind, value):
    if found.isEnumType():
        return isinstance(value, int | str | Enum)
    if kind == "QStringList":
        return isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)
    return kind not in _ACCEPTED or isinstance(value, _ACCEPTED[kind])
