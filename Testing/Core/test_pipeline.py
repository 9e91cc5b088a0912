import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from Core.pipeline_samples import QUICK, a_virtual_case, a_virtual_plan
from Core.plan_samples import a_case
from numpy.testing import assert_allclose

from deeprt.config import BeamSettings, Normalization, PlanningConfig, read_protocol
from deeprt.delivery.dose_of_plan import dose_of_plan
from deeprt.delivery.violations import violations
from deeprt.dicom.check_plan import check_plan
from deeprt.dicom.write_plan import plan_dataset
from deeprt.dose.influence import dose_influence
from deeprt.errors import InputError
from deeprt.evaluation.evaluate import evaluate
from deeprt.fluence.specification import ObjectiveSpec
from deeprt.pipeline import plan_case
from deeprt.preparation import load_case, with_prescriptions
from deeprt.roles import StructureChoice
from deeprt.structures import Role

CASES = Path(__file__).parents[3] / "shared" / "cases"


# The plan of the virtual patient


def test_the_delivered_dose_is_normalized_to_the_wished_coverage():
    rule = Normalization(volume_percent=90.0, dose_percent=97.0)
    result = plan_case(a_virtual_case(), replace(QUICK, normalization=rule))
    target = result.report.targets[0]
    # The dose is rounded to float32 after the monitor units are scaled.
    assert_allclose(target.dvh.dose_at_volume(90.0), 0.97 * target.prescription_gy, rtol=1e-5)
    ideal = result.ideal_report.targets[0]
    assert_allclose(ideal.dvh.dose_at_volume(90.0), 0.97 * ideal.prescription_gy, rtol=1e-5)


def test_segments_that_normalization_leaves_with_too_few_monitor_units_are_left_out():
    usual = a_virtual_plan()
    rule, least = usual.protocol.normalization, min(s.mu for s in usual.plan.segments)
    low = replace(rule, dose_percent=rule.dose_percent * 0.8 * usual.plan.machine.min_segment_mu / least)
    result = plan_case(a_virtual_case(), replace(QUICK, normalization=low))
    assert violations(result.plan) == ()
    assert 0 < len(result.plan.segments) < len(usual.plan.segments)
    reached = result.report.targets[0].dvh.dose_at_volume(rule.volume_percent)
    assert_allclose(reached, low.dose_percent / 100 * 60, rtol=1e-5)


def test_without_a_rule_of_the_user_the_protocol_normalizes():
    result = a_virtual_plan()
    rule, target = result.protocol.normalization, result.report.targets[0]
    reached = target.dvh.dose_at_volume(rule.volume_percent)
    assert_allclose(reached, rule.dose_percent / 100 * target.prescription_gy, rtol=1e-5)


def test_the_dose_is_that_of_the_segments_as_they_are():
    result = a_virtual_plan()
    influence = dose_influence(result.case, result.plan.beams, result.plan.machine)
    assert_allclose(dose_of_plan(result.plan, influence), result.dose_gy, atol=2e-4 * result.dose_gy.max())


def test_the_report_is_that_of_the_dose():
    result = a_virtual_plan()
    again = evaluate(result.case, result.dose_gy, result.protocol.goals)
    for a, b in zip(again.structures, result.report.structures, strict=True):
        assert (a.name, a.metrics) == (b.name, b.metrics)
    assert [(g.structure, g.value) for g in again.goals] == [(g.structure, g.value) for g in result.report.goals]
    target = result.case.targets[0].fraction
    mean = np.average(result.dose_gy, weights=target)
    # The DVH interpolates the dose between voxels, whose mean has it constant in each.
    assert_allclose(result.report.targets[0].metrics.dmean_gy, mean, rtol=5e-3)


def test_monitor_units_and_segments_add_up_within_the_limits_of_the_machine():
    plan = a_virtual_plan().plan
    assert violations(plan) == ()
    assert_allclose(plan.total_mu, sum(s.mu for s in plan.segments))
    assert_allclose(plan.total_mu, sum(plan.beam_mu(b) for b in range(len(plan.beams))))
    assert all(1 <= len(plan.segments_of(b)) <= QUICK.sequencing.max_segments_per_beam for b in range(3))
    assert plan.n_fractions == a_virtual_plan().case.n_fractions


