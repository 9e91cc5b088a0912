from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from Core.plan_samples import a_case
from Core.selection_samples import MACHINE, PRECISE, CancelAt, some_settings
from Core.selection_samples import one_thread as one_thread
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.cohort.labels import (
    LabelSettings,
    label_patient,
    read_labels,
    weight_names,
    weights_from,
    weights_row,
    write_labels,
)
from deeprt.cohort.scenarios import ScenarioSettings
from deeprt.errors import InputError
from deeprt.orientation.column_generation import generate_columns
from deeprt.orientation.teacher import OrganWeights, selection_problem

SEED = 5
SETTINGS = LabelSettings(some_settings(), ScenarioSettings(n_runs=2, n_starts=4, n_beams=3))
ARRAYS = ("weights", "scenario", "chosen", "fitness", "objective", "run_chosen", "run_objective")


@cache
def some_labels(seed=SEED):
    return label_patient(a_case(), MACHINE, SETTINGS, seed=seed)


@cache
def problem_of(scenario):
    """The problem of a scenario as beam selection would set it up for one patient."""
    settings = some_settings(weights=some_labels().organ_weights(scenario))
    return selection_problem(a_case(), MACHINE, settings, seed=SEED)[0]


def test_runs_give_a_state_for_each_number_of_beams_and_starts_give_one():
    labels = some_labels()
    assert labels.scenario.tolist() == [0, 0, 0, 1, 1, 1, 2, 3, 4, 5]
    assert labels.chosen.sum(axis=1).tolist() == [0, 1, 2, 0, 1, 2, 1, 2, 1, 2]
    assert labels.fitness.shape == labels.chosen.shape == (10, 12)
    assert (labels.fitness.dtype, labels.weights.dtype) == (np.float16, np.float32)


def test_the_fitness_of_a_state_is_that_of_column_generation():
    labels = some_labels()
    for state, scenario in enumerate(labels.scenario):
        given = np.flatnonzero(labels.chosen[state]).tolist()
        expected = generate_columns(problem_of(int(scenario)), len(given) + 1, given=given)[0]
        # A solution that began elsewhere is known to the solver's tolerance, a fitness to half precision.
        assert_allclose(labels.fitness[state], expected.fitness[0], atol=5e-3, err_msg=str(state))
        assert_allclose(labels.objective[state], expected.objectives[0], rtol=1e-4)
        assert expected.fitness[0].min() == 0
        assert expected.fitness[0].max() == 1


def test_a_run_is_column_generation_from_no_beam():
    labels = some_labels()
    for run, (beams, objective) in enumerate(zip(labels.run_chosen, labels.run_objective, strict=True)):
        expected = generate_columns(problem_of(run), 3)[0]
        assert tuple(beams) == expected.chosen
        assert_allclose(objective, expected.objectives[-1], rtol=1e-6)
        states = labels.chosen[labels.scenario == run]
        for n, chosen in enumerate(states):
            assert set(np.flatnonzero(chosen)) == set(expected.chosen[:n])


def test_a_run_that_ends_early_leaves_the_missing_beams_out():
    settings = LabelSettings(some_settings("coplanar:180"), ScenarioSettings(1, 2, 3))
    labels = label_patient(a_case(), MACHINE, settings, seed=0)
    assert sorted(labels.run_chosen[0]) == [-1, 0, 1]
    assert labels.run_chosen[0, 2] == -1
    assert labels.scenario.tolist() == [0, 0, 1, 2]


def test_weights_are_kept_as_they_were_solved():
    labels = some_labels()
    assert labels.structures == weight_names(a_case()) == ("ring", "skin", "external", "Tube")
    weights = labels.organ_weights(3)
    assert weights.structures == {"Tube": float(labels.weights[3, 3])}
    assert (weights.ring, weights.skin, weights.external) == tuple(float(w) for w in labels.weights[3, :3])
    assert_array_equal(weights_row(labels.structures, weights), labels.weights[3])
    assert weights_from(("ring", "skin", "external"), np.array([0.5, 0.25, 0.125], np.float32)) == OrganWeights(
        ring=0.5, skin=0.25, external=0.125
    )


def test_the_same_seed_gives_the_same_labels():
    again = label_patient(a_case(), MACHINE, SETTINGS, seed=SEED)
    for name in ARRAYS:
        assert_array_equal(getattr(again, name), getattr(some_labels(), name), err_msg=name)
    other = label_patient(a_case(), MACHINE, SETTINGS, seed=SEED + 1)
    assert not np.array_equal(other.weights, again.weights)


