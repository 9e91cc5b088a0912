"""The dose of existing plans of several systems; writes Docs/results/existing_plans.md and .json.

``python Testing/Benchmarks/existing_plans.py [--dose-grid 3] [--out FOLDER]``. Plans are looked for in
``../shared/cases`` beside the checkout. Every plan goes through ``deeprt dose``, which computes it or says in a
sentence why not: those without a case on a cube of water, breast_eclipse on a body of water made of its structures.
Two comparisons follow, in which nothing is scaled: with the dose per beam that a plan of open fields states, and with
the dose that the planning system exported for breast_eclipse.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from deeprt.case import PatientCase
from deeprt.config import PlanningConfig
from deeprt.delivery.existing_dose import dose_of_existing_plan
from deeprt.delivery.existing_plan import ExistingPlan, with_machines
from deeprt.dicom.read_dose import read_dose
from deeprt.dicom.read_plan import read_plan
from deeprt.errors import InputError
from deeprt.evaluation.gamma import gamma_index, pass_rate
from deeprt.geometry import Grid
from deeprt.machine import Machine
from deeprt.machine_file import machine_names, read_machine
from deeprt.preparation import load_case
from deeprt.structures import Role, Structure

ROOT = Path(__file__).parents[2]
CASES = ROOT.parent / "shared" / "cases"
BREAST = CASES / "breast_eclipse"
_BEHIND_MM = 200.0  # of water behind the isocenter of the box


def command_result(case: str, plan: Path, *options: str) -> dict[str, object]:
    """What ``deeprt dose`` does with a plan: its numbers, or its sentence."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["dose", case, "--plan", str(plan), "--out", f"{folder}/out", *options]
        done = subprocess.run(
            [sys.executable, "-m", "deeprt", *arguments], capture_output=True, text=True, encoding="utf-8"
        )
        numbers = Path(folder) / "out" / "dose.json"
        if done.returncode == 0:
            return {"numbers": json.loads(numbers.read_text(encoding="utf-8"))}
    if done.returncode != 2:
        raise RuntimeError(f"deeprt dose failed on {plan}:\n{done.stderr}")
    return {"sentence": done.stderr.strip().splitlines()[-1].removeprefix("deeprt: ")}


def described(path: Path) -> dict[str, object]:
    """System, number of beams, techniques and energies of a plan; empty where it cannot be read."""
    try:
        plan = read_plan(path)
    except InputError:
        return {"system": "", "n_beams": 0, "techniques": [], "energies": []}
    return {
        "system": plan.system,
        "n_beams": len(plan.beams) + len(plan.unsupported),
        "techniques": sorted({b.technique for b in plan.beams}),
        "energies": sorted({f"{b.energy_mv:g} MV{'' if b.is_flattened else ' FFF'}" for b in plan.beams}),
    }


def stated_beam_doses(path: Path, machines: list[Machine], spacing_mm: float) -> list[dict[str, object]]:
    """Dose of each beam at its point, in a box of water with the surface where the plan's SSD says, beside the plan's.

    The box replaces the patient: it is right only for a plan that was made on such a box.
    """
    plan, chosen = with_machines(read_plan(path), machines)
    found = []
    for beam, machine in zip(plan.beams, chosen, strict=True):
        assert beam.ssd_mm is not None
        alone = replace(plan, beams=(beam,))
        case = _box(alone, beam.sad_mm - beam.ssd_mm, spacing_mm)
        (part,) = dose_of_existing_plan(case, alone, [machine]).beams
        assert part.point_gy_per_fraction is not None and beam.stated_point_gy_per_fraction is not None
        found.append(
            {
                "beam": beam.name,
                "depth_mm": round(part.effective_depth_mm, 1),
                "plan_gy": beam.stated_point_gy_per_fraction,
                "gy": round(part.point_gy_per_fraction, 4),
                "deviation_percent": round(
                    100 * (part.point_gy_per_fraction / beam.stated_point_gy_per_fraction - 1), 2
                ),
            }
        )
    return found


