"""Leaves that move deliver the fluence in the least monitor units, keep every limit, and come back from DICOM."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tomli_w
from Core.existing_plan_samples import saved
from Core.pipeline_samples import QUICK, a_study, a_virtual_case
from Core.plan_samples import a_dicom_identity
from Core.samples import MACHINE, a_uniform_phantom, an_oblique_grid
from Core.sequencing_samples import a_beam, a_machine, bumps
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.beams import BeamAngles
from deeprt.cli import main
from deeprt.config import to_plain
from deeprt.delivery.dose_of_plan import dose_of_plan
from deeprt.delivery.existing_dose import dose_of_existing_plan
from deeprt.delivery.existing_plan import with_machines
from deeprt.delivery.fluence import delivered_fluence
from deeprt.delivery.segments import DeliverablePlan
from deeprt.delivery.sequencing import SequencingSettings
from deeprt.delivery.sliding_window import sequence_sliding_window
from deeprt.delivery.violations import violations
from deeprt.dicom.check_plan import check_plan
from deeprt.dicom.read_plan import read_plan
from deeprt.dicom.write_plan import plan_dataset
from deeprt.dose.influence import dose_influence
from deeprt.machine import Machine
from deeprt.pipeline import plan_case

KAPPA = 600 / (60 * 25) / 0.98  # MU per mm: dose rate over leaf speed, of which two percent are kept in reserve
IDEAL = {"transmission": 0.0, "tip_offset_mm": 0.0, "min_gap_mm": 0.0}  # leaves of which closed forms hold


def swept(
    fluence: np.ndarray, machine: Machine, n_points: int = 120, **where: float
) -> tuple[DeliverablePlan, np.ndarray]:
    """A plan of one beam and the fluence it delivers on the beam's beamlets."""
    beam = a_beam(fluence, machine, **where)
    settings = SequencingSettings(n_control_points=n_points)
    plan = sequence_sliding_window([beam], [fluence], machine, n_fractions=20, settings=settings)
    return plan, delivered_fluence(plan, 0, beam.x_edges_mm, beam.y_edges_mm)


def least_mu(fluence: np.ndarray, column_mm: float = 2.5) -> float:
    """Most of ``κ W + Σ max(ΔA, 0)`` of all rows."""
    rises = np.maximum(np.diff(fluence, axis=1, prepend=0), 0).sum(axis=1)
    return float(rises.max() + KAPPA * column_mm * fluence.shape[1])


