"""Small controls of the inputs: a combo box of names and files, and sectors of angles as text."""

import re

import qt

from deeprt.errors import InputError
from deeprt_slicer.controls import allow

_SECTOR = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*°?\s*[-–]\s*(-?\d+(?:\.\d+)?)\s*°?\s*")


class NameOrFile:
    """A combo box of names that ship with DeepRT, and a button that adds a file to it.

    Parameters
    ----------
    names : pairs of what is shown and what is chosen by it
    fileTitle, fileFilter : of the file dialog
    onChoice : called with what the user chose
    """

    def __init__(self, combo, button, names, *, fileTitle, fileFilter, onChoice):
        self._combo, self._button, self._names = combo, button, names
        self._fileTitle, self._fileFilter, self._onChoice = fileTitle, fileFilter, onChoice
        combo.connect("activated(int)", lambda index: onChoice(self._values[index]))
        button.connect("clicked()", self._browse)
        self.show(names[0][1])

    def show(self, value, whyNot=""):
        """Show a name, or a file by its own name."""
        names = list(self._names)
        if value not in [v for _, v in names]:
            names.append((re.split(r"[/\\]", value)[-1], value))
        self._values = [v for _, v in names]
        self._combo.clear()
        for text, _ in names:
            self._combo.addItem(text)
        self._combo.setCurrentIndex(self._values.index(value))
        allow(self._combo, whyNot)
        allow(self._button, whyNot)

    def _browse(self):
        path = qt.QFileDialog.getOpenFileName(None, self._fileTitle, "", self._fileFilter)
        if path:
            self._onChoice(path)


def sectorsOf(text):
    """Read sectors of gantry angles, (from, to) clockwise, written like ``80-100, 260-280``.

    Raises
    ------
    InputError
        If it is not written like this.
    """
    parts = [part for part in re.split("[,;]", text) if part.strip()]
    matches = [_SECTOR.fullmatch(part) for part in parts]
    for part, match in zip(parts, matches, strict=True):
        if match is None:
            raise InputError(f"'{part.strip()}' is not a sector of gantry angles; write it like 80-100, 260-280.")
    return tuple((float(m[1]), float(m[2])) for m in matches)


def textOf(sectors):
    """Write sectors so that `sectorsOf` reads them."""
    return ", ".join(f"{low:g}-{high:g}" for low, high in sectors)
