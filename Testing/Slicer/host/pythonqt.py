"""Qt as Slicer's Python sees it: the rules of PythonQt, over PySide6.

Qt's own meta-information decides what is a property (an attribute, and no call), a signal or a method. Whatever
PythonQt would refuse is an error here, and so is what it would only print.
"""

import types
from enum import Enum
from functools import partial

import shiboken6
from PySide6 import QtCore, QtGui, QtWidgets
from shibokensupport.signature import get_signature

from . import dialogs, faults, properties, signals

_OF_PYSIDE_ONLY = {"emit", "staticMetaObject", "toPython", "toTuple", "receivers", "checkStateChanged"}
_FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, partial)
_classes: dict[type, "QtClass"] = {}


class EnumValue(int):
    """A value of an enumeration: an int that remembers which."""

    def __new__(cls, member):
        value = super().__new__(cls, member.value)
        value._member = member
        return value

    def _combined(self, other, operation):
        if isinstance(other, EnumValue) and type(other._member) is type(self._member):
            return EnumValue(getattr(self._member, operation)(other._member))
        return getattr(int, operation)(self, other)

    def __or__(self, other):
        return self._combined(other, "__or__")

    def __and__(self, other):
        return self._combined(other, "__and__")

    def __invert__(self):
        return EnumValue(~self._member)


class EnumClass:
    """The class of an enumeration, which makes values of numbers and, as in Qt 5, holds none."""

    __slots__ = ("_enum",)

    def __init__(self, enum):
        self._enum = enum

    def __call__(self, value):
        return EnumValue(self._enum(int(value)))


class QtClass(type):
    """A class of Qt: made of a PySide class, or derived in Python from one that was."""

    def __new__(mcs, name, bases, namespace, *, qt_class=None):
        cls = super().__new__(mcs, name, bases, namespace)
        cls._is_derived = qt_class is None and bool(bases)
        if cls._is_derived:
            qt_class = _with_overrides(bases[0]._qt_class, name, namespace)
            qt_class._proxy = cls
        cls._qt_class = qt_class
        return cls

    def __init__(cls, name, bases, namespace, *, qt_class=None):
        super().__init__(name, bases, namespace)

    def __getattr__(cls, name):
        member = _member(cls._qt_class, name) if cls._qt_class else None
        if member is None:
            raise AttributeError(f"{cls.__name__} has no attribute named '{name}'")
        return _shown(member, cls, name)


class Instance(metaclass=QtClass):
    """What Python holds of an object of Qt. No class of it derives from another one, so `isinstance` knows no bases."""

    def __init__(self, *arguments):
        qt_class = type(self)._qt_class
        if issubclass(qt_class, QtCore.QCoreApplication):
            faults.refuse(f"{type(self).__name__} exists already; use slicer.app")
        _hold(self, _called(qt_class, type(self).__name__, arguments))

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        qt_object = _alive(self, name)
        found = _found(self, qt_object, name)
        if found is None:
            raise AttributeError(f"{type(self).__name__} has no attribute named '{name}'")
        return found[0]

    def __setattr__(self, name, value):
        qt_object = _alive(self, name)
        is_object = isinstance(qt_object, QtCore.QObject)
        declared = properties.declared(qt_object, name) if is_object else None
        if declared is not None:
            properties.write(qt_object, declared, unwrap(value))
        elif signals.named(qt_object, name) or _member(type(qt_object), name) is not None:
            raise AttributeError(f"Slot or signal '{name}' can not be overwritten on {type(self).__name__} object")
        elif is_object and name.encode() in [bytes(n) for n in qt_object.dynamicPropertyNames()]:
            qt_object.setProperty(name, unwrap(value))
        elif type(self)._is_derived:
            object.__setattr__(self, name, value)
        else:
            raise AttributeError(
                f"'{name}' does not exist on {type(self).__name__} and creating new attributes on C++ objects is not "
                "allowed"
            )

    def __bool__(self):
        return shiboken6.isValid(self._qt)

    def __eq__(self, other):
        if not isinstance(other, Instance):
            return False
        return self._qt is other._qt if isinstance(self._qt, QtCore.QObject) else bool(self._qt == other._qt)

    def __hash__(self):
        return hash(shiboken6.getCppPointer(self._qt)[0])

    def __repr__(self):
        return f"{type(self).__name__} (at: {hex(id(self._qt))})"


def class_of(qt_class):
    """The class as Python sees it."""
    if "_proxy" in vars(qt_class):
        return qt_class._proxy
    if qt_class not in _classes:
        _classes[qt_class] = QtClass(qt_class.__name__, (Instance,), {}, qt_class=qt_class)
    return _classes[qt_class]


def wrap(value):
    """What Python sees of a value of Qt: enumerations as ints, lists as tuples, objects as `Instance`."""
    if isinstance(value, Enum):
        return EnumValue(value)
    if isinstance(value, list | tuple):
        return tuple(wrap(v) for v in value)
    if not isinstance(value, shiboken6.Shiboken.Object):
        return value
    held = getattr(value, "_instance", None)
    if held is None:
        held = _hold(object.__new__(class_of(type(value))), value)
    return held


def unwrap(value):
    """The value of PySide; a number of numpy that is no number of Python is refused."""
    if isinstance(value, Instance):
        return value._qt
    if isinstance(value, EnumValue):
        return value._member
    if isinstance(value, QtClass):
        return value._qt_class
    if isinstance(value, list | tuple):
        return [unwrap(v) for v in value]
    if type(value).__module__ == "numpy" and not isinstance(value, float):
        raise TypeError(f"Qt takes no {type(value).__name__} of numpy; make it an int, a float or a list")
    return value


