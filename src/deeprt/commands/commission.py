"""``deeprt commission``: fit a machine to measurements in a water tank."""

from __future__ import annotations

import argparse
from pathlib import Path

from deeprt.commands import options as shared
from deeprt.errors import InputError
from deeprt.progress import Bars


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its options."""
    commission = commands.add_parser(
        "commission",
        help="fit a machine to water-tank data",
        description="Fit a machine to depth doses, profiles and output factors measured in water; writes the machine "
        "file and, beside it, a page that shows the fit.",
    )
    commission.set_defaults(run=run)
    add = commission.add_argument
    add("measurements", type=Path, metavar="MEASUREMENTS",
        help="folder with measurements.toml, depth_doses.csv, profiles.csv and output_factors.csv")  # fmt: skip
    add("--out", required=True, type=Path, metavar="FILE", help="machine file to write, such as machine.json")
    add("--overwrite", action="store_true", help="replace a machine file of that name")
    shared.add_progress_option(commission)


def run(options: argparse.Namespace) -> int:
    """Fit, and write machine file and page."""
    from deeprt.commissioning.agreement import agreement
    from deeprt.commissioning.fit import fit_machine
    from deeprt.commissioning.measurements import read_measurements
    from deeprt.commissioning.report import commissioning_page, deviation_rows
    from deeprt.files import write_all_whole
    from deeprt.machine_file import machine_text, read_machine

    file, report = options.out, options.out.with_suffix(".html")
    if file.suffix != ".json":
        raise InputError(f"The machine file '{file}' must end in .json.")
    for path in (file, report):
        if path.exists() and not options.overwrite:
            raise InputError(f"'{path}' exists already; choose another name or add --overwrite.")
    data = read_measurements(options.measurements)
    progress = shared.progress_of(options)
    machine = fit_machine(data, read_machine(data.conditions.like), progress)
    agreed = agreement(machine, data)
    source = f"deeprt commission; {data.conditions.source}"
    texts = {
        report.name: commissioning_page(machine, data, agreed),
        file.name: machine_text(machine, like=data.conditions.like, source=source),
    }
    try:
        write_all_whole(file.parent, texts)
    except OSError as error:
        raise InputError(f"Cannot write '{file}': {error.strerror}.") from error
    if isinstance(progress, Bars):
        progress.close()
        print("Curve        Field / mm  Depth / mm  Largest / %  Mean / %  Gamma 1 %/1 mm passed / %")
        for kind, field, depth, largest, mean, passed in deviation_rows(agreed):
            print(f"{kind:<11}  {field:>10}  {depth:>10}  {largest:>11}  {mean:>8}  {passed:>26}")
        for o in agreed.outputs:
            print(f"Output factor of {o.field_mm:g} mm: measured {o.measured:.4f}, model {o.model:.4f}")
        print(f"Machine written to {file}, its fit to {report}. {shared.RESEARCH_ONLY}")
    return 0
