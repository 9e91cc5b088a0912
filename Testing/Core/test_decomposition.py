"""The leaf sweep re-sums to its map exactly, with the fewest monitor units, and without collisions."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.delivery.decomposition import Decomposition, decompose, uncovering_times


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


def some_map(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A map of any fluence, and the time that a leaf takes to cross each of its columns."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 9, (7, 11)) * (rng.random((7, 11)) < 0.8), rng.uniform(0.5, 2, 11)


@pytest.mark.parametrize("interdigitation", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_neither_tip_is_faster_than_it_can_and_neighbors_do_not_collide(seed: int, interdigitation: bool) -> None:
    fluence, crossing = some_map(seed)
    right = uncovering_times(fluence, crossing, interdigitation=interdigitation)
    left = right + fluence
    assert right.min() >= 0
    assert np.all(np.diff(right, axis=1) >= crossing[:-1] - 1e-12)
    assert np.all(np.diff(left, axis=1) >= crossing[:-1] - 1e-12)
    if not interdigitation:
        assert np.all(left[1:] >= right[:-1] - 1e-12)
        assert np.all(left[:-1] >= right[1:] - 1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_a_row_takes_the_time_to_cross_it_and_the_sum_of_its_rises(seed: int) -> None:
    fluence, crossing = some_map(seed)
    done = (uncovering_times(fluence, crossing, interdigitation=True) + fluence + crossing)[:, -1]
    rises = np.maximum(np.diff(fluence, axis=1, prepend=0), 0).sum(axis=1)
    assert_allclose(done, crossing.sum() + rises)


def test_a_leaf_waits_until_all_of_its_bank_have_come_so_far() -> None:
    fluence, crossing = some_map(9)
    behind = np.array([0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7])
    right = uncovering_times(fluence, crossing, interdigitation=True, behind=behind)
    for bank in (right, right + fluence):
        assert np.all(bank[:, 4:].min(axis=0) >= bank[:, behind[4:]].max(axis=0) - 1e-12)
