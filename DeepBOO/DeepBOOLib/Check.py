"""The section *Check*: what dose the beams allow, beside the beams of column generation."""

import slicer
from slicer.i18n import tr as _

from deeprt_slicer.controls import allow
from deeprt_slicer.tables import Cell, fill, fit_height, number


class CheckSection:
    """Buttons of the long work, the comparison, and the notes."""

    def __init__(self, ui, panel):
        self.ui, self.panel = ui, panel
        self.session, self.check = panel.logic.session, panel.logic.check
        ui.evaluateButton.connect("clicked()", lambda: panel.start(self.check.start_evaluation, then=self._showDose))
        ui.columnGenerationButton.connect("clicked()", lambda: panel.start(self.check.start_column_generation))
        ui.improveButton.connect(
            "clicked()", lambda: panel.start(lambda: self.check.start_improvement(ui.improveSpin.value))
        )
        ui.adoptButton.connect("clicked()", lambda: panel.beams.edit(self.check.adopt_reference))

        ui.continueButton.connect("clicked()", lambda: slicer.util.selectModule("DeepFluence"))

    def show(self, whyFixed):
        """Show what can be started, and what came out of it."""
        ui, plan = self.ui, self.session.plan
        evaluation = _("Dose and DVH of these beams.")
        if plan and self.panel.answer(lambda: self.check.is_outdated):
            evaluation = _("Beams or settings have changed since; evaluate again.")
        self._offer(ui.evaluateButton, ui.evaluateHint, "evaluate", evaluation, whyFixed)
        self._offer(
            ui.columnGenerationButton, ui.columnGenerationHint, "column generation",
            _("Beams to compare with, chosen without the network."), whyFixed,
        )  # fmt: skip
        reference = plan.reference_beams if plan else ()
        angles = ", ".join(f"{a.gantry_deg:g}°" + (f"/{a.couch_deg:g}°" if a.couch_deg else "") for a in reference)
        self._offer(ui.adoptButton, ui.adoptHint, "adopt", angles, whyFixed)
        self._offer(
            ui.improveButton, ui.improveHint, "improve", _("Tries other angles for unlocked beams."), whyFixed
        )  # fmt: skip
        allow(ui.improveSpin, whyFixed)
        allow(ui.continueButton, "" if plan and plan.beams else _("The plan has no beams yet; propose or add some."))
        rows = self.panel.answer(self.check.comparison) or () if plan else ()
        columns = [_("Quantity"), _("Your beams"), _("Column generation")]
        fill(ui.comparisonTable, columns, [_cells(row) for row in rows])
        fit_height(ui.comparisonTable, max_rows=len(rows))
        ui.comparisonTable.setVisible(bool(rows))
        notes = self.panel.answer(self.panel.logic.beams.notes) or () if plan else ()
        ui.notesLabel.setText("\n".join(f"• {note}" for note in notes))
        ui.notesLabel.setVisible(bool(notes))

    def _showDose(self):
        """Show the dose in the slices and its histograms beside them."""
        if self.check.dose_node is not None and not self.check.is_outdated:
            self.panel.views.showDose(self.session.plan.ct_node, self.check.dose_node)
            self.panel.beams.showDvh()

    def _offer(self, button, hint, action, text, whyFixed):
        """Enable a button and say beside it what it does, or disable it and say why."""
        whyNot = whyFixed or self.panel.whyNot(lambda: self.check.why_not(action))
        allow(button, whyNot)
        hint.setText(self.panel.ownReason(whyNot, whyFixed) or text)


def _cells(row):
    """Name and both numbers of a row; the better one is marked."""
    decimals = 1 if row.unit or row.less_is_better else 0  # goals are counted
    name = f"{row.name} ({row.unit})" if row.unit else row.name
    own, reference = number(row.own, decimals=decimals), number(row.reference, decimals=decimals)
    if None in (row.own, row.reference, row.less_is_better) or own == reference:
        return [name, own, reference]
    if (row.own < row.reference) == row.less_is_better:
        return [name, _better(own), reference]
    return [name, own, _better(reference)]


def _better(text):
    return Cell(f"{text} ▲", True, _("The better of the two"))
