"""Sequencing keeps every limit, and its segments deliver the fluence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from Core.sequencing_samples import a_beam, a_machine, bumps
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.delivery.fluence import delivered_fluence
from deeprt.delivery.segments import DeliverablePlan
from deeprt.delivery.sequencing import SequencingSettings
from deeprt.delivery.step_and_shoot import sequence
from deeprt.delivery.violations import open_area_mm2, violations
from deeprt.machine import Machine


def sequenced(
    fluence: np.ndarray, machine: Machine, settings: SequencingSettings | None = None, **where: float
) -> tuple[DeliverablePlan, np.ndarray]:
    """A plan of one beam and the fluence it delivers on the beam's beamlets."""
    beam = a_beam(fluence, machine, **where)
    plan = sequence([beam], [fluence], machine, n_fractions=20, settings=settings or SequencingSettings())
    return plan, delivered_fluence(plan, 0, beam.x_edges_mm, beam.y_edges_mm)


@pytest.mark.parametrize("seed", range(4))
def test_with_no_budget_and_no_transmission_the_levels_are_delivered_exactly(seed: int) -> None:
    levels = np.random.default_rng(seed).integers(0, 6, size=(9, 15)).astype(float)
    levels[4, 7] = 5
    settings = SequencingSettings(max_segments_per_beam=1000, max_levels=5)
    machine = a_machine(transmission=0.0, min_mu=0.0, min_area_mm2=0.0)
    _, delivered = sequenced(levels, machine, settings)
    assert_allclose(delivered, levels, atol=1e-9)  # solver rounding, against levels of 1 MU


