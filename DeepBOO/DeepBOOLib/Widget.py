"""The panel of DeepBOO: it binds controls to the logic below and computes nothing."""

from slicer.i18n import tr as _

from deeprt_slicer.panel_frame import PanelFrame


class Panel:
    """Everything that is seen of the module: sections in a frame that both modules have.

    Parameters
    ----------
    parent : QWidget with a layout, which the panel fills
    resourcePath : function that gives the path of a file in the module's ``Resources``
    """

    def __init__(self, parent, resourcePath):
        self.logic = None  # there is none while packages are missing
        self.frame = PanelFrame(parent, resourcePath("UI/DeepBOO.ui"), self._begin)

    def _begin(self, frame):
        """Fill the frame. What the sections work with is imported here, since it needs the packages."""
        from deeprt_slicer.panel_frame import Content
        from deeprt_slicer.views import ChartView

        from .Beams import BeamsSection
        from .Check import CheckSection
        from .Inputs import InputsSection
        from .Logic import newLogic

        self._frame, self.logic = frame, newLogic()
        chart = ChartView()
        self.beams = BeamsSection(frame, self.logic, chart)
        self.inputs = InputsSection(frame, self.logic, predictAnew=self.beams.predictAnew)
        self.check = CheckSection(frame, self.logic, self.beams)
        return Content(
            self.logic.session,
            (self.inputs, self.beams, self.check),
            next_step=self._nextStep,
            on_plan=self.check.showPlan,
            on_stop=self.beams.clicks.stop,
        )

    def _nextStep(self):
        """What the user would do now, one sentence, and the button for it, if one is enough."""
        session, check, ui = self.logic.session, self.logic.check, self._frame.ui
        if session.plan is None:
            return _("Choose a CT and a segmentation, or try it with a virtual patient."), ui.tryItButton
        if reason := session.why_not_ready():
            return reason, None
        n, wished = len(session.plan.beams), session.plan.config.beams.n_beams
        if n < wished:
            step = _("Propose beam after beam, or complete the set: {n} of {wished} beams.")
            return step.format(n=n, wished=wished), ui.completeButton
        if not check.is_evaluated:
            return _("Evaluate the beams to see dose and DVH."), ui.evaluateButton
        if check.is_outdated:
            return _("Evaluate again, since beams or settings have changed."), ui.evaluateButton
        if not session.plan.reference_beams:
            return _("Compare with column generation, or go on in DeepFluence."), ui.columnGenerationButton
        return _("Go on in DeepFluence, which makes the plan deliverable."), ui.continueButton
