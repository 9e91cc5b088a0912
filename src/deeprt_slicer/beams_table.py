"""Table of a plan's beams, edited in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import qt
from slicer.i18n import tr as _

from deeprt.beams import BeamAngles
from deeprt.dicom.source import Color
from deeprt.orientation.session import SessionBeam
from deeprt_mrml.beam_models import BEAM_COLORS
from deeprt_slicer.controls import WheelGuard, allow, set_value, work_is_under_way
from deeprt_slicer.tables import NONE, fit_height, set_columns, text_item

_NUMBER, _GANTRY, _COUCH, _WEIGHT, _LOCK, _REMOVE = range(6)
_MAX_DEG, _STEP_DEG = 359.9, 1.0


@dataclass(frozen=True)
class _Row:
    """Controls of a beam."""

    gantry: qt.QDoubleSpinBox
    couch: qt.QDoubleSpinBox
    remove: qt.QToolButton


class BeamsTable:
    """Number with the beam's color, gantry, couch, weight, lock, remove.

    Positions of beams count from 0. After each call of a function, call `show` with what became of it: that also takes
    an edit back that was refused. Showing the table anew calls nothing.

    Parameters
    ----------
    table : QTableWidget; columns and headers are set here
    on_move : called with position and new angles; the collimator's stays as it was
    on_lock : called with position and whether the beam is to be locked
    on_remove : called with position
    """

    def __init__(
        self,
        table: qt.QTableWidget,
        *,
        on_move: Callable[[int, BeamAngles], None],
        on_lock: Callable[[int, bool], None],
        on_remove: Callable[[int], None],
    ) -> None:
        self._table, self._on_move, self._on_lock, self._on_remove = table, on_move, on_lock, on_remove
        self._beams: tuple[SessionBeam, ...] = ()  # as shown
        self._rows: list[_Row] = []
        self._wheel = WheelGuard(table)
        set_columns(
            table,
            [_("Beam"), _("Gantry"), _("Couch"), _("Weight (%)"), _("Lock"), ""],
            tooltips=[
                _("Number and color of the beam in the views"),
                _("Gantry angle, IEC 61217, degrees"),
                _("Couch angle, IEC 61217, degrees"),
                _("Share of the plan's monitor units, percent, once it is evaluated"),
                _("A locked beam is neither moved nor removed"),
                _("Remove the beam"),
            ],
            wide=[_GANTRY, _COUCH],
        )
        table.connect("itemChanged(QTableWidgetItem*)", self._item_changed)
        fit_height(table)

    def show(
        self, beams: Sequence[SessionBeam], *, shares: Sequence[float | None] = (), is_fixed: bool = False
    ) -> None:
        """Show beams; cell in focus and selection stay.

        Parameters
        ----------
        shares : weight of each beam, its share of the monitor units, 0 to 1; None or fewer where unknown
        is_fixed : nothing can be edited, since work is under way
        """
        why_fixed = work_is_under_way() if is_fixed else ""
        is_blocked = self._table.blockSignals(True)
        self._beams = tuple(beams)
        self._table.setRowCount(len(beams))
        del self._rows[len(beams) :]
        while len(self._rows) < len(beams):
            self._rows.append(self._add_row(len(self._rows)))
        for row, beam in enumerate(beams):
            share = shares[row] if row < len(shares) else None
            self._show_row(row, beam, NONE if share is None else f"{100 * share:.0f}", why_fixed)
        self._table.blockSignals(is_blocked)
        fit_height(self._table)

    def _add_row(self, row: int) -> _Row:
        gantry = self._angle_box(row, "gantry_deg", _("Gantry angle of beam {n}, degrees").format(n=row + 1))
        couch = self._angle_box(row, "couch_deg", _("Couch angle of beam {n}, degrees").format(n=row + 1))
        remove = qt.QToolButton()
        remove.text = "✕"
        remove.autoRaise = True
        remove.toolTip = _("Remove beam {n}").format(n=row + 1)
        remove.connect("clicked()", partial(self._on_remove, row))
        for column, control in ((_GANTRY, gantry), (_COUCH, couch), (_REMOVE, remove)):
            self._table.setCellWidget(row, column, control)
        color = BEAM_COLORS[row % len(BEAM_COLORS)]
        self._table.setItem(row, _NUMBER, text_item(str(row + 1), colors=(_hex(color), _ink_on(color))))
        self._table.setItem(row, _WEIGHT, text_item("", is_number=True))
        lock = qt.QTableWidgetItem()
        lock.setToolTip(_("Lock beam {n}: it is neither moved nor removed").format(n=row + 1))
        self._table.setItem(row, _LOCK, lock)
        return _Row(gantry, couch, remove)

    def _angle_box(self, row: int, angle: str, tooltip: str) -> qt.QDoubleSpinBox:
        box = qt.QDoubleSpinBox()
        box.decimals = 1
        box.maximum = _MAX_DEG
        box.singleStep = _STEP_DEG
        box.wrapping = True
        box.suffix = "°"
        box.keyboardTracking = False  # an angle counts when it is typed to its end
        box.toolTip = tooltip
        box.connect("valueChanged(double)", partial(self._move, row, angle))
        self._wheel.guard(box)
        return box

    def _show_row(self, row: int, beam: SessionBeam, weight: str, why_fixed: str) -> None:
        controls, n = self._rows[row], row + 1
        for box, degrees in ((controls.gantry, beam.angles.gantry_deg), (controls.couch, beam.angles.couch_deg)):
            set_value(box, round(degrees, 1) % 360)
            allow(box, why_fixed or (_("Beam {n} is locked; unlock it to move it.").format(n=n) if beam.locked else ""))
        why_kept = _("Beam {n} is locked; unlock it to remove it.").format(n=n) if beam.locked else ""
        allow(controls.remove, why_fixed or why_kept)
        self._table.item(row, _WEIGHT).setText(weight)
        lock = self._table.item(row, _LOCK)
        lock.setFlags(qt.Qt.ItemIsUserCheckable | (qt.Qt.NoItemFlags if why_fixed else qt.Qt.ItemIsEnabled))
        lock.setCheckState(qt.Qt.Checked if beam.locked else qt.Qt.Unchecked)

    def _move(self, row: int, angle: str, degrees: float) -> None:
        angles = self._beams[row].angles
        moved = replace(angles, gantry_deg=degrees) if angle == "gantry_deg" else replace(angles, couch_deg=degrees)
        self._on_move(row, moved)

    def _item_changed(self, item: qt.QTableWidgetItem) -> None:
        if item.column() == _LOCK:
            self._on_lock(item.row(), item.checkState() == qt.Qt.Checked)


def _hex(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _ink_on(color: Color) -> str:
    """Black or white, whichever is read better on a color."""
    red, green, blue = color
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else "#ffffff"
