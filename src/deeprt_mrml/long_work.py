"""The one piece of long work that is under way, and what is done with its result."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deeprt.errors import InputError
from deeprt_mrml import jobs
from deeprt_mrml.jobs import Job, JobState, ProgressRecord


class LongWork:
    """Runs one command of DeepRT after the other, each in a process of its own.

    Parameters
    ----------
    folder : for logs
    executable, environment : of the Python that runs commands, see `deeprt_mrml.jobs.start`
    """

    def __init__(
        self, folder: Path, *, executable: str = sys.executable, environment: Mapping[str, str] | None = None
    ) -> None:
        self._folder, self._executable, self._environment = folder, executable, environment
        self._job: Job | None = None
        self._on_done: Callable[[], None] | None = None
        self._succeeded: Job | None = None
        self._usual_s: dict[str, dict[str, float]] = {}  # by title and step, of the latest run
        self.title = ""

    @property
    def is_busy(self) -> bool:
        """Whether work is under way."""
        return self._job is not None and self._job.state is JobState.RUNNING

    @property
    def was_cancelled(self) -> bool:
        """Whether the latest work was cancelled."""
        return self._job is not None and self._job.state is JobState.CANCELLED

    @property
    def has_succeeded(self) -> bool:
        """Whether the latest work ended well, and so did what was to be done with its result."""
        return self._job is not None and self._succeeded is self._job

    @property
    def progress(self) -> ProgressRecord | None:
        """What was reported last; None before anything was."""
        return self._job.records[-1] if self._job is not None and self._job.records else None

    @property
    def log(self) -> str:
        """What the latest work has said."""
        return "" if self._job is None else self._job.log()

    def time_left_s(self) -> float | None:
        """Seconds that the work will still take, by what it took the last time; None if there is no telling."""
        return None if self._job is None else self._job.time_left_s(self._usual_s.get(self.title))

    def start(self, title: str, command: Sequence[str], on_done: Callable[[], None]) -> None:
        """Start a command; `poll` goes on until it has ended.

        Parameters
        ----------
        title : what the user reads while it runs, such as *Column generation*
        on_done : called by `poll` once the command has ended well; it may start the next one

        Raises
        ------
        InputError
            If other work is under way, or the process cannot be started.
        """
        if self.is_busy:
            raise InputError(f"{self.title} is under way; wait for it or cancel it first.")
        log = self._folder / f"{title.lower().replace(' ', '_')}.log"
        self._job = jobs.start(command, log, executable=self._executable, environment=self._environment)
        self._on_done, self.title = on_done, title

    def poll(self) -> bool:
        """Look after the work; call it a few times a second while `is_busy`.

        Returns
        -------
        Whether it ended with this call, so that what is shown has to be made anew

        Raises
        ------
        InputError
            If it failed, with its reason.
        """
        job, on_done = self._job, self._on_done
        if job is None or not self.is_busy:
            return False
        job.poll()
        if job.state is JobState.FAILED:
            raise InputError(job.error)
        if job.state is JobState.DONE and on_done is not None:
            self._usual_s[self.title] = _seconds_by_step(job.records)
            on_done()
            self._succeeded = job
        return job.state is not JobState.RUNNING

    def cancel(self) -> None:
        """Ask the work to end; `poll` says when it has."""
        if self._job is not None:
            self._job.cancel()

    def end(self) -> None:
        """End the work at once, for when scene or application close; nothing is done with its result."""
        self._on_done = None
        if self._job is not None:
            self._job.end()


def _seconds_by_step(records: Sequence[ProgressRecord]) -> dict[str, float]:
    """Seconds from the first report of each step to the first of the next one."""
    if not records:
        return {}
    first: dict[str, float] = {}
    for r in records:
        first.setdefault(r.step, r.elapsed_s)
    ends = [*list(first.values())[1:], records[-1].elapsed_s]
    return {step: end - begin for (step, begin), end in zip(first.items(), ends, strict=True)}
