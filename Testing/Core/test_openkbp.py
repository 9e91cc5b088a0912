import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.cohort.openkbp import is_openkbp, read_openkbp, read_openkbp_dose, read_openkbp_possible_dose
from deeprt.config import PlanningConfig
from deeprt.errors import InputError
from deeprt.preparation import load_case, with_prescriptions
from deeprt.structures import Role

CASES = Path(__file__).parents[3] / "shared" / "cases"
PACKED, PUBLIC = CASES / "openkbp" / "pt_51.npz", CASES / "openkbp_raw" / "train-pats" / "pt_51"
real_patient = pytest.mark.skipif(not PUBLIC.is_dir(), reason="shared/cases/openkbp_raw is not there")

N = 128
SPACING_MM = (2.5, 3.5, 4.5)  # anterior to posterior, right to left, superior to inferior
BODY = np.s_[30:60, 40:70, 10:30]
BLOCKS = {  # none is in the middle of the body or the volume
    "PTV70": np.s_[32:40, 44:52, 12:18],
    "PTV56": np.s_[32:40, 44:60, 12:24],
    "RightParotid": np.s_[50:53, 42:45, 12:15],
    "LeftParotid": np.s_[50:53, 60:63, 12:15],
    "Mandible": np.s_[28:34, 50:55, 20:22],  # reaches out of the body
    "Larynx": np.s_[90:92, 90:92, 90:92],  # lies outside
}
BITS = ["PTV70", "PTV63", "PTV56", *("Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Esophagus", "Larynx"),
        "Mandible", "possible_dose_mask"]  # fmt: skip


def a_ct():
    """As stored, of soft tissue with a brighter block and a voxel that is beyond 12 bits."""
    ct = np.zeros((N, N, N))
    ct[BODY] = 1040
    ct[BLOCKS["Mandible"]] = 2000
    ct[45, 50, 20] = 28000
    return ct


def a_dose():
    dose = np.zeros((N, N, N))
    dose[BODY] = 20.25
    dose[33, 47, 13] = 70.5
    return dose


def write_voxels(file, volume, *, with_values=True):
    index = np.flatnonzero(volume)
    values = volume.ravel()[index] if with_values else [""] * index.size
    file.write_text(",data\n" + "".join(f"{i},{v}\n" for i, v in zip(index, values, strict=True)))


def a_block(name):
    mask = np.zeros((N, N, N))
    mask[BLOCKS[name]] = 1
    return mask


def write_public(folder):
    folder.mkdir(parents=True)
    write_voxels(folder / "ct.csv", a_ct())
    write_voxels(folder / "dose.csv", a_dose())
    for name in BLOCKS:
        write_voxels(folder / f"{name}.csv", a_block(name), with_values=False)
    (folder / "Esophagus.csv").write_text(",data\n")
    write_voxels(folder / "possible_dose_mask.csv", a_dose(), with_values=False)
    (folder / "voxel_dimensions.csv").write_text("".join(f"{mm:.18e}\n" for mm in SPACING_MM))
    return folder


def write_packed(folder, **others):
    folder.mkdir(parents=True, exist_ok=True)
    structs = sum(a_block(name).astype(np.uint16) << BITS.index(name) for name in BLOCKS)
    structs |= (a_dose() > 0).astype(np.uint16) << BITS.index("possible_dose_mask")
    arrays = {"ct": a_ct().astype(np.int16), "dose": a_dose().astype(np.float16), "structs": structs,
              "spacing": np.array(SPACING_MM, np.float32)} | others  # fmt: skip
    np.savez_compressed(folder / "pt_7.npz", **{name: a for name, a in arrays.items() if a is not None})
    (folder / "index.json").write_text(json.dumps({"bits": BITS}))
    return folder / "pt_7.npz"


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    return write_public(tmp_path_factory.mktemp("public") / "pt_7")


@pytest.fixture(scope="module")
def a_case(public):
    return read_openkbp(public)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return write_packed(tmp_path_factory.mktemp("packed"))


