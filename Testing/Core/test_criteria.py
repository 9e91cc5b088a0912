"""Goals: their grammar, the structures they mean, and what they read."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from deeprt.case import PatientCase
from deeprt.errors import InputError
from deeprt.evaluation.criteria import Criterion
from deeprt.evaluation.dvh import dvh
from deeprt.evaluation.evaluate import evaluate
from deeprt.geometry import Grid
from deeprt.structures import Role, Structure

DOSE = np.linspace(0, 100, 10001, dtype=np.float32).reshape(1, 1, -1)
CURVE = dvh(DOSE, np.ones_like(DOSE), 0.001)


@pytest.mark.parametrize(
    ("metric", "unit", "value"),
    [
        ("D95%", "Gy", 5.0),
        ("D95%", "%", 10.0),
        ("D2%", "Gy", 98.0),
        ("D0.03cc", "Gy", 99.7),
        ("D0.03cc", "%", 199.4),
        ("Dmean", "Gy", 50.0),
        ("Dmax", "%", 200.0),
        ("Dmin", "Gy", 0.0),
        ("V60Gy", "%", 40.0),
        ("V60Gy", "cc", 4.0),
        ("V95%", "%", 52.5),
        ("V107.5%", "cc", 4.625),
    ],
)
def test_each_metric_reads_its_number(metric, unit, value):
    # 50 Gy are prescribed; the dose is uniform over 0 to 100 Gy in 10 cc.
    assert_allclose(Criterion("A", metric, "<=", 1.0, unit).value(CURVE, 50.0), value, atol=0.03)


@pytest.mark.parametrize(
    "metric", ["D95", "d95%", "V60", "V3cc", "D60Gy", "Vmean", "Dmedian", "", "D95% ", "D-2%", "D٣%"]
)
def test_a_metric_outside_the_grammar_is_refused_with_the_grammar(metric):
    with pytest.raises(InputError, match=r"not understood; write D95%, D2%, D0.03cc, Dmean, .* V60Gy or V95%"):
        Criterion("Rectum", metric, "<=", 1.0, "Gy")


@pytest.mark.parametrize(("metric", "unit"), [("D95%", "cc"), ("Dmean", "cc"), ("V60Gy", "Gy"), ("V60Gy", "percent")])
def test_a_unit_that_does_not_fit_its_metric_is_refused(metric, unit):
    with pytest.raises(InputError, match=f"Goal '{metric}' of 'Rectum': its unit must be .* not '{unit}'"):
        Criterion("Rectum", metric, "<=", 1.0, unit)


def test_other_mistakes_in_a_goal_are_named():
    with pytest.raises(InputError, match="no 101 % of its volume"):
        Criterion("Rectum", "D101%", "<=", 1.0, "Gy")
    with pytest.raises(InputError, match="relation must be <= or >=, not '<'"):
        Criterion("Rectum", "Dmean", "<", 1.0, "Gy")
    with pytest.raises(InputError, match="must be a finite number, got nan"):
        Criterion("Rectum", "Dmean", "<=", float("nan"), "Gy")


def test_a_goal_is_met_at_its_limit_even_after_rounding_to_float32():
    at_least = Criterion("A", "D95%", ">=", 60.0, "Gy")
    at_most = Criterion("A", "Dmax", "<=", 60.0, "Gy")
    assert at_least.is_met_by(59.99999)
    assert not at_least.is_met_by(59.99)
    assert at_most.is_met_by(60.00001)
    assert not at_most.is_met_by(60.01)


def a_case(*structures):
    """A row of 60 voxels of 1 mm, with a dose equal to the voxel's index."""
    grid = Grid.axial((1, 1, 60), 1.0, (-12.0, 40.0, 3.0))
    body = Structure("BODY", Role.EXTERNAL, np.ones(grid.shape, np.float32))
    return PatientCase("row", "HFS", grid, np.zeros(grid.shape, np.float32), (body, *structures), 5)


def a_part(low, high):
    index = np.arange(60)
    return ((index >= low) & (index < high)).astype(np.float32).reshape(1, 1, 60)


ROW_DOSE = np.arange(60, dtype=np.float32).reshape(1, 1, 60)


def gy(value):
    """A dose at the face of a voxel, half a voxel and half a Gy from the nearest center."""
    return pytest.approx(value, abs=0.02)


