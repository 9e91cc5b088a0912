"""Single controls: why they are disabled, which node is chosen, and what the mouse wheel does to them."""

from __future__ import annotations

from collections.abc import Callable

import qt
import slicer
from slicer.i18n import tr as _

from deeprt.errors import InputError

_WITH_VALUES = ("QAbstractSpinBox", "QComboBox", "ctkSliderWidget", "qMRMLNodeComboBox")


def allow(control: qt.QWidget, why_not: str = "") -> None:
    """Enable a control, or disable it and say in its tooltip why.

    What the tooltip says of an enabled control is kept as the control's *What's this*.

    Parameters
    ----------
    why_not : one sentence; empty if it can be used
    """
    if not control.whatsThis:
        control.whatsThis = control.toolTip
    control.enabled = not why_not
    control.toolTip = "\n".join(filter(None, (control.whatsThis, why_not)))


def reason_why_not(question: Callable[[], str]) -> str:
    """Why something cannot be done, as is answered or as the error says that comes instead; empty if it can."""
    try:
        return question()
    except InputError as error:
        return str(error)


def work_is_under_way() -> str:
    """Why nothing can be edited while a job runs."""
    return str(_("Work is under way; wait for it or cancel it first."))


def set_value(control: qt.QWidget, value: float) -> None:
    """Show a number in a spin box or slider without a signal; what is being typed stays if it is the same number."""
    if control.value != value:
        is_blocked = control.blockSignals(True)
        control.value = value
        control.blockSignals(is_blocked)


def bind_node_selector(
    selector: slicer.qMRMLNodeComboBox, on_choice: Callable[[slicer.vtkMRMLNode | None], None]
) -> Callable[[slicer.vtkMRMLNode | None], None]:
    """Call a function when the user chooses a node, or none.

    It is not called when a node is removed, for which the selector shows another one that nobody chose, nor when the
    scene is closed: have `deeprt_slicer.scene_watch.SceneWatch` say so, and show what is chosen then.

    Returns
    -------
    Function that shows a node, or none
    """
    selector.noneEnabled = True
    selector.connect("nodeActivated(vtkMRMLNode*)", on_choice)
    return selector.setCurrentNode  # type: ignore[no-any-return]


class WheelGuard(qt.QObject):  # type: ignore[misc]  # of which mypy knows nothing
    """Keeps the mouse wheel from changing values while a panel is scrolled: only a control that was clicked takes it.

    Parameters
    ----------
    parent : that it goes with; keep a reference to it besides
    """

    def guard_all(self, ui: object) -> None:
        """Guard all controls of a panel that have a value.

        Parameters
        ----------
        ui : has the widgets as attributes, as `slicer.util.childWidgetVariables` makes it
        """
        for control in vars(ui).values():
            if any(control.inherits(kind) for kind in _WITH_VALUES):
                self.guard(control)

    def guard(self, control: qt.QWidget) -> None:
        """Guard a control with all it is made of."""
        if control.focusPolicy == qt.Qt.WheelFocus:
            control.focusPolicy = qt.Qt.StrongFocus
        control.installEventFilter(self)
        for part in control.children():
            if part.inherits("QWidget"):
                self.guard(part)

    def eventFilter(self, control: qt.QObject, event: qt.QEvent) -> bool:
        """Leave the wheel to what the control lies on."""
        if event.type() != qt.QEvent.Wheel or control.focus:
            return False
        event.ignore()
        return True
