"""What the user would do next."""

from slicer.i18n import tr as _

from deeprt_mrml.fluence_stages import Stage, StageState


def nextStep(logic):
    """What the user would do next with the plan in work, one sentence."""
    session, planning = logic.session, logic.planning
    if session.plan is None:
        return _("Press Try it for the virtual patient, or choose a CT volume and a segmentation.")
    if reason := session.why_not_ready() or planning.why_not("all"):
        return reason
    states = {stage: planning.stage_state(stage) for stage in Stage}
    if states[Stage.FLUENCE] is not StageState.CURRENT:
        return _("Run all steps, or predict the fluence alone.")
    if states[Stage.SEGMENTS] is not StageState.CURRENT:
        return _("Sequence the fluence, or run all steps.")
    if states[Stage.DOSE] is not StageState.CURRENT:
        return _("Calculate the dose, or run all steps.")
    if states[Stage.COMPARISON] is not StageState.CURRENT:
        return _("Compare with the wished dose, or run all steps.")
    return _("Look at the results, then choose a folder and export the plan.")


def whyNotAll(logic):
    """Why there is nothing to run; empty if there is."""
    planning = logic.planning
    if reason := planning.why_not("all"):
        return reason
    isDone = all(planning.stage_state(stage) is StageState.CURRENT for stage in Stage)
    return _("Everything is up to date.") if isDone else ""
