"""Measure virtual prostate patients beside a real one and published values; prints a Markdown table.

``python Testing/Benchmarks/virtual_patients.py [--patients 70] [--out FILE] [--picture FILE]``. The patients are those
of ``deeprt cohort make virtual:prostate``. The real one, a prostate bed with nodes (CORT), is looked for in
``../shared/cases`` beside the checkout. Published values were measured on other patients, by other rules of contouring;
they show the order of size.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image
from scipy.ndimage import distance_transform_edt

from deeprt.case import PatientCase
from deeprt.config import PlanningConfig
from deeprt.evaluation.dose_figure import NIGHT, NIGHT_STYLE, PALE, draw_plane
from deeprt.evaluation.views import planes_through
from deeprt.preparation import load_case
from deeprt.structures import Role, Structure
from deeprt.training.cohort import virtual_cohort

REAL_CASE = Path(__file__).parents[3] / "shared" / "cases" / "cort_prostate"
N_PATIENTS, N_TEST = 70, 13

PUBLISHED = {  # mean ± standard deviation unless said otherwise; the sources follow the table
    "Prostate / cc": "49.7 [2]; 81 before and 64 after hormones [3]",
    "Seminal vesicles / cc": "6.5, healthy men of 36 years, MRI [4]",
    "PTV / cc": "86 ± 25 [1]; 198 before and 168 after hormones [3]",
    "Bladder / cc": "251 ± 115 [1]; 282, 89 to 608 [5]; medians 126 empty, 276 full, 49 to 626 [6]",
    "Rectum / cc": "74 ± 34 [1]; above 120 is large [7]",
    "Femoral head / cc": "182 ± 20, of a longer contour [1]",
    "Nodal PTV / cc": "CTV 257 to 327 by contouring rule [8]",
    "Body, left to right / mm": "390 ± 60 [1]",
    "Body, front to back / mm": "230 ± 30 [1]",
    "Rectum inside the PTV / %": "cut-off 10.1 [9]",
    "Bladder inside the PTV / %": "cut-off 8.0 [9]",
}
SOURCES = (
    "S. Momin, J. L. Gräfe, R. F. Khan, J. Appl. Clin. Med. Phys. (2019), doi:10.1002/acm2.12561: planning CT of 25 "
    "patients",
    "C. Onal et al., Br. J. Radiol. 82, 1019 (2009), doi:10.1259/bjr/65939531: planning CT of 52 patients",
    "Clin. Transl. Oncol. 8, 599 (2006), PMID 16952849: planning CT of 28 patients, prostate and prostate with margin",
    "T. Barrett et al., Eur. Radiol. 27, 5236 (2017), doi:10.1007/s00330-017-4905-x: 15 volunteers",
    "Br. J. Radiol. 84, 813 (2011), doi:10.1259/bjr/50048151: ultrasound before the planning CT, 30 patients",
    "R. L. Nield et al., doi:10.1111/1754-9485.70139: planning CT of 20 patients, empty and full",
    "Radiother. Oncol. 81, 284 (2006), doi:10.1016/j.radonc.2006.10.028: planning CT of 50 patients",
    "V. A. Harris et al., Int. J. Radiat. Oncol. Biol. Phys. (2015), the PIVOTAL atlas: seven patients",
    "M. Chao et al., Med. Dosim. 46, 269 (2021): 105 patients; the share that best told who met a dose goal",
)
COLORS = {
    "Bladder": (224, 190, 60),
    "Rectum": (160, 110, 70),
    "Femur_Head_L": (80, 150, 220),
    "Femur_Head_R": (80, 150, 220),
    "PenileBulb": (190, 110, 210),
    "Bag_Bowel": (90, 170, 110),
}
SHOWN = {"bladder": "Bladder", "rectum": "Rectum", "femoral heads": "Femur_Head_L", "penile bulb": "PenileBulb",
         "bowel": "Bag_Bowel"}  # fmt: skip
NODES_MM = 60.0  # above the center of the primary target, where nodes lie beside the bladder


def organ(case: PatientCase, name: str) -> Structure | None:
    """Structure of a TG-263 name; the real patient's prostate is the bed that is treated in its place."""
    found = [s for s in case.structures if s.organ == name or (name == "Prostate" and s.name == "prostate_bed")]
    return found[0] if found else None


def volume_cc(case: PatientCase, structure: Structure | None) -> float:
    """Volume; not a number where the structure is missing."""
    return np.nan if structure is None else case.volume_cc(structure)


def share_inside_percent(organ: Structure, target: Structure) -> float:
    """Share of an organ that lies in a target, taking both for independent within a voxel."""
    return 100 * float((organ.fraction * target.fraction).sum() / organ.fraction.sum())


