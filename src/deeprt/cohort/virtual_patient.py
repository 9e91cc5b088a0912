"""Virtual patients: the planning CT and contours of a person who does not exist."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from deeprt.case import PatientCase
from deeprt.cohort import anatomy as pelvis
from deeprt.cohort.anatomy import Anatomy, AnatomyRanges, draw_anatomy
from deeprt.cohort.canvas import Canvas
from deeprt.cohort.shapes import Image, rotation_xyz
from deeprt.cohort.tissues import Solids, build_solids, paint_ct
from deeprt.geometry import Grid
from deeprt.structures import Role, Structure

_VESICLE_MM = 16.0  # from the midline: the proximal part of the seminal vesicles, treated with the prostate
_FEMUR_Z_MM = -55.0  # femoral heads are contoured down to the ischial tuberosities
_SWAY_MM = 14.0  # how far turning and bending may carry the skin beyond its undeformed place


@dataclass(frozen=True)
class VirtualPatientSettings:
    """What a virtual patient is made with.

    Parameters
    ----------
    spacing_mm : edge of the cubic voxels
    inferior_mm, superior_mm : how far the slices reach below and above the middle of the prostate
    air_mm : air between the patient and the edge of the grid, in the axial plane, at least
    n_fractions, prescription_gy : of the primary target
    nodes, nodes_prescription_gy : whether the pelvic lymph nodes are a target too, and its dose
    margin_mm, margin_posterior_mm : from the clinical to the planning target volume
    deformation_mm : standard deviation of the smooth random displacement along each axis
    noise_hu : standard deviation of the CT's noise
    anatomy : what the patient's body is drawn from
    """

    spacing_mm: float = 3.0
    inferior_mm: float = 125.0
    superior_mm: float = 145.0
    air_mm: float = 20.0
    n_fractions: int = 20
    prescription_gy: float = 60.0
    nodes: bool = False
    nodes_prescription_gy: float = 47.0
    margin_mm: float = 7.0
    margin_posterior_mm: float = 5.0
    deformation_mm: float = 2.5
    noise_hu: float = 12.0
    anatomy: AnatomyRanges = field(default_factory=AnatomyRanges)

    def __post_init__(self) -> None:
        limits = {
            "spacing_mm": (1, 5),
            "inferior_mm": (90, 150),
            "superior_mm": (90, 160),
            "air_mm": (5, 100),
            "margin_mm": (0, 15),
            "margin_posterior_mm": (0, self.margin_mm),
            "deformation_mm": (0, 4),
            "noise_hu": (0, 50),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"Virtual patient: {name} must lie in {low:g} to {high:g}, got {value:g}.")
        if self.nodes and not 0 < self.nodes_prescription_gy < self.prescription_gy:
            raise ValueError(
                "Virtual patient: nodes_prescription_gy must lie between 0 and the primary target's "
                f"{self.prescription_gy:g} Gy, got {self.nodes_prescription_gy:g}."
            )


def virtual_prostate(
    rng: np.random.Generator, settings: VirtualPatientSettings = VirtualPatientSettings()
) -> PatientCase:
    """Make a prostate patient: CT of the pelvis, organs and planning target volume.

    The pelvis is built of shapes (`deeprt.cohort.anatomy`), bent by a smooth random displacement of its
    coordinates, turned a little, and sampled into partly filled voxels. The same state of ``rng`` gives the same
    patient, and another spacing the same anatomy.
    """
    anatomy = draw_anatomy(rng, settings.anatomy)
    grid, canvas = _place(rng, anatomy, settings)
    solids = build_solids(rng, canvas, anatomy)
    ct_hu = paint_ct(rng, canvas, anatomy, solids, settings.noise_hu)
    return PatientCase(
        case_id="virtual-prostate",
        position="HFS",
        grid=grid,
        ct_hu=ct_hu,
        structures=_structures(canvas, solids, settings),
        n_fractions=settings.n_fractions,
        notes=("The patient is virtual: CT and structures were drawn from a model of the male pelvis.",),
    )


def _place(rng: np.random.Generator, anatomy: Anatomy, settings: VirtualPatientSettings) -> tuple[Grid, Canvas]:
    """Lay a grid around the patient, somewhere in the scanner, and find each voxel's place in the anatomy."""
    scale = anatomy.pelvis_scale
    low, high = (corner * scale for corner in pelvis.trunk(anatomy).box)
    around = settings.air_mm + _SWAY_MM
    low = np.array([low[0] - around, low[1] - around, -settings.inferior_mm])
    high = np.array([high[0] + around, high[1] + around, settings.superior_mm])
    origin_lps = rng.uniform((-30, -60, -300), (30, 60, 300))

    n = np.floor((high - low) / settings.spacing_mm).astype(int)
    axes = [(low[a] + high[a]) / 2 + settings.spacing_mm * (np.arange(n[a]) - (n[a] - 1) / 2) for a in range(3)]
    grid = Grid.axial((int(n[2]), int(n[1]), int(n[0])), settings.spacing_mm, origin_lps + [a[0] for a in axes])

    turn = rotation_xyz(anatomy.pitch_deg, anatomy.yaw_deg, anatomy.roll_deg).astype(np.float32)
    x, y, z = (a.astype(np.float32) for a in axes)
    flat = Canvas((z, y, x), scale, settings.spacing_mm, (axes[2], axes[1], axes[0]), (low[::-1], high[::-1]))
    points = []
    for axis in range(3):
        turned = turn[0, axis] * x + (turn[1, axis] * y)[:, None] + (turn[2, axis] * z)[:, None, None]
        points.append((turned + np.float32(settings.deformation_mm) * flat.field(rng, 50.0)) / np.float32(scale))
    return grid, replace(flat, points=(points[0], points[1], points[2]))


