"""Section *Delivery*: segments that the machine delivers, their dose, and how it compares with the wished one."""

from dataclasses import replace

from slicer.i18n import tr as _

from deeprt.evaluation.normalization import Normalization
from deeprt_mrml.fluence_stages import Stage
from deeprt_slicer.controls import allow, set_value
from deeprt_slicer.tables import fill, number

_TECHNIQUES = ("step-and-shoot", "sliding-window")  # in the order of the combo box
_AUTOMATIC, _WISHED_MEAN, _COVERAGE = range(3)  # of the rules, in the order of the combo box


class DeliverySection:
    """Technique, normalization, the three steps or all at once, and the monitor units of each beam.

    Parameters
    ----------
    showResults : called after the dose was calculated or compared
    """

    def __init__(self, frame, logic, stages, *, showResults):
        self._frame, self._stages = frame, stages
        self._session, self._planning = logic.session, logic.planning
        ui, planning, then = frame.ui, logic.planning, showResults
        self._ui = ui
        frame.on_change(ui.techniqueCombo, "activated(int)", self._takeTechnique)
        for control, signal in (
            (ui.normalizationCombo, "activated(int)"),
            (ui.volumeSpin, "valueChanged(double)"),
            (ui.doseSpin, "valueChanged(double)"),
        ):
            frame.on_change(control, signal, lambda _value: self._takeNormalization())
        ui.sequenceButton.connect("clicked()", lambda: frame.start(planning.start_sequencing))
        ui.doseButton.connect("clicked()", lambda: frame.start(planning.start_dose, then=then))
        ui.compareButton.connect("clicked()", lambda: frame.start(planning.start_comparison, then=then))

        ui.runAllButton.connect("clicked()", lambda: frame.start(planning.start_all, then=then))

    def nextStep(self):
        """What the user would do next with the plan in work, one sentence, and the button for it if one is enough."""
        ui, isCurrent = self._ui, self._stages.isCurrent
        if self._session.plan is None:
            return _("Choose a CT and a segmentation, or try it with a virtual patient."), ui.tryItButton
        if reason := self._planning.why_not("all"):
            return reason, None
        if not isCurrent(Stage.FLUENCE):
            return _("Run all steps, or predict the fluence alone."), ui.runAllButton
        if not isCurrent(Stage.SEGMENTS):
            return _("Run all steps, or sequence the fluence."), ui.runAllButton
        if not isCurrent(Stage.DOSE):
            return _("Run all steps, or calculate the dose."), ui.runAllButton
        if not isCurrent(Stage.COMPARISON):
            return _("Compare with the wished dose."), ui.compareButton
        return _("Look at the results, then choose a folder and export the plan."), None

    def show(self, whyFixed):
        """Show how the plan in work is delivered, and what can be started."""
        ui, plan = self._ui, self._session.plan
        why = whyFixed or ("" if plan else _("There is no plan yet."))
        for control in (ui.techniqueCombo, ui.normalizationCombo):
            allow(control, why)
        ui.techniqueCombo.setCurrentIndex(_TECHNIQUES.index(plan.config.sequencing.technique) if plan else 0)
        rule = plan and plan.config.normalization
        ui.normalizationCombo.setCurrentIndex(_indexOf(rule))
        if rule:
            set_value(ui.volumeSpin, rule.volume_percent)
            set_value(ui.doseSpin, rule.dose_percent)
        isOther = "" if _indexOf(rule) == _COVERAGE else _("Choose the coverage of the target above to set it.")
        allow(ui.volumeSpin, why or isOther)
        allow(ui.doseSpin, why or isOther)
        self._showSteps(whyFixed)
        fill(ui.monitorUnitsTable, [_("Beam"), _("Gantry (°)"), _("MU per fraction"), _("Segments")], self._rows())

    def _showSteps(self, whyFixed):
        """Buttons of the steps, and what became of them."""
        ui = self._ui
        for button, action in ((ui.sequenceButton, "sequence"), (ui.doseButton, "dose"), (ui.compareButton, "compare")):
            allow(button, whyFixed or self._planning.why_not(action))
        upToDate = _("Everything is up to date.") if self._stages.isCurrent(*Stage) else ""
        allow(ui.runAllButton, whyFixed or self._planning.why_not("all") or upToDate)
        self._stages.say(ui.segmentsStateLabel, Stage.SEGMENTS, _("Segments of this fluence."))
        self._stages.say(ui.doseStateLabel, Stage.DOSE, _("Dose of these segments."))
        self._stages.say(ui.comparisonStateLabel, Stage.COMPARISON, _("Compared with the wished dose."))

    def _rows(self):
        """Beams with their monitor units and segments, and the sum of all."""
        delivered = self._planning.segments() if self._session.plan else None
        if delivered is None:
            return []
        rows = []
        for n, beam in enumerate(delivered.beams):
            gantry, mu, segments = beam.angles.gantry_deg, delivered.beam_mu(n), delivered.segments_of(n)
            rows.append([beam.name, number(gantry), number(mu), str(len(segments))])
        return [*rows, [_("All"), "", number(delivered.total_mu), str(len(delivered.segments))]]

    def _takeTechnique(self, index):
        technique = _TECHNIQUES[index]
        self._frame.configure(lambda c: replace(c, sequencing=replace(c.sequencing, technique=technique)))

    def _takeNormalization(self):
        ui = self._ui
        name = (None, "wished-mean", "coverage")[ui.normalizationCombo.currentIndex]
        rule = name and Normalization(ui.volumeSpin.value, ui.doseSpin.value, name)
        self._frame.configure(lambda c: replace(c, normalization=rule))


def _indexOf(rule):
    """Place of a rule in the combo box."""
    return _AUTOMATIC if rule is None else _WISHED_MEAN if rule.rule == "wished-mean" else _COVERAGE
