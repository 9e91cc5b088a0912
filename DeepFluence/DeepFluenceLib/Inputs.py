"""Section *Inputs*: what the plan is made for, and which dose its fluence is to give."""

from dataclasses import replace
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from deeprt.config import DEFAULT_MACHINE
from deeprt.machine_file import machine_names, read_machine
from deeprt_mrml.subject_hierarchy import key_of
from deeprt_mrml.volumes import DOSE_VOLUME
from deeprt_slicer.controls import allow, bind_node_selector, set_value

from .Section import Section

_WISHES = ("given", "optimize", "predict")  # in the order of the combo box
_VOLUME = "vtkMRMLScalarVolumeNode"


class InputsSection(Section):
    """CT, segmentation, wished dose, machine, fractions."""

    def _bind(self):
        ui = self.ui
        self._showCt = bind_node_selector(ui.ctSelector, lambda node: self.panel.do(lambda: self._takeCt(node)))
        self._showSegmentation = bind_node_selector(
            ui.segmentationSelector, lambda node: self.panel.do(lambda: self._takeSegmentation(node))
        )
        self._showDose = bind_node_selector(ui.doseSelector, lambda node: self.panel.do(lambda: self._takeDose(node)))
        self.onChange(ui.wishCombo, "currentIndexChanged(int)", self._wish)
        self.onChange(ui.machineCombo, "currentIndexChanged(int)", lambda n: self._takeMachine(self._machines[n]))
        self.onChange(ui.fractionsSpin, "valueChanged(int)", self._takeFractions)
        ui.machineButton.connect("clicked()", self._browseMachine)

    def _show(self, whyFixed):
        ui, plan = self.ui, self.plan
        self._showCt(plan and plan.ct_node)
        self._showSegmentation(plan and plan.segmentation_node)
        self._showDose(plan and plan.wished_dose_node)
        for control in (ui.ctSelector, ui.segmentationSelector):
            allow(control, whyFixed)
        whyNot = whyFixed or ("" if plan else _("There is no plan yet; press New or Try it, or choose a CT volume."))
        for control in (ui.wishCombo, ui.machineCombo, ui.machineButton, ui.fractionsSpin):
            allow(control, whyNot)
        wish = self.planning.wish if plan else "optimize"
        ui.wishCombo.setCurrentIndex(_WISHES.index(wish))
        made = "" if wish == "given" else _("The wished dose is made; choose Dose volume above to give one.")
        allow(ui.doseSelector, whyNot or made)
        self._showMachine((plan and plan.config.machine) or DEFAULT_MACHINE)
        set_value(ui.fractionsSpin, (plan and plan.config.n_fractions) or 0)

    def _showMachine(self, machine):
        """List the machines that ship, and a file if one is in use."""
        names = machine_names()
        self._machines = names if machine in names else (*names, machine)
        self.ui.machineCombo.clear()
        self.ui.machineCombo.addItems([m if m in names else Path(m).name for m in self._machines])
        self.ui.machineCombo.setCurrentIndex(self._machines.index(machine))

    def _planFor(self, node):
        """The plan in work; the first input that is chosen makes one."""
        return self.session.new_plan() if self.plan is None and node is not None else self.plan

    def _takeCt(self, node):
        plan = self._planFor(node)
        if plan is not None:
            plan.ct_node = node
            slicer.util.setSliceViewerLayers(background=node, fit=True)

    def _takeSegmentation(self, node):
        plan = self._planFor(node)
        if plan is not None:
            plan.segmentation_node = node

    def _takeDose(self, node):
        self.session.current_plan.wished_dose_node = node

    def _wish(self, index):
        self.planning.set_wish(_WISHES[index])
        if _WISHES[index] == "given" and self.plan.wished_dose_node is None:
            self.plan.wished_dose_node = self._someDose()

    def _someDose(self):
        """The first dose volume that is none of the plan's own, such as an RTDOSE that was loaded; None without one."""
        scene, key = self.session.scene, self.plan.key
        volumes = (scene.GetNthNodeByClass(n, _VOLUME) for n in range(scene.GetNumberOfNodesByClass(_VOLUME)))
        return next((v for v in volumes if v.GetAttribute(DOSE_VOLUME) and key_of(v) != key), None)

    def _browseMachine(self):
        path = qt.QFileDialog.getOpenFileName(None, _("Machine file"), "", _("Machines (*.json *.mat)"))
        if path:
            self.panel.do(lambda: self._takeMachine(path))

    def _takeMachine(self, machine):
        read_machine(machine)  # refuses what is none before it is kept
        self.configure(lambda c: replace(c, machine=machine))

    def _takeFractions(self, nFractions):
        self.configure(lambda c: replace(c, n_fractions=nFractions or None))
