"""The leaf sweep re-sums to its map exactly, with the fewest monitor units, and without collisions."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from deeprt.delivery.decomposition import Decomposition, decompose


def resummed(opening: Decomposition, n_cols: int) -> np.ndarray:
    column = np.arange(n_cols)
    is_open = (opening.left[..., None] <= column) & (column < opening.right[..., None])
    return np.tensordot(opening.count, is_open, 1)


@pytest.mark.parametrize("interdigitation", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_openings_resum_to_the_map_exactly(seed: int, interdigitation: bool) -> None:
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, rng.integers(1, 12), size=rng.integers(1, 20, size=2), endpoint=True)
    opening = decompose(levels, interdigitation=interdigitation)
    assert_array_equal(resummed(opening, levels.shape[1]), levels)


@pytest.mark.parametrize("seed", range(10))
def test_monitor_units_are_the_largest_sum_of_rises_of_a_row(seed: int) -> None:
    levels = np.random.default_rng(seed).integers(0, 9, size=(7, 11))
    rises = np.maximum(np.diff(levels, axis=1, prepend=0), 0).sum(axis=1)
    assert decompose(levels, interdigitation=True).count.sum() == rises.max()


@pytest.mark.parametrize("seed", range(20))
def test_opposing_neighbors_do_not_collide_where_they_must_not(seed: int) -> None:
    levels = np.random.default_rng(seed).integers(0, 6, size=(9, 14))
    opening = decompose(levels, interdigitation=False)
    assert np.all(opening.left[:, 1:] <= opening.right[:, :-1])
    assert np.all(opening.left[:, :-1] <= opening.right[:, 1:])


def test_a_forbidden_collision_costs_a_monitor_unit() -> None:
    apart = np.array([[1, 0, 0], [0, 0, 1]])
    assert decompose(apart, interdigitation=True).count.sum() == 1
    assert decompose(apart, interdigitation=False).count.sum() == 2


def test_equal_openings_are_delivered_as_one() -> None:
    opening = decompose(np.array([[0, 5, 5, 0]]), interdigitation=True)
    assert opening.count.tolist() == [5]


def test_a_map_of_zeros_has_no_opening() -> None:
    assert decompose(np.zeros((3, 4), np.int64), interdigitation=False).count.size == 0
