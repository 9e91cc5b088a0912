"""What a plan's fluence comes to, as nodes and texts of the scene: maps, segments, doses, and numbers in rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray

from deeprt.beams import Beam, BeamAngles, FluenceImage
from deeprt.case import PatientCase
from deeprt.evaluation.criteria import Criterion
from deeprt.evaluation.evaluate import PlanReport, StructureReport
from deeprt.fluence.solution import FluenceSolution
from deeprt.geometry import Grid
from deeprt.structures import Role
from deeprt.work_folder import ComparisonNumbers
from deeprt_mrml.fluence_images import fluence_of_plan, show_fluence
from deeprt_mrml.plan import Plan
from deeprt_mrml.subject_hierarchy import find_node, plan_node, remove_nodes
from deeprt_mrml.volumes import color_table, dose_node, dose_on, set_scale, set_volume

SYNTHETIC, WISHED, IDEAL = "Synthetic dose", "Wished dose", "Dose of the fluence"  # dose volumes of a plan
_DIFFERENCE, _GAMMA = "difference", "gamma"  # parts
SEGMENTS = "Segments"  # text of a plan, JSON
_FLUENCE_TEXT, _GAMMA_TEXT = "Fluence", "Gamma"


@dataclass(frozen=True)
class MetricRow:
    """A number of a structure's dose, and that of the wished dose; None without one.

    Parameters
    ----------
    unit : empty for a bare number
    """

    structure: str
    metric: str
    unit: str
    value: float
    reference: float | None


@dataclass(frozen=True)
class GoalRow:
    """A goal, such as *V60Gy <= 35 %*, and what came of it.

    Parameters
    ----------
    value, reference : of the plan's dose and of the wished dose, in ``unit``; the latter None without one
    note : on what part of the structure it was read
    """

    structure: str
    goal: str
    unit: str
    value: float
    met: bool
    reference: float | None
    reference_met: bool | None
    priority: str
    note: str


@dataclass(frozen=True)
class GammaRow:
    """Gamma of one criterion, such as *3%/2mm*, against the wished dose."""

    criterion: str
    pass_percent: float
    mean: float
    n_voxels: int


def dose_of(plan: Plan, name: str) -> slicer.vtkMRMLScalarVolumeNode | None:
    """Dose volume of a plan; None if there is none of that name."""
    return _found(plan, f"dose/{name}")


def show_dose(plan: Plan, name: str, dose_gy: NDArray[np.float32], case: PatientCase) -> None:
    """Show a dose of a plan, (n_k, n_j, n_i), whole course, on the case's grid; one of that name is replaced."""
    dose_node(plan.scene, plan.key, name, dose_gy, case.grid, top_gy=case.targets[0].prescription_gy)


def show_solution(plan: Plan, beams: Sequence[Beam], solution: FluenceSolution, case: PatientCase) -> None:
    """Show fluence maps and their dose, and keep with the plan which beams they are of."""
    show_fluence(plan.scene, plan.key, beams, solution.fluence_mu)
    show_dose(plan, IDEAL, solution.dose_gy, case)
    content = {
        "beams": [_entry_of(b) for b in beams],
        "objective": solution.objective,
        "history": solution.history,
        "converged": solution.converged,
        "source": solution.source,
        "notes": solution.notes,
    }
    plan.set_text(_FLUENCE_TEXT, json.dumps(content))


def fluence_beams(plan: Plan) -> tuple[Beam, ...]:
    """Beams that the fluence of a plan was found for; none without fluence."""
    return tuple(_beam_of(e) for e in _fluence_content(plan).get("beams", ()))


def fluence_maps(plan: Plan) -> tuple[NDArray[np.float64], ...]:
    """Fluence maps of a plan as its volumes have them, (n_rows, n_cols) MU per fraction; none unless all are there."""
    return fluence_of_plan(plan.scene, plan.key, fluence_beams(plan))


def fluence_notes(plan: Plan) -> tuple[str, ...]:
    """What was assumed when the fluence of a plan was found."""
    return tuple(_fluence_content(plan).get("notes", ()))


def solution_of(plan: Plan, beams: Sequence[Beam], grid: Grid) -> FluenceSolution:
    """Fluence of a plan as its volumes have it, with the dose it had when it was found; there must be one.

    Parameters
    ----------
    beams : whose beamlets the maps are for. Those that the fluence was found for may have a row more or less, where a
        target ends at an edge of a leaf and a saved scene rounds its place
    """
    content, ideal = _fluence_content(plan), dose_of(plan, IDEAL)
    images = [FluenceImage.of(b, m) for b, m in zip(fluence_beams(plan), fluence_maps(plan), strict=True)]
    return FluenceSolution(
        fluence_mu=tuple(np.where(b.open_beamlets, i.on_beamlets(b), 0.0) for b, i in zip(beams, images, strict=True)),
        dose_gy=np.zeros(grid.shape, np.float32) if ideal is None else dose_on(ideal, grid),
        objective=content["objective"],
        history=tuple(content["history"]),
        converged=content["converged"],
        source=content["source"],
        notes=tuple(content["notes"]),
    )


