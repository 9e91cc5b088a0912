"""Long work one after the other, with what is done with each result."""

import stat
import sys
import textwrap
import time

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from deeprt.errors import InputError
from deeprt_mrml.long_work import LongWork

LIMIT_S = 60


@pytest.fixture
def work(tmp_path):
    """Work whose commands are lines of Python in a file of their name."""
    executable = tmp_path / "python"
    executable.write_text(f'#!/bin/sh\nshift 2\nexec "{sys.executable}" "$@"\n')
    executable.chmod(executable.stat().st_mode | stat.S_IXUSR)
    work = LongWork(tmp_path / "logs", executable=str(executable))
    yield work
    work.end()


@pytest.fixture
def program(tmp_path):
    def make(lines, name="program.py"):
        file = tmp_path / name
        file.write_text("import json, sys, time\n" + REPORT + textwrap.dedent(lines))
        return [str(file)]

    return make


REPORT = """
def report(step, fraction, seconds):
    print(json.dumps({"step": step, "fraction": fraction, "message": "", "elapsed_s": seconds}), flush=True)
"""


def wait(work, until=lambda: False):
    """Poll as a timer would; whether work ended with one of the calls."""
    end, ended = time.monotonic() + LIMIT_S, False
    while work.is_busy and not until():
        assert time.monotonic() < end, work.log
        ended = work.poll() or ended
        time.sleep(0.02)
    return ended


def test_nothing_is_under_way_at_first(work):
    assert not work.is_busy
    assert not work.was_cancelled
    assert not work.poll()
    assert (work.progress, work.log, work.time_left_s(), work.title) == (None, "", None, "")
    work.cancel()
    work.end()


def test_what_follows_is_done_once_when_work_has_ended_well(work, program):
    done = []
    work.start("Some work", program("report('one', 1.0, 0.5); print('said', file=sys.stderr)"), lambda: done.append(1))
    assert work.is_busy
    assert work.title == "Some work"
    assert wait(work)
    assert done == [1]
    assert (work.progress.step, work.progress.fraction) == ("one", 1.0)
    assert work.log == "said\n"
    assert not work.poll()
    assert done == [1]


def test_a_command_that_reports_nothing_is_work_too(work, program):
    done = []
    work.start("Silent", program("pass"), lambda: done.append(1))
    assert wait(work)
    assert done == [1]
    assert work.progress is None


def test_only_one_piece_of_work_is_under_way(work, program):
    work.start("Long", program("time.sleep(60)"), lambda: None)
    with pytest.raises(InputError, match="Long is under way; wait for it or cancel it first"):
        work.start("Other", program("pass", "other.py"), lambda: None)
    assert work.title == "Long"


def test_work_that_failed_says_why_once_and_is_not_followed_by_anything(work, program):
    lines = "print(json.dumps({'error': 'The case has no target.'})); sys.exit(2)"
    work.start("Doomed", program(lines), lambda: pytest.fail("was done"))
    with pytest.raises(InputError, match=r"^The case has no target\.$"):
        wait(work)
    assert not work.is_busy
    assert not work.was_cancelled
    assert not work.poll()
    done = []
    work.start("Next", program("pass", "next.py"), lambda: done.append(1))
    wait(work)
    assert done == [1]


def test_cancelled_work_is_not_followed_by_anything(work, program):
    work.start("Long", program("report('one', 0.1, 0.0); time.sleep(60)"), lambda: pytest.fail("was done"))
    wait(work, lambda: work.progress is not None)
    work.cancel()
    assert wait(work)
    assert work.was_cancelled
    assert not work.is_busy


def test_ended_work_is_gone_at_once(work, program):
    work.start("Long", program("report('one', 0.1, 0.0); time.sleep(60)"), lambda: pytest.fail("was done"))
    wait(work, lambda: work.progress is not None)
    work.end()
    assert not work.is_busy
    assert not work.poll()


def test_work_may_be_followed_by_the_next(work, program):
    order = []

    def then():
        order.append(work.title)
        work.start("Second", program("pass", "second.py"), lambda: order.append(work.title))

    work.start("First", program("pass"), then)
    assert wait(work)
    assert order == ["First", "Second"]


def test_what_goes_wrong_in_the_scene_is_passed_on_and_work_is_over(work, program):
    def fails():
        raise InputError("The volume is gone.")

    work.start("Some work", program("pass"), fails)
    with pytest.raises(InputError, match="The volume is gone"):
        wait(work)
    assert not work.is_busy


def test_an_interpreter_that_is_not_there_is_an_error_and_nothing_is_under_way(tmp_path):
    work = LongWork(tmp_path, executable=str(tmp_path / "nobody"))
    with pytest.raises(InputError, match="nobody -m deeprt' cannot be started"):
        work.start("Some work", ["plan"], lambda: None)
    assert not work.is_busy


def test_the_second_run_knows_how_long_the_steps_took_the_first_time(work, program):
    lines = "report('one', 0.0, 0.0); report('one', 1.0, 4.0); report('two', 0.0, 5.0); report('two', 1.0, 8.0)"
    work.start("Some work", program(lines), lambda: None)
    wait(work)
    assert work.time_left_s() is None
    work.start("Some work", program("report('one', 0.5, 1.0); time.sleep(60)", "again.py"), lambda: None)
    wait(work, lambda: work.progress is not None)
    # Half of the first step took no time since its first report, which tells nothing; the second one took 3 s.
    assert work.time_left_s() == pytest.approx(3.0)
    work.end()
    work.start("Other work", program("report('one', 0.0, 1.0); time.sleep(60)", "other.py"), lambda: None)
    wait(work, lambda: work.progress is not None)
    assert work.time_left_s() is None


def test_logs_are_kept_by_title(work, program, tmp_path):
    work.start("Dose calculation", program("print('a', file=sys.stderr)"), lambda: None)
    wait(work)
    assert (tmp_path / "logs" / "dose_calculation.log").read_text() == "a\n"
