"""Candidate beams: coplanar or on the whole sphere, without those that would hit the patient or the couch."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deeprt.beams import BeamAngles
from deeprt.errors import InputError
from deeprt.machine import Clearance

SAME_DEG = 0.05  # central axes nearer than this are one beam: plans are written to a tenth of a degree
_PEAK_DEG = 15.0  # central axes nearer than this share one peak of the fitness


def candidate_beams(kind: str, clearance: Clearance) -> tuple[BeamAngles, ...]:
    """Candidates of a kind written like ``coplanar:2`` or ``noncoplanar:6`` (step in degrees).

    Raises
    ------
    InputError
        If the kind is not of this form, or the step does not divide the circle.

    Examples
    --------
    >>> len(candidate_beams("coplanar:2", Clearance(415.0, 380.0, 265.0, 1000.0, 200.0, 200.0, 90.0)))
    180
    """
    match = re.fullmatch(r"(coplanar|noncoplanar):(\d+(?:\.\d+)?)", kind)
    step = float(match[2]) if match else 0.0
    if match is None or step <= 0 or not math.isclose(180 / step, round(180 / step)):
        raise InputError(
            f"Candidates '{kind}' are not understood; write coplanar:2 or noncoplanar:6 with a step in degrees "
            "that divides 180."
        )
    if match[1] == "coplanar":
        return tuple(BeamAngles(step * k) for k in range(round(360 / step)))
    return tuple(a for a in sphere(step) if not collides(a, clearance))


def sphere(step_deg: float) -> tuple[BeamAngles, ...]:
    """Directions over the whole sphere about ``step_deg`` apart, on rings around the patient's long axis.

    A ring at latitude φ holds the next whole number above ``360/step · cos φ``, the equator ``360/step``, the poles
    one each: 1,162 at 6°, the number of Sadeghnejad Barkousaraie et al., Med. Phys. 47, 880 (2020). The couch stays
    within ±90°.

    >>> len(sphere(6.0))
    1162
    """
    angles = []
    for ring in range(round(180 / step_deg) + 1):
        latitude = math.radians(-90 + ring * step_deg)
        count = min(round(360 / step_deg), math.floor(360 / step_deg * math.cos(latitude) + 1e-9) + 1)
        for k in range(count):
            longitude = 2 * math.pi * k / count
            # IEC fixed axes: X to the left of someone facing the gantry, Y along the patient, Z up.
            angles.append(
                angles_of(
                    np.array(
                        [
                            math.cos(latitude) * math.sin(longitude),
                            math.sin(latitude),
                            math.cos(latitude) * math.cos(longitude),
                        ]
                    )
                )
            )
    return tuple(angles)


def angles_of(source: NDArray[np.float64]) -> BeamAngles:
    """Gantry and couch (within ±90°) that put the source in a direction of the couch's system, a unit vector.

    With couch c the source lies at ``Rz(−c) Ry(g) ẑ = (cos c sin g, −sin c sin g, cos g)``.
    """
    x, y, z = source
    gantry, couch = math.degrees(math.acos(max(-1.0, min(1.0, z)))), math.degrees(math.atan2(-y, x))
    if math.hypot(x, y) < 1e-9:
        couch = 0.0
    elif couch > 90 + 1e-9:
        gantry, couch = 360 - gantry, couch - 180
    elif couch < -90 - 1e-9:
        gantry, couch = 360 - gantry, couch + 180
    return BeamAngles(round(gantry, 1), round(couch, 1))


def collides(angles: BeamAngles, clearance: Clearance) -> bool:
    """Whether the gantry head would touch the box that holds the couch and the patient.

    The head is a disk (its face) that faces the isocenter; points of the disk and of the rod behind it are tested.
    The box turns with the couch, so the head is seen from the couch's system.
    """
    couch = (angles.couch_deg + 180) % 360 - 180
    if abs(couch) > clearance.max_couch_deg:
        return True
    g, c = math.radians(angles.gantry_deg), math.radians(couch)
    axis = np.array([math.cos(c) * math.sin(g), -math.sin(c) * math.sin(g), math.cos(g)])
    side = np.array([math.cos(c) * math.cos(g), -math.sin(c) * math.cos(g), -math.sin(g)])
    across = np.cross(axis, side)
    turn = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    rim = np.cos(turn)[:, None] * side + np.sin(turn)[:, None] * across
    radii = np.linspace(0, clearance.head_radius_mm, 6)
    depth = clearance.head_distance_mm + np.linspace(0, clearance.head_radius_mm, 6)
    head = depth[:, None, None, None] * axis + radii[None, :, None, None] * rim
    x, y, z = np.moveaxis(head.reshape(-1, 3), 1, 0)
    inside = (np.abs(x) < clearance.half_width_mm) & (z < clearance.above_mm) & (z > -clearance.below_mm)
    return bool((inside & (np.abs(y) < clearance.half_length_mm)).any())


def excluded(angles: Sequence[BeamAngles], sectors_deg: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
    """Which gantry angles lie in sectors ``(from, to)``, clockwise, ends included, (n,)."""
    gantry = np.array([a.gantry_deg for a in angles])
    out = np.zeros(gantry.size, bool)
    for low, high in sectors_deg:
        out |= (gantry - low) % 360 <= (high - low) % 360
    return out


def check_enough(n_beams: int, n_selectable: int) -> None:
    """Refuse to choose more beams than there are candidates.

    Raises
    ------
    InputError
        If there are not enough.
    """
    if n_beams > n_selectable:
        raise InputError(
            f"{n_beams} beams are to be chosen, but no more than {n_selectable} candidates may be; "
            "ask for fewer, exclude less, lower the minimum separation or take candidates at smaller steps."
        )


def separations_deg(angles: Sequence[BeamAngles], other: BeamAngles) -> NDArray[np.float64]:
    """Angle between the central axes of beams and another one, degrees, (n,)."""
    return np.asarray(np.degrees(np.arccos(np.clip(axes_of(angles) @ axes_of([other])[0], -1, 1))))


def axes_of(angles: Sequence[BeamAngles]) -> NDArray[np.float64]:
    """Unit vectors from the isocenter to the sources, in the couch's system, (n, 3)."""
    gantry, couch = np.radians([(a.gantry_deg, a.couch_deg) for a in angles]).T
    return np.stack([np.cos(couch) * np.sin(gantry), -np.sin(couch) * np.sin(gantry), np.cos(gantry)], axis=1)


