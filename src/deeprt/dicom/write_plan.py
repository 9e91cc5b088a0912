"""The deliverable plan as an RT Plan object (DICOM PS3.3, A.20)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import RTPlanStorage, RTStructureSetStorage, generate_uid

from deeprt.beams import Beam
from deeprt.case import PatientCase
from deeprt.delivery.segments import DeliverablePlan, JawOpening, Segment
from deeprt.dicom.common import DISCLAIMER, decimal, identity_of, new_dataset, reference, rounded
from deeprt.machine import Machine
from deeprt.structures import Role, Structure

_SHORT_TEXT_LIMIT = 16  # characters of the value representation SH (PS3.5, 6.2)
_POSITION_DIGITS = 2  # leaves, jaws and isocenter are written to 0.01 mm
_ANGLE_DIGITS = 1


def plan_dataset(case: PatientCase, plan: DeliverablePlan, *, label: str, structure_set_uid: str) -> Dataset:
    """Describe a plan as a planning system would: unapproved, step and shoot or sliding window.

    Patient, study and frame of reference are those of the case; the series is new. IEC 61217 angles are DICOM's
    own, so they are written as they are, to 0.1 degrees. Leaves, jaws and isocenter are written to 0.01 mm.

    Parameters
    ----------
    label : 1 to 16 characters, shown by planning systems
    structure_set_uid : SOP Instance UID of the structure set that holds the targets

    Raises
    ------
    ValueError
        If the label is empty or too long, the structure set is not given, the case has no DICOM identity, or a beam
        delivers nothing.
    """
    if not 1 <= len(label) <= _SHORT_TEXT_LIMIT:
        raise ValueError(f"The plan label must have 1 to {_SHORT_TEXT_LIMIT} characters, got '{label}'.")
    if not structure_set_uid:
        raise ValueError("The plan needs the UID of a structure set; write the structure set first.")
    _check_beams(plan)
    dataset = new_dataset(case, RTPlanStorage, "RTPLAN", series_description="DeepRT plan", series_number=3)
    dataset.RTPlanLabel = label
    dataset.RTPlanDescription = DISCLAIMER
    dataset.RTPlanDate = dataset.InstanceCreationDate
    dataset.RTPlanTime = dataset.InstanceCreationTime
    dataset.RTPlanGeometry = "PATIENT"
    dataset.PlanIntent = "RESEARCH"
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.ReferencedStructureSetSequence = [reference(RTStructureSetStorage, structure_set_uid)]
    if case.targets:
        doses = ", ".join(f"{t.name} {t.prescription_gy:g} Gy" for t in case.targets)
        dataset.PrescriptionDescription = f"{doses} in {plan.n_fractions} fractions"
        roi_numbers = identity_of(case).roi_numbers
        dataset.DoseReferenceSequence = [
            _dose_reference(number, target, roi_numbers.get(target.name))
            for number, target in enumerate(case.targets, start=1)
        ]
    dataset.FractionGroupSequence = [_fraction_group(plan)]
    dataset.PatientSetupSequence = [_patient_setup(case.position)]
    # A bolus of a given density may not be on the CT: the plan says that it belongs to the treatment.
    boluses = [s.name for s in case.with_role(Role.BOLUS) if s.density is not None]
    bolus_numbers = [number for name, number in identity_of(case).roi_numbers.items() if name in boluses]
    dataset.BeamSequence = [_beam(plan, index, bolus_numbers) for index in range(len(plan.beams))]
    return dataset


def _check_beams(plan: DeliverablePlan) -> None:
    for index, beam in enumerate(plan.beams):
        if not plan.beam_mu(index) > 0:
            raise ValueError(f"Beam '{beam.name}' delivers no monitor units; remove it from the plan.")


def _dose_reference(number: int, target: Structure, roi_number: int | None) -> Dataset:
    """Prescription of a target; it is a SITE, not a VOLUME, if the structure set does not hold it."""
    item = Dataset()
    item.DoseReferenceNumber = number
    item.DoseReferenceUID = generate_uid()
    if roi_number is None:
        item.DoseReferenceStructureType = "SITE"
    else:
        item.DoseReferenceStructureType = "VOLUME"
        item.ReferencedROINumber = roi_number
    item.DoseReferenceDescription = target.name
    item.DoseReferenceType = "TARGET"
    item.TargetPrescriptionDose = decimal(target.prescription_gy or 0.0)
    return item


def _fraction_group(plan: DeliverablePlan) -> Dataset:
    item = Dataset()
    item.FractionGroupNumber = 1
    item.NumberOfFractionsPlanned = plan.n_fractions
    item.NumberOfBeams = len(plan.beams)
    item.NumberOfBrachyApplicationSetups = 0
    item.ReferencedBeamSequence = []
    for index in range(len(plan.beams)):
        referenced = Dataset()
        referenced.BeamMeterset = decimal(plan.beam_mu(index))
        referenced.ReferencedBeamNumber = index + 1
        item.ReferencedBeamSequence.append(referenced)
    return item


def _patient_setup(position: str) -> Dataset:
    item = Dataset()
    item.PatientSetupNumber = 1
    item.PatientPosition = position
    item.SetupTechnique = "ISOCENTRIC"
    return item


def _referenced_roi(number: int) -> Dataset:
    item = Dataset()
    item.ReferencedROINumber = number
    return item


def _beam(plan: DeliverablePlan, index: int, bolus_numbers: Sequence[int]) -> Dataset:
    beam, segments = plan.beams[index], plan.segments_of(index)
    item = Dataset()
    item.BeamNumber = index + 1
    item.BeamName = beam.name
    item.BeamDescription = f"{plan.technique}, {len(segments)} segments"
    item.BeamType = "DYNAMIC" if plan.technique == "sliding window" else "STATIC"
    item.RadiationType = "PHOTON"
    item.TreatmentDeliveryType = "TREATMENT"
    item.TreatmentMachineName = plan.machine.name[:_SHORT_TEXT_LIMIT].strip()
    item.ManufacturerModelName = plan.machine.name
    item.PrimaryDosimeterUnit = "MU"
    item.PrimaryFluenceModeSequence = [Dataset()]
    item.PrimaryFluenceModeSequence[0].FluenceMode = "STANDARD"
    item.SourceAxisDistance = decimal(plan.machine.sad_mm)
    item.BeamLimitingDeviceSequence = _limiting_devices(plan.machine)
    item.ReferencedPatientSetupNumber = 1
    item.NumberOfWedges = 0
    item.NumberOfCompensators = 0
    item.NumberOfBoli = len(bolus_numbers)
    if bolus_numbers:
        item.ReferencedBolusSequence = [_referenced_roi(n) for n in bolus_numbers]
    item.NumberOfBlocks = 0
    item.FinalCumulativeMetersetWeight = decimal(1.0)
    item.ControlPointSequence = _control_points(segments)
    item.NumberOfControlPoints = len(item.ControlPointSequence)
    _set_static_geometry(item.ControlPointSequence[0], plan.machine, beam, plan.jaws[index])
    return item


def _limiting_devices(machine: Machine) -> list[Dataset]:
    devices = []
    for kind, n_pairs in (("ASYMX", 1), ("ASYMY", 1), ("MLCX", machine.mlc.n_pairs)):
        item = Dataset()
        item.RTBeamLimitingDeviceType = kind
        item.NumberOfLeafJawPairs = n_pairs
        devices.append(item)
    devices[-1].LeafPositionBoundaries = rounded(machine.mlc.leaf_edges_mm, _POSITION_DIGITS)
    return devices


def _control_points(segments: tuple[Segment, ...]) -> list[Dataset]:
    """Describe where the leaves are, and which share of the meterset has been delivered.

    Segments that stand have two control points each: the meterset rises within a pair, the leaves move between pairs.
    Segments that move share theirs, for each begins where the last one ends.
    """
    cumulative = np.cumsum([0.0, *(s.mu for s in segments)])
    weights = [decimal(w) for w in cumulative / cumulative[-1]]
    points: list[Dataset] = []
    for number, segment in enumerate(segments):
        left, right = segment.ends_mm
        for end in (1,) if segment.moves and number > 0 else (0, 1):
            item = Dataset()
            item.ControlPointIndex = len(points)
            item.CumulativeMetersetWeight = weights[number + end]
            item.BeamLimitingDevicePositionSequence = [_positions("MLCX", [*left[end], *right[end]])]
            points.append(item)
    return points


def _positions(device: str, positions_mm: list[float]) -> Dataset:
    """Positions of a device's first bank, then of its second."""
    item = Dataset()
    item.RTBeamLimitingDeviceType = device
    item.LeafJawPositions = rounded(positions_mm, _POSITION_DIGITS)
    return item


