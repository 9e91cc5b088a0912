"""Beams: their angles, where they stand, and which of their beamlets are open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, map_coordinates

from deeprt.case import PatientCase, union
from deeprt.errors import InputError
from deeprt.geometry import bld_to_lps_rotation
from deeprt.machine import Machine

_RAY_STEP_MM, _RAY_BEYOND_MM = 0.5, 1000.0  # along the axis from the source, and behind the isocenter
_FIELD_PIXEL_MM = 1.0  # resolution at which the target's outline is drawn in the beam's-eye view


@dataclass(frozen=True)
class BeamAngles:
    """IEC 61217 angles in degrees, brought to [0, 360).

    >>> BeamAngles(-90.0)
    BeamAngles(gantry_deg=270.0, couch_deg=0.0, collimator_deg=0.0)
    """

    gantry_deg: float
    couch_deg: float = 0.0
    collimator_deg: float = 0.0

    def __post_init__(self) -> None:
        for name in ("gantry_deg", "couch_deg", "collimator_deg"):
            value = float(getattr(self, name))
            if not np.isfinite(value):
                raise ValueError(f"BeamAngles: {name} must be finite, got {value}.")
            object.__setattr__(self, name, value % 360.0)


@dataclass(frozen=True, eq=False)
class Beam:
    """One beam with its rectangular grid of beamlets.

    Parameters
    ----------
    name : as in the plan
    angles : IEC 61217
    isocenter_lps : (3,), mm
    position : DICOM Patient Position, which the rotation needs
    sad_mm : source to isocenter
    x_edges_mm : (n_cols + 1,) increasing, along +Xb at the isocenter plane
    y_edges_mm : (n_rows + 1,) increasing, along +Yb at the isocenter plane
    open_beamlets : (n_rows, n_cols) bool; only these carry fluence
    """

    name: str
    angles: BeamAngles
    isocenter_lps: NDArray[np.float64]
    position: str
    sad_mm: float
    x_edges_mm: NDArray[np.float64]
    y_edges_mm: NDArray[np.float64]
    open_beamlets: NDArray[np.bool_]

    def __post_init__(self) -> None:
        shape = (self.y_edges_mm.size - 1, self.x_edges_mm.size - 1)
        if self.open_beamlets.shape != shape:
            raise ValueError(
                f"Beam '{self.name}': open_beamlets has shape {self.open_beamlets.shape}, the edges give {shape}."
            )
        if not (np.all(np.diff(self.x_edges_mm) > 0) and np.all(np.diff(self.y_edges_mm) > 0)):
            raise ValueError(f"Beam '{self.name}': beamlet edges must increase.")

    @cached_property
    def rotation(self) -> NDArray[np.float64]:
        """Beam to patient, (3, 3); columns are +Xb, +Yb, +Zb in LPS."""
        a = self.angles
        return bld_to_lps_rotation(a.gantry_deg, a.couch_deg, a.collimator_deg, position=self.position)

    @property
    def source_lps(self) -> NDArray[np.float64]:
        """Position of the source, (3,), mm."""
        return self.isocenter_lps + self.sad_mm * self.rotation[:, 2]

    @property
    def n_open(self) -> int:
        """Number of open beamlets."""
        return int(self.open_beamlets.sum())

    def project(
        self, points_lps: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Project points through the source onto the isocenter plane.

        Parameters
        ----------
        points_lps : (n, 3), mm

        Returns
        -------
        u, v : (n,) along +Xb and +Yb at the isocenter plane, mm
        distance : (n,) from the source along the axis, mm
        """
        p = (points_lps - self.isocenter_lps) @ self.rotation
        distance = self.sad_mm - p[:, 2]
        magnification = self.sad_mm / distance
        return p[:, 0] * magnification, p[:, 1] * magnification, distance


