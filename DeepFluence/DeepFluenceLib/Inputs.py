"""Section *Inputs*: what the plan is made for, and which dose its fluence is to give."""

from slicer.i18n import tr as _

from deeprt_mrml.beam_check import OWN
from deeprt_mrml.fluence_results import dose_of
from deeprt_mrml.subject_hierarchy import key_of
from deeprt_mrml.volumes import DOSE_VOLUME
from deeprt_slicer.controls import allow
from deeprt_slicer.plan_inputs import PlanInputs

_WISHES = ("given", "optimize", "predict")  # in the order of the combo box
_VOLUME = "vtkMRMLScalarVolumeNode"


class InputsSection:
    """Inputs of the plan, and the dose that is wished."""

    def __init__(self, frame, logic):
        self._ui, self._session, self._planning = frame.ui, logic.session, logic.planning
        self._inputs = PlanInputs(frame, logic.session)
        frame.on_change(frame.ui.wishCombo, "activated(int)", self._wish)

    def show(self, whyFixed):
        """Show the inputs of the plan in work; they cannot be changed for a reason, if there is one."""
        plan = self._session.plan
        wish = self._planning.wish if plan else "optimize"
        made = "" if wish == "given" else _("The wished dose is made; choose Dose volume above to give one.")
        self._inputs.show(whyFixed, why_no_dose=made)
        allow(self._ui.wishCombo, self._inputs.why_not(whyFixed))
        self._ui.wishCombo.setCurrentIndex(_WISHES.index(wish))

    def _wish(self, index):
        self._planning.set_wish(_WISHES[index])
        plan = self._session.plan
        if _WISHES[index] == "given" and plan.wished_dose_node is None:
            plan.wished_dose_node = self._loadedDose() or dose_of(plan, f"Dose, {OWN}")  # as DeepBOO calls its own

    def _loadedDose(self):
        """The first dose volume that is none of the plan's own, such as an RTDOSE that was loaded; None without one."""
        scene, key = self._session.scene, self._session.plan.key
        volumes = (scene.GetNthNodeByClass(n, _VOLUME) for n in range(scene.GetNumberOfNodesByClass(_VOLUME)))
        return next((v for v in volumes if v.GetAttribute(DOSE_VOLUME) and key_of(v) != key), None)
