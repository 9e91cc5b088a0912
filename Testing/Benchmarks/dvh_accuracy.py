"""DVHs against analytic ones and against a planning system's own; writes ``dvh.json`` and ``dvh.md``.

``python Testing/Benchmarks/dvh_accuracy.py [--out Docs/results]`` takes the analytic benchmark of Nelms et al.,
Med. Phys. 42, 4435 (2015), and the case breast_eclipse from ``../shared/cases`` beside the checkout. It needs openpyxl.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import openpyxl
import pydicom
from numpy.typing import NDArray
from planning import surroundings
from pydicom.dataset import Dataset

from deeprt.dicom.read_dose import read_stored_dose
from deeprt.dicom.scan import read_header
from deeprt.dicom.source import DrawnStructure
from deeprt.dicom.structure_set import read_structures
from deeprt.evaluation.dvh import Dvh, dvh, structure_dvh
from deeprt.files import write_whole

ROOT = Path(__file__).parents[2]
CASES = ROOT.parent / "shared" / "cases"
BENCHMARK, BREAST = CASES / "dvh_benchmark", CASES / "breast_eclipse"
SHAPES = ("Sphere", "Cylinder", "Cone", "RtCylinder", "RtCone")
DIRECTIONS = {"AntPost": "Z(AP)", "SupInf": "Y(SI)"}  # as the dose files and the sheet call them
SPACING_MM, GRADIENT_GY_PER_MM = 3.0, 1.0
PERCENTS = {"D99": 99.0, "D95": 95.0, "D5": 5.0, "D1": 1.0}


@dataclass(frozen=True)
class AnalyticPoint:
    """One dose point of one shape; ``voxels_gy`` takes each voxel as a whole, with the dose of its center."""

    structure: str
    gradient: str
    point: str
    analytic_gy: float
    ours_gy: float
    voxels_gy: float
    difference_percent: float
    difference_mm: float
    within: bool


@dataclass(frozen=True)
class SystemPoint:
    """One structure of a planning system beside ours; differences in percent of the system's value."""

    structure: str
    volume_cc: float
    ours_cc: float
    mean_gy: float
    ours_mean_gy: float
    mean_percent: float
    d95_gy: float
    ours_d95_gy: float
    d95_percent: float
    within: bool


def analytic_points() -> list[AnalyticPoint]:
    """Every D point of all shapes in both gradients, contours and dose every 3 mm."""
    sheet = openpyxl.load_workbook(BENCHMARK / "Extracted Analytical D points.xlsx", data_only=True).active
    rows = [row for row in sheet.iter_rows(values_only=True, max_col=40) if any(v is not None for v in row)]
    header = next(row for row in rows if "Total Volume (cc)" in row)
    columns = {name: n for n, name in enumerate(header) if name is not None and n >= header.index("Total Volume (cc)")}
    points = []
    for shape in SHAPES:
        for direction, gradient in DIRECTIONS.items():
            row = next(r for r in rows if r[0] == f"{shape}_30_0" and r[4] == gradient)
            ours, whole = benchmark_curves(shape, direction)
            for name in (*PERCENTS, "D0.03cc"):
                analytic = row[columns[name]] / 100  # the sheet is in cGy
                found, by_voxels = (point_of(curve, name) for curve in (ours, whole))
                percent, mm = 100 * (found / analytic - 1), (found - analytic) / GRADIENT_GY_PER_MM
                within = abs(percent) <= 1 or abs(mm) <= 0.5
                values = (round(float(v), 3) for v in (analytic, found, by_voxels, percent, mm))
                points.append(AnalyticPoint(shape, direction, name, *values, within))
    return points


def benchmark_curves(shape: str, direction: str) -> tuple[Dvh, Dvh]:
    """DVH of one shape on the grid of the dose, ours and that of whole voxels."""
    structure_set = read_header(BENCHMARK / "structures" / f"{shape}_30_0.dcm")
    structure = drawn(structure_set)[-1]
    stored = read_stored_dose(BENCHMARK / "dose" / f"Linear_{direction}_3mm_Aligned.dcm")
    inputs = stored.dose_gy, structure.fraction_on(stored.grid), stored.grid.voxel_volume_cc
    return structure_dvh(*inputs), dvh(*inputs)


def drawn(structure_set: Dataset, *, end_reach: float = 0.5) -> tuple[DrawnStructure, ...]:
    """Structures of a set with contours every 3 mm."""
    frame = str(structure_set.StructureSetROISequence[-1].ReferencedFrameOfReferenceUID)
    return read_structures(
        structure_set, frame_of_reference_uid=frame, slice_spacing_mm=SPACING_MM, end_reach=end_reach
    )[0]


def point_of(curve: Dvh, name: str) -> float:
    """Dose point of that name, Gy."""
    return curve.dose_at_volume(PERCENTS[name]) if name in PERCENTS else curve.dose_at_volume_cc(0.03)