@dataclass(frozen=True, eq=False)
class FluenceImage:
    """Fluence on pixels of one size at the isocenter plane.

    Parameters
    ----------
    values : (n_rows, n_cols), rows along +Yb, columns along +Xb
    first_mm : center of the first pixel, along +Xb and +Yb
    pixel_mm : width and height of all pixels
    """

    values: NDArray[np.float64]
    first_mm: tuple[float, float]
    pixel_mm: tuple[float, float]

    @classmethod
    def of(cls, beam: Beam, fluence: NDArray[np.floating]) -> FluenceImage:
        """Draw a fluence map, (n_rows, n_cols), on pixels as wide and as high as its smallest beamlets.

        Leaves of two widths make rows of two heights; where one is a multiple of the other, the image is exact.

        Raises
        ------
        ValueError
            If the map is not of the beam's beamlets.
        """
        if fluence.shape != beam.open_beamlets.shape:
            raise ValueError(
                f"{beam.name}: the fluence has shape {fluence.shape}, its beamlets {beam.open_beamlets.shape}."
            )
        (columns, x_mm, width_mm), (rows, y_mm, height_mm) = _pixels(beam.x_edges_mm), _pixels(beam.y_edges_mm)
        return cls(fluence[np.ix_(rows, columns)].astype(np.float64), (x_mm, y_mm), (width_mm, height_mm))

    def on_beamlets(self, beam: Beam) -> NDArray[np.float64]:
        """Mean over each beamlet of a beam, (n_rows, n_cols); beside the image there is no fluence."""
        n_rows, n_cols = self.values.shape
        (x_mm, y_mm), (width_mm, height_mm) = self.first_mm, self.pixel_mm
        columns = _shares(x_mm + width_mm * (np.arange(n_cols + 1) - 0.5), beam.x_edges_mm)
        rows = _shares(y_mm + height_mm * (np.arange(n_rows + 1) - 0.5), beam.y_edges_mm)
        return rows @ self.values @ columns.T


@dataclass(frozen=True, eq=False)
class BeamSelection:
    """Beams chosen among candidates, in the order of choice.

    Parameters
    ----------
    candidates : all of them
    chosen : positions among the candidates
    fitness : (n_steps, n_candidates) float32, 0 to 1, of all candidates before each choice, chosen ones too
    objectives : of the beams so far, from those that were given to all; one more than there are steps
    n_given : how many of the chosen were given, not chosen
    source : what chose them
    timing_s : seconds by kind of work
    notes : what the user should know of the choice, one sentence each
    """

    candidates: tuple[BeamAngles, ...]
    chosen: tuple[int, ...]
    fitness: NDArray[np.float32]
    objectives: tuple[float, ...]
    n_given: int
    source: str
    timing_s: Mapping[str, float]
    notes: tuple[str, ...] = ()

    @property
    def n_steps(self) -> int:
        """Number of choices that were made by fitness."""
        return int(self.fitness.shape[0])

    @property
    def angles(self) -> tuple[BeamAngles, ...]:
        """Angles of the chosen beams."""
        return tuple(self.candidates[i] for i in self.chosen)


def place_beams(
    case: PatientCase,
    angles: Sequence[BeamAngles],
    machine: Machine,
    *,
    beamlet_width_mm: float = 2.5,
    beamlet_height_mm: float | None = None,
    margin_mm: float = 5.0,
    isocenter_lps: NDArray[np.float64] | None = None,
) -> tuple[Beam, ...]:
    """Place beams on the targets and open the beamlets that see them.

    A beamlet is open if some ray through it passes within ``margin_mm`` (measured on the isocenter plane) of the
    union of the prescribed targets.

    Parameters
    ----------
    beamlet_width_mm : along leaf travel
    beamlet_height_mm : across leaves; the machine's leaf widths if None, as a plan to deliver needs
    isocenter_lps : (3,); the centroid of the targets if None

    Raises
    ------
    InputError
        If a target reaches beyond the largest field of the machine.
    """
    isocenter = case.isocenter_lps() if isocenter_lps is None else np.asarray(isocenter_lps, float)
    target = union("targets", case.targets).fraction
    points = case.grid.points_lps(np.flatnonzero(target > 0))
    half_voxel_mm = float(case.grid.spacing_mm.min()) / 2
    placed = []
    for number, a in enumerate(angles, start=1):
        bare = Beam(
            f"Beam {number}", a, isocenter, case.position, machine.sad_mm,
            np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.ones((1, 1), bool),
        )  # fmt: skip
        u, v, _ = bare.project(points)
        reach = margin_mm + half_voxel_mm
        _check_field(bare.name, u, v, machine)
        limit = machine.jaws.max_x_mm
        x_edges = _uniform_edges(max(u.min() - reach, -limit), min(u.max() + reach, limit), beamlet_width_mm)
        if beamlet_height_mm is None:
            y_edges = _leaf_edges(machine.mlc.leaf_edges_mm, v.min() - reach, v.max() + reach)
        else:
            y_edges = _uniform_edges(v.min() - reach, v.max() + reach, beamlet_height_mm)
        mask = _near(u, v, reach, x_edges, y_edges)
        placed.append(Beam(bare.name, a, isocenter, case.position, machine.sad_mm, x_edges, y_edges, mask))
    return tuple(placed)


