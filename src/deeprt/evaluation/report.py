"""The report of a plan: its contents, and the files ``report.json`` and ``report.html``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeprt.case import PatientCase
from deeprt.delivery.segments import DeliverablePlan
from deeprt.evaluation.evaluate import PlanReport, StructureReport
from deeprt.evaluation.metrics import DEFINITIONS
from deeprt.files import write_all_whole
from deeprt.fluence.solution import FluenceSolution

RESEARCH_ONLY = "For research, not for clinical use."
_DVH_STEP_GY = 0.5


@dataclass(frozen=True, eq=False)
class ReportContents:
    """Everything the report shows.

    Parameters
    ----------
    case : that was planned
    plan : what is delivered
    solution : the ideal fluence it was sequenced from
    dose_gy : (n_k, n_j, n_i) float32, whole course, of the plan's segments
    report : evaluation of ``dose_gy``
    ideal_report : evaluation of ``solution.dose_gy``
    timing_s : wall-clock seconds by planning step
    peak_memory_mb : of the process
    versions : by package
    seed : of every random choice
    settings : the configuration as plain data
    notes : what was assumed or made on the way, one sentence each
    """

    case: PatientCase
    plan: DeliverablePlan
    solution: FluenceSolution
    dose_gy: NDArray[np.float32]
    report: PlanReport
    ideal_report: PlanReport
    timing_s: Mapping[str, float]
    peak_memory_mb: float
    versions: Mapping[str, str]
    seed: int
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.dose_gy.shape != self.case.grid.shape:
            raise ValueError(f"Dose has shape {self.dose_gy.shape}, the case's grid {self.case.grid.shape}.")
        if len(self.solution.fluence_mu) != len(self.plan.beams):
            raise ValueError(
                f"The solution has {len(self.solution.fluence_mu)} fluence maps, the plan {len(self.plan.beams)} beams."
            )


def write_report(folder: Path, contents: ReportContents) -> None:
    """Write ``report.json`` and ``report.html`` (one self-contained page) into a folder, made if it is missing.

    Both are complete before the first is written, and each appears under its name only when it is whole.
    """
    # Here, not above: matplotlib takes its time to load, and JSON alone does not need it.
    from deeprt.evaluation.report_html import html_page

    files = {
        "report.json": json.dumps(json_report(contents), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "report.html": html_page(contents),
    }
    write_all_whole(folder, files)


def json_report(contents: ReportContents) -> dict[str, Any]:
    """Make the content of ``report.json`` as plain data."""
    plan, solution, report = contents.plan, contents.solution, contents.report
    return {
        "research_only": RESEARCH_ONLY,
        "beams": [
            {
                "name": beam.name,
                **asdict(beam.angles),
                "mu": plan.beam_mu(b),
                "segments": len(plan.segments_of(b)),
            }
            for b, beam in enumerate(plan.beams)
        ],
        "technique": plan.technique,
        "total_mu": plan.total_mu,
        "objective": {
            "value": float(solution.objective),
            "source": solution.source,
            "converged": bool(solution.converged),
            "iterations": len(solution.history),
        },
        "metrics": {s.name: metrics_entry(s) for s in report.structures},
        "definitions": {
            **DEFINITIONS,
            "total_mu": "monitor units of all beams in one fraction",
            "mu": "monitor units of the beam in one fraction",
            "ideal": "dose of the fluence before it was sequenced; everything else is of the segments",
            "dvh": "cumulative: percent of the volume that receives at least the dose",
        },
        "goals": goals_entry(report),
        "dvh": {s.name: dvh_entry(s) for s in report.structures},
        "ideal": {s.name: metrics_entry(s) for s in contents.ideal_report.structures},
        "timing_s": {step: float(seconds) for step, seconds in contents.timing_s.items()},
        "peak_memory_mb": float(contents.peak_memory_mb),
        "versions": dict(contents.versions),
        "seed": contents.seed,
        "notes": list(contents.notes),
    }


def metrics_entry(structure: StructureReport) -> dict[str, Any]:
    """Metrics of one structure by the keys of ``DEFINITIONS``; targets with prescription and indices."""
    m = structure.metrics
    entry: dict[str, Any] = {
        "role": str(structure.role),
        "D98": m.d98_gy,
        "D95": m.d95_gy,
        "D50": m.d50_gy,
        "D2": m.d2_gy,
        "Dmin": m.dmin_gy,
        "Dmax": m.dmax_gy,
        "Dmean": m.dmean_gy,
        "volume_cc": m.volume_cc,
    }
    if structure.target is not None:
        entry |= {"prescription_gy": structure.prescription_gy, **asdict(structure.target)}
    return entry


def goals_entry(report: PlanReport) -> dict[str, Any]:
    """Goals of a dose: how many are met, each result, and what could not be evaluated."""
    return {
        "n_met": sum(r.met for r in report.goals),
        "n_missed": sum(not r.met for r in report.goals),
        "results": [
            {**asdict(r.criterion), "applies_to": r.structure, "value": r.value, "met": r.met, "note": r.note}
            for r in report.goals
        ],
        "not_applicable": [{**asdict(n.criterion), "reason": n.reason} for n in report.not_applicable],
    }


def dvh_entry(structure: StructureReport) -> dict[str, Any]:
    """DVH of one structure as a table of dose and percent of the volume."""
    step = min(_DVH_STEP_GY, max(structure.dvh.max_gy, 1e-3) / 10)
    dose = np.arange(0.0, structure.dvh.max_gy + 2 * step, step)
    return {
        "role": str(structure.role),
        "dose_gy": np.round(dose, 6).tolist(),
        "volume_percent": np.round(100 * structure.dvh.curve(dose), 4).tolist(),
    }
