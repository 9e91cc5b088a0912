"""The top of a panel: which plan is in work."""

from __future__ import annotations

from collections.abc import Callable

import qt
import slicer
from slicer.i18n import tr as _

from deeprt_mrml.plan import MODULE, NODE_CLASS, Plan
from deeprt_mrml.session import PlanSession
from deeprt_slicer.controls import allow, bind_node_selector, work_is_under_way
from deeprt_slicer.message_line import MessageLine


class PlanBar:
    """Chooses, makes and removes plans of a session; they are renamed in the selector.

    Parameters
    ----------
    selector : qMRMLNodeComboBox; what it offers is set here
    new_button, remove_button, try_button : QPushButtons *New*, *Remove* and *Try it*
    message : says why something cannot be done
    on_change : called when another plan, or none, is in work
    try_it : what *Try it* does; if None, it loads the virtual patient
    """

    def __init__(
        self,
        *,
        selector: slicer.qMRMLNodeComboBox,
        new_button: qt.QPushButton,
        remove_button: qt.QPushButton,
        try_button: qt.QPushButton,
        session: PlanSession,
        message: MessageLine,
        on_change: Callable[[], None],
        try_it: Callable[[], object] | None = None,
    ) -> None:
        self._selector, self._buttons = selector, (new_button, try_button)
        self._remove_button = remove_button
        self._session, self._message, self._on_change = session, message, on_change
        self._try_it = try_it or session.load_virtual_patient
        selector.nodeTypes = [NODE_CLASS]
        selector.addAttribute(NODE_CLASS, "ModuleName", MODULE)
        selector.setNodeTypeLabel(_("plan"), NODE_CLASS)
        selector.showHidden = True  # as nodes of this class are
        selector.noneDisplay = _("No plan")
        selector.addEnabled = selector.removeEnabled = False
        selector.renameEnabled = True
        selector.setMRMLScene(session.scene)
        self._show_node = bind_node_selector(selector, self._open)
        new_button.connect("clicked()", self._new)
        remove_button.connect("clicked()", self._remove)
        try_button.connect("clicked()", lambda: self._do(self._try_it))
        self.show()

    def show(self) -> None:
        """Show the plan in work, and what can be done: nothing while work is under way."""
        session, plan = self._session, self._session.plan
        why_not = work_is_under_way() if session.work.is_busy else ""
        self._show_node(None if plan is None else plan.node)
        for control in (self._selector, *self._buttons):
            allow(control, why_not)
        allow(self._remove_button, _("There is no plan to remove.") if plan is None else why_not)

    def _open(self, node: slicer.vtkMRMLNode | None) -> None:
        self._do(lambda: self._session.open(None if node is None else Plan(node)))

    def _new(self) -> None:
        self._do(self._session.new_plan)

    def _remove(self) -> None:
        plan = self._session.plan
        if plan is None:
            return
        question = _("Remove plan '{name}' with its beams, doses and charts? The CT and the structures stay.")
        if slicer.util.confirmOkCancelDisplay(question.format(name=plan.name), _("Remove plan")):
            self._do(self._remove_and_go_on)

    def _remove_and_go_on(self) -> None:
        self._session.remove_plan()
        left = self._session.plans()
        self._session.open(left[-1] if left else None)

    def _do(self, action: Callable[[], object]) -> None:
        self._message.attempt(action)
        self.show()
        self._on_change()