def _box(plan: ExistingPlan, depth_mm: float, spacing_mm: float) -> PatientCase:
    """Water whose surface is square to the only beam, ``depth_mm`` before the isocenter; beams along patient axes."""
    beam = plan.beams[0]
    gantry = np.deg2rad(beam.angles.gantry_deg)
    to_source = np.round([np.sin(gantry), -np.cos(gantry), 0.0]).astype(int)  # LPS, head first supine, couch at zero
    low, high = np.full(3, -_BEHIND_MM), np.full(3, _BEHIND_MM)
    axis = int(np.flatnonzero(to_source)[0])
    (high if to_source[axis] > 0 else low)[axis] = to_source[axis] * depth_mm
    size = np.ceil((high - low) / spacing_mm).astype(int)
    voxel = (high - low) / size
    grid = Grid.axial((int(size[2]), int(size[1]), int(size[0])), voxel, beam.isocenter_lps + low + voxel / 2)
    body = Structure("water", Role.EXTERNAL, np.ones(grid.shape, np.float32))
    return PatientCase("box of water", plan.position or "HFS", grid, np.zeros(grid.shape, np.float32), (body,), 1)


def against_exported_dose(machines: list[Machine], spacing_mm: float) -> list[dict[str, object]]:
    """Our dose of breast_eclipse beside the exported one, with each shipped machine in the place of the 10 MV beams."""
    case = load_case(str(BREAST), PlanningConfig(dose_grid_mm=spacing_mm, water_equivalent=True), needs_target=False)
    exported = read_dose(BREAST / "rtdose.dcm", case.grid)
    plan = read_plan(BREAST / "rtplan.dcm")
    rows = []
    missing = sorted({b.energy_mv for b in plan.beams} - {m.energy_mv for m in machines})
    # Machines of the missing energies do not exist; each shipped one takes their place in turn, as a bracket.
    for stand_in in machines:
        taken = [*machines, *(replace(stand_in, energy_mv=energy) for energy in missing)]
        ours = dose_of_existing_plan(case, *with_machines(plan, taken)).dose_gy
        rows.append(_agreement(case, exported, ours, f"all beams, {stand_in.name} also for the 10 MV ones"))
    only, chosen = with_machines(plan, machines)
    if only.unsupported and only.beams:
        ours = dose_of_existing_plan(case, only, chosen).dose_gy
        rows.append(_agreement(case, exported, ours, "beams of shipped energies alone (--skip-unsupported)"))
    return rows


def _agreement(case: PatientCase, exported: np.ndarray, ours: np.ndarray, what: str) -> dict[str, object]:
    spacing = tuple(float(s) for s in case.grid.spacing_mm[::-1])
    within = case.external.fraction >= 0.5
    rates = {
        f"{percent:g} %/{mm:g} mm": round(
            pass_rate(
                gamma_index(exported, ours, spacing, dose_percent=percent, distance_mm=mm, within=within)
            ), 4)
        for percent, mm in ((3.0, 3.0), (5.0, 5.0))
    }  # fmt: skip
    means = {}
    for s in case.structures:
        if case.volume_cc(s) > 5 and s.role is not Role.EXTERNAL:
            weight = s.fraction / s.fraction.sum(dtype=np.float64)
            means[s.name] = [round(float((dose * weight).sum(dtype=np.float64)), 3) for dose in (exported, ours)]
    return {"what": what, "gamma_pass_rate": rates, "mean_gy_exported_and_ours": means,
            "max_gy_exported_and_ours": [round(float(d.max()), 3) for d in (exported, ours)]}  # fmt: skip