@pytest.mark.parametrize("interdigitation", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_no_limit_is_broken_on_random_maps_and_machines(seed: int, interdigitation: bool) -> None:
    rng = np.random.default_rng(seed)
    machine = a_machine(
        interdigitation=interdigitation,
        min_gap_mm=float(rng.choice([0.0, 0.5, 3.0])),
        max_span_mm=float(rng.choice([60.0, 100.0, 150.0])),
        transmission=float(rng.choice([0.0, 0.016, 0.05])),
        min_mu=float(rng.choice([0.0, 1.0, 3.0])),
        min_area_mm2=float(rng.choice([0.0, 100.0, 300.0])),
    )
    shape = rng.integers(5, 18), rng.integers(8, 50)
    fluence = rng.uniform(0, 50, shape) if seed % 2 else bumps(rng, *shape)
    budget = int(rng.integers(1, 10))
    settings = SequencingSettings(max_segments_per_beam=budget)
    plan, _ = sequenced(fluence, machine, settings, first_x_mm=float(rng.uniform(-90, 0)))
    assert violations(plan) == ()
    assert 1 <= len(plan.segments) <= budget


@pytest.mark.parametrize(("interdigitation", "bound"), [(True, 0.05), (False, 0.06)])
@pytest.mark.parametrize("seed", range(4))
def test_twelve_segments_deliver_smooth_maps(seed: int, interdigitation: bool, bound: float) -> None:
    fluence = bumps(np.random.default_rng(seed))
    _, delivered = sequenced(fluence, a_machine(interdigitation=interdigitation))
    inside = fluence > 0
    assert np.linalg.norm((delivered - fluence)[inside]) <= bound * np.linalg.norm(fluence)


def test_more_segments_deliver_a_map_better() -> None:
    fluence = bumps(np.random.default_rng(5))
    errors = []
    for budget in (3, 6, 12):
        _, delivered = sequenced(fluence, a_machine(), SequencingSettings(max_segments_per_beam=budget))
        errors.append(np.linalg.norm((delivered - fluence)[fluence > 0]))
    assert errors[0] > errors[1] > errors[2]


def test_segments_have_at_least_the_least_monitor_units_and_area() -> None:
    machine = a_machine(min_mu=6.0, min_area_mm2=900.0)
    plan, _ = sequenced(bumps(np.random.default_rng(1)), machine)
    assert min(s.mu for s in plan.segments) >= 6.0
    assert min(open_area_mm2(s, plan.jaws[0], machine) for s in plan.segments) >= 900.0


def test_monitor_units_scale_with_the_fluence_and_shapes_stay() -> None:
    fluence, machine = bumps(np.random.default_rng(2)), a_machine(min_mu=0.0)
    once, _ = sequenced(fluence, machine)
    twice, _ = sequenced(2 * fluence, machine)  # a power of two keeps every rounding
    assert_allclose(twice.total_mu, 2 * once.total_mu, rtol=1e-12)
    for a, b in zip(once.segments, twice.segments, strict=True):
        assert_allclose(a.left_mm, b.left_mm, atol=1e-9)


def test_the_same_maps_give_the_same_plan() -> None:
    fluence, machine = bumps(np.random.default_rng(3)), a_machine()
    first, second = (sequenced(fluence, machine)[0] for _ in range(2))
    for a, b in zip(first.segments, second.segments, strict=True):
        assert_array_equal(a.left_mm, b.left_mm)
        assert a.mu == b.mu


def test_a_field_wider_than_the_leaves_span_is_delivered_in_parts() -> None:
    fluence = bumps(np.random.default_rng(4), n_rows=20, n_cols=80)
    settings = SequencingSettings(max_segments_per_beam=20)
    plan, delivered = sequenced(fluence, a_machine(), settings, first_x_mm=-110.0)
    assert violations(plan) == ()
    inside = fluence > 0
    assert np.linalg.norm((delivered - fluence)[inside]) <= 0.08 * np.linalg.norm(fluence)


def test_jaws_surround_the_openings_with_the_margin() -> None:
    fluence = np.zeros((10, 20))
    fluence[3:6, 5:12] = 20.0
    machine = a_machine()
    plan, delivered = sequenced(fluence, machine, first_x_mm=-45.0)
    jaws, margin, edges = plan.jaws[0], machine.jaws.margin_mm, machine.mlc.leaf_edges_mm
    assert_allclose((jaws.x1_mm, jaws.x2_mm), (-32.5 - margin, -15.0 + margin))
    assert_allclose((jaws.y1_mm, jaws.y2_mm), (edges[15] - margin, edges[18] + margin))
    assert len(plan.segments) == 1
    assert_allclose(delivered[3:6, 5:12], 20.0)


def test_closed_pairs_hide_behind_the_jaws() -> None:
    fluence, machine = bumps(np.random.default_rng(6)), a_machine()
    empty = fluence.shape[0] // 2
    fluence[empty] = 0.0
    plan, _ = sequenced(fluence, machine)
    pair = np.searchsorted(machine.mlc.leaf_edges_mm, plan.beams[0].y_edges_mm[empty] + 0.1) - 1
    jaws, offset = plan.jaws[0], machine.mlc.tip_offset_mm
    assert jaws.y1_mm < machine.mlc.leaf_edges_mm[pair] < jaws.y2_mm
    for segment in plan.segments:
        left, right = segment.left_mm[[pair, 0, -1]] - offset, segment.right_mm[[pair, 0, -1]] + offset
        assert np.all((left >= jaws.x2_mm) | (right <= jaws.x1_mm))


def test_segments_belong_to_their_beams_in_order() -> None:
    machine, rng = a_machine(), np.random.default_rng(7)
    maps = [bumps(rng, n_rows=12, n_cols=20) for _ in range(3)]
    plan = sequence([a_beam(m, machine) for m in maps], maps, machine, n_fractions=7)
    assert [s.beam_index for s in plan.segments] == sorted(s.beam_index for s in plan.segments)
    assert {s.beam_index for s in plan.segments} == {0, 1, 2}
    assert plan.n_fractions == 7


@pytest.mark.parametrize(
    ("fluence", "message"),
    [
        (np.zeros((4, 6)), "Beam 'AP': its fluence is zero everywhere; leave the beam out"),
        (np.full((4, 6), -1.0), "Beam 'AP': fluence must be finite and not negative"),
        (np.full((4, 6), np.nan), "Beam 'AP': fluence must be finite and not negative"),
        (np.full((4, 6), 0.1), "Beam 'AP': its fluence is too little for a segment of 1 MU and 100 mm²"),
        (np.full((4, 6), 2000.0), r"generic_6mv cannot deliver this fluence: .* above the 999 MU"),
    ],
)
def test_a_fluence_that_cannot_be_sequenced_is_refused(fluence: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sequenced(fluence, a_machine())


def test_a_map_that_does_not_fit_is_refused() -> None:
    machine = a_machine()
    beam = a_beam(np.ones((4, 6)), machine)
    with pytest.raises(ValueError, match="There are 1 beams but 0 fluence maps"):
        sequence([beam], [], machine, n_fractions=1)
    with pytest.raises(ValueError, match=r"fluence map has shape \(6, 4\), the beam \(4, 6\)"):
        sequence([beam], [np.ones((6, 4))], machine, n_fractions=1)
    shifted = replace(beam, y_edges_mm=beam.y_edges_mm + 2.0)
    with pytest.raises(ValueError, match="are not the leaf pairs of generic_6mv"):
        sequence([shifted], [np.ones((4, 6))], machine, n_fractions=1)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        SequencingSettings(max_segments_per_beam=0)
    with pytest.raises(ValueError, match="must not be negative"):
        SequencingSettings(tolerance=-1.0)
