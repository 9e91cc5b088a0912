"""What a structure is for, proposed once from its name and its DICOM interpreted type.

Names follow AAPM TG-263 (Mayo et al., Int. J. Radiat. Oncol. Biol. Phys. 100, 1057, 2018,
doi:10.1016/j.ijrobp.2017.12.013) or the common clinical spellings of the table below. After this proposal, which
the user may override, nothing depends on names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from deeprt.errors import InputError
from deeprt.structures import Role


@dataclass(frozen=True)
class StructureChoice:
    """What the user sets for a structure; None leaves the proposal.

    A prescription without a role makes the structure a target. The density is relative to water's electron density.
    """

    role: Role | None = None
    organ: str | None = None
    prescription_gy: float | None = None
    density: float | None = None


@dataclass(frozen=True)
class RoleProposal:
    """A proposed role.

    Parameters
    ----------
    role : what the structure is for
    organ : TG-263 name of an organ at risk; empty if unknown
    prescription_gy : whole-course dose that a target's name states; None if it states none
    reason : a few words for the user
    """

    role: Role
    organ: str
    prescription_gy: float | None
    reason: str


# TG-263 name: other spellings, lower case, letters only (the TG-263 name itself need not be repeated).
_SINGLE_ORGANS = {
    "Anus": "",
    "Bag_Bowel": "bowelbag bowelspace bowelcavity",
    "Bladder": "urinarybladder",
    "Bone_Mandible": "mandible mandiblebone jaw",
    "Bowel": "bowels intestine intestines",
    "Bowel_Large": "largebowel largeintestine",
    "Bowel_Small": "smallbowel smallintestine sb",
    "Brain": "",
    "Brainstem": "",
    "Canal_Anal": "analcanal",
    "CaudaEquina": "",
    "Cavity_Oral": "oralcavity",
    "Chestwall": "",
    "Colon": "",
    "Colon_Sigmoid": "sigmoid sigmoidcolon",
    "Core": "",
    "Duodenum": "",
    "Esophagus": "oesophagus",
    "Eyes": "",
    "Femur_Heads": "femurheads femoralheads",
    "Genitals": "genitalia externalgenitalia",
    "Glnd_Thyroid": "thyroid thyroidgland",
    "Heart": "",
    "Kidneys": "bothkidneys",
    "Larynx": "",
    "Lips": "lip",
    "Liver": "",
    "Lungs": "bothlungs totallung lungtotal lungstotal",
    "Musc_Constrict": "constrictor constrictors pharyngealconstrictor pharyngealconstrictors pharynxconstrictor",
    "OpticChiasm": "chiasm chiasma opticchiasma",
    "Pancreas": "",
    "Parotids": "",
    "PenileBulb": "bulb bulbofpenis penisbulb",
    "Pituitary": "pituitarygland",
    "Rectum": "",
    "Skin": "",
    "SpinalCanal": "spinecanal",
    "SpinalCord": "cord spinalchord spcord myelon",
    "Spleen": "",
    "Stomach": "",
    "Tongue": "",
    "Trachea": "",
    "Urethra": "",
    "Uterus": "",
}
_PAIRED_ORGANS = {
    "BrachialPlex": "brachialplexus",
    "Breast": "",
    "Cochlea": "",
    "Eye": "globe eyeball",
    "Femur": "",
    "Femur_Head": "femoralhead femhead headfemur headoffemur femoralheadneck fh",
    "Glnd_Lacrimal": "lacrimal lacrimalgland",
    "Glnd_Submand": "submandibular submandibulargland submand smg",
    "Hippocampus": "",
    "Kidney": "",
    "Lens": "",
    "Lobe_Temporal": "temporallobe",
    "Lung": "",
    "OpticNrv": "opticnerve nrvoptic",
    "Parotid": "parotidgland glndparotid",
    "Retina": "",
    "Testis": "testicle",
}


def _letters(name: str) -> str:
    return re.sub("[^a-z]", "", name.lower())


def _spellings(table: dict[str, str]) -> dict[str, str]:
    return {spelling: organ for organ, others in table.items() for spelling in (_letters(organ), *others.split())}


_SINGLE, _PAIRED = _spellings(_SINGLE_ORGANS), _spellings(_PAIRED_ORGANS)
_SIDES = {"left": "L", "right": "R", "lt": "L", "rt": "R", "l": "L", "r": "R"}

_CTV_NAME = re.compile(r"^[\W_]*(\d+|[ailprs])?[\W_]*[ci]tv", re.IGNORECASE)
_GTV_NAME = re.compile(r"^[\W_]*(\d+|[ailprs])?[\W_]*gtv", re.IGNORECASE)
_PLANNING_AID_NAME = re.compile(r"^z_?[A-Z]")  # TG-263: a leading z marks a structure made for optimization
_PLANNING_AID_WORDS = {"ring", "shell", "opt", "optim", "minus", "overlap", "dummy", "help", "helper", "not", "avoid"}
_EXTERNAL_LETTERS = re.compile("body|external|patient|outline|(patient|body|skin)(outline|contour)")
_SITE_LETTERS = re.compile("(prostate)|(prostatebed)|(seminalves|seminalvesicles|sv)|tumou?r(?:bed)?")
_SITES = ("", "Prostate", "ProstateBed", "SeminalVes")  # by the group that the letters match
_SUPPORT_NAME = re.compile(r"[\W_]*(couch|table ?top|treatment ?table|baseplate)", re.IGNORECASE)
_BOLUS_NAME = re.compile(r"(^|[\W_\d])bolus", re.IGNORECASE)
_NO_DOSE_UNITS = ("mm", "cm", "%", "fx", "fr")
_NODE_WORDS = {"node", "nodes", "nodal", "lymph", "ln", "lns"}


def _words(name: str) -> set[str]:
    return set(re.findall("[a-z]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", name).lower()))


def propose_role(name: str, interpreted_type: str = "") -> RoleProposal:
    """Propose what a structure is for.

    A name that plainly says PTV, CTV, GTV, or planning aid wins over the interpreted type, since planning systems
    often type every structure as ORGAN; otherwise the type of a target or external wins over the name.
    CTVs and GTVs are proposed as *other*: only all structures together tell whether they are the targets
    (`propose_roles`).

    >>> propose_role("Lt_femoral_head", "ORGAN").organ, propose_role("PTV_5040cGy").prescription_gy
    ('Femur_Head_L', 50.4)
    """
    kind = interpreted_type.upper()
    words, letters = _words(name), _letters(name)
    dose_gy = _dose_in_name(name)
    organ = tg263_organ(name)
    before_ptv = re.split("ptv", name, maxsplit=1, flags=re.IGNORECASE)[0]
    cut_by_ptv = before_ptv != name and kind != "PTV" and ("-" in before_ptv or bool(tg263_organ(before_ptv)))
    if _PLANNING_AID_NAME.match(name) or _PLANNING_AID_WORDS & words or cut_by_ptv:
        return RoleProposal(Role.OTHER, "", None, "name of a planning aid")
    if before_ptv != name:
        return RoleProposal(Role.TARGET, "", dose_gy, "name says PTV")
    if _clinical_kind(name, kind):
        return RoleProposal(Role.OTHER, "", None, "CTV or GTV; the PTV is planned")
    if kind in ("SUPPORT", "BOLUS"):
        return RoleProposal(Role(kind.lower()), "", None, f"typed {kind}")
    if kind == "EXTERNAL" or _EXTERNAL_LETTERS.fullmatch(letters):
        return RoleProposal(Role.EXTERNAL, "", None, "typed EXTERNAL" if kind == "EXTERNAL" else "name of the outline")
    if kind == "PTV" or "target" in letters:
        return RoleProposal(Role.TARGET, "", dose_gy, "typed PTV" if kind == "PTV" else "name says target")
    if _SUPPORT_NAME.match(name) or _BOLUS_NAME.search(name):
        role = Role.SUPPORT if _SUPPORT_NAME.match(name) else Role.BOLUS
        return RoleProposal(role, "", None, f"name says {role}")
    site = _SITE_LETTERS.fullmatch(letters)
    if site or _NODE_WORDS & words:
        organ = _SITES[site.lastindex or 0] if site else ""
        return RoleProposal(Role.OTHER, organ, None, "a site to treat, not an organ at risk")
    if organ:
        return RoleProposal(Role.ORGAN_AT_RISK, organ, None, f"name of {organ}")
    if kind in ("ORGAN", "AVOIDANCE"):
        return RoleProposal(Role.ORGAN_AT_RISK, "", None, f"typed {kind}")
    return RoleProposal(Role.OTHER, "", None, f"typed {kind}" if kind else "name not known")


def propose_roles(structures: Sequence[tuple[str, str]]) -> tuple[RoleProposal, ...]:
    """Propose roles for all structures of a case: at most one external, and CTVs or GTVs as targets without a PTV.

    Parameters
    ----------
    structures : name and interpreted type of each

    Returns
    -------
    One proposal for each structure, in order
    """
    proposals = [propose_role(name, kind) for name, kind in structures]
    outlines = [n for n, p in enumerate(proposals) if p.role is Role.EXTERNAL]
    typed = [n for n in outlines if structures[n][1].upper() == "EXTERNAL"]
    for n in outlines:
        if n != (typed or outlines)[0]:
            proposals[n] = RoleProposal(Role.OTHER, "", None, "another structure is the external")
    if not any(p.role is Role.TARGET for p in proposals):
        clinical = [_clinical_kind(name, kind.upper()) for name, kind in structures]
        kind_to_treat = "CTV" if "CTV" in clinical else "GTV"
        for n in (n for n, kind in enumerate(clinical) if kind == kind_to_treat):
            reason = f"no PTV, so the {kind_to_treat} is the target"
            proposals[n] = RoleProposal(Role.TARGET, "", _dose_in_name(structures[n][0]), reason)
    return tuple(proposals)


def tg263_organ(name: str) -> str:
    """Return the TG-263 name of the organ that a structure's name spells, or an empty string.

    A planning organ-at-risk volume keeps its organ's name with ``_PRV``, so that goals of the organ do not apply.

    >>> tg263_organ("Parotid Lt"), tg263_organ("cord PRV 5mm"), tg263_organ("Rt_femoral_head")
    ('Parotid_L', 'SpinalCord_PRV', 'Femur_Head_R')
    """
    without_margin = re.sub(r"prv|[+ _]*\d+\s*mm", "", name, flags=re.IGNORECASE)
    letters = _letters(without_margin)
    organ = _SINGLE.get(letters) or _PAIRED.get(letters) or _sided(letters)
    return f"{organ}_PRV" if organ and without_margin != name else organ


def _sided(letters: str) -> str:
    """Organ of a spelling that begins or ends with a side."""
    for side, suffix in _SIDES.items():
        for rest in (letters.removeprefix(side), letters.removesuffix(side)):
            if rest != letters and rest in _PAIRED:
                return f"{_PAIRED[rest]}_{suffix}"
    return ""


def _clinical_kind(name: str, kind: str) -> str:
    """CTV (an ITV counts as one) or GTV by name, else by type; empty if neither."""
    if _CTV_NAME.match(name):
        return "CTV"
    if _GTV_NAME.match(name):
        return "GTV"
    return kind if kind in ("CTV", "GTV") else ""


def _dose_in_name(name: str) -> float | None:
    """Whole-course dose that a target's name states, Gy.

    A number with a unit counts as it is; without one, 15 to 100 is read as Gy and 1500 to 10000 as cGy, so that
    the index of PTV1 is no dose. A margin in mm, a percentage and a number of fractions are no doses.
    """
    for digits, unit in re.findall(r"(\d+(?:[.,p]\d+)?)\s*([a-z%]*)", name.lower()):
        value = float(re.sub("[,p]", ".", digits))
        if unit.startswith("cgy") or (not unit.startswith(_NO_DOSE_UNITS) and 1500 <= value <= 10000):
            return value / 100
        if unit.startswith("gy") or (not unit.startswith(_NO_DOSE_UNITS) and 15 <= value <= 100):
            return value
    return None


def with_choices(
    names: Sequence[str], proposed: Sequence[RoleProposal], choices: Mapping[str, StructureChoice]
) -> tuple[RoleProposal, ...]:
    """Put what the user set in the place of what was proposed, structure by structure.

    An external set by the user replaces the proposed one.

    Raises
    ------
    InputError
        If a choice names no structure, contradicts itself, or a second external.
    """
    for name in choices:
        if name not in names:
            raise InputError(f"No structure '{name}' in this case; it has {', '.join(names)}.")
    resolved = [_with_choice(n, p, choices.get(n, StructureChoice())) for n, p in zip(names, proposed, strict=True)]
    chosen = [name for name, choice in choices.items() if choice.role is Role.EXTERNAL]
    if len(chosen) > 1:
        raise InputError(f"Only one structure can be the external, not {' and '.join(chosen)}.")
    return tuple(
        replace(p, role=Role.OTHER) if chosen and p.role is Role.EXTERNAL and n not in chosen else p
        for n, p in zip(names, resolved, strict=True)
    )


def _with_choice(name: str, proposal: RoleProposal, choice: StructureChoice) -> RoleProposal:
    if choice.density is not None and choice.density < 0:
        raise InputError(f"Structure '{name}': the density must not be negative, got {choice.density:g}.")
    dose_gy = choice.prescription_gy
    role = choice.role or (Role.TARGET if dose_gy is not None else proposal.role)
    if dose_gy is not None and role is not Role.TARGET:
        raise InputError(
            f"Structure '{name}' has a prescription but the role {role}; only a target has a prescription."
        )
    if dose_gy is not None and not dose_gy > 0:
        raise InputError(f"Structure '{name}': the prescription must be positive, got {dose_gy:g} Gy.")
    return RoleProposal(
        role,
        choice.organ if choice.organ is not None else (proposal.organ if role is proposal.role else ""),
        (proposal.prescription_gy if dose_gy is None else dose_gy) if role is Role.TARGET else None,
        "set by the user" if role is not proposal.role else proposal.reason,
    )
