"""Progress of long work, reported the same way to a terminal, to JSON lines and to a caller."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, TextIO


class Progress(Protocol):
    """What a long step tells its caller."""

    def step(self, name: str, fraction: float, message: str = "") -> None:
        """Say that step ``name`` is done to ``fraction`` (0 to 1)."""


class Silent:
    """Reports nothing."""

    def step(self, name: str, fraction: float, message: str = "") -> None:
        """Do nothing."""


class JsonLines:
    """Writes one JSON object a line: ``step``, ``fraction``, ``message``, ``elapsed_s``."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._start = time.perf_counter()

    def step(self, name: str, fraction: float, message: str = "") -> None:
        """Write one line."""
        record = {
            "step": name,
            "fraction": round(fraction, 4),
            "message": message,
            "elapsed_s": round(time.perf_counter() - self._start, 3),
        }
        print(json.dumps(record), file=self._stream, flush=True)


class Bars(AbstractContextManager["Bars"]):
    """One tqdm bar a step, on standard error."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._tqdm = tqdm
        self._bar: tqdm[Any] | None = None
        self._name = ""

    def step(self, name: str, fraction: float, message: str = "") -> None:
        """Move the bar of the current step, or begin the next one."""
        if name != self._name:
            self.close()
            self._bar = self._tqdm(
                total=100,
                desc=f"{name:<18}",
                bar_format="{desc} {bar:24} {percentage:3.0f}% [{elapsed}] {postfix}",
                file=sys.stderr,
                disable=not sys.stderr.isatty(),
            )
            self._name = name
        assert self._bar is not None
        self._bar.set_postfix_str(message, refresh=False)
        self._bar.n = round(100 * min(1.0, fraction))
        self._bar.refresh()

    def close(self) -> None:
        """End the current bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class TimedSteps:
    """Announces the steps of some work, and times them."""

    progress: Progress
    timing_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Announce a step, and note its seconds when it is done."""
        self.progress.step(name, 0.0)
        start = time.perf_counter()
        yield
        self.timing_s[name] = round(time.perf_counter() - start, 3)
        self.progress.step(name, 1.0)
