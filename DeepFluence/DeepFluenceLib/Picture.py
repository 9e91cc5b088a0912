"""A picture that is as wide as the panel."""

import qt


class Picture(qt.QObject):
    """Shows a PNG on a label, scaled to the label's width when that changes; hidden without one.

    Parameters
    ----------
    label : QLabel whose width does not follow from its picture
    """

    def __init__(self, label):
        super().__init__(label)
        self._label, self._pixmap = label, None
        label.installEventFilter(self)
        label.hide()

    def show(self, path):
        """Show a file, or nothing if None."""
        self._pixmap = None if path is None else qt.QPixmap(str(path))
        self._label.setVisible(path is not None)
        self._fit()

    def eventFilter(self, _watched, event):
        """Follow the width of the label; the event goes on."""
        if event.type() == qt.QEvent.Resize:
            self._fit()
        return False

    def _fit(self):
        if self._pixmap is None:
            return
        width = min(self._label.width, self._pixmap.width())
        scaled = self._pixmap.scaledToWidth(max(width, 1), qt.Qt.SmoothTransformation)
        self._label.setPixmap(scaled)
        self._label.setFixedHeight(scaled.height())