def lps_of(stored):
    """Where the center of a stored voxel lies, (n, 3) indices -> (n, 3)."""
    back, left, down = np.atleast_2d(stored).T
    return np.stack([left * 3.5, back * 2.5, (N - 1 - down) * 4.5], axis=1)


def test_volumes_run_from_anterior_right_superior(a_case):
    assert_allclose(a_case.grid.spacing_mm, (3.5, 2.5, 4.5))
    for name in ("PTV70", "PTV56", "RightParotid", "LeftParotid"):
        inside = a_case.grid.points_lps(np.flatnonzero(a_case.structure(name).fraction))
        expected = lps_of(np.argwhere(a_block(name)))
        assert_allclose(np.unique(inside, axis=0), np.unique(expected, axis=0), err_msg=name)


def test_both_forms_hold_the_same_patient(a_case, public, packed):
    other = read_openkbp(packed)
    assert other.case_id == a_case.case_id == "pt_7"
    assert other.grid.same_as(a_case.grid)
    assert_array_equal(other.ct_hu, a_case.ct_hu)
    assert [s.name for s in other.structures] == [s.name for s in a_case.structures]
    for first, second in zip(a_case.structures, other.structures, strict=True):
        assert_array_equal(first.fraction, second.fraction)
    assert_array_equal(read_openkbp_dose(packed), read_openkbp_dose(public))  # the values are exact in half precision


def test_structures_have_roles_organs_and_prescriptions(a_case):
    assert [(s.name, s.role, s.organ, s.prescription_gy) for s in a_case.structures] == [
        ("BODY", Role.EXTERNAL, "", None),
        ("PTV70", Role.TARGET, "", 70.0),
        ("PTV56", Role.TARGET, "", 56.0),
        ("RightParotid", Role.ORGAN_AT_RISK, "Parotid_R", None),
        ("LeftParotid", Role.ORGAN_AT_RISK, "Parotid_L", None),
        ("Mandible", Role.ORGAN_AT_RISK, "Bone_Mandible", None),
    ]
    assert (a_case.position, a_case.n_fractions, a_case.dicom) == ("HFS", 35, None)
    assert "made from the CT" in a_case.notes[0]


def test_structures_end_where_the_body_does(a_case):
    assert (a_case.structure("Mandible").fraction <= a_case.external.fraction).all()
    assert a_case.structure("Mandible").fraction.any()


def test_ct_values_are_brought_to_hounsfield_units_of_at_most_12_bits(a_case):
    hu = {name: a_case.ct_hu[a_case.structure(name).fraction > 0] for name in ("PTV70", "Mandible")}
    assert set(hu["PTV70"]) == {40.0}
    assert set(hu["Mandible"]) == {1000.0}
    assert a_case.ct_hu.max() == 3095.0
    assert a_case.ct_hu[0, 0, 0] == -1000.0


def test_dose_lies_on_the_grid_of_the_case(a_case, public):
    dose = read_openkbp_dose(public)
    assert (dose.shape, dose.dtype) == (a_case.grid.shape, np.float32)
    hottest = a_case.grid.points_lps(np.array([dose.argmax()]))
    assert_allclose(hottest, lps_of([33, 47, 13]))
    assert dose.max() == 70.5
    assert_array_equal(np.unique(dose[a_case.structure("LeftParotid").fraction > 0]), [20.25])


def test_voxels_that_can_get_dose_are_those_of_the_mask_in_both_forms(public, packed):
    possible = read_openkbp_possible_dose(public)
    assert possible.dtype == bool
    assert_array_equal(possible, read_openkbp_dose(public) > 0)  # as the sample writes it
    assert_array_equal(read_openkbp_possible_dose(packed), possible)


def test_patients_of_openkbp_are_recognized(public, packed, tmp_path):
    assert is_openkbp(public)
    assert is_openkbp(packed)
    assert not is_openkbp(tmp_path)
    assert not is_openkbp(tmp_path / "ct.nrrd")


# Loaded as a case to plan