def source_to_surface_mm(case: PatientCase, beam: Beam) -> float | None:
    """Distance from the source to the external structure along the beam's axis; None if the axis misses it."""
    distance = np.arange(0.0, beam.sad_mm + _RAY_BEYOND_MM, _RAY_STEP_MM)
    points = beam.source_lps - distance[:, None] * beam.rotation[:, 2]
    index = case.grid.lps_to_index(points)[:, ::-1].T
    # Half of a voxel's share lies on its face also at the border of the grid.
    inside = map_coordinates(case.external.fraction, index, order=1, mode="grid-constant", output=np.float64)
    met = np.flatnonzero(inside >= 0.5)
    if met.size == 0:
        return None
    n = int(met[0])
    if n == 0:
        return 0.0
    return float(distance[n] - _RAY_STEP_MM * (inside[n] - 0.5) / (inside[n] - inside[n - 1]))


def _pixels(edges_mm: NDArray[np.float64]) -> tuple[NDArray[np.int64], float, float]:
    """Interval of each pixel along an axis, center of the first pixel, size of all."""
    extent = float(edges_mm[-1] - edges_mm[0])
    n = int(np.ceil(extent / np.diff(edges_mm).min() - 1e-6))
    size = extent / n
    centers = edges_mm[0] + size * (np.arange(n) + 0.5)
    return np.searchsorted(edges_mm, centers, side="right") - 1, float(centers[0]), size


def _shares(edges_mm: NDArray[np.float64], of_edges_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of each interval of the second edges that each one of the first covers, (n_of, n)."""
    low = np.maximum(edges_mm[:-1], of_edges_mm[:-1, None])
    high = np.minimum(edges_mm[1:], of_edges_mm[1:, None])
    return np.asarray(np.clip(high - low, 0, None) / np.diff(of_edges_mm)[:, None])


def _uniform_edges(low: float, high: float, width: float) -> NDArray[np.float64]:
    """Edges at multiples of ``width`` that cover [low, high]."""
    return width * np.arange(np.floor(low / width), np.ceil(high / width) + 1)


def _leaf_edges(edges: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """The consecutive leaf edges whose leaves meet [low, high]."""
    first = max(int(np.searchsorted(edges, low, side="right")) - 1, 0)
    last = min(int(np.searchsorted(edges, high, side="left")), edges.size - 1)
    return edges[first : last + 1]


def _check_field(name: str, u: NDArray[np.float64], v: NDArray[np.float64], machine: Machine) -> None:
    reach_x, reach_y = np.abs(u).max(), np.abs(v).max()
    if reach_x > machine.jaws.max_x_mm or reach_y > machine.jaws.max_y_mm:
        raise InputError(
            f"{name}: the target needs a field of ±{reach_x:.0f} x ±{reach_y:.0f} mm, but {machine.name} opens to "
            f"±{machine.jaws.max_x_mm:.0f} x ±{machine.jaws.max_y_mm:.0f} mm; move the isocenter or split the target."
        )


def _near(
    u: NDArray[np.float64],
    v: NDArray[np.float64],
    reach_mm: float,
    x_edges: NDArray[np.float64],
    y_edges: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Beamlets that hold a pixel within ``reach_mm`` of a projected point, (n_rows, n_cols)."""
    pixel = _FIELD_PIXEL_MM
    n_x = int(np.ceil((x_edges[-1] - x_edges[0]) / pixel))
    n_y = int(np.ceil((y_edges[-1] - y_edges[0]) / pixel))
    hit = np.zeros((n_y, n_x), bool)
    inside = (u >= x_edges[0]) & (u < x_edges[-1]) & (v >= y_edges[0]) & (v < y_edges[-1])
    hit[((v[inside] - y_edges[0]) / pixel).astype(int), ((u[inside] - x_edges[0]) / pixel).astype(int)] = True
    row, col = np.nonzero(distance_transform_edt(~hit, sampling=pixel) <= reach_mm)
    row = np.clip(np.searchsorted(y_edges, y_edges[0] + (row + 0.5) * pixel) - 1, 0, y_edges.size - 2)
    col = np.clip(np.searchsorted(x_edges, x_edges[0] + (col + 0.5) * pixel) - 1, 0, x_edges.size - 2)
    mask = np.zeros((y_edges.size - 1, x_edges.size - 1), bool)
    mask[row, col] = True
    return mask
