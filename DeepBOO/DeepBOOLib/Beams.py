"""The section *Beams*: the network proposes, the user disposes."""

from dataclasses import replace

from slicer.i18n import tr as _

from deeprt.beams import BeamAngles
from deeprt_slicer.beams_table import BeamsTable
from deeprt_slicer.controls import allow, reason_why_not, set_value

from .Clicks import Clicks
from .Sectors import sectorsOf, textOf

_NO_CHART, _FITNESS, _DVH = range(3)  # of the combo box of charts


class BeamsSection:
    """Settings of the choice, buttons that propose, peaks, and the table of beams.

    Parameters
    ----------
    chart : `ChartView` beside the views
    """

    def __init__(self, frame, logic, chart):
        self._frame, self._ui, self._chart = frame, frame.ui, chart
        self._session, self._beams, self._check = logic.session, logic.beams, logic.check
        self.clicks = Clicks(onPeak=self.addPeak, onPoint=self._addPoint)
        self._kinds = [
            ("coplanar:2", _("Coplanar, every 2°")),
            ("noncoplanar:6", _("Non-coplanar, every 6°")),
        ]
        self._peaks = ()
        self._sectorsShown = ("", "")  # of which plan, and its text
        self._chartShown = None
        ui, beams = frame.ui, logic.beams
        for spin in (ui.nBeamsSpin, ui.separationSpin):
            spin.setKeyboardTracking(False)
        frame.on_change(ui.nBeamsSpin, "valueChanged(int)", self._wishBeams)
        frame.on_change(ui.candidatesCombo, "activated(int)", self._chooseCandidates)
        ui.separationSpin.connect("valueChanged(double)", self._separate)
        ui.sectorsEdit.connect("editingFinished()", self._avoid)
        ui.proposeButton.connect("clicked()", lambda: self.edit(beams.propose))
        ui.completeButton.connect("clicked()", lambda: self.edit(lambda: beams.complete(ui.nBeamsSpin.value)))
        ui.addPeakButton.connect("clicked()", lambda: self.addPeak(ui.peaksCombo.currentIndex))
        ui.undoButton.connect("clicked()", lambda: self.edit(beams.undo))
        ui.redoButton.connect("clicked()", lambda: self.edit(beams.redo))
        ui.clearButton.connect("clicked()", lambda: self.edit(beams.clear))
        ui.addButton.connect("clicked()", self._addTyped)
        frame.on_change(ui.ringCheck, "toggled(bool)", lambda isOn: beams.refresh() if isOn else beams.hide())
        ui.chartCombo.connect("activated(int)", self._showChart)
        self._table = BeamsTable(
            ui.beamsTable,
            on_move=lambda position, angles: self.edit(lambda: beams.move(position, angles)),
            on_lock=lambda position, locked: self._do(lambda: beams.lock(position, locked)),
            on_remove=lambda position: self.edit(lambda: beams.remove(position)),
        )

    def edit(self, action):
        """Change the beams; views show the fitness beside the new ones."""
        isWanted = self._ui.chartCombo.currentIndex != _NO_CHART
        if self._do(action) and isWanted and self._chartShown is not self._beams.fitness_chart:
            self._showChart(_FITNESS)

    def predictAnew(self):
        """Predict and show after other inputs, if that was done before."""
        if self._beams.fitness_chart is not None and not self._session.why_not_ready():
            self._refresh()

    def _do(self, action):
        def doAndHide():
            action()
            self._hideUnwanted()

        return self._frame.do(doAndHide)

    def _refresh(self):
        self._beams.refresh()
        self._hideUnwanted()

    def _hideUnwanted(self):
        """Take the ring out of the views again where it is not wanted."""
        if not self._ui.ringCheck.isChecked():
            self._beams.hide()

    def addPeak(self, number):
        """Add the beam of a peak, counted from 0."""
        if self._ui.addPeakButton.enabled and 0 <= number < len(self._peaks):
            self.edit(lambda: self._beams.add(self._peaks[number]))

    def _addPoint(self, seriesId, number):
        """Add the fittest candidate at a point of the fitness chart."""
        node = self._session.scene.GetNodeByID(seriesId)
        chart = self._beams.fitness_chart
        isFitness = node is not None and chart is not None and chart.GetNthPlotSeriesNodeID(0) == seriesId
        if not isFitness or not self._ui.addButton.enabled:
            return
        gantry = node.GetTableNode().GetTable().GetValueByName(number, node.GetXColumnName()).ToDouble()
        there = [c for c in self._beams.candidates if abs(c.gantry_deg - gantry) < 1e-6]
        self.edit(lambda: self._beams.add(max(there, key=self._beams.fitness_of)))

    def show(self, whyFixed):
        """Show the beams of the plan in work, and their fitness where it was predicted."""
        plan, answer = self._session.plan, self._frame.answer
        config = plan and answer(lambda: plan.config)
        self._showSettings(config, whyFixed or ("" if plan else _("There is no plan yet.")))
        state = self._state()
        self._showPeaks(state)
        beams = plan.beams if plan else ()
        if plan is None:
            self._chartShown = None
        shares = answer(self._check.beam_shares) or () if plan else ()
        self._table.show(beams, shares=shares, is_fixed=bool(whyFixed))
        self._showButtons(beams, state, whyFixed)
        self.clicks.watchPeaks(self._beams.peaks_node if plan else None)

    def _state(self):
        """Beams and fitness, where they were predicted for the plan."""
        if self._session.plan is None or self._session.why_not_ready() or self._beams.fitness_chart is None:
            return None
        if self._frame.is_changed_elsewhere:
            self._frame.answer(self._refresh)
        return self._frame.answer(lambda: self._beams.state)

    def _showButtons(self, beams, state, whyFixed):
        ui = self._ui
        cannot = {
            action: whyFixed or reason_why_not(lambda a=action: self._beams.why_not(a))
            for action in ("propose", "complete", "undo", "redo")
        }
        notAdded, notPredicted = cannot["propose"], "" if state is not None else _noPrediction()
        if state is not None and state.best is None:
            cannot = {**cannot, "propose": notAdded or _noCandidate()}
        allow(ui.proposeButton, cannot["propose"])
        allow(ui.completeButton, cannot["complete"])
        allow(ui.undoButton, cannot["undo"])
        allow(ui.redoButton, cannot["redo"])
        hint = cannot["propose"] or cannot["complete"]
        ui.proposeHint.setText("" if hint in (whyFixed, self._session.why_not_ready()) else hint)
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
        ui = self._ui
        for control in (ui.nBeamsSpin, ui.candidatesCombo, ui.separationSpin, ui.sectorsEdit):
            allow(control, whyNot)
        self._showKinds(self._kinds[0][0] if config is None else config.selection.candidates)
        if config is not None:
            set_value(ui.nBeamsSpin, config.beams.n_beams)
            set_value(ui.separationSpin, config.selection.min_separation_deg)
            self._showSectors(textOf(config.selection.exclude_deg))

    def _showSectors(self, text):
        """Sectors of the plan, once they are other ones: what was typed wrong stays to be corrected."""
        shown = (self._session.plan.key, text)
        if shown != self._sectorsShown:
            self._sectorsShown = shown
            self._ui.sectorsEdit.setText(text)

    def _showKinds(self, kind):
        """The kinds that are offered, and one that a preset asked for."""
        if kind not in [k for k, _text in self._kinds]:
            self._kinds.append((kind, kind))
        self._ui.candidatesCombo.clear()
        for _kind, text in self._kinds:
            self._ui.candidatesCombo.addItem(text)
        self._ui.candidatesCombo.setCurrentIndex([k for k, _text in self._kinds].index(kind))

    def _showPeaks(self, state):
        """Peaks of the fitness; the chosen one stays while they do."""
        self._peaks = () if state is None else self._frame.answer(self._beams.peaks) or ()
        texts = [self._textOfPeak(angles) for angles in self._peaks]
        combo = self._ui.peaksCombo
        if texts != [combo.itemText(n) for n in range(combo.count)]:
            combo.clear()
            combo.addItems(texts)

    def _textOfPeak(self, angles):
        fitness = self._beams.fitness_of(angles)
        if angles.couch_deg:
            text = _("Gantry {gantry:g}°, couch {couch:g}°, fitness {fitness:.2f}")
            return text.format(gantry=angles.gantry_deg, couch=angles.couch_deg, fitness=fitness)
        return _("Gantry {gantry:g}°, fitness {fitness:.2f}").format(gantry=angles.gantry_deg, fitness=fitness)

    def _addTyped(self):
        angles = BeamAngles(self._ui.gantrySpin.value, self._ui.couchSpin.value)
        self.edit(lambda: self._beams.add(angles))

    def _wishBeams(self, number):
        self._configure(lambda c: replace(c, beams=replace(c.beams, n_beams=number)))

    def _chooseCandidates(self, index):
        kind = self._kinds[index][0]
        self._configure(lambda c: replace(c, selection=replace(c.selection, candidates=kind)))

    def _configure(self, change):
        self._frame.configure(change)
        self.predictAnew()

    def _separate(self, degrees):
        self._constrain(
            lambda: self._beams.separate(degrees),
            lambda: self._frame.configure(
                lambda c: replace(c, selection=replace(c.selection, min_separation_deg=degrees))
            ),
        )

    def _avoid(self):
        text = self._ui.sectorsEdit.text
        if text == self._sectorsShown[1]:
            return
        self._constrain(
            lambda: self._beams.exclude(sectorsOf(text)),
            lambda: self._frame.configure(
                lambda c: replace(c, selection=replace(c.selection, exclude_deg=sectorsOf(text)))
            ),
        )

    def _constrain(self, edit, configure):
        """Constrain what is proposed: an edit that can be undone, or a mere setting before the first prediction."""
        self.edit(edit if self._beams.fitness_chart is not None else configure)

    def showDvh(self):
        """Show the dose-volume histograms beside the views."""
        self._showChart(_DVH)

    def _showChart(self, index):
        """Show one of the charts beside the views, or none."""
        self._ui.chartCombo.setCurrentIndex(index)
        chart = {_FITNESS: self._beams.fitness_chart, _DVH: self._check.dvh_chart}.get(index)
        if index == _NO_CHART or chart is not None:
            self._chartShown = chart
            self._chart.show(chart)
            self.clicks.watchCharts()


def _noPrediction():
    return _("There is no prediction yet; propose a beam first.")


def _noCandidate():
    return _("No candidate is left to choose; avoid less or lower the least separation.")
