"""The command line, ``deeprt COMMAND``: a door to the commands."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from deeprt import __version__
from deeprt.commands import beams, cohort, commission, dose, evaluate, fluence, plan, step, train
from deeprt.commands.options import RESEARCH_ONLY
from deeprt.errors import InputError

COMMANDS = {
    "plan": plan,
    "fluence": fluence,
    "beams": beams,
    "dose": dose,
    "evaluate": evaluate,
    "step": step,
    "commission": commission,
    "cohort": cohort,
    "train": train,
}


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
    for command in COMMANDS.values():
        command.add_command(commands)
    return parser


def _cancel(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
