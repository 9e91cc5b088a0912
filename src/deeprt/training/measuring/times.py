"""Seconds, and the machine that took them."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deeprt.training.measuring.page import ABSENT
from deeprt.training.measuring.results import Json

THREADS = 2
TIME_HEADER = ("What", "Median", "Shortest", "Longest", "n")


def seconds(work: Callable[[], Any]) -> float:
    """Time that some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def hardware() -> str:
    """The processor of this machine, and torch."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if sys.platform == "linux" else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{os.cpu_count()} cores of {cpu or platform.machine()}, torch {torch.__version__}"


def time_rows(times: Json, names: Mapping[str, str]) -> tuple[list[list[str]], Json]:
    """Rows below `TIME_HEADER`, and their numbers, of repeated times.

    Parameters
    ----------
    times : seconds of each repeat, by key; a key that is missing was not run
    names : on the page, by key
    """
    rows: list[list[str]] = []
    numbers: Json = {}
    for key, name in names.items():
        if key not in times:
            rows.append([f"{name}: not run", *[ABSENT] * 4])
            continue
        taken = times[key]
        three = {"median": float(np.median(taken)), "lowest": min(taken), "highest": max(taken)}
        numbers[key] = {**three, "n": len(taken)}
        rows.append([name, *(f"{v:.3f} s" for v in three.values()), str(len(taken))])
    return rows, numbers
