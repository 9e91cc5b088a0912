"""Reference plans: deliverable, of the dose that their maps give, kept as they are, and as varied as planners."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from Core.fluence_prediction_samples import PATIENT, QUICK
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.config import read_protocol
from deeprt.delivery.segments import DeliverablePlan
from deeprt.delivery.violations import violations
from deeprt.dose.influence import dose_influence
from deeprt.errors import InputError
from deeprt.fluence.inversion import between_jaws
from deeprt.fluence.solvers import SolverSettings
from deeprt.machine_file import read_machine
from deeprt.networks.beams_eye_view import map_to_fluence
from deeprt.structures import Role
from deeprt.training import reference_plans as module
from deeprt.training.cohort import Cohort, write_cohort
from deeprt.training.reference_plans import (
    drawn_preferences,
    make_reference_plan,
    plan_cohort,
    plan_file,
    read_all_plans,
    read_reference_plan,
    reference_beams,
    reference_case,
    reference_plan_of,
    write_reference_plan,
)

MACHINE = read_machine(QUICK.machine)


@pytest.fixture(scope="module")
def case():
    return reference_case(PATIENT, QUICK)


@pytest.fixture(scope="module")
def made(case):
    """The plan that is kept, and the deliverable one that it is made of."""
    delivered = []

    def remember(plan, *arguments):
        scaled, dose_gy = normalize(plan, *arguments)
        delivered.append(scaled)
        return scaled, dose_gy

    normalize = module.normalize
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "normalize", remember)
        kept = make_reference_plan(case, MACHINE, QUICK, seed=PATIENT.seed, is_test=False)
    return kept, delivered[0]


def assert_same(one, other):
    assert vars(one).keys() == vars(other).keys()
    for name, value in vars(one).items():
        assert_array_equal(getattr(other, name), value)
        assert type(getattr(other, name)) is type(value)


# The case


def test_all_targets_are_one_with_the_prescription_of_the_settings(case):
    loaded = PATIENT.load(QUICK.spacing_mm)
    assert len(loaded.targets) == 2  # prostate and nodes
    (target,) = case.with_role(Role.TARGET)
    assert (target.name, target.prescription_gy, case.n_fractions) == ("PTV", 44.0, 20)
    assert_array_equal(target.fraction, np.maximum(*(t.fraction for t in loaded.targets)))
    assert_allclose(case.grid.spacing_mm, 5.0)
    others = [s.name for s in loaded.structures if s.role is not Role.TARGET]
    assert [s.name for s in case.structures if s is not target] == others


# The plan


def test_a_plan_is_deliverable(made):
    kept, delivered = made
    assert isinstance(delivered, DeliverablePlan)
    assert violations(delivered) == ()
    assert_array_equal(kept.beam_mu, [delivered.beam_mu(n) for n in range(kept.n_beams)])


def test_a_plan_is_normalized_as_the_protocol_says(case, made):
    rule = read_protocol("prostate").normalization
    assert_allclose(rule.factor(case, made[0].dose_gy), 1.0, rtol=1e-5)


def test_beams_are_equispaced_from_a_drawn_angle(made):
    kept = made[0]
    assert kept.n_beams == 3
    assert_allclose(np.diff(kept.gantry_deg), 120.0)
    assert 0 < kept.gantry_deg[0] < 120


def test_maps_are_shares_of_the_beams_monitor_units(made):
    kept = made[0]
    assert kept.fmu.shape == (3, 128, 128)
    assert kept.fmu.dtype == kept.dose_gy.dtype == np.float32
    assert kept.fmu.min() == 0 and 0.2 < kept.fmu.max() <= 1 + 1e-6
    leaking = kept.fmu[(kept.fmu > 0) & (kept.fmu < 0.1)]
    assert_allclose(np.median(leaking), MACHINE.mlc.transmission, rtol=0.5)  # between the jaws, under the leaves


def test_the_dose_is_that_of_the_maps(case, made):
    """Through the operator, on beamlets instead of the pixels of the leaves' positions."""
    kept = made[0]
    wide = [between_jaws(b, MACHINE) for b in reference_beams(case, kept, MACHINE)]
    influence = dose_influence(case, wide, MACHINE)
    maps = kept.fmu * kept.beam_mu[:, None, None]
    row = torch.cat([map_to_fluence(b, torch.from_numpy(m)).flatten() for b, m in zip(wide, maps, strict=True)])
    dose = influence.to_volume(case.n_fractions * influence.dose(row[None].float())[0])
    assert_allclose(dose, kept.dose_gy, atol=5e-3 * kept.dose_gy.max())
    assert np.abs(dose - kept.dose_gy).mean() < 1e-4 * kept.dose_gy.max()


