"""Fluence maps to compare those of a plan with, and pictures of both."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeprt.beams import Beam
from deeprt.dicom.eclipse_fluence import SUFFIX
from deeprt.errors import InputError
from deeprt_mrml.fluence_images import MapKind, fluence_of_plan, remove_fluence, show_fluence
from deeprt_mrml.fluence_results import fluence_beams, fluence_maps
from deeprt_mrml.other_plans import fluence_of_eclipse_files, fluence_of_plan_file
from deeprt_mrml.session import PlanSession
from deeprt_mrml.thumbnails import write_difference_strip, write_fluence_strip

Maps = tuple[NDArray[np.float64], ...]


class FluenceReferences:
    """Reference maps of the plan in work, on the beamlets of its own; they and the differences lie in the scene."""

    def __init__(self, session: PlanSession) -> None:
        self._session = session

    def maps(self) -> Maps:
        """Reference maps, (n_rows, n_cols) MU per fraction; none unless there is one for each beam."""
        plan = self._session.plan
        if plan is None:
            return ()
        return fluence_of_plan(self._session.scene, plan.key, fluence_beams(plan), kind=MapKind.REFERENCE)

    def set_maps(self, maps: Sequence[NDArray[np.floating]]) -> None:
        """Compare with other maps, one a beam of its beamlets; with none if there are none.

        Raises
        ------
        InputError
            If there is no fluence to compare with yet, or the maps are not of its beams.
        """
        plan = self._session.current_plan
        if not maps:
            remove_fluence(self._session.scene, plan.key, MapKind.REFERENCE)
        elif [m.shape for m in maps] != [b.open_beamlets.shape for b in self._beams()]:
            raise InputError("The reference maps are not of this plan's beamlets; read them anew.")
        else:
            show_fluence(self._session.scene, plan.key, self._beams(), maps, kind=MapKind.REFERENCE)
        self.update()

    def read(self, path: Path) -> tuple[str, ...]:
        """Compare with the fluence that an RTPLAN delivers, or with Varian's fluence files.

        Parameters
        ----------
        path : RTPLAN file, or one of the fluence files of a folder, which are the beams' in the order of their numbers

        Returns
        -------
        What was assumed, one sentence each
        """
        beams = self._beams()
        notes: tuple[str, ...] = ()
        if path.suffix == SUFFIX:
            files = sorted(path.parent.glob(f"*{SUFFIX}"), key=_by_number)
            maps = fluence_of_eclipse_files(files, beams)
        else:
            case = self._session.prepared().case
            maps, notes = fluence_of_plan_file(path, case, beams, self._session.machine())
        self.set_maps(maps)
        return notes

    def update(self) -> None:
        """Show the plan's maps minus the references, on one scale, after either changed."""
        plan, scene = self._session.current_plan, self._session.scene
        own, reference = fluence_maps(plan), self.maps()
        if not (own and reference):
            for kind in (MapKind.REFERENCE, MapKind.DIFFERENCE):  # references of beams that are gone
                remove_fluence(scene, plan.key, kind)
            return
        top_mu = max(float(m.max()) for m in (*own, *reference))
        beams = self._beams()
        show_fluence(scene, plan.key, beams, own, top_mu=top_mu)
        show_fluence(scene, plan.key, beams, reference, kind=MapKind.REFERENCE, top_mu=top_mu)
        show_fluence(scene, plan.key, beams, _differences(own, reference), kind=MapKind.DIFFERENCE)

    def write_thumbnails(self, path: Path, *, n_columns: int = 9) -> bool:
        """Write a picture of the plan's maps, and beside it one of the differences (`difference_file`).

        Parameters
        ----------
        n_columns : maps in a row

        Returns
        -------
        Whether there are maps; without, nothing is written

        Raises
        ------
        InputError
            If a file cannot be written.
        """
        plan = self._session.plan
        own = () if plan is None else fluence_maps(plan)
        try:
            difference_file(path).unlink(missing_ok=True)
            if plan is None or not own:
                return False
            beams, reference = fluence_beams(plan), self.maps()
            top_mu = max(float(m.max()) for m in (*own, *reference))
            write_fluence_strip(path, beams, own, top_mu=top_mu, n_columns=n_columns)
            if reference:
                differences = _differences(own, reference)
                write_difference_strip(difference_file(path), beams, differences, n_columns=n_columns)
        except OSError as error:
            raise InputError(f"Cannot write the picture '{path}': {error.strerror}.") from error
        return True

    def _beams(self) -> tuple[Beam, ...]:
        beams = fluence_beams(self._session.current_plan)
        if not beams:
            raise InputError("Predict or optimize the fluence first; then there are beamlets to compare on.")
        return beams


def difference_file(path: Path) -> Path:
    """Where the picture of differences lies that belongs to one of maps."""
    return path.with_name(f"{path.stem}_difference{path.suffix}")


def _differences(own: Maps, reference: Maps) -> Maps:
    return tuple(a - b for a, b in zip(own, reference, strict=True))


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Order in which 2 comes before 10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", path.name)]
