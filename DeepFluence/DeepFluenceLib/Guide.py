"""What the user would do next."""

from slicer.i18n import tr as _

from deeprt_mrml.fluence_stages import Stage, StageState


def nextStep(panel):
    """What the user would do next with the plan in work, one sentence."""
    session, planning = panel.logic.session, panel.logic.planning
    if session.plan is None:
        return _("Press Try it for the virtual patient, or choose a CT volume and a segmentation.")
    if reason := planning.why_not("all"):
        return reason
    if _isNotCurrent(panel, Stage.FLUENCE):
        return _("Run all steps, or predict the fluence alone.")
    if _isNotCurrent(panel, Stage.SEGMENTS):
        return _("Sequence the fluence, or run all steps.")
    if _isNotCurrent(panel, Stage.DOSE):
        return _("Calculate the dose, or run all steps.")
    if _isNotCurrent(panel, Stage.COMPARISON):
        return _("Compare with the wished dose, or run all steps.")
    return _("Look at the results, then choose a folder and export the plan.")


def whyNotAll(panel):
    """Why there is nothing to run; empty if there is."""
    if reason := panel.logic.planning.why_not("all"):
        return reason
    return "" if any(_isNotCurrent(panel, stage) for stage in Stage) else _("Everything is up to date.")


def _isNotCurrent(panel, stage):
    return panel.states[stage] is not StageState.CURRENT
