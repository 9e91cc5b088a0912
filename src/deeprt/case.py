"""The patient case: CT, structures, fractions and the DICOM identity that a plan must repeat."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from deeprt.geometry import PATIENT_POSITIONS, Grid
from deeprt.resampling import average_onto
from deeprt.structures import BESIDE_PATIENT, Role, Structure


@dataclass(frozen=True, eq=False)
class HuTable:
    """A scanner's calibration from Hounsfield units to relative electron density.

    Parameters
    ----------
    name : shown in reports
    hu : (n,) strictly increasing
    density : (n,) relative electron density (water 1), not negative; linear between, constant outside

    Raises
    ------
    ValueError
        If the table has fewer than two rows, falls in HU, or has negative densities.
    """

    name: str
    hu: NDArray[np.float64]
    density: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.hu.ndim != 1 or self.hu.shape != self.density.shape or self.hu.size < 2:
            raise ValueError(f"HU table '{self.name}' needs two columns of equal length, at least two rows.")
        if not np.all(np.diff(self.hu) > 0):
            raise ValueError(f"HU table '{self.name}': the HU column must increase from row to row.")
        if self.density.min() < 0:
            raise ValueError(f"HU table '{self.name}': densities must not be negative.")

    def to_density(self, hu: NDArray[np.float32]) -> NDArray[np.float32]:
        """Relative electron density of Hounsfield units, same shape, float32."""
        return np.interp(hu, self.hu, self.density).astype(np.float32)


NESTED_MARGIN_MM = 5.0  # room for the dose to fall off around a target of higher prescription

# Generic table: air and water by definition, beyond them round numbers of the size of published calibrations such as
# Schneider, Pedroni and Lomax, Phys. Med. Biol. 41, 111 (1996), doi:10.1088/0031-9155/41/1/009. Not any scanner's.
GENERIC_HU_TABLE = HuTable(
    "generic, piecewise linear",
    np.array([-1000.0, 0.0, 100.0, 1000.0, 3000.0]),
    np.array([0.0, 1.0, 1.1, 1.55, 2.55]),
)


@dataclass(frozen=True)
class DicomReferences:
    """Attributes of the input study that exported objects repeat; empty strings where the input had none."""

    patient_name: str = ""
    patient_id: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    study_instance_uid: str = ""
    study_id: str = ""
    study_date: str = ""
    study_time: str = ""
    study_description: str = ""
    accession_number: str = ""
    referring_physician_name: str = ""
    frame_of_reference_uid: str = ""
    position_reference_indicator: str = ""
    ct_series_uid: str = ""
    ct_sop_instance_uids: tuple[str, ...] = ()
    structure_set_uid: str = ""
    roi_numbers: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PatientCase:
    """Everything planning needs to know of a patient, on one voxel grid.

    Parameters
    ----------
    case_id : shown in reports
    position : DICOM Patient Position: HFS, HFP, FFS or FFP
    grid : voxels of ``ct_hu`` and of every structure
    ct_hu : (n_k, n_j, n_i) float32, Hounsfield units
    structures : unique names
    n_fractions : of the whole course
    hu_table : the scanner's calibration
    dicom : identity of the study it came from; None when it did not come from DICOM
    notes : what a reader assumed or made, one sentence each, shown to the user

    Raises
    ------
    ValueError
        If a shape differs from the grid's, a name occurs twice, or the position is not supported.
    """

    case_id: str
    position: str
    grid: Grid
    ct_hu: NDArray[np.float32]
    structures: tuple[Structure, ...]
    n_fractions: int
    hu_table: HuTable = GENERIC_HU_TABLE
    dicom: DicomReferences | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.position not in PATIENT_POSITIONS:
            raise ValueError(
                f"Patient position '{self.position}' is not supported; use one of {', '.join(PATIENT_POSITIONS)}."
            )
        if self.ct_hu.shape != self.grid.shape:
            raise ValueError(f"CT has shape {self.ct_hu.shape}, the grid {self.grid.shape}.")
        if self.n_fractions < 1:
            raise ValueError(f"The number of fractions must be at least 1, got {self.n_fractions}.")
        names = [s.name for s in self.structures]
        for s in self.structures:
            if s.fraction.shape != self.grid.shape:
                raise ValueError(
                    f"Structure '{s.name}': fraction has shape {s.fraction.shape}, the grid {self.grid.shape}; "
                    "resample it to the case's grid."
                )
            if names.count(s.name) > 1:
                raise ValueError(f"Structure '{s.name}' occurs more than once; give each its own name.")

    def structure(self, name: str) -> Structure:
        """Return the structure of that name; KeyError names the known ones."""
        for s in self.structures:
            if s.name == name:
                return s
        raise KeyError(f"No structure '{name}'; the case has {', '.join(s.name for s in self.structures)}.")

    def with_role(self, role: Role) -> tuple[Structure, ...]:
        """Structures of one role, in order."""
        return tuple(s for s in self.structures if s.role is role)

    @property
    def targets(self) -> tuple[Structure, ...]:
        """Targets with a prescription, highest prescription first."""
        prescribed = [s for s in self.with_role(Role.TARGET) if s.prescription_gy is not None]
        return tuple(sorted(prescribed, key=lambda s: -(s.prescription_gy or 0.0)))

    @property
    def external(self) -> Structure:
        """The patient's outline."""
        return self.with_role(Role.EXTERNAL)[0]

    @cached_property
    def density(self) -> NDArray[np.float32]:
        """Relative electron density, (n_k, n_j, n_i) float32: patient, support and bolus; zero elsewhere.

        The CT is averaged onto the grid in HU and goes through the table there. In a voxel that lies partly outside
        the external this mean already holds air; it counts up to the density of water in the share inside. Structures
        with a density of their own, and support and bolus with that of the CT, take the place of what is there, the
        largest first: where they overlap the smaller one holds, and of equal ones the one listed last. In a voxel
        that one fills partly, densities mix by share: support and bolus first take the part outside the patient, all
        others are cut off at the external. A CT that shows a support or bolus counts in full outside the patient in
        each voxel they touch, being a mean over it.
        """
        external = self.external.fraction
        of_ct = self.hu_table.to_density(self.ct_hu)
        density, covered = np.where(external < 1, np.minimum(of_ct, external), of_ct), external
        placed = [s for s in self.structures if s.density is not None or s.role in BESIDE_PATIENT]
        for s in sorted(placed, key=lambda s: -float(s.fraction.sum(dtype=np.float64))):
            beside = s.role in BESIDE_PATIENT
            share = s.fraction if beside else np.minimum(s.fraction, external)
            if s.density is None:  # what the CT shows in a voxel is the mean of all of it, air beside a couch included
                share = np.where(s.fraction > 0, 1 - covered, np.float32(0))
            left = np.minimum(covered, 1 - share) if beside else covered - share
            kept = np.divide(left, covered, out=np.zeros_like(covered), where=covered > 0)
            density = density * np.clip(kept, 0, 1) + share * (of_ct if s.density is None else np.float32(s.density))
            covered = left + share
        return density

    def resampled(self, spacing_mm: float) -> PatientCase:
        """Return the case on the same box with other voxels; CT and structures are averaged."""
        grid = self.grid.resampled(spacing_mm)
        structures = tuple(
            replace(s, fraction=np.clip(average_onto(s.fraction, self.grid, grid), 0, 1)) for s in self.structures
        )
        return replace(self, grid=grid, ct_hu=average_onto(self.ct_hu, self.grid, grid), structures=structures)

    def volume_cc(self, structure: Structure) -> float:
        """Volume of a structure in cubic centimeters."""
        return float(structure.fraction.sum(dtype=np.float64)) * self.grid.voxel_volume_cc

    def isocenter_lps(self) -> NDArray[np.float64]:
        """Volume-weighted centroid of the union of the prescribed targets, (3,), LPS, mm."""
        index = union("targets", self.targets).centroid_index()
        return self.grid.index_to_lps[:3, :3] @ index + self.grid.index_to_lps[:3, 3]


