"""Couch, bolus, metal and stated densities, from RTSTRUCT and as the user sets them."""

import numpy as np
import pytest
from Core.dicom_samples import Roi, ct_slices, rectangle, save, structure_set
from Core.read_samples import BODY, PLANES, PTV, phantom
from numpy.testing import assert_allclose
from pydicom.dataset import Dataset

from deeprt.config import PlanningConfig
from deeprt.dicom.read import ReadOptions, read_case
from deeprt.dicom.write_structures import structure_set_dataset
from deeprt.errors import InputError
from deeprt.preparation import load_case
from deeprt.roles import StructureChoice
from deeprt.structures import Role

COUCH = Roi("Couch", "SUPPORT", rectangle((-60, 60), (44, 52), PLANES))  # the phantom's CT shows it
BOLUS = Roi("Bolus", "BOLUS", rectangle((-20, 20), (-50, -40), PLANES))  # the phantom's CT shows air there
INSERT = Roi("Insert", "ORGAN", rectangle((-40, -30), (-30, -20), PLANES))


def case_of(tmp_path, *rois, properties=None, options=ReadOptions(), hu=None):  # noqa: B008 - frozen
    """The phantom with these structures; properties by name of structure: pairs of property and value, material."""
    data = structure_set((BODY, PTV, *rois))
    for roi, observation in zip((BODY, PTV, *rois), data.RTROIObservationsSequence, strict=True):
        pairs, material = (properties or {}).get(roi.name, ((), ""))
        observation.ROIPhysicalPropertiesSequence = []
        for kind, value in pairs:
            item = Dataset()
            item.ROIPhysicalProperty, item.ROIPhysicalPropertyValue = kind, value
            observation.ROIPhysicalPropertiesSequence.append(item)
        if material:
            observation.MaterialID = material
    save([*ct_slices(phantom() if hu is None else hu), data], tmp_path)
    return read_case(tmp_path, options)


def density_at(case, *point_lps):
    i, j, k = np.round(case.grid.lps_to_index(point_lps)[0]).astype(int)
    return case.density[k, j, i]


def test_the_electron_density_of_the_structure_set_is_honored(tmp_path):
    case = case_of(tmp_path, INSERT, properties={"Insert": ((("REL_ELEC_DENSITY", "3.7"),), "")})
    assert case.structure("Insert").density == 3.7
    assert_allclose(density_at(case, -34, -26, 25), 3.7, rtol=1e-6)
    assert_allclose(density_at(case, -10, -26, 25), 1.0, rtol=1e-6)
    assert case.notes == ("Structure 'Insert' has the relative electron density 3.7 in place of the CT's.",)


def test_the_users_density_goes_before_that_of_the_structure_set(tmp_path):
    options = ReadOptions(structures={"Insert": StructureChoice(density=0.2)})
    case = case_of(tmp_path, INSERT, properties={"Insert": ((("REL_ELEC_DENSITY", "3.7"),), "")}, options=options)
    assert_allclose(density_at(case, -34, -26, 25), 0.2, rtol=1e-6)


def test_a_mass_density_or_a_material_is_not_used_and_a_note_says_so(tmp_path):
    case = case_of(tmp_path, INSERT, properties={"Insert": ((("REL_MASS_DENSITY", "4.5"),), "TITANIUM")})
    assert case.structure("Insert").density is None
    assert case.notes == (
        "Structure 'Insert' states the relative mass density 4.5 and the material 'TITANIUM', which is not used; give "
        "its relative electron density as density under [structures.Insert].",
    )


@pytest.mark.parametrize("value", ["-1", "1e999"])
def test_an_impossible_density_is_refused(tmp_path, value):
    with pytest.raises(InputError, match="'Insert' has the relative electron density"):
        case_of(tmp_path, INSERT, properties={"Insert": ((("REL_ELEC_DENSITY", value),), "")})


def test_a_negative_density_of_the_user_is_refused(tmp_path):
    options = ReadOptions(structures={"Insert": StructureChoice(density=-0.5)})
    with pytest.raises(InputError, match=r"'Insert': the density must not be negative, got -0\.5"):
        case_of(tmp_path, INSERT, options=options)