def _set_static_geometry(point: Dataset, machine: Machine, beam: Beam, jaws: JawOpening) -> None:
    """Add to the first control point what stays the same throughout the beam."""
    point.NominalBeamEnergy = decimal(machine.energy_mv)
    point.DoseRateSet = decimal(machine.dose_rate_mu_per_min)
    point.BeamLimitingDevicePositionSequence = [
        _positions("ASYMX", [jaws.x1_mm, jaws.x2_mm]),
        _positions("ASYMY", [jaws.y1_mm, jaws.y2_mm]),
        *point.BeamLimitingDevicePositionSequence,
    ]
    point.GantryAngle = _angle(beam.angles.gantry_deg)
    point.GantryRotationDirection = "NONE"
    point.BeamLimitingDeviceAngle = _angle(beam.angles.collimator_deg)
    point.BeamLimitingDeviceRotationDirection = "NONE"
    point.PatientSupportAngle = _angle(beam.angles.couch_deg)
    point.PatientSupportRotationDirection = "NONE"
    point.TableTopEccentricAngle = 0
    point.TableTopEccentricRotationDirection = "NONE"
    point.TableTopVerticalPosition = None
    point.TableTopLongitudinalPosition = None
    point.TableTopLateralPosition = None
    point.IsocenterPosition = rounded(beam.isocenter_lps, _POSITION_DIGITS)


def _angle(angle_deg: float) -> float:
    """Angle to 0.1 degrees in [0, 360): 359.97 is 0, not 360."""
    return round(angle_deg, _ANGLE_DIGITS) % 360.0