def union(name: str, structures: tuple[Structure, ...]) -> Structure:
    """Union of structures: the largest share of each voxel (exact where boundaries do not cross in a voxel)."""
    fraction = np.maximum.reduce([s.fraction for s in structures])
    return Structure(name, Role.OTHER, fraction)


def outside_higher_targets(case: PatientCase, structure: Structure) -> Structure:
    """Part of a target outside all targets of higher prescription and the margin in which their dose falls off.

    Other structures, and targets that none of higher prescription comes near, are returned as they are.
    """
    own = structure.prescription_gy
    higher = tuple(t for t in case.targets if own is not None and (t.prescription_gy or 0.0) > own and not t.is_empty)
    if not higher:
        return structure
    occupied = union("higher", higher).fraction >= 0.5
    distance = distance_transform_edt(~occupied, sampling=case.grid.spacing_mm[::-1])
    part = np.where(distance > NESTED_MARGIN_MM, structure.fraction, np.float32(0))
    return structure if np.array_equal(part, structure.fraction) else replace(structure, fraction=part)


def with_tuning_structures(
    case: PatientCase,
    *,
    ring_gap_mm: float = 3.0,
    ring_width_mm: float = 20.0,
    skin_mm: float = 5.0,
) -> PatientCase:
    """Add a ring around the targets and the skin, which steer the optimizer and are no anatomy.

    The ring is the tissue between ``ring_gap_mm`` and ``ring_gap_mm + ring_width_mm`` from the union of the
    targets; the skin is the outer ``skin_mm`` of the external structure. Neither contains target. Distances are
    measured between voxel centers of voxels that are at least half inside.

    Returns
    -------
    The case with the structures ``Ring`` and ``Skin`` of role tuning; existing ones of that name are replaced.
    """
    targets = union("targets", case.targets).fraction
    external = case.external.fraction
    sampling = case.grid.spacing_mm[::-1]
    from_target = distance_transform_edt(targets < 0.5, sampling=sampling)
    depth = distance_transform_edt(np.pad(external >= 0.5, 1), sampling=sampling)[1:-1, 1:-1, 1:-1]
    ring = (from_target > ring_gap_mm) & (from_target <= ring_gap_mm + ring_width_mm)
    outside_target = 1 - targets
    made = (
        ("Ring", np.where(ring, external * outside_target, 0)),
        ("Skin", np.where(depth <= skin_mm, external * outside_target, 0)),
    )
    kept = tuple(s for s in case.structures if s.name not in {name for name, _ in made})
    tuning = tuple(Structure(name, Role.TUNING, f.astype(np.float32)) for name, f in made)
    return replace(case, structures=kept + tuning)
