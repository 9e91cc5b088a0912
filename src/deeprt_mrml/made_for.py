"""What results of a plan hang on, as text and numbers in its node, to tell whether a result is still the plan's.

Numbers that a saved scene rounds, or that follow from such numbers, are compared with a tolerance.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray

from deeprt.beams import BeamAngles
from deeprt.case import PatientCase
from deeprt.config import DEFAULT_MACHINE, FluenceSettings
from deeprt.geometry import Grid
from deeprt_mrml.coordinates import grid_of
from deeprt_mrml.session import PlanSession, Prepared
from deeprt_mrml.volumes import array_of, stamp_of_volume

# Scenes keep images exactly and matrices with six digits or more.
_RELATIVE, _ABSOLUTE = 1e-6, 2e-5


class Inputs:
    """What results of the plan in work would be made for now. Asking is quick unless patient or volumes changed.

    All methods raise `InputError` if nodes and settings do not make a case, or a volume has no place or no voxels.
    """

    def __init__(self, session: PlanSession) -> None:
        self._session = session
        self._of_case: tuple[Prepared, list[Any]] | None = None
        self._of_volumes: dict[str, tuple[object, list[Any]]] = {}  # by node ID

    def of_fluence(self, angles: Sequence[BeamAngles], settings: FluenceSettings) -> dict[str, Any]:
        """What fluence of beams hangs on, by name of part; a wished dose that is given apart."""
        config = self._session.current_plan.config
        return {
            "CT or structures": self._case(),
            "beams": [[[a.gantry_deg, a.couch_deg] for a in angles], config.beams.collimator_deg],
            "machine": config.machine or DEFAULT_MACHINE,
            "fluence settings": self._fluence_settings(settings),
        }

    def of_volume(self, node: slicer.vtkMRMLScalarVolumeNode | None) -> list[Any] | None:
        """Values and place of a volume."""
        if node is None:
            return None
        stamp, kept = stamp_of_volume(node), self._of_volumes.get(node.GetID())
        if kept is None or kept[0] != stamp:
            kept = self._of_volumes[node.GetID()] = stamp, numbers_of_volume(array_of(node), grid_of(node))
        return kept[1]

    def _case(self) -> list[Any]:
        prepared = self._session.prepared()
        if self._of_case is None or self._of_case[0] is not prepared:
            self._of_case = prepared, numbers_of_case(prepared.case)
        return self._of_case[1]

    def _fluence_settings(self, used: FluenceSettings) -> str:
        config = self._session.current_plan.config
        if used.method == "optimize":
            unused = FluenceSettings()
            used = replace(
                used, network=unused.network, n_refinements=unused.n_refinements, wished=unused.wished,
                dose_network=unused.dose_network, quick=unused.quick,
            )  # fmt: skip
        objectives = config.objectives or self._session.prepared().protocol.objectives
        is_optimized = used.method == "optimize" or used.wished == "optimize"
        return settings_text(used, objectives if is_optimized else (), config.seed)


def changed_part(kept: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """First part of what a result was made for that is no longer as it was; empty if all is."""
    return next((part for part, value in now.items() if not _same(kept.get(part), value)), "")


def numbers_of_case(case: PatientCase) -> list[Any]:
    """What tells a case from another one: grid, position, fractions, calibration, and sums over CT and structures."""
    structures = [
        [s.name, str(s.role), s.organ, s.prescription_gy, s.density, float(s.fraction.sum(dtype=np.float64)),
         *(s.centroid_index().tolist() if s.fraction.any() else [])]
        for s in case.structures
    ]  # fmt: skip
    table = [case.hu_table.name, case.hu_table.hu.tolist(), case.hu_table.density.tolist()]
    return [case.position, case.n_fractions, table, *numbers_of_volume(case.ct_hu, case.grid), structures]


def numbers_of_volume(values: NDArray[np.float32], grid: Grid) -> list[Any]:
    """What tells a volume from another one: its grid, and mean, mean square and first moments of its values."""
    wide = values.astype(np.float64)
    moments = [float(wide.mean()), float(np.square(wide).mean())]
    for axis, n in enumerate(values.shape):
        profile = wide.mean(axis=tuple(a for a in range(3) if a != axis))
        moments.append(float(profile @ np.linspace(0, 1, n)) / n)
    return [list(grid.shape), grid.index_to_lps.tolist(), moments]


def digest_of_maps(maps: Sequence[NDArray[np.floating]]) -> str:
    """What tells fluence maps from others, as volumes keep them."""
    digest = hashlib.blake2b(digest_size=16)
    for each in maps:
        digest.update(np.ascontiguousarray(each, np.float32).tobytes())
    return digest.hexdigest()


def settings_text(*settings: Any) -> str:
    """Settings, frozen dataclasses or tuples of them, as text that is compared as it is."""
    return json.dumps(settings, default=lambda s: asdict(s))


def _same(kept: Any, now: Any) -> bool:
    if isinstance(kept, list) and isinstance(now, list):
        return len(kept) == len(now) and all(_same(a, b) for a, b in zip(kept, now, strict=True))
    if isinstance(kept, float) and isinstance(now, float):
        return math.isclose(kept, now, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
    return bool(kept == now)
