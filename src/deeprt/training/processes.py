"""Work that is done for one thing after the other, on several processes of one thread each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

import numba
import torch

from deeprt.progress import Progress

_Thing = TypeVar("_Thing")


def in_processes(
    stage: str,
    work: Callable[[_Thing], Any],
    missing: Sequence[_Thing],
    *,
    n_all: int,
    n_jobs: int,
    report: Progress,
) -> None:
    """Do the work that is missing; stopping loses only what is under way.

    Parameters
    ----------
    stage : of the progress, which says after each thing how many of all are there
    work : that leaves its result in a file; importable, since processes are spawned for it
    n_all : things, of which those that are not missing are there already
    n_jobs : processes, of one thread each; one job runs in this process, with one thread as well
    """
    n_before = n_all - len(missing)
    report.step(stage, n_before / n_all, f"{n_before} of {n_all}")
    if n_jobs == 1 or len(missing) < 2:
        for n, thing in enumerate(missing, start=n_before + 1):
            with threads(1):
                work(thing)
            report.step(stage, n / n_all, f"{n} of {n_all}")
        return
    with get_context("spawn").Pool(min(n_jobs, len(missing)), _use_threads, (1,)) as pool:  # leaving it ends them
        for n, _ in enumerate(pool.imap_unordered(work, missing), start=n_before + 1):
            report.step(stage, n / n_all, f"{n} of {n_all}")


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Work with so many threads, or as many as there may be: several that share few cores wait for each other."""
    before = torch.get_num_threads(), numba.get_num_threads()
    _use_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


def _use_threads(n: int) -> None:
    torch.set_num_threads(n)
    numba.set_num_threads(min(n, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
