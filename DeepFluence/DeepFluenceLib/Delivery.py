"""Section *Delivery*: segments that the machine delivers, their dose, and how it compares with the wished one."""

from dataclasses import replace

from slicer.i18n import tr as _

from deeprt.evaluation.normalization import Normalization
from deeprt_mrml.fluence_stages import Stage
from deeprt_slicer.controls import allow, set_value
from deeprt_slicer.tables import fill, number

from .Section import Section

_TECHNIQUES = ("step-and-shoot", "sliding-window")  # in the order of the combo box
_AUTOMATIC, _WISHED_MEAN, _COVERAGE = range(3)  # of the rules, in the order of the combo box


class DeliverySection(Section):
    """Technique, normalization, the three steps, and the monitor units of each beam."""

    def _bind(self):
        ui, planning = self.ui, self.planning
        self.onChange(ui.techniqueCombo, "currentIndexChanged(int)", self._takeTechnique)
        for control, signal in (
            (ui.normalizationCombo, "currentIndexChanged(int)"),
            (ui.volumeSpin, "valueChanged(double)"),
            (ui.doseSpin, "valueChanged(double)"),
        ):
            self.onChange(control, signal, lambda _value: self._takeNormalization())
        ui.sequenceButton.connect("clicked()", lambda: self.panel.start(planning.start_sequencing))
        then = self.panel.showResults
        ui.doseButton.connect("clicked()", lambda: self.panel.start(planning.start_dose, then=then))
        ui.compareButton.connect("clicked()", lambda: self.panel.start(planning.start_comparison, then=then))

    def _show(self, whyFixed):
        ui, plan = self.ui, self.plan
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
        ui = self.ui
        for button, action in ((ui.sequenceButton, "sequence"), (ui.doseButton, "dose"), (ui.compareButton, "compare")):
            allow(button, whyFixed or self.planning.why_not(action))
        self.showStage(ui.segmentsStateLabel, Stage.SEGMENTS, _("Segments of this fluence."))
        self.showStage(ui.doseStateLabel, Stage.DOSE, _("Dose of these segments."))
        self.showStage(ui.comparisonStateLabel, Stage.COMPARISON, _("Compared with the wished dose."))

    def _rows(self):
        """Beams with their monitor units and segments, and the sum of all."""
        delivered = self.planning.segments() if self.plan else None
        if delivered is None:
            return []
        rows = []
        for n, beam in enumerate(delivered.beams):
            gantry, mu, segments = beam.angles.gantry_deg, delivered.beam_mu(n), delivered.segments_of(n)
            rows.append([beam.name, number(gantry), number(mu), str(len(segments))])
        return [*rows, [_("All"), "", number(delivered.total_mu), str(len(delivered.segments))]]

    def _takeTechnique(self, index):
        technique = _TECHNIQUES[index]
        self.configure(lambda c: replace(c, sequencing=replace(c.sequencing, technique=technique)))

    def _takeNormalization(self):
        ui = self.ui
        name = (None, "wished-mean", "coverage")[ui.normalizationCombo.currentIndex]
        rule = name and Normalization(ui.volumeSpin.value, ui.doseSpin.value, name)
        self.configure(lambda c: replace(c, normalization=rule))


def _indexOf(rule):
    """Place of a rule in the combo box."""
    return _AUTOMATIC if rule is None else _WISHED_MEAN if rule.rule == "wished-mean" else _COVERAGE
