"""What the dose network learns from: virtual patients with made-up plans, a made-up one of OpenKBP."""

import numpy as np
import pytest
import torch
from Core.dose_samples import (
    CONFIG,
    GANTRY_DEG,
    PATIENTS,
    PLANS,
    a_linear_dose,
    a_packed_patient,
    a_planned_cohort,
)
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.beams import BeamAngles
from deeprt.errors import InputError
from deeprt.fluence.dose_prediction import dose_inputs
from deeprt.networks.dose_network import BODY, EVEN_DOSE, FEATURES, PRESCRIPTION, DoseConfig, DoseNetwork
from deeprt.progress import Silent
from deeprt.training.dose_data import (
    TARGET_WEIGHT,
    DoseVolumes,
    dose_volumes,
    planned_case,
    prepare_doses,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def some_volumes(extent=(40, 20, 60), n_organs=3, seed=1):
    """Of two patients whose dose is that of even beams, one larger than the part that a step sees, one smaller."""
    rng, made = np.random.default_rng(seed), []
    for shape in (extent, (20, 25, 30)):
        features = rng.uniform(0.1, 1, (len(FEATURES) + n_organs, *shape)).astype(np.float16)
        weight = (rng.random(shape) < 0.2).astype(np.float16)
        made.append([torch.from_numpy(v) for v in (features, features[EVEN_DOSE].copy(), weight)])
    return DoseVolumes(*zip(*made, strict=True))


# Prepared patients -----------------------------------------------------------------------------------------------


def test_a_reference_plan_becomes_features_and_dose_on_the_networks_voxels(tmp_path):
    folder, patient = a_planned_cohort(tmp_path, 1), PATIENTS[0]
    prepare_doses(folder, CONFIG, PLANS, [patient], n_jobs=1, report=Silent())
    volumes = dose_volumes(folder, CONFIG, PLANS, [patient])
    planned = planned_case(folder, patient, PLANS)
    assert [b.angles for b in planned.beams] == [BeamAngles(g) for g in GANTRY_DEG]
    inputs = dose_inputs(planned.case, planned.beams, planned.machine, CONFIG)
    assert_array_equal(volumes.features[0], inputs.features.astype(np.float16))
    whole = inputs.features[BODY] == 1
    whole[[0, -1]] = False  # these voxels reach beyond the case's grid
    expected = a_linear_dose(inputs.grid, planned.case.isocenter_lps()) / 44
    assert_allclose(volumes.dose[0][whole], expected[whole], atol=1e-3)  # the mean of a linear dose; half precision
    counted = np.where(inputs.features[PRESCRIPTION] > 0, TARGET_WEIGHT, 1.0)
    assert_allclose(volumes.weight[0][whole], counted[whole])
    assert not volumes.weight[0][inputs.features[BODY] == 0].any()


def test_what_is_prepared_is_kept_and_other_voxels_are_prepared_anew(tmp_path):
    folder = a_planned_cohort(tmp_path, 1)
    prepare_doses(folder, CONFIG, PLANS, PATIENTS[:1], n_jobs=1, report=Silent())
    (file,) = (folder / "doses").glob("*/P0.npz")
    written = file.stat().st_mtime_ns
    for organs in (CONFIG.organs, ("Bladder",)):
        config = DoseConfig(organs, voxel_mm=CONFIG.voxel_mm)
        prepare_doses(folder, config, PLANS, PATIENTS[:1], n_jobs=1, report=Silent())
    assert file.stat().st_mtime_ns == written
    assert len(list((folder / "doses").glob("*/P0.npz"))) == 2


def test_a_patient_of_openkbp_has_nine_fields_and_counts_where_the_data_set_has_dose(tmp_path):
    patient = a_packed_patient(tmp_path)
    planned = planned_case(tmp_path, patient, PLANS)
    assert [b.angles.gantry_deg for b in planned.beams] == [40.0 * k for k in range(9)]
    assert (planned.machine.energy_mv, planned.case.targets[0].prescription_gy) == (6.0, 70.0)
    assert_array_equal(planned.known, planned.dose_gy > 0)
    prepare_doses(tmp_path, CONFIG, PLANS, [patient], n_jobs=1, report=Silent())
    volumes = dose_volumes(tmp_path, CONFIG, PLANS, [patient])
    counts = volumes.weight[0] > 0
    assert_allclose(volumes.dose[0][counts], 20 / 70, rtol=1e-3)  # not mixed with the zeros beside
    assert 0 < int(counts.sum()) <= int((volumes.features[0][BODY] > 0).sum())


def test_a_patient_without_a_plan_is_named(tmp_path):
    with pytest.raises(InputError, match="Patient P0 has no reference plan"):
        planned_case(tmp_path, PATIENTS[0], PLANS)


# Loss ------------------------------------------------------------------------------------------------------------


def test_without_a_generator_whole_patients_are_compared():
    volumes, network = some_volumes(), DoseNetwork(CONFIG)
    wished = DoseVolumes(volumes.features, tuple(d + 0.25 for d in volumes.dose), volumes.weight)
    with torch.no_grad():
        assert_allclose(wished.loss(network, [0, 1], None), 0.25, rtol=1e-3)  # half precision
        assert_allclose(volumes.loss(network, [1], None), 0.0, atol=1e-6)


def test_parts_and_mirror_images_of_features_and_dose_belong_together():
    volumes, network, rng = some_volumes(), DoseNetwork(CONFIG), np.random.default_rng(5)
    with torch.no_grad():
        losses = [float(volumes.loss(network, [0, 1], rng)) for _ in range(12)]
    assert_allclose(losses, 0.0, atol=1e-6)


def test_only_voxels_with_weight_count_in_a_part():
    volumes, network = some_volumes(), DoseNetwork(CONFIG)
    wrong = tuple(torch.where(w > 0, d, 9.0) for d, w in zip(volumes.dose, volumes.weight, strict=True))
    with torch.no_grad():
        loss = DoseVolumes(volumes.features, wrong, volumes.weight).loss(network, [0, 1], np.random.default_rng(5))
    assert_allclose(loss, 0.0, atol=1e-6)


def test_the_same_generator_draws_the_same_parts():
    volumes, network = some_volumes(), DoseNetwork(CONFIG)
    other = DoseVolumes(volumes.features, tuple(d**2 for d in volumes.dose), volumes.weight)
    with torch.no_grad():
        first, again, different = (float(other.loss(network, [0, 1], np.random.default_rng(s))) for s in (5, 5, 6))
    assert first == again != different
