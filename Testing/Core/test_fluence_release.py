"""The card of a released fluence network: what it has seen follows from the cohort."""

from dataclasses import replace

from Core.fluence_experiment_samples import a_planned_cohort

from deeprt.preparation import VIRTUAL_PROSTATE
from deeprt.training.cohort import read_cohort, write_cohort
from deeprt.training.fluence_release import release_fluence
from deeprt.training.loop import TrainResult, TrainSettings


def card_of(folder):
    """Release the untrained network of a cohort as if it were trained."""
    result, file = TrainResult(1, 2, 3.0, 0.1, 0.2), folder / "own.safetensors"
    return release_fluence(folder, "default", folder / "runs" / "default", result, TrainSettings(), file=file)


def test_the_card_calls_only_virtual_patients_virtual(tmp_path):
    cohort = read_cohort(a_planned_cohort(tmp_path))
    card = card_of(tmp_path)
    assert card.data.startswith("3 patients, 0 of them virtual, a reference plan each: 44 Gy in 20 fractions")
    assert card.split == "By patient: 1 for training, 1 for validation, 1 for test."
    assert (card.site, card.organs) == ("the cohort's", ("SpinalCord",))
    assert "virtual" not in " ".join(card.limits)
    assert card.metrics["test_loss"] > 0
    drawn = tuple(replace(p, source=VIRTUAL_PROSTATE, nodes=True) for p in cohort.patients)
    write_cohort(replace(cohort, patients=drawn), tmp_path)  # the inverted plan of the one for test is kept
    card = card_of(tmp_path)
    assert card.data.startswith("3 patients, 3 of them virtual") and card.site == "virtual prostate"
    assert "virtual patients only" in " ".join(card.limits) and "Rectum" in card.organs
