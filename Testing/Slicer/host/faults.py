"""Errors that Qt and VTK would swallow: kept here, so that the test in which they happened fails."""

import sys

from PySide6.QtCore import QtMsgType, qInstallMessageHandler

_faults: list[BaseException] = []


def record(error):
    """Keep an exception that was raised where nobody can catch it; once, however often it is met."""
    if error not in _faults:
        _faults.append(error)


def refuse(message):
    """Raise, and keep, the error of something that Slicer would print and ignore."""
    error = RuntimeError(message)
    record(error)
    raise error


def taken():
    """The errors so far, which are forgotten here."""
    faults = list(_faults)
    _faults.clear()
    return faults


def raise_any():
    """Fail with the errors that were kept."""
    faults = taken()
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise BaseExceptionGroup("errors in slots and callbacks", faults)


_HARMLESS = ("This plugin does not support", "QFont::", "qt.qpa.")


def watch_qt():
    """Keep what Qt complains about, such as a layout that is set twice, as errors."""
    qInstallMessageHandler(_on_message)


def _on_message(kind, context, message):
    if kind in (QtMsgType.QtDebugMsg, QtMsgType.QtInfoMsg) or message.startswith(_HARMLESS):
        return
    record(RuntimeError(f"Qt: {message}"))


def hook(kind, error, traceback):
    """`sys.excepthook` while a host is there: PySide and VTK report exceptions of callbacks to it."""
    record(error if error is not None else kind())
    sys.__excepthook__(kind, error, traceback)
