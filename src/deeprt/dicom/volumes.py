"""A CT in NRRD or NIfTI with the segmentation that 3D Slicer saved beside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, find_objects

from deeprt.dicom.source import CaseSource, Color, DrawnStructure
from deeprt.errors import InputError
from deeprt.geometry import Grid
from deeprt.progress import Progress

SUFFIXES = (".nrrd", ".nhdr", ".nii", ".nii.gz")
_SEGMENTATION_SUFFIX = ".seg.nrrd"
_MIN_SAMPLES, _MAX_SAMPLES = 3, 8  # of a voxel along each axis
_HAIR = 1e-6  # of a mask voxel, so that what lies on a face or halfway does not hang on how a matrix is rounded


@dataclass(frozen=True, eq=False)
class VolumeImage:
    """A file as read: (n_k, n_j, n_i) or (n_k, n_j, n_i, n_layers), its grid, its header."""

    values: NDArray[Any]
    grid: Grid
    header: dict[str, str]


def is_volume(path: Path) -> bool:
    """Whether a file's name is that of a CT this module reads."""
    return path.name.lower().endswith(SUFFIXES)


def read_volumes(path: Path, progress: Progress) -> CaseSource:
    """Read a CT and the one ``.seg.nrrd`` in its folder.

    Raises
    ------
    InputError
        If a file is unreadable or states no patient coordinates, or there is not exactly one segmentation.
    """
    if path.name.lower().endswith(_SEGMENTATION_SUFFIX):
        raise InputError(f"'{path}' is a segmentation; give the CT that lies beside it.")
    found = sorted(p for p in path.parent.iterdir() if p.name.lower().endswith(_SEGMENTATION_SUFFIX))
    if len(found) != 1:
        listing = ", ".join(f"'{p.name}'" for p in found) or "none"
        raise InputError(
            f"Folder '{path.parent}' must hold exactly one segmentation (*{_SEGMENTATION_SUFFIX}) beside "
            f"'{path.name}', found {listing}."
        )
    progress.step("Reading case", 0.1, path.name)
    ct = read_image(path)
    if ct.values.ndim != 3:
        raise InputError(f"'{path}' has {ct.values.shape[-1]} values a voxel; a CT has one.")
    progress.step("Reading case", 0.5, found[0].name)
    hu = ct.values.astype(np.float32)
    notes = [f"'{path.name}' does not state how the patient lay; head first supine (HFS) is assumed."]
    if hu.min() >= 0:
        notes.append(f"'{path.name}' has no negative value; its values are taken for Hounsfield units all the same.")
    name = path.name
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return CaseSource(name, "HFS", ct.grid, hu, read_segmentation(found[0]), None, tuple(notes))


def read_segmentation(path: Path) -> tuple[DrawnStructure, ...]:
    """Read the segments of a segmentation saved by 3D Slicer, with overlapping ones in layers of their own.

    Raises
    ------
    InputError
        If the file is unreadable, names no segments, or a segment lacks its label or layer.
    """
    image = read_image(path)
    layers = image.values[..., None] if image.values.ndim == 3 else image.values
    boxes = [find_objects(layers[..., n].astype(np.int32)) for n in range(layers.shape[-1])]
    structures: list[DrawnStructure] = []
    while f"Segment{len(structures)}_Name" in image.header:
        key = f"Segment{len(structures)}"
        name = image.header[f"{key}_Name"].strip()
        if any(s.name == name for s in structures):
            raise InputError(f"Segmentation '{path}' has two segments called '{name}'; rename one.")
        value, layer = (_integer(image.header, f"{key}_{what}", path) for what in ("LabelValue", "Layer"))
        if not 0 <= layer < layers.shape[-1] or value < 1:
            raise InputError(
                f"Segmentation '{path}': segment '{name}' has label {value} in layer {layer} of {layers.shape[-1]}; "
                "save it again in 3D Slicer."
            )
        box = boxes[layer][value - 1] if value <= len(boxes[layer]) else None
        draw = None
        if box is not None:
            draw = partial(sampled_fraction, layers[box][..., layer] == value, _cropped(image.grid, box))
        structures.append(DrawnStructure(name, "", _color(image.header.get(f"{key}_Color")), draw))
    if not structures:
        raise InputError(f"Segmentation '{path}' names no segments (Segment0_Name); save it from 3D Slicer.")
    return tuple(structures)


