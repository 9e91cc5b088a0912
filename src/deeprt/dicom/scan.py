"""Find the one CT series and the one structure set in a folder of DICOM files."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    MediaStorageDirectoryStorage,
    RTPlanStorage,
    RTStructureSetStorage,
)

from deeprt.case import DicomReferences
from deeprt.errors import InputError
from deeprt.progress import Progress

_IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")  # of every composite object
_UNDEFINED_LENGTH = 0xFFFFFFFF
_NO_CT = "planning needs a CT, or --water-equivalent (water_equivalent = true) to take the body for water"


@dataclass(frozen=True, eq=False)
class DicomStudy:
    """The files of one case.

    Parameters
    ----------
    slices : headers of the CT's slices, without pixels, in no order; each knows its ``filename``; none for a body of
        water
    structure_set : the RTSTRUCT
    plan_positions : Patient Positions that the RTPLANs of the folder state
    notes : what was left out, one sentence each
    """

    slices: tuple[Dataset, ...]
    structure_set: Dataset
    plan_positions: frozenset[str]
    notes: tuple[str, ...]


def scan_folder(
    folder: Path,
    *,
    series_uid: str | None = None,
    structure_set_uid: str | None = None,
    water_equivalent: bool = False,
    progress: Progress,
) -> DicomStudy:
    """Find the CT series and the structure set of a case in a folder and its sub-folders.

    Parameters
    ----------
    folder : any mix of files; those that are not DICOM are ignored
    series_uid, structure_set_uid : which to take if there are several; the full UID or a unique ending
    water_equivalent : whether the structure set stands without a CT

    Raises
    ------
    InputError
        If the folder has no DICOM, a DICOM file is corrupt, or CT series and structure set are not one of each.
    """
    headers = _read_headers(folder, progress)
    slices, notes = ((), ()) if water_equivalent else _choose_ct(folder, headers, series_uid)
    if water_equivalent and any(h.SOPClassUID == CTImageStorage for h in headers):
        raise InputError(f"Folder '{folder}' has a CT; leave out --water-equivalent, which is for those without.")
    sets = [h for h in headers if h.SOPClassUID == RTStructureSetStorage]
    if not sets:
        found = "is to be a body of water but has" if water_equivalent else "has a CT but"
        raise InputError(f"Folder '{folder}' {found} no structure set (RTSTRUCT); add the exported structures.")
    described = [
        (
            str(s.SOPInstanceUID),
            f"'{s.get('StructureSetLabel', '')}', {s.get('StructureSetDate', '') or 'no date'}, file '{file_name(s)}'",
        )
        for s in sets
    ]
    chosen = _choose(folder, "structure sets", "--structure-set", structure_set_uid, described)
    positions = {
        text_of(setup, "PatientPosition")
        for plan in headers
        if plan.SOPClassUID == RTPlanStorage
        for setup in plan.get("PatientSetupSequence") or []
    }
    return DicomStudy(slices, sets[chosen], frozenset(positions - {""}), notes)


def file_name(header: Dataset) -> str:
    """Name of the file that a dataset was read from."""
    return Path(str(header.filename)).name


def text_of(dataset: Dataset, keyword: str) -> str:
    """Text of an attribute; empty where there is none."""
    return str(dataset.get(keyword, "") or "")


def identity_of_study(header: Dataset) -> DicomReferences:
    """Patient, study and frame of reference that an object states."""
    return DicomReferences(
        patient_name=text_of(header, "PatientName"),
        patient_id=text_of(header, "PatientID"),
        patient_birth_date=text_of(header, "PatientBirthDate"),
        patient_sex=text_of(header, "PatientSex"),
        study_instance_uid=text_of(header, "StudyInstanceUID"),
        study_id=text_of(header, "StudyID"),
        study_date=text_of(header, "StudyDate"),
        study_time=text_of(header, "StudyTime"),
        study_description=text_of(header, "StudyDescription"),
        accession_number=text_of(header, "AccessionNumber"),
        referring_physician_name=text_of(header, "ReferringPhysicianName"),
        frame_of_reference_uid=text_of(header, "FrameOfReferenceUID"),
        position_reference_indicator=text_of(header, "PositionReferenceIndicator"),
    )


def read_header(path: Path) -> Dataset | None:
    """Read a DICOM file without its pixels; None if the file is not DICOM.

    Raises
    ------
    InputError
        If the file looks like DICOM but is corrupt or truncated.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(132)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}.") from error
    has_preamble = start[128:] == b"DICM"
    # Some planning systems write no preamble; their files begin with group 0002 or 0008, little endian.
    if not has_preamble and start[:2] not in (b"\x02\x00", b"\x08\x00"):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values in attributes that nobody reads here
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            missing = [keyword for keyword in _IDENTITY if not header.get(keyword)]
            is_truncated = _is_truncated(header)
    except Exception as error:  # pydicom raises many kinds, from KeyError to struct.error, on broken bytes
        if not has_preamble:
            return None
        raise InputError(
            f"'{path}' looks like DICOM but is corrupt ({error}); export it again or remove it."
        ) from error
    is_directory = header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage
    if is_directory or (not has_preamble and "SOPClassUID" in missing):
        return None
    if missing or is_truncated:
        why = "it ends too early" if is_truncated else f"it has no {', '.join(missing)}"
        raise InputError(
            f"'{path}' looks like DICOM but is corrupt or incomplete ({why}); export it again or remove it."
        )
    return header


