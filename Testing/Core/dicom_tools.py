"""Independent DICOM programs that tests ask for their opinion; tests are skipped where they are not installed."""

import shutil
import subprocess

import pytest

needs_dciodvfy = pytest.mark.skipif(
    shutil.which("dciodvfy") is None, reason="dciodvfy is not installed (Debian package dicom3tools)"
)
needs_dcmtk = pytest.mark.skipif(
    shutil.which("drtdump") is None, reason="drtdump is not installed (Debian package dcmtk)"
)


def output_of(*command):
    """What a program writes to both streams."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, errors="replace")
    return done.stdout + done.stderr


def dciodvfy_errors(path, *, iod):
    """Lines that begin with Error; the program must have recognized the kind of object."""
    lines = output_of("dciodvfy", path).splitlines()
    assert iod in lines, lines
    return [line for line in lines if line.startswith("Error")]
