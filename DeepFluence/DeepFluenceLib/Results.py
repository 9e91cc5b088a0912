"""Section *Results*: doses in the views, and their numbers in tables."""

import re

import qt
from slicer.i18n import tr as _

from deeprt.errors import InputError
from deeprt_mrml.fluence_stages import Stage
from deeprt_slicer.controls import allow
from deeprt_slicer.tables import NONE, Cell, fill, fit_height, mark, number, verdict
from deeprt_slicer.views import ChartView, show_volumes

_DOSES = ("D95%", "Dmean", "D2%", "Dmax")  # metrics that are columns, as they are called


class ResultsSection:
    """What is washed over the CT, isodoses, chart, tables."""

    def __init__(self, frame, logic, stages):
        self._frame, self._stages, self._chart = frame, stages, ChartView()
        self._session, self._planning = logic.session, logic.planning
        ui = self._ui = frame.ui
        frame.on_change(ui.shownDoseCombo, "activated(int)", lambda _index: self._wash())
        ui.opacitySlider.connect("valueChanged(double)", lambda _value: self._wash())
        frame.on_change(ui.isodosesCheck, "toggled(bool)", lambda _isOn: self._showIsodoses())
        ui.isodosesEdit.connect("editingFinished()", self._levelsEdited)
        frame.on_click(ui.showButton, self.showInViews)
        self._levels = ui.isodosesEdit.text  # that were asked for last

    def show(self, _whyFixed):
        """Show the numbers of the plan in work."""
        ui = self._ui
        missing = "" if self._shownNode() else _("There is no such dose yet.")
        allow(ui.showButton, missing)
        allow(ui.opacitySlider, missing)
        noDose = "" if self._planning.dose_node else _("There is no synthetic dose yet.")
        allow(ui.isodosesCheck, noDose)
        allow(ui.isodosesEdit, noDose)
        mark(ui.resultsStateLabel, False, self._planning.why_not_current(Stage.COMPARISON))
        ui.resultsStateLabel.setVisible(self._stages.isOutdated(Stage.DOSE, Stage.COMPARISON))
        ready = self._session.plan is not None and not self._session.why_not_ready()
        self._showMetrics(self._planning.metrics() if ready else ())
        self._showGoals(self._planning.goals() if ready else ())
        rows = [
            [g.criterion, number(g.pass_percent), number(g.mean, decimals=2), str(g.n_voxels)]
            for g in self._planning.gamma()
        ]
        notes = self._planning.notes() if ready else ()
        ui.notesLabel.setText("\n".join(f"• {note}" for note in notes))
        ui.notesLabel.setVisible(bool(notes))
        fill(ui.gammaTable, [_("Criterion"), _("Passing (%)"), _("Mean gamma"), _("Voxels")], rows)

    def showInViews(self):
        """Show slices with the dose, beams in 3-D, and the dose-volume histograms."""
        if self._planning.dvh_chart is not None:
            self._chart.show(self._planning.dvh_chart)
        self._wash()

    def showPlan(self):
        """Show CT and dose of the plan in work in the slices."""
        plan = self._session.plan
        if plan is not None and plan.ct_node is not None:
            show_volumes(plan.ct_node, self._shownNode(), opacity=self._ui.opacitySlider.value / 100, fit=True)

    def showNew(self):
        """Unfold the section and show the dose that was just calculated; not over what another module shows."""
        if self._frame.is_entered and self._stages.isCurrent(Stage.DOSE):
            self._ui.resultsSection.collapsed = False
            self._frame.do(self._showAll)
            qt.QTimer.singleShot(0, self._scrollTo)  # once the tables have their height

    def _showAll(self):
        self.showInViews()
        self._showIsodoses()

    def _scrollTo(self):
        self._ui.scrollArea.verticalScrollBar().setValue(self._ui.resultsSection.y)

    def _shownNode(self):
        """Volume of the dose that is chosen; None if there is none."""
        planning = self._planning
        nodes = (planning.dose_node, planning.wished_node, planning.difference_node)
        return nodes[self._ui.shownDoseCombo.currentIndex] if self._session.plan else None

    def _wash(self):
        node = self._shownNode()
        if node is not None:
            show_volumes(self._session.plan.ct_node, node, opacity=self._ui.opacitySlider.value / 100)

    def _levelsEdited(self):
        isNew = self._ui.isodosesEdit.text != self._levels  # it is also said to be edited when it loses focus
        if isNew and self._ui.isodosesCheck.isChecked():
            self._frame.do(self._showIsodoses)

    def _showIsodoses(self):
        if self._planning.dose_node is not None:
            self._levels = self._ui.isodosesEdit.text
            self._planning.show_isodoses(levelsOf(self._levels) if self._ui.isodosesCheck.isChecked() else ())

    def _showMetrics(self, metrics):
        """One row a structure, targets first: doses in columns, indices of targets in the tooltip of the name."""
        byStructure = {}
        for m in metrics:
            byStructure.setdefault(m.structure, {})[m.metric] = m
        rows = []
        for structure, found in sorted(byStructure.items(), key=lambda item: _DOSES[0] not in item[1]):
            indices = [_sentence(m, decimals=2) for m in found.values() if not m.unit]
            rows.append([Cell(structure, tooltip="\n".join(indices)), *(_doseCell(found.get(name)) for name in _DOSES)])
        fill(self._ui.metricsTable, [_("Structure"), *(f"{name} (Gy)" for name in _DOSES)], rows)
        fit_height(self._ui.metricsTable, max_rows=len(rows))

    def _showGoals(self, goals):
        rows = []
        for g in goals:
            goal = g.goal.replace("<=", "≤").replace(">=", "≥")
            own, wished = (number(g.value), verdict(g.met)), (number(g.reference), verdict(g.reference_met))
            rows.append([Cell(g.structure, tooltip=g.note), goal, *own, *wished])
        headers = [_("Structure"), _("Goal"), _("Synthetic"), _("Verdict"), _("Wished"), _("Verdict")]
        fill(self._ui.goalsTable, headers, rows)
        fit_height(self._ui.goalsTable, max_rows=len(rows))


def _doseCell(metric):
    """A dose, and in brackets by how much it is above the wished one."""
    if metric is None:
        return NONE
    more = "" if metric.reference is None else f" ({round(metric.value - metric.reference, 1) + 0.0:+.1f})"
    return Cell(number(metric.value) + more, tooltip=_sentence(metric))


def _sentence(metric, *, decimals=1):
    return _("{metric} {unit}: synthetic {value}, wished {reference}").format(
        metric=metric.metric,
        unit=metric.unit,
        value=number(metric.value, decimals=decimals),
        reference=number(metric.reference, decimals=decimals),
    )


def levelsOf(text):
    """Read levels in percent, written like ``95, 80, 50 %``, each once.

    Raises
    ------
    InputError
        If one is no positive number.
    """
    parts = [p for p in re.split(r"[,;\s%]+", text) if p]
    for part in parts:
        if not re.fullmatch(r"\d+(\.\d+)?", part) or float(part) == 0:
            raise InputError(
                _("'{part}' is no isodose level; write levels in percent like 95, 80, 50.").format(part=part)
            )
    return tuple(dict.fromkeys(float(p) for p in parts))