def test_beams_are_made_anew_from_the_angles(case, made):
    beams = reference_beams(case, made[0], MACHINE)
    for own, of_plan in zip(beams, made[1].beams, strict=True):
        assert own.angles == of_plan.angles
        assert_array_equal(own.isocenter_lps, of_plan.isocenter_lps)
        assert_array_equal(own.open_beamlets, of_plan.open_beamlets)


def test_the_same_seed_gives_the_same_plan_and_another_one_another(case, made):
    assert_same(made[0], make_reference_plan(case, MACHINE, QUICK, seed=PATIENT.seed, is_test=False))
    other = make_reference_plan(case, MACHINE, QUICK, seed=PATIENT.seed + 1, is_test=False)
    assert not np.allclose(other.gantry_deg, made[0].gantry_deg)


def test_plans_for_test_have_seven_beams_from_zero(case):
    fast = replace(QUICK, solver=SolverSettings(max_iterations=1, tolerance=1e-3))
    plan = make_reference_plan(case, MACHINE, fast, seed=PATIENT.seed, is_test=True)
    assert_allclose(plan.gantry_deg, 360 / 7 * np.arange(7), atol=0.05)  # angles are given to a tenth of a degree


# Preferences


def preferences(seed, settings=QUICK):
    return drawn_preferences(np.random.default_rng((seed, 1)), settings)


def test_preferences_differ_between_seeds_and_are_the_same_for_one():
    assert preferences(1) == preferences(1)
    (one, first), (other, second) = preferences(1), preferences(2)
    assert [o.weight for o in one.objectives] != [o.weight for o in other.objectives]
    assert first.smoothness != second.smoothness


def test_preferences_do_not_follow_the_stream_of_the_anatomy(case, monkeypatch):
    """The patient's own seed, and the order in which a plan draws."""
    given = []

    def keep(rng, settings):
        given.append(rng.random(4))
        raise InterruptedError

    monkeypatch.setattr(module, "drawn_preferences", keep)
    for seed in (11, 12):
        with pytest.raises(InterruptedError):
            make_reference_plan(case, MACHINE, QUICK, seed=seed, is_test=False)
    anatomy = np.random.default_rng(11).random(1000)
    assert not np.isin(given[0], anatomy).any()
    assert not np.isin(given[0], given[1]).any()


def test_a_test_patients_preferences_are_drawn_as_any_others(case, monkeypatch):
    given = []

    def keep(rng, settings):
        given.append(drawn_preferences(rng, settings))
        raise InterruptedError

    monkeypatch.setattr(module, "drawn_preferences", keep)
    for is_test in (False, True):
        with pytest.raises(InterruptedError):
            make_reference_plan(case, MACHINE, QUICK, seed=11, is_test=is_test)
    assert given[0] == given[1]


def test_preferences_stay_within_what_the_settings_allow(monkeypatch):
    protocol = read_protocol("prostate")
    monkeypatch.setattr(module, "read_protocol", lambda name: protocol)  # which takes its time to read
    drawn = [preferences(seed) for seed in range(200)]
    assert all(p.goals == protocol.goals and p.normalization == protocol.normalization for p, _ in drawn)
    smoothness = np.array([f.smoothness for _, f in drawn])
    assert 200 <= smoothness.min() < 300 and 1400 < smoothness.max() <= 2000
    assert_allclose(np.median(smoothness), math.sqrt(200 * 2000), rtol=0.25)
    for n, spec in enumerate(protocol.objectives):
        logs = np.log([p.objectives[n].weight / spec.weight for p, _ in drawn])
        assert_allclose([logs.mean(), logs.std()], [0.0, 0.5], atol=0.15)  # standard errors 0.035 and 0.025
        doses = {p.objectives[n].dose_percent for p, _ in drawn}
        if spec.dose_percent is None or spec.structure in ("targets", "external"):
            assert doses == {spec.dose_percent}
        else:
            changes = np.array(sorted(doses)) / spec.dose_percent - 1
            assert -0.2 <= changes.min() < -0.18 and 0.18 < changes.max() <= 0.2