def test_the_same_seed_gives_the_same_plan_and_another_seed_another():
    case, first = a_virtual_case(), a_virtual_plan()
    again = plan_case(case, QUICK)
    other = plan_case(case, replace(QUICK, seed=1))
    for a, b in zip(first.solution.fluence_mu, again.solution.fluence_mu, strict=True):
        assert np.array_equal(a, b)
    assert [s.mu for s in first.plan.segments] == [s.mu for s in again.plan.segments]
    assert any(
        not np.array_equal(a, b) for a, b in zip(first.solution.fluence_mu, other.solution.fluence_mu, strict=True)
    )


def test_the_virtual_patient_follows_the_seed():
    assert not np.array_equal(a_virtual_case().ct_hu, load_case("virtual:prostate", replace(QUICK, seed=9)).ct_hu)


def test_planning_helps_and_tuning_structures_are_made():
    result = a_virtual_plan()
    assert {s.name for s in result.case.with_role(Role.TUNING)} == {"Ring", "Skin"}
    assert result.solution.history[-1] < 0.5 * result.solution.history[0]
    target = result.report.targets[0]
    assert target.metrics.d95_gy > 0.9 * target.prescription_gy
    assert result.report.structure("Ring").metrics.dmean_gy < 0.8 * target.prescription_gy


def test_steps_are_timed_and_announced_from_beginning_to_end():
    announced = []

    class Recorder:
        def step(self, name, fraction, message=""):
            announced.append((name, fraction))

    result = plan_case(a_virtual_case(), QUICK, Recorder())
    steps = ["beams", "dose influence", "fluence", "segments", "dose", "evaluation"]
    assert list(result.timing_s) == steps
    assert list(dict.fromkeys(name for name, _ in announced)) == steps
    assert all(0 <= fraction <= 1 for _, fraction in announced)
    assert all(announced.count((name, 1.0)) >= 1 for name in steps)
    assert result.peak_memory_mb > 50


def test_angles_of_the_user_are_planned_with_couch_and_collimator():
    beams = BeamSettings(gantry_deg=(30.0, 150.0, 270.0), couch_deg=(10.0, 0.0, 350.0), collimator_deg=90.0)
    plan = plan_case(a_virtual_case(), replace(QUICK, beams=beams)).plan
    angles = [(b.angles.gantry_deg, b.angles.couch_deg, b.angles.collimator_deg) for b in plan.beams]
    assert angles == [(30.0, 10.0, 90.0), (150.0, 0.0, 90.0), (270.0, 350.0, 90.0)]


def test_objectives_and_goals_of_the_user_replace_those_of_the_protocol():
    cover = (
        ObjectiveSpec("targets", "squared_underdose", 100.0, dose_percent=100),
        ObjectiveSpec("targets", "squared_overdose", 100.0, dose_percent=103),
    )
    spare = (*cover, ObjectiveSpec("Rectum", "mean_dose", 30.0))
    goal = replace(a_virtual_plan().protocol.goals[0], structure="Bladder", metric="Dmean", relation="<=", unit="Gy")
    without, with_ = (plan_case(a_virtual_case(), replace(QUICK, objectives=o, goals=(goal,))) for o in (cover, spare))
    assert [g.structure for g in with_.report.goals] == ["Bladder"]
    rectum = [r.ideal_report.structure("Rectum").metrics.dmean_gy for r in (without, with_)]
    assert rectum[1] < 0.9 * rectum[0]


def test_smoothness_makes_neighboring_beamlets_alike():
    rough, smooth = (
        plan_case(a_virtual_case(), replace(QUICK, fluence=replace(QUICK.fluence, smoothness=s))).solution.fluence_mu[0]
        for s in (0.0, 1e4)
    )
    assert np.abs(np.diff(smooth)).sum() / smooth.sum() < 0.8 * np.abs(np.diff(rough)).sum() / rough.sum()


# Prescriptions, fractions, protocol


