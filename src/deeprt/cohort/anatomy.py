"""The male pelvis as shapes: what varies between patients, and where its parts lie.

Lengths are mm of a pelvis of average size. The origin is the center of an average prostate; +x is the patient's
left, +y posterior, +z superior. Positions were chosen to resemble an adult man lying supine and were compared with
contours of a real patient (the prostate case of the CORT data set); they are no atlas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy.integrate import trapezoid

from deeprt.cohort.shapes import Capsule, Cup, Ellipsoid, Shape, Trunk, Tube, Wing, chain, rotation_xyz

Range = tuple[float, float]
Row = Sequence[float]


@dataclass(frozen=True)
class AnatomyRanges:
    """Ranges from which a patient is drawn, uniformly and independently.

    Each range was chosen to span what is usual in planning CTs of prostate patients; none is a fitted distribution.

    Parameters
    ----------
    prostate_cc, bladder_cc, rectum_cc, penile_bulb_cc : volumes; the rectum includes the anal canal
    seminal_vesicle_mm : half the length of one seminal vesicle
    rectal_gas : share of the rectal content that is gas, 0 to 1
    bowel_gas : share of the bowel that is gas, 0 to 1
    pelvis_scale : size of the pelvis against the average
    femoral_head_mm : radius of the femoral heads
    fat_mm : thickness of the subcutaneous fat
    belly_mm : how far the belly rises above the level of the pubis
    pitch_deg, roll_deg, yaw_deg : rotation about the left-right, lengthwise and front-back axis
    off_midline_mm : shift of bladder and rectum to the left
    """

    prostate_cc: Range = (25.0, 80.0)
    bladder_cc: Range = (80.0, 400.0)
    rectum_cc: Range = (40.0, 120.0)
    penile_bulb_cc: Range = (2.5, 7.0)
    seminal_vesicle_mm: Range = (15.0, 24.0)
    rectal_gas: Range = (0.0, 0.35)
    bowel_gas: Range = (0.02, 0.15)
    pelvis_scale: Range = (0.94, 1.06)
    femoral_head_mm: Range = (22.0, 26.0)
    fat_mm: Range = (10.0, 38.0)
    belly_mm: Range = (0.0, 45.0)
    pitch_deg: Range = (-4.0, 4.0)
    roll_deg: Range = (-3.0, 3.0)
    yaw_deg: Range = (-3.0, 3.0)
    off_midline_mm: Range = (-5.0, 5.0)

    def __post_init__(self) -> None:
        for f in fields(self):
            low, high = getattr(self, f.name)
            if low > high:
                raise ValueError(f"Anatomy range '{f.name}' must rise, got {low} to {high}.")


@dataclass(frozen=True)
class Anatomy:
    """One patient's values, one of each range of `AnatomyRanges`."""

    prostate_cc: float
    bladder_cc: float
    rectum_cc: float
    penile_bulb_cc: float
    seminal_vesicle_mm: float
    rectal_gas: float
    bowel_gas: float
    pelvis_scale: float
    femoral_head_mm: float
    fat_mm: float
    belly_mm: float
    pitch_deg: float
    roll_deg: float
    yaw_deg: float
    off_midline_mm: float


def draw_anatomy(rng: np.random.Generator, ranges: AnatomyRanges) -> Anatomy:
    """Draw one patient's values."""
    return Anatomy(**{f.name: float(rng.uniform(*getattr(ranges, f.name))) for f in fields(ranges)})


def _mirrored(side: int, points: Sequence[Row]) -> list[list[float]]:
    """Points of the left side (+1), or reflected to the right (-1)."""
    return [[side * p[0], *p[1:]] for p in points]


# Body ------------------------------------------------------------------------------------------------------------


def trunk(anatomy: Anatomy) -> Trunk:
    """The skin from the thighs to the waist, as if the legs were one."""
    fat, belly = anatomy.fat_mm, anatomy.belly_mm
    return Trunk(
        [
            [-170, 158 + fat, -88 - fat, 74 + fat],
            [-80, 160 + fat, -98 - fat, 80 + fat],
            [20, 158 + fat, -100 - fat, 84 + fat],
            [60, 152 + fat, -104 - fat - 0.2 * belly, 84 + fat],
            [110, 150 + fat, -110 - fat - 0.7 * belly, 82 + fat],
            [190, 152 + fat, -114 - fat - belly, 76 + fat],
        ]
    )


