"""The CT of a virtual patient: solids from shapes, and Hounsfield units painted into them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from deeprt.cohort import anatomy as pelvis
from deeprt.cohort.anatomy import Anatomy
from deeprt.cohort.canvas import Canvas
from deeprt.cohort.shapes import Image, smooth_union

# Hounsfield units chosen to look like a planning CT without contrast agent.
AIR, GAS, FAT = -1000.0, -850.0, -100.0
SKIN, MUSCLE, BLOOD = 10.0, 52.0, 45.0
PROSTATE, WALL, BOWEL, STOOL, URINE = 40.0, 35.0, 35.0, 30.0, 8.0
CORTICAL, SPONGY, MARROW = 900.0, 230.0, 20.0


@dataclass(frozen=True, eq=False)
class Solids:
    """Signed distances in mm to the surfaces of one patient's parts, negative inside, (n_k, n_j, n_i) float32 each.

    Organs do not overlap: of bone, prostate, seminal vesicles, rectum and bladder, each yields to the ones before.
    """

    body: Image
    inside_fat: Image
    cavity: Image
    fat_pads: Image
    muscles: Image
    vessels: Image
    bone: Image
    femur_left: Image
    femur_right: Image
    prostate: Image
    seminal_vesicles: Image
    bladder: Image
    rectum: Image
    sigmoid: Image
    penile_bulb: Image
    bowel: Image


def build_solids(rng: np.random.Generator, canvas: Canvas, anatomy: Anatomy) -> Solids:
    """Place all parts of a patient on the voxels of a canvas."""
    bumps, waves = canvas.field(rng, 16.0), canvas.field(rng, 45.0)
    body, inside_fat = _body(canvas, anatomy, waves)
    organs = pelvis.organs(anatomy)
    femur_left, femur_right = (canvas.distance(pelvis.femur(anatomy, side)) for side in (1, -1))
    bone = np.minimum(canvas.distance([*pelvis.hip_bones(anatomy), *pelvis.spine()]), femur_left)
    bone = np.maximum(np.minimum(bone, femur_right), -canvas.distance(pelvis.spinal_canal()))
    prostate = _filled(canvas, canvas.distance([organs.prostate]) + bumps, anatomy.prostate_cc, (bone, 1.0))
    vesicles = np.maximum(canvas.distance(organs.seminal_vesicles) + bumps, -prostate)
    gland = np.minimum(prostate, vesicles)
    rectum = canvas.distance([organs.rectum]) + np.float32(1.5) * bumps
    rectum = _filled(canvas, rectum, anatomy.rectum_cc, (gland, 0.5), (bone, 3.0))
    wall = inside_fat + np.float32(10)
    bladder = canvas.distance([organs.bladder]) + np.float32(1.5) * bumps + np.float32(3) * waves
    around = ((gland, 0.5), (rectum, 1.0), (bone, 5.0), (-wall, 0.0))
    bladder = _filled(canvas, bladder, anatomy.bladder_cc, *around)
    bulb = canvas.distance([organs.penile_bulb])
    muscles = canvas.distance(pelvis.muscles())
    cavity = np.minimum(canvas.distance([pelvis.pelvic_cavity()]), np.minimum(gland, rectum) - np.float32(4))
    cavity = np.maximum(cavity, wall)
    _, y, z = canvas.points
    bowel = np.maximum(cavity, np.float32(46) + np.float32(0.4) * np.maximum(y, 0) - z)
    return Solids(
        body=body,
        inside_fat=inside_fat,
        cavity=cavity,
        fat_pads=canvas.distance(pelvis.fat_pads(anatomy)),
        muscles=muscles,
        vessels=canvas.distance(pelvis.vessels()),
        bone=bone,
        femur_left=femur_left,
        femur_right=femur_right,
        prostate=prostate,
        seminal_vesicles=vesicles,
        bladder=bladder,
        rectum=rectum,
        sigmoid=_yield_to(canvas.distance(organs.sigmoid), (rectum, 0.0), (bladder, 1.0), (bone, 3.0), (muscles, 1.0)),
        penile_bulb=_filled(canvas, bulb, anatomy.penile_bulb_cc, (prostate, 2.0), (rectum, 0.5), (bone, 1.0)),
        bowel=_yield_to(bowel, (bladder, 1.5), (rectum, 1.5), (gland, 3.0), (bone, 4.0), (muscles, 1.0)),
    )


def _yield_to(distance: Image, *others: tuple[Image, float]) -> Image:
    """Cut a solid back to a gap in mm from each of the others."""
    for other, gap_mm in others:
        distance = np.maximum(distance, np.float32(gap_mm) - other)
    return distance


def _filled(canvas: Canvas, distance: Image, volume_cc: float, *others: tuple[Image, float]) -> Image:
    """Grow or shrink a solid to a volume, in the room that the others leave."""
    room = _yield_to(np.full_like(distance, -np.inf), *others)
    n = round(1000 * volume_cc / canvas.spacing_mm**3)
    level = np.partition(distance[room < 0], n)[n]
    return np.asarray(np.maximum(distance - level, room), dtype=np.float32)


def _body(canvas: Canvas, anatomy: Anatomy, waves: Image) -> tuple[Image, Image]:
    """Distances to the skin and to the inner side of the subcutaneous fat."""
    _, y, z = canvas.points
    apart = np.clip((-75 - z) / 45, 0, 1)
    body = canvas.distance([pelvis.trunk(anatomy)])
    left, right = (canvas.distance([leg]) for leg in pelvis.legs(anatomy))
    body += apart * (smooth_union(left, right, 25.0) - body)
    body = np.asarray(np.maximum(body, -canvas.distance(pelvis.natal_cleft(anatomy))), dtype=np.float32)
    front = np.clip((-y - 40) / 60, 0, 1) * np.clip((z - 20) / 100, 0, 1)
    fat = anatomy.fat_mm * (0.85 + 0.12 * waves) + 0.4 * anatomy.belly_mm * front
    return body, (body + fat).astype(np.float32)


def paint_ct(rng: np.random.Generator, canvas: Canvas, anatomy: Anatomy, solids: Solids, noise_hu: float) -> Image:
    """CT of the solids in Hounsfield units, (n_k, n_j, n_i) float32: each tissue over the ones before it."""
    fine, coarse, planes = (canvas.field(rng, lattice_mm) for lattice_mm in (8.0, 20.0, 32.0))
    brush = _Brush(canvas, np.full(solids.body.shape, AIR, np.float32))
    brush.paint(solids.body, SKIN)
    brush.paint(solids.body + 2, FAT + 8 * fine)
    septa = 0.8 - 24 * np.abs(planes)  # thin sheets of fat between muscles, where the field changes its sign
    lean = np.maximum(solids.inside_fat, -solids.fat_pads)
    brush.paint(np.maximum(lean, septa), MUSCLE + 5 * fine)
    brush.paint(solids.cavity, FAT + 10 * fine)
    on_bone = np.maximum(solids.bone - 9, lean)
    brush.paint(np.minimum(solids.muscles, on_bone), MUSCLE + 5 * fine)
    brush.paint(solids.vessels, BLOOD)
    _paint_bowel(brush, anatomy, solids, fine, coarse)
    _paint_organs(brush, anatomy, solids, fine, coarse)
    _paint_bone(brush, solids, fine)
    noise = rng.standard_normal(solids.body.shape, dtype=np.float32)
    return np.maximum(brush.ct + np.float32(noise_hu) * noise, np.float32(-1024))


@dataclass(frozen=True, eq=False)
class _Brush:
    """Paints into a CT, voxels partly where a surface cuts them."""

    canvas: Canvas
    ct: Image

    def paint(self, distance: Image, hu: Image | float) -> None:
        """Mix a tissue into the voxels inside a surface."""
        self.ct[...] += self.canvas.fraction(distance) * (hu - self.ct)


def _paint_bowel(brush: _Brush, anatomy: Anatomy, solids: Solids, fine: Image, coarse: Image) -> None:
    """Loops of bowel where a random field is high, with gas in the front ones."""
    loops = np.maximum(solids.bowel + 2, -12 * (coarse + 0.8))
    rising = np.float32(0.012) * (brush.canvas.points[1] + 50)  # gas rises to the front of a patient on the back
    gas = 14 * (np.float32(norm.ppf(1 - anatomy.bowel_gas)) - (coarse - rising))
    brush.paint(loops, BOWEL + 12 * fine)
    brush.paint(np.maximum(loops + 3, gas), GAS)
    brush.paint(solids.sigmoid, BOWEL + 8 * fine)
    brush.paint(solids.sigmoid + 4, STOOL + 60 * fine)


def _paint_organs(brush: _Brush, anatomy: Anatomy, solids: Solids, fine: Image, coarse: Image) -> None:
    """Prostate, bladder with urine, rectum with stool and gas, penile bulb."""
    brush.paint(solids.penile_bulb, BLOOD)
    brush.paint(solids.bladder, WALL)
    brush.paint(solids.bladder + 3, URINE)
    brush.paint(solids.seminal_vesicles, WALL)
    brush.paint(solids.prostate, PROSTATE + 6 * fine)
    brush.paint(solids.rectum, WALL)
    brush.paint(solids.rectum + 3.5, STOOL + 45 * fine)
    gas = 14 * (np.float32(norm.ppf(1 - anatomy.rectal_gas)) - coarse)
    brush.paint(np.maximum(solids.rectum + 4, gas), GAS)


def _paint_bone(brush: _Brush, solids: Solids, fine: Image) -> None:
    """Cortical shell, spongy bone, and marrow in the shafts of the femurs."""
    brush.paint(solids.bone, CORTICAL + 60 * fine)
    x, _, z = brush.canvas.points
    down, outward = np.clip((-25 - z) / 50, 0, 1), np.clip((np.abs(x) - 75) / 10, 0, 1)
    shaft = (down * outward).astype(np.float32)  # 0 in the hip, 1 in the shafts of the femurs
    brush.paint(solids.bone + 1.8 + 4.7 * shaft, (SPONGY + 60 * fine) * (1 - shaft) + MARROW * shaft)
