"""Planning configuration and site protocols, read from TOML or JSON; an unknown key is an error."""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from numbers import Real
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import cattrs

from deeprt.case import PatientCase
from deeprt.delivery.sequencing import SequencingSettings
from deeprt.errors import InputError
from deeprt.evaluation.criteria import Criterion
from deeprt.evaluation.normalization import Normalization
from deeprt.fluence.solvers import SolverSettings
from deeprt.fluence.specification import ObjectiveSpec
from deeprt.orientation.selection import SelectionMethod
from deeprt.orientation.teacher import CandidateSettings
from deeprt.roles import StructureChoice
from deeprt.structures import Role

T = TypeVar("T")
DEFAULT_MACHINE = "generic_6mv"


@dataclass(frozen=True)
class BeamSettings:
    """Which beams.

    Parameters
    ----------
    select : how angles are chosen where ``gantry_deg`` does not give them
    n_beams : to choose
    first_gantry_deg : of equispaced beams
    start_gantry_deg : coplanar beams that the selection goes on from
    gantry_deg, couch_deg : IEC 61217 angles, one a beam; couch 0 for all if empty
    n_kept : first of these beams that a search with the exact objective leaves as they are
    collimator_deg : of all beams
    """

    select: SelectionMethod = "equispaced"
    n_beams: int = 7
    first_gantry_deg: float = 0.0
    start_gantry_deg: tuple[float, ...] = ()
    gantry_deg: tuple[float, ...] = ()
    couch_deg: tuple[float, ...] = ()
    n_kept: int = 0
    collimator_deg: float = 0.0

    def __post_init__(self) -> None:
        if self.n_beams < 1:
            raise InputError(f"The number of beams must be at least 1, got {self.n_beams}.")
        if self.n_kept < 0:
            raise InputError(f"The number of beams that are kept must not be negative, got {self.n_kept}.")
        if not all(math.isfinite(angle) for angle in (*self.gantry_deg, *self.start_gantry_deg)):
            raise InputError(f"Gantry angles must be finite, got {[*self.gantry_deg, *self.start_gantry_deg]}.")
        if self.couch_deg and len(self.couch_deg) != len(self.gantry_deg):
            n_gantry, n_couch = len(self.gantry_deg), len(self.couch_deg)
            raise InputError(f"Give one couch angle a beam; there are {n_gantry} gantry and {n_couch} couch angles.")


@dataclass(frozen=True)
class FluenceSettings:
    """How fluence is found.

    Parameters
    ----------
    method : optimize, or a network's prediction from a wished dose, without inverse planning
    network : file of the network that predicts; the shipped one if None
    n_refinements : iterations that pull the dose of a prediction to the wished one
    wished : whether the dose that a network predicts from comes from a quick optimization, is predicted from contours
        by another network, or is given together with the case
    dose_network : file of the network that predicts the wished dose; the shipped one that fits the case if None
    quick : optimization of the wished dose
    beamlet_width_mm : along leaf travel
    margin_mm : around the targets, at the isocenter plane, within which beamlets are open
    smoothness : objective weight, Gy², of the mean squared relative difference between neighboring beamlets
    background_share : of the patient's voxels outside targets, organs and tuning structures that take part
    solver : of the optimization
    """

    method: Literal["optimize", "network"] = "optimize"
    network: str | None = None
    n_refinements: int = 0
    wished: Literal["optimize", "predict", "given"] = "optimize"
    dose_network: str | None = None
    beamlet_width_mm: float = 2.5
    margin_mm: float = 5.0
    smoothness: float = 500.0
    background_share: float = 0.1
    solver: SolverSettings = SolverSettings(max_iterations=200, tolerance=1e-4)
    quick: SolverSettings = SolverSettings(max_iterations=40, tolerance=1e-3)

    def __post_init__(self) -> None:
        if self.beamlet_width_mm <= 0 or min(self.margin_mm, self.smoothness, self.n_refinements) < 0:
            raise InputError(
                "Fluence: beamlet_width_mm must be positive, margin_mm, smoothness and n_refinements not negative."
            )
        if not 0 < self.background_share <= 1:
            raise InputError(f"Fluence: background_share must lie above 0 and up to 1, got {self.background_share:g}.")


