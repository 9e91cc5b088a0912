"""What the panel works with. Nothing here knows of it, so that a test can put something else in its place."""

from dataclasses import dataclass

from deeprt_mrml.beam_check import BeamCheck
from deeprt_mrml.beam_planning import BeamPlanning
from deeprt_mrml.session import PlanSession
from deeprt_slicer.panel_session import new_session


@dataclass(frozen=True, eq=False)
class Logic:
    """Plan in work, its beams, and the long work that checks them."""

    session: PlanSession
    beams: BeamPlanning
    check: BeamCheck


def newLogic():
    """Make the logic of a panel in the running Slicer."""
    session = new_session("DeepBOO")
    beams = BeamPlanning(session)
    return Logic(session, beams, BeamCheck(session, beams))