def test_a_box_and_a_wedge_are_delivered_exactly_in_the_least_monitor_units() -> None:
    column = KAPPA * 2.5  # in which a tip at full speed crosses a column; tips turn at multiples of it
    box = np.full((5, 12), 24 * column)
    wedge = np.tile(column * np.arange(1, 13), (5, 1))
    for fluence, n_columns in ((box, 24 + 12), (wedge, 12 + 12), (wedge[:, ::-1], 12 + 12)):
        plan, delivered = swept(fluence, a_machine(**IDEAL), n_points=n_columns + 1)
        assert_allclose(delivered, fluence, atol=1e-9)  # rounding, against tens of MU
        assert_allclose(plan.total_mu, n_columns * column, rtol=1e-12)
        assert_allclose(plan.total_mu, least_mu(fluence), rtol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_smooth_maps_are_delivered_within_the_field(seed: int) -> None:
    fluence = bumps(np.random.default_rng(seed))
    plan, delivered = swept(fluence, a_machine())
    inside = fluence > 0
    assert np.linalg.norm((delivered - fluence)[inside]) <= 0.003 * np.linalg.norm(fluence)
    # Transmission takes over a part of the fluence, so that it is a little less than without.
    assert 0.95 * least_mu(fluence) < plan.total_mu < 1.01 * least_mu(fluence)


def test_more_control_points_deliver_a_map_better() -> None:
    fluence = bumps(np.random.default_rng(5))
    errors = []
    for n_points in (20, 60, 180):
        _, delivered = swept(fluence, a_machine(), n_points)
        errors.append(np.linalg.norm((delivered - fluence)[fluence > 0]))
    assert errors[0] > errors[1] > errors[2]


def test_under_closed_leaves_there_is_transmission_and_what_the_gap_lets_through_at_full_speed() -> None:
    islands = np.tile([20.0] * 6 + [0.0] * 16 + [20.0] * 6, (5, 1))
    machine = a_machine()
    plan, delivered = swept(islands, machine)
    t, gap = machine.mlc.transmission, machine.mlc.min_gap_mm + 2 * machine.mlc.tip_offset_mm
    assert_allclose(delivered[:, 12:16], t * plan.total_mu + (1 - t) * KAPPA * gap, rtol=1e-9)


def test_rows_without_fluence_get_transmission_only() -> None:
    fluence = bumps(np.random.default_rng(6))
    fluence[10] = 0.0
    plan, delivered = swept(fluence, a_machine())
    assert_allclose(delivered[10], 0.016 * plan.total_mu, rtol=1e-9)


def test_leaves_go_one_way_in_equal_monitor_units_and_wait_behind_the_jaws() -> None:
    fluence = bumps(np.random.default_rng(7), n_rows=20, n_cols=30)
    fluence[4] *= 0.1  # a row that is done soon
    plan, _ = swept(fluence, a_machine(), n_points=50)
    assert_allclose([s.mu for s in plan.segments], plan.total_mu / 49)
    for segment in plan.segments:
        for tips in segment.ends_mm:
            assert np.all(np.diff(tips, axis=0) >= -1e-9)
    pair, offset, jaws = 12 + 4, plan.machine.mlc.tip_offset_mm, plan.jaws[0]
    assert plan.segments[0].right_mm[0, pair] + offset <= jaws.x1_mm + 1e-9
    assert plan.segments[-1].left_mm[1, pair] - offset >= jaws.x2_mm - 1e-9


def test_a_field_wider_than_the_leaves_span_costs_no_more() -> None:
    fluence = bumps(np.random.default_rng(4), n_rows=20, n_cols=80)
    plan, delivered = swept(fluence, a_machine(), first_x_mm=-110.0)
    assert plan.total_mu < least_mu(fluence)
    assert np.linalg.norm((delivered - fluence)[fluence > 0]) <= 0.003 * np.linalg.norm(fluence)
    assert delivered[fluence == 0].max() < 0.07 * fluence.max()


@pytest.mark.parametrize("interdigitation", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_no_limit_is_broken_on_random_maps_and_machines(seed: int, interdigitation: bool) -> None:
    rng = np.random.default_rng(seed)
    machine = a_machine(
        interdigitation=interdigitation,
        min_gap_mm=float(rng.choice([0.0, 0.5, 3.0])),
        max_span_mm=float(rng.choice([60.0, 100.0, 150.0])),
        max_speed_mm_per_s=float(rng.choice([10.0, 25.0])),
        max_overtravel_mm=float(rng.choice([105.0, 150.0])),
        transmission=float(rng.choice([0.0, 0.016, 0.05])),
        tip_offset_mm=float(rng.choice([0.0, 0.7])),
    )
    shape = rng.integers(5, 18), rng.integers(8, 50)
    fluence = rng.uniform(0, 50, shape) if seed % 2 else bumps(rng, *shape)
    plan, _ = swept(fluence, machine, int(rng.integers(2, 100)), first_x_mm=float(rng.uniform(-100, -20)))
    assert violations(plan) == ()


def test_a_leaf_that_is_too_fast_is_named() -> None:
    fluence = np.full((6, 20), 30.0)
    plan, _ = swept(fluence, a_machine())
    hurried = replace(plan, segments=tuple(replace(s, mu=0.9 * s.mu) for s in plan.segments))
    found = violations(hurried)
    assert found
    assert "Beam 'AP', segment 5, leaf pair 13: a leaf moves" in " ".join(found)
    assert all(v.endswith(", above 25 mm/s.") for v in found)


@pytest.mark.parametrize(
    ("fluence", "first_x_mm", "message"),
    [
        (np.zeros((4, 6)), 0.0, "Beam 'AP': its fluence is zero everywhere; leave the beam out"),
        (np.full((4, 6), -1.0), 0.0, "Beam 'AP': fluence must be finite and not negative"),
        (np.full((4, 6), 0.7), 0.0, r"nowhere above the 0.78 MU that closed leaves let through where they sweep"),
        (np.full((4, 6), 2000.0), 0.0, r"generic_6mv cannot deliver this fluence: .* above the 999 MU"),
        (np.ones((4, 6)), 140.0, r"reaches from 140.0 to 155.0 mm, .* only 150 mm beyond the axis; use step and shoot"),
    ],
)
def test_a_fluence_that_cannot_be_swept_is_refused(fluence: np.ndarray, first_x_mm: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        swept(fluence, a_machine(), first_x_mm=first_x_mm)


def test_a_map_that_does_not_fit_is_refused() -> None:
    machine = a_machine()
    with pytest.raises(ValueError, match="There are 1 beams but 0 fluence maps"):
        sequence_sliding_window([a_beam(np.ones((4, 6)), machine)], [], machine, n_fractions=1)
    with pytest.raises(ValueError, match="n_control_points must be at least 2, got 1"):
        SequencingSettings(n_control_points=1)


def test_a_plan_read_back_gives_the_dose_it_was_planned_with(tmp_path: Path) -> None:
    case = replace(a_uniform_phantom(an_oblique_grid()), dicom=a_dicom_identity())
    fluence = bumps(np.random.default_rng(8), n_rows=12, n_cols=24)
    # Angles in tenths of degrees, isocenter in hundredths of millimeters, as they are written.
    beam = replace(
        a_beam(fluence, MACHINE, first_x_mm=-32.0, first_pair=23),
        angles=BeamAngles(281.5, 344.5, 95.0),
        isocenter_lps=np.round(case.grid.center_lps + 5, 2),
    )
    plan = sequence_sliding_window([beam], [fluence], MACHINE, n_fractions=case.n_fractions)
    expected = dose_of_plan(plan, dose_influence(case, [beam], MACHINE))
    dataset = plan_dataset(case, plan, label="own", structure_set_uid="1.2.3")
    assert check_plan(dataset) == ()
    read, machines = with_machines(read_plan(saved(dataset, tmp_path)), [MACHINE])
    assert read.beams[0].technique == "sliding window"
    found = dose_of_existing_plan(case, read, machines)
    assert found.notes == ()
    assert_allclose(found.dose_gy, expected, atol=5e-5 * expected.max())  # leaves are written to 0.01 mm


def test_planning_delivers_the_optimized_fluence_with_the_wished_coverage() -> None:
    settings = SequencingSettings(technique="sliding-window")
    result = plan_case(a_virtual_case(), replace(QUICK, sequencing=settings))
    assert result.plan.technique == "sliding window"
    assert violations(result.plan) == ()
    rule, target = result.protocol.normalization, result.report.targets[0]
    assert rule.volume_percent == 95
    assert_allclose(100 * target.metrics.d95_gy / target.prescription_gy, rule.dose_percent, rtol=1e-5)
    difference = result.dose_gy - result.solution.dose_gy
    assert np.abs(difference).max() < 0.05 * result.dose_gy.max()


def test_the_command_plans_sliding_windows_and_computes_their_dose_again(tmp_path: Path) -> None:
    study, config = a_study(tmp_path / "study"), tmp_path / "quick.toml"
    config.write_text(tomli_w.dumps(to_plain(QUICK)))
    common = [str(study), "--config", str(config)]
    assert main(["plan", *common, "--technique", "sliding-window", "--out", str(tmp_path / "plan")]) == 0
    file = tmp_path / "plan" / "RTPLAN.dcm"
    assert {b.BeamType for b in pydicom.dcmread(file).BeamSequence} == {"DYNAMIC"}
    assert main(["dose", *common, "--plan", str(file), "--out", str(tmp_path / "dose")]) == 0
    planned, again = (pydicom.dcmread(tmp_path / folder / "RTDOSE.dcm") for folder in ("plan", "dose"))
    assert_array_equal(planned.ImagePositionPatient, again.ImagePositionPatient)
    expected, found = (d.pixel_array * float(d.DoseGridScaling) for d in (planned, again))
    assert_allclose(found, expected, atol=5e-4 * expected.max())  # the isocenter, too, is written to 0.01 mm
