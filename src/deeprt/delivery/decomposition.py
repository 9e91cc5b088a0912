"""Decomposition of an integer fluence map into the openings of a leaf sweep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Openings whose weighted sum is an integer map.

    Parameters
    ----------
    left, right : (n_openings, n_rows) columns; row r of opening k is open on ``left[k, r] <= column < right[k, r]``
    count : (n_openings,) how often each is delivered
    """

    left: Int
    right: Int
    count: Int


def decompose(levels: Int, *, interdigitation: bool) -> Decomposition:
    """Decompose a map exactly, with the fewest monitor units, leaves sweeping along +Xb.

    With ``R[r, c]`` the time at which the right leaf of row r uncovers column c and ``L[r, c]`` the time at which
    the left leaf covers it, the pixel is open in between: ``L − R = A``, both not decreasing along c. The smallest such
    ``R[r, c] = max(R[r, c−1], L[r, c−1] − A[r, c])`` is optimal for each row (Bortfeld et al.,
    Int. J. Radiat. Oncol. Biol. Phys. 28, 723, 1994, doi:10.1016/0360-3016(94)90200-3). Opposing neighbors
    do not collide if ``L[r, c] >= R[r±1, c]``; the smallest times that also obey this keep the monitor units
    minimal (Kamath et al., Phys. Med. Biol. 48, 307, 2003, doi:10.1088/0031-9155/48/3/303), and are
    found here column by column as a fixed point.

    Parameters
    ----------
    levels : (n_rows, n_cols) not negative
    interdigitation : whether a leaf may pass a neighbor of the opposing bank

    Examples
    --------
    >>> d = decompose(np.array([[1, 2, 0]]), interdigitation=True)
    >>> d.left.tolist(), d.right.tolist(), d.count.tolist()
    ([[0], [1]], [[2], [2]], [1, 1])
    """
    n_rows, n_cols = levels.shape
    covered, uncovered = np.zeros((n_rows, n_cols), np.int64), np.zeros((n_rows, n_cols), np.int64)
    before_covered = before_uncovered = np.zeros(n_rows, np.int64)
    for c in range(n_cols):
        column = levels[:, c]
        late = np.maximum(before_uncovered, before_covered - column)
        while not interdigitation:
            later = late.copy()
            later[1:] = np.maximum(later[1:], late[:-1] - column[1:])
            later[:-1] = np.maximum(later[:-1], late[1:] - column[:-1])
            if np.array_equal(later, late):
                break
            late = later
        before_uncovered = uncovered[:, c] = late
        before_covered = covered[:, c] = late + column
    time = np.arange(1, int(covered[:, -1].max()) + 1)[:, None, None]
    left, right = (covered < time).sum(axis=2), (uncovered < time).sum(axis=2)
    new = np.ones(len(left), bool)
    new[1:] = np.any(left[1:] != left[:-1], axis=1) | np.any(right[1:] != right[:-1], axis=1)
    count = np.diff(np.append(np.flatnonzero(new), len(left)))
    return Decomposition(left[new], right[new], count)
