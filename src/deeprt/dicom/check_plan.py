"""Consistency of an RT Plan beyond what DICOM validators look at: beams, leaves and monitor units fit together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

_IDENTIFIERS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_FIRST_POINT = (
    "NominalBeamEnergy", "GantryAngle", "BeamLimitingDeviceAngle", "PatientSupportAngle", "IsocenterPosition",
    "BeamLimitingDevicePositionSequence",
)  # fmt: skip


def check_plan(dataset: Dataset) -> tuple[str, ...]:
    """Find contradictions and gaps that would make an external-beam plan undeliverable or ambiguous.

    Setup fields need no monitor units; everything else is asked of every beam.

    Returns
    -------
    One sentence a problem; empty if the plan is consistent.
    """
    return (*_references(dataset), *_fraction_groups(dataset), *_beams(dataset))


def _is_blank(dataset: Dataset, keyword: str) -> bool:
    """Whether an attribute is absent or has no value."""
    return keyword not in dataset or dataset[keyword].is_empty


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    return list(dataset.get(keyword) or [])


def _references(dataset: Dataset) -> Iterator[str]:
    for keyword in _IDENTIFIERS:
        if _is_blank(dataset, keyword):
            yield f"The plan has no {keyword}."
    if dataset.get("RTPlanGeometry") == "PATIENT":
        structure_sets = _items(dataset, "ReferencedStructureSetSequence")
        if not structure_sets or _is_blank(structure_sets[0], "ReferencedSOPInstanceUID"):
            yield "The plan refers to no structure set, though its geometry is that of a patient."


def _fraction_groups(dataset: Dataset) -> Iterator[str]:
    groups = _items(dataset, "FractionGroupSequence")
    if not groups:
        yield "The plan has no fraction group."
        return
    beams = {beam.get("BeamNumber"): beam for beam in _items(dataset, "BeamSequence")}
    covered = set()
    for group in groups:
        name = f"Fraction group {group.get('FractionGroupNumber', '?')}"
        if _is_blank(group, "NumberOfFractionsPlanned") or group.NumberOfFractionsPlanned < 1:
            yield f"{name} plans no fractions."
        referenced = _items(group, "ReferencedBeamSequence")
        if group.get("NumberOfBeams") != len(referenced):
            yield f"{name} announces {group.get('NumberOfBeams')} beams and refers to {len(referenced)}."
        for item in referenced:
            number = item.get("ReferencedBeamNumber")
            covered.add(number)
            if number not in beams:
                yield f"{name} refers to beam {number}, which the plan does not have."
            elif _delivers(beams[number]) and (_is_blank(item, "BeamMeterset") or not item.BeamMeterset > 0):
                yield f"{name} gives beam {number} no monitor units."
    for number, beam in beams.items():
        if _delivers(beam) and number not in covered:
            yield f"Beam {number} belongs to no fraction group, so that it has no monitor units."


def _delivers(beam: Dataset) -> bool:
    return bool(beam.get("TreatmentDeliveryType", "TREATMENT") == "TREATMENT")


def _beams(dataset: Dataset) -> Iterator[str]:
    beams = _items(dataset, "BeamSequence")
    if not beams:
        yield "The plan has no beams."
    numbers = [beam.get("BeamNumber") for beam in beams]
    for number in dict.fromkeys(n for n in numbers if numbers.count(n) > 1):
        yield f"Beam number {number} is given to {numbers.count(number)} beams."
    setups = {setup.get("PatientSetupNumber") for setup in _items(dataset, "PatientSetupSequence")}
    for beam in beams:
        name = f"Beam {beam.get('BeamNumber', '?')}"
        if beam.get("ReferencedPatientSetupNumber") not in setups:
            yield f"{name} refers to patient setup {beam.get('ReferencedPatientSetupNumber')}, which the plan lacks."
        points = _items(beam, "ControlPointSequence")
        if beam.get("NumberOfControlPoints") != len(points) or len(points) < 2:
            yield f"{name} announces {beam.get('NumberOfControlPoints')} control points and has {len(points)}."
        if points:
            yield from _first_point(name, points[0])
            yield from _meterset(name, beam, points)
            yield from _devices(name, beam)
            yield from _leaves(name, beam, points)


def _first_point(name: str, point: Dataset) -> Iterator[str]:
    for keyword in _FIRST_POINT:
        if _is_blank(point, keyword):
            yield f"{name} has no {keyword} in its first control point."


def _meterset(name: str, beam: Dataset, points: list[Dataset]) -> Iterator[str]:
    indices = [point.get("ControlPointIndex") for point in points]
    if indices != list(range(len(points))):
        yield f"{name} does not number its control points 0 to {len(points) - 1}."
    blank = [n for n, point in enumerate(points) if _is_blank(point, "CumulativeMetersetWeight")]
    if blank:
        yield f"{name} has no cumulative meterset weight in control point {blank[0]}."
        return
    weights = np.array([float(point.CumulativeMetersetWeight) for point in points])
    if weights[0] != 0:
        yield f"{name} starts at the cumulative meterset weight {weights[0]:g}, not 0."
    falling = np.flatnonzero(np.diff(weights) < 0)
    if falling.size:
        yield f"{name} has a cumulative meterset weight that falls at control point {falling[0] + 1}."
    if _is_blank(beam, "FinalCumulativeMetersetWeight"):
        yield f"{name} has no final cumulative meterset weight."
        return
    final = float(beam.FinalCumulativeMetersetWeight)
    if weights[-1] != final:
        yield f"{name} ends at the cumulative meterset weight {weights[-1]}, but announces {final}."


def _devices(name: str, beam: Dataset) -> Iterator[str]:
    for device in _items(beam, "BeamLimitingDeviceSequence"):
        kind, n_pairs = device.get("RTBeamLimitingDeviceType"), _n_pairs(device)
        if n_pairs < 1:
            yield f"{name} does not say how many leaf or jaw pairs its {kind} has."
        if not str(kind).startswith("MLC"):
            continue
        edges = np.array(device.get("LeafPositionBoundaries") or [], float)
        if edges.size != n_pairs + 1:
            yield f"{name} has {edges.size} leaf position boundaries for the {n_pairs} pairs of its {kind}."
        if np.any(np.diff(edges) <= 0):
            yield f"{name} has leaf position boundaries of {kind} that do not increase."


def _n_pairs(device: Dataset) -> int:
    return int(device.get("NumberOfLeafJawPairs") or 0)


def _leaves(name: str, beam: Dataset, points: list[Dataset]) -> Iterator[str]:
    """Check the positions of jaws and leaves: their number, opposing tips, and movement while a beam is on."""
    devices = _items(beam, "BeamLimitingDeviceSequence")
    n_pairs = {device.get("RTBeamLimitingDeviceType"): _n_pairs(device) for device in devices}
    last: dict[str, NDArray[np.float64]] = {}
    for index, point in enumerate(points):
        for item in _items(point, "BeamLimitingDevicePositionSequence"):
            kind = item.get("RTBeamLimitingDeviceType")
            where = f"{name}, control point {index}"
            positions = np.array(item.get("LeafJawPositions") or [], float)
            if kind not in n_pairs:
                yield f"{where}: {kind} has positions, but the beam has no such device."
                continue
            if positions.size != 2 * n_pairs[kind]:
                yield f"{where}: {kind} has {positions.size} positions for {n_pairs[kind]} pairs."
                continue
            left, right = np.split(positions, 2)
            if np.any(left > right):
                yield f"{where}: pair {np.argmax(left > right) + 1} of {kind} overlaps, tip 1 beyond tip 2."
            if _is_on_before(beam, points, index) and kind in last and not np.array_equal(last[kind], positions):
                yield f"{where}: {kind} moves while a STATIC beam is on."
            last[kind] = positions
    for kind in n_pairs:
        if kind not in last:
            yield f"{name} never positions its {kind}."


def _is_on_before(beam: Dataset, points: list[Dataset], index: int) -> bool:
    """Whether a STATIC beam irradiates on the way to this control point, when nothing may move."""
    if beam.get("BeamType") != "STATIC" or index == 0:
        return False
    before, here = (points[n].get("CumulativeMetersetWeight") for n in (index - 1, index))
    return before is not None and here is not None and bool(here > before)
