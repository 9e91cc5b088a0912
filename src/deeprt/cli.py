"""The command line: ``deeprt plan CASE --out DIR``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from deeprt import __version__
from deeprt.errors import InputError
from deeprt.progress import Bars, JsonLines, Progress

if TYPE_CHECKING:
    from deeprt.beams import BeamSelection
    from deeprt.case import PatientCase
    from deeprt.config import PlanningConfig
    from deeprt.pipeline import PlanResult

RESEARCH_ONLY = "DeepRT is research software, not a medical device: for research, not for clinical use."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 2 the input is wrong, 130 cancelled."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _cancel)
    try:
        return int(options.run(options))
    except InputError as error:
        if options.json_progress:
            print(json.dumps({"error": str(error)}), flush=True)
        print(f"deeprt: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("deeprt: cancelled; nothing was written.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deeprt", description=f"Plans IMRT in seconds. {RESEARCH_ONLY}")
    parser.add_argument("--version", action="version", version=f"deeprt {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    plan = commands.add_parser("plan", help="plan a case end to end", description="Plan a case end to end.")
    plan.set_defaults(run=_plan)
    _add_case_options(plan, "plan")
    plan.add_argument("--fluence", choices=("optimize", "network"), help="how fluence is found")

    beams = commands.add_parser(
        "beams", help="choose beam angles", description="Choose beam angles; writes beams.json."
    )
    beams.set_defaults(run=_beams, fluence=None)
    _add_case_options(beams, "beams.json")
    return parser


def _add_case_options(command: argparse.ArgumentParser, what: str) -> None:
    """Options of every command that takes a case and chooses beams."""
    add = command.add_argument
    add("case", metavar="CASE", help="folder of DICOM, a CT in NRRD or NIfTI beside its .seg.nrrd, or virtual:prostate")
    add("--out", required=True, type=Path, metavar="DIR", help=f"folder for the {what}")
    add("--overwrite", action="store_true", help=f"replace a {what} that the folder already holds")
    add("--config", type=Path, metavar="FILE", help="settings in TOML or JSON; options below go first")
    add("--prescription", nargs="+", action="extend", metavar="TARGET=GY", help="whole-course dose of targets, Gy")
    add("--fractions", type=int, metavar="N", help="number of fractions")
    angles = command.add_mutually_exclusive_group()
    angles.add_argument("--beams", type=int, metavar="N", help="number of beams to choose")
    angles.add_argument("--gantry", metavar="DEG,DEG,...", help="gantry angles, IEC 61217")
    add("--select", choices=("equispaced", "column-generation", "network"), help="how beams are chosen")
    add("--candidates", metavar="KIND:DEG", help="coplanar:2 or noncoplanar:6, with the step in degrees")
    add("--start", metavar="DEG,DEG,...", help="gantry angles of beams that column generation goes on from")
    add("--exclude", metavar="DEG-DEG,...", help="sectors of gantry angles not to choose, clockwise")
    add("--min-separation", type=float, metavar="DEG", help="least angle between chosen beams")
    add("--improve", type=float, metavar="SECONDS", help="let exchange search improve the chosen beams")
    add("--no-cache", action="store_true", help="choose anew even if the same selection was made before")
    add("--protocol", metavar="NAME|FILE", help="objectives and goals; from the organs if absent")
    add("--machine", metavar="NAME|FILE", help="treatment machine")
    add("--dose-grid", type=float, metavar="MM", help="voxel size of the dose grid")
    add("--hu-table", metavar="FILE", help="CSV of the scanner's HU and relative electron density")
    add("--series", metavar="UID", help="CT series to use, if there are several (an ending will do)")
    add("--structure-set", metavar="UID", help="structure set to use, if there are several")
    add("--device", choices=("auto", "cpu", "cuda"), help="where to compute")
    add("--seed", type=int, metavar="N", help="seed of every random choice")
    add("--json-progress", action="store_true", help="report progress as JSON lines on standard output")


def _plan(options: argparse.Namespace) -> int:
    # Here, not above: torch takes seconds to load, and --help and wrong options should not wait for it.
    from deeprt.export import check_output_folder, write_plan_folder
    from deeprt.pipeline import plan_case
    from deeprt.preparation import VIRTUAL_PROSTATE, load_case

    config = _config(options)
    check_output_folder(options.out, overwrite=options.overwrite)
    progress = _progress(options)
    case = load_case(options.case, config, progress)
    if not options.json_progress:
        _show_case(case)
    result = plan_case(case, config, progress)
    image_case = None
    if case.dicom is None and options.case != VIRTUAL_PROSTATE:
        image_case = load_case(options.case, replace(config, dose_grid_mm=None), progress)
    progress.step("export", 0.0)
    write_plan_folder(result, options.out, image_case=image_case)
    progress.step("export", 1.0, str(options.out))
    if isinstance(progress, Bars):
        progress.close()
        _show_result(result, options.out)
    return 0


def _beams(options: argparse.Namespace) -> int:
    from deeprt.export import SELECTION_FILE, check_output_folder, write_selection
    from deeprt.machine import read_machine
    from deeprt.pipeline import choose_beams, torch_device
    from deeprt.preparation import load_case, with_prescriptions

    config = _config(options)
    if options.dose_grid is None:
        config = replace(config, dose_grid_mm=config.selection.voxel_mm)
    check_output_folder(options.out, overwrite=options.overwrite, file=SELECTION_FILE)
    progress = _progress(options)
    case = load_case(options.case, config, progress)
    if not options.json_progress:
        _show_case(case)
    _, case, _ = with_prescriptions(case, config)
    selection = choose_beams(case, read_machine(config.machine), config, torch_device(config.device), progress)
    write_selection(selection, options.out / SELECTION_FILE)
    progress.step("export", 1.0, str(options.out))
    if isinstance(progress, Bars):
        progress.close()
        _show_selection(selection)
        print(f"Beams written to {options.out / SELECTION_FILE}. {RESEARCH_ONLY}")
    return 0


def _progress(options: argparse.Namespace) -> Progress:
    return JsonLines() if options.json_progress else Bars()


def _config(options: argparse.Namespace) -> PlanningConfig:
    """The configuration file with the options of the command line over it."""
    from deeprt.config import PlanningConfig, read_config

    config = read_config(options.config) if options.config else PlanningConfig()
    beams = {
        "n_beams": options.beams,
        "gantry_deg": _angles("--gantry", options.gantry),
        "start_gantry_deg": _angles("--start", options.start),
        "select": options.select,
    }
    selection = {
        "candidates": options.candidates,
        "exclude_deg": _sectors(options.exclude),
        "min_separation_deg": options.min_separation,
        "improve_s": options.improve,
        "cache": False if options.no_cache else None,
    }
    if options.beams is not None or options.select is not None:
        beams |= {"gantry_deg": (), "couch_deg": ()}
    elif options.gantry is not None:
        beams["couch_deg"] = ()
    fluence = {"method": options.fluence}
    top = {
        "n_fractions": options.fractions,
        "protocol": options.protocol,
        "machine": options.machine,
        "dose_grid_mm": options.dose_grid,
        "hu_table": options.hu_table,
        "series": options.series,
        "structure_set": options.structure_set,
        "device": options.device,
        "seed": options.seed,
    }
    return replace(
        config,
        beams=replace(config.beams, **{k: v for k, v in beams.items() if v is not None}),
        selection=replace(config.selection, **{k: v for k, v in selection.items() if v is not None}),
        fluence=replace(config.fluence, **{k: v for k, v in fluence.items() if v is not None}),
        prescription_gy={**config.prescription_gy, **_prescriptions(options.prescription or [])},
        **{k: v for k, v in top.items() if v is not None},
    )


def _angles(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} '{text}' is not a list of angles; write it like 0,72,144.") from None


def _sectors(text: str | None) -> tuple[tuple[float, float], ...] | None:
    if text is None:
        return None
    try:
        pairs = [part.split("-") for part in text.split(",")]
        return tuple((float(low), float(high)) for low, high in pairs)
    except ValueError:
        raise InputError(f"--exclude '{text}' is not a list of sectors; write it like 80-100,260-280.") from None


def _prescriptions(entries: Sequence[str]) -> dict[str, float]:
    doses = {}
    for entry in entries:
        name, _, dose = entry.rpartition("=")
        try:
            doses[name.strip()] = float(dose)
        except ValueError:
            name = ""
        if not name.strip():
            raise InputError(f"--prescription '{entry}' is not understood; write it like PTV=60, in Gy.")
    return doses


def _show_case(case: PatientCase) -> None:
    print(f"{case.case_id}, {case.position}, {case.grid.shape[2]} x {case.grid.shape[1]} x {case.grid.shape[0]} voxels")
    width = max(len(s.name) for s in case.structures)
    for s in case.structures:
        dose = f"{s.prescription_gy:g} Gy" if s.prescription_gy else ""
        print(f"  {s.name:<{width}}  {s.role:<13}  {s.organ:<12}  {case.volume_cc(s):9.1f} cc  {dose}".rstrip())


def _show_selection(selection: BeamSelection) -> None:
    given = selection.n_given
    for number, a in enumerate(selection.angles):
        couch = f", couch {a.couch_deg:.1f}°" if a.couch_deg else ""
        after = (
            f", objective {selection.objectives[number - given + 1]:.5g}"
            if selection.n_steps > number - given >= 0
            else ""
        )
        print(f"  Beam {number + 1}: gantry {a.gantry_deg:.1f}°{couch}{after}{' (given)' if number < given else ''}")
    if selection.timing_s:
        print("  " + ", ".join(f"{kind} {seconds:.1f} s" for kind, seconds in selection.timing_s.items()))


def _show_result(result: PlanResult, folder: Path) -> None:
    for note in result.notes:
        print(f"  {note}")
    for beam, b in enumerate(result.plan.beams):
        print(f"  {b.name}: gantry {b.angles.gantry_deg:.1f}°, {result.plan.beam_mu(beam):.0f} MU,"
              f" {len(result.plan.segments_of(beam))} segments")  # fmt: skip
    for target in result.report.targets:
        percent = 100 / (target.prescription_gy or 1.0)
        m = target.metrics
        print(f"  {target.name}: D95 {m.d95_gy:.2f} Gy ({m.d95_gy * percent:.1f} %), "
              f"D2 {m.d2_gy:.2f} Gy ({m.d2_gy * percent:.1f} %)")  # fmt: skip
    missed = [g for g in result.report.goals if not g.met]
    print(f"  Goals: {len(result.report.goals) - len(missed)} met, {len(missed)} missed")
    for g in missed:
        c = g.criterion
        print(f"    missed: {g.structure} {c.metric} {c.relation} {c.limit:g} {c.unit}, is {g.value:.3g} {c.unit}")
    print(f"Plan and report written to {folder}. {RESEARCH_ONLY}")


def _cancel(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
