"""The planning session of a panel in the running Slicer."""

from __future__ import annotations

import shutil
import sys
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import slicer

from deeprt_mrml.session import PlanSession


@dataclass(frozen=True)
class JobPython:
    """Python that runs jobs: its executable, and the environment it is started in, None for this one's."""

    executable: str
    environment: Mapping[str, str] | None


def python_for_jobs() -> JobPython:
    """PythonSlicer of the running Slicer; where there is none, the Python that runs here.

    PythonSlicer sets up all that it needs itself, so that it starts from the environment that Slicer was started in.
    """
    executable = shutil.which("PythonSlicer")
    if executable is None:
        return JobPython(sys.executable, None)
    return JobPython(executable, dict(slicer.util.startupEnvironment()))


def new_session(module: str) -> PlanSession:
    """Session in Slicer's scene, with a folder of its own in Slicer's temporary one, which goes with it.

    Parameters
    ----------
    module : name of the panel's module
    """
    python = python_for_jobs()
    folder = tempfile.mkdtemp(prefix=f"{module}-", dir=slicer.app.temporaryPath)
    database = getattr(slicer, "dicomDatabase", None)  # which Slicer may be started without
    session = PlanSession(
        slicer.mrmlScene,
        Path(folder),
        executable=python.executable,
        environment=python.environment,
        file_of_instance=None if database is None else database.fileForInstance,
    )
    weakref.finalize(session, shutil.rmtree, folder, ignore_errors=True)
    return session