def test_a_goal_means_the_structure_of_that_name_before_those_of_that_organ():
    case = a_case(
        Structure("Left", Role.ORGAN_AT_RISK, a_part(0, 10), organ="Parotid"),
        Structure("Right", Role.ORGAN_AT_RISK, a_part(10, 30), organ="Parotid"),
        Structure("Kidney", Role.ORGAN_AT_RISK, a_part(30, 40), organ="Kidney_L"),
        Structure("Other", Role.ORGAN_AT_RISK, a_part(40, 50), organ="Kidney"),
    )
    report = evaluate(
        case, ROW_DOSE, [Criterion("Parotid", "Dmax", "<=", 20, "Gy"), Criterion("Kidney", "Dmax", "<=", 40, "Gy")]
    )
    assert [(g.structure, g.value, g.met) for g in report.goals] == [
        ("Left", gy(9.5), True),
        ("Right", gy(29.5), False),
        ("Kidney", gy(39.5), True),
    ]


def test_percents_of_dose_refer_to_a_target_s_own_prescription_and_else_to_the_highest():
    case = a_case(
        Structure("PTV_20", Role.TARGET, a_part(20, 25), 20.0),
        Structure("PTV_50", Role.TARGET, a_part(45, 50), 50.0),
        Structure("Cord", Role.ORGAN_AT_RISK, a_part(0, 26)),
    )
    report = evaluate(
        case, ROW_DOSE, [Criterion("targets", "Dmin", ">=", 95, "%"), Criterion("Cord", "Dmax", "<=", 60, "%")]
    )
    assert [(g.structure, g.value, g.met) for g in report.goals] == [
        ("PTV_50", gy(89), False),
        ("PTV_20", gy(97.5), True),
        ("Cord", gy(51), True),
    ]


def test_a_maximum_goal_of_a_nested_target_leaves_out_the_higher_target_and_5_mm():
    case = a_case(
        Structure("PTV_60", Role.TARGET, a_part(40, 50), 60.0), Structure("PTV_30", Role.TARGET, a_part(20, 50), 30.0)
    )
    report = evaluate(
        case,
        ROW_DOSE,
        [Criterion("targets", "Dmax", "<=", 34.5, "Gy"), Criterion("PTV_30", "Dmin", ">=", 20, "Gy")],
    )
    boost, nested, minimum = report.goals
    assert (boost.structure, boost.value, boost.note) == ("PTV_60", gy(49.5), "")
    # Voxel 40 is the first of the boost, so 35 lies 5 mm from it and 34 is the last that counts.
    assert (nested.value, nested.met, nested.note) == (gy(34.5), True, "outside PTV_60 and 5 mm around")
    assert (minimum.value, minimum.note) == (gy(19.5), "")


def test_targets_apart_are_read_whole():
    case = a_case(
        Structure("PTV_60", Role.TARGET, a_part(50, 60), 60.0), Structure("PTV_30", Role.TARGET, a_part(20, 40), 30.0)
    )
    result = evaluate(case, ROW_DOSE, [Criterion("PTV_30", "Dmax", "<=", 40, "Gy")]).goals[0]
    assert (result.value, result.met, result.note) == (gy(39.5), True, "")


def test_goals_that_cannot_be_read_are_listed_with_the_reason():
    within = a_case(
        Structure("PTV_60", Role.TARGET, a_part(20, 50), 60.0),
        Structure("PTV_30", Role.TARGET, a_part(18, 45), 30.0),
        Structure("Lost", Role.ORGAN_AT_RISK, a_part(0, 0)),
    )
    criteria = [
        Criterion("Bowel", "Dmean", "<=", 1, "Gy"),
        Criterion("Lost", "Dmean", "<=", 1, "Gy"),
        Criterion("PTV_30", "Dmax", "<=", 1, "Gy"),
    ]
    report = evaluate(within, ROW_DOSE, criteria)
    assert report.goals == ()
    assert [n.reason for n in report.not_applicable] == [
        "The case has no 'Bowel'.",
        "'Lost' is empty.",
        "Nothing of 'PTV_30' lies outside PTV_60 and 5 mm around.",
    ]
    bare = evaluate(
        a_case(), ROW_DOSE, [Criterion("BODY", "V95%", "<=", 1, "cc"), Criterion("BODY", "Dmax", "<=", 59, "Gy")]
    )
    assert bare.not_applicable[0].reason == "The case has no prescription that its percents could refer to."
    assert bare.goals[0].met