def page(results: dict[str, list[dict[str, object]]]) -> str:
    """The results as Markdown."""
    lines = [
        "# Doses of existing plans",
        "",
        "`python Testing/Benchmarks/existing_plans.py` wrote this page; nothing in it is scaled or tuned to a plan.",
        "",
        "## Every plan through `deeprt dose`",
        "",
        "| File | System | Beams | Technique | Energy | Options | Result |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in results["plans"]:
        text = r.get("sentence") or f"computed: {r['isocenters']}"
        lines.append(
            f"| {r['file']} | {r['system']} | {r['n_beams']} | {', '.join(r['techniques'])} | "  # type: ignore[arg-type]
            f"{', '.join(r['energies'])} | {r['options'] or '-'} | {text} |"  # type: ignore[arg-type]
        )
    lines += [
        "",
        "## Open fields on water, against the dose that the plan states",
        "",
        "pymedphys_v16_2beams_RP.dcm (Pinnacle, 6 MV, 10 x 10 cm², 118 MU a beam) states each beam's dose at its",
        "point and its SSD. A box of water with that surface stands for the phantom, which the file does not describe.",
        "The plan's machine is an Elekta Versa HD whose calibration is not stated, ours is generic.",
        "",
        "| Beam | Depth / mm | Plan / Gy | DeepRT / Gy | Deviation / % |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['beam']} | {r['depth_mm']} | {r['plan_gy']:.4f} | {r['gy']:.4f} | {r['deviation_percent']:+.2f} |"
        for r in results["open_fields"]
    ]
    lines += [
        "",
        "## breast_eclipse against its exported dose",
        "",
        "Two of the four beams have 10 MV, for which no machine is shipped, and there is no CT: ours is the dose in a",
        "body of water, lungs included, and each shipped machine stands for the 10 MV beams in turn. The exported dose",
        "was computed by Eclipse on the CT. So this shows that geometry and monitor units are understood; it is no",
        "measure of accuracy.",
        "",
    ]
    for r in results["breast"]:
        rates = ", ".join(f"gamma {k}: {100 * v:.1f} %" for k, v in r["gamma_pass_rate"].items())  # type: ignore[attr-defined]
        high = r["max_gy_exported_and_ours"]
        lines += [
            f"**{r['what']}**: {rates} (10 % threshold, within the body); maximum {high[0]:.2f} Gy exported, "  # type: ignore[index]
            f"{high[1]:.2f} Gy ours.",  # type: ignore[index]
            "",
            "| Structure | Mean exported / Gy | Mean DeepRT / Gy |",
            "|---|---|---|",
        ]
        means = r["mean_gy_exported_and_ours"]
        lines += [f"| {name} | {a:.3f} | {b:.3f} |" for name, (a, b) in means.items()]  # type: ignore[attr-defined]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Run all plans and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dose-grid", type=float, default=3.0, metavar="MM")
    parser.add_argument("--out", type=Path, default=ROOT / "Docs" / "results", metavar="FOLDER")
    options = parser.parse_args()
    grid = ["--dose-grid", f"{options.dose_grid:g}"]
    runs = [("virtual:water", path, ()) for path in sorted((CASES / "rtplans").glob("*.dcm"))]
    runs += [("virtual:water", path, ()) for path in sorted((CASES / "corrupt").glob("*.dcm"))]
    water = ("--water-equivalent",)
    runs += [(str(BREAST), BREAST / "rtplan.dcm", water)]
    runs += [(str(BREAST), BREAST / "rtplan.dcm", (*water, "--skip-unsupported"))]
    plans: list[dict[str, object]] = []
    for case, path, extra in runs:
        outcome = command_result(case, path, *extra, *grid)
        row = {"file": str(path.relative_to(CASES)), **described(path), "options": " ".join(extra)}
        if "sentence" in outcome:
            row["sentence"] = str(outcome["sentence"]).replace(f"{CASES}/", "")
        else:
            numbers = outcome["numbers"]
            assert isinstance(numbers, dict)
            doses = (f"{i['dose_gy']:.2f} Gy" for i in numbers["isocenters"])
            row |= {"isocenters": f"{', '.join(doses)} at the isocenter", "beams": numbers["beams"],
                    "left_out": numbers["left_out"]}  # fmt: skip
        plans.append(row)
        print(row["file"], row["options"], row.get("sentence") or row["isocenters"], flush=True)
    machines = [read_machine(name) for name in machine_names()]
    results = {
        "plans": plans,
        "open_fields": stated_beam_doses(CASES / "rtplans/pymedphys_v16_2beams_RP.dcm", machines, options.dose_grid),
        "breast": against_exported_dose(machines, options.dose_grid),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "existing_plans.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.out / "existing_plans.md").write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
