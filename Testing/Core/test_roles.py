import pytest

from deeprt.roles import propose_role, propose_roles, tg263_organ
from deeprt.structures import Role


@pytest.mark.parametrize(
    ("name", "organ"),
    [
        ("Rectum", "Rectum"),
        ("RECTUM", "Rectum"),
        ("Bladder_1", "Bladder"),
        ("Penile_bulb", "PenileBulb"),
        ("Lt_femoral_head", "Femur_Head_L"),
        ("Femur_Head_R", "Femur_Head_R"),
        ("FemoralHead Right", "Femur_Head_R"),
        ("Small Bowel", "Bowel_Small"),
        ("bowel bag", "Bag_Bowel"),
        ("Cord", "SpinalCord"),
        ("Spinal Cord", "SpinalCord"),
        ("Brain Stem", "Brainstem"),
        ("LParotid", "Parotid_L"),
        ("RTPAROTID", "Parotid_R"),
        ("parotid gland lt", "Parotid_L"),
        ("Mandible", "Bone_Mandible"),
        ("Lung (left)", "Lung_L"),
        ("Lungs", "Lungs"),
        ("Kidney-R", "Kidney_R"),
        ("Lens", "Lens"),
        ("lens_l", "Lens_L"),
        ("Optic Nerve L", "OpticNrv_L"),
        ("Chiasm", "OpticChiasm"),
        ("Larynx", "Larynx"),
        ("Liver", "Liver"),
        ("Core", "Core"),
        ("SpinalCord_PRV05", "SpinalCord_PRV"),
        ("Cord+5mm", "SpinalCord_PRV"),
        ("Something", ""),
        ("Left", ""),
    ],
)
def test_an_organ_is_known_by_its_tg263_name_and_common_spellings(name, organ):
    assert tg263_organ(name) == organ
    proposal = propose_role(name)
    assert (proposal.role, proposal.organ) == (Role.ORGAN_AT_RISK if organ else Role.OTHER, organ)


@pytest.mark.parametrize(
    ("name", "dose_gy"),
    [
        ("PTV", None),
        ("PTV1", None),
        ("PTV_68", 68.0),
        ("PTV70", 70.0),
        ("PTV 50.4", 50.4),
        ("PTV_50p4", 50.4),
        ("PTV_6000", 60.0),
        ("PTV_5040cGy", 50.4),
        ("PTV45Gy+5mm", 45.0),
        ("PTV 20mm", None),
        ("PTV_30fx", None),
        ("PTV 12 Gy", 12.0),
        ("PTV1_60", 60.0),
        ("ptv_high", None),
        ("L PTV", None),
        ("Boost PTV 66", 66.0),
        ("OuterTarget", None),
    ],
)
def test_a_target_has_the_dose_its_name_states(name, dose_gy):
    proposal = propose_role(name)
    assert (proposal.role, proposal.prescription_gy) == (Role.TARGET, dose_gy)


@pytest.mark.parametrize(
    ("name", "kind", "role"),
    [
        ("PTV_60", "ORGAN", Role.TARGET),
        ("Boost", "PTV", Role.TARGET),
        ("Rectum", "PTV", Role.TARGET),
        ("CTV_60", "ORGAN", Role.OTHER),
        ("iGTV", "", Role.OTHER),
        ("Tumor Bed", "CTV", Role.OTHER),
        ("prostate_bed", "ORGAN", Role.OTHER),
        ("Lymph_Nodes", "ORGAN", Role.OTHER),
        ("LN_Pelvic", "", Role.OTHER),
        ("Rectum-PTV", "ORGAN", Role.OTHER),
        ("Ring_PTV", "", Role.OTHER),
        ("zPTV_opt", "PTV", Role.OTHER),
        ("Couch", "SUPPORT", Role.SUPPORT),
        ("CouchSurface", "", Role.SUPPORT),
        ("Pad", "BOLUS", Role.BOLUS),
        ("Bolus 5mm", "", Role.BOLUS),
        ("PTV_Bolus", "", Role.TARGET),
        ("Areola", "AVOIDANCE", Role.ORGAN_AT_RISK),
        ("Unheard", "ORGAN", Role.ORGAN_AT_RISK),
        ("BODY", "EXTERNAL", Role.EXTERNAL),
        ("Patient Outline", "", Role.EXTERNAL),
        ("External", "ORGAN", Role.EXTERNAL),
        ("Skin", "EXTERNAL", Role.EXTERNAL),
        ("Skin", "", Role.ORGAN_AT_RISK),
    ],
)
def test_name_and_interpreted_type_make_the_role(name, kind, role):
    assert propose_role(name, kind).role is role


def test_at_most_one_structure_is_the_external_and_a_typed_one_comes_first():
    proposals = propose_roles([("BODY", ""), ("Skin", "EXTERNAL"), ("External", ""), ("PTV", "")])
    assert [p.role for p in proposals] == [Role.OTHER, Role.EXTERNAL, Role.OTHER, Role.TARGET]
    assert propose_roles([("Body", ""), ("External", "")])[0].role is Role.EXTERNAL


def test_without_a_ptv_the_ctv_is_the_target_and_without_that_the_gtv():
    proposals = propose_roles([("GTV", "GTV"), ("CTV_54", "CTV"), ("Bladder", "ORGAN")])
    assert [p.role for p in proposals] == [Role.OTHER, Role.TARGET, Role.ORGAN_AT_RISK]
    assert proposals[1].prescription_gy == 54.0
    assert proposals[1].reason == "no PTV, so the CTV is the target"
    assert propose_roles([("GTV", "GTV"), ("Nodes", "CTV"), ("PTV", "")])[0].role is Role.OTHER
    assert propose_roles([("Primary", "gtv")])[0].role is Role.TARGET


@pytest.mark.parametrize(
    ("name", "organ"), [("Prostate", "Prostate"), ("prostate bed", "ProstateBed"), ("SV", "SeminalVes")]
)
def test_sites_to_treat_have_their_organ_and_are_not_at_risk(name: str, organ: str) -> None:
    proposal = propose_role(name)
    assert (proposal.role, proposal.organ) == (Role.OTHER, organ)
