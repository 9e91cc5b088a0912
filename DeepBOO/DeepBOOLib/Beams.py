"""The section *Beams*: the network proposes, the user disposes."""

from dataclasses import replace

from slicer.i18n import tr as _

from deeprt.beams import BeamAngles
from deeprt_slicer.beams_table import BeamsTable
from deeprt_slicer.controls import allow

from .Choices import sectorsOf, textOf

_NO_CHART, _FITNESS, _DVH = range(3)  # of the combo box of charts


class BeamsSection:
    """Settings of the choice, buttons that propose, peaks, and the table of beams."""

    def __init__(self, ui, panel):
        self.ui, self.panel = ui, panel
        self.session, self.beams, self.check = panel.logic.session, panel.logic.beams, panel.logic.check
        self._kinds = [
            ("coplanar:2", _("Coplanar, every 2°")),
            ("noncoplanar:6", _("Non-coplanar, every 6°")),
        ]
        self._peaks = ()
        self._sectorsShown = ("", "")  # of which plan, and its text
        self._chartShown = None
        for spin in (ui.nBeamsSpin, ui.separationSpin):
            spin.setKeyboardTracking(False)
        ui.nBeamsSpin.connect("valueChanged(int)", self._wishBeams)
        ui.candidatesCombo.connect("activated(int)", self._chooseCandidates)
        ui.separationSpin.connect("valueChanged(double)", self._separate)
        ui.sectorsEdit.connect("editingFinished()", self._avoid)
        ui.proposeButton.connect("clicked()", lambda: self.edit(self.beams.propose))
        ui.completeButton.connect("clicked()", lambda: self.edit(lambda: self.beams.complete(ui.nBeamsSpin.value)))
        ui.addPeakButton.connect("clicked()", lambda: self.addPeak(ui.peaksCombo.currentIndex))
        ui.undoButton.connect("clicked()", lambda: self.edit(self.beams.undo))
        ui.redoButton.connect("clicked()", lambda: self.edit(self.beams.redo))
        ui.clearButton.connect("clicked()", lambda: self.edit(self.beams.clear))
        ui.addButton.connect("clicked()", self._addTyped)
        ui.ringCheck.connect("toggled(bool)", self._showRing)
        ui.chartCombo.connect("activated(int)", self._showChart)
        self.table = BeamsTable(
            ui.beamsTable,
            on_move=lambda position, angles: self.edit(lambda: self.beams.move(position, angles)),
            on_lock=lambda position, locked: self._do(lambda: self.beams.lock(position, locked)),
            on_remove=lambda position: self.edit(lambda: self.beams.remove(position)),
        )

    def edit(self, action):
        """Change the beams; views show the fitness beside the new ones."""
        isWanted = self.ui.chartCombo.currentIndex != _NO_CHART
        if self._do(action) and isWanted and self._chartShown is not self.beams.fitness_chart:
            self._showChart(_FITNESS)

    def _do(self, action):
        def doAndHide():
            action()
            self._hideUnwanted()

        return self.panel.do(doAndHide)

    def showAnew(self):
        """Predict and show, after something changed that the fitness hangs on."""
        self.beams.refresh()
        self._hideUnwanted()

    def _hideUnwanted(self):
        """Take the ring out of the views again where it is not wanted."""
        if not self.ui.ringCheck.isChecked():
            self.beams.hide()

    def addPeak(self, number):
        """Add the beam of a peak, counted from 0."""
        if self.ui.addPeakButton.enabled and 0 <= number < len(self._peaks):
            self.edit(lambda: self.beams.add(self._peaks[number]))

    def addPoint(self, seriesId, number):
        """Add the fittest candidate at a point of the fitness chart."""
        node = self.session.scene.GetNodeByID(seriesId)
        chart = self.beams.fitness_chart
        isFitness = node is not None and chart is not None and chart.GetNthPlotSeriesNodeID(0) == seriesId
        if not isFitness or not self.ui.addButton.enabled:
            return
        gantry = node.GetTableNode().GetTable().GetValueByName(number, node.GetXColumnName()).ToDouble()
        there = [c for c in self.beams.candidates if abs(c.gantry_deg - gantry) < 1e-6]
        self.edit(lambda: self.beams.add(max(there, key=self.beams.fitness_of)))

    def show(self, state, whyFixed):
        """Show the beams of the plan in work, and their fitness where it was predicted.

        Parameters
        ----------
        state : of the beams; None before the first prediction
        whyFixed : why nothing can be changed; empty if it can
        """
        plan = self.session.plan
        config = plan and self.panel.answer(lambda: plan.config)
        self._showSettings(config, whyFixed or ("" if plan else _("There is no plan yet.")))
        self._showPeaks(state)
        beams = plan.beams if plan else ()
        if plan is None:
            self._chartShown = None
        self.table.show(
            beams, shares=self.panel.answer(self.check.beam_shares) or () if plan else (), is_fixed=bool(whyFixed)
        )
        self._showButtons(beams, state, whyFixed)
        self.panel.views.watchPeaks(self.beams.peaks_node if plan else None)

    def _showButtons(self, beams, state, whyFixed):
        ui = self.ui
        cannot = {
            action: whyFixed or self.panel.whyNot(lambda a=action: self.beams.why_not(a))
            for action in ("propose", "complete", "undo", "redo")
        }
        notAdded, notPredicted = cannot["propose"], "" if state is not None else _noPrediction()
        if state is not None and state.best is None:
            cannot = {**cannot, "propose": notAdded or _noCandidate()}
        allow(ui.proposeButton, cannot["propose"])
        allow(ui.completeButton, cannot["complete"])
        allow(ui.undoButton, cannot["undo"])
        allow(ui.redoButton, cannot["redo"])
        ui.proposeHint.setText(self.panel.ownReason(cannot["propose"] or cannot["complete"], whyFixed))
        ui.proposeHint.setVisible(bool(ui.proposeHint.text))
        canClear = any(not b.locked for b in beams)
        allow(ui.clearButton, whyFixed or ("" if canClear else _("There is no beam to remove that is not locked.")))
        for control in (ui.addButton, ui.gantrySpin, ui.couchSpin):
            allow(control, notAdded)
        for control in (ui.ringCheck, ui.chartCombo):
            allow(control, notPredicted)
        notChosen = notPredicted or ("" if self._peaks else _noCandidate())
        for control in (ui.peaksCombo, ui.addPeakButton):
            allow(control, whyFixed or notChosen)

    def _showSettings(self, config, whyNot):
        ui = self.ui
        controls = (ui.nBeamsSpin, ui.candidatesCombo, ui.separationSpin, ui.sectorsEdit)
        for control in controls:
            control.blockSignals(True)
            allow(control, whyNot)
        self._showKinds(self._kinds[0][0] if config is None else config.selection.candidates)
        if config is not None:
            ui.nBeamsSpin.setValue(config.beams.n_beams)
            ui.separationSpin.setValue(config.selection.min_separation_deg)
            self._showSectors(textOf(config.selection.exclude_deg))
        for control in controls:
            control.blockSignals(False)

    def _showSectors(self, text):
        """Sectors of the plan, once they are other ones: what was typed wrong stays to be corrected."""
        shown = (self.session.plan.key, text)
        if shown != self._sectorsShown:
            self._sectorsShown = shown
            self.ui.sectorsEdit.setText(text)

    def _showKinds(self, kind):
        """The kinds that are offered, and one that a preset asked for."""
        if kind not in [k for k, _text in self._kinds]:
            self._kinds.append((kind, kind))
        self.ui.candidatesCombo.clear()
        for _kind, text in self._kinds:
            self.ui.candidatesCombo.addItem(text)
        self.ui.candidatesCombo.setCurrentIndex([k for k, _text in self._kinds].index(kind))

    def _showPeaks(self, state):
        """Peaks of the fitness; the chosen one stays while they do."""
        self._peaks = () if state is None else self.panel.answer(self.beams.peaks) or ()
        texts = [self._textOfPeak(angles) for angles in self._peaks]
        combo = self.ui.peaksCombo
        if texts != [combo.itemText(n) for n in range(combo.count)]:
            combo.clear()
            combo.addItems(texts)

    def _textOfPeak(self, angles):
        fitness = self.beams.fitness_of(angles)
        if angles.couch_deg:
            text = _("Gantry {gantry:g}°, couch {couch:g}°, fitness {fitness:.2f}")
            return text.format(gantry=angles.gantry_deg, couch=angles.couch_deg, fitness=fitness)
        return _("Gantry {gantry:g}°, fitness {fitness:.2f}").format(gantry=angles.gantry_deg, fitness=fitness)

    def _addTyped(self):
        angles = BeamAngles(self.ui.gantrySpin.value, self.ui.couchSpin.value)
        self.edit(lambda: self.beams.add(angles))

    def _wishBeams(self, number):
        self._configure(lambda c: replace(c, beams=replace(c.beams, n_beams=number)))

    def _chooseCandidates(self, index):
        kind = self._kinds[index][0]
        self._configure(lambda c: replace(c, selection=replace(c.selection, candidates=kind)))

    def _separate(self, degrees):
        if self.beams.fitness_chart is not None:
            self.edit(lambda: self.beams.separate(degrees))
        else:
            self._configure(lambda c: replace(c, selection=replace(c.selection, min_separation_deg=degrees)))

    def _avoid(self):
        text = self.ui.sectorsEdit.text
        if text == self._sectorsShown[1]:
            return

        def avoid():
            sectors = sectorsOf(text)
            if self.beams.fitness_chart is not None:
                self.beams.exclude(sectors)
            else:
                plan = self.session.current_plan
                plan.config = replace(plan.config, selection=replace(plan.config.selection, exclude_deg=sectors))

        self.edit(avoid)

    def _configure(self, change):
        def configure():
            plan = self.session.current_plan
            plan.config = change(plan.config)
            self.panel.predictAnew()

        self.panel.do(configure)

    def _showRing(self, shown):
        self.panel.do(self.beams.refresh if shown else self.beams.hide)

    def showDvh(self):
        """Show the dose-volume histograms beside the views."""
        self._showChart(_DVH)

    def _showChart(self, index):
        """Show one of the charts beside the views, or none."""
        self.ui.chartCombo.setCurrentIndex(index)
        chart = {_FITNESS: self.beams.fitness_chart, _DVH: self.check.dvh_chart}.get(index)
        if index == _NO_CHART or chart is not None:
            self._chartShown = chart
            self.panel.views.showChart(chart)


def _noPrediction():
    return _("There is no prediction yet; propose a beam first.")


def _noCandidate():
    return _("No candidate is left to choose; avoid less or lower the least separation.")