def test_a_loaded_case_has_the_grid_and_the_choices_asked_for(a_case, public):
    config = PlanningConfig(dose_grid_mm=5.0, prescription_gy={"PTV70": 66.0})
    _, case, _ = with_prescriptions(load_case(str(public), config), config)
    assert_allclose(case.grid.spacing_mm, 5.0)
    assert_allclose(case.grid.center_lps, a_case.grid.center_lps)
    assert_allclose(case.volume_cc(case.targets[0]), a_case.volume_cc(a_case.targets[0]), rtol=1e-5)
    assert [t.prescription_gy for t in case.targets] == [66.0, 56.0]
    assert case.n_fractions == 35
    with pytest.raises(InputError, match=r"There is no structure 'PTV63'; the case has BODY, PTV70"):
        load_case(str(public), replace(config, prescription_gy={"PTV63": 63.0}))


def test_a_loaded_case_keeps_its_own_grid_and_takes_a_table_if_told_so(a_case, packed, tmp_path):
    (tmp_path / "table.csv").write_text("HU,density\n-1000,0\n0,1\n1000,1.7\n")
    config = PlanningConfig(dose_grid_mm=None, hu_table=str(tmp_path / "table.csv"))
    case = load_case(str(packed), config)
    assert case.grid.same_as(a_case.grid)
    assert_allclose(case.density[case.structure("Mandible").fraction > 0], 1.7)


# Wrong files


def only_csv(folder, name, text):
    """The smallest folder that is read as far as the wrong file."""
    folder.mkdir()
    write_voxels(folder / "ct.csv", a_ct())
    (folder / "voxel_dimensions.csv").write_text("3\n3\n3\n")
    (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "ct.csv",
            ",data\n5,1000\n2097152,1000\n",
            r"ct\.csv' has a voxel index that is no whole number from 0 to 20",
        ),
        ("ct.csv", ",data\n-1,1000\n", "a voxel index that is no whole number"),
        ("PTV70.csv", ",data\n7.5,\n", r"PTV70\.csv' has a voxel index that is no whole number"),
        ("ct.csv", ",data\n5,\n", r"ct\.csv' is no table of OpenKBP: could not convert string"),
        ("ct.csv", ",data\n5\n", r"ct\.csv' is no table of OpenKBP: invalid column index"),
        ("ct.csv", ",data\n5,nan\n", r"ct\.csv' has a value that is not finite"),
        ("ct.csv", "5,1000\n", r"ct\.csv' is no table of OpenKBP: its first line must be ',data'"),
        ("PTV70.csv", "\x00\x01", "is no table of OpenKBP"),
        ("voxel_dimensions.csv", "3\n3\n", r"must give three positive voxel sizes in mm, got \[3\.0, 3\.0\]"),
        ("voxel_dimensions.csv", "3\n0\n3\n", "must give three positive voxel sizes"),
        ("voxel_dimensions.csv", "a\n", r"voxel_dimensions\.csv' is no table of OpenKBP"),
        ("PTV70.csv", ",data\n", "has no PTV70, PTV63 or PTV56 inside the patient"),
    ],
)
def test_a_wrong_csv_file_is_refused(tmp_path, name, text, message):
    with pytest.raises(InputError, match=message) as refused:
        read_openkbp(only_csv(tmp_path / "pt_9", name, text))
    assert str(refused.value).count("\n") == 0


