"""The panel of DeepBOO: it binds controls to the logic below and computes nothing."""

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from deeprt_slicer import dependencies
from deeprt_slicer.controls import WheelGuard, allow
from deeprt_slicer.message_line import MessageLine


class Panel:
    """Everything that is seen of the module.

    What is planned lies in the scene, and `show` makes the panel anew from it.

    Parameters
    ----------
    parent : QWidget with a layout, which the panel fills
    resourcePath : function that gives the path of a file in the module's ``Resources``
    makeLogic : function that makes the `Logic`; that of the running Slicer if None
    """

    def __init__(self, parent, resourcePath, *, makeLogic=None):
        self.parent, self._resourcePath, self._makeLogic = parent, resourcePath, makeLogic
        self.ui = self.message = self.logic = None
        self.whyNotReady = ""  # why planning cannot begin
        self._then = None  # what is shown once the long work that was started has ended well
        self._nextButton = None  # that does what comes next
        self._problem = ""  # that the scene holds, in the message line
        self._isEntered = True  # a module that is reloaded is not entered again
        self._isAtWork = self._isAwaited = self._isChangedElsewhere = False
        self._observed, self._observation = None, None

    def setup(self):
        """Load the controls, and bind them if the packages they need are there."""
        widget = slicer.util.loadUI(self._resourcePath("UI/DeepBOO.ui"))
        widget.setMRMLScene(slicer.mrmlScene)
        self.parent.layout().addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        self.message = MessageLine(self.ui.messageLabel)
        self.ui.installButton.connect("clicked()", self._install)
        self.ui.nextButton.connect("clicked()", lambda: self._nextButton.click())
        self._showMissing(dependencies.missing())
        self.show()

    def cleanup(self):
        """Give everything back; for when the module is unloaded or reloaded."""
        if self.logic is not None:
            self._observe(None)
            self.watch.stop()
            self.views.stop()
            self.jobs.stop()
            self.logic.session.work.end()
            self.logic = None

    def enter(self):
        """Show what may have changed while another module was open."""
        self._isEntered = True
        if self.logic is None:
            self._showMissing(dependencies.missing())
        self.show()

    def exit(self):
        """Show nothing while another module is open."""
        self._isEntered = False

    def do(self, action):
        """Do something at the user's wish and show what became of it; whether it was done."""
        self._isAtWork = True
        try:
            isDone = self.message.attempt(action)
        finally:
            self._isAtWork = False
        self.show()
        return isDone

    def start(self, action, *, then=None):
        """Start long work; what is to be done once all of it has ended well comes after it."""
        self._then = then if self.do(action) else None
        self.jobs.watch()

    def predictAnew(self):
        """Predict the fitness for other inputs, if it was predicted before."""
        if self.logic.beams.fitness_chart is not None and not self.logic.session.why_not_ready():
            self.beams.showAnew()

    def answer(self, question):
        """What the logic answers while the panel is shown; None, and a message why, if it cannot."""
        from deeprt.errors import InputError

        try:
            return question()
        except InputError as error:
            self._problem = str(error)
            return None

    def whyNot(self, question):
        """Why something cannot be done, as the logic answers; empty if it can."""
        from deeprt.errors import InputError

        try:
            return question()
        except InputError as error:
            return str(error)

    def ownReason(self, reason, whyFixed):
        """The reason, unless it is that of the whole panel, which is said on top."""
        return "" if reason in (whyFixed, self.whyNotReady) else reason

    def show(self):
        """Show the plan in work as the scene has it."""
        if self.logic is None or not self._isEntered or self._isAtWork:
            return
        session = self.logic.session
        if session.plan is None and session.plans() and not session.work.is_busy:
            session.open(session.plans()[-1])
        self._observe(session.plan and session.plan.node)
        self._isAtWork = True
        problemBefore, self._problem = self._problem, ""
        try:
            whyFixed = (
                _("{work} is under way; wait for it or cancel it.").format(work=session.work.title)
                if session.work.is_busy
                else ""
            )
            self.whyNotReady = self.whyNot(session.why_not_ready)
            state = self._state()
            self.planBar.show()
            self.inputs.show(whyFixed)
            self.beams.show(state, whyFixed)
            self.check.show(whyFixed)
            self._showNextStep(whyFixed)
        finally:
            self._isAtWork = False
        if self._problem:
            self.message.show_error(self._problem)
        elif problemBefore:
            self.message.clear()
        self.jobs.watch()

    def _state(self):
        """Beams and fitness, where they were predicted for the plan."""
        if self.logic.session.plan is None or self.whyNotReady or self.logic.beams.fitness_chart is None:
            return None
        if self._isChangedElsewhere:
            self.answer(self.beams.showAnew)
        self._isChangedElsewhere = False
        return self.answer(lambda: self.logic.beams.state)

    def _nextStep(self):
        """What the user would do now, one sentence, and the button for it, if one is enough."""
        session, check, ui = self.logic.session, self.logic.check, self.ui
        if session.plan is None:
            return _("Choose a CT and a segmentation, or try it with a virtual patient."), ui.tryItButton
        if self.whyNotReady:
            return self.whyNotReady, None
        n, wished = len(session.plan.beams), session.plan.config.beams.n_beams
        if n < wished:
            step = _("Propose beam after beam, or complete the set: {n} of {wished} beams.")
            return step.format(n=n, wished=wished), ui.completeButton
        if not check.is_evaluated:
            return _("Evaluate the beams to see dose and DVH."), ui.evaluateButton
        if self.answer(lambda: check.is_outdated):
            return _("Evaluate again, since beams or settings have changed."), ui.evaluateButton
        if not session.plan.reference_beams:
            return _("Compare with column generation, or go on in DeepFluence."), ui.columnGenerationButton
        return _("Go on in DeepFluence, which makes the plan deliverable."), ui.continueButton

    def _showNextStep(self, whyFixed):
        step, self._nextButton = (whyFixed, None) if whyFixed else self._nextStep()
        self.ui.nextStepLabel.setText(step if whyFixed else _("Next: {step}").format(step=step))
        button = self._nextButton
        self.ui.nextButton.setVisible(button is not None)
        if button is not None:
            self.ui.nextButton.setText(button.text)
            self.ui.nextButton.setToolTip(button.toolTip)

    def _showMissing(self, missing):
        """Show what is to be installed and nothing else, or begin."""
        ui, isComplete = self.ui, not missing
        ui.dependenciesFrame.setVisible(not isComplete)
        why = _("DeepBOO needs Python packages that are not installed: {names}.").format(names=", ".join(missing))
        ui.dependenciesLabel.setText(why)
        for control in (ui.planSelector, ui.newPlanButton, ui.removePlanButton, ui.tryItButton, ui.sections,
                        ui.cancelButton, ui.logButton):  # fmt: skip
            allow(control, "" if isComplete else why)
        ui.nextStepLabel.setText("" if isComplete else _("Next: Install the packages."))
        ui.nextButton.setVisible(isComplete)
        if isComplete and self.logic is None:
            self._begin()

    def _install(self):
        def install():
            dependencies.offer_installation()

        self.message.attempt(install)
        self._showMissing(dependencies.missing())
        self.show()

    def _begin(self):
        """Bind the controls. What they work with is imported here, since it needs the packages."""
        from deeprt_slicer.job_row import JobRow
        from deeprt_slicer.plan_bar import PlanBar
        from deeprt_slicer.scene_watch import SceneWatch

        from .Beams import BeamsSection
        from .Check import CheckSection
        from .Inputs import InputsSection
        from .Logic import newLogic
        from .Views import Views

        ui = self.ui
        self.logic = (self._makeLogic or newLogic)()
        self._wheel = WheelGuard(ui.sections)
        for control in (ui.ctSelector, ui.segmentationSelector, ui.doseSelector, ui.machineCombo, ui.protocolCombo,
                        ui.fractionsSpin, ui.nBeamsSpin, ui.candidatesCombo, ui.separationSpin, ui.peaksCombo,
                        ui.chartCombo, ui.gantrySpin, ui.couchSpin, ui.improveSpin):  # fmt: skip
            self._wheel.guard(control)
        session = self.logic.session
        self.views = Views(onPeak=lambda n: self.beams.addPeak(n), onPoint=lambda s, n: self.beams.addPoint(s, n))
        self.planBar = PlanBar(
            selector=ui.planSelector, new_button=ui.newPlanButton, remove_button=ui.removePlanButton,
            try_button=ui.tryItButton, session=session, message=self.message, on_change=self._planChanged,
        )  # fmt: skip
        self.inputs, self.beams, self.check = InputsSection(ui, self), BeamsSection(ui, self), CheckSection(ui, self)
        self.jobs = JobRow(
            progress_bar=ui.jobProgress, label=ui.jobLabel, cancel_button=ui.cancelButton, log_button=ui.logButton,
            work=session.work, on_end=self._workEnded, on_error=self._workFailed,
        )  # fmt: skip
        self.watch = SceneWatch(session.scene, on_close=self._sceneClosing, on_change=self.show)

    def _planChanged(self):
        """Show another plan, or none, in panel and views."""
        self.show()
        session = self.logic.session
        self.views.showPlan(session.plan, session.plans())
        if session.plan is not None and session.plan.ct_node is not None:
            self.views.showDose(session.plan.ct_node, self.logic.check.dose_node, fit=True)

    def _workEnded(self):
        """Show what long work has left, in the panel and, after the last part of it, in the views."""
        self.show()
        if not self.logic.session.work.is_busy:
            then, self._then = self._then, None
            if then is not None and not self.logic.session.work.was_cancelled:
                then()

    def _workFailed(self, reason):
        self._then = None
        self.message.show_error(reason)

    def _sceneClosing(self):
        self._observe(None)
        self.views.watchPeaks(None)
        self.logic.session.scene_was_closed()

    def _observe(self, node):
        """Stay in step with the node of the plan, which another module may change."""
        if node is self._observed:
            return
        if self._observed is not None:
            self._observed.RemoveObserver(self._observation)
        self._observed = node
        if node is not None:
            self._observation = node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._planModified)

    def _planModified(self, _caller, _event):
        """Show the plan a moment later, once for all changes that come together."""
        if self._isAtWork:
            return
        self._isChangedElsewhere = True
        if not self._isAwaited:
            self._isAwaited = True
            qt.QTimer.singleShot(0, self._showAwaited)

    def _showAwaited(self):
        self._isAwaited = False
        self.show()
