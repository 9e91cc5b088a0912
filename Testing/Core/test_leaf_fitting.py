"""Each step of the leaf fit is the optimum of its part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from deeprt.delivery.fluence import coverage
from deeprt.delivery.leaf_fitting import Field, Shapes, fit_error, fitted_leaves, fitted_mu, hiding_place, without_least
from deeprt.machine import Mlc
from deeprt.machine_file import read_machine

X_EDGES = 2.5 * np.arange(13) - 11.0


def an_mlc(*, interdigitation: bool = True, min_gap_mm: float = 0.5, max_span_mm: float = 150.0) -> Mlc:
    mlc = read_machine("generic_6mv").mlc
    return replace(mlc, interdigitation=interdigitation, min_gap_mm=min_gap_mm, max_span_mm=max_span_mm)


def a_field(fluence: np.ndarray, mlc: Mlc) -> Field:
    heights = np.pad(np.full(len(fluence), 5.0), 1)
    return Field(np.pad(fluence, ((1, 1), (0, 0))), X_EDGES, heights, X_EDGES[0] - 5, X_EDGES[-1] + 5, mlc)


def some_shapes(n_rows: int, rng: np.random.Generator, n: int = 4) -> Shapes:
    """Openings that share the axis, so that they keep every limit."""
    left, right = -rng.uniform(1, 9, (n, n_rows)), rng.uniform(1, 9, (n, n_rows))
    return Shapes(left, right, rng.uniform(1, 3, n))


def fluence_of(shapes: Shapes, mlc: Mlc) -> np.ndarray:
    share = coverage(shapes.left_mm, shapes.right_mm, X_EDGES)
    return np.tensordot(shapes.mu, mlc.transmission + (1 - mlc.transmission) * share, 1)


def test_monitor_units_of_a_deliverable_fluence_are_found_again(rng: np.random.Generator) -> None:
    mlc, shapes = an_mlc(), some_shapes(8, rng)
    field = a_field(fluence_of(shapes, mlc)[1:-1], mlc)
    found = fitted_mu(field, Shapes(shapes.left_mm, shapes.right_mm, np.ones(4)))
    assert_allclose(found.mu, shapes.mu, rtol=1e-8)  # a consistent linear system
    assert fit_error(field, found) < 1e-9


def test_a_segment_moves_to_the_best_interval_of_each_row(rng: np.random.Generator) -> None:
    mlc = replace(an_mlc(), transmission=0.0)
    field = a_field(rng.uniform(0, 4, (5, 12)), mlc)
    moved = fitted_leaves(field, Shapes(np.full((1, 7), -3.0), np.full((1, 7), 3.0), np.array([2.5])))
    tips = np.linspace(X_EDGES[0], X_EDGES[-1], 241)
    lefts, rights = (a.ravel() for a in np.meshgrid(tips, tips, indexing="ij"))
    # The search's tips lie in different pixels.
    distinct = np.searchsorted(X_EDGES, rights, side="left") - np.searchsorted(X_EDGES, lefts, side="right") >= 1
    candidates = coverage(lefts[distinct], rights[distinct], X_EDGES)
    for row in range(1, 6):
        best = np.sum((field.fluence_mu[row] - 2.5 * candidates) ** 2, axis=1).min()
        reached = coverage(moved.left_mm[:, row], moved.right_mm[:, row], X_EDGES)[0]
        assert np.sum((field.fluence_mu[row] - 2.5 * reached) ** 2) <= best + 1e-12


@pytest.mark.parametrize("interdigitation", [True, False])
def test_no_round_raises_the_error(interdigitation: bool, rng: np.random.Generator) -> None:
    field = a_field(rng.uniform(0, 9, (8, 12)), an_mlc(interdigitation=interdigitation))
    shapes = fitted_mu(field, some_shapes(10, rng))
    errors = [fit_error(field, shapes)]
    for _ in range(6):
        moved = fitted_leaves(field, shapes)
        shapes = fitted_mu(field, moved)
        errors += [fit_error(field, moved), fit_error(field, shapes)]
    assert np.all(np.diff(errors) <= 1e-12)
    assert errors[-1] < errors[0]


def test_a_row_without_fluence_closes_behind_a_jaw(rng: np.random.Generator) -> None:
    fluence = rng.uniform(3, 4, (5, 12))
    fluence[2] = 0
    field = a_field(fluence, an_mlc())
    moved = fitted_leaves(field, Shapes(np.full((1, 7), -3.0), np.full((1, 7), 3.0), np.array([3.0])))
    assert moved.left_mm[0, 3] >= field.x2_mm or moved.right_mm[0, 3] <= field.x1_mm
    assert_allclose(moved.right_mm[0, 3] - moved.left_mm[0, 3], 0.5)


def test_the_segment_whose_loss_costs_least_is_dropped(rng: np.random.Generator) -> None:
    mlc, shapes = an_mlc(), some_shapes(8, rng)
    field = a_field(fluence_of(shapes, mlc)[1:-1], mlc)
    errors = [fit_error(field, fitted_mu(field, shapes.kept(np.arange(4) != k))) for k in range(4)]
    assert_allclose(fit_error(field, without_least(field, shapes)), min(errors))


def test_closed_pairs_hide_as_far_out_as_the_span_allows() -> None:
    field = a_field(np.ones((2, 12)), an_mlc(max_span_mm=20.0))
    assert hiding_place(field, np.array([-10.0]), np.array([15.0])) == -5.5  # right tips 20 mm apart
    assert hiding_place(field, np.array([5.0]), np.array([15.0])) == field.x2_mm


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)
