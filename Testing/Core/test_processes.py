"""Work in this process; `test_training_data` has some in several."""

import numba
import pytest
import torch
from Core.selection_samples import CancelAt

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


def test_a_stop_loses_only_what_has_not_begun():
    done = []
    with pytest.raises(InterruptedError):
        in_processes("plans", done.append, ["a", "b", "c"], n_all=3, n_jobs=1, report=Record(3))
    assert done == ["a", "b"]
