"""Inputs of the dose network on oblique grids of any orientation, and a predicted dose on the case's voxels."""

from dataclasses import asdict, replace
from functools import cache

import numpy as np
import pytest
import torch
from Core.dose_samples import a_dose_network_file
from Core.network_samples import a_card
from Core.plan_samples import TARGET_RADIUS_MM, a_case
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.beams import BeamAngles, place_beams
from deeprt.errors import InputError
from deeprt.fluence import dose_prediction
from deeprt.fluence.dose_prediction import (
    KIND,
    SHIPPED,
    beyond_training,
    dose_inputs,
    even_dose,
    network_for,
    network_of,
    predict_dose,
    sampled,
    to_case,
    wished_dose,
)
from deeprt.geometry import Grid
from deeprt.machine_file import read_machine
from deeprt.networks.checkpoint import save_checkpoint
from deeprt.networks.dose_network import BODY, EVEN_DOSE, FEATURES, PRESCRIPTION, DoseConfig, DoseNetwork

pytestmark = pytest.mark.usefixtures("one_thread")

MACHINE = read_machine("generic_6mv")
ANGLES = (BeamAngles(20.0, 0.0, 10.0), BeamAngles(140.0, 350.0, 0.0), BeamAngles(265.0, 0.0, 85.0))
CONFIG = DoseConfig(("Rectum", "Bladder"), voxel_mm=6.0, widths=(4, 4))
SLOPE_PER_MM, AT_ORIGIN_LPS = np.array([0.02, -0.03, 0.01]), np.array([-5.0, 260.0, -800.0])


@cache
def a_case_with_rectum():
    """The sample case, whose tube is a rectum: targets of 60 and 50 Gy, the first inside the second."""
    case = a_case()
    structures = tuple(replace(s, organ="Rectum" if s.name == "Tube" else "") for s in case.structures)
    return replace(case, ct_hu=np.minimum(case.ct_hu, 0), structures=structures)


@cache
def some_beams():
    return place_beams(a_case_with_rectum(), ANGLES, MACHINE, beamlet_width_mm=5.0)


@cache
def some_inputs():
    return dose_inputs(a_case_with_rectum(), some_beams(), MACHINE, CONFIG)


def turned(case, order, flips):
    """The same case on voxels that are listed in another order along other axes."""
    matrix, start = case.grid.index_to_lps.copy(), np.zeros(4)
    start[3] = 1
    for axis in flips:
        start[2 - axis] = case.grid.shape[axis] - 1
        matrix[:, 2 - axis] *= -1
    matrix[:, 3] = case.grid.index_to_lps @ start
    matrix = matrix[:, [*(2 - axis for axis in order[::-1]), 3]]

    def turn(values):
        return np.ascontiguousarray(np.flip(values, flips).transpose(order))

    grid = Grid(tuple(case.grid.shape[axis] for axis in order), matrix)
    structures = tuple(replace(s, fraction=turn(s.fraction)) for s in case.structures)
    return replace(case, grid=grid, ct_hu=turn(case.ct_hu), structures=structures)


def a_linear_dose(grid):
    return ((grid.points_lps() - AT_ORIGIN_LPS) @ SLOPE_PER_MM + 50).reshape(grid.shape).astype(np.float32)


def an_untrained_network():
    return DoseNetwork(CONFIG).eval()


# Inputs ----------------------------------------------------------------------------------------------------------


def test_channels_hold_what_their_names_say():
    case, inputs = a_case_with_rectum(), some_inputs()
    features = dict(zip((*FEATURES, *CONFIG.organs), inputs.features, strict=True))
    assert inputs.prescription_gy == 60.0
    volume_cc = inputs.grid.voxel_volume_cc
    for channel, name in (("body", "Körper"), ("Rectum", "Tube")):
        expected_cc = case.volume_cc(case.structure(name))
        assert_allclose(features[channel].sum() * volume_cc, expected_cc, rtol=1e-4)  # averages keep volumes
    assert not features["Bladder"].any()
    center = tuple(inputs.grid.lps_to_index(case.isocenter_lps())[0].round().astype(int)[::-1])
    assert_allclose(features["prescription"].max(), 1.0)
    assert_allclose(features["density"][center], 1.0, atol=0.03)
    inside = features["prescription"] > 0.83  # whole voxels of targets
    assert (features["distance"][inside] < 0).all() and (features["distance"][features["prescription"] == 0] > 0).all()


def test_distance_is_that_to_the_sphere_of_the_target():
    case, inputs = a_case_with_rectum(), some_inputs()
    center_lps = case.grid.center_lps + case.grid.index_to_lps[:3, :3] / case.grid.spacing_mm @ (12, 5, 3)
    expected_mm = np.linalg.norm(inputs.grid.points_lps() - center_lps, axis=1) - TARGET_RADIUS_MM
    found_mm = 50 * inputs.features[FEATURES.index("distance")].ravel()
    assert_allclose(found_mm, expected_mm, atol=CONFIG.voxel_mm)  # it is measured between voxel centers


