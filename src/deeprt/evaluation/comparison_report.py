"""The report of an evaluated dose: its contents, and the files ``evaluation.json`` and ``evaluation.html``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeprt.case import PatientCase
from deeprt.evaluation.compare import DoseComparison, StructureDifference
from deeprt.evaluation.evaluate import PlanReport
from deeprt.evaluation.metrics import DEFINITIONS
from deeprt.evaluation.report import RESEARCH_ONLY, dvh_entry, goals_entry, metrics_entry
from deeprt.files import write_all_whole

EVALUATION_FILE = "evaluation.json"


@dataclass(frozen=True, eq=False)
class NamedDose:
    """A dose, (n_k, n_j, n_i) float32, Gy, whole course, on the case's grid, and the name it is shown by."""

    name: str
    dose_gy: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class EvaluationContents:
    """Everything the report of a dose, or of a dose beside a reference, shows.

    Parameters
    ----------
    case : the doses are on
    dose : that is evaluated
    report : evaluation of it
    reference : it is compared with; None if it stands alone
    comparison : with the reference; None without one
    versions : by package
    notes : what was assumed on the way, one sentence each
    """

    case: PatientCase
    dose: NamedDose
    report: PlanReport
    reference: NamedDose | None = None
    comparison: DoseComparison | None = None
    versions: Mapping[str, str] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.reference is None) != (self.comparison is None):
            raise ValueError("An evaluation needs both a reference and the comparison with it, or neither.")
        for dose in filter(None, (self.dose, self.reference)):
            if dose.dose_gy.shape != self.case.grid.shape:
                raise ValueError(f"Dose has shape {dose.dose_gy.shape}, the case's grid {self.case.grid.shape}.")


def write_evaluation(folder: Path, contents: EvaluationContents) -> None:
    """Write ``evaluation.json`` and ``evaluation.html`` into a folder, made if it is missing: both or none."""
    # Here, not above: matplotlib takes its time to load, and JSON alone does not need it.
    from deeprt.evaluation.comparison_html import html_page

    text = json.dumps(json_evaluation(contents), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_all_whole(folder, {"evaluation.html": html_page(contents), EVALUATION_FILE: text})


def json_evaluation(contents: EvaluationContents) -> dict[str, Any]:
    """Make the content of ``evaluation.json`` as plain data."""
    entry: dict[str, Any] = {
        "research_only": RESEARCH_ONLY,
        "case": contents.case.case_id,
        "definitions": {**DEFINITIONS, "dvh": "cumulative: percent of the volume that receives at least the dose"},
        "dose": {"name": contents.dose.name, **_report_entry(contents.report)},
        "versions": dict(contents.versions or {}),
        "notes": list(contents.notes),
    }
    if contents.reference is not None and contents.comparison is not None:
        comparison, settings = contents.comparison, contents.comparison.settings
        entry["reference"] = {"name": contents.reference.name, **_report_entry(comparison.reference_report)}
        entry["difference"] = {s.name: _difference_entry(s) for s in comparison.structures}
        entry["rss_relative_to_gy"] = comparison.relative_to_gy
        entry["gamma"] = {
            "threshold_percent": settings.threshold_percent,
            "tolerance": "local" if settings.local else "global",
            "interpolation": settings.interpolation,
            "max_gamma": settings.max_gamma,
            "results": [
                {**asdict(g.criterion), "pass_rate": g.pass_rate, "mean": g.mean, "n_voxels": g.n_voxels}
                for g in comparison.gamma
            ],
        }
        entry["definitions"] |= {
            "difference": "dose minus reference, whole course, voxels weighted by their share inside the structure",
            "rss": "sum over relative doses D in steps of 1 % of (DVH_reference(D) - DVH(D))^2, volumes from 0 to 1",
            "pass_rate": "share of the voxels inside the external structure and above the threshold with gamma <= 1",
        }
    return entry


def _report_entry(report: PlanReport) -> dict[str, Any]:
    return {
        "metrics": {s.name: metrics_entry(s) for s in report.structures},
        "goals": goals_entry(report),
        "dvh": {s.name: dvh_entry(s) for s in report.structures},
    }


def _difference_entry(s: StructureDifference) -> dict[str, Any]:
    entry = asdict(s)
    return {key: value for key, value in entry.items() if key != "name"} | {"role": str(s.role)}