def _read_headers(folder: Path, progress: Progress) -> list[Dataset]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    if not paths:
        raise InputError(f"Folder '{folder}' is empty; give a folder with the CT and the structure set.")
    headers = []
    for n, path in enumerate(paths):
        progress.step("Reading case", 0.3 * n / len(paths), "looking for DICOM")
        header = read_header(path)
        if header is not None:
            headers.append(header)
    if not headers:
        raise InputError(
            f"Folder '{folder}' holds no DICOM file among its {len(paths)} files; for a CT in NRRD or NIfTI "
            "give the CT file itself."
        )
    return headers


def _is_truncated(header: Dataset) -> bool:
    """Whether an element holds fewer bytes than it announces."""
    elements = (header.get_item(tag) for tag in header.keys())  # noqa: SIM118 - iterating would decode every element
    return any(
        isinstance(e, RawDataElement) and e.value is not None and len(e.value) < e.length != _UNDEFINED_LENGTH
        for e in elements
    )


def _choose_ct(folder: Path, headers: list[Dataset], wanted: str | None) -> tuple[tuple[Dataset, ...], tuple[str, ...]]:
    series: defaultdict[str, list[Dataset]] = defaultdict(list)
    n_localizers = 0
    for header in headers:
        if header.SOPClassUID == CTImageStorage and "LOCALIZER" in header.get("ImageType", ()):
            n_localizers += 1
        elif header.SOPClassUID == CTImageStorage:
            series[str(header.SeriesInstanceUID)].append(header)
    if not series:
        counts = Counter(str(h.get("Modality", "") or h.SOPClassUID.name) for h in headers)
        found = ", ".join(f"{n} of {modality}" for modality, n in counts.items())
        multi_frame = any(h.SOPClassUID == EnhancedCTImageStorage for h in headers)
        remedy = "export the CT as single slices, not multi-frame" if multi_frame else _NO_CT
        raise InputError(f"Folder '{folder}' holds no CT slices, only {found} files; {remedy}.")
    described = [
        (uid, f"'{slices[0].get('SeriesDescription', '')}', {len(slices)} slices") for uid, slices in series.items()
    ]
    chosen = _choose(folder, "CT series", "--series", wanted, described)
    notes = (f"{n_localizers} CT localizer image(s) were ignored.",) if n_localizers else ()
    return tuple(series[described[chosen][0]]), notes


def _choose(folder: Path, what: str, option: str, wanted: str | None, described: list[tuple[str, str]]) -> int:
    """Index of the only candidate, or of the one whose UID is or ends as wanted."""
    uids = [uid for uid, _ in described]
    if wanted is None:
        found = list(range(len(uids)))
        problem = f"holds {len(uids)} {what}"
    else:
        found = [n for n, uid in enumerate(uids) if uid == wanted] or [
            n for n, uid in enumerate(uids) if uid.endswith(wanted)
        ]
        problem = f"holds {len(found) or 'no'} {what} with a UID ending in '{wanted}'"
    if len(found) == 1:
        return found[0]
    listing = "; ".join(f"{uid} ({text})" for uid, text in described)
    raise InputError(f"Folder '{folder}' {problem}; choose one with {option} UID out of: {listing}.")