def system_points() -> list[SystemPoint]:
    """Mean dose and D95 of every structure of the breast case that the RTDOSE has a DVH of.

    Structures end at their end contours, as the volumes show that the planning system draws them.
    """
    file = pydicom.dcmread(BREAST / "rtdose.dcm")
    stored = read_stored_dose(BREAST / "rtdose.dcm")
    structure_set = read_header(BREAST / "rtss.dcm")
    numbers = {str(roi.ROIName).strip(): int(roi.ROINumber) for roi in structure_set.StructureSetROISequence}
    curves = {int(c.DVHReferencedROISequence[0].ReferencedROINumber): c for c in file.DVHSequence}
    # This file states mean and maximum in percent of the prescription; the largest is that of its voxels.
    percent_gy = float(stored.dose_gy.max()) / max(float(c.DVHMaximumDose) for c in file.DVHSequence)
    points = []
    for structure in drawn(structure_set, end_reach=0.0):
        theirs = curves.get(numbers[structure.name])
        if theirs is None or structure.fraction_on is None:
            continue
        ours = structure_dvh(stored.dose_gy, structure.fraction_on(stored.grid), stored.grid.voxel_volume_cc)
        doses_gy, volume_cc, bin_gy = stored_curve(theirs)
        mean = float(theirs.DVHMeanDose) * percent_gy
        d95 = float(np.interp(-0.95, -volume_cc / volume_cc[0], doses_gy))
        mean_percent, d95_percent = 100 * (ours.mean_gy / mean - 1), 100 * (ours.dose_at_volume(95) / d95 - 1)
        d95_within = abs(d95_percent) <= 1 or abs(ours.dose_at_volume(95) - d95) <= bin_gy
        values = (
            round(float(v), 4)
            for v in (volume_cc[0], ours.volume_cc, mean, ours.mean_gy, mean_percent, d95, ours.dose_at_volume(95))
        )
        within = abs(mean_percent) <= 0.5 and d95_within
        points.append(SystemPoint(structure.name, *values, round(d95_percent, 2), within))
    return points


def stored_curve(stored: Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Middles of the bins, Gy, the volume that receives at least as much, cc, and the width of a bin, Gy.

    DICOM does not say where in a bin its volume holds; with the middle the curves have the mean doses beside them.
    """
    widths, volume_cc = np.reshape(np.array(stored.DVHData, dtype=np.float64), (-1, 2)).T
    return (np.cumsum(widths) - widths / 2) * float(stored.DVHDoseScaling), volume_cc, float(widths[0])


def report(points: list[AnalyticPoint], systems: list[SystemPoint]) -> str:
    """Both tables in Markdown."""
    lines = [
        "# DVHs: what was measured",
        "",
        "```sh",
        "python Testing/Benchmarks/dvh_accuracy.py",
        "```",
        "",
        "## Against analytic DVHs",
        "",
        "Shapes with contours every 3 mm in a dose of 1 Gy/mm on voxels of 3 mm (Nelms et al., Med. Phys. 42, 4435,",
        "2015), so 1 Gy is 1 mm. *Whole voxels* is the DVH of the same volume fractions, each with the dose of its",
        "voxel's center.",
        "",
        f"Within 1 % or 0.5 mm: **{sum(p.within for p in points)} of {len(points)}**; largest difference "
        f"{max(abs(p.difference_mm) for p in points):.2f} mm, of whole voxels "
        f"{max(abs(p.voxels_gy - p.analytic_gy) for p in points):.2f} mm.",
        "",
        "| Shape | Gradient | Point | Analytic / Gy | Ours / Gy | Difference / % | / mm | Whole voxels / Gy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {p.structure} | {p.gradient} | {p.point} | {p.analytic_gy:.2f} | {p.ours_gy:.2f} | "
        f"{p.difference_percent:+.2f} | {p.difference_mm:+.2f}{'' if p.within else ' (outside)'} | {p.voxels_gy:.2f} |"
        for p in points
    ]
    missed = [s.structure for s in systems if not s.within]
    lines += [
        "",
        "## Against the DVHs in an Eclipse RTDOSE",
        "",
        "Case breast_eclipse, on the voxels of its RTDOSE; structures end at their end contours, not half a slice",
        "beyond them, since that is how the volumes of the RTDOSE come about. The mean is the one stated beside each",
        "DVH. Its DVHs have bins of 1 cGy, so a D95 within one bin counts as the same. The DVH of BODY leaves out what",
        "gets no dose, its mean does not.",
        "",
        f"Mean dose within 0.5 % and D95 within 1 % or 1 cGy: **{len(systems) - len(missed)} of {len(systems)}**"
        f"{'; outside: ' + ', '.join(missed) if missed else ''}. Without the bin, mean and D95 are both within for "
        f"{sum(abs(s.mean_percent) <= 0.5 and abs(s.d95_percent) <= 1 for s in systems)} of {len(systems)}.",
        "",
        "| Structure | Volume / cc | Ours / cc | Mean / Gy | Ours / Gy | in % | D95 / Gy | Ours / Gy | in % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {s.structure} | {s.volume_cc:.2f} | {s.ours_cc:.2f} | {s.mean_gy:.3f} | {s.ours_mean_gy:.3f} | "
        f"{s.mean_percent:+.2f} | {s.d95_gy:.3f} | {s.ours_d95_gy:.3f} | {s.d95_percent:+.2f} |"
        for s in systems
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write both files and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "Docs" / "results", metavar="DIR")
    folder = parser.parse_args().out
    points, systems = analytic_points(), system_points()
    content = surroundings() | {"analytic": [asdict(p) for p in points], "breast_eclipse": [asdict(s) for s in systems]}
    write_whole(folder / "dvh.json", json.dumps(content, indent=1) + "\n")
    text = report(points, systems)
    write_whole(folder / "dvh.md", text)
    print(text)


if __name__ == "__main__":
    main()
