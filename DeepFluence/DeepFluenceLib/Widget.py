"""The panel of DeepFluence: it binds controls to the logic below and computes nothing."""

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
        self.frame = PanelFrame(parent, resourcePath("UI/DeepFluence.ui"), self._begin)

    def _begin(self, frame):
        """Fill the frame. What the sections work with is imported here, since it needs the packages."""
        from deeprt_slicer.panel_frame import Content

        from .Beams import BeamsSection
        from .Delivery import DeliverySection
        from .Export import ExportSection
        from .Fluence import FluenceSection
        from .Inputs import InputsSection
        from .Logic import newLogic
        from .Results import ResultsSection
        from .Stages import Stages

        self.logic = logic = newLogic()
        stages = Stages(logic.planning)  # looked at first, since the sections say what has become of them
        beams = BeamsSection(frame, logic, stages)
        results = ResultsSection(frame, logic, stages)
        delivery = DeliverySection(frame, logic, stages, showResults=results.showNew)
        sections = (
            stages,
            InputsSection(frame, logic),
            beams,
            FluenceSection(frame, logic, stages),
            delivery,
            results,
            ExportSection(frame, logic),
        )
        return Content(
            logic.session, sections, next_step=delivery.nextStep, on_plan=results.showPlan, try_it=beams.tryIt
        )
