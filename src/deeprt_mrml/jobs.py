"""Long work in a process of its own: ``python -m deeprt ...``, which the caller polls, from a timer for instance.

No thread is started, and no call waits. The process writes into files, so that it is never held up by a reader.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import deeprt
from deeprt.errors import InputError

_GRACE_S = 5.0  # from being asked to end until being ended


class JobState(StrEnum):
    """What has become of a job."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class ProgressRecord:
    """What a job reports: how much of a step is done, 0 to 1, and when, in seconds since it began to work."""

    step: str
    fraction: float
    message: str
    elapsed_s: float


def start(
    command: Sequence[str],
    log_file: Path,
    *,
    executable: str = sys.executable,
    environment: Mapping[str, str] | None = None,
) -> Job:
    """Start a command of DeepRT.

    Parameters
    ----------
    command : as on the command line after ``deeprt``, such as ``["beams", folder, "--out", result]``
    log_file : for what the command says; its progress goes into a file of the same name that ends in ``.jsonl``
    executable : Python interpreter; in Slicer that of ``PythonSlicer``
    environment : of the process; this one's if None. It finds the package that runs here in any case

    Raises
    ------
    InputError
        If the process cannot be started or the files cannot be written.
    """
    environment = dict(os.environ if environment is None else environment)
    paths = [str(Path(deeprt.__file__).parents[1]), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(p for p in paths if p)
    environment["PYTHONIOENCODING"] = "utf-8"
    arguments = [executable, "-m", "deeprt", *command]
    if "--json-progress" not in command:
        arguments.append("--json-progress")
    records_file = log_file.with_suffix(".jsonl")
    try:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with open(log_file, "wb") as log, open(records_file, "wb") as records:
            process = _start_process(arguments, environment, stdout=records.fileno(), stderr=log.fileno())
    except OSError as error:
        raise InputError(f"'{executable} -m deeprt' cannot be started: {error.strerror}.") from error
    return Job(process, log_file, records_file, _output_folder(command))


class Job:
    """A command that runs, or ran. `start` makes it."""

    def __init__(
        self, process: subprocess.Popen[bytes], log_file: Path, records_file: Path, out: Path | None = None
    ) -> None:
        self._process = process
        self._log_file, self._records_file, self._out = log_file, records_file, out
        self._state = JobState.RUNNING
        self._error = ""
        self._n_read = 0  # bytes of the records
        self._records: list[ProgressRecord] = []
        self._asked_to_end: float | None = None

    @property
    def state(self) -> JobState:
        """As of the latest `poll`."""
        return self._state

    @property
    def error(self) -> str:
        """Why it failed, one sentence; empty unless it did."""
        return self._error

    @property
    def records(self) -> tuple[ProgressRecord, ...]:
        """All progress so far."""
        return tuple(self._records)

    def poll(self) -> tuple[ProgressRecord, ...]:
        """Look what has happened since the last time.

        Returns
        -------
        New progress, in order
        """
        has_ended = self._has_ended()  # asked first: what it wrote before is there when the file is read
        new = self._read()
        self._records += new
        if has_ended and self._state is JobState.RUNNING:
            self._state = self._final_state()
        return tuple(new)

    def time_left_s(self, expected_s: Mapping[str, float] | None = None) -> float | None:
        """Estimate how long it will still take, from the fraction that is done of the present step.

        Parameters
        ----------
        expected_s : seconds by step of an earlier run; the steps that have not begun yet are added

        Returns
        -------
        Seconds; None while there is nothing to tell it from
        """
        if not self._records or self._state is not JobState.RUNNING:
            return None
        expected = expected_s or {}
        now = self._records[-1]
        others = [n for n, r in enumerate(self._records) if r.step != now.step]
        spent = now.elapsed_s - self._records[others[-1] + 1 if others else 0].elapsed_s
        whole = spent / now.fraction if now.fraction > 0 else expected.get(now.step)
        if whole is None:
            return None
        begun = {r.step for r in self._records}
        return (1 - now.fraction) * whole + sum(s for step, s in expected.items() if step not in begun)

    def cancel(self) -> None:
        """Ask the process to end, with all it started; poll on until it has.

        A command cleans up before it ends. One that has not ended after five seconds is ended by `poll`.
        """
        if self._state is JobState.RUNNING and self._asked_to_end is None:
            self._asked_to_end = time.monotonic()
            _end_all(self._process, by_force=False)

    def end(self) -> None:
        """End the process at once, with all it started, and wait for it; for when the application closes."""
        if self._state is JobState.RUNNING:
            self._asked_to_end = time.monotonic() - _GRACE_S
            _end_all(self._process, by_force=True)
            self._process.wait()
            self.poll()

    def log(self) -> str:
        """What the command has said so far, without its progress; nothing if the file was removed."""
        try:
            return self._log_file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _has_ended(self) -> bool:
        has_ended = self._process.poll() is not None
        if self._asked_to_end is None or (has_ended and not _is_any_left(self._process)):
            return has_ended
        if time.monotonic() - self._asked_to_end < _GRACE_S:
            return False
        _end_all(self._process, by_force=True)
        return has_ended

    def _read(self) -> list[ProgressRecord]:
        """Progress in the whole lines that were not read yet; an error among them is kept."""
        try:
            with open(self._records_file, "rb") as file:
                file.seek(self._n_read)
                text = file.read()
        except OSError:  # someone tidied the temporary folder up; the process is looked after all the same
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._n_read += len(whole)
        found = []
        for line in whole.decode("utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue  # some library printed a line
            if isinstance(record, dict) and "error" in record:
                self._error = str(record["error"])
            elif isinstance(record, dict) and "step" in record:
                found.append(ProgressRecord(record["step"], record["fraction"], record["message"], record["elapsed_s"]))
        return found

    def _final_state(self) -> JobState:
        if self._process.returncode == 0:
            return JobState.DONE
        if self._asked_to_end is not None:
            self._error = ""
            _remove_scratch(self._out)
            return JobState.CANCELLED
        if not self._error:
            said = [line for line in self.log().splitlines() if line.strip()]
            last = said[-1].strip() if said and self._process.returncode > 0 else ""
            self._error = last or f"The process ended unexpectedly (status {self._process.returncode}); see the log."
        return JobState.FAILED


def _start_process(
    arguments: Sequence[str], environment: Mapping[str, str], *, stdout: int, stderr: int
) -> subprocess.Popen[bytes]:
    """Start a process that leads a group of its own, so that all it starts can be ended with it."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
        return subprocess.Popen(
            arguments, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, creationflags=flags
        )
    return subprocess.Popen(
        arguments, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
    )


def _end_all(process: subprocess.Popen[bytes], *, by_force: bool) -> None:
    """Ask a process and all it started to end, or end them."""
    if sys.platform == "win32":  # which asks nobody
        import psutil

        try:
            family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        except psutil.NoSuchProcess:
            return
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
    else:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL if by_force else signal.SIGTERM)


def _is_any_left(process: subprocess.Popen[bytes]) -> bool:
    """Whether something that an ended process started is still there."""
    if sys.platform == "win32":
        return False
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _output_folder(command: Sequence[str]) -> Path | None:
    places = [n for n, word in enumerate(command[:-1]) if word == "--out"]
    return Path(command[places[-1] + 1]) if places else None


def _remove_scratch(folder: Path | None) -> None:
    """Remove what a command that was ended by force wrote beside or in its folder before it was complete."""
    if folder is not None:
        beside = folder.parent.glob(f".{glob.escape(folder.name)}-*.part")
        for scratch in (*beside, *folder.glob(".deeprt-*.part")):
            shutil.rmtree(scratch, ignore_errors=True)
