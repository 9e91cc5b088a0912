"""Decomposition of an integer fluence map into the openings of a leaf sweep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]
Number = TypeVar("Number", NDArray[np.int64], NDArray[np.float64])


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
    """Decompose a map exactly, with the fewest monitor units, leaves stepping along +Xb: see `uncovering_times`.

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
    uncovered = uncovering_times(levels, np.zeros(levels.shape[1], np.int64), interdigitation=interdigitation)
    covered = uncovered + levels
    time = np.arange(1, int(covered[:, -1].max()) + 1)[:, None, None]
    left, right = (covered < time).sum(axis=2), (uncovered < time).sum(axis=2)
    new = np.ones(len(left), bool)
    new[1:] = np.any(left[1:] != left[:-1], axis=1) | np.any(right[1:] != right[:-1], axis=1)
    count = np.diff(np.append(np.flatnonzero(new), len(left)))
    return Decomposition(left[new], right[new], count)


def uncovering_times(fluence: Number, crossing: Number, *, interdigitation: bool, behind: Int | None = None) -> Number:
    """Earliest times, in monitor units, at which right leaves that sweep along +Xb uncover the columns of a map.

    With ``R[r, c]`` the time at which the right leaf of row r sets out over column c, ``L[r, c]`` that at which the
    left leaf does, and w the time in which a leaf crosses the column, each point of it is open for ``L − R = A``; both
    leaves go on to the next column at the earliest when they have crossed this one. The smallest such
    ``R[r, c] = max(R[r, c−1] + w[c−1], L[r, c−1] + w[c−1] − A[r, c])`` is optimal for each row: for leaves that step,
    w = 0, Bortfeld et al., Int. J. Radiat. Oncol. Biol. Phys. 28, 723 (1994), doi:10.1016/0360-3016(94)90200-3; for
    leaves of a limited speed, Spirou and Chui, Med. Phys. 21, 1031 (1994), doi:10.1118/1.597345. Opposing neighbors do
    not collide if ``L[r, c] >= R[r±1, c]``; the smallest times that also obey this keep the monitor units minimal
    (Kamath et al., Phys. Med. Biol. 48, 307, 2003, doi:10.1088/0031-9155/48/3/303), and are found here column by
    column as a fixed point.

    Parameters
    ----------
    fluence : (n_rows, n_cols) A, not negative
    crossing : (n_cols,) w
    interdigitation : whether a leaf may pass a neighbor of the opposing bank
    behind : (n_cols,) column, before this one, that all leaves of a bank must have set out over before one of them
        sets out over this one, so that the bank keeps its span; 0 where that asks nothing

    Returns
    -------
    (n_rows, n_cols) R
    """
    uncovered, covered = np.zeros_like(fluence), np.zeros_like(fluence)
    before_uncovered = before_covered = np.zeros_like(fluence[:, 0])
    for c in range(fluence.shape[1]):
        column = fluence[:, c]
        late = np.maximum(before_uncovered, before_covered - column)
        if behind is not None and behind[c] > 0:
            last_uncovered, last_covered = uncovered[:, behind[c]].max(), covered[:, behind[c]].max()
            late = np.maximum(late, np.maximum(last_uncovered, last_covered - column))
        while not interdigitation:
            later = late.copy()
            later[1:] = np.maximum(later[1:], late[:-1] - column[1:])
            later[:-1] = np.maximum(later[:-1], late[1:] - column[:-1])
            if np.array_equal(later, late):
                break
            late = later
        uncovered[:, c], covered[:, c] = late, late + column
        before_uncovered, before_covered = late + crossing[c], late + column + crossing[c]
    return uncovered