def test_without_spread_the_preferences_are_the_protocols():
    protocol, fluence = preferences(1, replace(QUICK, weight_spread=0.0, dose_spread=0.0, smoothness=(300.0, 300.0)))
    for drawn, spec in zip(protocol.objectives, read_protocol("prostate").objectives, strict=True):
        assert drawn == spec
    assert_allclose(fluence.smoothness, 300.0)
    assert fluence.solver == QUICK.solver


# On disk


def test_a_plan_that_is_read_is_the_one_that_was_written(made, tmp_path):
    write_reference_plan(made[0], tmp_path / "plan.npz")
    assert_same(made[0], read_reference_plan(tmp_path / "plan.npz"))
    assert [f.name for f in tmp_path.iterdir()] == ["plan.npz"]


def test_a_plan_of_other_settings_is_not_taken(made, tmp_path):
    write_reference_plan(made[0], plan_file(tmp_path, PATIENT))
    assert_same(made[0], reference_plan_of(tmp_path, QUICK, PATIENT))
    assert reference_plan_of(tmp_path, replace(QUICK, spacing_mm=4.0), PATIENT) is None
    assert reference_plan_of(tmp_path, QUICK, replace(PATIENT, id="P2")) is None


def test_settings_that_differ_in_anything_have_another_digest():
    solver = replace(QUICK.solver, max_iterations=9)
    others = (replace(QUICK, n_beams=(3, 5)), replace(QUICK, machine="generic_6mv"), replace(QUICK, solver=solver))
    assert len({s.digest() for s in (QUICK, *others)}) == 4
    assert replace(QUICK).digest() == QUICK.digest()


def test_a_damaged_file_or_another_ones_is_no_plan(made, tmp_path, caplog):
    file = plan_file(tmp_path, PATIENT)
    write_reference_plan(made[0], file)
    file.write_bytes(file.read_bytes()[:1000])
    assert reference_plan_of(tmp_path, QUICK, PATIENT) is None
    assert "P1.npz' cannot be read" in caplog.text
    np.savez(file, digest="x", fmu=np.ones(3))
    with pytest.raises(InputError, match=r"P1\.npz' cannot be read as a plan"):
        read_reference_plan(file)


def test_patients_without_a_plan_are_named(made, tmp_path):
    write_reference_plan(made[0], plan_file(tmp_path, PATIENT))
    (read,) = read_all_plans(tmp_path, QUICK, [PATIENT])
    assert_same(made[0], read)
    with pytest.raises(InputError, match=r"Patient P2 has no reference plan; run deeprt cohort plan '.*' first"):
        read_all_plans(tmp_path, QUICK, [PATIENT, replace(PATIENT, id="P2")])


def test_only_missing_patients_of_a_cohort_are_planned(made, tmp_path, monkeypatch):
    cohort = Cohort((PATIENT, replace(PATIENT, id="P2", seed=12), replace(PATIENT, id="P3", seed=13, split="test")))
    write_cohort(cohort, tmp_path)
    write_reference_plan(made[0], plan_file(tmp_path, PATIENT))
    planned = []

    def quick(case, machine, settings, *, seed, is_test):
        planned.append((case.case_id, machine.name, seed, is_test))
        return made[0]

    monkeypatch.setattr(module, "make_reference_plan", quick)
    assert plan_cohort(tmp_path, settings=QUICK) == 2
    assert planned == [("P2", MACHINE.name, 12, False), ("P3", MACHINE.name, 13, True)]
    assert plan_cohort(tmp_path, settings=QUICK) == 0
    assert plan_cohort(tmp_path, settings=replace(QUICK, prescription_gy=45.0)) == 3