def fittest_by_gantry(
    candidates: Sequence[BeamAngles], fitness: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the gantry angles of candidates, increasing, and the fitness of the fittest with each.

    >>> fittest_by_gantry([BeamAngles(90.0), BeamAngles(10.0), BeamAngles(90.0, 30.0)], np.array([0.1, 0.2, 0.3]))
    (array([10., 90.]), array([0.2, 0.3]))
    """
    gantry, group = np.unique([round(c.gantry_deg, 6) for c in candidates], return_inverse=True)
    fittest = np.full(gantry.size, -np.inf)
    np.maximum.at(fittest, group, fitness)
    return gantry, fittest


def peaks_of(
    candidates: Sequence[BeamAngles], fitness: NDArray[np.floating], selectable: NDArray[np.bool_]
) -> tuple[int, ...]:
    """Find the candidates that are fitter than all others around them, the fittest first.

    Around a candidate are those whose central axes are within 15°, or, where candidates are farther apart, its
    neighbors. Of equally fit ones the first counts.

    Parameters
    ----------
    fitness : (n_candidates,)
    selectable : (n_candidates,) which of them may be chosen; the others are left aside

    Returns
    -------
    Their positions among the candidates

    Examples
    --------
    >>> candidates = [BeamAngles(10.0 * k) for k in range(36)]
    >>> fitness = np.cos(np.radians([2 * c.gantry_deg - 80 for c in candidates]))
    >>> peaks_of(candidates, fitness, np.ones(36, bool))
    (4, 22)
    """
    places = np.flatnonzero(selectable)
    if places.size == 0:
        return ()
    axes = axes_of(candidates)[places]
    separation = np.degrees(np.arccos(np.clip(axes @ axes.T, -1, 1)))
    np.fill_diagonal(separation, np.inf)
    near = separation <= np.maximum(_PEAK_DEG, 1.5 * separation.min(axis=1, keepdims=True))
    np.fill_diagonal(near, False)
    order = np.argsort(-np.asarray(fitness)[places], kind="stable")
    rank = np.empty(places.size, np.int64)
    rank[order] = np.arange(places.size)
    is_peak = rank < np.where(near, rank, places.size).min(axis=1)
    return tuple(int(places[i]) for i in order if is_peak[i])
