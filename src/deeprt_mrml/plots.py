"""Curves of a plan: dose-volume histograms, and the fitness of candidate beams over the gantry angle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import slicer
from numpy.typing import NDArray

from deeprt.beams import BeamAngles
from deeprt.dicom.source import Color
from deeprt.evaluation.evaluate import PlanReport
from deeprt.orientation.candidates import fittest_by_gantry
from deeprt.structures import Role
from deeprt_mrml.subject_hierarchy import keep_only, plan_node

_N_DOSES = 501  # points of a curve
_CURVE_COLOR: Color = (0, 114, 178)
_CHOSEN_COLOR: Color = (213, 94, 0)
_UNKNOWN_COLOR: Color = (128, 128, 128)


def show_dvh(
    scene: slicer.vtkMRMLScene,
    plan: str,
    reports: Mapping[str, PlanReport],
    colors: Mapping[str, Color],
    *,
    name: str = "DVH",
) -> slicer.vtkMRMLPlotChartNode:
    """Show cumulative dose-volume histograms of a plan: solid those of the first report, dashed those of the others.

    Structures that only serve the optimization are left out. Nodes of an earlier call are changed, and those left over
    removed.

    Parameters
    ----------
    reports : by what the legend calls them, such as *ideal* and *delivered*
    colors : by name of structure, RGB, 0 to 255; gray where one is missing
    name : of the chart, one of several that a plan may have
    """
    part = name.lower()
    chart = plan_node(scene, plan, part, "vtkMRMLPlotChartNode", f"{plan} {name}")
    top_gy = max((s.dvh.max_gy for r in reports.values() for s in r.structures), default=1.0)
    dose_gy = np.linspace(0.0, 1.02 * top_gy, _N_DOSES)
    shown = []
    for number, (title, report) in enumerate(reports.items(), start=1):
        structures = [s for s in report.structures if s.role is not Role.TUNING]
        columns = {"Dose (Gy)": dose_gy} | {s.name: 100 * s.dvh.curve(dose_gy) for s in structures}
        table = _table(scene, plan, f"{part}/{number}", f"{plan} {name} {title}", columns)
        for s in structures:
            label = s.name if len(reports) == 1 else f"{s.name} ({title})"
            series = _series(scene, plan, f"{part}/{number}/{s.name}", label, table, ("Dose (Gy)", s.name))
            series.SetLineStyle(series.LineStyleSolid if number == 1 else series.LineStyleDash)
            series.SetColor(*(channel / 255 for channel in colors.get(s.name, _UNKNOWN_COLOR)))
            shown.append(series)
    _fill(chart, shown, "Dose-volume histogram", "Dose (Gy)", "Volume (%)")
    keep_only(scene, plan, f"{part}/", [*shown, *(s.GetTableNode() for s in shown)])
    return chart


def show_fitness(
    scene: slicer.vtkMRMLScene,
    plan: str,
    candidates: Sequence[BeamAngles],
    fitness: NDArray[np.floating],
    chosen: Sequence[BeamAngles],
) -> slicer.vtkMRMLPlotChartNode:
    """Show the fitness of candidate beams over the gantry angle, and mark the chosen beams on the curve.

    Of candidates with one gantry angle, whose couch angles differ, the fittest counts. Nodes of an earlier call are
    changed.

    Parameters
    ----------
    fitness : (n_candidates,)
    """
    chart = plan_node(scene, plan, "fitness", "vtkMRMLPlotChartNode", f"{plan} fitness")
    gantry, best = fittest_by_gantry(candidates, fitness)
    marked = np.array([a.gantry_deg for a in chosen])
    names = ("Gantry angle (°)", "Fitness")
    curve = dict(zip(names, (gantry, best), strict=True))
    marks = dict(zip(names, (marked, np.interp(marked, gantry, best, period=360.0)), strict=True))
    shown = []
    for part, title, columns, color in (
        ("fitness/candidates", "Candidates", curve, _CURVE_COLOR),
        ("fitness/chosen", "Chosen beams", marks, _CHOSEN_COLOR),
    ):
        table = _table(scene, plan, part, f"{plan} {title.lower()}", columns)
        series = _series(scene, plan, f"{part}/series", title, table, names)
        series.SetColor(*(channel / 255 for channel in color))
        shown.append(series)
    shown[1].SetLineStyle(shown[1].LineStyleNone)
    shown[1].SetMarkerStyle(shown[1].MarkerStyleDiamond)
    shown[1].SetMarkerSize(12)
    _fill(chart, shown, "Fitness of candidate beams", *names)
    return chart


def _table(
    scene: slicer.vtkMRMLScene, plan: str, part: str, name: str, columns: Mapping[str, NDArray[np.floating]]
) -> slicer.vtkMRMLTableNode:
    table = plan_node(scene, plan, part, "vtkMRMLTableNode", name)
    slicer.util.updateTableFromArray(table, [np.asarray(c, np.float64) for c in columns.values()], list(columns))
    return table


def _series(
    scene: slicer.vtkMRMLScene,
    plan: str,
    part: str,
    name: str,
    table: slicer.vtkMRMLTableNode,
    columns: tuple[str, str],
) -> slicer.vtkMRMLPlotSeriesNode:
    """Line without markers of the second column of a table over the first."""
    series = plan_node(scene, plan, part, "vtkMRMLPlotSeriesNode", name)
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName(columns[0])
    series.SetYColumnName(columns[1])
    series.SetPlotType(series.PlotTypeScatter)
    series.SetMarkerStyle(series.MarkerStyleNone)
    series.SetLineWidth(2)
    return series


def _fill(
    chart: slicer.vtkMRMLPlotChartNode,
    series: Sequence[slicer.vtkMRMLPlotSeriesNode],
    title: str,
    x_title: str,
    y_title: str,
) -> None:
    chart.RemoveAllPlotSeriesNodeIDs()
    for s in series:
        chart.AddAndObservePlotSeriesNodeID(s.GetID())
    chart.SetTitle(title)
    chart.SetXAxisTitle(x_title)
    chart.SetYAxisTitle(y_title)
