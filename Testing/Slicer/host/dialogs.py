"""Dialogs that would block: they are recorded and answered by the test; one without an answer is an error."""

from dataclasses import dataclass

from PySide6 import QtGui, QtWidgets

from . import faults

_FILE = {"getOpenFileName", "getOpenFileNames", "getSaveFileName", "getExistingDirectory"}
_INPUT = {"getText", "getItem", "getInt", "getDouble", "getMultiLineText"}
_MESSAGE = {"question", "information", "warning", "critical", "about"}
_STATIC = {
    QtWidgets.QFileDialog: _FILE,
    QtWidgets.QInputDialog: _INPUT,
    QtWidgets.QMessageBox: _MESSAGE,
    QtWidgets.QColorDialog: {"getColor"},
}
_ROLE = QtWidgets.QMessageBox.ButtonRole
_AGREE = (_ROLE.AcceptRole, _ROLE.YesRole, _ROLE.ApplyRole)
_DECLINE = (_ROLE.RejectRole, _ROLE.NoRole, _ROLE.DestructiveRole)


@dataclass(frozen=True)
class Dialog:
    """A dialog that was opened: what kind, its title and its text."""

    kind: str
    title: str
    text: str


shown: list[Dialog] = []
_answers: list[object] = []


def answer(value):
    """The answer to the next dialog: see `Host.answer`."""
    _answers.append(value)


def n_unused():
    """How many answers wait for a dialog."""
    return len(_answers)


def reset():
    """Forget dialogs and answers."""
    shown.clear()
    _answers.clear()


def replacement(owner, name):
    """The function that stands for one that would block, or None."""
    kind = getattr(owner, "_qt_class", None) or type(owner)._qt_class
    for dialog, names in _STATIC.items():
        if name in names and issubclass(kind, dialog):
            return lambda *arguments: asked(dialog, name, arguments)
    if isinstance(owner, type):
        return None
    if name in ("exec", "exec_") and issubclass(kind, QtWidgets.QDialog | QtWidgets.QMenu):
        return lambda *_: _run(owner)
    return None


def asked(kind, name, arguments):
    """What the test answers to one of the dialogs that are a static function."""
    texts = [a for a in arguments if isinstance(a, str)]
    value = _next(Dialog(f"{kind.__name__}.{name}", texts[0] if texts else "", " | ".join(texts[1:])))
    if kind.__name__ == "QMessageBox":
        box = QtWidgets.QMessageBox()
        offered = [a for a in arguments if isinstance(a, int)]
        yes_no = QtWidgets.QMessageBox.StandardButton.Yes | QtWidgets.QMessageBox.StandardButton.No
        usual = yes_no if name == "question" else QtWidgets.QMessageBox.StandardButton.Ok
        box.setStandardButtons(QtWidgets.QMessageBox.StandardButton(int(offered[0])) if offered else usual)
        return _pressed(box, value)
    if name == "getOpenFileNames":
        return tuple(map(str, value or ()))
    if name == "getColor":
        return _wrapped(QtGui.QColor(value) if value else QtGui.QColor())
    return str(value or "") if name in _FILE or isinstance(value, str | None) else value


def _run(dialog):
    """Answer `exec_` of a dialog or menu: a function is called with the dialog and gives the answer."""
    qt_dialog = dialog._qt
    text = qt_dialog.text() if hasattr(qt_dialog, "text") else ""
    value = _next(Dialog(type(dialog).__name__, qt_dialog.windowTitle(), text))
    QtWidgets.QApplication.processEvents()  # as events go on while a dialog is open
    if callable(value):
        value = value(dialog)
    if isinstance(qt_dialog, QtWidgets.QMenu):
        actions = [a for a in qt_dialog.actions() if a.text() == value]
        if value and not actions:
            faults.refuse(f"The menu has no action '{value}', but {[a.text() for a in qt_dialog.actions()]}")
        for action in actions:
            action.trigger()
        return _wrapped(actions[0]) if actions else None
    if isinstance(qt_dialog, QtWidgets.QMessageBox):
        return _pressed(qt_dialog, value)
    (qt_dialog.accept if value else qt_dialog.reject)()
    return qt_dialog.result()


def _pressed(box, value):
    """Press the button of a message box that has this text or number, or that agrees or declines."""
    button_of = QtWidgets.QMessageBox.StandardButton
    roles = _AGREE if value else _DECLINE
    for button in box.buttons() or [box.addButton(button_of.Ok)]:
        number = box.standardButton(button).value
        only = len(box.buttons()) == 1
        wanted = {
            bool: only or box.buttonRole(button) in roles,
            str: button.text().replace("&", "") == value,
        }
        if wanted.get(type(value), number == value):
            button.click()
            return number or box.result()
    faults.refuse(f"The message box '{box.text()}' has no button for {value!r}")


def _next(dialog):
    shown.append(dialog)
    if not _answers:
        faults.refuse(f"A dialog opened that the test does not answer: {dialog}")
    return _answers.pop(0)


def _wrapped(value):
    from .pythonqt import wrap

    return wrap(value)
