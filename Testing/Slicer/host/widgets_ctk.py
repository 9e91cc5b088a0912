"""Widgets of CTK that Slicer's panels use: their properties, slots and signals, and no more than those.

A method that CTK declares neither as a slot nor as invokable does not exist for Python, so it has none here.
"""

from enum import IntFlag
from pathlib import Path

from PySide6.QtCore import Property, QEvent, QSize, Qt, Signal, Slot
from PySide6.QtGui import QColor, QIcon, QPixmap
from PySide6.QtWidgets import (
    QAbstractButton,
    QColorDialog,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QStyle,
    QStyleOptionButton,
    QStylePainter,
    QToolButton,
    QWidget,
)

from . import dialogs
from .stored import of_part, stored


class ctkCollapsibleButton(QAbstractButton):
    """A bar that shows or hides the widgets laid out in it."""

    contentsCollapsed = Signal(bool)

    def __init__(self, *arguments):
        text = [a for a in arguments if isinstance(a, str)]
        super().__init__(*[a for a in arguments if not isinstance(a, str)])
        self._hidden = []
        self.setText(text[0] if text else "")
        self.setCheckable(True)
        self.setChecked(True)
        self.setContentsMargins(0, self._bar_height(), 0, 0)
        self.toggled.connect(self._show_contents)

    collapsed = Property(bool, lambda self: not self.isChecked(), lambda self, on: self.setChecked(not on))
    collapsedHeight = stored(int, 10)
    flat = stored(bool, False)
    contentsFrameShape = stored(int, 0)
    contentsFrameShadow = stored(int, 16)
    contentsLineWidth = stored(int, 1)
    contentsMidLineWidth = stored(int, 0)
    buttonTextAlignment = stored(int, 0x81)
    indicatorAlignment = stored(int, 0x81)

    def sizeHint(self):
        bar = QSize(self.fontMetrics().horizontalAdvance(self.text()) + 40, self._bar_height())
        return bar if self.collapsed else super().sizeHint().expandedTo(bar)

    def minimumSizeHint(self):
        return self.sizeHint() if self.collapsed else super().minimumSizeHint().expandedTo(QSize(0, self._bar_height()))

    def paintEvent(self, _):
        painter, option = QStylePainter(self), QStyleOptionButton()
        option.initFrom(self)
        option.rect.setHeight(self._bar_height())
        option.state |= QStyle.StateFlag.State_Raised
        painter.drawControl(QStyle.ControlElement.CE_PushButtonBevel, option)
        arrow = QStyle.PrimitiveElement
        option.rect.setRect(8, (self._bar_height() - 12) // 2, 12, 12)
        painter.drawPrimitive(arrow.PE_IndicatorArrowRight if self.collapsed else arrow.PE_IndicatorArrowDown, option)
        option.rect.setRect(28, 0, self.width() - 32, self._bar_height())
        painter.drawText(option.rect, Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextShowMnemonic, self.text())

    def hitButton(self, position):
        return position.y() < self._bar_height()

    def childEvent(self, event):
        if event.added() and event.child().isWidgetType():
            event.child().installEventFilter(self)
        super().childEvent(event)

    def eventFilter(self, child, event):
        if self.collapsed and event.type() == QEvent.Type.ShowToParent:
            if child not in self._hidden:
                self._hidden.append(child)
            child.hide()
        return False

    def _bar_height(self):
        return self.fontMetrics().height() + 12

    def _show_contents(self, shown):
        children = [c for c in self.children() if c.isWidgetType()]
        if shown:
            hidden, self._hidden = self._hidden, []
            for child in hidden:
                child.show()
        else:
            self._hidden = [c for c in children if not c.isHidden()]
            for child in self._hidden:
                child.hide()
        self.setMaximumHeight(16777215 if shown else self._bar_height())
        self.updateGeometry()
        self.contentsCollapsed.emit(not shown)


class ctkDoubleSpinBox(QWidget):
    """A spin box of floating-point numbers."""

    valueChanged = Signal(float)
    editingFinished = Signal()
    decimalsChanged = Signal(int)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._spin = QDoubleSpinBox()
        _side_by_side(self, self._spin)
        self._spin.valueChanged.connect(self.valueChanged)
        self._spin.editingFinished.connect(self.editingFinished)

    alignment = stored(int, 1, apply=lambda self, value: self._spin.setAlignment(Qt.AlignmentFlag(value)))
    readOnly = of_part(bool, "_spin", "isReadOnly", "setReadOnly")
    prefix = of_part(str, "_spin", "prefix", "setPrefix")
    suffix = of_part(str, "_spin", "suffix", "setSuffix")
    cleanText = Property(str, lambda self: self._spin.cleanText())
    decimals = of_part(int, "_spin", "decimals", "setDecimals")
    minimum = of_part(float, "_spin", "minimum", "setMinimum")
    maximum = of_part(float, "_spin", "maximum", "setMaximum")
    singleStep = of_part(float, "_spin", "singleStep", "setSingleStep")
    value = of_part(float, "_spin", "value", "setValue")

    @Slot(float)
    def setValue(self, value):
        self._spin.setValue(value)

    @Slot()
    def stepUp(self):
        self._spin.stepUp()

    @Slot()
    def stepDown(self):
        self._spin.stepDown()

    @Slot(int)
    def setDecimals(self, decimals):
        self._spin.setDecimals(decimals)

    @Slot(bool)
    def setReadOnly(self, on):
        self._spin.setReadOnly(on)


class Filter(IntFlag):
    """What a path may lead to."""

    Dirs, Files, Drives, NoSymLinks = 0x1, 0x2, 0x4, 0x8
    AllEntries = 0x7
    Readable, Writable, Executable, Hidden = 0x10, 0x20, 0x40, 0x100
    NoDotAndDotDot, NoDot, NoDotDot = 0x1000, 0x2000, 0x4000


class Option(IntFlag):
    """How a file dialog behaves."""

    ShowDirsOnly, DontResolveSymlinks, DontConfirmOverwrite = 0x1, 0x2, 0x4
    DontUseSheet, DontUseNativeDialog, ReadOnly, HideNameFilterDetails = 0x8, 0x10, 0x20, 0x40


class ctkPathLineEdit(QWidget):
    """A line for a path with a button that opens a file dialog."""

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    Dirs, Files, Drives, NoSymLinks = Filter.Dirs, Filter.Files, Filter.Drives, Filter.NoSymLinks
    Readable, Writable, Executable, Hidden = Filter.Readable, Filter.Writable, Filter.Executable, Filter.Hidden
    NoDot, NoDotDot, NoDotAndDotDot = Filter.NoDot, Filter.NoDotDot, Filter.NoDotAndDotDot
    AllEntries = Filter.AllEntries
    ShowDirsOnly, DontUseNativeDialog = Option.ShowDirsOnly, Option.DontUseNativeDialog
    DontConfirmOverwrite = Option.DontConfirmOverwrite

    def __init__(self, parent=None):
        super().__init__(parent)
        self._line, self._button = QLineEdit(), QToolButton(text="…")
        _side_by_side(self, self._line, self._button)
        self._line.textChanged.connect(self.currentPathChanged)
        self._button.clicked.connect(self.browse)

    label = stored(str, "")
    filters = stored(int, int(Filter.AllEntries | Filter.NoDotAndDotDot))
    options = stored(int, 0)
    currentPath = of_part(str, "_line", "text", "setText")
    settingKey = stored(str, "")
    showBrowseButton = stored(bool, True, apply=lambda self, on: self._button.setVisible(on))
    showHistoryButton = stored(bool, True)
    sizeAdjustPolicy = stored(int, 0)
    minimumContentsLength = stored(int, 0)
    nameFilters = stored("QStringList", [])

    @Slot(str)
    def setCurrentPath(self, path):
        self._line.setText(path)

    @Slot()
    def browse(self):
        chooses_folder = not self.filters & Filter.Files
        name = "getExistingDirectory" if chooses_folder else "getOpenFileName"
        path = _asked_path(name, self.label or "Select a path", self.currentPath)
        if path:
            self._line.setText(path)

    @Slot()
    def retrieveHistory(self):
        pass

    @Slot()
    def addCurrentPathToHistory(self):
        pass


class ctkDirectoryButton(QWidget):
    """A button that shows a folder and lets another one be chosen."""

    directoryChanged = Signal(str)
    directorySelected = Signal(str)
    ShowDirsOnly, DontUseNativeDialog = Option.ShowDirsOnly, Option.DontUseNativeDialog

    def __init__(self, *arguments):
        super().__init__(*[a for a in arguments if isinstance(a, QWidget)])
        self._button, self._folder = QPushButton(), str(Path.cwd())
        _side_by_side(self, self._button)
        self._button.clicked.connect(self.browse)
        self._choose(next((a for a in arguments if isinstance(a, str)), self._folder))

    directory = Property(str, lambda self: self._folder, lambda self, path: self._choose(path))
    caption = stored(str, "")
    text = stored(str, "")
    acceptMode = stored(int, 0)
    options = stored(int, 1)

    @Slot(result=str)
    def browse(self):
        path = _asked_path("getExistingDirectory", self.caption, self._folder)
        if path:
            self._choose(path)
            self.directorySelected.emit(path)
        return path

    def _choose(self, path):
        changed, self._folder = path != self._folder, path
        self._button.setText(self.text or path)
        if changed:
            self.directoryChanged.emit(path)


class ctkComboBox(QComboBox):
    """A combo box with a text for no choice."""

    defaultText = stored(str, "", apply=lambda self, text: self.setPlaceholderText(text))
    forceDefault = stored(bool, False)
    elideMode = stored(int, 3)
    scrollWheelEffect = stored(int, 1)
    currentUserDataAsString = Property(
        str, lambda self: str(self.currentData() or ""), lambda self, text: self.setCurrentUserDataAsString(text)
    )

    @Slot(str)
    def setCurrentUserDataAsString(self, text):
        self.setCurrentIndex(self.findData(text))


class ctkMenuButton(QPushButton):
    """A button with a menu at its side."""


class ctkColorPickerButton(QPushButton):
    """A button that shows a color and lets another one be chosen."""

    colorChanged = Signal(QColor)
    colorNameChanged = Signal(str)

    def __init__(self, *arguments):
        super().__init__(*[a for a in arguments if not isinstance(a, QColor)])
        self._color = QColor(Qt.GlobalColor.black)
        self.clicked.connect(self.changeColor)
        self._choose(next((a for a in arguments if isinstance(a, QColor)), self._color))

    color = Property(QColor, lambda self: self._color, lambda self, color: self._choose(color))
    displayColorName = stored(bool, True)

    @Slot(QColor)
    def setColor(self, color):
        self._choose(color)

    @Slot(bool)
    def setDisplayColorName(self, on):
        self.displayColorName = on

    @Slot()
    def changeColor(self):
        chosen = dialogs.asked(QColorDialog, "getColor", (self.text(),))
        if chosen._qt.isValid():
            self._choose(chosen._qt)

    def _choose(self, color):
        changed, self._color = color != self._color, QColor(color)
        pixmap = QPixmap(16, 16)
        pixmap.fill(self._color)
        self.setIcon(QIcon(pixmap))
        if self.displayColorName:
            self.setText(self._color.name())
        if changed:
            self.colorChanged.emit(self._color)


class ctkMessageBox(QMessageBox):
    """A message box that may not be shown again."""

    dontShowAgainVisible = stored(bool, False)
    dontShowAgain = stored(bool, False)
    dontShowAgainSettingsKey = stored(str, "")


def _side_by_side(widget, *parts):
    layout = QHBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        layout.addWidget(part)
    widget.setFocusProxy(parts[0])


def _asked_path(name, title, path):
    return dialogs.asked(QFileDialog, name, (title, path))
