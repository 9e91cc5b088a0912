"""Training of the networks that predict dose, from a cohort to a network that others can use, and the command."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from Core.dose_samples import CONFIG, PATIENTS, PLANS, a_packed_patient, a_patient, a_planned_cohort
from Core.selection_samples import one_thread as one_thread

from deeprt.beams import BeamAngles, place_beams
from deeprt.cli import main
from deeprt.errors import InputError
from deeprt.fluence.dose_prediction import beyond_training, network_of, predict_dose
from deeprt.machine_file import read_machine
from deeprt.networks.checkpoint import load_training_state
from deeprt.training import dose as module
from deeprt.training.cohort import Cohort, write_cohort
from deeprt.training.dose import train_dose
from deeprt.training.dose_release import release_dose
from deeprt.training.loop import BEST, CURVE, LAST, RESULT_FILE, RUN_FILE, TrainResult, TrainSettings
from deeprt.training.measuring.trainings import curve_of

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = TrainSettings(epochs=2, steps_per_epoch=2, batch=2, rate=1e-3)


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    with pytest.MonkeyPatch.context() as patch:
        for site in ("pelvis", "head_and_neck"):
            patch.setitem(module.CONFIGS, site, CONFIG)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folder of a cohort of two virtual patients with plans."""
    return a_planned_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Folder and result of a training."""
    out = tmp_path_factory.mktemp("trained")
    return out, train_dose(data, CONFIG, out, QUICK)


@pytest.fixture(scope="module")
def released(data, trained, tmp_path_factory):
    """The file of a released network, and its card as it was returned."""
    file = tmp_path_factory.mktemp("released") / "own.safetensors"
    return file, release_dose(data, "pelvis", *trained, QUICK, file=file)


# Training


def test_patients_of_another_site_are_refused(data, tmp_path):
    other = replace(CONFIG, organs=("Brainstem", "SpinalCord"))
    with pytest.raises(InputError, match="has an organ at risk that the network is to learn"):
        train_dose(data, other, tmp_path, QUICK)


def test_a_training_is_run_once_and_for_its_settings_only(data, trained):
    out, result = trained
    validation = [row[2] for row in curve_of(out)]
    assert result.n_epochs == len(validation) == 2 and validation[result.best_epoch - 1] == min(validation)
    assert result.validation == pytest.approx(min(validation), rel=1e-5)  # the digits of the curve
    assert sorted(f.name for f in out.iterdir()) == sorted([BEST, LAST, CURVE, RESULT_FILE, RUN_FILE])
    before = (out / BEST).stat().st_mtime_ns
    assert train_dose(data, CONFIG, out, QUICK) == result
    assert (out / BEST).stat().st_mtime_ns == before
    with pytest.raises(InputError, match="holds a training of another network, cohort or settings"):
        train_dose(data, CONFIG, out, replace(QUICK, epochs=3))


@pytest.mark.parametrize("content", ["", "{}", "[]"])
def test_a_damaged_result_is_refused(data, trained, tmp_path, content):
    for name in (RUN_FILE, BEST):
        (tmp_path / name).write_bytes((trained[0] / name).read_bytes())
    (tmp_path / RESULT_FILE).write_text(content)
    with pytest.raises(InputError, match=r"result\.json"):
        train_dose(data, CONFIG, tmp_path, QUICK)


# Release


def test_the_best_epochs_weights_are_released_in_half_precision(trained, released):
    card, network = network_of(released[0])
    assert (card, network.config) == (released[1], CONFIG)
    state = load_training_state(trained[0] / BEST)["network"]
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=2**-11, atol=2**-25)


def test_the_card_says_what_the_network_has_seen_and_what_it_is_worth(trained, released):
    card, result = released[1], trained[1]
    assert card.metrics == {
        "training_loss": result.training,
        "validation_loss": result.validation,
        "even_beams_validation_loss": result.even,
    }
    assert "2 patients, 2 of them virtual" in card.data and "44 Gy in 20 fractions" in card.data
    assert "generic_15mv" in card.data and "OpenKBP" not in card.data
    assert card.split.startswith("By patient: 1 for training, 1 for validation, 0 for test.")
    assert card.budget.startswith("2 epochs of 2 batches of 2, ")
    assert (card.site, card.candidates, card.prescription_levels) == ("virtual pelvis", "coplanar", (1.0,))
    assert (card.n_beams_min, card.n_beams_max, card.energy_mv) == (3, 3, 15.0)
    assert card.organs == ("Bag_Bowel", "Bladder", "Femur_Head_L", "Femur_Head_R", "PenileBulb", "Rectum")
    limits = " ".join(card.limits)
    assert "not for clinical use" in limits and "virtual patients only" in limits and "one data set" not in limits


def test_a_released_network_predicts_for_a_patient_of_its_training_without_further_notes(released):
    card, network = network_of(released[0])
    case, machine = a_patient(0), read_machine(PLANS.machine)
    beams = place_beams(case, [BeamAngles(g) for g in (10.0, 130.0, 250.0)], machine)
    unknown = "The dose network does not know these organs at risk: "  # the small network knows but three
    assert [n for n in beyond_training(card, network, case, beams, machine) if not n.startswith(unknown)] == []
    assert predict_dose(case, beams, machine, network).max() > 10


def test_the_card_of_patients_of_openkbp_names_their_license(trained, tmp_path):
    first = a_packed_patient(tmp_path, "pt_1", ("PTV70", "PTV56", "SpinalCord"))
    write_cohort(Cohort((first, a_packed_patient(tmp_path, "pt_2", ("PTV70", "PTV56", "SpinalCord")))), tmp_path)
    result = TrainResult(1, 2, 3.0, 0.1, 0.2, 0.3)
    card = release_dose(tmp_path, "head_and_neck", trained[0], result, QUICK, file=tmp_path / "own.safetensors")
    assert "2 head-and-neck patients of OpenKBP" in card.data and "MIT" in card.data and "reference" not in card.data
    assert (card.site, card.energy_mv, card.prescription_levels) == ("head and neck", 6.0, (0.8, 1.0))
    assert (card.n_beams_min, card.n_beams_max, card.organs) == (9, 9, ("SpinalCord",))
    limits = " ".join(card.limits)
    assert "one data set" in limits and "virtual" not in limits and "optimizer" not in limits


# The command


def train_command(data, out, *options, site="pelvis"):
    quick = ["--epochs", "2", "--steps", "2", "--rate", "1e-3", "--device", "cpu"]
    return main(["train", "dose", "--data", str(data), "--out", str(out), "--site", site, *quick, *map(str, options)])


def test_the_command_trains_prints_the_losses_and_releases(data, tmp_path, capsys):
    assert train_command(data, tmp_path / "out", "--release", tmp_path / "own.safetensors") == 0
    even, losses, last = capsys.readouterr().out.splitlines()
    result = json.loads((tmp_path / "out" / RESULT_FILE).read_text())
    assert even == f"Dose of even beams: validation loss {result['even']:.5f}"
    assert losses.endswith(f"training loss {result['training']:.5f}, validation loss {result['validation']:.5f}")
    assert str(tmp_path / "out") in last and "not for clinical use" in last
    assert network_of(tmp_path / "own.safetensors")[0].metrics["validation_loss"] == result["validation"]


def test_options_are_settings_and_json_progress_is_json(data, tmp_path, capsys):
    assert train_command(data, tmp_path, "--batch", 1, "--seed", 7, "--validate", 1, "--json-progress") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["fraction"] == 1.0 and {line["step"] for line in lines} <= {"doses", "training"}
    given = {"batch": 1, "seed": 7, "n_validation": 1, "epochs": 2, "steps_per_epoch": 2, "rate": 1e-3}
    assert load_training_state(tmp_path / LAST)["settings"] == asdict(module.DEFAULT_SETTINGS) | given


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--release", "a.pt"], "into a file that ends in .safetensors"),
        (["--epochs", "0"], "Training: epochs, steps, batch and patience must be at least 1"),
        (["--jobs", "0"], "--jobs must be at least 1, got 0."),
        (["--data", "nowhere"], "'nowhere' is no cohort (cohort.json: No such file or directory)"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_trained_is_refused(data, tmp_path, capsys, options, message):
    assert train_command(data, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("deeprt: ") and error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_cohort_without_plans_is_refused(tmp_path, capsys):
    write_cohort(Cohort(PATIENTS), tmp_path)
    assert train_command(tmp_path, tmp_path / "out") == 2
    assert "Patient P0 has no reference plan; run deeprt cohort plan" in capsys.readouterr().err


def test_a_site_must_be_given(data, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["train", "dose", "--data", str(data), "--out", str(tmp_path / "out")])
    assert "--site" in capsys.readouterr().err