@dataclass(frozen=True)
class Protocol:
    """What a treatment site usually asks for.

    Parameters
    ----------
    name : shown in reports
    organs : TG-263 names; the protocol is proposed for a case that has them all
    dose_per_fraction_gy : usual one, from which the number of fractions follows if ``n_fractions`` is not given
    dose_per_fraction_range_gy : the goals hold for, low and high
    n_fractions : usual number
    prescription_gy : of a target whose name states none
    objectives, goals : of the plan
    normalization : usual one
    """

    name: str
    organs: tuple[str, ...] = ()
    dose_per_fraction_gy: float = 2.0
    dose_per_fraction_range_gy: tuple[float, ...] = (0.0, 100.0)
    n_fractions: int | None = None
    prescription_gy: float | None = None
    objectives: tuple[ObjectiveSpec, ...] = ()
    goals: tuple[Criterion, ...] = ()
    normalization: Normalization = Normalization()


@dataclass(frozen=True)
class PlanningConfig:
    """Everything a plan depends on besides the case.

    Parameters
    ----------
    machine : name of a shipped machine, or a machine file; None plans for `DEFAULT_MACHINE`
    dose_grid_mm : voxel size of the case's grid; None keeps the CT's own
    n_fractions : of the course; from the protocol if None
    protocol : name of a shipped protocol or a file; chosen by the organs of the case if None
    hu_table : CSV file of the CT scanner's calibration; the generic one if None
    series, structure_set : UID, or its ending, of the CT series and the structure set to read
    water_equivalent : whether to make a body of water from a structure set without CT
    prescription_gy : whole-course dose by target
    structures : roles, TG-263 organs, prescriptions and densities that the user sets, by structure
    selection : candidates and organ weights of column generation
    objectives, goals, normalization : instead of the protocol's, if given
    device : auto, cpu or cuda
    seed : of every random choice
    """

    machine: str | None = None
    dose_grid_mm: float | None = 3.0
    n_fractions: int | None = None
    protocol: str | None = None
    hu_table: str | None = None
    series: str | None = None
    structure_set: str | None = None
    water_equivalent: bool = False
    prescription_gy: Mapping[str, float] = field(default_factory=dict)
    structures: Mapping[str, StructureChoice] = field(default_factory=dict)
    beams: BeamSettings = BeamSettings()
    selection: CandidateSettings = CandidateSettings()
    fluence: FluenceSettings = FluenceSettings()
    sequencing: SequencingSettings = SequencingSettings()
    normalization: Normalization | None = None
    objectives: tuple[ObjectiveSpec, ...] = ()
    goals: tuple[Criterion, ...] = ()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dose_grid_mm is not None and not 1 <= self.dose_grid_mm <= 10:
            raise InputError(f"The dose grid must be 1 to 10 mm, got {self.dose_grid_mm:g} mm.")
        if self.n_fractions is not None and self.n_fractions < 1:
            raise InputError(f"The number of fractions must be at least 1, got {self.n_fractions}.")

    def structure_choices(self) -> dict[str, StructureChoice]:
        """What the user set for structures, prescriptions included."""
        choices = dict(self.structures)
        for name, dose in self.prescription_gy.items():
            if not dose > 0:
                raise InputError(f"The prescription of '{name}' must be positive, got {dose:g} Gy.")
            choices[name] = dataclasses.replace(choices.get(name, StructureChoice()), prescription_gy=float(dose))
        return choices


def read_config(path: Path) -> PlanningConfig:
    """Read a configuration from TOML or JSON.

    Raises
    ------
    InputError
        If the file cannot be read, has an unknown key (the known ones are named) or a value of the wrong kind.
    """
    return read_settings(PlanningConfig, path)


def read_settings(kind: type[T], path: Path) -> T:
    """Read a frozen dataclass of settings from TOML or JSON; as `read_config`."""
    return from_plain(kind, _load(path), str(path))


def protocol_names() -> tuple[str, ...]:
    """Names of the protocols that ship with the package."""
    folder = resources.files("deeprt") / "data" / "protocols"
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")))