def _structures(canvas: Canvas, solids: Solids, settings: VirtualPatientSettings) -> tuple[Structure, ...]:
    """Contours: what a planner would draw, with roles and the names that protocols know."""
    x, _, z = canvas.points
    proximal = np.maximum(solids.seminal_vesicles, np.abs(x) - np.float32(_VESICLE_MM))
    clinical = np.minimum(solids.prostate, proximal)
    planning = canvas.fraction(_with_margin(clinical, settings))
    found = [
        ("BODY", Role.EXTERNAL, "", canvas.fraction(solids.body)),
        ("CTV", Role.OTHER, "", canvas.fraction(clinical)),
        ("Prostate", Role.OTHER, "Prostate", canvas.fraction(solids.prostate)),
        ("SeminalVes", Role.OTHER, "SeminalVes", canvas.fraction(solids.seminal_vesicles)),
    ]
    at_risk = (
        ("Rectum", solids.rectum),
        ("Bladder", solids.bladder),
        ("Femur_Head_L", np.maximum(solids.femur_left, _FEMUR_Z_MM - z)),
        ("Femur_Head_R", np.maximum(solids.femur_right, _FEMUR_Z_MM - z)),
        ("PenileBulb", solids.penile_bulb),
        ("Bag_Bowel", solids.bowel),
    )
    found += [(name, Role.ORGAN_AT_RISK, name, canvas.fraction(distance)) for name, distance in at_risk]
    targets = [Structure(f"PTV_{settings.prescription_gy:g}", Role.TARGET, planning, settings.prescription_gy)]
    if settings.nodes:
        dose = settings.nodes_prescription_gy
        nodal = np.minimum(canvas.fraction(_nodes(canvas, solids) - settings.margin_mm), 1 - planning)
        targets.append(Structure(f"PTV_{dose:g}", Role.TARGET, nodal, dose))
    return (*(Structure(n, role, f, organ=organ) for n, role, organ, f in found), *targets)


def _with_margin(clinical: Image, settings: VirtualPatientSettings) -> Image:
    """Distance to the clinical target grown by the margin, which is smaller where the surface faces backward."""
    posterior = np.clip(np.gradient(clinical, settings.spacing_mm, axis=1), 0, 1)
    return clinical - settings.margin_mm + (settings.margin_mm - settings.margin_posterior_mm) * posterior


def _nodes(canvas: Canvas, solids: Solids) -> Image:
    """Distance to the nodal clinical target: along the vessels, without bone, muscle and organs."""
    distance = canvas.distance(pelvis.pelvic_nodes())
    for other in (solids.bone, solids.muscles, solids.bladder, solids.rectum, solids.prostate):
        distance = np.maximum(distance, -other)
    return distance
