"""What has become of each stage of the plan, from fluence to comparison."""

from slicer.i18n import tr as _

from deeprt_mrml.fluence_stages import Stage, StageState
from deeprt_slicer.tables import mark


class Stages:
    """The states of all stages as they are shown, looked at once each time the panel is shown."""

    def __init__(self, planning):
        self._planning, self._states = planning, {}

    def show(self, _whyFixed):
        """Look at the plan in work."""
        self._states = {stage: self._planning.stage_state(stage) for stage in Stage}

    def isCurrent(self, *stages):
        """Whether the results of all these stages are there, and those of the plan as it is."""
        return all(self._states.get(stage) is StageState.CURRENT for stage in stages)

    def isOutdated(self, *stages):
        """Whether the result of one of these stages is that of a plan before it changed."""
        return any(self._states.get(stage) is StageState.OUTDATED for stage in stages)

    def say(self, label, stage, current):
        """Say on a label whether a result is there and holds, in words and in color.

        Parameters
        ----------
        current : what to say if it holds
        """
        if self.isOutdated(stage):
            mark(label, False, self._whatChanged(stage))
        elif self.isCurrent(stage):
            mark(label, True, current)
        else:
            mark(label, None, _("Not yet."))

    def _whatChanged(self, stage):
        """Why a result is outdated, unless it is for the reason that was said of the one before."""
        stages = tuple(Stage)
        reason, number = self._planning.why_not_current(stage), stages.index(stage)
        isSaid = number > 0 and self._planning.why_not_current(stages[number - 1]) == reason
        return _("Outdated.") if isSaid else reason