def legs(anatomy: Anatomy) -> tuple[Shape, ...]:
    """Thighs, which remain of the trunk below the perineum."""
    fat = anatomy.fat_mm
    x, y = 0.5 * (160 + fat), 0.35 * fat - 9
    rows = [[-180.0, x + 1, y - 3.6, x - 6, 84 + fat], [-60.0, x + 1, y - 1.2, x - 2, 84 + fat]]
    return tuple(Tube([[row[0], side * row[1], *row[2:]] for row in rows]) for side in (1, -1))


def natal_cleft(anatomy: Anatomy) -> tuple[Shape, ...]:
    """The furrow between the buttocks, air."""
    back = 84 + anatomy.fat_mm
    return chain([(0, back + 4, 30), (0, back, -20), (0, back - 4, -80), (0, back - 4, -190)], [3, 6, 9, 9])


def pelvic_cavity() -> Tube:
    """The inside of muscles and bones: fat, vessels, bowel and organs; its front follows the abdominal wall."""
    return Tube(
        [
            [-32, 0, 10, 12, 18],
            [-15, 0, 2, 26, 31],
            [10, 0, -1, 38, 48],
            [35, 0, -6, 54, 68],
            [60, 0, -24, 72, 82],
            [90, 0, -46, 98, 88],
            [120, 0, -64, 112, 90],
            [190, 0, -72, 116, 90],
        ]
    )


def fat_pads(anatomy: Anatomy) -> tuple[Shape, ...]:
    """Fat outside the cavity: ischiorectal fossae, between the buttocks, above the pubis and in the groins."""
    front, back = -100 - anatomy.fat_mm, 84 + anatomy.fat_mm
    pads: list[Shape] = [
        Ellipsoid((0, back - 12, -15), (16, 30, 75)),
        Ellipsoid((0, front + 18, -12), (52, 26, 48)),
    ]
    for side in (1, -1):
        pads.append(Ellipsoid((side * 27, 44, -28), (15, 26, 24), rotation_xyz(20, 0, -25 * side)))
        pads.append(Ellipsoid((side * 68, front + 24, -5), (26, 20, 60)))
    return tuple(pads)


def muscles() -> tuple[Shape, ...]:
    """Muscles inside the cavity: psoas, obturator internus, piriformis, levator ani."""
    parts: list[Shape] = []
    for side in (1, -1):
        psoas = [(40, 18, 190), (44, 6, 130), (60, -22, 85), (76, -44, 45), (86, -50, 15), (104, -20, -35)]
        parts += chain(_mirrored(side, psoas), [21, 19, 16, 14, 14, 9])
        parts.append(Ellipsoid((side * 53, 4, -2), (9, 36, 36), rotation_xyz(0, 0, 8 * side)))
        parts += chain(_mirrored(side, [(26, 62, 58), (58, 52, 44), (90, 36, 28)]), [9, 9, 6])
    return tuple(parts)


def vessels() -> tuple[Shape, ...]:
    """Common, external and internal iliac vessels down to the groins."""
    parts: list[Shape] = []
    for side in (1, -1):
        external = [(24, -6, 190), (26, -4, 125), (42, -8, 95), (56, -32, 62), (66, -58, 30), (70, -70, 5)]
        parts += chain(_mirrored(side, [*external, (74, -66, -60)]), [6, 6, 5.5, 5, 5, 5, 4.5])
        vein = [(34, 10, 125), (46, 6, 95), (52, -20, 62), (58, -48, 30), (60, -62, 5), (66, -56, -60)]
        parts += chain(_mirrored(side, vein), [6.5, 6, 6, 5.5, 5.5, 5])
        parts += chain(_mirrored(side, [(34, 8, 112), (42, 30, 82), (48, 38, 55), (45, 22, 32)]), [5, 4.5, 4, 3])
    return tuple(parts)


def pelvic_nodes() -> tuple[Shape, ...]:
    """Lymph node regions along the iliac vessels and in the obturator fossae."""
    parts: list[Shape] = []
    for side in (1, -1):
        parts += chain(_mirrored(side, [(33, 2, 102), (43, 2, 92), (52, -24, 62), (58, -42, 38)]), [8, 9, 9, 7])
        parts += chain(_mirrored(side, [(36, 12, 102), (42, 30, 82), (46, 32, 55), (44, 10, 26)]), [7, 8, 8, 6])
        parts += chain(_mirrored(side, [(50, -22, 60), (46, -2, 40), (44, -4, 20)]), [8, 8, 6])
    return tuple(parts)


