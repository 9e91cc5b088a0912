"""Virtual environments for the programs DeepRT is compared with, whose requirements exclude ours or each other."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "work" / "envs"  # git ignores it


def environment(name: str, requirements: Sequence[str]) -> Path:
    """Return the Python executable of a virtual environment, made anew unless it holds exactly these requirements.

    Parameters
    ----------
    name : of its folder under ``work/envs``
    requirements : as for pip, for example ``"numpy<2.4"``

    Raises
    ------
    subprocess.CalledProcessError
        If pip cannot install the requirements.
    """
    folder = FOLDER / name
    python = folder / "bin" / "python"
    # Written last: an environment whose installation was cut short has none and is made again.
    installed = folder / "requirements.txt"
    wanted = "".join(f"{r}\n" for r in requirements)
    if python.exists() and installed.is_file() and installed.read_text(encoding="utf-8") == wanted:
        return python
    print(f"Setting up {folder} ...", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
    subprocess.run([*pip, *requirements], check=True, stdout=sys.stderr)
    installed.write_text(wanted, encoding="utf-8")
    return python
