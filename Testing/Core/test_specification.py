from dataclasses import replace

import numpy as np
import pytest
import torch
from Core.plan_samples import a_case
from numpy.testing import assert_allclose

from deeprt.case import outside_higher_targets
from deeprt.errors import InputError
from deeprt.fluence.objectives import (
    Geud,
    MaxDvh,
    MeanDose,
    MinDvh,
    SquaredDeviation,
    SquaredOverdose,
    SquaredUnderdose,
)
from deeprt.fluence.problem import sample_voxels
from deeprt.fluence.specification import ObjectiveSpec, make_terms

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def case():
    made = a_case()
    structures = tuple(replace(s, organ="Urethra") if s.name == "Tube" else s for s in made.structures)
    return replace(made, structures=structures)


@pytest.fixture(scope="module")
def sample(case):
    return sample_voxels(case, (), background_share=1.0, rng=np.random.default_rng(0))


COVER = ObjectiveSpec("targets", "squared_underdose", 10.0, dose_percent=100)


@pytest.mark.parametrize(
    ("spec", "objective"),
    [
        (ObjectiveSpec("A", "squared_deviation", 1.0, dose_gy=12.0), SquaredDeviation(12.0)),
        (ObjectiveSpec("A", "squared_deviation", 1.0, dose_gy=0.0), SquaredDeviation(0.0)),
        (ObjectiveSpec("A", "squared_overdose", 1.0, dose_percent=105), SquaredOverdose(63.0)),
        (ObjectiveSpec("A", "squared_underdose", 1.0, dose_percent=100), SquaredUnderdose(60.0)),
        (ObjectiveSpec("A", "mean_dose", 1.0), MeanDose()),
        (ObjectiveSpec("A", "max_dvh", 1.0, dose_gy=20.0, volume_percent=30), MaxDvh(20.0, 30)),
        (ObjectiveSpec("A", "min_dvh", 1.0, dose_percent=95, volume_percent=98), MinDvh(57.0, 98)),
        (ObjectiveSpec("A", "gEUD", 1.0, dose_percent=50, exponent=8), Geud(30.0, 8)),
    ],
)
def test_a_line_makes_its_objective(spec, objective):
    assert spec.objective(60.0) == objective


def test_a_word_means_all_structures_of_a_role(case, sample):
    specs = (
        COVER,
        ObjectiveSpec("organs_at_risk", "mean_dose", 2.0),
        ObjectiveSpec("external", "squared_overdose", 3.0, dose_percent=50),
        ObjectiveSpec("Ring", "squared_overdose", 4.0, dose_percent=80),
    )
    terms = make_terms(case, specs, sample, CPU)
    assert [t.structure for t in terms] == ["PTV_60", "PTV_50", "Tube", "Körper", "Ring"]
    assert [t.weight.item() for t in terms] == [10, 10, 2, 3, 4]


def test_percents_refer_to_the_targets_own_and_elsewhere_to_the_highest_prescription(case, sample):
    specs = (COVER, ObjectiveSpec("Tube", "squared_overdose", 1.0, dose_percent=50))
    boost, target, tube = make_terms(case, specs, sample, CPU)
    assert (boost.objective, target.objective) == (SquaredUnderdose(60.0), SquaredUnderdose(50.0))
    assert tube.objective == SquaredOverdose(30.0)


def test_a_structure_is_found_by_its_organ_and_a_name_goes_first(case, sample):
    by_organ = make_terms(case, (COVER, ObjectiveSpec("Urethra", "mean_dose", 1.0)), sample, CPU)
    assert by_organ[-1].structure == "Tube"
    renamed = tuple(replace(s, name="Urethra") if s.name == "Marker" else s for s in case.structures)
    full = tuple(replace(s, fraction=case.structure("Ring").fraction) if s.name == "Urethra" else s for s in renamed)
    by_name = make_terms(
        replace(case, structures=full), (COVER, ObjectiveSpec("Urethra", "mean_dose", 1.0)), sample, CPU
    )
    assert [t.structure for t in by_name][2:] == ["Urethra"]


def test_what_limits_dose_in_a_target_spares_the_higher_one_inside_it(case, sample):
    limit = ObjectiveSpec("targets", "squared_overdose", 1.0, dose_percent=105)
    cover_boost, cover_target, limit_boost, limit_target = make_terms(case, (COVER, limit), sample, CPU)
    outer = outside_higher_targets(case, case.structure("PTV_50")).fraction.ravel()[sample.voxels]
    assert 0 < (outer > 0).sum() < cover_target.index.numel()
    assert_allclose(limit_target.index, np.flatnonzero(outer > 0))
    assert limit_boost.index.numel() == cover_boost.index.numel()


def test_measures_are_normalized_to_one_and_follow_the_fraction(case, sample):
    term = make_terms(case, (COVER,), sample, CPU)[0]
    share = case.structure("PTV_60").fraction.ravel()[sample.voxels]
    assert_allclose(term.measure, share[share > 0] / share.sum(), rtol=1e-5)


def test_lines_without_a_structure_or_without_voxels_are_left_out(case, sample):
    specs = (COVER, ObjectiveSpec("Eye_L", "mean_dose", 1.0), ObjectiveSpec("Marker", "mean_dose", 1.0))
    assert [t.structure for t in make_terms(case, specs, sample, CPU)] == ["PTV_60", "PTV_50"]


def test_objectives_without_a_target_are_refused(case, sample):
    with pytest.raises(InputError, match="No objective refers to a target; add one with structure = 'targets'"):
        make_terms(case, (ObjectiveSpec("Tube", "mean_dose", 1.0),), sample, CPU)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"type": "mean"}, "Objective 'mean' of 'A': unknown type; known are squared_deviation, .*, gEUD"),
        ({"type": "mean_dose", "weight": 0.0}, r"the weight must be positive, got 0\.0"),
        ({"type": "mean_dose", "weight": float("nan")}, "the weight must be positive, got nan"),
        ({"type": "squared_overdose"}, "Objective 'squared_overdose' of 'A': give either dose_gy or dose_percent"),
        ({"type": "squared_overdose", "dose_gy": 1.0, "dose_percent": 2.0}, "give either dose_gy or dose_percent"),
        ({"type": "max_dvh", "dose_gy": 1.0}, "volume_percent is needed"),
        ({"type": "squared_overdose", "dose_gy": 1.0, "exponent": 2.0}, "exponent is without meaning for this type"),
        ({"type": "gEUD", "dose_gy": 1.0}, "exponent is needed"),
        ({"type": "gEUD", "dose_gy": 1.0, "exponent": 0.5}, r"the exponent must be at least 1, got 0\.5"),
        ({"type": "mean_dose", "dose_gy": 1.0}, "dose_gy is without meaning for this type"),
        ({"type": "max_dvh", "dose_gy": 1.0, "volume_percent": 120.0}, "volume_percent must lie in 0 to 100, got 120"),
        ({"type": "squared_overdose", "dose_gy": -1.0}, "the dose must not be negative, got -1"),
    ],
)
def test_a_line_that_makes_no_sense_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        ObjectiveSpec(**{"structure": "A", "weight": 1.0} | settings)