def measured(case: PatientCase) -> dict[str, list[float]]:
    """Values by quantity; two where left and right are measured."""
    target, body = case.targets[0], case.external.fraction
    heads = [organ(case, f"Femur_Head_{side}") for side in "LR"]
    rectum, bladder = organ(case, "Rectum"), organ(case, "Bladder")
    assert rectum is not None and bladder is not None
    nearest_mm = distance_transform_edt(target.fraction < 0.5, sampling=case.grid.spacing_mm[::-1])
    across_mm, deep_mm, _ = case.grid.spacing_mm
    i, j, k = np.rint(target.centroid_index()).astype(int)
    half = body[k, j, i] / 2
    front, back = (float(part.sum() + half) * deep_mm for part in (body[k, :j, i], body[k, j + 1 :, i]))
    right, left = (float(part.sum() + half) * across_mm for part in (body[k, j, :i], body[k, j, i + 1 :]))
    nodal = case.targets[1:]
    return {
        "Prostate / cc": [volume_cc(case, organ(case, "Prostate"))],
        "Seminal vesicles / cc": [volume_cc(case, organ(case, "SeminalVes"))],
        "PTV / cc": [case.volume_cc(target)],
        "Nodal PTV / cc": [case.volume_cc(t) for t in nodal],
        "Bladder / cc": [case.volume_cc(bladder)],
        "Rectum / cc": [case.volume_cc(rectum)],
        "Femoral head / cc": [volume_cc(case, head) for head in heads],
        "Penile bulb / cc": [volume_cc(case, organ(case, "PenileBulb"))],
        "Body, left to right / mm": [left + right],
        "Body, front to back / mm": [front + back],
        "PTV's center to skin in front / mm": [front],
        "PTV's center to skin behind / mm": [back],
        "PTV's center to skin at a side / mm": [left, right],
        "PTV to femoral head / mm": [float(nearest_mm[h.fraction >= 0.5].min()) for h in heads if h is not None],
        "Rectum inside the PTV / %": [share_inside_percent(rectum, target)],
        "Bladder inside the PTV / %": [share_inside_percent(bladder, target)],
    }


def table(virtual: Sequence[dict[str, list[float]]], real: dict[str, list[float]] | None) -> list[str]:
    """One row a quantity, then the sources."""
    lines = ["| Quantity | n | Smallest | Median | Largest | CORT | Published |", "|---|---|---|---|---|---|---|"]
    for name in virtual[0]:
        values = np.concatenate([patient[name] for patient in virtual])
        beside = [v for v in real[name] if np.isfinite(v)] if real else []
        low, middle, high = (f"{v:.3g}" for v in np.percentile(values, (0, 50, 100))) if values.size else 3 * "–"
        one = " and ".join(f"{v:.3g}" for v in beside) or "–"
        lines.append(f"| {name} | {values.size} | {low} | {middle} | {high} | {one} | {PUBLISHED.get(name, '–')} |")
    return [*lines, "", *(f"{n}. {source}." for n, source in enumerate(SOURCES, start=1))]


def picture(cases: Sequence[tuple[str, PatientCase]], file: Path) -> None:
    """Planes through the center of each primary target and an axial one above, at one scale."""
    axial, sagittal = (-215.0, 215.0, -145.0, 145.0), (-145.0, 145.0, -120.0, 110.0)
    rows = (("Axial", 0.0, axial), ("Axial", NODES_MM, axial), ("Sagittal", 0.0, sagittal))
    with matplotlib.rc_context(NIGHT_STYLE):
        figure = Figure(figsize=(12.0, 8.7), facecolor=NIGHT)
        grid = figure.add_gridspec(3, len(cases), hspace=0.03, wspace=0.02, left=0, right=1, top=0.96, bottom=0.04)
        for column, (title, case) in enumerate(cases):
            center = case.grid.index_to_lps[:3] @ np.append(case.targets[0].centroid_index(), 1.0)
            for row, (name, above_mm, box) in enumerate(rows):
                planes = {plane.name: plane for plane in planes_through(case.grid, center + np.array([0, 0, above_mm]))}
                axes = figure.add_subplot(grid[row, column])
                draw_plane(axes, as_shown(case), planes[name], box, lambda axes, plane: None)
                if row == 0:
                    axes.set_title(title, fontsize=10, color=PALE)
        handles = [Line2D([], [], color=np.array(COLORS[name]) / 255, label=label) for label, name in SHOWN.items()]
        handles += [Line2D([], [], color=c, label=n) for n, c in (("PTV", "#e0403a"), ("nodal PTV", "#e8853a"))]
        figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, labelcolor=PALE)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=90)
    few = Image.open(drawn).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(file, optimize=True)


def as_shown(case: PatientCase) -> PatientCase:
    """Targets, organs and outline, in the same colors for every patient."""
    kept = [s for s in case.structures if s.role in (Role.EXTERNAL, Role.TARGET, Role.ORGAN_AT_RISK)]
    structures = tuple(replace(s, color=COLORS.get(s.organ)) for s in kept)
    return replace(case, structures=tuple(sorted(structures, key=lambda s: -(s.prescription_gy or 0))))


def main() -> None:
    """Print the table, and draw the picture where one is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=N_PATIENTS, help="number of virtual patients")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the table to this file")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw two virtual patients beside the real one")
    options = parser.parse_args()
    patients = virtual_cohort(max(options.patients, N_PATIENTS), N_TEST).patients[: options.patients]
    real = load_case(str(REAL_CASE), PlanningConfig()) if REAL_CASE.is_dir() else None
    lines = table([measured(p.load()) for p in patients], measured(real) if real else None)
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if options.picture:
        without, with_nodes = (next(p for p in patients if p.nodes is nodes) for nodes in (False, True))
        shown = [(f"virtual, seed {p.seed}", p.load()) for p in (without, with_nodes)]
        picture([*shown, *([("real contours on a pseudo-CT (CORT)", real)] if real else [])], options.picture)


if __name__ == "__main__":
    main()
