"""What the panel works with. Nothing here knows of it, so that a test can put something else in its place."""

from dataclasses import dataclass

from deeprt_mrml.fluence_planning import FluencePlanning
from deeprt_mrml.session import PlanSession
from deeprt_slicer.panel_session import new_session


@dataclass(frozen=True, eq=False)
class Logic:
    """Plan in work, and what makes its fluence, segments and doses."""

    session: PlanSession
    planning: FluencePlanning


def newLogic():
    """Make the logic of a panel in the running Slicer."""
    session = new_session("DeepFluence")
    return Logic(session, FluencePlanning(session))
