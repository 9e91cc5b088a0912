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
        ui.chartCombo.connect("activated(int)", lambda _index: self._showChart())
        self.table = BeamsTable(
            ui.beamsTable,
            on_move=lambda position, angles: self.edit(lambda: self.beams.move(position, angles)),
            on_lock=lambda position, locked: self.edit(lambda: self.beams.lock(position, locked)),
            on_remove=lambda position: self.edit(lambda: self.beams.remove(position)),
        )

    def edit(self, action):
        """Change the beams; views show the fitness beside the new ones."""

        def editAndShow():
            action()
            self.showInViews()

        if self.panel.do(editAndShow) and self.ui.chartCombo.currentIndex == _DVH:
            self.showChart(_FITNESS)
        elif self.ui.chartCombo.currentIndex == _FITNESS:
            self._showChart()

    def showInViews(self):
        """Take the ring out of the views again where it is not wanted."""
        if not self.ui.ringCheck.isChecked():
            self.beams.hide()

    def showDvh(self):
        """Show the dose-volume histograms beside the views."""
        self.showChart(_DVH)

    def addPeak(self, number):
        """Add the beam of a peak, counted from 0."""
        if 0 <= number < len(self._peaks):
            self.edit(lambda: self.beams.add(self._peaks[number]))

    def addPoint(self, seriesId, number):
        """Add the fittest candidate at a point of the fitness chart."""
        node = self.session.scene.GetNodeByID(seriesId)
        chart = self.beams.fitness_chart
        if node is None or chart is None or chart.GetNthPlotSeriesNodeID(0) != seriesId:
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
        ui, plan = self.ui, self.session.plan
        config = plan and self.panel.answer(lambda: plan.config)
        self._showSettings(config, whyFixed or ("" if plan else _("There is no plan yet.")))
        self._showPeaks(state, whyFixed)
        beams = plan.beams if plan else ()
        self.table.show(
            beams, shares=self.panel.answer(self.check.beam_shares) or () if plan else (), is_fixed=bool(whyFixed)
        )
        reasons = {
            action: whyFixed or self.panel.whyNot(lambda a=action: self.beams.why_not(a))
            for action in ("propose", "complete", "undo", "redo")
        }
        allow(ui.proposeButton, reasons["propose"])
        allow(ui.completeButton, reasons["complete"])
        allow(ui.undoButton, reasons["undo"])
        allow(ui.redoButton, reasons["redo"])
        ui.proposeHint.setText(self.panel.ownReason(reasons["propose"] or reasons["complete"], whyFixed))
        ui.proposeHint.setVisible(bool(ui.proposeHint.text))
        free = any(not b.locked for b in beams)
        allow(ui.clearButton, whyFixed or ("" if free else _("There is no beam to remove that is not locked.")))
        for control in (ui.addButton, ui.gantrySpin, ui.couchSpin):
            allow(control, reasons["propose"])
        nothing = "" if state is not None else _("There is no prediction yet; propose a beam first.")
        allow(ui.ringCheck, nothing)
        allow(ui.chartCombo, nothing)
        self.panel.views.watchPeaks(self.beams.peaks_node if plan else None)

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
            ui.sectorsEdit.setText(textOf(config.selection.exclude_deg))
        for control in controls:
            control.blockSignals(False)

    def _showKinds(self, kind):
        """The kinds that are offered, and one that a preset asked for."""
        if kind not in [k for k, _text in self._kinds]:
            self._kinds.append((kind, kind))
        self.ui.candidatesCombo.clear()
        for _kind, text in self._kinds:
            self.ui.candidatesCombo.addItem(text)
        self.ui.candidatesCombo.setCurrentIndex([k for k, _text in self._kinds].index(kind))

    def _showPeaks(self, state, whyFixed):
        ui = self.ui
        self._peaks = () if state is None else self.panel.answer(self.beams.peaks) or ()
        ui.peaksCombo.clear()
        for angles in self._peaks:
            couch = _(", couch {couch:g}°").format(couch=angles.couch_deg) if angles.couch_deg else ""
            ui.peaksCombo.addItem(
                _("Gantry {gantry:g}°{couch}, fitness {fitness:.2f}").format(
                    gantry=angles.gantry_deg, couch=couch, fitness=self.beams.fitness_of(angles)
                )
            )
        whyNot = whyFixed
        if not whyNot and not self._peaks:
            whyNot = (
                _("There is no prediction yet; propose a beam first.")
                if state is None
                else _("No candidate is left to choose; avoid less or lower the least separation.")
            )
        allow(ui.peaksCombo, whyNot)
        allow(ui.addPeakButton, whyNot)

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

        def avoid():
            sectors = sectorsOf(text)
            plan = self.session.current_plan
            if sectors == plan.config.selection.exclude_deg:
                return
            if self.beams.fitness_chart is not None:
                self.beams.exclude(sectors)
            else:
                selection = replace(plan.config.selection, exclude_deg=sectors)
                plan.config = replace(plan.config, selection=selection)

        self.edit(avoid)

    def _configure(self, change):
        def configure():
            plan = self.session.current_plan
            plan.config = change(plan.config)
            self.panel.predictAnew()

        self.panel.do(configure)

    def _showRing(self, shown):
        self.panel.do(self.beams.refresh if shown else self.beams.hide)

    def showChart(self, index):
        """Show one of the charts beside the views."""
        self.ui.chartCombo.setCurrentIndex(index)
        self._showChart()

    def _showChart(self):
        index = self.ui.chartCombo.currentIndex
        chart = {_FITNESS: self.beams.fitness_chart, _DVH: self.check.dvh_chart}.get(index)
        if index == _NO_CHART or chart is not None:
            self.panel.views.showChart(chart)
