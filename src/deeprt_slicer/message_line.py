"""The line of a panel that says what went wrong, or what is worth knowing, in one sentence."""

from __future__ import annotations

from collections.abc import Callable

import qt
from slicer.i18n import tr as _

from deeprt.errors import InputError

# Ground and text are both set, so that they can be read in Slicer's light and dark colors.
_STYLE = "QLabel {{ background-color: {}; color: {}; padding: 5px; border-radius: 3px; }}"
_ERROR, _NOTE = _STYLE.format("#fbdcd9", "#7d120d"), _STYLE.format("#dfeaf5", "#123a5c")


class MessageLine:
    """Shows one sentence on a label, which is hidden while there is nothing to say.

    Parameters
    ----------
    label : QLabel
    """

    def __init__(self, label: qt.QLabel) -> None:
        self._label = label
        label.wordWrap = True
        label.textFormat = qt.Qt.PlainText
        label.textInteractionFlags = qt.Qt.TextSelectableByMouse
        label.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Preferred)  # a long path must not widen the panel
        self.clear()

    def show_error(self, text: str) -> None:
        """Say what went wrong and what to do."""
        self._show(_("Error: {text}").format(text=text), _ERROR)

    def show_note(self, text: str) -> None:
        """Say what is worth knowing."""
        self._show(_("Note: {text}").format(text=text), _NOTE)

    def clear(self) -> None:
        """Say nothing."""
        self._label.text = ""
        self._label.hide()

    def attempt(self, action: Callable[[], object]) -> bool:
        """Do something at the user's wish, with a wait cursor; the line says why if it cannot be done.

        Any earlier message is cleared first.

        Returns
        -------
        Whether it was done
        """
        self.clear()
        qt.QApplication.setOverrideCursor(qt.QCursor(qt.Qt.WaitCursor))
        try:
            action()
        except InputError as error:
            self.show_error(str(error))
            return False
        except Exception as error:
            self.show_error(unexpected(error))
            raise
        finally:
            qt.QApplication.restoreOverrideCursor()
        return True

    def _show(self, text: str, style: str) -> None:
        self._label.text = text
        self._label.styleSheet = style
        self._label.show()


def unexpected(error: Exception) -> str:
    """One sentence for an error that is none of the user's."""
    text: str = _("Something unexpected happened ({kind}); the Python console has the details.")
    return text.format(kind=type(error).__name__)
