"""The sections *Inputs* and *Structures*: what the plan is made for."""

from dataclasses import replace
from pathlib import Path

import qt
from slicer.i18n import tr as _

from deeprt.config import DEFAULT_MACHINE, protocol_names, read_protocol
from deeprt.machine_file import machine_names, read_machine
from deeprt_slicer.controls import allow, bind_node_selector
from deeprt_slicer.structures_table import StructuresTable

from .Choices import NameOrFile


class InputsSection:
    """Nodes, machine, protocol, fractions, presets, and the table of structures."""

    def __init__(self, ui, panel):
        self.ui, self.panel, self.session = ui, panel, panel.logic.session
        self._showCt = bind_node_selector(ui.ctSelector, lambda n: self._choose("ct_node", n))
        self._showSegmentation = bind_node_selector(
            ui.segmentationSelector, lambda n: self._choose("segmentation_node", n)
        )
        self._showDose = bind_node_selector(ui.doseSelector, lambda n: self._choose("wished_dose_node", n))
        self.machine = NameOrFile(
            ui.machineCombo, ui.machineButton, [(name, name) for name in machine_names()],
            fileTitle=_("Machine file"), fileFilter=_("Machines (*.json *.mat)"),
            onChoice=self._chooseMachine,
        )  # fmt: skip
        self.protocol = NameOrFile(
            ui.protocolCombo, ui.protocolButton,
            [(_("Automatic, by the organs"), ""), *((name, name) for name in protocol_names())],
            fileTitle=_("Protocol file"), fileFilter=_("Protocols (*.toml *.json)"),
            onChoice=self._chooseProtocol,
        )  # fmt: skip
        ui.fractionsSpin.setKeyboardTracking(False)
        ui.fractionsSpin.connect(
            "valueChanged(int)", lambda n: self._configure(lambda c: replace(c, n_fractions=n or None))
        )
        ui.loadPresetButton.connect("clicked()", self._loadPreset)
        ui.savePresetButton.connect("clicked()", self._savePreset)
        self.structures = StructuresTable(
            ui.structuresTable,
            on_role=lambda name, role: self._change(lambda: self.session.set_role(name, role)),
            on_weight=lambda name, weight: self._change(lambda: self.session.set_weight(name, weight)),
            on_prescription=lambda name, gy: self._change(lambda: self.session.set_prescription(name, gy)),
        )

    def show(self, whyFixed):
        """Show the inputs of the plan in work; they cannot be changed for a reason, if there is one."""
        ui, plan = self.ui, self.session.plan
        self._showCt(plan and plan.ct_node)
        self._showSegmentation(plan and plan.segmentation_node)
        self._showDose(plan and plan.wished_dose_node)
        for selector in (ui.ctSelector, ui.segmentationSelector, ui.doseSelector):
            allow(selector, whyFixed)
        whyNot = whyFixed or ("" if plan else _("There is no plan yet; make one, or choose a CT."))
        config = plan and self.panel.answer(lambda: plan.config)
        self.machine.show((config and config.machine) or DEFAULT_MACHINE, whyNot)
        self.protocol.show((config and config.protocol) or "", whyNot)
        ui.fractionsSpin.blockSignals(True)
        ui.fractionsSpin.setValue((config and config.n_fractions) or 0)
        ui.fractionsSpin.blockSignals(False)
        for control in (ui.fractionsSpin, ui.loadPresetButton, ui.savePresetButton):
            allow(control, whyNot)
        self.structures.show(self.panel.answer(self.session.structures) or (), is_fixed=bool(whyFixed))

    def _choose(self, reference, node):
        """Take a node into the plan; the first one makes a plan."""

        def choose():
            if node is not None and self.session.plan is None:
                self.session.new_plan()
            if self.session.plan is not None:
                setattr(self.session.plan, reference, node)
                if reference == "ct_node" and node is not None:
                    self.panel.views.showCt(node)

        self._change(choose)

    def _chooseMachine(self, name):
        self._configure(lambda c: replace(c, machine=name), check=lambda: read_machine(name))

    def _chooseProtocol(self, name):
        self._configure(lambda c: replace(c, protocol=name or None), check=lambda: name and read_protocol(name))

    def _configure(self, change, *, check=lambda: None):
        def configure():
            check()
            plan = self.session.current_plan
            plan.config = change(plan.config)

        self._change(configure)

    def _change(self, action):
        """Do it, and predict anew what was predicted before."""

        def changeAndPredict():
            action()
            self.panel.predictAnew()

        self.panel.do(changeAndPredict)

    def _loadPreset(self):
        path = qt.QFileDialog.getOpenFileName(None, _("Load settings"), "", _("Settings (*.toml *.json)"))
        left = []
        if path:
            self._change(lambda: left.extend(self.session.load_preset(Path(path))))
        if left:
            self.panel.message.show_note(
                _("Not in this segmentation, and left out: {names}.").format(names=", ".join(left))
            )

    def _savePreset(self):
        path = qt.QFileDialog.getSaveFileName(None, _("Save settings"), "plan.toml", _("Settings (*.toml)"))
        if path and self.panel.do(lambda: self.session.save_preset(Path(path))):
            self.panel.message.show_note(_("Settings are saved in {path}.").format(path=path))