def test_the_higher_prescription_holds_where_targets_overlap():
    coarse, inputs = a_case_with_rectum().resampled(CONFIG.voxel_mm), some_inputs()
    low, high = (sampled(coarse.structure(name).fraction, coarse.grid, inputs.grid) for name in ("PTV_50", "PTV_60"))
    found = inputs.features[PRESCRIPTION]
    assert_allclose(found[high > 0.999], 1.0, rtol=1e-3)
    assert_allclose(found[(low > 0.999) & (high == 0)], 50 / 60, rtol=1e-3)
    assert (found[(low == 0) & (high == 0)] == 0).all()


def test_the_box_holds_the_body_and_nothing_more():
    body = some_inputs().features[BODY] > 0
    for axis in range(3):
        used = body.any(tuple({0, 1, 2} - {axis}))
        assert used[0] and used[-1]


def test_columns_run_to_the_left_rows_to_posterior_and_slices_to_superior():
    direction = some_inputs().grid.index_to_lps[:3, :3] / CONFIG.voxel_mm
    assert (np.diag(direction) > 0.9).all()


@pytest.mark.parametrize(("order", "flips"), [((0, 1, 2), (2,)), ((2, 0, 1), (0, 1)), ((1, 2, 0), (0, 1, 2))])
def test_inputs_do_not_depend_on_the_order_of_voxels(order, flips):
    other = dose_inputs(turned(a_case_with_rectum(), order, flips), some_beams(), MACHINE, CONFIG)
    assert other.grid.same_as(some_inputs().grid)
    assert_allclose(other.features, some_inputs().features, atol=2e-4)  # sums in another order


def test_even_beams_each_give_the_highest_target_the_same_mean_dose():
    case, beams = a_case_with_rectum(), some_beams()
    doses = [even_dose(case, [beam], MACHINE) for beam in beams]
    share = case.targets[0].fraction
    assert_allclose([np.average(dose, weights=share) for dose in doses], 1.0, rtol=1e-5)
    assert_allclose(even_dose(case, beams, MACHINE), np.mean(doses, axis=0), atol=1e-5)


def test_a_case_without_prescription_is_refused():
    case = a_case_with_rectum()
    bare = replace(case, structures=tuple(replace(s, prescription_gy=None) for s in case.structures))
    with pytest.raises(InputError, match="needs a target with a prescription"):
        dose_inputs(bare, some_beams(), MACHINE, CONFIG)


def test_a_beam_that_misses_the_target_is_refused():
    beam = some_beams()[1]
    closed = replace(beam, open_beamlets=np.zeros_like(beam.open_beamlets))
    with pytest.raises(InputError, match="Beam 2 gives no dose to 'PTV_60'"):
        dose_inputs(a_case_with_rectum(), [some_beams()[0], closed], MACHINE, CONFIG)


# Prediction ------------------------------------------------------------------------------------------------------


def test_a_linear_dose_returns_to_the_case_unchanged():
    case, inputs = a_case_with_rectum(), some_inputs()
    returned = to_case(a_linear_dose(inputs.grid), inputs, case)
    deep = sampled((inputs.features[BODY] > 0.999).astype(np.float32), inputs.grid, case.grid) > 0.999
    assert deep.sum() > 1000
    assert_allclose(returned[deep], a_linear_dose(case.grid)[deep], atol=1e-3)


def test_dose_reaches_up_to_the_skin_and_not_beyond():
    case, inputs = a_case_with_rectum(), some_inputs()
    returned = to_case(np.where(inputs.features[BODY] > 0, np.float32(7), np.float32(0)), inputs, case)
    assert returned.dtype == np.float32
    assert_allclose(returned, np.where(case.external.fraction > 0, 7.0, 0.0))


def test_dose_can_be_asked_for_elsewhere():
    case, inputs = a_case_with_rectum(), some_inputs()
    everywhere = np.ones(case.grid.shape, bool)
    assert_allclose(to_case(np.full_like(inputs.features[BODY], 7), inputs, case, where=everywhere), 7.0)


def test_the_untrained_network_predicts_the_dose_of_even_beams():
    case, inputs = a_case_with_rectum(), some_inputs()
    predicted = predict_dose(case, some_beams(), MACHINE, an_untrained_network())
    assert_allclose(predicted, to_case(60 * inputs.features[EVEN_DOSE], inputs, case), atol=1e-4)
    assert_allclose(np.average(predicted, weights=case.targets[0].fraction), 60.0, rtol=0.02)  # coarse voxels


def test_a_predicted_dose_is_not_negative():
    network = an_untrained_network()
    torch.nn.init.constant_(network.last.bias, -0.5)
    predicted = predict_dose(a_case_with_rectum(), some_beams(), MACHINE, network)
    assert predicted.min() == 0 < predicted.max()