def unprescribed(*names):
    """The sample case in which only these structures are targets, none with a dose."""
    case = a_case()
    return replace(
        case,
        n_fractions=1,
        structures=tuple(
            replace(s, role=Role.TARGET if s.name in names else Role.OTHER, prescription_gy=None)
            if s.role is Role.TARGET or s.name in names
            else s
            for s in case.structures
        ),
    )


def test_stated_fractions_and_prescriptions_need_no_assumption():
    protocol, case, notes = with_prescriptions(a_case(), PlanningConfig(n_fractions=30, protocol="prostate"))
    assert protocol == read_protocol("prostate")
    assert case.n_fractions == 30
    assert notes == (f"Objectives and goals: protocol {protocol.name}.",)


def test_the_number_of_fractions_follows_the_protocol_with_a_note():
    case = replace(a_case(), n_fractions=1)
    _, settled, notes = with_prescriptions(case, PlanningConfig())
    assert settled.n_fractions == 30
    assert notes[0] == "The course has 30 fractions of 2 Gy to PTV_60."


def test_a_single_target_takes_the_usual_prescription_with_a_note():
    _, case, notes = with_prescriptions(unprescribed("PTV_50"), PlanningConfig(protocol="prostate"))
    usual = read_protocol("prostate").prescription_gy
    assert case.targets[0].prescription_gy == usual
    assert re.match(rf"PTV_50 is prescribed {usual:g} Gy, as usual for ", notes[0])


def test_targets_without_prescription_beside_others_take_no_part():
    case = a_case()
    structures = tuple(replace(s, prescription_gy=None) if s.name == "PTV_50" else s for s in case.structures)
    _, settled, notes = with_prescriptions(replace(case, structures=structures), PlanningConfig())
    assert [t.name for t in settled.targets] == ["PTV_60"]
    assert "Targets without prescription take no part in planning: PTV_50." in notes


def test_targets_that_nothing_prescribes_are_refused():
    with pytest.raises(
        InputError, match=r"No target has a prescription; give 'PTV_50' one .*--prescription 'PTV_50=60'"
    ):
        with_prescriptions(unprescribed("PTV_50"), PlanningConfig(protocol="generic"))
    with pytest.raises(InputError, match=r"Several targets have no prescription \(PTV_50, PTV_60\); give them"):
        with_prescriptions(unprescribed("PTV_50", "PTV_60"), PlanningConfig(protocol="prostate"))
    with pytest.raises(InputError, match=r"The case has no target; name one \(command line: --prescription 'PTV=60'"):
        with_prescriptions(unprescribed(), PlanningConfig(protocol="generic"))


def test_what_the_user_sets_reaches_the_virtual_patient():
    config = replace(
        QUICK,
        prescription_gy={"PTV_60": 66.0},
        structures={"PenileBulb": StructureChoice(role=Role.OTHER), "Rectum": StructureChoice(organ="Bowel")},
    )
    case = load_case("virtual:prostate", config)
    assert [t.prescription_gy for t in case.targets] == [66.0]
    assert case.structure("PenileBulb").role is Role.OTHER
    assert case.structure("Rectum").organ == "Bowel"
    with pytest.raises(InputError, match="There is no structure 'PTV'; the case has BODY, CTV, "):
        load_case("virtual:prostate", replace(QUICK, prescription_gy={"PTV": 60.0}))


# Real cases


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("cort_prostate", PlanningConfig(beams=BeamSettings(n_beams=5))),
        ("tg119", PlanningConfig(beams=BeamSettings(n_beams=7))),
    ],
)
def test_a_real_case_is_planned_to_its_goals(name, config):
    if not (CASES / name).is_dir():
        pytest.skip(f"shared/cases/{name} is not there")
    result = plan_case(load_case(str(CASES / name), config), config)
    target = result.report.targets[0]
    assert target.metrics.d95_gy >= 0.95 * target.prescription_gy
    assert target.metrics.d2_gy <= 1.12 * target.prescription_gy
    assert violations(result.plan) == ()
    # The harder version of TG-119's C-shape is reported as met or missed, not asked for.
    assert [g for g in result.report.goals if not g.met and "harder version" not in g.criterion.source] == []
    uid = result.case.dicom.structure_set_uid
    assert check_plan(plan_dataset(result.case, result.plan, label="test", structure_set_uid=uid)) == ()
