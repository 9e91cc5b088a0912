"""Sliders of CTK: one number with a slider and a spin box, and a range of two."""

from PySide6.QtCore import Property, Qt, Signal, Slot
from PySide6.QtWidgets import QDoubleSpinBox, QHBoxLayout, QSlider, QWidget

from .stored import of_part, stored


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


class ctkRangeWidget(QWidget):
    """A range of numbers, by two spin boxes."""

    minimumValueChanged = Signal(float)
    maximumValueChanged = Signal(float)
    valuesChanged = Signal(float, float)
    rangeChanged = Signal(float, float)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._low, self._high = QDoubleSpinBox(maximum=99), QDoubleSpinBox(maximum=99, value=99)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._low)
        layout.addWidget(self._high)
        self._low.valueChanged.connect(self._on_low)
        self._high.valueChanged.connect(self._on_high)

    minimum = Property(float, lambda self: self._low.minimum(), lambda self, v: self.setRange(v, self._high.maximum()))
    maximum = Property(float, lambda self: self._high.maximum(), lambda self, v: self.setRange(self._low.minimum(), v))
    minimumValue = of_part(float, "_low", "value", "setValue")
    maximumValue = of_part(float, "_high", "value", "setValue")
    decimals = Property(int, lambda self: self._low.decimals(), lambda self, value: self._both("setDecimals", value))
    singleStep = Property(float, lambda self: self._low.singleStep(), lambda self, v: self._both("setSingleStep", v))
    prefix = Property(str, lambda self: self._low.prefix(), lambda self, value: self._both("setPrefix", value))
    suffix = Property(str, lambda self: self._low.suffix(), lambda self, value: self._both("setSuffix", value))
    tracking = stored(bool, True)
    symmetricMoves = stored(bool, False)

    @Slot(float, float)
    def setRange(self, minimum, maximum):
        self._both("setRange", minimum, maximum)
        self.rangeChanged.emit(minimum, maximum)

    @Slot(float)
    def setMinimumValue(self, value):
        self._low.setValue(value)

    @Slot(float)
    def setMaximumValue(self, value):
        self._high.setValue(value)

    @Slot(float, float)
    def setValues(self, low, high):
        self._low.setValue(low)
        self._high.setValue(high)

    @Slot(int)
    def setDecimals(self, decimals):
        self._both("setDecimals", decimals)

    def _both(self, setter, *values):
        for spin in (self._low, self._high):
            getattr(spin, setter)(*values)

    def _on_low(self, value):
        self._high.setValue(max(value, self._high.value()))
        self.minimumValueChanged.emit(value)
        self.valuesChanged.emit(value, self._high.value())

    def _on_high(self, value):
        self._low.setValue(min(value, self._low.value()))
        self.maximumValueChanged.emit(value)
        self.valuesChanged.emit(self._low.value(), value)