def read_protocol(name_or_file: str) -> Protocol:
    """Read a shipped protocol by name, or a protocol file.

    Raises
    ------
    InputError
        As `read_config`.
    """
    if name_or_file in protocol_names():
        text = (resources.files("deeprt") / "data" / "protocols" / f"{name_or_file}.toml").read_text(encoding="utf-8")
        return from_plain(Protocol, tomllib.loads(text), name_or_file)
    path = Path(name_or_file)
    if not path.is_file():
        known = ", ".join(protocol_names())
        raise InputError(f"No protocol '{name_or_file}': it is neither a file nor one of {known}.")
    return from_plain(Protocol, _load(path), str(path))


def propose_protocol(case: PatientCase, n_fractions: int | None) -> Protocol:
    """Choose the shipped protocol whose organs the case has and whose dose per fraction fits; else the generic one.

    Of several, the one that names most organs.
    """
    present = {s.organ for s in case.structures} | {s.name for s in case.structures}
    shipped = [read_protocol(name) for name in protocol_names()]
    fitting = [p for p in shipped if p.organs and set(p.organs) <= present]
    highest = max((t.prescription_gy or 0.0 for t in case.targets), default=0.0)
    if highest and n_fractions:
        per_fraction = highest / n_fractions
        low_high = [(p, p.dose_per_fraction_range_gy) for p in fitting]
        fitting = [p for p, (low, high) in low_high if low <= per_fraction <= high]
    return max(fitting, key=lambda p: len(p.organs), default=read_protocol("generic"))


def from_plain(kind: type[T], data: Mapping[str, Any], origin: str) -> T:
    """Build a frozen dataclass from plain data, strictly.

    Raises
    ------
    InputError
        Naming the origin, the place in it, and for an unknown key the known ones.
    """
    try:
        return _strict_converter().structure(data, kind)
    except cattrs.BaseValidationError as error:
        what, _, place = cattrs.transform_error(error, format_exception=_one_sentence)[0].rpartition(" @ $")
        where = f"{origin}, {place.removeprefix('.')}" if place else origin
        raise InputError(f"{where}: {what.rstrip('.')}.") from error


@cache
def _strict_converter() -> cattrs.Converter:
    """Refuses unknown keys and takes values as they are: by itself, cattrs makes 2 of 2.5, and 1 of true."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook(bool, lambda v, _: _one_of(v, (True, False)))
    converter.register_structure_hook(int, lambda v, _: _checked(v, int, "a whole number"))
    converter.register_structure_hook(float, lambda v, _: _finite(_checked(v, Real, "a number")))
    converter.register_structure_hook(str, lambda v, _: _checked(v, str, "text"))
    converter.register_structure_hook(Role, lambda v, _: Role(_one_of(v, tuple(Role))))
    converter.register_structure_hook_func(_is_literal, lambda v, t: _one_of(v, get_args(t)))
    return converter


def _checked(value: Any, kind: type, description: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"expected {description}, got {value!r}")
    return value


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise InputError(f"expected a finite number, got {value}")
    return float(value)


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _one_of(value: Any, known: tuple[Any, ...]) -> Any:
    if value not in known or isinstance(value, bool) != isinstance(known[0], bool):
        raise InputError(f"expected one of {', '.join(str(k) for k in known)}, got {value!r}")
    return value


def _one_sentence(error: BaseException, kind: type | None) -> str:
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        known = ", ".join(f.name for f in dataclasses.fields(error.cl))
        return f"unknown key '{', '.join(sorted(error.extra_fields))}' (known are {known})"
    if isinstance(error, KeyError):
        return f"key {error} is missing"
    return str(error) if isinstance(error, ValueError) else "a value of the wrong kind"


def to_plain(config: PlanningConfig) -> dict[str, Any]:
    """Make plain data of a configuration that TOML and JSON can hold; what is None is left out."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items() if v is not None}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return str(value) if isinstance(value, Role) else value

    return dict(plain(dataclasses.asdict(config)))


def _load(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise InputError(f"Cannot read '{path}': {error.strerror}.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"'{path}' is not valid {'JSON' if path.suffix == '.json' else 'TOML'}: {error}.") from error
    if not isinstance(content, dict):
        raise InputError(f"'{path}' must hold a table of settings.")
    return content
