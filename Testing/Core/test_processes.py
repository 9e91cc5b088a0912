"""Work in this process and in several."""

import multiprocessing
import os
import signal
import time

import numba
import pytest
import torch
from Core.selection_samples import CancelAt

from deeprt.errors import InputError
from deeprt.training.processes import in_processes, threads


class Record(CancelAt):
    """Keeps what is reported, and cancels at a call."""

    def __init__(self, call=0):
        super().__init__(call)
        self.steps = []

    def step(self, name, fraction, message=""):
        self.steps.append((name, fraction, message))
        super().step(name, fraction, message)


def test_one_job_works_here_with_one_thread_and_reports_each_thing():
    done, record, before = [], Record(), torch.get_num_threads()
    with threads(2):
        in_processes(
            "plans",
            lambda thing: done.append((thing, torch.get_num_threads(), numba.get_num_threads())),
            ["b", "c"],
            n_all=4,
            n_jobs=1,
            report=record,
        )
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before
    assert done == [("b", 1, 1), ("c", 1, 1)]
    assert record.steps == [("plans", 0.5, "2 of 4"), ("plans", 0.75, "3 of 4"), ("plans", 1.0, "4 of 4")]


def test_where_nothing_is_missing_it_says_so_and_starts_no_process():
    record = Record()
    in_processes("plans", pytest.fail, [], n_all=4, n_jobs=2, report=record)
    assert record.steps == [("plans", 1.0, "4 of 4")]


def write(file):
    """Write the process and its threads into a file; long work if it is named so."""
    if file.name == "long":
        time.sleep(600)
    if file.name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if file.name == "wrong":
        raise InputError("The patient is wrong.")
    file.write_text(f"{os.getpid()} {torch.get_num_threads()} {numba.get_num_threads()}")


def test_several_jobs_work_in_processes_of_one_thread(tmp_path):
    files, record = [tmp_path / name for name in "abcd"], Record()
    in_processes("plans", write, files, n_all=5, n_jobs=2, report=record)
    numbers = [[int(n) for n in file.read_text().split()] for file in files]
    assert 1 <= len({process for process, *_ in numbers} - {os.getpid()}) <= 2
    assert all(threads == [1, 1] for _, *threads in numbers)
    assert [message for _, _, message in record.steps] == [f"{n} of 5" for n in range(1, 6)]


@pytest.mark.parametrize(
    ("other", "call", "error", "message"),
    [
        ("killed", 0, InputError, "most likely for lack of memory; what was finished is kept, run it again with fewer"),
        ("wrong", 0, InputError, "The patient is wrong"),
        ("quick", 2, InterruptedError, "plans"),
    ],
)
def test_whatever_ends_the_work_ends_all_processes_at_once(tmp_path, other, call, error, message):
    start = time.monotonic()
    with pytest.raises(error, match=message):
        in_processes("plans", write, [tmp_path / "long", tmp_path / other], n_all=2, n_jobs=2, report=Record(call))
    assert not multiprocessing.active_children()
    assert time.monotonic() - start < 300, "the long work takes ten minutes"


def test_a_stop_loses_only_what_has_not_begun():
    done = []
    with pytest.raises(InterruptedError):
        in_processes("plans", done.append, ["a", "b", "c"], n_all=3, n_jobs=1, report=Record(3))
    assert done == ["a", "b"]
