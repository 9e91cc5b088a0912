"""What all sections of the panel have in common."""

from slicer.i18n import tr as _

from deeprt_mrml.fluence_stages import Stage, StageState

_GOOD, _BAD = "color: #2e7d4f", "color: #b3541e"  # legible on light and on dark ground


class Section:
    """Binds the controls of one section of the panel; what they show lies in the scene.

    Parameters
    ----------
    ui : widgets of the panel by name
    panel : has the logic, and does what a control asks for
    """

    def __init__(self, ui, panel):
        self.ui, self.panel = ui, panel
        self._isShowing = False
        self._bind()

    @property
    def session(self):
        """The plan in work and its long work."""
        return self.panel.logic.session

    @property
    def planning(self):
        """What makes fluence, segments and doses of the plan in work."""
        return self.panel.logic.planning

    @property
    def plan(self):
        """The plan in work, or None."""
        return self.session.plan

    def refresh(self, whyFixed):
        """Show what the scene holds; controls that change thereby do nothing.

        Parameters
        ----------
        whyFixed : why nothing can be changed, such as that work is under way; empty if it can
        """
        self._isShowing = True
        try:
            self._show(whyFixed)
        finally:
            self._isShowing = False

    def _bind(self):
        """Connect the controls."""
        raise NotImplementedError

    def _show(self, whyFixed):
        """Show what the scene holds."""
        raise NotImplementedError

    def onClick(self, button, action):
        """Do something when a button is clicked."""
        button.connect("clicked()", lambda: self.panel.do(action))

    def onChange(self, control, signal, action):
        """Do something with its new value when the user changes a control."""

        def changed(value):
            if not self._isShowing:
                self.panel.do(lambda: action(value))

        control.connect(signal, changed)

    def configure(self, change):
        """Change settings of the plan in work by a function of its configuration."""
        plan = self.session.current_plan
        plan.config = change(plan.config)

    def showStage(self, label, stage, current):
        """Say on a label whether a result is there and holds, in words and in color.

        Parameters
        ----------
        current : what to say if it holds
        """
        state = self.panel.states[stage]
        if state is StageState.OUTDATED:
            self.warn(label, self._whatChanged(stage))
            return
        isCurrent = state is StageState.CURRENT
        label.setText("✓ " + current if isCurrent else _("Not yet."))
        label.styleSheet = _GOOD if isCurrent else ""

    def warn(self, label, text):
        """Say on a label that something does not hold any more."""
        label.setText("⚠ " + text)
        label.styleSheet = _BAD

    def _whatChanged(self, stage):
        """Why a result is outdated, unless it is for the reason that was said of the one before."""
        stages = tuple(Stage)
        reason, number = self.planning.why_not_current(stage), stages.index(stage)
        isSaid = number > 0 and self.planning.why_not_current(stages[number - 1]) == reason
        return _("Outdated.") if isSaid else reason