# Bones -----------------------------------------------------------------------------------------------------------


def _femoral_head_center(side: int) -> tuple[float, float, float]:
    return (side * 88.0, -13.0, 15.0)


def femur(anatomy: Anatomy, side: int) -> tuple[Shape, ...]:
    """Head, neck, trochanters and upper shaft; side +1 is the left."""
    head = _femoral_head_center(side)
    lines = ([head, (side * 126, 3, -12)], [(124, 4, -14), (118, 1, -45), (112, -3, -90), (105, -6, -190)])
    return (
        Ellipsoid(head, (anatomy.femoral_head_mm,) * 3),
        *chain(lines[0], [15, 17]),
        *chain(_mirrored(side, lines[1]), [20, 17, 15, 14]),
        Ellipsoid((side * 136, 13, -4), (13, 18, 24)),
        Ellipsoid((side * 106, 14, -48), (8, 8, 12)),
    )


def hip_bones(anatomy: Anatomy) -> tuple[Shape, ...]:
    """Ilium with acetabulum, ischium and pubis of both sides."""
    levels = (30, 60, 90, 120, 148)
    lines = (
        ((88, -36), (86, -10), (70, 20)),
        ((104, -46), (92, -6), (64, 44)),
        ((120, -50), (106, 0), (60, 72)),
        ((130, -22), (116, 22), (54, 82)),
        ((128, 14), (110, 46), (62, 80)),
    )
    parts: list[Shape] = []
    for side in (1, -1):
        mirrored = np.array(lines, float) * (side, 1)
        parts.append(Wing(levels, mirrored, (9.0, 5.5, 4.5, 4.0, 6.0)))
        axis = np.array([-0.75 * side, 0.2, 0.63])
        radius = anatomy.femoral_head_mm
        parts.append(Cup(_femoral_head_center(side), radius + 4, radius + 11, axis / np.linalg.norm(axis)))
        parts.append(Ellipsoid((side * 13, -45, -8), (9, 15, 20), rotation_xyz(-25, 0, 22 * side)))
        parts += chain(_mirrored(side, [(14, -48, 4), (44, -48, 14), (66, -38, 15)]), [10, 7, 11])
        parts += chain(_mirrored(side, [(15, -40, -20), (31, -22, -42), (50, 12, -58)]), [8, 6, 9])
        parts += chain(_mirrored(side, [(82, 14, 6), (68, 22, -25), (54, 17, -54)]), [11, 12, 13])
        parts += chain(_mirrored(side, [(72, 30, 10), (58, 36, 2)]), [7, 4])
    return tuple(parts)


def spine() -> tuple[Shape, ...]:
    """Lowest lumbar vertebrae, sacrum and coccyx."""
    sacrum = [
        (-4, 0, 50, 4, 4),
        (12, 0, 63, 12, 5.5),
        (30, 0, 71, 24, 9),
        (50, 0, 73, 34, 13),
        (70, 0, 68, 46, 17),
        (90, 0, 58, 55, 21),
        (111, 0, 45, 50, 23),
    ]
    parts: list[Shape] = [Tube(sacrum)]
    for low in (115, 149, 183):
        y = 17 - 0.1 * (low - 115)
        parts.append(Tube([[low, 0, y + 1, 26, 18], [low + 15, 0, y, 23, 15.5], [low + 30, 0, y - 1, 26, 18]]))
        parts += chain([(0, y + 28, low + 14), (0, y + 54, low + 4)], [5, 4])
        for side in (1, -1):
            parts += chain(
                _mirrored(side, [(17, y + 14, low + 16), (20, y + 26, low + 8), (0, y + 32, low + 10)]), [6, 6, 4]
            )
            parts += chain(_mirrored(side, [(20, y + 14, low + 16), (48, y + 20, low + 18)]), [5, 3.5])
    return tuple(parts)


