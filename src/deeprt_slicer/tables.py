"""Plain tables of results, and what all tables share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import qt
from slicer.i18n import tr as _

NONE = "–"  # where there is no number
_GOOD, _BAD = ("#d8f0dd", "#0b4f24"), ("#fbdcd9", "#7d120d")  # ground and text, for light and dark colors of Slicer
_INK_ON_LIGHT, _INK_ON_DARK = ("#1e6b3c", "#9a3d0c"), ("#86d9a6", "#f2b084")  # good and bad


@dataclass(frozen=True)
class Cell:
    """Text of a cell; what is good or bad says so in words and has a color besides, and None has none."""

    text: str
    is_good: bool | None = None
    tooltip: str = ""


def number(value: float | None, *, decimals: int = 1) -> str:
    """Number of a table, or a dash where there is none."""
    return NONE if value is None else f"{value:.{decimals}f}"


def verdict(is_met: bool | None) -> Cell:
    """Cell *met* or *missed*; a dash where it cannot be told."""
    return Cell(NONE) if is_met is None else Cell(_("met") if is_met else _("missed"), is_met)


def set_columns(
    table: qt.QTableWidget, headers: Sequence[str], *, tooltips: Sequence[str] = (), wide: Sequence[int] = (0,)
) -> None:
    """Name the columns; the wide ones share the room that is left."""
    table.setColumnCount(len(headers))
    table.setHorizontalHeaderLabels(list(headers))
    for column, tooltip in enumerate(tooltips):
        table.horizontalHeaderItem(column).setToolTip(tooltip)
    table.verticalHeader().hide()
    table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
    table.setSelectionMode(qt.QAbstractItemView.SingleSelection)
    table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
    table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
    for column in wide:
        table.horizontalHeader().setSectionResizeMode(column, qt.QHeaderView.Stretch)
    table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)


def fill(table: qt.QTableWidget, headers: Sequence[str], rows: Sequence[Sequence[str | Cell]]) -> None:
    """Show rows of text that cannot be edited; the selection stays where it was.

    Parameters
    ----------
    headers : names of the columns, with units
    rows : one entry a column
    """
    is_blocked = table.blockSignals(True)
    set_columns(table, headers)
    table.setRowCount(len(rows))
    for row, cells in enumerate(rows):
        for column, entry in enumerate(cells):
            cell = entry if isinstance(entry, Cell) else Cell(entry)
            colors = None if cell.is_good is None else _GOOD if cell.is_good else _BAD
            item = text_item(cell.text, tooltip=cell.tooltip, colors=colors, is_number=column > 0)
            table.setItem(row, column, item)
    table.blockSignals(is_blocked)
    fit_height(table)


def text_item(
    text: str, *, tooltip: str = "", colors: tuple[str, str] | None = None, is_number: bool = False
) -> qt.QTableWidgetItem:
    """Item that cannot be edited.

    Parameters
    ----------
    colors : of its ground and its text, as in ``#0b4f24``
    is_number : stands to the right
    """
    item = qt.QTableWidgetItem(text)
    item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
    item.setToolTip(tooltip)
    if is_number:
        item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    if colors is not None:
        ground, ink = colors
        item.setBackground(qt.QBrush(qt.QColor(ground)))
        item.setForeground(qt.QBrush(qt.QColor(ink)))
    return item


def mark(label: qt.QLabel, is_good: bool | None, text: str) -> None:
    """Say on a label that something holds, or that it does not, by a sign and by color; None is neither."""
    is_dark = label.palette.color(qt.QPalette.Window).lightness() < 128
    good, bad = _INK_ON_DARK if is_dark else _INK_ON_LIGHT
    label.text = {True: "✓ ", False: "⚠ ", None: ""}[is_good] + text
    label.styleSheet = {True: f"color: {good}", False: f"color: {bad}", None: ""}[is_good]


def fit_height(table: qt.QTableWidget, *, max_rows: int = 12) -> None:
    """Make a table as high as its rows, up to so many, so that the panel scrolls and not the table in it."""
    table.resizeRowsToContents()
    n_rows = min(table.rowCount, max_rows)
    height = table.horizontalHeader().sizeHint.height() + sum(table.rowHeight(row) for row in range(n_rows))
    table.setFixedHeight(height + 2 * table.frameWidth)
