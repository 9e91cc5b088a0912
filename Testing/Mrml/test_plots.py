import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from Mrml.samples import a_case
from numpy.testing import assert_allclose

from deeprt.beams import BeamAngles
from deeprt.evaluation.evaluate import evaluate
from deeprt_mrml.plots import show_dvh, show_fitness
from deeprt_mrml.subject_hierarchy import plan_nodes

COLORS = {"PTV": (200, 30, 40), "Rectum": (120, 80, 20)}


@pytest.fixture(scope="module")
def reports():
    """Of a dose that falls off with distance, and of a lower one."""
    case = a_case()
    distance = np.linalg.norm(case.grid.points_lps() - case.grid.center_lps, axis=1).reshape(case.grid.shape)
    dose = (66 * np.exp(-((distance / 40) ** 2))).astype(np.float32)
    return {"ideal": evaluate(case, dose), "delivered": evaluate(case, 0.9 * dose)}


def series_of(chart):
    nodes = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
    return {node.GetName(): node for node in nodes}


def curve_of(series):
    table = series.GetTableNode()
    return [slicer.util.arrayFromTableColumn(table, c) for c in (series.GetXColumnName(), series.GetYColumnName())]


def test_curves_are_those_of_the_report_in_percent(scene, reports):
    shown = series_of(show_dvh(scene, "Plan", {"ideal": reports["ideal"]}, COLORS))
    assert list(shown) == ["BODY", "Rectum", "Bladder", "PTV", "Metal"]
    for name, series in shown.items():
        dose, volume = curve_of(series)
        assert (dose[0], volume[0], volume[-1]) == (0, 100, 0)
        assert_allclose(volume, 100 * reports["ideal"].structure(name).dvh.curve(dose))


def test_the_first_report_is_solid_the_second_dashed_in_the_colors_of_the_structures(scene, reports):
    chart = show_dvh(scene, "Plan", reports, COLORS)
    shown = series_of(chart)
    assert len(shown) == 10
    solid, dashed = shown["PTV (ideal)"], shown["PTV (delivered)"]
    assert (solid.GetLineStyle(), dashed.GetLineStyle()) == (solid.LineStyleSolid, solid.LineStyleDash)
    for series in (solid, dashed):
        assert_allclose(255 * np.array(series.GetColor()), COLORS["PTV"])
    assert_allclose(255 * np.array(shown["Bladder (ideal)"].GetColor()), (128, 128, 128))  # none was given
    assert (chart.GetXAxisTitle(), chart.GetYAxisTitle()) == ("Dose (Gy)", "Volume (%)")


def test_dvh_nodes_are_used_again_and_those_left_over_removed(scene, reports):
    chart = show_dvh(scene, "Plan", {"ideal": reports["ideal"]}, COLORS)
    nodes = plan_nodes(scene, "Plan")
    other = show_dvh(scene, "Other", reports, COLORS)
    show_dvh(scene, "Plan", reports, COLORS)
    assert show_dvh(scene, "Plan", {"delivered": reports["delivered"]}, COLORS) is chart
    assert plan_nodes(scene, "Plan") == nodes
    dose, volume = curve_of(series_of(chart)["PTV"])
    assert_allclose(volume, 100 * reports["delivered"].structure("PTV").dvh.curve(dose))
    assert other.GetNumberOfPlotSeriesNodes() == 10


# Fitness


def test_chosen_beams_are_marked_on_the_curve_of_all_candidates(scene):
    gantry = np.arange(0.0, 360.0, 10.0)
    fitness = np.cos(np.deg2rad(gantry)).astype(np.float32) / 2 + 0.5
    chosen = [BeamAngles(20.0), BeamAngles(355.0)]  # the second lies between the last candidate and the first
    shown = series_of(show_fitness(scene, "Plan", [BeamAngles(g) for g in gantry], fitness, chosen))
    curve, marks = shown["Candidates"], shown["Chosen beams"]
    assert_allclose(curve_of(curve), [gantry, fitness])
    assert_allclose(curve_of(marks), [[20, 355], [fitness[2], (fitness[35] + fitness[0]) / 2]], rtol=1e-6)
    assert (curve.GetMarkerStyle(), marks.GetLineStyle()) == (curve.MarkerStyleNone, marks.LineStyleNone)
    assert marks.GetMarkerStyle() != marks.MarkerStyleNone


def test_of_several_couch_angles_the_fittest_counts(scene):
    candidates = [BeamAngles(g, c) for c in (0.0, 30.0, 330.0) for g in (90.0, 10.0)]
    fitness = np.array([0.1, 0.9, 0.5, 0.2, 0.3, 0.4])
    shown = series_of(show_fitness(scene, "Plan", candidates, fitness, []))
    assert_allclose(curve_of(shown["Candidates"]), [[10, 90], [0.9, 0.5]])
    assert all(c.size == 0 for c in curve_of(shown["Chosen beams"]))


def test_fitness_nodes_are_used_again(scene):
    candidates = [BeamAngles(g) for g in (0.0, 90.0, 180.0)]
    chart = show_fitness(scene, "Plan", candidates, np.array([0.1, 0.2, 0.3]), [])
    nodes = plan_nodes(scene, "Plan")
    assert show_fitness(scene, "Plan", candidates, np.array([0.3, 0.2, 0.1]), [BeamAngles(90.0)]) is chart
    assert plan_nodes(scene, "Plan") == nodes
    assert_allclose(curve_of(series_of(chart)["Candidates"])[1], [0.3, 0.2, 0.1])