def spinal_canal() -> tuple[Shape, ...]:
    """Sacral and lumbar canal and the sacral foramina: soft tissue inside the bone."""
    holes: list[Shape] = list(
        chain([(0, 74, 50), (0, 70, 70), (0, 62, 90), (0, 50, 112), (0, 41, 190)], [3, 5, 7, 9, 9])
    )
    for side in (1, -1):
        places = ((20, 62, 46, 4), (22, 56, 64, 5), (25, 46, 84, 5.5))
        holes += [Capsule((side * x, y, z), (side * (x - 3), y + 12, z + 4), r, r) for x, y, z, r in places]
    return tuple(holes)


# Organs ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Organs:
    """The pelvic organs of one patient, before they give way to each other."""

    prostate: Shape
    seminal_vesicles: tuple[Shape, ...]
    bladder: Shape
    rectum: Tube
    sigmoid: tuple[Shape, ...]
    penile_bulb: Shape


def organs(anatomy: Anatomy) -> Organs:
    """Place the organs: the bladder on the prostate's base, the rectum along its back.

    Prostates of every size share the apex and the back of the average one, and grow upward and forward.
    """
    cubic_mm = 1000 / anatomy.pelvis_scale**3  # a cc in this file's lengths
    size = (anatomy.prostate_cc * cubic_mm / (4 / 3 * np.pi)) ** (1 / 3)
    a, b, c = 1.18 * size, 0.87 * size, 0.975 * size
    center = (0.0, 17.0 - b, c - 21.0)
    base = center[2] + c
    vesicles = tuple(
        Ellipsoid(
            (side * 0.85 * anatomy.seminal_vesicle_mm, 13.0, base + 5),
            (anatomy.seminal_vesicle_mm, 5.5, 8.0),
            rotation_xyz(0, -18 * side, 14 * side),
        )
        for side in (1, -1)
    )
    bulb = (anatomy.penile_bulb_cc * cubic_mm / (4 / 3 * np.pi) / (0.9 * 1.15 * 0.95)) ** (1 / 3)
    rectum = _rectum(anatomy, anatomy.rectum_cc * cubic_mm)
    end_z, end_x, end_y = np.asarray(rectum.knots)[-1, :3]
    return Organs(
        prostate=Ellipsoid(center, (a, b, c), rotation_xyz(-12, 0, 0)),
        seminal_vesicles=vesicles,
        bladder=_bladder(anatomy, (center[1] - 3, base - 3), anatomy.bladder_cc * cubic_mm),
        rectum=rectum,
        sigmoid=chain(
            [(end_x, end_y, end_z), (20, 6, 84), (48, -10, 98), (62, 0, 120), (84, 0, 150)], [13, 12, 12, 12, 12]
        ),
        penile_bulb=Ellipsoid((0.0, 3.0, -41.0), (0.9 * bulb, 1.15 * bulb, 0.95 * bulb)),
    )


def _bladder(anatomy: Anatomy, neck_yz: tuple[float, float], cubic_mm: float) -> Ellipsoid:
    """Rise from the neck, leaning forward; flat when empty, round when full."""
    size = (cubic_mm / (4 / 3 * np.pi)) ** (1 / 3)
    height = np.interp(size, [25, 46], [0.8, 1.05])
    a, b, c = size * np.array([1.1, 1 / 1.1 / height, height])
    lean = np.deg2rad(20)
    center = (anatomy.off_midline_mm, neck_yz[0] - c * np.sin(lean), neck_yz[1] + c * np.cos(lean))
    return Ellipsoid(center, (a, b, c), rotation_xyz(20, 0, 0))


def _rectum(anatomy: Anatomy, cubic_mm: float) -> Tube:
    """Anal canal and rectum: the front wall follows the back of the prostate, the radius its filling."""
    z = np.array([-58, -42, -26, -10, 8, 26, 44, 60, 70], float)
    front = np.array([28, 15, 9, 12.5, 15.5, 20, 23, 15, 8], float)
    across = np.array([10, 11, 10, 14, 18, 20, 18, 15, 13], float)
    deep = 0.85 * across
    volume = np.pi * trapezoid(across * deep, z)
    filling = np.sqrt(cubic_mm / volume)
    side = anatomy.off_midline_mm * np.sin(np.pi * (z - z[0]) / (z[-1] - z[0])) ** 2
    return Tube(np.column_stack([z, side, front + filling * deep, filling * across, filling * deep]))
