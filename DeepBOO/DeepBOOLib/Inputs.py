"""The sections *Inputs* and *Structures*: what the plan is made for."""

from dataclasses import replace
from pathlib import Path

import qt
from slicer.i18n import tr as _

from deeprt.config import protocol_names, read_protocol
from deeprt_slicer.controls import allow
from deeprt_slicer.name_or_file import NameOrFile
from deeprt_slicer.plan_inputs import PlanInputs
from deeprt_slicer.structures_table import StructuresTable


class InputsSection:
    """Inputs of the plan, protocol, presets, and the table of structures.

    Parameters
    ----------
    predictAnew : called after an input changed
    """

    def __init__(self, frame, logic, *, predictAnew):
        self._frame, self._session = frame, logic.session
        ui = self._ui = frame.ui
        self._inputs = PlanInputs(frame, logic.session, on_change=predictAnew)
        self._protocol = NameOrFile(
            ui.protocolCombo, ui.protocolButton,
            [(_("Automatic, by the organs"), ""), *((name, name) for name in protocol_names())],
            file_title=_("Protocol file"), file_filter=_("Protocols (*.toml *.json)"), on_choice=self._chooseProtocol,
        )  # fmt: skip
        ui.loadPresetButton.connect("clicked()", self._loadPreset)
        ui.savePresetButton.connect("clicked()", self._savePreset)
        session, change = logic.session, self._inputs.change
        self._structures = StructuresTable(
            ui.structuresTable,
            on_role=lambda name, role: change(lambda: session.set_role(name, role)),
            on_weight=lambda name, weight: change(lambda: session.set_weight(name, weight)),
            on_prescription=lambda name, gy: change(lambda: session.set_prescription(name, gy)),
        )

    def show(self, whyFixed):
        """Show the inputs of the plan in work; they cannot be changed for a reason, if there is one."""
        ui, plan = self._ui, self._session.plan
        self._inputs.show(whyFixed)
        whyNot = self._inputs.why_not(whyFixed)
        config = plan and self._frame.answer(lambda: plan.config)
        self._protocol.show((config and config.protocol) or "", whyNot)
        for button in (ui.loadPresetButton, ui.savePresetButton):
            allow(button, whyNot)
        self._structures.show(self._frame.answer(self._session.structures) or (), is_fixed=bool(whyFixed))

    def _chooseProtocol(self, name):
        def choose():
            if name:
                read_protocol(name)  # refuses what is none before it is kept
            self._frame.configure(lambda c: replace(c, protocol=name or None))

        self._inputs.change(choose)

    def _loadPreset(self):
        path = qt.QFileDialog.getOpenFileName(None, _("Load settings"), "", _("Settings (*.toml *.json)"))
        left = []
        if path:
            self._inputs.change(lambda: left.extend(self._session.load_preset(Path(path))))
        if left:
            note = _("Not in this segmentation, and left out: {names}.").format(names=", ".join(left))
            self._frame.message.show_note(note)

    def _savePreset(self):
        path = qt.QFileDialog.getSaveFileName(None, _("Save settings"), "plan.toml", _("Settings (*.toml)"))
        if path and self._frame.do(lambda: self._session.save_preset(Path(path))):
            self._frame.message.show_note(_("Settings are saved in {path}.").format(path=path))
