"""``deeprt cohort``: list the patients of a training cohort, and label their scenarios."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deeprt.commands import options as shared
from deeprt.errors import InputError
from deeprt.progress import Bars

if TYPE_CHECKING:
    from deeprt.training.cohort import Cohort


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command, its two parts and their options."""
    cohort = commands.add_parser(
        "cohort",
        help="make and label a training cohort",
        description="List the patients that beam networks are trained on, and label them by column generation.",
    )
    parts = cohort.add_subparsers(required=True, metavar="PART")
    make = parts.add_parser(
        "make",
        help="list patients and split them",
        description="List patients, split them for development and test, and say how they are labeled; "
        "writes cohort.json.",
    )
    make.set_defaults(run=make_cohort)
    add = make.add_argument
    add(
        "source",
        metavar="SOURCE",
        help="virtual:prostate, or a folder of patients: subfolders of DICOM or of OpenKBP's CSV, or packed .npz",
    )
    shared.add_output_options(make, "cohort")
    add("--patients", type=int, metavar="N", help="number of virtual patients (70)")
    add("--nodes", type=float, metavar="SHARE", help="share of virtual patients with pelvic nodes as target (0.2)")
    add("--test", type=int, metavar="M", default=13, help="patients kept for test only (13)")
    add("--seed", type=int, metavar="S", default=0, help="seed of patients, split and scenarios (0)")
    add("--machine", metavar="NAME|FILE", help="treatment machine")
    add("--runs", type=int, metavar="N", help="runs of five beams a patient (10)")
    add("--starts", type=int, metavar="N", help="random starts a patient (60)")
    shared.add_progress_option(make)
    _add_work_on_patients(
        parts,
        "label",
        label_patients,
        "label the patients by column generation",
        "Label the patients that have no valid labels yet, each in a file of its own; a run that was stopped goes on "
        "where it was.",
    )
    _add_work_on_patients(
        parts,
        "plan",
        plan_patients,
        "make a reference plan of every patient",
        "Plan the patients that have no valid reference plan yet, for training networks of fluence and dose; a run "
        "that was stopped goes on where it was.",
    )


def _add_work_on_patients(
    parts: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    help_text: str,
    description: str,
) -> None:
    """Add a part that works on the patients of a cohort."""
    command = parts.add_parser(name, help=help_text, description=description)
    command.set_defaults(run=run)
    command.add_argument("folder", type=Path, metavar="DIR", help="folder that deeprt cohort make wrote")
    command.add_argument("--jobs", type=int, metavar="N", default=1, help="patients at a time (1)")
    shared.add_progress_option(command)


def make_cohort(options: argparse.Namespace) -> int:
    """List the patients, and write ``cohort.json``."""
    from deeprt.machine_file import read_machine
    from deeprt.training.cohort import COHORT_FILE, LABELS_FOLDER, write_cohort

    file: Path = options.out / COHORT_FILE
    if file.exists() and not options.overwrite:
        raise InputError(f"'{file}' exists already; choose another folder or add --overwrite.")
    if any((options.out / LABELS_FOLDER).glob("*.npz")):
        raise InputError(f"'{options.out / LABELS_FOLDER}' holds labels of an earlier cohort; choose another folder.")
    cohort = _as_asked(_listed(options), options)
    read_machine(cohort.machine)
    try:
        write_cohort(cohort, options.out)
    except OSError as error:
        raise InputError(f"Cannot write '{file}': {error.strerror}.") from error
    progress = shared.progress_of(options)
    progress.step("cohort", 1.0, str(file))
    if isinstance(progress, Bars):
        progress.close()
        n_development, n_test = len(cohort.of("development")), len(cohort.of("test"))
        print(f"{n_development} patients for development and {n_test} for test written to {file}.")
        print(f"Label them with: deeprt cohort label {options.out}. {shared.RESEARCH_ONLY}")
    return 0


def _listed(options: argparse.Namespace) -> Cohort:
    """Patients of the source, with the settings of labels that are usual."""
    from deeprt.preparation import VIRTUAL_PROSTATE
    from deeprt.training.cohort import real_cohort, virtual_cohort

    if options.seed < 0:
        raise InputError(f"--seed must not be negative, got {options.seed}.")
    if options.source == VIRTUAL_PROSTATE:
        n_patients = 70 if options.patients is None else options.patients
        nodes_share = 0.2 if options.nodes is None else options.nodes
        if n_patients < 1:
            raise InputError(f"--patients must be at least 1, got {n_patients}.")
        if not 0 <= nodes_share <= 1:
            raise InputError(f"--nodes must lie in 0 to 1, got {nodes_share:g}.")
        return virtual_cohort(n_patients, options.test, nodes_share=nodes_share, seed=options.seed)
    if options.source.startswith("virtual:"):
        raise InputError(f"There is no virtual patient '{options.source}' with organs; use {VIRTUAL_PROSTATE}.")
    if options.patients is not None or options.nodes is not None:
        raise InputError("--patients and --nodes are of virtual patients; of a folder, all are taken.")
    return real_cohort(Path(options.source), options.test, seed=options.seed)


def _as_asked(cohort: Cohort, options: argparse.Namespace) -> Cohort:
    """The cohort with the machine and the counts of scenarios that were given."""
    machine = options.machine or cohort.machine
    if Path(machine).is_file():
        machine = str(Path(machine).resolve())
    counts = {"n_runs": options.runs, "n_starts": options.starts}
    try:
        scenarios = replace(cohort.labels.scenarios, **{name: n for name, n in counts.items() if n is not None})
    except ValueError as error:
        raise InputError(f"--runs and --starts: {error}") from error
    return replace(cohort, machine=machine, labels=replace(cohort.labels, scenarios=scenarios))


def label_patients(options: argparse.Namespace) -> int:
    """Label what has no valid labels yet."""
    from deeprt.training.cohort import LABELS_FOLDER, label_cohort

    return _work_on_patients(options, label_cohort, "labels", LABELS_FOLDER)


def plan_patients(options: argparse.Namespace) -> int:
    """Plan what has no valid reference plan yet."""
    from deeprt.training.reference_plans import PLANS_FOLDER, plan_cohort

    return _work_on_patients(options, plan_cohort, "reference plans", PLANS_FOLDER)


def _work_on_patients(options: argparse.Namespace, work: Callable[..., int], what: str, folder: str) -> int:
    """Do what is missing of a cohort's patients, and say how many there were."""
    if options.jobs < 1:
        raise InputError(f"--jobs must be at least 1, got {options.jobs}.")
    progress = shared.progress_of(options)
    try:
        n_done = work(options.folder, n_jobs=options.jobs, progress=progress)
    except OSError as error:
        raise InputError(f"Cannot write {what} to '{options.folder}': {error.strerror}.") from error
    except KeyboardInterrupt:
        print(f"deeprt: cancelled; {what} of the patients that were finished are kept.", file=sys.stderr)
        return 130
    if isinstance(progress, Bars):
        progress.close()
        print(f"{what.capitalize()} of {n_done} patients made, in {options.folder / folder}. {shared.RESEARCH_ONLY}")
    return 0
