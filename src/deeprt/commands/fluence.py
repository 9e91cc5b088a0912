"""``deeprt fluence``: a plan whose dose is that of another one, by a network, without inverse planning."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from deeprt.commands import options as shared
from deeprt.commands.evaluate import read_dose
from deeprt.commands.plan import PREDICT, add_fluence_options, config_of, loaded, planned, show_result
from deeprt.errors import InputError
from deeprt.progress import Bars


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "fluence",
        help="find the fluence that gives a dose, by a network",
        description="Predict the fluence of beams from contours and a dose, sequence it, compute the synthetic dose "
        "and compare it with that one.",
    )
    command.set_defaults(run=run)
    shared.add_case_options(command)
    shared.add_output_options(command, "plan and the comparison")
    shared.add_beam_options(command)
    command.add_argument(
        "--dose",
        required=True,
        metavar=f"FILE|{PREDICT}",
        help=f"wished dose: RTDOSE, NRRD or NIfTI; {PREDICT}: a network makes it from contours and prescriptions",
    )
    command.add_argument(
        "--normalize",
        choices=("wished-mean", "coverage"),
        help="scale the plan to the mean target dose of the wished dose, or to the coverage of the protocol; by "
        "default the former, unless the configuration has a rule",
    )
    add_fluence_options(command)
    shared.add_run_options(command)


def run(options: argparse.Namespace) -> int:
    """Plan, write the plan's folder, and the comparison beside it."""
    from deeprt.evaluation.compare import ComparisonSettings, compare
    from deeprt.evaluation.comparison_report import EVALUATION_FILE, EvaluationContents, NamedDose, write_evaluation
    from deeprt.evaluation.normalization import Normalization
    from deeprt.export import check_output_folder, versions_of

    config = config_of(options, "network", PREDICT if options.dose == PREDICT else "given")
    if options.normalize == "wished-mean" or (options.normalize is None and config.normalization is None):
        config = replace(config, normalization=Normalization(rule="wished-mean"))
    elif options.normalize == "coverage" and config.normalization is not None:
        config = replace(config, normalization=replace(config.normalization, rule="coverage"))
    progress = shared.progress_of(options)
    check_output_folder(options.out, overwrite=options.overwrite, file=EVALUATION_FILE)
    case = loaded(options, config, progress)
    given, notes = (None, ()) if options.dose == PREDICT else read_dose(Path(options.dose), case)
    result = planned(options, case, config, None if given is None else given.dose_gy, progress)
    assert result.wished_gy is not None
    wished = given or NamedDose("predicted dose", result.wished_gy)
    goals = config.goals or result.protocol.goals
    comparison = compare(result.case, result.dose_gy, wished.dose_gy, ComparisonSettings(goals))
    synthetic = NamedDose("synthetic dose", result.dose_gy)
    contents = EvaluationContents(
        result.case, synthetic, comparison.report, wished, comparison, versions_of(), (*result.notes, *notes)
    )
    try:
        write_evaluation(options.out, contents)
    except OSError as error:
        raise InputError(f"Cannot write the comparison to '{options.out}': {error.strerror}.") from error
    if isinstance(progress, Bars):
        progress.close()
        show_result(result, options.out)
        for g in comparison.gamma:
            print(f"  Gamma {g.criterion} against the wished dose: {100 * g.pass_rate:.2f} % of {g.n_voxels} voxels")
    return 0
