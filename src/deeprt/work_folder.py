"""The folder in which a planning session and the processes that work for it exchange files.

| File | What it holds |
|---|---|
| ``case.npz`` | the case as it is planned |
| ``images.npz`` | the case on its CT's own grid, to export one without DICOM identity or structure set |
| ``plan.toml`` | the configuration, angles of the beams included |
| ``wished.npz`` | dose to mimic |
| ``fluence.npz`` | ideal fluence and its dose |
| ``segments.json`` | what is delivered |
| ``dose.npz`` | its dose |
| ``beams.json`` | a choice of beams, as ``deeprt beams`` writes it |
| ``comparison.npz`` | how the dose differs from the wished one |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import cattrs
import numpy as np
import tomli_w
from numpy.typing import NDArray

from deeprt.beams import BeamAngles, BeamSelection
from deeprt.case import PatientCase
from deeprt.case_file import read_case_file, read_case_grid, write_case_file
from deeprt.config import PlanningConfig, read_config, to_plain
from deeprt.delivery.segments import DeliverablePlan
from deeprt.errors import InputError
from deeprt.evaluation.compare import DoseComparison, GammaCriterion, GammaResult
from deeprt.files import read_arrays, write_arrays, write_whole
from deeprt.fluence.solution import FluenceSolution
from deeprt.geometry import Grid

CASE, IMAGES, CONFIG, WISHED = "case.npz", "images.npz", "plan.toml", "wished.npz"
FLUENCE, SEGMENTS, DOSE = "fluence.npz", "segments.json", "dose.npz"
BEAMS, COMPARISON = "beams.json", "comparison.npz"
_MADE_BY = {
    FLUENCE: "deeprt step fluence",
    SEGMENTS: "deeprt step segments",
    DOSE: "deeprt step dose",
    BEAMS: "deeprt beams",
    COMPARISON: "deeprt step compare",
}
_SAME_PLACE = 1e-6  # mm; matrices of one grid differ by rounding at most
_WRONG = (KeyError, TypeError, ValueError, AttributeError, IndexError, cattrs.BaseValidationError)

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class ComparisonNumbers:
    """How a dose differs from the wished one.

    Parameters
    ----------
    difference_gy : (n_k, n_j, n_i) float32, dose minus wished dose, whole course
    gammas : one a criterion
    """

    difference_gy: NDArray[np.float32]
    gammas: tuple[GammaResult, ...]


class WorkFolder:
    """Files of one plan in work; each is whole or not there. The folder is made when something is written.

    All methods raise `InputError`: writers if a file cannot be written, readers if one is missing, which names what
    makes it, damaged, or of another grid than the case.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write_case(self, case: PatientCase) -> None:
        """Write the case as it is to be planned."""
        with self._writing(CASE) as file:
            write_case_file(case, file)

    def read_case(self) -> PatientCase:
        """Read the case."""
        return read_case_file(self._there(CASE))

    def write_images(self, case: PatientCase) -> None:
        """Write the case on its CT's own grid."""
        with self._writing(IMAGES) as file:
            write_case_file(case, file)

    def read_images(self) -> PatientCase | None:
        """Read the case on its CT's own grid, if it is there."""
        file = self.path / IMAGES
        return read_case_file(file) if file.exists() else None

    def write_config(self, config: PlanningConfig) -> None:
        """Write the configuration."""
        with self._writing(CONFIG) as file:
            write_whole(file, tomli_w.dumps(to_plain(config)))

    def read_config(self) -> PlanningConfig:
        """Read the configuration."""
        return read_config(self._there(CONFIG))

    def write_wished(self, dose_gy: NDArray[np.float32], grid: Grid) -> None:
        """Write the dose to mimic, (n_k, n_j, n_i), whole course, and the grid it is on."""
        with self._writing(WISHED) as file:
            write_arrays(file, {"dose_gy": dose_gy, "index_to_lps": grid.index_to_lps}, compressed=False)

    def remove_wished(self) -> None:
        """Remove the dose to mimic, if there is one."""
        with self._writing(WISHED) as file:
            file.unlink(missing_ok=True)

    def read_wished(self) -> NDArray[np.float32] | None:
        """Read the dose to mimic, (n_k, n_j, n_i), whole course, if there is one."""
        if not (self.path / WISHED).exists():
            return None

        def wished(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
            grid = read_case_grid(self._there(CASE))
            if np.abs(arrays["index_to_lps"] - grid.index_to_lps).max() > _SAME_PLACE:
                raise ValueError("its voxels lie elsewhere than those of the case")
            return self._dose_of(arrays)

        return self._read(WISHED, wished)

    def write_fluence(self, solution: FluenceSolution) -> None:
        """Write fluence, one map a beam, and its dose."""
        about = {
            "n_beams": len(solution.fluence_mu),
            "objective": solution.objective,
            "history": solution.history,
            "converged": solution.converged,
            "source": solution.source,
            "notes": solution.notes,
        }
        arrays = {"about": json.dumps(about), "dose_gy": solution.dose_gy}
        arrays |= {f"fluence_mu_{n}": fluence for n, fluence in enumerate(solution.fluence_mu)}
        with self._writing(FLUENCE) as file:
            write_arrays(file, arrays, compressed=False)

    def read_fluence(self) -> FluenceSolution:
        """Read fluence and its dose."""

        def solution(arrays: Mapping[str, NDArray[Any]]) -> FluenceSolution:
            about = json.loads(str(arrays["about"]))
            return FluenceSolution(
                fluence_mu=tuple(arrays[f"fluence_mu_{n}"] for n in range(about["n_beams"])),
                dose_gy=self._dose_of(arrays),
                objective=about["objective"],
                history=tuple(about["history"]),
                converged=about["converged"],
                source=about["source"],
                notes=tuple(about["notes"]),
            )

        return self._read(FLUENCE, solution)

    def write_segments(self, plan: DeliverablePlan) -> None:
        """Write what is delivered."""
        with self._writing(SEGMENTS) as file:
            write_whole(file, plan_to_json(plan) + "\n")

    def read_segments(self) -> DeliverablePlan:
        """Read what is delivered."""
        file = self._there(SEGMENTS)
        try:
            return plan_from_json(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _damaged(file, error) from error

    def write_dose(self, dose_gy: NDArray[np.float32]) -> None:
        """Write the dose of what is delivered, (n_k, n_j, n_i), whole course."""
        with self._writing(DOSE) as file:
            write_arrays(file, {"dose_gy": dose_gy}, compressed=False)

    def read_dose(self) -> NDArray[np.float32]:
        """Read the dose of what is delivered, (n_k, n_j, n_i), whole course."""
        return self._read(DOSE, self._dose_of)

    def read_selection(self) -> BeamSelection:
        """Read a choice of beams that ``deeprt beams`` made."""
        file = self._there(BEAMS)
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            candidates = tuple(BeamAngles(**a) for a in content["candidates"])
            return BeamSelection(
                candidates=candidates,
                chosen=tuple(candidates.index(BeamAngles(**a)) for a in content["chosen"]),
                fitness=np.array(content["fitness"], np.float32).reshape(-1, len(candidates)),
                objectives=tuple(content["objectives"]),
                n_given=content["n_given"],
                source=content["source"],
                timing_s=content["timing_s"],
                notes=tuple(content["notes"]),
            )
        except (OSError, *_WRONG) as error:
            raise _damaged(file, error) from error

    def write_comparison(self, comparison: DoseComparison) -> None:
        """Write difference and gamma of the dose against the wished one."""
        numbers = [
            {**vars(g.criterion), "pass_rate": g.pass_rate, "mean": g.mean, "n_voxels": g.n_voxels}
            for g in comparison.gamma
        ]
        arrays = {"about": json.dumps(numbers), "difference_gy": comparison.difference_gy}
        arrays |= {f"gamma_{n}": g.gamma for n, g in enumerate(comparison.gamma)}
        with self._writing(COMPARISON) as file:
            write_arrays(file, arrays, compressed=False)

    def read_comparison(self) -> ComparisonNumbers:
        """Read how the dose differs from the wished one."""

        def numbers(arrays: Mapping[str, NDArray[Any]]) -> ComparisonNumbers:
            gammas = tuple(
                GammaResult(
                    GammaCriterion(g["dose_percent"], g["distance_mm"]),
                    arrays[f"gamma_{n}"],
                    g["pass_rate"],
                    g["mean"],
                    g["n_voxels"],
                )
                for n, g in enumerate(json.loads(str(arrays["about"])))
            )
            return ComparisonNumbers(arrays["difference_gy"], gammas)

        return self._read(COMPARISON, numbers)

    def _dose_of(self, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Dose among a file's arrays, which must be on the case's grid."""
        dose_gy, shape = arrays["dose_gy"], read_case_grid(self._there(CASE)).shape
        if dose_gy.shape != shape:
            raise ValueError(f"its dose has {dose_gy.shape} voxels, the case {shape}")
        return dose_gy

    def _there(self, name: str) -> Path:
        """Path of a file that must be there."""
        file = self.path / name
        if not file.exists():
            remedy = f"; {_MADE_BY[name]} makes it" if name in _MADE_BY else ""
            raise InputError(f"There is no '{file}'{remedy}.")
        return file

    @contextmanager
    def _writing(self, name: str) -> Iterator[Path]:
        file = self.path / name
        try:
            yield file
        except OSError as error:
            raise InputError(f"Cannot write '{file}': {error.strerror}.") from error

    def _read(self, name: str, made_of: Callable[[Mapping[str, NDArray[Any]]], T]) -> T:
        """What a file of arrays holds."""
        file = self._there(name)
        arrays = read_arrays(file)
        try:
            return made_of(arrays)
        except InputError:
            raise
        except _WRONG as error:
            raise _damaged(file, error) from error


def plan_to_json(plan: DeliverablePlan) -> str:
    """Write a plan as JSON without any loss, its machine included: the plan is for it, whatever becomes of its file."""
    return json.dumps(_converter().unstructure(plan), allow_nan=False)


def plan_from_json(text: str) -> DeliverablePlan:
    """Read a plan of `plan_to_json`.

    Raises
    ------
    InputError
        If the text is not one.
    """
    try:
        return _converter().structure(json.loads(text), DeliverablePlan)
    except _WRONG as error:
        raise InputError(f"The segments cannot be read ({_first(error)}); sequence the fluence anew.") from error


def _converter() -> cattrs.Converter:
    """Takes arrays for lists of numbers; refuses unknown keys."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_unstructure_hook_func(_is_array, lambda array: array.tolist())
    converter.register_structure_hook_func(
        _is_array, lambda values, kind: np.array(values, get_args(get_args(kind)[1])[0])
    )
    return converter


def _is_array(kind: Any) -> bool:
    return get_origin(kind) is np.ndarray


def _first(error: BaseException) -> str:
    """What went wrong first."""
    if isinstance(error, cattrs.BaseValidationError):
        return cattrs.transform_error(error)[0]
    return f"{type(error).__name__}: {error}".rstrip(".")


def _damaged(file: Path, error: BaseException) -> InputError:
    remedy = f"make it anew with {_MADE_BY[file.name]}" if file.name in _MADE_BY else "write it anew"
    return InputError(f"'{file}' cannot be used ({_first(error)}); {remedy}.")
