"""``deeprt evaluate``: what a dose does to a case, alone or beside a reference."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deeprt.commands import options as shared
from deeprt.errors import InputError
from deeprt.progress import Bars

if TYPE_CHECKING:
    from deeprt.case import PatientCase
    from deeprt.config import PlanningConfig
    from deeprt.evaluation.compare import ComparisonSettings
    from deeprt.evaluation.comparison_report import EvaluationContents, NamedDose
    from deeprt.evaluation.criteria import Criterion

_VERSIONED = ("numpy", "scipy", "numba", "pydicom", "SimpleITK", "matplotlib")


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "evaluate",
        help="evaluate a dose, or compare two",
        description="Evaluate a dose on a case, alone or beside a reference; writes evaluation.json and .html.",
    )
    command.set_defaults(run=run)
    shared.add_case_options(command)
    shared.add_output_options(command, "evaluation")
    add = command.add_argument
    add("--dose", required=True, type=Path, metavar="FILE", help="dose to evaluate: RTDOSE, NRRD or NIfTI")
    add("--reference", type=Path, metavar="FILE", help="dose to compare it with")
    add("--goals", metavar="NAME|FILE", help="a protocol's goals, or a TOML file of goals; from the organs if absent")
    add("--gamma", action="append", metavar="%/MM", help="gamma criterion such as 3%%/2mm; may be repeated")
    add("--local", action="store_true", help="gamma's dose tolerance is a share of the dose at the voxel")
    add("--threshold", type=float, metavar="PERCENT", help="least dose of gamma, of the reference's largest")
    add("--interpolation", type=int, metavar="N", help="steps of gamma's search per distance")
    shared.add_progress_option(command)


def run(options: argparse.Namespace) -> int:
    """Evaluate, and write ``evaluation.json`` and ``evaluation.html``."""
    from deeprt.evaluation.comparison_report import EVALUATION_FILE, write_evaluation
    from deeprt.export import check_output_folder
    from deeprt.preparation import load_case

    config = shared.config_of(options)
    check_output_folder(options.out, overwrite=options.overwrite, file=EVALUATION_FILE)
    progress = shared.progress_of(options)
    case = load_case(options.case, config, progress, needs_target=False)
    if config.n_fractions is not None:
        case = replace(case, n_fractions=config.n_fractions)
    if not options.json_progress:
        shared.show_case(case)
    settings = _settings(options, _goals(options.goals, case, config))
    progress.step("evaluation", 0.0)
    contents = _evaluated(case, options.dose, options.reference, settings)
    progress.step("evaluation", 0.8)
    try:
        write_evaluation(options.out, contents)
    except OSError as error:
        raise InputError(f"Cannot write the evaluation to '{options.out}': {error.strerror}.") from error
    progress.step("evaluation", 1.0, str(options.out))
    if isinstance(progress, Bars):
        progress.close()
        _show(contents)
        print(f"Evaluation written to {options.out}. {shared.RESEARCH_ONLY}")
    return 0


def _settings(options: argparse.Namespace, goals: tuple[Criterion, ...]) -> ComparisonSettings:
    from deeprt.evaluation.compare import ComparisonSettings, GammaCriterion

    settings = ComparisonSettings(goals, local=options.local)
    if options.gamma:
        settings = replace(settings, gamma=tuple(GammaCriterion.parse(text) for text in options.gamma))
    if options.threshold is not None:
        settings = replace(settings, threshold_percent=options.threshold)
    if options.interpolation is not None:
        settings = replace(settings, interpolation=options.interpolation)
    return settings


def _goals(name_or_file: str | None, case: PatientCase, config: PlanningConfig) -> tuple[Criterion, ...]:
    """Goals asked for, else those of the configuration, else those of the protocol that fits the case."""
    from deeprt.config import propose_protocol, protocol_names, read_config, read_protocol

    if name_or_file is None:
        if config.goals:
            return config.goals
        return (read_protocol(config.protocol) if config.protocol else propose_protocol(case, config.n_fractions)).goals
    if name_or_file in protocol_names():
        return read_protocol(name_or_file).goals
    if not Path(name_or_file).is_file():
        raise InputError(
            f"No goals '{name_or_file}': it is neither a file nor one of the protocols {', '.join(protocol_names())}."
        )
    goals = read_config(Path(name_or_file)).goals
    if not goals:
        raise InputError(f"'{name_or_file}' holds no goals; write each as a [[goals]] table.")
    return goals


def _evaluated(
    case: PatientCase, dose: Path, reference: Path | None, settings: ComparisonSettings
) -> EvaluationContents:
    from deeprt.evaluation.compare import compare
    from deeprt.evaluation.comparison_report import EvaluationContents
    from deeprt.evaluation.evaluate import evaluate
    from deeprt.export import versions_of

    versions = versions_of(_VERSIONED)
    shown, notes = read_dose(dose, case)
    if reference is None:
        report = evaluate(case, shown.dose_gy, settings.goals)
        return EvaluationContents(case, shown, report, versions=versions, notes=(*case.notes, *notes))
    other, more_notes = read_dose(reference, case)
    comparison = compare(case, shown.dose_gy, other.dose_gy, settings)
    notes = (*case.notes, *notes, *more_notes)
    return EvaluationContents(case, shown, comparison.report, other, comparison, versions, tuple(dict.fromkeys(notes)))


def read_dose(path: Path, case: PatientCase) -> tuple[NamedDose, tuple[str, ...]]:
    """A dose on the case's grid, and notes; one that misses the patient or a target is refused."""
    from deeprt.dicom.read_dose import read_stored_dose
    from deeprt.evaluation.comparison_report import NamedDose
    from deeprt.evaluation.evaluate import check_dose_of_case

    stored = read_stored_dose(path)
    dose_gy = stored.on(case.grid)
    check_dose_of_case(case, dose_gy, str(path))
    return NamedDose(path.name, dose_gy), stored.notes_for(case)


def _show(contents: EvaluationContents) -> None:
    for note in contents.notes:
        print(f"  {note}")
    comparison = contents.comparison
    shown = [s for s in contents.report.structures if s.role != "tuning"]
    width = max(len(s.name) for s in shown)
    print(f"  {'':<{width}}     D95/Gy      D2/Gy   Dmean/Gy" + ("   minus reference        RSS" if comparison else ""))
    for s in shown:
        m = s.metrics
        line = f"  {s.name:<{width}} {m.d95_gy:10.2f} {m.d2_gy:10.2f} {m.dmean_gy:10.2f}"
        if comparison is not None:
            d = next(d for d in comparison.structures if d.name == s.name)
            line += f"   {d.mean_gy:+15.2f} {d.rss:10.4f}"
        print(line)
    goals = contents.report.goals
    line = f"  Goals: {sum(g.met for g in goals)} of {len(goals)} met"
    if comparison is not None:
        line += f", reference {sum(g.met for g in comparison.reference_report.goals)}"
    print(line)
    if comparison is not None:
        kind = "local" if comparison.settings.local else "global"
        for g in comparison.gamma:
            print(f"  Gamma {g.criterion}, {kind}: {100 * g.pass_rate:.2f} % of {g.n_voxels} voxels")
