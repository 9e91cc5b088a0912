"""The commit of the code that runs, for what is written about a training or a measurement."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit_of_code() -> str:
    """Commit of the checkout the code runs from; empty where it is none."""
    folder = Path(__file__).parent
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
