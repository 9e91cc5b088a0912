"""The section *Check*: what dose the beams allow, beside the beams of column generation."""

import slicer
from slicer.i18n import tr as _

from deeprt_slicer.controls import allow, reason_why_not
from deeprt_slicer.tables import Cell, fill, fit_height, number
from deeprt_slicer.views import show_volumes


class CheckSection:
    """Buttons of the long work, the comparison, and the notes."""

    def __init__(self, frame, logic, beams):
        self._frame, self._logic, self._beams = frame, logic, beams
        self._session, self._check = logic.session, logic.check
        ui, check = frame.ui, logic.check
        self._ui = ui
        ui.evaluateButton.connect("clicked()", lambda: frame.start(check.start_evaluation, then=self._showDose))
        ui.columnGenerationButton.connect("clicked()", lambda: frame.start(check.start_column_generation))
        ui.improveButton.connect(
            "clicked()", lambda: frame.start(lambda: check.start_improvement(ui.improveSpin.value))
        )
        ui.adoptButton.connect("clicked()", lambda: beams.edit(check.adopt_reference))
        ui.continueButton.connect("clicked()", self._goOn)

    def show(self, whyFixed):
        """Show what can be started, and what came out of it."""
        ui, plan, answer = self._ui, self._session.plan, self._frame.answer
        evaluation = _("Dose and DVH of these beams.")
        if plan and answer(lambda: self._check.is_outdated):
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
        rows = answer(self._check.comparison) or () if plan else ()
        columns = [_("Quantity"), _("Your beams"), _("Column generation")]
        fill(ui.comparisonTable, columns, [_cells(row) for row in rows])
        fit_height(ui.comparisonTable, max_rows=len(rows))
        ui.comparisonTable.setVisible(bool(rows))
        notes = answer(self._logic.beams.notes) or () if plan else ()
        ui.notesLabel.setText("\n".join(f"• {note}" for note in notes))
        ui.notesLabel.setVisible(bool(notes))

    def showPlan(self):
        """Show CT and dose of the plan in work in the slices."""
        plan = self._session.plan
        if plan is not None and plan.ct_node is not None:
            show_volumes(plan.ct_node, self._check.dose_node, fit=True)

    def _showDose(self):
        """Show the dose in the slices and its histograms beside them; not over what another module shows."""
        if self._frame.is_entered and self._check.dose_node is not None and not self._check.is_outdated:
            show_volumes(self._session.plan.ct_node, self._check.dose_node)
            self._beams.showDvh()

    def _goOn(self):
        """Open the same plan in DeepFluence."""
        slicer.util.selectModule("DeepFluence")
        slicer.util.getModuleWidget("DeepFluence").panel.frame.open(self._session.plan)

    def _offer(self, button, hint, action, text, whyFixed):
        """Enable a button and say beside it what it does, or disable it and say why."""
        whyNot = whyFixed or reason_why_not(lambda: self._check.why_not(action))
        allow(button, whyNot)
        isSaidOnTop = whyNot in (whyFixed, self._session.why_not_ready())
        hint.setText(text if isSaidOnTop else whyNot)


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
