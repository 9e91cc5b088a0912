"""Properties of stand-in widgets that are only kept, or kept and shown."""

from itertools import count

from PySide6.QtCore import Property

_numbers = count()


def stored(kind, default, *, apply=None, notify=""):
    """A property that a widget keeps; `apply(widget, value)` shows it, the signal `notify` tells that it changed."""
    key = f"_stored_{next(_numbers)}"

    def read(self):
        return getattr(self, key, default)

    def write(self, value):
        changed = read(self) != value
        setattr(self, key, value)
        if apply:
            apply(self, value)
        if notify and changed:
            getattr(self, notify).emit(value)

    return Property(kind, read, write)


def of_part(kind, part, getter, setter):
    """A property that a part of the widget has, such as its line edit."""

    def read(self):
        return getattr(getattr(self, part), getter)()

    def write(self, value):
        getattr(getattr(self, part), setter)(value)

    return Property(kind, read, write)