def _hold(instance, qt_object):
    object.__setattr__(instance, "_qt", qt_object)
    # Items are not kept: nobody tells when C++ deletes them, and then their address stands for another object.
    if isinstance(qt_object, QtCore.QObject) or type(instance)._is_derived:
        qt_object._instance = instance
    return instance


def _alive(instance, name):
    qt_object = instance.__dict__.get("_qt")
    if qt_object is None:
        raise AttributeError(f"{type(instance).__name__}.__init__ was not called before '{name}' was asked for")
    if not shiboken6.isValid(qt_object):
        raise ValueError(f"Trying to reach '{name}' of a destroyed {type(instance).__name__} object")
    return qt_object


def _found(instance, qt_object, name):
    """The attribute of an object in a tuple of one, in the order in which PythonQt looks for it; None without one."""
    if isinstance(qt_object, QtCore.QObject):
        declared = properties.declared(qt_object, name)
        if declared is not None:
            return (wrap(properties.read(qt_object, declared)),)
        if name in ("connect", "disconnect"):
            return (partial(getattr(signals, name), qt_object),)
        if name == "delete":
            return (partial(shiboken6.delete, qt_object),)
        signature = signals.named(qt_object, name)
        if signature:
            return (signals.BoundSignal(qt_object, signature),)
    if name == "className":
        is_object = isinstance(qt_object, QtCore.QObject)
        shown = qt_object.metaObject().className() if is_object else type(instance).__name__
        return (lambda: shown,)
    member = _member(type(qt_object), name)
    if member is not None:
        bound = getattr(qt_object, name if hasattr(qt_object, name) else name[:-1])
        return (_shown(bound, instance, name),)
    if isinstance(qt_object, QtCore.QObject):
        if name.encode() in [bytes(n) for n in qt_object.dynamicPropertyNames()]:
            return (wrap(qt_object.property(name)),)
        for child in qt_object.children():
            if child.objectName() == name:
                return (wrap(child),)
    return None


def _member(qt_class, name):
    """The method, enumeration, value of one or nested class of this name; also exec_ for exec, as PythonQt has it."""
    if name.startswith("_") or name in _OF_PYSIDE_ONLY:
        return None
    member = getattr(qt_class, name, None)
    if member is None and name.endswith("_"):
        member = getattr(qt_class, name[:-1], None)
    if isinstance(member, QtCore.Signal | QtCore.Property):
        return None
    return member


def _shown(member, owner, name):
    if isinstance(member, Enum):
        return EnumValue(member)
    if isinstance(member, type):
        return EnumClass(member) if issubclass(member, Enum) else class_of(member)
    if not callable(member):
        raise AttributeError(f"{owner!r} has no attribute named '{name}'")
    answer = dialogs.replacement(owner, name)
    if answer is not None:
        return answer

    def method(*arguments):
        return wrap(_called(member, name, arguments))

    method.__name__ = name
    return method


def _called(function, name, arguments):
    values = [unwrap(a) for a in arguments]
    for position, value in enumerate(values):
        if isinstance(value, _FUNCTIONS):
            if name != "singleShot":
                raise TypeError(f"{name}() takes no function of Python; connect the signal to it")
            values[position] = signals.guarded(value)
    try:
        return function(*values)
    except TypeError:
        converted = _with_enumerations(function, values)
        if converted == values:
            raise
        return function(*converted)


def _with_enumerations(function, values):
    """The same arguments, with ints as the enumerations that the first matching signature asks for."""
    described = get_signature(function) or []
    for signature in described if isinstance(described, list) else [described]:
        kinds = [p.annotation for p in signature.parameters.values() if p.name != "self"]
        converted = [
            kind(value) if isinstance(kind, type) and issubclass(kind, Enum) and type(value) is int else value
            for kind, value in zip(kinds, values, strict=False)
        ]
        if len(converted) == len(values) and converted != values:
            return converted
    return values


def _with_overrides(qt_class, name, namespace):
    """A PySide class whose virtual methods call those that a class of Python defines."""
    overrides = {
        key: _forwarding(key, function, qt_class)
        for key, function in namespace.items()
        if isinstance(function, types.FunctionType) and not key.startswith("_") and hasattr(qt_class, key)
    }
    return type(qt_class)(name, (qt_class,), overrides)


def _forwarding(name, function, qt_class):
    def method(self, *arguments):
        instance = getattr(self, "_instance", None)
        if instance is None:  # Qt calls it before __init__ is through
            return getattr(qt_class, name)(self, *arguments)
        try:
            return unwrap(function(instance, *map(wrap, arguments)))
        except BaseException as error:
            faults.record(error)
            return getattr(qt_class, name)(self, *arguments)

    return method


class QtModule(types.ModuleType):
    """The module `qt` (or `ctk`): classes of PySide's modules and of stand-ins, as they are asked for."""

    def __init__(self, name, stand_ins, *, with_qt):
        super().__init__(name, "A stand-in for the module of Slicer")
        self._stand_ins, self._modules = stand_ins, (QtWidgets, QtGui, QtCore) if with_qt else ()

    def __getattr__(self, name):
        if name in self._stand_ins:
            return class_of(self._stand_ins[name])
        if not name.startswith("Q"):
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        for module in self._modules:
            found = getattr(module, name, None)
            if isinstance(found, type):
                return class_of(found)
        raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
