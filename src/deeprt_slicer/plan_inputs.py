"""The inputs that both panels have: CT, segmentation, dose, machine and fractions of the plan in work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import slicer
from slicer.i18n import tr as _

from deeprt.config import DEFAULT_MACHINE
from deeprt.machine_file import machine_names, read_machine
from deeprt_mrml.session import PlanSession
from deeprt_slicer.controls import allow, bind_node_selector, set_value
from deeprt_slicer.name_or_file import NameOrFile
from deeprt_slicer.panel_frame import PanelFrame
from deeprt_slicer.views import show_volumes


class PlanInputs:
    """Binds the controls of the inputs to the plan in work; the first node that is chosen makes a plan.

    Parameters
    ----------
    on_change : called after an input changed
    """

    def __init__(
        self, frame: PanelFrame, session: PlanSession, *, on_change: Callable[[], None] = lambda: None
    ) -> None:
        self._frame, self._session, self._on_change = frame, session, on_change
        ui = self._ui = frame.ui
        self._show_ct = bind_node_selector(ui.ctSelector, lambda node: self._choose("ct_node", node))
        self._show_segmentation = bind_node_selector(
            ui.segmentationSelector, lambda node: self._choose("segmentation_node", node)
        )
        self._show_dose = bind_node_selector(ui.doseSelector, lambda node: self._choose("wished_dose_node", node))
        self._machine = NameOrFile(
            ui.machineCombo, ui.machineButton, [(name, name) for name in machine_names()],
            file_title=_("Machine file"), file_filter=_("Machines (*.json *.mat)"), on_choice=self._choose_machine,
        )  # fmt: skip
        ui.fractionsSpin.keyboardTracking = False
        ui.fractionsSpin.connect("valueChanged(int)", self._set_fractions)

    def show(self, why_fixed: str, *, why_no_dose: str = "") -> None:
        """Show the inputs of the plan in work.

        Parameters
        ----------
        why_fixed : why nothing can be changed; empty if it can
        why_no_dose : why no dose can be chosen; empty if it can
        """
        ui, plan = self._ui, self._session.plan
        self._show_ct(plan and plan.ct_node)
        self._show_segmentation(plan and plan.segmentation_node)
        self._show_dose(plan and plan.wished_dose_node)
        allow(ui.ctSelector, why_fixed)
        allow(ui.segmentationSelector, why_fixed)
        why_not = self.why_not(why_fixed)
        allow(ui.doseSelector, why_not or why_no_dose)
        allow(ui.fractionsSpin, why_not)
        config = None if plan is None else self._frame.answer(lambda: plan.config)
        self._machine.show((config and config.machine) or DEFAULT_MACHINE, why_not)
        set_value(ui.fractionsSpin, (config and config.n_fractions) or 0)

    def why_not(self, why_fixed: str) -> str:
        """Why nothing of a plan can be changed: the reason that is given, or that there is none; empty if it can."""
        no_plan = "" if self._session.plan else _("There is no plan yet; press New or Try it, or choose a CT volume.")
        return why_fixed or no_plan

    def change(self, action: Callable[[], object]) -> bool:
        """Change inputs at the user's wish; whether it was done."""

        def change_and_tell() -> None:
            action()
            self._on_change()

        return self._frame.do(change_and_tell)

    def _choose(self, reference: str, node: slicer.vtkMRMLNode | None) -> None:
        def choose() -> None:
            if node is not None and self._session.plan is None:
                self._session.new_plan()
            if self._session.plan is not None:
                setattr(self._session.plan, reference, node)
                if reference == "ct_node":
                    show_volumes(node, fit=True)

        self.change(choose)

    def _choose_machine(self, machine: str) -> None:
        def choose() -> None:
            read_machine(machine)  # refuses what is none before it is kept
            self._frame.configure(lambda c: replace(c, machine=machine))

        self.change(choose)

    def _set_fractions(self, n_fractions: int) -> None:
        self.change(lambda: self._frame.configure(lambda c: replace(c, n_fractions=n_fractions or None)))