# Networks --------------------------------------------------------------------------------------------------------


def test_a_network_is_read_from_its_file(tmp_path):
    file, network = tmp_path / "dose.safetensors", an_untrained_network().half().float()
    save_checkpoint(file, network, replace(a_card(asdict(CONFIG)), network=KIND))
    card, read = network_of(file)
    assert (card.network, read.config) == (KIND, CONFIG)
    features = torch.from_numpy(some_inputs().features)[None]
    with torch.no_grad():
        assert_array_equal(read(features), network(features))


def test_the_network_that_knows_most_organs_is_chosen(monkeypatch):
    known = {"pelvis": ("Rectum", "Bladder"), "head and neck": ("Brainstem",)}
    shipped = tuple(
        (replace(a_card({}), site=site), DoseNetwork(replace(CONFIG, organs=organs))) for site, organs in known.items()
    )
    monkeypatch.setattr(dose_prediction, "_shipped", lambda: shipped)
    case = a_case_with_rectum()
    assert network_for(case)[0].site == "pelvis"
    with pytest.raises(InputError, match="there are ones for pelvis, head and neck"):
        network_for(replace(case, structures=tuple(replace(s, organ="") for s in case.structures)))


def test_a_shipped_network_that_is_missing_leaves_the_others(monkeypatch, tmp_path):
    monkeypatch.setattr(dose_prediction.resources, "files", lambda _: tmp_path)
    monkeypatch.setattr(dose_prediction, "_shipped", dose_prediction._shipped.__wrapped__)
    with pytest.raises(InputError, match=r"^No dose network ships with this version; train one with deeprt train dose"):
        network_for(a_case_with_rectum())
    a_dose_network_file(tmp_path / "data" / "models" / SHIPPED[1], an_untrained_network(), site="there")
    assert network_for(a_case_with_rectum())[0].site == "there"


# A wished dose, and where the networks have not learned ------------------------------------------------------------


def a_dose_card(**about):
    """Of a network that has learned from plans such as that of the sample case."""
    known = {"organs": ("Rectum",), "site": "sample", "n_beams_min": 3, "energy_mv": 6.0}
    levels = {"prescription_levels": (1.0, 0.83), "extent_mm": (200.0, 200.0, 200.0)}
    return replace(a_card({}), network=KIND, **known | levels | about)


def notes_of(case=None, beams=None, **about):
    network = an_untrained_network()
    return beyond_training(a_dose_card(**about), network, case or a_case_with_rectum(), beams or some_beams(), MACHINE)


def test_a_wished_dose_is_the_networks_and_says_so(monkeypatch, tmp_path):
    network, case = an_untrained_network(), a_case_with_rectum()
    expected = predict_dose(case, some_beams(), MACHINE, network)
    monkeypatch.setattr(dose_prediction, "network_for", lambda _: (a_dose_card(n_beams_min=4), network))
    dose_gy, notes = wished_dose(case, some_beams(), MACHINE)
    assert_array_equal(dose_gy, expected)
    start = "The wished dose, from which fluence was predicted, comes from the dose network"
    assert notes == (f"{start} for sample.", "The dose network has learned from plans of 4 to 5 beams, not 3.")
    file = a_dose_network_file(tmp_path / "own.safetensors", network, extent_mm=(200.0, 200.0, 200.0))
    assert wished_dose(case, some_beams(), MACHINE, file)[1] == (f"{start} '{file}'.",)


def test_within_its_training_there_is_nothing_to_note():
    assert notes_of() == ()


def test_organs_that_are_missing_or_not_known_are_noted():
    assert notes_of(organs=("Bladder", "Rectum")) == (
        "The dose network has learned from sample patients; this one has no Bladder.",
    )
    case = a_case_with_rectum()
    organs = {"bladder": "Bladder", "lips": "Lips", "a lump": ""}
    others = tuple(replace(case.structure("Tube"), name=name, organ=organ) for name, organ in organs.items())
    (note,) = notes_of(replace(case, structures=(*case.structures, *others)))
    assert note == "The dose network does not know these organs at risk: lips, a lump."


def test_prescriptions_in_a_ratio_that_was_not_learned_are_noted():
    assert notes_of(prescription_levels=()) == ()
    (note,) = notes_of(prescription_levels=(0.9, 1.0))
    assert note == "The dose network has learned from targets of 90 and 100 % of the highest prescription, not 83 %."


def test_targets_and_beams_that_were_not_learned_are_noted():
    larger, energy = notes_of(extent_mm=(10.0, 200.0, 200.0), energy_mv=15.0)
    assert larger.startswith("The targets extend over ") and "that the dose network has learned from, 10 x" in larger
    assert energy == "The dose network has learned from beams of 15 MV, not 6 MV."