def test_progress_rises_to_the_end_and_can_stop_the_work():
    class Record:
        fractions = ()

        def step(self, name, fraction, message=""):
            self.fractions += (fraction,)

    record, settings = Record(), replace(SETTINGS, scenarios=ScenarioSettings(0, 3, 2))
    label_patient(a_case(), MACHINE, settings, seed=0, progress=record)
    assert_allclose(record.fractions, [0, 1 / 3, 2 / 3, 1])
    with pytest.raises(InterruptedError):
        label_patient(a_case(), MACHINE, settings, seed=0, progress=CancelAt(2))


# Settings


def test_digests_of_labels_that_were_made_before_stay():
    assert LabelSettings().digest() == "5f240d9b5ce8884f"


def test_the_digest_tells_apart_what_labels_depend_on():
    def changed(**selection):
        return replace(SETTINGS, selection=replace(SETTINGS.selection, **selection))

    others = (
        changed(voxel_mm=6.5),
        changed(candidates="coplanar:20"),
        changed(solver=replace(PRECISE, tolerance=1e-5)),
        replace(SETTINGS, scenarios=ScenarioSettings(n_runs=2, n_starts=5, n_beams=3)),
    )
    assert len({settings.digest() for settings in (SETTINGS, *others)}) == 5
    restricted = changed(exclude_deg=((80.0, 100.0),)), changed(min_separation_deg=20.0), SETTINGS
    assert len({settings.digest() for settings in restricted}) == 3
    assert some_labels().digest == SETTINGS.digest() == changed(memory_mb=123.0, cache=False).digest()


# Files


@pytest.fixture
def file(tmp_path):
    write_labels(some_labels(), tmp_path / "labels.npz")
    return tmp_path / "labels.npz"


def test_written_labels_are_read_as_they_were(file):
    labels, read = some_labels(), read_labels(file)
    for name in ARRAYS:
        assert_array_equal(getattr(read, name), getattr(labels, name), err_msg=name)
        assert getattr(read, name).dtype == getattr(labels, name).dtype
    assert (read.structures, read.digest) == (labels.structures, labels.digest)
    assert [f.name for f in file.parent.iterdir()] == ["labels.npz"]


def test_labels_take_the_place_of_older_ones_only_when_they_are_whole(file, monkeypatch):
    before = file.read_bytes()

    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space"):
        write_labels(some_labels(), file)
    assert file.read_bytes() == before
    assert [f.name for f in file.parent.iterdir()] == ["labels.npz"]


def test_a_missing_file_is_told_from_a_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_labels(tmp_path / "none.npz")


def test_truncated_files_are_refused(file):
    whole = file.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 25).astype(int):
        file.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"labels\.npz' cannot be read \(.*\)\.$"):
            read_labels(file)


def test_files_with_a_changed_byte_are_refused_or_read_alike(file):
    whole = file.read_bytes()
    n_refused = 0
    for place in np.linspace(0, len(whole) - 1, 40).astype(int):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read = read_labels(file)
        except InputError:
            n_refused += 1
            continue
        assert_array_equal(read.fitness, some_labels().fitness)  # times and attributes in the archive mean nothing
    assert n_refused > 20


@pytest.mark.parametrize("content", [b"", b"no labels", b"PK\x03\x04" + bytes(100)])
def test_garbage_is_refused(tmp_path, content):
    (tmp_path / "labels.npz").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        read_labels(tmp_path / "labels.npz")


def stored(labels):
    """The arrays of a file of labels, to be changed."""
    arrays = {name: getattr(labels, name) for name in ARRAYS}
    return arrays | {"structures": np.array(labels.structures), "digest": np.array(labels.digest)}


def without(arrays, name):
    return {key: value for key, value in arrays.items() if key != name}


def test_files_that_are_whole_but_wrong_are_refused(tmp_path):
    good = stored(some_labels())
    not_finite = good["fitness"].copy()
    not_finite[3, 4] = np.nan
    wrong = {
        "no fitness": without(good, "fitness"),
        "no structures": without(good, "structures"),
        "another array": good | {"mood": np.zeros(3)},
        "states": good | {"fitness": good["fitness"][:-1], "chosen": good["chosen"][:-1]},
        "candidates": good | {"chosen": good["chosen"][:, :-1]},
        "a scenario without weights": good | {"scenario": good["scenario"] + 10},
        "a structure without weights": good | {"structures": np.array(["ring", "skin", "external"])},
        "runs": good | {"run_chosen": good["run_chosen"][:-1]},
        "not finite": good | {"fitness": not_finite},
        "objects": good | {"objective": np.array([1, "x"], object)},
    }
    for name, arrays in wrong.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises(InputError, match="cannot be read"):
            read_labels(tmp_path / f"{name}.npz")