@pytest.mark.parametrize("name", ["ct.csv", "voxel_dimensions.csv", "dose.csv", "possible_dose_mask.csv"])
def test_a_missing_csv_file_is_named(tmp_path, name):
    folder = only_csv(tmp_path / "pt_9", "dose.csv", ",data\n")
    (folder / name).unlink(missing_ok=True)
    readers = {"dose.csv": read_openkbp_dose, "possible_dose_mask.csv": read_openkbp_possible_dose}
    with pytest.raises(InputError, match=rf"Cannot read '.*{name}' of an OpenKBP patient: No such file or directory\."):
        readers.get(name, read_openkbp)(folder)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"ct": None}, "must hold ct, finite numbers of 128 x 128 x 128 voxels"),
        ({"ct": np.zeros((4, 4, 4))}, "must hold ct"),
        ({"ct": np.full((N, N, N), np.nan, np.float16)}, "must hold ct"),
        ({"structs": np.zeros((N, N, N), np.float16)}, "structs must be whole numbers, a bit for each structure"),
        ({"structs": np.full((N, N, N), "x")}, "must hold structs"),
        ({"spacing": None}, r"must give three positive voxel sizes in mm, got \[\]"),
        ({"spacing": np.array([3.0, -3.0, 3.0])}, "must give three positive voxel sizes"),
        ({"spacing": np.array(["a", "b", "c"])}, "must give three positive voxel sizes"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_packed_patient_is_refused(tmp_path, others, message):
    with pytest.raises(InputError, match=message):
        read_openkbp(write_packed(tmp_path, **others))


def test_a_packed_patient_without_dose_is_refused_when_the_dose_is_wanted(tmp_path):
    with pytest.raises(InputError, match="must hold dose"):
        read_openkbp_dose(write_packed(tmp_path, dose=None))


def test_a_packed_patient_without_a_bit_for_possible_dose_is_refused_when_that_is_wanted(tmp_path):
    file = write_packed(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({"bits": BITS[:-1]}))
    assert read_openkbp(file).targets
    with pytest.raises(InputError, match=r"index\.json' names no bit 'possible_dose_mask', the voxels that can get"):
        read_openkbp_possible_dose(file)


def test_a_damaged_or_missing_packed_patient_is_refused(tmp_path, packed):
    whole = packed.read_bytes()
    for name, content in (("cut", whole[: len(whole) // 2]), ("garbage", b"no zip"), ("empty", b"")):
        (tmp_path / f"{name}.npz").write_bytes(content)
        with pytest.raises(InputError, match=f"{name}.npz' cannot be read"):
            read_openkbp(tmp_path / f"{name}.npz")
    with pytest.raises(InputError, match=r"none\.npz' does not exist"):
        load_case(str(tmp_path / "none.npz"), PlanningConfig())


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (None, r"Cannot read '.*index\.json', which names packed structures: No such file"),
        ("{", r"index\.json' is not valid JSON"),
        ("[]", r"index\.json' must list the structures of packed patients under 'bits'"),
        ('{"bits": ["Liver"]}', "must list the structures"),
    ],
)
def test_a_packed_patient_needs_the_names_of_its_bits(tmp_path, index, message):
    file = write_packed(tmp_path)
    (tmp_path / "index.json").unlink()
    if index is not None:
        (tmp_path / "index.json").write_text(index)
    with pytest.raises(InputError, match=message):
        read_openkbp(file)


# The data set itself


@real_patient
def test_a_real_patient_is_the_same_in_both_forms_and_makes_sense():
    first, second = read_openkbp(PUBLIC), read_openkbp(PACKED)
    assert first.grid.same_as(second.grid)
    assert_array_equal(first.ct_hu, second.ct_hu)
    for a, b in zip(first.structures, second.structures, strict=True):
        assert_array_equal(a.fraction, b.fraction)
    dose, possible = read_openkbp_dose(PUBLIC), read_openkbp_possible_dose(PUBLIC)
    assert_allclose(read_openkbp_dose(PACKED), dose, atol=0.04)  # half precision near 70 Gy
    assert_array_equal(read_openkbp_possible_dose(PACKED), possible)
    assert possible[dose > 0].all() and not possible.all()
    mean_gy = {s.name: float(dose[s.fraction > 0].mean()) for s in first.structures}
    assert mean_gy["PTV70"] > mean_gy["PTV56"] > mean_gy["BODY"]
    place = {s.name: first.grid.index_to_lps[:3, :3] @ s.centroid_index() for s in first.structures}
    assert place["RightParotid"][0] < place["BODY"][0] < place["LeftParotid"][0]
    assert place["SpinalCord"][1] > place["BODY"][1]
    assert place["Brainstem"][2] > place["SpinalCord"][2] + 50
