"""Section *Beams*: the plan's beams, typed in, evenly spaced, or read from an RTPLAN."""

from dataclasses import replace
from pathlib import Path

import qt
from slicer.i18n import tr as _

from deeprt.beams import BeamAngles
from deeprt.orientation.selection import equispaced_angles
from deeprt_mrml.fluence_stages import Stage
from deeprt_slicer.beams_table import BeamsTable
from deeprt_slicer.controls import allow, set_value

_N_OF_TRIAL = 7  # beams of the virtual patient


class BeamsSection:
    """Table of beams, and what adds to it."""

    def __init__(self, frame, logic, stages):
        self._frame, self._stages = frame, stages
        self._session, self._planning = logic.session, logic.planning
        ui = self._ui = frame.ui
        self._table = BeamsTable(
            ui.beamsTable,
            on_move=lambda position, angles: frame.do(lambda: self._move(position, angles)),
            on_lock=lambda position, locked: frame.do(lambda: self._lock(position, locked)),
            on_remove=lambda position: frame.do(lambda: self._remove(position)),
        )
        frame.on_click(ui.addBeamButton, self._add)
        frame.on_click(ui.equispacedButton, self._spaceEvenly)
        frame.on_change(ui.collimatorSpin, "valueChanged(double)", self._turnCollimator)
        ui.readPlanButton.connect("clicked()", self._readPlan)

    def tryIt(self):
        """Load the virtual patient with evenly spaced beams."""
        self._session.load_virtual_patient()
        self._planning.set_beams(equispaced_angles(_N_OF_TRIAL))

    def show(self, whyFixed):
        """Show the beams of the plan in work, with their shares of the monitor units."""
        ui, plan = self._ui, self._session.plan
        beams = plan.beams if plan else ()
        mu = self._planning.beam_mu() if self._stages.isCurrent(Stage.SEGMENTS) else ()
        self._table.show(beams, shares=[m / sum(mu) for m in mu] if sum(mu) else (), is_fixed=bool(whyFixed))
        why = whyFixed or ("" if plan else _("There is no plan yet; press New or Try it."))
        for control in (ui.addBeamButton, ui.gantrySpin, ui.couchSpin, ui.collimatorSpin):
            allow(control, why)
        locked = _("Some beams are locked; unlock them to replace all.") if any(b.locked for b in beams) else ""
        for control in (ui.equispacedButton, ui.equispacedSpin, ui.firstGantrySpin, ui.readPlanButton):
            allow(control, why or locked)
        set_value(ui.collimatorSpin, plan.config.beams.collimator_deg if plan else 0.0)

    def _angles(self):
        return [b.angles for b in self._session.current_plan.beams]

    def _add(self):
        angles = BeamAngles(self._ui.gantrySpin.value, self._ui.couchSpin.value)
        self._planning.set_beams([*self._angles(), angles])

    def _move(self, position, angles):
        self._planning.set_beams([angles if n == position else a for n, a in enumerate(self._angles())])

    def _remove(self, position):
        self._planning.set_beams([a for n, a in enumerate(self._angles()) if n != position])

    def _lock(self, position, locked):
        beams = self._session.current_plan.beams
        self._session.current_plan.beams = [
            replace(b, locked=locked) if n == position else b for n, b in enumerate(beams)
        ]

    def _spaceEvenly(self):
        ui = self._ui
        angles = equispaced_angles(ui.equispacedSpin.value, first_gantry_deg=ui.firstGantrySpin.value)
        self._planning.set_beams(angles)

    def _readPlan(self):
        kinds = _("DICOM (*.dcm);;All files (*)")
        path = qt.QFileDialog.getOpenFileName(None, _("RTPLAN to take beams from"), "", kinds)
        if not path:
            return
        notes = []
        if self._frame.do(lambda: notes.extend(self._planning.read_plan(Path(path)))) and notes:
            self._frame.message.show_note(" ".join(notes))

    def _turnCollimator(self, angle):
        self._frame.configure(lambda c: replace(c, beams=replace(c.beams, collimator_deg=angle)))
        self._planning.set_beams(self._angles())
