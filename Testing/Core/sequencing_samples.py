"""Machines, beams and fluence maps to be sequenced."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deeprt.beams import Beam, BeamAngles
from deeprt.machine import Machine
from deeprt.machine_file import read_machine


def a_machine(*, min_mu: float = 1.0, min_area_mm2: float = 100.0, **mlc_limits: float | bool) -> Machine:
    machine = read_machine("generic_6mv")
    mlc = replace(machine.mlc, **mlc_limits)
    return replace(machine, mlc=mlc, min_segment_mu=min_mu, min_segment_area_mm2=min_area_mm2)


def a_beam(fluence: np.ndarray, machine: Machine, first_x_mm: float = -45.0, first_pair: int = 12) -> Beam:
    """A beam off the axis, so that a mirrored field would show."""
    n_rows, n_cols = fluence.shape
    x_edges = first_x_mm + 2.5 * np.arange(n_cols + 1)
    y_edges = machine.mlc.leaf_edges_mm[first_pair : first_pair + n_rows + 1]
    return Beam("AP", BeamAngles(0.0), np.zeros(3), "HFS", 1000.0, x_edges, y_edges, np.ones(fluence.shape, bool))


def bumps(rng: np.random.Generator, n_rows: int = 22, n_cols: int = 40) -> np.ndarray:
    """Three smooth bumps on a plateau with a valley through it, within an ellipse, up to 60 MU."""
    x, y = np.meshgrid(np.linspace(-1, 1, n_cols), np.linspace(-1, 1, n_rows))
    fluence = np.full(x.shape, 0.3)
    for cx, cy, size, height in rng.uniform((-0.7, -0.7, 0.2, 0.3), (0.7, 0.7, 0.6, 1.0), (3, 4)):
        fluence += height * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * size**2))
    fluence *= 1 - 0.7 * np.exp(-((x - rng.uniform(-0.3, 0.3) + 0.2 * y) ** 2) / (2 * 0.2**2))
    fluence[x**2 + y**2 > 1] = 0
    return 60 * fluence / fluence.max()
