"""Section *Beams*: the plan's beams, typed in, evenly spaced, or read from an RTPLAN."""

from dataclasses import replace
from pathlib import Path

import qt
from slicer.i18n import tr as _

from deeprt.beams import BeamAngles
from deeprt.orientation.selection import equispaced_angles
from deeprt_mrml.fluence_stages import Stage, StageState
from deeprt_slicer.beams_table import BeamsTable
from deeprt_slicer.controls import allow, set_value

from .Section import Section

_N_OF_TRIAL = 7  # beams of the virtual patient


class BeamsSection(Section):
    """Table of beams, and what adds to it."""

    def _bind(self):
        ui = self.ui
        self._table = BeamsTable(
            ui.beamsTable,
            on_move=lambda position, angles: self.panel.do(lambda: self._move(position, angles)),
            on_lock=lambda position, locked: self.panel.do(lambda: self._lock(position, locked)),
            on_remove=lambda position: self.panel.do(lambda: self._remove(position)),
        )
        self.onClick(ui.addBeamButton, self._add)
        self.onClick(ui.equispacedButton, self._spaceEvenly)
        self.onChange(ui.collimatorSpin, "valueChanged(double)", self._turnCollimator)
        ui.readPlanButton.connect("clicked()", self._readPlan)
        ui.tryItButton.connect("clicked()", self._giveTrialBeams)  # after the plan bar has loaded the patient

    def _show(self, whyFixed):
        ui, plan = self.ui, self.plan
        beams = plan.beams if plan else ()
        mu = self.planning.beam_mu() if self.panel.states[Stage.SEGMENTS] is StageState.CURRENT else ()
        self._table.show(beams, shares=[m / sum(mu) for m in mu] if sum(mu) else (), is_fixed=bool(whyFixed))
        why = whyFixed or ("" if plan else _("There is no plan yet; press New or Try it."))
        for control in (ui.addBeamButton, ui.gantrySpin, ui.couchSpin, ui.collimatorSpin):
            allow(control, why)
        locked = _("Some beams are locked; unlock them to replace all.") if any(b.locked for b in beams) else ""
        for control in (ui.equispacedButton, ui.equispacedSpin, ui.firstGantrySpin, ui.readPlanButton):
            allow(control, why or locked)
        set_value(ui.collimatorSpin, plan.config.beams.collimator_deg if plan else 0.0)

    def _angles(self):
        return [b.angles for b in self.session.current_plan.beams]

    def _add(self):
        angles = BeamAngles(self.ui.gantrySpin.value, self.ui.couchSpin.value)
        self.planning.set_beams([*self._angles(), angles])

    def _move(self, position, angles):
        self.planning.set_beams([angles if n == position else a for n, a in enumerate(self._angles())])

    def _remove(self, position):
        self.planning.set_beams([a for n, a in enumerate(self._angles()) if n != position])

    def _lock(self, position, locked):
        beams = self.session.current_plan.beams
        self.plan.beams = [replace(b, locked=locked) if n == position else b for n, b in enumerate(beams)]

    def _spaceEvenly(self):
        ui = self.ui
        angles = equispaced_angles(ui.equispacedSpin.value, first_gantry_deg=ui.firstGantrySpin.value)
        self.planning.set_beams(angles)

    def _giveTrialBeams(self):
        if self.plan is not None and not self.plan.beams:
            self.panel.do(lambda: self.planning.set_beams(equispaced_angles(_N_OF_TRIAL)))

    def _readPlan(self):
        kinds = _("DICOM (*.dcm);;All files (*)")
        path = qt.QFileDialog.getOpenFileName(None, _("RTPLAN to take beams from"), "", kinds)
        if not path:
            return
        notes = []
        if self.panel.do(lambda: notes.extend(self.planning.read_plan(Path(path)))) and notes:
            self.panel.message.show_note(" ".join(notes))

    def _turnCollimator(self, angle):
        self.configure(lambda c: replace(c, beams=replace(c.beams, collimator_deg=angle)))
        self.planning.set_beams(self._angles())
