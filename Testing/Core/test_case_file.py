"""A case that is written and read comes back as it was, and is planned as any other."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest
from Core.dose_samples import a_packed_patient
from Core.pipeline_samples import a_virtual_case
from Core.plan_samples import a_case, a_dicom_identity, an_oblique_grid
from Core.same_values import assert_same

from deeprt.case import HuTable
from deeprt.case_file import is_case_file, read_case_file, read_case_grid, write_case_file
from deeprt.config import PlanningConfig
from deeprt.errors import InputError
from deeprt.preparation import load_case
from deeprt.roles import StructureChoice
from deeprt.structures import Role, Structure


def a_full_case():
    """Every attribute differs from its default; nothing about the numbers is round."""
    rng = np.random.default_rng(5)
    case = a_case(grid=an_oblique_grid(left_handed=True), position="FFP", dicom=a_dicom_identity())
    spread = rng.random(case.grid.shape, np.float32) * (rng.random(case.grid.shape) < 0.001)
    more = (
        Structure("Metall, links", Role.OTHER, spread, density=4.37, organ="Implant", color=(1, 20, 255)),
        Structure("Corner", Role.SUPPORT, np.pad(np.full((1, 1, 1), 0.3, np.float32), [(25, 0), (31, 0), (43, 0)])),
    )
    return replace(
        case,
        ct_hu=rng.normal(0, 300, case.grid.shape).astype(np.float32),
        structures=case.structures + more,
        hu_table=HuTable("scanner Ü", np.array([-1000.0, 1 / 3, 2000.0]), np.array([0.001, 1.02, 2.2])),
        dicom=replace(a_dicom_identity(), ct_sop_instance_uids=("1.2", "1.3")),
        notes=("Made up.", "Größe unbekannt."),
    )


@pytest.fixture
def file(tmp_path):
    write_case_file(a_full_case(), tmp_path / "new" / "case.npz")
    return tmp_path / "new" / "case.npz"


def test_a_case_comes_back_as_it_was(file):
    assert_same(read_case_file(file), a_full_case())
    assert [p.name for p in file.parent.iterdir()] == ["case.npz"]


def test_a_case_without_dicom_identity_stays_without(tmp_path):
    case = a_virtual_case()
    write_case_file(case, tmp_path / "case.npz")
    assert_same(read_case_file(tmp_path / "case.npz"), case)


def test_the_grid_alone_can_be_read(file):
    assert_same(read_case_grid(file), a_full_case().grid)


def test_a_case_file_is_known_by_what_it_holds(file, tmp_path):
    renamed = file.rename(tmp_path / "patient.data")
    assert is_case_file(renamed)
    a_packed_patient(tmp_path, "case")
    (tmp_path / "text.npz").write_text("no archive")
    assert not any(is_case_file(tmp_path / name) for name in ("case.npz", "text.npz", "missing.npz", "."))


def test_a_file_that_is_not_whole_or_not_a_case_is_refused_by_name(file, tmp_path):
    with pytest.raises(InputError, match=r"'.*missing\.npz' does not exist"):
        read_case_file(tmp_path / "missing.npz")
    np.savez(tmp_path / "other.npz", ct=np.zeros(3))
    for read in (read_case_file, read_case_grid):
        with pytest.raises(InputError, match=r"'.*other\.npz' is not a case as DeepRT keeps it"):
            read(tmp_path / "other.npz")
    (tmp_path / "cut.npz").write_bytes(file.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"'.*cut\.npz' cannot be read"):
        read_case_file(tmp_path / "cut.npz")


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("share_1", np.zeros(3, np.float32)),
        ("ct_hu", np.zeros((2, 2, 2), np.float32)),
        ("shape", np.array([3, 3])),
        ("index_to_lps", np.zeros((4, 4))),
        ("deeprt_case", np.array("{}")),
        ("deeprt_case", np.array("no JSON")),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(file, name, array):
    with np.load(file) as whole:
        arrays = {**whole, name: array}
    np.savez(file, **arrays)
    with pytest.raises(InputError, match=r"case\.npz' is not a case as DeepRT keeps it \(.*\); write it anew"):
        read_case_file(file)


def test_a_file_cannot_run_code(file):
    with zipfile.ZipFile(file, "a") as archive, archive.open("share_99.npy", "w") as entry:
        np.lib.format.write_array(entry, np.array([print], object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read"):
        read_case_file(file)


# As the case of a command


def test_a_case_file_keeps_its_own_grid_whatever_the_configuration_says(file):
    for spacing in (3.0, 7.0, None):
        case = load_case(str(file), PlanningConfig(dose_grid_mm=spacing))
        assert_same(case.grid, a_full_case().grid)
        assert np.array_equal(case.ct_hu, a_full_case().ct_hu)


def test_what_the_user_sets_goes_before_what_the_file_says(file, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("hu,density\n-1000,0\n0,1\n", encoding="utf-8")
    config = PlanningConfig(
        prescription_gy={"PTV_50": 52.5},
        structures={"Tube": StructureChoice(role=Role.OTHER, organ="Rectum", density=1.1)},
        hu_table=str(table),
    )
    case = load_case(str(file), config)
    assert [t.prescription_gy for t in case.targets] == [60.0, 52.5]
    tube = case.structure("Tube")
    assert (tube.role, tube.organ, tube.density) == (Role.OTHER, "Rectum", 1.1)
    assert np.array_equal(case.hu_table.density, [0, 1])
    assert any("'Tube' has the relative electron density 1.1" in note for note in case.notes)
    with pytest.raises(InputError, match="There is no structure 'PTV'; the case has Körper, "):
        load_case(str(file), PlanningConfig(prescription_gy={"PTV": 50.0}))


def test_notes_of_the_file_are_not_given_twice(file, tmp_path):
    first = load_case(str(file), PlanningConfig())
    write_case_file(first, tmp_path / "again.npz")
    again = load_case(str(tmp_path / "again.npz"), PlanningConfig())
    assert again.notes == first.notes
    assert first.notes[:2] == a_full_case().notes
