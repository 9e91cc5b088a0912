"""Table of the structures with their roles, weights and prescriptions, edited in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import ctk
import qt
from slicer.i18n import tr as _

from deeprt.structures import Role
from deeprt_mrml.session import StructureRow
from deeprt_slicer.controls import WheelGuard, allow, set_value, work_is_under_way
from deeprt_slicer.tables import NONE, fit_height, set_columns, text_item

_NAME, _ROLE, _WEIGHT, _PRESCRIPTION = range(4)
_MAX_GY, _STEP_GY = 200.0, 0.5
_MAX_WEIGHT, _STEP_WEIGHT = 1.0, 0.01


@dataclass(frozen=True)
class _Row:
    """Controls of a structure."""

    role: qt.QComboBox
    weight: ctk.ctkSliderWidget
    prescription: qt.QDoubleSpinBox


class StructuresTable:
    """Color and name, role, weight as slider and number, prescription.

    After each call of a function, call `show` with what became of it. Showing the table anew calls nothing.

    Parameters
    ----------
    table : QTableWidget; columns and headers are set here
    on_role, on_weight, on_prescription : called with a structure's name and the new value; prescription in Gy, whole
        course, None without one
    """

    def __init__(
        self,
        table: qt.QTableWidget,
        *,
        on_role: Callable[[str, Role], None],
        on_weight: Callable[[str, float], None],
        on_prescription: Callable[[str, float | None], None],
    ) -> None:
        self._table, self._on_role, self._on_weight = table, on_role, on_weight
        self._on_prescription = on_prescription
        self._names: list[str] = []
        self._rows: list[_Row] = []
        self._wheel = WheelGuard(table)
        set_columns(
            table,
            [_("Structure"), _("Role"), _("Weight"), _("Prescription")],
            tooltips=[
                _("Segment of the segmentation, with its color"),
                _("What the structure is for; proposed from its name"),
                _("How much the dose in it counts when beams are chosen, 0 to 1"),
                _("Dose of a target, Gy, whole course"),
            ],
            wide=[_WEIGHT],
        )
        fit_height(table)

    def show(self, rows: Sequence[StructureRow], *, is_fixed: bool = False) -> None:
        """Show structures; cell in focus and selection stay.

        Parameters
        ----------
        is_fixed : nothing can be edited, since work is under way
        """
        why_fixed = work_is_under_way() if is_fixed else ""
        is_blocked = self._table.blockSignals(True)
        self._names = [row.name for row in rows]
        self._table.setRowCount(len(rows))
        del self._rows[len(rows) :]
        while len(self._rows) < len(rows):
            self._rows.append(self._add_row(len(self._rows)))
        for controls, (n, row) in zip(self._rows, enumerate(rows), strict=True):
            self._show_name(n, row)
            _show_controls(controls, row, why_fixed)
        self._table.blockSignals(is_blocked)
        fit_height(self._table)

    def _add_row(self, row: int) -> _Row:
        role = qt.QComboBox()
        role.addItems(list(role_words().values()))
        role.connect("currentIndexChanged(int)", partial(self._role_chosen, row))
        weight = ctk.ctkSliderWidget()
        weight.decimals = 2
        weight.maximum = _MAX_WEIGHT
        weight.singleStep = _STEP_WEIGHT
        weight.tracking = False
        weight.toolTip = _("Weight of the dose in the structure when beams are chosen, 0 to 1")
        weight.connect("valueChanged(double)", partial(self._weight_set, row))
        prescription = qt.QDoubleSpinBox()
        prescription.decimals = 2
        prescription.maximum = _MAX_GY
        prescription.singleStep = _STEP_GY
        prescription.specialValueText = NONE
        prescription.suffix = " Gy"
        prescription.keyboardTracking = False
        prescription.toolTip = _("Prescribed dose, Gy, whole course; 0 for none")
        prescription.connect("valueChanged(double)", partial(self._prescription_set, row))
        for column, control in ((_ROLE, role), (_WEIGHT, weight), (_PRESCRIPTION, prescription)):
            self._wheel.guard(control)
            self._table.setCellWidget(row, column, control)
        return _Row(role, weight, prescription)

    def _show_name(self, row: int, structure: StructureRow) -> None:
        item = text_item(structure.name, tooltip=structure.organ)
        item.setData(qt.Qt.DecorationRole, qt.QColor(*structure.color))
        self._table.setItem(row, _NAME, item)

    def _role_chosen(self, row: int, index: int) -> None:
        self._on_role(self._names[row], list(role_words())[index])

    def _weight_set(self, row: int, weight: float) -> None:
        self._on_weight(self._names[row], round(weight, 2))

    def _prescription_set(self, row: int, dose_gy: float) -> None:
        self._on_prescription(self._names[row], dose_gy or None)


def role_words() -> dict[Role, str]:
    """The roles in words, in the order in which they are offered."""
    return {
        Role.TARGET: _("target"),
        Role.ORGAN_AT_RISK: _("organ at risk"),
        Role.EXTERNAL: _("external"),
        Role.TUNING: _("tuning"),
        Role.SUPPORT: _("support"),
        Role.BOLUS: _("bolus"),
        Role.OTHER: _("other"),
    }


def _show_controls(controls: _Row, row: StructureRow, why_fixed: str) -> None:
    words = role_words()
    is_blocked = controls.role.blockSignals(True)
    controls.role.currentIndex = list(words).index(row.role)
    controls.role.blockSignals(is_blocked)
    controls.role.whatsThis = _("Role of the structure; its name says {role}").format(role=words[row.proposed])
    controls.weight.maximum = max(_MAX_WEIGHT, row.weight)  # a preset may go beyond
    set_value(controls.weight, row.weight)
    set_value(controls.prescription, row.prescription_gy or 0.0)
    allow(controls.role, why_fixed)
    allow(controls.weight, why_fixed)
    not_a_target = "" if row.role is Role.TARGET else _("Only targets have a prescription.")
    allow(controls.prescription, why_fixed or not_a_target)
