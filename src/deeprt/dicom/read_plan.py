"""Read an RT Plan that another system wrote (DICOM PS3.3, A.20) into beams whose dose can be computed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import RTIonPlanStorage, RTPlanStorage

from deeprt.beams import BeamAngles
from deeprt.delivery.existing_plan import WITHDRAWN_MM, ExistingPlan, PlannedBeam, UnsupportedBeam
from deeprt.dicom.scan import read_header, text_of
from deeprt.errors import InputError

Float = NDArray[np.float64]

_ANGLE_TOLERANCE_DEG = 0.1  # below it, an angle that differs between control points is rounding
_LENGTH_TOLERANCE_MM = 0.1  # below it, an isocenter that differs, or tips that overlap, are rounding
_JAWS = {"X": 0, "ASYMX": 0, "Y": 2, "ASYMY": 2}  # first column among x1, x2, y1, y2
_LEAVES: dict[str, Literal["x", "y"]] = {"MLCX": "x", "MLCY": "y"}
_ANGLES = ("GantryAngle", "BeamLimitingDeviceAngle", "PatientSupportAngle")
_LEVEL = ("TableTopEccentricAngle", "TableTopPitchAngle", "TableTopRollAngle", "GantryPitchAngle")


class _UnsupportedError(Exception):
    """What a beam does, or has, that is not supported; the words that follow its name."""


def read_plan(path: Path) -> ExistingPlan:
    """Read an RT Plan file, with or without preamble and transfer syntax.

    Beams that are no treatment or have no monitor units are left out, with a note. A beam of a second fraction
    group counts with that group's fractions.

    Raises
    ------
    InputError
        If the file is no RT Plan, is corrupt, or contradicts itself where the dose depends on it.
    """
    dataset = read_header(path) if path.is_file() else None
    if dataset is None:
        what = "is not a DICOM file" if path.is_file() else "does not exist"
        raise InputError(f"Plan '{path}' {what}; give the RTPLAN file of the plan.")
    if dataset.SOPClassUID == RTIonPlanStorage:
        raise InputError(f"Plan '{path}' is an RT Ion Plan; only photon beams are supported.")
    if dataset.SOPClassUID != RTPlanStorage:
        kind = str(dataset.get("Modality", "") or dataset.SOPClassUID.name)
        raise InputError(f"Plan '{path}' is not an RT Plan but {kind}; give the RTPLAN file of the plan.")
    try:
        return _plan(dataset, path)
    except InputError:
        raise
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"Plan '{path}' is incomplete or corrupt ({error}); export it again.") from error


def _plan(dataset: Dataset, path: Path) -> ExistingPlan:
    items = {int(b.BeamNumber): b for b in dataset.get("BeamSequence") or []}
    groups = dataset.get("FractionGroupSequence") or []
    beams: list[PlannedBeam] = []
    unsupported: list[UnsupportedBeam] = []
    notes, met = [], set()
    for group in groups:
        for referenced in group.get("ReferencedBeamSequence") or []:
            number = int(referenced.ReferencedBeamNumber)
            if number not in items:
                raise InputError(f"Plan '{path}' delivers beam {number}, which it does not describe; export it again.")
            met.add(number)
            item, mu = items[number], referenced.get("BeamMeterset")
            if left_out := _why_left_out(item, mu):
                notes.append(f"{_where(item)} is left out: {left_out}.")
                continue
            try:
                beams.append(_beam(item, referenced, group))
            except _UnsupportedError as error:
                reason = f"{_where(item)} {error}, which is not supported."
                unsupported.append(UnsupportedBeam(number, _name(item), int(group.FractionGroupNumber), reason))
    notes += [
        f"{_where(item)} is left out: it belongs to no fraction group." for n, item in items.items() if n not in met
    ]
    if not beams and not unsupported:
        raise InputError(f"Plan '{path}' has no treatment beam with monitor units.")
    if len(groups) > 1:
        each = " and ".join(f"{g.NumberOfFractionsPlanned} fractions of group {g.FractionGroupNumber}" for g in groups)
        notes.append(f"The plan has {len(groups)} fraction groups; its dose is that of {each}.")
    positions = {text_of(s, "PatientPosition") for s in dataset.get("PatientSetupSequence") or []} - {""}
    if len(positions) > 1:
        raise InputError(f"Plan '{path}' treats in several patient positions ({', '.join(sorted(positions))}).")
    return ExistingPlan(
        label=text_of(dataset, "RTPlanLabel"),
        system=" ".join(filter(None, (text_of(dataset, "Manufacturer"), text_of(dataset, "ManufacturerModelName")))),
        sop_class_uid=text_of(dataset, "SOPClassUID"),
        sop_instance_uid=text_of(dataset, "SOPInstanceUID"),
        patient_id=text_of(dataset, "PatientID"),
        frame_of_reference_uid=text_of(dataset, "FrameOfReferenceUID"),
        position=positions.pop() if positions else "",
        beams=tuple(beams),
        unsupported=tuple(unsupported),
        notes=tuple(notes),
    )


def _why_left_out(item: Dataset, mu: float | None) -> str | None:
    delivery = text_of(item, "TreatmentDeliveryType") or "TREATMENT"
    if delivery not in ("TREATMENT", "CONTINUATION"):
        return f"it is no treatment beam but {delivery}"
    return "it has no monitor units" if mu == 0 else None


def _beam(item: Dataset, referenced: Dataset, group: Dataset) -> PlannedBeam:
    _check_technique(item)
    if referenced.get("BeamMeterset") is None:
        raise _UnsupportedError("states no monitor units")
    points = list(item.get("ControlPointSequence") or [])
    if len(points) < 2:
        raise InputError(f"{_where(item)} has {len(points)} control points; at least two are needed.")
    gantry, collimator, couch = _fixed_geometry(item, points)
    travel, edges, left, right = _leaves(item, points)
    fluence_mode = [text_of(m, "FluenceMode") for m in item.get("PrimaryFluenceModeSequence") or []]
    specified = referenced.get("BeamDoseSpecificationPoint")
    dose = referenced.get("BeamDose")
    ssd = points[0].get("SourceToSurfaceDistance")
    return PlannedBeam(
        number=int(item.BeamNumber),
        name=_name(item),
        group_number=int(group.FractionGroupNumber),
        angles=BeamAngles(gantry, couch, collimator),
        isocenter_lps=np.array(_needed(item, points[0], "IsocenterPosition"), dtype=np.float64),
        sad_mm=float(_needed(item, item, "SourceAxisDistance")),
        energy_mv=float(_needed(item, points[0], "NominalBeamEnergy")),
        is_flattened="NON_STANDARD" not in fluence_mode,
        machine_name=text_of(item, "TreatmentMachineName") or "machine",
        mu=float(referenced.BeamMeterset),
        n_fractions=int(_needed(item, group, "NumberOfFractionsPlanned")),
        meterset=_meterset(item, points),
        jaws_mm=_jaws(item, points),
        leaf_edges_mm=edges,
        left_mm=left,
        right_mm=right,
        leaf_travel=travel,
        has_bolus=int(item.get("NumberOfBoli") or 0) > 0,
        ssd_mm=None if ssd is None else float(ssd),
        point_lps=None if not specified or not dose else np.array(specified, dtype=np.float64),
        stated_point_gy_per_fraction=None if not specified or not dose else float(dose),
    )


def _check_technique(item: Dataset) -> None:
    """Refuse what the dose model knows nothing of."""
    radiation = text_of(item, "RadiationType") or "PHOTON"
    if radiation != "PHOTON":
        raise _UnsupportedError(f"is a beam of {radiation.lower()}s")
    unit = text_of(item, "PrimaryDosimeterUnit") or "MU"
    if unit != "MU":
        raise _UnsupportedError(f"is dosed in {unit}, not in monitor units")
    counted = {
        "NumberOfCompensators": "a compensator",
        "NumberOfBlocks": "a block",
    }
    for keyword, what in counted.items():
        if int(item.get(keyword) or 0) > 0:
            raise _UnsupportedError(f"has {what}")
    if item.get("ApplicatorSequence"):
        raise _UnsupportedError("has an applicator")
    positions = [
        text_of(w, "WedgePosition")
        for point in item.get("ControlPointSequence") or []
        for w in point.get("WedgePositionSequence") or []
    ]
    if int(item.get("NumberOfWedges") or 0) > 0 and (not positions or set(positions) != {"OUT"}):
        raise _UnsupportedError("has a wedge")


def _fixed_geometry(item: Dataset, points: list[Dataset]) -> tuple[float, float, float]:
    """Gantry, collimator and couch angle, which must stay, as must isocenter and energy; the couch must be level."""
    for keyword in _LEVEL:
        if any(abs(_turn(float(p.get(keyword) or 0.0))) > _ANGLE_TOLERANCE_DEG for p in points):
            raise _UnsupportedError(f"has a {_spaced(keyword)} of {float(points[0].get(keyword) or 0.0):g}°")
    angles = []
    for keyword in _ANGLES:
        first = float(_needed(item, points[0], keyword))
        stated = [float(p.get(keyword)) for p in points if p.get(keyword) is not None]
        # A full turn ends where it began, so that only its direction tells it from a beam that stands.
        directions = {text_of(p, keyword.replace("Angle", "RotationDirection")) for p in points[:-1]}
        turns = len(stated) > 1 and directions & {"CW", "CC"}
        if turns or any(abs(_turn(a - first)) > _ANGLE_TOLERANCE_DEG for a in stated):
            raise _UnsupportedError("is an arc" if keyword == "GantryAngle" else f"changes its {_spaced(keyword)}")
        angles.append(first)
    isocenter = np.array(_needed(item, points[0], "IsocenterPosition"), dtype=np.float64)
    if isocenter.size != 3:
        raise InputError(f"{_where(item)} has an isocenter of {isocenter.size} coordinates.")
    for point in points[1:]:
        moved = point.get("IsocenterPosition")
        if moved and np.abs(np.array(moved, dtype=np.float64) - isocenter).max() > _LENGTH_TOLERANCE_MM:
            raise _UnsupportedError("moves its isocenter")
        if (energy := point.get("NominalBeamEnergy")) is not None and energy != points[0].get("NominalBeamEnergy"):
            raise _UnsupportedError("changes its energy")
    gantry, collimator, couch = angles
    return gantry, collimator, couch


def _meterset(item: Dataset, points: list[Dataset]) -> Float:
    """Share of the monitor units delivered before each control point, (n_points,)."""
    weights = np.array([float(_needed(item, p, "CumulativeMetersetWeight")) for p in points])
    final = item.get("FinalCumulativeMetersetWeight")
    if weights[0] != 0 or np.any(np.diff(weights) < 0) or not weights[-1] > 0:
        raise InputError(f"{_where(item)} has cumulative meterset weights that do not rise from 0.")
    if final is not None and not np.isclose(float(final), weights[-1], rtol=1e-4):
        raise InputError(f"{_where(item)} ends at the meterset weight {weights[-1]:g}, but announces {float(final):g}.")
    return np.asarray(weights / weights[-1])


def _positions(item: Dataset, points: list[Dataset]) -> Iterator[tuple[int, str, Float]]:
    """Control point, kind of device and its positions, where they are stated."""
    for n, point in enumerate(points):
        for device in point.get("BeamLimitingDevicePositionSequence") or []:
            kind = text_of(device, "RTBeamLimitingDeviceType")
            if kind not in _JAWS and kind not in _LEAVES:
                raise _UnsupportedError(f"has a beam-limiting device {kind}")
            values = np.array(device.get("LeafJawPositions"), dtype=np.float64).reshape(-1)
            if values.size % 2 or not values.size or not np.all(np.isfinite(values)):
                raise InputError(f"{_where(item)}, control point {n}: the positions of {kind} are incomplete.")
            yield n, kind, values


def _jaws(item: Dataset, points: list[Dataset]) -> Float:
    """x1, x2, y1, y2 at each control point, (n_points, 4); what is not repeated stays."""
    jaws = np.tile([-np.inf, np.inf, -np.inf, np.inf], (len(points), 1))
    for n, kind, values in _positions(item, points):
        if kind in _JAWS:
            if values.size != 2 or values[0] > values[1]:
                raise InputError(f"{_where(item)}, control point {n}: {kind} is not a pair of jaws that open.")
            jaws[n:, _JAWS[kind] : _JAWS[kind] + 2] = values
    return jaws


def _leaves(item: Dataset, points: list[Dataset]) -> tuple[Literal["x", "y"], Float, Float, Float]:
    """Direction of travel, leaf edges and the tips of both banks at each control point, (n_points, n_pairs)."""
    stated = [(n, kind, values) for n, kind, values in _positions(item, points) if kind in _LEAVES]
    kinds = {kind for _, kind, _ in stated}
    if len(kinds) > 1:
        raise _UnsupportedError("has two multileaf collimators")
    if not kinds:
        tips = np.full((len(points), 1), WITHDRAWN_MM)
        if not np.isfinite(_jaws(item, points)).all():
            raise InputError(f"{_where(item)} has neither leaves nor jaws on both axes: its field is not known.")
        return "x", np.array([-WITHDRAWN_MM, WITHDRAWN_MM]), -tips, tips
    kind = kinds.pop()
    devices = [d for d in item.BeamLimitingDeviceSequence if text_of(d, "RTBeamLimitingDeviceType") == kind]
    edges = np.array(devices[0].get("LeafPositionBoundaries") if devices else None, dtype=np.float64).reshape(-1)
    n_pairs = edges.size - 1
    if stated[0][0] != 0 or any(values.size != 2 * n_pairs for _, _, values in stated):
        raise InputError(f"{_where(item)} does not place the {n_pairs} leaf pairs of its {kind} that it describes.")
    left, right = np.empty((len(points), n_pairs)), np.empty((len(points), n_pairs))
    for n, _, values in stated:
        if np.any(values[:n_pairs] > values[n_pairs:] + _LENGTH_TOLERANCE_MM):
            pair = int(np.argmax(values[:n_pairs] - values[n_pairs:])) + 1
            raise InputError(f"{_where(item)}, control point {n}: the tips of leaf pair {pair} of {kind} overlap.")
        left[n:], right[n:] = values[:n_pairs], np.maximum(values[:n_pairs], values[n_pairs:])
    return _LEAVES[kind], edges, left, right


def _needed(item: Dataset, holder: Dataset, keyword: str) -> Any:
    """Value of an attribute without which the beam has no dose."""
    value = holder.get(keyword)
    if value is None or value == "":
        raise InputError(f"{_where(item)} has no {keyword}, so that its dose is not determined.")
    return value


def _turn(angle_deg: float) -> float:
    """Angle brought to -180 to 180 degrees."""
    return (angle_deg + 180.0) % 360.0 - 180.0


def _spaced(keyword: str) -> str:
    """Attribute keyword as words.

    >>> _spaced("TableTopPitchAngle")
    'table top pitch angle'
    """
    return "".join(f" {c.lower()}" if c.isupper() else c for c in keyword).strip()


def _name(item: Dataset) -> str:
    return text_of(item, "BeamName") or f"Beam {item.BeamNumber}"


def _where(item: Dataset) -> str:
    return f"Beam {item.BeamNumber} '{_name(item)}'"
