"""What several commands share: options, the configuration they make, progress, the table of a case."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deeprt.errors import InputError
from deeprt.progress import Bars, JsonLines, Progress

if TYPE_CHECKING:
    from deeprt.case import PatientCase
    from deeprt.config import PlanningConfig

RESEARCH_ONLY = "DeepRT is research software, not a medical device: for research, not for clinical use."


def add_output_options(command: argparse.ArgumentParser, what: str) -> None:
    """Add the options that say where the result goes."""
    command.add_argument("--out", required=True, type=Path, metavar="DIR", help=f"folder for the {what}")
    command.add_argument("--overwrite", action="store_true", help="replace what an earlier run wrote there")


def add_case_options(command: argparse.ArgumentParser) -> None:
    """Add the case and the options that say how it is read."""
    add = command.add_argument
    add(
        "case",
        metavar="CASE",
        help="folder of DICOM or of OpenKBP's CSV, a packed OpenKBP .npz, a CT in NRRD or NIfTI beside its .seg.nrrd, "
        "the case.npz of a work folder, or a virtual: patient",
    )
    add("--config", type=Path, metavar="FILE", help="settings in TOML or JSON; options below go first")
    add("--prescription", nargs="+", action="extend", metavar="TARGET=GY", help="whole-course dose of targets, Gy")
    add("--fractions", type=int, metavar="N", help="number of fractions")
    add("--dose-grid", type=float, metavar="MM", help="voxel size of the dose grid")
    add("--hu-table", metavar="FILE", help="CSV of the scanner's HU and relative electron density")
    add("--series", metavar="UID", help="CT series to use, if there are several (an ending will do)")
    add("--structure-set", metavar="UID", help="structure set to use, if there are several")
    add(
        "--water-equivalent",
        action="store_true",
        default=None,
        help="take the body for water where there is a structure set without CT",
    )


def add_beam_options(command: argparse.ArgumentParser) -> None:
    """Add the options that say how beams are chosen and for which machine."""
    add = command.add_argument
    angles = command.add_mutually_exclusive_group()
    angles.add_argument("--beams", type=int, metavar="N", help="number of beams to choose")
    angles.add_argument("--gantry", metavar="DEG,DEG,...", help="gantry angles, IEC 61217")
    add("--select", choices=("equispaced", "column-generation", "network"), help="how beams are chosen")
    add("--candidates", metavar="KIND:DEG", help="coplanar:2 or noncoplanar:6, with the step in degrees")
    add("--start", metavar="DEG,DEG,...", help="gantry angles of beams that the selection goes on from")
    add("--exclude", metavar="DEG-DEG,...", help="sectors of gantry angles not to choose, clockwise")
    add("--min-separation", type=float, metavar="DEG", help="least angle between chosen beams")
    add("--network", metavar="FILE", help="network to ask for beams, see deeprt train; the shipped one if absent")
    add(
        "--improve",
        type=float,
        metavar="SECONDS",
        help="let a search with the exact objective improve the chosen beams",
    )
    add("--no-cache", action="store_true", help="choose anew even if the same selection was made before")
    add("--protocol", metavar="NAME|FILE", help="objectives and goals; from the organs if absent")
    add("--machine", metavar="NAME|FILE", help="treatment machine")
    add("--seed", type=int, metavar="N", help="seed of every random choice")


def add_export_options(command: argparse.ArgumentParser) -> None:
    """Add the option that says what is written beside DICOM and report."""
    command.add_argument(
        "--eclipse-fluence", action="store_true", help="write the ideal fluence of each beam as Varian's text file too"
    )


def add_run_options(command: argparse.ArgumentParser) -> None:
    """Add the options that say where to compute and how to report progress."""
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where to compute")
    add_progress_option(command)


def add_progress_option(command: argparse.ArgumentParser) -> None:
    """Add the option that every command has."""
    command.add_argument(
        "--json-progress", action="store_true", help="report progress as JSON lines on standard output"
    )


def progress_of(options: argparse.Namespace) -> Progress:
    """Progress bars, or JSON lines if they were asked for."""
    return JsonLines() if options.json_progress else Bars()


def config_of(options: argparse.Namespace) -> PlanningConfig:
    """Read the configuration file and lay the options that the command has over it."""
    from deeprt.case_file import is_case_file
    from deeprt.config import PlanningConfig, read_config

    if options.dose_grid is not None and is_case_file(Path(options.case)):
        raise InputError(f"'{options.case}' is on the grid that it is to be planned on; leave out --dose-grid.")
    config = read_config(options.config) if options.config else PlanningConfig()
    given = {name: value for name, value in vars(options).items() if value is not None}
    top = {field: given[option] for option, field in _TOP_LEVEL.items() if option in given}
    prescriptions = {**config.prescription_gy, **_prescriptions(given.get("prescription", []))}
    return replace(config, prescription_gy=prescriptions, **top)


_TOP_LEVEL = {
    "fractions": "n_fractions",
    "protocol": "protocol",
    "machine": "machine",
    "dose_grid": "dose_grid_mm",
    "hu_table": "hu_table",
    "series": "series",
    "structure_set": "structure_set",
    "water_equivalent": "water_equivalent",
    "device": "device",
    "seed": "seed",
}  # option: field of PlanningConfig


def with_beam_options(config: PlanningConfig, options: argparse.Namespace) -> PlanningConfig:
    """Lay the options of `add_beam_options` over a configuration."""
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
        "network": options.network,
        "cache": False if options.no_cache else None,
    }
    if options.beams is not None or options.select is not None:
        beams |= {"gantry_deg": (), "couch_deg": ()}
    elif options.gantry is not None:
        beams["couch_deg"] = ()
    chosen = replace(config.beams, **{k: v for k, v in beams.items() if v is not None})
    if options.network is not None and (chosen.select != "network" or chosen.gantry_deg):
        raise InputError(f"--network '{options.network}' would not be asked; add --select network.")
    selected = replace(config.selection, **{k: v for k, v in selection.items() if v is not None})
    return replace(config, beams=chosen, selection=selected)


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


def show_case(case: PatientCase) -> None:
    """Print the structures of a case."""
    print(f"{case.case_id}, {case.position}, {case.grid.shape[2]} x {case.grid.shape[1]} x {case.grid.shape[0]} voxels")
    width = max(len(s.name) for s in case.structures)
    for s in case.structures:
        dose = f"{s.prescription_gy:g} Gy" if s.prescription_gy else ""
        print(f"  {s.name:<{width}}  {s.role:<13}  {s.organ:<12}  {case.volume_cc(s):9.1f} cc  {dose}".rstrip())
