"""A patient case from the nodes of a scene, and nodes from a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import slicer

from deeprt.case import GENERIC_HU_TABLE, HuTable, PatientCase
from deeprt.density import with_densities
from deeprt.dicom.external import external_from_ct
from deeprt.dicom.source import AIR_HU, DrawnStructure
from deeprt.errors import InputError
from deeprt.geometry import PATIENT_POSITIONS, Grid
from deeprt.roles import RoleProposal, StructureChoice, propose_roles, with_choices
from deeprt.structures import Role, Structure
from deeprt_mrml.coordinates import grid_of
from deeprt_mrml.segments import add_segment, choices_of, segment_colors, segments_of
from deeprt_mrml.volumes import array_of, set_scale, values_on, volume_node

POSITION = "DICOM.PatientPosition"  # attribute of a volume
_EXTERNAL_OPACITY = 0.15
_WINDOW_HU = (-160.0, 240.0)  # shows soft tissue


def case_from_nodes(
    ct_node: slicer.vtkMRMLScalarVolumeNode,
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    *,
    choices: Mapping[str, StructureChoice] | None = None,
    grid: Grid | None = None,
    n_fractions: int = 1,
    position: str | None = None,
    hu_table: HuTable = GENERIC_HU_TABLE,
) -> PatientCase:
    """Make a case of a CT and a segmentation as they lie in the scene, each under its own linear transforms.

    Parameters
    ----------
    choices : by name of segment, what the user sets; before it goes for what the segments keep (`set_choices`), and
        what their names propose
    grid : of the case; the CT's if None. The CT is averaged onto another grid of the same box, else interpolated
    n_fractions : of the whole course
    position : DICOM Patient Position; the one that the attribute ``DICOM.PatientPosition`` of the CT's node states if
        None, HFS if it states none

    Returns
    -------
    The case; its structures are the segments that have a part in the grid. It has no DICOM identity.

    Raises
    ------
    InputError
        If nodes or choices do not make a case; the message says why.
    """
    ct_grid = grid_of(ct_node)
    grid = ct_grid if grid is None else grid
    ct_hu = values_on(array_of(ct_node), ct_grid, grid, beyond=AIR_HU)
    position, notes = _position_of(ct_node, position)
    drawn = segments_of(segmentation_node)
    names = [s.name for s in drawn]
    kept = choices_of(segmentation_node) | dict(choices or {})
    structures = []
    for source, proposal in zip(drawn, roles_of(segmentation_node, choices), strict=True):
        structure = _structure(source, proposal, kept.get(source.name, StructureChoice()), grid)
        if structure is None:
            notes.append(f"Structure '{source.name}' is empty and left out.")
        else:
            structures.append(structure)
    if all(s.role is not Role.EXTERNAL for s in structures):
        name = _free_name("BODY", names)
        fraction = external_from_ct(ct_hu, grid)
        if not fraction.any():
            raise InputError(
                "No segment is the external, and the CT shows no patient above -400 HU; draw the external."
            )
        structures.append(Structure(name, Role.EXTERNAL, fraction))
        notes.append(f"No segment is the external; '{name}' was made from the CT above -400 HU.")
    case = PatientCase(
        ct_node.GetName(), position, grid, ct_hu, tuple(structures), n_fractions, hu_table, notes=tuple(notes)
    )
    return with_densities(case)


def roles_of(
    node: slicer.vtkMRMLSegmentationNode, choices: Mapping[str, StructureChoice] | None = None
) -> tuple[RoleProposal, ...]:
    """Role of each segment: what the user sets, else what the segment keeps, else what its name proposes.

    Raises
    ------
    InputError
        If a choice names no segment or contradicts itself, or there are two externals.
    """
    names = list(segment_colors(node))
    return with_choices(names, propose_roles([(n, "") for n in names]), choices_of(node) | dict(choices or {}))


def ct_from_case(scene: slicer.vtkMRMLScene, case: PatientCase) -> slicer.vtkMRMLScalarVolumeNode:
    """Add the CT of a case as a volume of the case's name, which states the patient's position."""
    node = volume_node(scene, case.case_id, case.ct_hu, case.grid)
    node.SetAttribute(POSITION, case.position)
    set_scale([node], *_WINDOW_HU)
    return node


def segmentation_from_case(scene: slicer.vtkMRMLScene, case: PatientCase) -> slicer.vtkMRMLSegmentationNode:
    """Add the structures of a case as a segmentation, each with its color or, without one, one of its role.

    Slices show outlines, and the external lets the other structures be seen.
    """
    from deeprt.evaluation.figure_style import structure_colors

    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{case.case_id} structures")
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetVisibility2DFill(False)
    hex_colors = structure_colors(case)
    for s in case.structures:
        red, green, blue = bytes.fromhex(hex_colors[s.name].removeprefix("#"))
        segment_id = add_segment(node, s, case.grid, s.color or (red, green, blue))
        if s.role is Role.EXTERNAL:
            display.SetSegmentOpacity3D(segment_id, _EXTERNAL_OPACITY)
    return node


def _position_of(node: slicer.vtkMRMLScalarVolumeNode, stated: str | None) -> tuple[str, list[str]]:
    """Patient position, and a note where it is assumed."""
    position = stated or node.GetAttribute(POSITION)
    if not position:
        return "HFS", [f"'{node.GetName()}' does not state how the patient lay; head first supine (HFS) is assumed."]
    if position not in PATIENT_POSITIONS:
        raise InputError(f"Patient position '{position}' is not supported; use one of {', '.join(PATIENT_POSITIONS)}.")
    return position, []


def _structure(source: DrawnStructure, proposal: RoleProposal, choice: StructureChoice, grid: Grid) -> Structure | None:
    """Structure of a segment on the grid; None if it has no part in it."""
    if source.fraction_on is None:
        return None
    fraction = source.fraction_on(grid)
    if not fraction.any():
        return None
    return Structure(
        source.name, proposal.role, fraction, proposal.prescription_gy, proposal.organ, source.color, choice.density
    )


def _free_name(name: str, taken: Sequence[str]) -> str:
    return name if name not in taken else f"{name} (CT)"
