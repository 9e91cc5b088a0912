"""The panel of DeepFluence: it binds controls to the logic below and computes nothing."""

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from deeprt_slicer import dependencies
from deeprt_slicer.message_line import MessageLine


class Panel:
    """Everything that is seen of the module.

    What is planned lies in the scene, and `show` makes the panel anew from it.

    Parameters
    ----------
    parent : QWidget with a layout, which the panel fills
    resourcePath : function that gives the path of a file in the module's ``Resources``
    """

    def __init__(self, parent, resourcePath):
        self.parent, self._resourcePath = parent, resourcePath
        self.ui = self.message = self.logic = None
        self.states = {}  # what has become of each stage of the plan
        self._then = None  # what is done once the long work that was started has ended well
        self._isEntered = self._isAtWork = self._hadProblem = False
        self._observed, self._observation = None, None

    def setup(self):
        """Load the controls, and bind them if the packages they need are there."""
        widget = slicer.util.loadUI(self._resourcePath("UI/DeepFluence.ui"))
        widget.setMRMLScene(slicer.mrmlScene)
        self.parent.layout().addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        self.message = MessageLine(self.ui.messageLabel)
        self._later = qt.QTimer()  # which gathers changes that come together
        self._later.setSingleShot(True)
        self._later.connect("timeout()", self.show)
        self.ui.installButton.connect("clicked()", self._install)
        self._showMissing(dependencies.missing())
        if self.parent.visible:  # reloaded while it is shown: Slicer does not enter it again
            self.enter()

    def cleanup(self):
        """Give everything back; for when the module is unloaded or reloaded."""
        self._later.stop()
        if self.logic is not None:
            self._observe(None)
            self.watch.stop()
            self.jobs.stop()
            self.logic.session.work.end()
            self.logic = None

    def enter(self):
        """Show what may have changed while another module was open."""
        self._isEntered = True
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
        """Start long work; ``then`` is called when all of it has ended and was not cancelled."""
        self._then = then if self.do(action) else None

    def showResults(self):
        """Show doses and their numbers, after they were made; not over what another module shows."""
        if self._isEntered:
            self._results.showNew()

    def show(self):
        """Show the plan in work as the scene has it."""
        if self.logic is None or not self._isEntered or self._isAtWork:
            return
        self._later.stop()
        session = self.logic.session
        if session.plan is None and session.plans() and not session.work.is_busy:
            session.open(session.plans()[-1])
        self._observe(session.plan and session.plan.node)
        self._isAtWork = True
        try:
            self.planBar.show()
            busy = _("{work} is under way; wait for it or cancel it.").format(work=session.work.title)
            self._showSections(busy if session.work.is_busy else "")
        finally:
            self._isAtWork = False
        self.jobs.watch()

    def _showSections(self, whyFixed):
        from deeprt.errors import InputError
        from deeprt_mrml.fluence_stages import Stage
        from deeprt_slicer.controls import allow

        from .Guide import nextStep, whyNotAll

        planning = self.logic.planning
        try:
            self.states = {stage: planning.stage_state(stage) for stage in Stage}
            for section in self._sections:
                section.refresh(whyFixed)
            allow(self.ui.runAllButton, whyFixed or whyNotAll(self))
            text, problem = whyFixed or _("Next: {step}").format(step=nextStep(self)), ""
        except InputError as error:  # such as settings of a later version
            text, problem = "", str(error)
        if problem:
            self.message.show_error(problem)
        elif self._hadProblem:
            self.message.clear()
        self._hadProblem = bool(problem)
        self.ui.nextStepLabel.setText(text)

    def _showMissing(self, missing):
        """Show what is to be installed and nothing else, or begin."""
        ui, isComplete = self.ui, not missing
        why = _("DeepFluence needs Python packages that are not installed: {names}.").format(names=", ".join(missing))
        ui.dependenciesFrame.setVisible(not isComplete)
        ui.dependenciesLabel.setText(why)
        for control in (ui.planSelector, ui.newPlanButton, ui.removePlanButton, ui.tryItButton, ui.runAllButton,
                        ui.sections, ui.cancelButton, ui.logButton):  # fmt: skip
            control.setEnabled(isComplete)
        ui.nextStepLabel.setText("" if isComplete else _("Next: Install the packages."))
        if isComplete and self.logic is None:
            self._begin()

    def _install(self):
        self.message.attempt(dependencies.offer_installation)
        self._showMissing(dependencies.missing())
        self.show()

    def _begin(self):
        """Bind the controls. What they work with is imported here, since it needs the packages."""
        from deeprt_slicer.controls import WheelGuard
        from deeprt_slicer.job_row import JobRow
        from deeprt_slicer.plan_bar import PlanBar
        from deeprt_slicer.scene_watch import SceneWatch

        from .Beams import BeamsSection
        from .Delivery import DeliverySection
        from .Export import ExportSection
        from .Fluence import FluenceSection
        from .Inputs import InputsSection
        from .Logic import newLogic
        from .Results import ResultsSection

        ui = self.ui
        self.logic = newLogic()
        session, self._wheel = self.logic.session, WheelGuard(ui.sections)
        for control in (ui.ctSelector, ui.segmentationSelector, ui.wishCombo, ui.doseSelector, ui.machineCombo,
                        ui.fractionsSpin, ui.gantrySpin, ui.couchSpin, ui.equispacedSpin, ui.firstGantrySpin,
                        ui.collimatorSpin, ui.refinementsSpin, ui.techniqueCombo, ui.normalizationCombo, ui.volumeSpin,
                        ui.doseSpin, ui.shownDoseCombo, ui.opacitySlider):  # fmt: skip
            self._wheel.guard(control)
        self.planBar = PlanBar(
            selector=ui.planSelector, new_button=ui.newPlanButton, remove_button=ui.removePlanButton,
            try_button=ui.tryItButton, session=session, message=self.message, on_change=self._planChanged,
        )  # fmt: skip
        kinds = (InputsSection, BeamsSection, FluenceSection, DeliverySection, ResultsSection, ExportSection)
        self._sections = [kind(ui, self) for kind in kinds]
        self._results = self._sections[4]
        start = self.logic.planning.start_all
        ui.runAllButton.connect("clicked()", lambda: self.start(start, then=self.showResults))
        self.jobs = JobRow(
            progress_bar=ui.jobProgress, label=ui.jobLabel, cancel_button=ui.cancelButton, log_button=ui.logButton,
            work=session.work, on_end=self._workEnded, on_error=self._workFailed,
        )  # fmt: skip
        self.watch = SceneWatch(session.scene, on_close=self._sceneClosing, on_change=self.show)

    def _planChanged(self):
        plan = self.logic.session.plan
        if plan is not None and plan.ct_node is not None:
            slicer.util.setSliceViewerLayers(background=plan.ct_node, fit=True)
        self.show()

    def _workEnded(self):
        """Show what long work has left, and go on after the last part of it."""
        self.show()
        if not self.logic.session.work.is_busy:
            then, self._then = self._then, None
            if then is not None and not self.logic.session.work.was_cancelled:
                then()

    def _workFailed(self, reason):
        self._then = None
        self.message.show_error(reason)

    def _sceneClosing(self):
        self._then = None
        self._observe(None)
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
        if not self._isAtWork:
            self._later.start(0)
