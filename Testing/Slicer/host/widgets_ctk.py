"""Widgets of CTK that Slicer's panels use: their properties, slots and signals, and no more than those.

A method that CTK declares neither as a slot nor as invokable does not exist for Python, so it has none here.
"""

from enum import IntFlag

from PySide6.QtCore import Property, QEvent, QSize, Qt, Signal, Slot
from PySide6.QtWidgets import (
    QAbstractButton,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QMessageBox,
    QSlider,
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


class ctkSliderWidget(QWidget):
    """A number, by a slider and by a spin box."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    decimalsChanged = Signal(int)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._slider, self._spin = QSlider(Qt.Orientation.Horizontal), QDoubleSpinBox(maximum=100)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._spin)
        self._spin.valueChanged.connect(self._on_value)
        self._slider.valueChanged.connect(self._on_slider)
        self._place_slider()

    value = of_part(float, "_spin", "value", "setValue")
    minimum = Property(float, lambda self: self._spin.minimum(), lambda self, value: self._set("setMinimum", value))
    maximum = Property(float, lambda self: self._spin.maximum(), lambda self, value: self._set("setMaximum", value))
    singleStep = Property(float, lambda self: self._spin.singleStep(), lambda self, v: self._set("setSingleStep", v))
    pageStep = stored(float, 10.0)
    decimals = Property(int, lambda self: self._spin.decimals(), lambda self, value: self.setDecimals(value))
    prefix = of_part(str, "_spin", "prefix", "setPrefix")
    suffix = of_part(str, "_spin", "suffix", "setSuffix")
    tickInterval = stored(float, 0.0)
    tickPosition = stored(int, 0)
    tracking = of_part(bool, "_slider", "hasTracking", "setTracking")
    spinBoxVisible = Property(bool, lambda self: not self._spin.isHidden(), lambda self, on: self._spin.setVisible(on))
    spinBoxAlignment = stored(int, 0x20)
    popupSlider = stored(bool, False)
    invertedAppearance = stored(bool, False)
    invertedControls = stored(bool, False)

    @Slot(float)
    def setValue(self, value):
        self._spin.setValue(value)

    @Slot()
    def reset(self):
        self._spin.setValue(self._spin.minimum())

    @Slot(bool)
    def setSpinBoxVisible(self, on):
        self._spin.setVisible(on)

    @Slot(int)
    def setDecimals(self, decimals):
        self._set("setDecimals", decimals)
        self.decimalsChanged.emit(decimals)

    def _set(self, setter, value):
        getattr(self._spin, setter)(value)
        self._place_slider()

    def _on_value(self, value):
        self._place_slider()
        self.valueIsChanging.emit(value)
        self.valueChanged.emit(value)

    def _on_slider(self, position):
        self._spin.setValue(self._spin.minimum() + position * self._step())

    def _step(self):
        return max(self._spin.singleStep(), 10.0 ** -self._spin.decimals())

    def _place_slider(self):
        self._slider.blockSignals(True)
        self._slider.setRange(0, round((self._spin.maximum() - self._spin.minimum()) / self._step()))
        self._slider.setValue(round((self._spin.value() - self._spin.minimum()) / self._step()))
        self._slider.blockSignals(False)


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
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._line)
        layout.addWidget(self._button)
        self.setFocusProxy(self._line)
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
        path = dialogs.asked(QFileDialog, name, (self.label or "Select a path", self.currentPath))
        if path:
            self._line.setText(path)

    @Slot()
    def retrieveHistory(self):
        pass

    @Slot()
    def addCurrentPathToHistory(self):
        pass


class ctkMessageBox(QMessageBox):
    """A message box that may not be shown again; Slicer's own dialogs are such."""

    dontShowAgainVisible = stored(bool, False)
    dontShowAgain = stored(bool, False)
    dontShowAgainSettingsKey = stored(str, "")
