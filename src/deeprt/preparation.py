"""Before planning: load the case, settle protocol, prescriptions and fractions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeprt.case import PatientCase, with_tuning_structures
from deeprt.case_file import is_case_file, read_case_file
from deeprt.cohort.openkbp import is_openkbp, read_openkbp
from deeprt.cohort.virtual_patient import VirtualPatientSettings, virtual_prostate
from deeprt.config import DEFAULT_MACHINE, PlanningConfig, Protocol, propose_protocol, read_protocol
from deeprt.density import with_densities
from deeprt.dicom.read import ReadOptions, read_case, read_hu_table
from deeprt.errors import InputError
from deeprt.evaluation.criteria import Criterion
from deeprt.evaluation.normalization import Normalization
from deeprt.geometry import Grid
from deeprt.machine import Machine
from deeprt.machine_file import read_machine
from deeprt.progress import Progress, Silent
from deeprt.roles import RoleProposal, with_choices
from deeprt.structures import Role, Structure

VIRTUAL_PROSTATE, VIRTUAL_WATER = "virtual:prostate", "virtual:water"
_WATER_MM, _WATER_TARGET_MM, _WATER_GY = 400.0, 40.0, 2.0  # edges of the cubes, and the target's prescription


def load_case(
    source: str, config: PlanningConfig, progress: Progress | None = None, *, needs_target: bool = True
) -> PatientCase:
    """Read a case from DICOM, NRRD, NIfTI or OpenKBP, or make the one named ``virtual:prostate`` or ``virtual:water``.

    A case file of `deeprt.case_file` is on the grid that it is to be planned on, and keeps it. Without ``needs_target``
    a case that is only to be computed or evaluated may lack one.
    """
    if source == VIRTUAL_WATER:
        return _with_choices(water_phantom(config.dose_grid_mm or 3.0), config)
    if source == VIRTUAL_PROSTATE:
        settings = VirtualPatientSettings(spacing_mm=config.dose_grid_mm or 3.0)
        return _with_choices(virtual_prostate(np.random.default_rng(config.seed), settings), config)
    if source.startswith("virtual:"):
        raise InputError(f"There is no virtual patient '{source}'; use {VIRTUAL_PROSTATE} or {VIRTUAL_WATER}.")
    if is_case_file(Path(source)):
        return _kept_case(Path(source), config)
    if is_openkbp(Path(source)):
        return _openkbp_case(Path(source), config)
    options = ReadOptions(
        spacing_mm=config.dose_grid_mm,
        series_uid=config.series,
        structure_set_uid=config.structure_set,
        structures=config.structure_choices(),
        water_equivalent=config.water_equivalent,
        needs_target=needs_target,
    )
    if config.hu_table is not None:
        options = replace(options, hu_table=read_hu_table(Path(config.hu_table)))
    return read_case(Path(source), options, progress or Silent())


def _openkbp_case(path: Path, config: PlanningConfig) -> PatientCase:
    case = read_openkbp(path)
    if config.hu_table is not None:
        case = replace(case, hu_table=read_hu_table(Path(config.hu_table)))
    if config.dose_grid_mm is not None:
        case = case.resampled(config.dose_grid_mm)
    return _with_choices(case, config)


def _kept_case(path: Path, config: PlanningConfig) -> PatientCase:
    """Case of a case file, on its own grid; notes that it has are not given twice."""
    case = read_case_file(path)
    if config.hu_table is not None:
        case = replace(case, hu_table=read_hu_table(Path(config.hu_table)))
    case = _with_choices(case, config)
    return replace(case, notes=tuple(dict.fromkeys(case.notes)))


def water_phantom(spacing_mm: float) -> PatientCase:
    """Make a cube of water with edges of 40 cm around the origin and a cubic target of 4 cm in its middle."""
    grid = Grid.axial((1, 1, 1), _WATER_MM, 0.0).resampled(spacing_mm)

    def cube(edge_mm: float) -> NDArray[np.float32]:
        center = (np.arange(grid.shape[0]) - (grid.shape[0] - 1) / 2) * spacing_mm
        inside = np.minimum(center + spacing_mm / 2, edge_mm / 2) - np.maximum(center - spacing_mm / 2, -edge_mm / 2)
        share = (np.clip(inside, 0, spacing_mm) / spacing_mm).astype(np.float32)
        return np.asarray(share[:, None, None] * share[:, None] * share)

    structures = (
        Structure("BODY", Role.EXTERNAL, cube(_WATER_MM)),
        Structure("Target", Role.TARGET, cube(_WATER_TARGET_MM), _WATER_GY),
    )
    return PatientCase("water", "HFS", grid, np.zeros(grid.shape, np.float32), structures, 1)


@dataclass(frozen=True, eq=False)
class PlanningTask:
    """A case and all that is settled before it is planned.

    Parameters
    ----------
    config, protocol, machine : what is asked for, and what it means
    case : with prescriptions, fractions and tuning structures
    notes : what was assumed, one sentence each
    """

    config: PlanningConfig
    protocol: Protocol
    machine: Machine
    case: PatientCase
    notes: tuple[str, ...]

    @property
    def normalization(self) -> Normalization:
        """Rule of the configuration, else that of the protocol."""
        return self.config.normalization or self.protocol.normalization

    @property
    def goals(self) -> tuple[Criterion, ...]:
        """Goals of the configuration, else those of the protocol."""
        return self.config.goals or self.protocol.goals

    def factor(self, dose_gy: NDArray[np.float32], wished_gy: NDArray[np.float32] | None) -> float:
        """What a dose, (n_k, n_j, n_i) whole course, must be multiplied with; as `Normalization.factor`."""
        return self.normalization.factor(self.case, dose_gy, wished_gy)


def prepared(case: PatientCase, config: PlanningConfig) -> PlanningTask:
    """Settle machine, protocol, prescriptions and fractions, and add tuning structures.

    Raises
    ------
    InputError
        If the case or the configuration does not allow a plan; the message says why.
    """
    machine = read_machine(config.machine or DEFAULT_MACHINE)
    protocol, case, notes = with_prescriptions(case, config)
    return PlanningTask(config, protocol, machine, with_tuning_structures(case), notes)


def with_prescriptions(case: PatientCase, config: PlanningConfig) -> tuple[Protocol, PatientCase, tuple[str, ...]]:
    """Settle protocol, prescriptions and fractions; every assumption gives a note."""
    notes = []
    protocol = read_protocol(config.protocol) if config.protocol else propose_protocol(case, config.n_fractions)
    unprescribed = [s.name for s in case.with_role(Role.TARGET) if s.prescription_gy is None]
    if not case.targets:
        if protocol.prescription_gy is None or not unprescribed:
            if not unprescribed:
                raise InputError("The case has no target; name one (command line: --prescription 'PTV=60').")
            first = unprescribed[0]
            raise InputError(
                f"No target has a prescription; give '{first}' one (command line: --prescription '{first}=60')."
            )
        if len(unprescribed) > 1:
            raise InputError(
                f"Several targets have no prescription ({', '.join(unprescribed)}); give them "
                "(command line: --prescription)."
            )
        structures = tuple(
            replace(s, prescription_gy=protocol.prescription_gy) if s.name in unprescribed else s
            for s in case.structures
        )
        case = replace(case, structures=structures)
        notes.append(f"{unprescribed[0]} is prescribed {protocol.prescription_gy:g} Gy, as usual for {protocol.name}.")
    elif unprescribed:
        notes.append(f"Targets without prescription take no part in planning: {', '.join(unprescribed)}.")

    highest = case.targets[0].prescription_gy or 0.0
    n_fractions = config.n_fractions
    if n_fractions is None:
        usual = protocol.n_fractions or max(1, round(highest / protocol.dose_per_fraction_gy))
        n_fractions = case.n_fractions if case.n_fractions > 1 else usual
        per_fraction = f"{highest / n_fractions:.3g} Gy to {case.targets[0].name}"
        notes.append(f"The course has {n_fractions} fractions of {per_fraction}.")
    if config.protocol is None:
        protocol = propose_protocol(case, n_fractions)
    notes.append(f"Objectives and goals: protocol {protocol.name}.")
    return protocol, replace(case, n_fractions=n_fractions), tuple(notes)


def _with_choices(case: PatientCase, config: PlanningConfig) -> PatientCase:
    """Apply roles, organs and prescriptions that the user set to a case whose reader does not."""
    choices, names = config.structure_choices(), [s.name for s in case.structures]
    if unknown := [name for name in choices if name not in names]:
        raise InputError(f"There is no structure '{unknown[0]}'; the case has {', '.join(names)}.")
    proposed = [RoleProposal(s.role, s.organ, s.prescription_gy, "as made") for s in case.structures]
    resolved = with_choices(names, proposed, choices)
    structures = tuple(
        replace(
            s,
            role=p.role,
            organ=p.organ,
            prescription_gy=p.prescription_gy,
            density=choices[s.name].density if s.name in choices else s.density,
        )
        for s, p in zip(case.structures, resolved, strict=True)
    )
    return with_densities(replace(case, structures=structures))
