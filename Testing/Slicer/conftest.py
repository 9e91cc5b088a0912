"""Slicer for panels, as far as it can be had without Slicer: a stand-in, see README.md in this folder."""

import os
import sys

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
collect_ignore = ["host", "DeepRTWorkflowTest.py"]  # which import what may not be installed


@pytest.fixture
def slicer_host(tmp_path, monkeypatch):
    """A `Host` with an empty scene; errors in slots and callbacks, and dialogs without answer, fail the test."""
    pytest.importorskip("PySide6", reason="PySide6 is not installed")
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    from Slicer.host.host import Host

    host = Host(tmp_path, monkeypatch)
    yield host
    host.close()


@pytest.fixture
def qt(slicer_host):
    """Slicer's module `qt`."""
    return sys.modules["qt"]


@pytest.fixture
def ctk(slicer_host):
    """Slicer's module `ctk`."""
    return sys.modules["ctk"]
