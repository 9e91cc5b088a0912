"""What all experiments share: parts and files of results, statistics, tables, and how trainings are told."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.errors import InputError
from deeprt.training.loop import TrainSettings
from deeprt.training.measuring.command_line import run_command
from deeprt.training.measuring.page import paragraphs, table
from deeprt.training.measuring.parts import in_parts
from deeprt.training.measuring.results import read_result, write_result
from deeprt.training.measuring.statistics import Spread, mean_of, median_of
from deeprt.training.measuring.times import time_rows
from deeprt.training.measuring.trainings import settings_text, train_options

# Parts and files


def test_a_part_that_is_there_is_not_made_again(tmp_path):
    made = []

    def make(name):
        made.append(name)
        if made == ["a", "b", "c"]:
            raise KeyboardInterrupt
        return {"name": name, "turn": len(made)}

    with pytest.raises(KeyboardInterrupt):
        in_parts(tmp_path / "parts", ["a", "b", "c", "d"], make)
    kept = sorted(f.name for f in (tmp_path / "parts").iterdir())
    assert kept == ["a.json", "b.json"], "a stop loses the part that was under way"
    parts = in_parts(tmp_path / "parts", ["a", "b", "c", "d"], make)
    assert made == ["a", "b", "c", "c", "d"]
    assert parts == [{"name": name, "turn": turn} for name, turn in zip("abcd", (1, 2, 4, 5), strict=True)]


def test_results_are_read_as_they_were_written(tmp_path):
    write_result(tmp_path / "rows.json", [{"patient": "P", "mae": 0.5}])
    write_result(tmp_path / "dose.npz", {"dose": np.arange(3.0)})
    assert read_result(tmp_path / "rows.json") == [{"patient": "P", "mae": 0.5}]
    assert_array_equal(read_result(tmp_path / "dose.npz")["dose"], [0, 1, 2])
    assert read_result(tmp_path / "more.json") is read_result(tmp_path / "more.npz") is None
    (tmp_path / "rows.json").write_text("[{")
    with pytest.raises(InputError, match=r"rows\.json' is not valid JSON.*run that experiment again"):
        read_result(tmp_path / "rows.json")


def test_a_command_says_what_it_wrote_what_is_wrong_and_what_is_kept(tmp_path, capsys):
    def fails(error):
        raise error

    kept = "parts are kept"
    assert run_command(lambda progress: [tmp_path / "maps.json"], tmp_path, kept=kept) == 0
    assert capsys.readouterr().out.endswith("maps.json written.\n")
    assert run_command(lambda progress: [], tmp_path, kept=kept) == 0
    assert capsys.readouterr().out == f"All results are in {tmp_path} already.\n"
    assert run_command(lambda progress: fails(InputError("No cohort.")), tmp_path, kept=kept) == 2
    assert capsys.readouterr().err.endswith("experiments: No cohort.\n")
    assert run_command(lambda progress: fails(KeyboardInterrupt()), tmp_path, kept=kept) == 130
    assert capsys.readouterr().err.endswith("experiments: cancelled; parts are kept.\n")


# Numbers and pages


def test_the_spread_is_that_of_a_sample():
    assert_allclose([Spread.of([1, 2, 3, 6]).mean, Spread.of([1, 2, 3, 6]).sd], [3, np.sqrt(14 / 3)])
    assert Spread.of([0.0144]).text(2, factor=100) == "1.44"
    assert Spread.of([0.01, 0.02]).text(2, factor=100, signed=True) == "+1.50 ± 0.71"


def test_nothing_has_neither_mean_nor_median():
    assert (mean_of([1.0, 2.0, 6.0]), median_of(np.array([1.0, 2.0, 6.0]))) == (3.0, 2.0)
    assert mean_of([]) is median_of(np.zeros(0)) is None


def test_times_are_summed_up_and_missing_ones_named():
    rows, numbers = time_rows({"maps_s": [0.3, 0.1, 0.2]}, {"maps_s": "Maps", "plan_s": "Plan"})
    assert rows == [["Maps", "0.200 s", "0.100 s", "0.300 s", "3"], ["Plan: not run", *"————"]]
    assert numbers == {"maps_s": {"median": 0.2, "lowest": 0.1, "highest": 0.3, "n": 3}}


def test_text_is_wrapped_and_tables_are_not():
    lines = table(["What", "n"], [["a " * 100, "1"]])
    text = paragraphs("word " * 40, "", lines)
    assert text.endswith(f"\n\n{lines}")
    assert max(len(line) for line in text.splitlines()[:2]) <= 120


# Trainings


def test_settings_of_a_training_are_told_in_words():
    assert settings_text(TrainSettings()) == (
        "at most 400 epochs of 2500 steps, batches of 1, Adam with rate 1e-05, patience of 400 epochs, seed 0"
    )
    assert "rate 0.002, falling to 0.01 of it" in settings_text(TrainSettings(rate=2e-3, final_rate=0.01))
    assert settings_text(TrainSettings(rate_drop=0.8, clip=1e-4)).endswith(
        "seed 0, rate × 0.8 every 10 epochs, gradient norm of each tensor at most 0.0001"
    )


def test_options_name_what_is_not_usual():
    usual = TrainSettings(epochs=40, rate=1e-3)
    assert train_options(usual, usual) == ""
    assert train_options(replace(usual, epochs=26, seed=3), usual) == " --epochs 26 --seed 3"
