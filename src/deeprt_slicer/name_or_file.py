"""A choice among names that ship with DeepRT, and files."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import qt

from deeprt_slicer.controls import allow


class NameOrFile:
    """A combo box of names that ship with DeepRT, and a button that adds a file to it.

    Parameters
    ----------
    combo, button : QComboBox, QPushButton
    names : pairs of what is shown and what is chosen by it
    file_title, file_filter : of the file dialog
    on_choice : called with what the user chose
    """

    def __init__(
        self,
        combo: qt.QComboBox,
        button: qt.QPushButton,
        names: Sequence[tuple[str, str]],
        *,
        file_title: str,
        file_filter: str,
        on_choice: Callable[[str], object],
    ) -> None:
        self._combo, self._button, self._names = combo, button, names
        self._file_title, self._file_filter, self._on_choice = file_title, file_filter, on_choice
        self._values: list[str] = []
        combo.connect("activated(int)", lambda index: on_choice(self._values[index]))
        button.connect("clicked()", self._browse)

    def show(self, value: str, why_not: str = "") -> None:
        """Show a name, or a file by its own name; neither can be chosen for a reason, if there is one."""
        names = list(self._names)
        if value not in [v for _text, v in names]:
            names.append((re.split(r"[/\\]", value)[-1], value))
        self._values = [v for _text, v in names]
        self._combo.clear()
        self._combo.addItems([text for text, _value in names])
        self._combo.setCurrentIndex(self._values.index(value))
        allow(self._combo, why_not)
        allow(self._button, why_not)

    def _browse(self) -> None:
        path = qt.QFileDialog.getOpenFileName(None, self._file_title, "", self._file_filter)
        if path:
            self._on_choice(path)
