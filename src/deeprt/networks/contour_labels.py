"""Contours as the fluence network sees them: ten groups of structures, as labels or as channels of their own.

H. Lee et al., Sci. Rep. 9, 15671 (2019), doi:10.1038/s41598-019-52262-x, section *Training data collection*.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import convex_hull_image

from deeprt.case import PatientCase, union
from deeprt.geometry import Grid
from deeprt.structures import Structure

# Groups in the order of the paper's labels, 1 to 10, and the TG-263 organs of each that organs make up.
GROUPS: dict[str, tuple[str, ...]] = {
    "body": (),
    "avoidance": (),
    "bowel": ("Bag_Bowel", "Bowel", "Bowel_Small", "Bowel_Large", "Colon", "Colon_Sigmoid"),
    "femoral_head_right": ("Femur_Head_R",),
    "femoral_head_left": ("Femur_Head_L",),
    "penile_bulb": ("PenileBulb",),
    "rectum": ("Rectum",),
    "prostate": ("Prostate",),
    "bladder": ("Bladder",),
    "target": (),
}

Mask = NDArray[np.bool_]


def contour_labels(case: PatientCase, *, reverse: bool = False) -> NDArray[np.uint8]:
    """Label every voxel by the last of the groups it belongs to: 1 body ... 10 target, 0 outside.

    A voxel belongs to a group if at least half of it lies inside. Where groups overlap, the later one is kept.

    Parameters
    ----------
    reverse : count down instead, 10 body ... 1 target. The later group is still the one that is kept, since the body
        would hide all others if the higher label was

    Returns
    -------
    (n_k, n_j, n_i) uint8
    """
    labels = np.zeros(case.grid.shape, np.uint8)
    for label, fraction in enumerate(contour_fractions(case), start=1):
        labels[fraction >= 0.5] = len(GROUPS) + 1 - label if reverse else label
    return labels


def contour_fractions(case: PatientCase) -> NDArray[np.float32]:
    """Share of each voxel inside each group, on its own, (n_groups, n_k, n_j, n_i), in the order of `GROUPS`.

    A group is the union of its structures: of the external, of the prescribed targets, or of all with one of its
    organs. One that the case does not have is zero everywhere; for that of the avoidance structures see
    `avoidance`.
    """
    fractions = np.zeros((len(GROUPS), *case.grid.shape), np.float32)
    for fraction, group in zip(fractions, GROUPS, strict=True):
        members = _members(case, group)
        if members:
            fraction[:] = union(group, members).fraction
    names = list(GROUPS)
    inside = {group: fractions[names.index(group)] >= 0.5 for group in ("body", "bowel", "rectum", "bladder", "target")}
    fractions[names.index("avoidance")] = avoidance(case.grid, **inside)
    return fractions


def _members(case: PatientCase, group: str) -> tuple[Structure, ...]:
    if group == "body":
        return (case.external,)
    if group == "target":
        return case.targets
    return tuple(s for s in case.structures if s.organ in GROUPS[group])


def avoidance(grid: Grid, body: Mask, bowel: Mask, rectum: Mask, bladder: Mask, target: Mask) -> Mask:
    """Make both avoidance structures, as one.

    The paper's planners drew them: "one included the intestinal and pelvic cavity area that was not specified by
    bowel, bladder or rectum, and the other one included the regions posterior to the rectum". This definition is ours.
    In every slice that holds target,

    - the cavity is the convex hull of bowel, rectum, bladder and target, absent where no organ of them is drawn;
    - the region posterior to the rectum is all that has rectum straight in front of it;

    both inside the body and without bowel, rectum, bladder and target. Slices and the way to the back are along the
    axes of the grid that are nearest to superior and to posterior.

    Parameters
    ----------
    grid : of the masks
    body, bowel, rectum, bladder, target : (n_k, n_j, n_i) bool

    Returns
    -------
    (n_k, n_j, n_i) bool
    """
    organs = bowel | rectum | bladder
    region = np.zeros(grid.shape, bool)
    if organs.any():
        holding = np.flatnonzero(_upright(target, grid).any((1, 2)))
        taken, behind, made = (_upright(mask, grid) for mask in (organs | target, rectum, region))
        for n in holding:
            cavity = convex_hull_image(taken[n])  # type: ignore[no-untyped-call]
            made[n] = cavity | np.logical_or.accumulate(behind[n], axis=0)
    return region & body & ~organs & ~target


def _upright(mask: Mask, grid: Grid) -> Mask:
    """View of a mask with slices along the axis nearest to superior first, then rows from anterior to posterior."""
    directions = grid.index_to_lps[:3, :3] / grid.spacing_mm
    along_s = int(np.abs(directions[2]).argmax())
    along_p = int(np.where(np.arange(3) == along_s, 0, np.abs(directions[1])).argmax())
    turned = np.moveaxis(mask, (2 - along_s, 2 - along_p), (0, 1))
    return turned if directions[1, along_p] > 0 else turned[:, ::-1]