def show_comparison(plan: Plan, numbers: ComparisonNumbers, grid: Grid) -> None:
    """Show the difference to the wished dose and gamma of the first criterion, and keep the numbers of all."""
    name = f"Dose difference to {WISHED.lower()} (Gy)"
    node = plan_node(plan.scene, plan.key, _DIFFERENCE, "vtkMRMLScalarVolumeNode", name)
    set_volume(node, numbers.difference_gy.astype(np.float32), grid)
    top = float(np.percentile(np.abs(numbers.difference_gy), 99.9)) or 1.0  # single voxels would pale the rest
    set_scale([node], -top, top, color_table(plan.scene, "RdBu_r"))
    for g in numbers.gammas[:1]:
        node = plan_node(plan.scene, plan.key, _GAMMA, "vtkMRMLScalarVolumeNode", f"Gamma {g.criterion}")
        set_volume(node, np.nan_to_num(g.gamma).astype(np.float32), grid)
        set_scale([node], 0.0, 2.0, color_table(plan.scene, "coolwarm"))
    rows = [GammaRow(str(g.criterion), 100 * g.pass_rate, g.mean, g.n_voxels) for g in numbers.gammas]
    plan.set_text(_GAMMA_TEXT, json.dumps([asdict(r) for r in rows]))


def difference_of(plan: Plan) -> slicer.vtkMRMLScalarVolumeNode | None:
    """Volume of the difference to the wished dose; None if there is none."""
    return _found(plan, _DIFFERENCE)


def gamma_of(plan: Plan) -> slicer.vtkMRMLScalarVolumeNode | None:
    """Volume of gamma, zero where it was not evaluated; None if there is none."""
    return _found(plan, _GAMMA)


def gamma_rows(plan: Plan) -> tuple[GammaRow, ...]:
    """Gamma of the comparison that is shown."""
    return tuple(GammaRow(**e) for e in json.loads(plan.text(_GAMMA_TEXT) or "[]"))


def remove_comparison(plan: Plan) -> None:
    """Take a comparison out of the scene."""
    remove_nodes(plan.scene, [n for n in (difference_of(plan), gamma_of(plan)) if n is not None])
    plan.set_text(_GAMMA_TEXT, "")


def metric_rows(report: PlanReport, reference: PlanReport | None) -> tuple[MetricRow, ...]:
    """Doses of all structures but those that only steer the optimizer, and indices of targets."""
    rows = []
    for s in report.structures:
        if s.role is Role.TUNING:
            continue
        other = _numbers_of(reference.structure(s.name)) if reference is not None else {}
        rows += [MetricRow(s.name, *key, value, other.get(key)) for key, value in _numbers_of(s).items()]
    return tuple(rows)


def goal_rows(report: PlanReport, reference: PlanReport | None) -> tuple[GoalRow, ...]:
    """All goals that could be evaluated."""
    others = {(g.criterion, g.structure): g for g in reference.goals} if reference is not None else {}
    rows = []
    for g in report.goals:
        other = others.get((g.criterion, g.structure))
        value, met = (None, None) if other is None else (other.value, other.met)
        rows.append(
            GoalRow(g.structure, _words(g.criterion), g.criterion.unit, g.value, g.met, value, met,
                    g.criterion.priority, g.note)
        )  # fmt: skip
    return tuple(rows)


def _numbers_of(s: StructureReport) -> dict[tuple[str, str], float]:
    """Numbers of a structure by name and unit."""
    m = s.metrics
    doses = {"Dmean": m.dmean_gy, "D2%": m.d2_gy, "Dmax": m.dmax_gy}
    if s.target is not None:
        doses = {"D98%": m.d98_gy, "D95%": m.d95_gy, "D50%": m.d50_gy, **doses}
    numbers = {(name, "Gy"): value for name, value in doses.items()}
    if s.target is not None:
        numbers |= {
            ("Homogeneity (D2 - D98)/D50", ""): s.target.homogeneity,
            ("Conformity (van 't Riet)", ""): s.target.van_t_riet,
        }
    return numbers


def _words(criterion: Criterion) -> str:
    return f"{criterion.metric} {criterion.relation} {criterion.limit:g} {criterion.unit}"


def _found(plan: Plan, part: str) -> slicer.vtkMRMLScalarVolumeNode | None:
    return None if plan.scene is None else find_node(plan.scene, plan.key, part)


def _fluence_content(plan: Plan) -> dict[str, Any]:
    return dict(json.loads(plan.text(_FLUENCE_TEXT) or "{}"))


def _entry_of(beam: Beam) -> dict[str, Any]:
    """A beam as JSON has it, its open beamlets as one text of 0 and 1 a row."""
    return {
        "name": beam.name,
        "angles": asdict(beam.angles),
        "isocenter_lps": beam.isocenter_lps.tolist(),
        "position": beam.position,
        "sad_mm": beam.sad_mm,
        "x_edges_mm": beam.x_edges_mm.tolist(),
        "y_edges_mm": beam.y_edges_mm.tolist(),
        "open_beamlets": ["".join("01"[b] for b in row.astype(int)) for row in beam.open_beamlets],
    }


def _beam_of(entry: Mapping[str, Any]) -> Beam:
    return Beam(
        name=entry["name"],
        angles=BeamAngles(**entry["angles"]),
        isocenter_lps=np.array(entry["isocenter_lps"]),
        position=entry["position"],
        sad_mm=entry["sad_mm"],
        x_edges_mm=np.array(entry["x_edges_mm"]),
        y_edges_mm=np.array(entry["y_edges_mm"]),
        open_beamlets=np.array([[c == "1" for c in row] for row in entry["open_beamlets"]]),
    )
