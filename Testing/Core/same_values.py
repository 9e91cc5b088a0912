"""Equality of values that hold arrays."""

from dataclasses import fields, is_dataclass

import numpy as np


def assert_same(one, other):
    """All fields of two values are equal, types of arrays included."""
    if is_dataclass(one):
        assert type(one) is type(other)
        for f in fields(one):
            assert_same(getattr(one, f.name), getattr(other, f.name))
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype and np.array_equal(one, other)
    elif isinstance(one, tuple):
        assert isinstance(other, tuple) and len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other and type(one) is type(other)
