import json
import os
import shutil
import stat
import subprocess
import sys
import textwrap
import time

import pytest

from deeprt.errors import InputError
from deeprt_mrml.jobs import JobState, ProgressRecord, start

LIMIT_S = 90  # for a process to start on a machine that does much else


def wait_for(job, condition=None, *, limit_s=LIMIT_S):
    """Poll as a timer would, until the job has ended or a condition holds; return what was reported meanwhile."""
    records, end = [], time.monotonic() + limit_s
    while time.monotonic() < end:
        records += job.poll()
        if job.state is not JobState.RUNNING or (condition and condition()):
            return records
        time.sleep(0.05)
    job.end()
    pytest.fail(f"The job did not get there in {limit_s} s: {job.log()}")


@pytest.fixture
def program(tmp_path):
    """Make an interpreter that runs some lines instead of what it is asked to."""

    def make(lines):
        script, executable = tmp_path / "program.py", tmp_path / "python"
        script.write_text(textwrap.dedent(lines))
        executable.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
        executable.chmod(executable.stat().st_mode | stat.S_IXUSR)
        return str(executable)

    return make


def is_there(pid):
    """Whether a process runs; one that ended and nobody asked about does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


# Real commands


def test_a_command_reports_progress_and_is_done(tmp_path):
    out = tmp_path / "out"
    command = ["beams", "virtual:water", "--beams", "2", "--select", "equispaced", "--out", str(out)]
    job = start(command, tmp_path / "logs" / "beams.log")
    assert job.state is JobState.RUNNING
    records = wait_for(job)
    assert (job.state, job.error) == (JobState.DONE, "")
    assert records[-1] == ProgressRecord("export", 1.0, str(out), records[-1].elapsed_s)
    assert job.records == tuple(records)
    assert len(json.loads((out / "beams.json").read_text())["chosen"]) == 2
    assert job.time_left_s() is None
    assert job.poll() == ()


def test_what_is_wrong_with_the_input_is_said_in_the_sentence_of_the_command(tmp_path):
    job = start(["beams", "virtual:nobody", "--out", str(tmp_path / "out")], tmp_path / "log.txt")
    wait_for(job)
    assert job.state is JobState.FAILED
    assert job.error == "There is no virtual patient 'virtual:nobody'; use virtual:prostate or virtual:water."
    assert job.error in job.log()
    assert not (tmp_path / "out").exists()


def test_a_cancelled_command_ends_and_writes_nothing(tmp_path):
    out = tmp_path / "out"
    job = start(["plan", "virtual:prostate", "--out", str(out)], tmp_path / "log.txt")
    wait_for(job, lambda: job.records)
    assert job.state is JobState.RUNNING
    job.cancel()
    job.cancel()  # a second click changes nothing
    wait_for(job)
    assert (job.state, job.error) == (JobState.CANCELLED, "")
    assert "cancelled; nothing was written" in job.log()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.jsonl", "log.txt"]


# Others, where a real one would take long


def test_the_interpreter_and_its_environment_can_be_given(tmp_path, program):
    executable = program("""
        import json, os, sys
        words = " ".join(sys.argv[1:])
        print(json.dumps({"step": words, "fraction": 1, "message": os.environ["WHO"], "elapsed_s": 0.5}))
    """)
    job = start(["plan", "x"], tmp_path / "log.txt", executable=executable, environment={"WHO": "Slicer"})
    (record,) = wait_for(job)
    assert (record.step, record.message) == ("-m deeprt plan x --json-progress", "Slicer")


def test_an_interpreter_that_is_not_there_is_said(tmp_path):
    with pytest.raises(InputError, match=r"'nowhere/python -m deeprt' cannot be started: No such file"):
        start(["plan"], tmp_path / "log.txt", executable="nowhere/python")


def test_much_output_does_not_hold_a_job_up_while_nobody_reads(tmp_path, program):
    executable = program("""
        import json, sys
        for n in range(20000):
            print(json.dumps({"step": "work", "fraction": n / 20000, "message": "x" * 50, "elapsed_s": n}))
            print("y" * 100, file=sys.stderr)
    """)
    job = start(["plan"], tmp_path / "log.txt", executable=executable)
    end = time.monotonic() + LIMIT_S
    while job._process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    records = job.poll()
    assert job.state is JobState.DONE
    assert len(records) == 20000
    assert len(job.log()) == 20000 * 101


def test_half_a_line_is_read_when_it_is_whole_and_other_lines_are_passed_over(tmp_path, program):
    executable = program("""
        import sys, time
        print("a library says hello")
        sys.stdout.write('{"step": "work", "fraction": 0.5, ')
        sys.stdout.flush()
        time.sleep(0.5)
        print('"message": "é", "elapsed_s": 1}', flush=True)
        print("[1, 2]")
    """)
    assert wait_for(start(["plan"], tmp_path / "log.txt", executable=executable)) == [
        ProgressRecord("work", 0.5, "é", 1)
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("raise ValueError('Nobody thought of this.')", "ValueError: Nobody thought of this."),
        ("import sys; sys.exit('deeprt plan: error: argument --beams: invalid')", "argument --beams: invalid"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", r"ended unexpectedly \(status -9\); see the log"),
        ("raise SystemExit(3)", r"ended unexpectedly \(status 3\)"),
    ],
)
def test_a_job_that_breaks_says_why(tmp_path, program, lines, message):
    job = start(["plan"], tmp_path / "log.txt", executable=program(lines))
    wait_for(job)
    assert job.state is JobState.FAILED
    with pytest.raises(RuntimeError, match=message):
        raise RuntimeError(job.error)


STUBBORN = """
    import json, os, signal, subprocess, sys, time
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    os.makedirs(".out-abc.part")
    print(json.dumps({"step": "work", "fraction": 0.1, "message": str(child.pid), "elapsed_s": 0}), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def stubborn(tmp_path, program, monkeypatch):
    """A job that does not listen, with a child and a folder it is about to write."""
    monkeypatch.chdir(tmp_path)
    job = start(["plan", "--out", str(tmp_path / "out")], tmp_path / "log.txt", executable=program(STUBBORN))
    wait_for(job, lambda: job.records)
    yield job
    job.end()


def test_a_job_that_does_not_listen_is_ended_after_a_while_with_its_children(stubborn, monkeypatch, tmp_path):
    monkeypatch.setattr("deeprt_mrml.jobs._GRACE_S", 0.5)
    child = int(stubborn.records[0].message)
    assert is_there(child)
    stubborn.cancel()
    assert stubborn.poll() == ()
    assert stubborn.state is JobState.RUNNING
    wait_for(stubborn)
    assert stubborn.state is JobState.CANCELLED
    assert not is_there(child)
    assert not (tmp_path / ".out-abc.part").exists()


def test_a_job_can_be_ended_at_once(stubborn, tmp_path):
    child = int(stubborn.records[0].message)
    stubborn.end()
    assert stubborn.state is JobState.CANCELLED
    time.sleep(0.1)
    assert not is_there(child)
    assert not (tmp_path / ".out-abc.part").exists()


def test_a_job_whose_files_were_tidied_up_is_looked_after_all_the_same(tmp_path, program):
    folder = tmp_path / "temporary"
    job = start(["plan"], folder / "log.txt", executable=program("import time; time.sleep(0.2); raise SystemExit(2)"))
    shutil.rmtree(folder)
    wait_for(job)
    assert job.state is JobState.FAILED
    assert job.error == "The process ended unexpectedly (status 2); see the log."
    assert job.log() == ""


def test_a_job_that_is_done_before_it_hears_of_being_cancelled_is_done(tmp_path, program):
    job = start(["plan"], tmp_path / "log.txt", executable=program("print('quick')"))
    job._process.wait(LIMIT_S)
    job.cancel()
    wait_for(job)
    assert job.state is JobState.DONE


def test_the_time_left_follows_from_the_fraction_of_the_step_and_from_earlier_runs(tmp_path, program):
    executable = program("""
        import json, time
        def say(step, fraction, elapsed):
            print(json.dumps({"step": step, "fraction": fraction, "message": "", "elapsed_s": elapsed}), flush=True)
            while not open("go").read(): time.sleep(0.02)
            open("go", "w").close()
        say("beams", 0.0, 2.0)
        say("beams", 1.0, 6.0)
        say("fluence", 0.0, 6.0)
        say("fluence", 0.25, 9.0)
    """)
    go, here = tmp_path / "go", os.getcwd()
    go.write_text("")
    os.chdir(tmp_path)
    try:
        job = start(["plan"], tmp_path / "log.txt", executable=executable)
    finally:
        os.chdir(here)
    earlier = {"beams": 5.0, "fluence": 8.0, "segments": 20.0}
    assert job.time_left_s() is None
    found = []
    for n in range(4):
        wait_for(job, lambda n=n: len(job.records) > n)
        found.append((job.time_left_s(), job.time_left_s(earlier)))
        go.write_text("go")
    wait_for(job)
    assert found == [(None, 33.0), (0.0, 28.0), (None, 28.0), (9.0, 29.0)]