def test_a_couch_attenuates_as_the_ct_shows_it(tmp_path):
    case = case_of(tmp_path, COUCH)
    assert case.structure("Couch").role is Role.SUPPORT
    assert_allclose(density_at(case, 2, 50, 25), 1.0)
    assert density_at(case_of(tmp_path / "without"), 2, 50, 25) == 0
    assert case.notes[0].startswith("The support 'Couch' attenuates as the CT shows it, with a mean density of 0.")


def test_a_couch_in_air_does_not_attenuate_until_it_is_given_a_density(tmp_path):
    air = np.where(phantom() == 0, 0, -1000).astype(np.int16)
    air[:, 23:] = -1000
    case = case_of(tmp_path, COUCH, hu=air)
    assert density_at(case, 2, 50, 25) == 0
    assert "air in the support 'Couch', so it does not attenuate; give its density under [struc" in case.notes[0]
    options = ReadOptions(structures={"Couch": StructureChoice(density=0.3)})
    case = case_of(tmp_path / "given", COUCH, hu=air, options=options)
    assert_allclose(density_at(case, 2, 50, 25), 0.3, rtol=1e-6)


def test_a_bolus_is_water_where_the_ct_shows_air(tmp_path):
    case = case_of(tmp_path, BOLUS)
    assert (case.structure("Bolus").role, case.structure("Bolus").density) == (Role.BOLUS, 1.0)
    assert_allclose(density_at(case, 2, -46, 25), 1.0)
    assert case.notes[0] == "The CT shows air in the bolus 'Bolus'; it is water, with a relative electron density of 1."


def test_a_bolus_that_the_ct_shows_is_what_it_shows(tmp_path):
    hu = phantom()
    hu[:, :3] = -300
    case = case_of(tmp_path, BOLUS, hu=hu)
    assert case.structure("Bolus").density is None
    assert_allclose(density_at(case, 2, -46, 25), 0.7, rtol=1e-6)


def test_air_is_added_where_a_bolus_reaches_beyond_the_ct(tmp_path):
    far = Roi("Bolus", "BOLUS", rectangle((-70, 20), (-60, -40), PLANES))
    case, plain = case_of(tmp_path, far), case_of(tmp_path / "plain")
    assert case.grid.shape == (12, 28, 34)
    assert_allclose(case.grid.index_to_lps[:3, 3], plain.grid.index_to_lps[:3, 3] - (8, 8, 0))
    assert_allclose(case.ct_hu[:, 2:, 2:], plain.ct_hu)
    assert_allclose(density_at(case, -66, -58, 25), 1.0)
    assert "Air was added around the CT, since a support or bolus reaches beyond it." in case.notes


def test_metal_beyond_the_table_is_noted_unless_it_is_given_a_density(tmp_path):
    hu = phantom()
    hu[3:6, 6:8, 6:7] = 9000
    case = case_of(tmp_path, hu=hu)
    volume = 3 * 2 * 0.048
    assert case.notes[-1].startswith(f"{volume:.2g} cc of the patient lie above 3000 HU, the end of the HU table")
    assert case.density.max() == np.float32(2.55)
    options = ReadOptions(structures={"Insert": StructureChoice(density=3.7)})
    case = case_of(tmp_path / "given", INSERT, hu=hu, options=options)
    assert not any("HU table" in note for note in case.notes)


def test_a_stated_density_survives_writing_of_the_structure_set(tmp_path):
    options = ReadOptions(structures={"Insert": StructureChoice(density=1.05)})
    case = case_of(tmp_path, INSERT, BOLUS, options=options)
    ct = ct_slices(phantom())
    written = structure_set_dataset(case, ct)
    names = [roi.ROIName for roi in written.StructureSetROISequence]
    insert, bolus = (written.RTROIObservationsSequence[names.index(name)] for name in ("Insert", "Bolus"))
    assert bolus.RTROIInterpretedType == "BOLUS"
    assert [
        (p.ROIPhysicalProperty, float(p.ROIPhysicalPropertyValue)) for p in insert.ROIPhysicalPropertiesSequence
    ] == [("REL_ELEC_DENSITY", 1.05)]


def test_a_density_is_set_for_a_virtual_patient_too():
    config = PlanningConfig(dose_grid_mm=10.0, structures={"Target": StructureChoice(density=0.5)})
    case = load_case("virtual:water", config)
    assert_allclose(density_at(case, 5, 5, 5), 0.5)
    assert case.notes == ("Structure 'Target' has the relative electron density 0.5 in place of the CT's.",)