def sampled_fraction(mask: NDArray[np.bool_], mask_grid: Grid, grid: Grid) -> NDArray[np.float32]:
    """Compute the share of each voxel inside a mask on another grid, oblique or not.

    Points spread evenly in a voxel, at least three along each axis, look up the mask voxel that holds them.

    Parameters
    ----------
    mask : (n_k, n_j, n_i) of ``mask_grid``
    grid : voxels to fill

    Returns
    -------
    float32, shape of ``grid``
    """
    fraction = np.zeros(grid.shape, dtype=np.float32)
    start, stop = _touched(mask_grid, grid)
    if (stop <= start).any():
        return fraction
    # An even multiple of the mask's resolution samples every mask voxel alike when the axes are parallel.
    per_voxel = np.maximum(1, np.round(grid.spacing_mm / mask_grid.spacing_mm + _HAIR))
    samples = np.minimum(per_voxel * np.ceil(_MIN_SAMPLES / per_voxel), _MAX_SAMPLES).astype(int)
    padded = np.pad(mask, 1).astype(np.uint8)  # lookups end with the outermost voxel's center, not its face
    to_mask = mask_grid.lps_to_index_matrix @ grid.index_to_lps
    matrix = (to_mask[:3, :3] / samples)[::-1, ::-1]
    n_i, n_j, _ = stop - start
    for k in range(start[2], stop[2]):
        first_point = np.array([start[0], start[1], k]) + 0.5 / samples - 0.5
        offset = to_mask[:3, :3] @ first_point + to_mask[:3, 3] + 1
        points = affine_transform(
            padded,
            matrix,
            offset[::-1],
            output_shape=(samples[2], samples[1] * n_j, samples[0] * n_i),
            order=0,
            mode="constant",
        )
        share = points.reshape(samples[2], n_j, samples[1], n_i, samples[0]).mean(axis=(0, 2, 4))
        fraction[k, start[1] : stop[1], start[0] : stop[0]] = share
    return fraction


def _touched(mask_grid: Grid, grid: Grid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First voxel (i, j, k) and the one after the last that the box of another grid touches."""
    size = np.array(mask_grid.shape[::-1])
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in size])).reshape(3, -1).T
    inside = grid.lps_to_index(corners @ mask_grid.index_to_lps[:3, :3].T + mask_grid.index_to_lps[:3, 3])
    limit = grid.shape[::-1]
    start = np.clip(np.floor(inside.min(axis=0) + 0.5), 0, limit).astype(np.int64)
    stop = np.clip(np.ceil(inside.max(axis=0) + 0.5), 0, limit).astype(np.int64)
    return start, stop


def read_image(path: Path) -> VolumeImage:
    """Read a volume in NRRD or NIfTI with its place in the patient.

    Raises
    ------
    InputError
        If the file is missing, unreadable, not three-dimensional, or states no patient coordinates.
    """
    if not path.is_file():
        raise InputError(f"'{path}' does not exist; give a file in NRRD or NIfTI.")
    try:
        image: Any = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"'{path}' cannot be read ({reason}); save it again.") from error
    if image.GetDimension() != 3:
        raise InputError(f"'{path}' has {image.GetDimension()} dimensions; a volume has three.")
    if ".nii" not in path.name.lower() and "NRRD_space" not in image.GetMetaDataKeys():
        raise InputError(
            f"'{path}' does not say where it lies in the patient (no 'space' in its header); save it again."
        )
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    n_i, n_j, n_k = image.GetSize()
    header = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    return VolumeImage(SimpleITK.GetArrayFromImage(image), Grid((n_k, n_j, n_i), matrix), header)


def _cropped(grid: Grid, box: tuple[slice, slice, slice]) -> Grid:
    """Grid of the voxels in a box of slices (k, j, i)."""
    matrix = np.array(grid.index_to_lps)
    matrix[:3, 3] += matrix[:3, :3] @ [s.start for s in box[::-1]]
    n_k, n_j, n_i = (s.stop - s.start for s in box)
    return Grid((n_k, n_j, n_i), matrix)


def _integer(header: dict[str, str], key: str, path: Path) -> int:
    try:
        return int(header[key])
    except (KeyError, ValueError) as error:
        raise InputError(f"Segmentation '{path}' has no valid {key}; save it again in 3D Slicer.") from error


def _color(text: str | None) -> Color | None:
    """Color of three shares of 1, such as "0.5 0.7 0.1"."""
    if text is None:
        return None
    red, green, blue = (round(255 * float(share)) for share in text.split())
    return red, green, blue
