"""What both panels have around their sections: plan, message, next step, long work; and it keeps up with the scene.

It imports nothing that may be missing in Slicer's Python before that is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from deeprt.errors import InputError
from deeprt_slicer import dependencies
from deeprt_slicer.controls import WheelGuard, allow
from deeprt_slicer.message_line import MessageLine

if TYPE_CHECKING:
    from deeprt.config import PlanningConfig
    from deeprt_mrml.plan import Plan
    from deeprt_mrml.session import PlanSession

T = TypeVar("T")
_NEEDS_PACKAGES = ("planSelector", "newPlanButton", "removePlanButton", "tryItButton", "sections", "cancelButton",
                   "logButton")  # fmt: skip


class Section(Protocol):
    """A part of a panel."""

    def show(self, why_fixed: str, /) -> None:
        """Show what the scene holds.

        Parameters
        ----------
        why_fixed : why nothing can be changed, such as that work is under way; empty if it can
        """


@dataclass(frozen=True, eq=False)
class Content:
    """What fills a frame.

    Parameters
    ----------
    sections : in the order in which they are shown
    next_step : what the user would do now, one sentence, and the button for it, None if one is not enough
    on_plan : called after the user opened another plan, or none
    on_stop : called when the scene is closed, and when the panel goes away; watch nothing in the scene any more
    try_it : what *Try it* does; if None, it loads the virtual patient
    """

    session: PlanSession
    sections: Sequence[Section]
    next_step: Callable[[], tuple[str, qt.QPushButton | None]]
    on_plan: Callable[[], None]
    on_stop: Callable[[], None] = lambda: None
    try_it: Callable[[], object] | None = None


class PanelFrame:
    """The panel of a module, but for its sections.

    What is planned lies in the scene, and `show` makes the panel anew from it.

    Parameters
    ----------
    parent : QWidget with a layout, which the panel fills
    ui_file : path of the ``.ui``; it names the controls of the frame as those of both panels
    begin : makes what fills the frame, once all packages are there, and may import them
    """

    def __init__(self, parent: qt.QWidget, ui_file: str, begin: Callable[[PanelFrame], Content]) -> None:
        self._parent, self._begin_content = parent, begin
        self._content: Content | None = None
        self._then: Callable[[], None] | None = None  # what is done once the long work that was started ended well
        self._next_button: qt.QPushButton | None = None
        self._problem = ""  # that the scene holds, in the message line
        self._is_entered = self._is_at_work = self._is_showing = False
        self._plan_in_views: str | None = None
        self._observed: slicer.vtkMRMLNode | None = None
        self._observation = 0
        self.is_changed_elsewhere = False  # whether something else changed the plan since it was shown
        widget = slicer.util.loadUI(ui_file)
        widget.setMRMLScene(slicer.mrmlScene)
        parent.layout().addWidget(widget)
        self.ui: Any = slicer.util.childWidgetVariables(widget)
        self.message = MessageLine(self.ui.messageLabel)
        self._later = qt.QTimer()  # which gathers changes that come together
        self._later.setSingleShot(True)
        self._later.connect("timeout()", self.show)
        self.ui.installButton.connect("clicked()", self._install)
        self.ui.nextButton.connect("clicked()", self._do_next)
        self._show_missing()
        if parent.visible:  # reloaded while it is shown: Slicer does not enter it again
            self.enter()

    def cleanup(self) -> None:
        """Give everything back; for when the module is unloaded or reloaded."""
        self._later.stop()
        if self._content is not None:
            self._observe(None)
            self._watch.stop()
            self._jobs.stop()
            self._content.on_stop()
            self._content.session.work.end()
            self._content = None

    def enter(self) -> None:
        """Show what may have changed while another module was open."""
        self._is_entered = True
        if self._content is None:
            self._show_missing()
        self.show()

    def exit(self) -> None:
        """Show nothing while another module is open."""
        self._is_entered, self._plan_in_views = False, None

    @property
    def is_entered(self) -> bool:
        """Whether the user is in this module."""
        return self._is_entered

    def open(self, plan: Plan) -> None:
        """Go on with a plan, unless work on another one is under way."""
        if self._content is not None:
            session = self._content.session
            self.do(lambda: session.open(plan))

    def do(self, action: Callable[[], object]) -> bool:
        """Do something at the user's wish and show what became of it.

        Nothing is done for controls that change while they are shown.

        Returns
        -------
        Whether it was done
        """
        if self._is_showing:
            return False
        self._is_at_work = True
        try:
            is_done = self.message.attempt(action)
        finally:
            self._is_at_work = False
        self.show()
        return is_done

    def on_click(self, button: qt.QAbstractButton, action: Callable[[], object]) -> None:
        """Do something when a button is clicked."""
        button.connect("clicked()", lambda: self.do(action))

    def on_change(self, control: qt.QWidget, signal: str, action: Callable[[Any], object]) -> None:
        """Do something with its new value when the user changes a control."""
        control.connect(signal, lambda value: self.do(lambda: action(value)))

    def configure(self, change: Callable[[PlanningConfig], PlanningConfig]) -> None:
        """Change settings of the plan in work."""
        if self._content is not None:
            plan = self._content.session.current_plan
            plan.config = change(plan.config)

    def start(self, action: Callable[[], object], *, then: Callable[[], None] | None = None) -> None:
        """Start long work; what comes after it is done if all of it ended well."""
        self._then = then if self.do(action) else None

    def answer(self, question: Callable[[], T]) -> T | None:
        """What is answered while the panel is shown; None, and a message why, if it cannot be."""
        try:
            return question()
        except InputError as error:  # such as settings of a later version
            self._problem = str(error)
            return None

    def show(self) -> None:
        """Show the plan in work as the scene has it."""
        if self._content is None or not self._is_entered or self._is_at_work or self._is_showing:
            return
        self._later.stop()
        self._is_showing = True
        problem_before, self._problem = self._problem, ""
        try:
            self._show_content(self._content)
        finally:
            self._is_showing = False
        self.is_changed_elsewhere = False
        if self._problem:
            self.message.show_error(self._problem)
        elif problem_before:
            self.message.clear()

    def _show_content(self, content: Content) -> None:
        session = content.session
        if session.plan is None and session.plans() and not session.work.is_busy:
            session.open(session.plans()[-1])
        self._observe(None if session.plan is None else session.plan.node)
        self._show_in_views(session)
        why_fixed = ""
        if session.work.is_busy:
            why_fixed = _("{work} is under way; wait for it or cancel it.").format(work=session.work.title)
        self._plan_bar.show()
        for section in content.sections:
            self.answer(lambda s=section: s.show(why_fixed))  # type: ignore[misc]
        self._show_next_step(content, why_fixed)
        self._jobs.watch()

    def _show_in_views(self, session: PlanSession) -> None:
        from deeprt_slicer.views import show_only

        key = "" if session.plan is None else session.plan.key
        if key != self._plan_in_views:
            show_only(session.plan, session.plans())
            self._plan_in_views = key

    def _show_next_step(self, content: Content, why_fixed: str) -> None:
        step, button = ("", None) if why_fixed else self.answer(content.next_step) or ("", None)
        self.ui.nextStepLabel.text = _("Next: {step}").format(step=step) if step else why_fixed
        self._next_button = button
        self.ui.nextButton.setVisible(button is not None)
        if button is not None:
            self.ui.nextButton.text, self.ui.nextButton.toolTip = button.text, button.toolTip

    def _do_next(self) -> None:
        if self._next_button is not None:
            self._next_button.click()

    def _show_missing(self) -> None:
        """Show what is to be installed and nothing else, or begin."""
        missing, ui = dependencies.missing(), self.ui
        why = _("This module needs Python packages that are not installed: {names}.").format(names=", ".join(missing))
        ui.dependenciesFrame.setVisible(bool(missing))
        ui.dependenciesLabel.text = why
        for name in _NEEDS_PACKAGES:
            allow(getattr(ui, name), why if missing else "")
        ui.nextStepLabel.text = _("Next: Install the packages.") if missing else ""
        ui.nextButton.hide()
        if not missing and self._content is None:
            self._begin()

    def _install(self) -> None:
        self.message.attempt(dependencies.offer_installation)
        self._show_missing()
        self.show()

    def _begin(self) -> None:
        """Bind the controls. What they work with is imported here, since it needs the packages."""
        from deeprt_slicer.job_row import JobRow
        from deeprt_slicer.plan_bar import PlanBar
        from deeprt_slicer.scene_watch import SceneWatch

        ui = self.ui
        self._content = self._begin_content(self)
        session = self._content.session
        self._wheel = WheelGuard(ui.sections)
        self._wheel.guard_all(ui)
        self._plan_bar = PlanBar(
            selector=ui.planSelector, new_button=ui.newPlanButton, remove_button=ui.removePlanButton,
            try_button=ui.tryItButton, session=session, message=self.message, on_change=self._plan_changed,
            try_it=self._content.try_it,
        )  # fmt: skip
        self._jobs = JobRow(
            progress_bar=ui.jobProgress, label=ui.jobLabel, cancel_button=ui.cancelButton, log_button=ui.logButton,
            work=session.work, on_end=self._work_ended, on_error=self.message.show_error,
        )  # fmt: skip
        self._watch = SceneWatch(session.scene, on_close=self._scene_closing, on_change=self.show)

    def _plan_changed(self) -> None:
        self.show()
        if self._content is not None:
            self._content.on_plan()

    def _work_ended(self) -> None:
        """Show what long work has left, and go on after the last part of it."""
        self.show()
        if self._content is not None and not self._content.session.work.is_busy:
            then, self._then = self._then, None
            if then is not None and self._content.session.work.has_succeeded:
                then()

    def _scene_closing(self) -> None:
        self._then = None
        self._observe(None)
        if self._content is not None:
            self._content.on_stop()
            self._content.session.scene_was_closed()

    def _observe(self, node: slicer.vtkMRMLNode | None) -> None:
        """Stay in step with the node of the plan, which another module may change."""
        if node is self._observed:
            return
        if self._observed is not None:
            self._observed.RemoveObserver(self._observation)
        self._observed = node
        if node is not None:
            self._observation = node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._plan_modified)

    def _plan_modified(self, _caller: slicer.vtkMRMLNode, _event: str) -> None:
        if not (self._is_at_work or self._is_showing):
            self.is_changed_elsewhere = True
            self._later.start(0)
