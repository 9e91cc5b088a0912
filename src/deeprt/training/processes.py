"""Work that is done for one thing after the other, on several processes of one thread each."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from typing import Any, TypeVar

import numba
import torch

from deeprt.errors import InputError
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

    Raises
    ------
    InputError
        If a process was ended from outside, as systems do that run out of memory.
    """
    n_before = n_all - len(missing)
    report.step(stage, n_before / n_all, f"{n_before} of {n_all}")
    if n_jobs == 1 or len(missing) < 2:
        for n, thing in enumerate(missing, start=n_before + 1):
            with threads(1):
                work(thing)
            report.step(stage, n / n_all, f"{n} of {n_all}")
        return
    with _pool(min(n_jobs, len(missing))) as pool:
        futures = [pool.submit(work, thing) for thing in missing]
        # The pool watches the processes it had at the latest submission; the end of one begun by it would go unseen.
        pool.submit(int)
        for n, future in enumerate(as_completed(futures), start=n_before + 1):
            try:
                future.result()
            except BrokenProcessPool as error:
                raise InputError(
                    f"One of {n_jobs} processes ended by itself (stage {stage}), most likely for lack of memory; what "
                    "was finished is kept, run it again with fewer jobs."
                ) from error
            report.step(stage, n / n_all, f"{n} of {n_all}")


@contextmanager
def _pool(n_jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of one thread each; they end at once if what they are used for fails or is cancelled."""
    others = set(active_children())
    pool = ProcessPoolExecutor(n_jobs, mp_context=get_context("spawn"), initializer=_begin)
    try:
        yield pool
    except BaseException:
        for process in set(active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Begin a process: only the one that has begun it decides what to do when the user interrupts both."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _use_threads(1)


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
