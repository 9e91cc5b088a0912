"""Metrics against doses whose numbers can be written down."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from deeprt.case import PatientCase
from deeprt.evaluation.dvh import dvh
from deeprt.evaluation.evaluate import evaluate
from deeprt.evaluation.metrics import DEFINITIONS, structure_metrics, target_metrics
from deeprt.evaluation.report import metrics_entry
from deeprt.geometry import Grid
from deeprt.structures import Role, Structure


def a_row(values):
    return np.asarray(values, np.float32).reshape(1, 1, -1)


def a_row_of_100_voxels():
    """Target in the voxels 40 to 59 of a body of 90 voxels; the dose falls to both sides of its plateau."""
    index = np.arange(100)
    target = Structure("PTV", Role.TARGET, a_row((index >= 40) & (index < 60)), 50.0)
    external = Structure("BODY", Role.EXTERNAL, a_row(index < 90))
    return target, external


def test_metrics_of_a_linear_dose_are_its_quantiles():
    dose = a_row(np.linspace(0, 100, 10001))
    m = structure_metrics(dvh(dose, np.ones_like(dose), 0.002))
    assert_allclose(
        (m.d98_gy, m.d95_gy, m.d50_gy, m.d2_gy, m.dmin_gy, m.dmax_gy, m.dmean_gy, m.volume_cc),
        (2, 5, 50, 98, 0, 100, 50, 20.002),
        atol=0.011,  # one voxel of the gradient
    )


def test_indices_follow_their_definitions():
    target, external = a_row_of_100_voxels()
    dose = np.zeros(100)
    dose[30:70] = 25.0  # half of the prescription
    dose[38:62] = 47.5  # 95 %
    dose[42:64] = 50.0
    dose[50:52] = 55.0
    dose[95:] = 60.0  # outside the body: does not count
    m = target_metrics(a_row(dose), target, dvh(a_row(dose), target.fraction, 1.0), external)
    assert_allclose(m.conformity_index, 26 / 20)
    assert_allclose(m.r50, 40 / 20)
    assert_allclose(m.van_t_riet, 18**2 / (20 * 22))
    assert_allclose(m.homogeneity, (55 - 47.5) / 50)
    assert_allclose(m.homogeneity_index, (55 - 47.5) / 50)


def test_a_perfect_dose_has_perfect_indices():
    target, external = a_row_of_100_voxels()
    dose = 50 * target.fraction
    m = target_metrics(dose, target, dvh(dose, target.fraction, 1.0), external)
    assert (m.homogeneity, m.homogeneity_index, m.conformity_index, m.van_t_riet, m.r50) == (0, 0, 1, 1, 1)


def test_van_t_riet_is_zero_where_nothing_reaches_the_prescription():
    target, external = a_row_of_100_voxels()
    dose = 40 * target.fraction
    assert target_metrics(dose, target, dvh(dose, target.fraction, 1.0), external).van_t_riet == 0


def test_a_target_without_prescription_or_dose_has_no_indices():
    target, external = a_row_of_100_voxels()
    bare = Structure("GTV", Role.TARGET, target.fraction)
    curve = dvh(target.fraction, target.fraction, 1.0)
    with pytest.raises(ValueError, match="'GTV' has no prescription"):
        target_metrics(target.fraction, bare, curve, external)
    with pytest.raises(ValueError, match="'PTV' has a median dose of 0"):
        target_metrics(0 * target.fraction, target, dvh(0 * target.fraction, target.fraction, 1.0), external)


def a_small_case():
    target, external = a_row_of_100_voxels()
    grid = Grid.axial((1, 1, 100), 2.0, (5.0, -30.0, 7.0))
    empty = Structure("Lost", Role.ORGAN_AT_RISK, np.zeros_like(target.fraction))
    gtv = Structure("GTV", Role.TARGET, target.fraction)
    return PatientCase("row", "HFS", grid, np.zeros(grid.shape, np.float32), (external, gtv, target, empty), 5)


def test_every_structure_that_is_not_empty_is_reported_and_only_prescribed_targets_have_indices():
    case = a_small_case()
    report = evaluate(case, 50 * case.structure("PTV").fraction)
    assert [s.name for s in report.structures] == ["BODY", "GTV", "PTV"]
    assert [s.name for s in report.targets] == ["PTV"]
    assert report.structure("GTV").target is None
    assert_allclose(report.structure("PTV").metrics.volume_cc, 20 * 0.008)
    with pytest.raises(KeyError, match="No structure 'Lost' in the report; it has BODY, GTV, PTV"):
        report.structure("Lost")


def test_a_dose_of_another_grid_or_with_gaps_is_refused():
    case = a_small_case()
    with pytest.raises(ValueError, match=r"Dose has shape \(1, 1, 99\), the case's grid \(1, 1, 100\)"):
        evaluate(case, np.zeros((1, 1, 99), np.float32))
    with pytest.raises(ValueError, match="must be finite"):
        evaluate(case, np.full((1, 1, 100), np.nan, np.float32))


def test_every_reported_number_has_a_definition():
    case = a_small_case()
    entry = metrics_entry(evaluate(case, 50 * case.structure("PTV").fraction).structure("PTV"))
    assert set(entry) - {"role", "prescription_gy"} == set(DEFINITIONS)
