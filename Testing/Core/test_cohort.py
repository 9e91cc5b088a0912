import json
from dataclasses import asdict, replace
from itertools import chain

import numpy as np
import pytest
from Core.selection_samples import CancelAt
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.cli import main
from deeprt.cohort.labels import LabelSettings, label_patient, read_labels
from deeprt.cohort.scenarios import ScenarioSettings
from deeprt.cohort.virtual_patient import VirtualPatientSettings, virtual_prostate
from deeprt.errors import InputError
from deeprt.files import read_arrays, write_arrays
from deeprt.machine_file import read_machine
from deeprt.orientation.teacher import CandidateSettings
from deeprt.training import cohort as module
from deeprt.training.cohort import (
    Cohort,
    CohortPatient,
    find_labels,
    label_cohort,
    labels_file,
    read_all_labels,
    read_cohort,
    real_cohort,
    virtual_cohort,
    write_cohort,
)

COARSE = LabelSettings(
    CandidateSettings("coplanar:90", voxel_mm=10.0, beamlet_mm=10.0, memory_mb=500.0), ScenarioSettings(1, 1, 2)
)


def ids(patients):
    return [p.id for p in patients]


# The split


def test_seventy_patients_split_as_in_the_paper():
    cohort = virtual_cohort(70, 13)
    development, test = ids(cohort.of("development")), ids(cohort.of("test"))
    assert (len(development), len(test)) == (57, 13)
    assert not set(development) & set(test)
    assert len({p.seed for p in cohort.patients}) == 70
    folds = [(ids(training), ids(validation)) for training, validation in cohort.folds(6)]
    assert [len(validation) for _, validation in folds] == [10, 10, 10, 10, 10, 7]
    assert list(chain.from_iterable(validation for _, validation in folds)) == development, "each validates once"
    for training, validation in folds:
        assert not set(training) & set(validation)
        assert set(training) | set(validation) == set(development)


@pytest.mark.parametrize(("n_development", "n_validation"), [(57, 6), (4, 1), (2, 1)])
def test_without_folds_the_last_tenth_of_the_development_patients_validates(n_development, n_validation):
    cohort = virtual_cohort(n_development + 3, 3)
    training, validation = cohort.training_and_validation()
    assert training + validation == cohort.of("development")
    assert len(validation) == n_validation


def test_a_patient_is_found_by_its_id():
    cohort = virtual_cohort(9, 3)
    assert cohort.patient("virtual-0004") == cohort.patients[3]
    with pytest.raises(InputError, match="The cohort has no patient 'virtual-0010'"):
        cohort.patient("virtual-0010")


@pytest.mark.parametrize("n_folds", [1, 58])
def test_folds_need_patients(n_folds):
    with pytest.raises(InputError, match=f"57 development patients cannot be split into {n_folds} folds"):
        list(virtual_cohort(70, 13).folds(n_folds))


def test_the_same_seed_lists_the_same_patients():
    assert virtual_cohort(20, 4, seed=3) == virtual_cohort(20, 4, seed=3)
    other = virtual_cohort(20, 4, seed=4)
    assert {p.seed for p in other.patients} != {p.seed for p in virtual_cohort(20, 4, seed=3).patients}
    assert ids(other.of("test")) != ids(virtual_cohort(20, 4, seed=3).of("test"))


def test_a_share_of_the_virtual_patients_has_nodes():
    shares = [np.mean([p.nodes for p in virtual_cohort(1000, 1, nodes_share=s).patients]) for s in (0.0, 0.2, 1.0)]
    assert shares[0] == 0
    assert 0.15 < shares[1] < 0.25  # four standard deviations
    assert shares[2] == 1


@pytest.mark.parametrize("n_test", [0, 4, 5, -1])
def test_a_split_without_test_or_development_is_refused(n_test):
    with pytest.raises(InputError, match=f"Of 5 patients, {n_test} for test leave no two for development"):
        virtual_cohort(5, n_test)


def test_a_virtual_patient_is_made_from_its_seed():
    with_nodes = CohortPatient("a", "virtual:prostate", 7, "test", nodes=True)
    without = replace(with_nodes, id="b", nodes=False)
    first, again, other = with_nodes.load(), with_nodes.load(), without.load()
    assert (first.case_id, other.case_id) == ("a", "b")
    assert_array_equal(first.ct_hu, again.ct_hu)
    assert_array_equal(first.ct_hu, other.ct_hu)
    assert [t.prescription_gy for t in first.targets] == [60.0, 47.0]
    assert [t.prescription_gy for t in other.targets] == [60.0]


# Real patients


@pytest.fixture
def some_folders(tmp_path):
    """Eight patients, two of them packed, and what is none: an empty folder and another file."""
    for n in range(6):
        (tmp_path / "all" / f"P{n}").mkdir(parents=True)
        (tmp_path / "all" / f"P{n}" / "CT.dcm").write_bytes(b"")
    for n in (6, 7):
        (tmp_path / "all" / f"P{n}.npz").write_bytes(b"")
    (tmp_path / "all" / "empty").mkdir()
    (tmp_path / "all" / "notes.txt").write_text("")
    return tmp_path / "all"


def test_every_folder_with_files_and_every_packed_patient_is_one(some_folders):
    cohort = real_cohort(some_folders, 3, seed=2)
    assert sorted(ids(cohort.patients)) == [f"P{n}" for n in range(8)]
    assert ids(cohort.patients) != sorted(ids(cohort.patients)), "in random order"
    sources = {p.id: p.source for p in cohort.patients}
    assert sources["P2"] == str((some_folders / "P2").resolve())
    assert sources["P7"] == str((some_folders / "P7.npz").resolve())
    assert [p.id for p in cohort.patients if p.is_openkbp] == [i for i in ids(cohort.patients) if i in ("P6", "P7")]
    assert not any(p.is_virtual for p in cohort.patients) and all(p.is_virtual for p in virtual_cohort(5, 1).patients)
    assert len(cohort.of("test")) == 3
    assert cohort == real_cohort(some_folders, 3, seed=2)


def test_a_folder_with_too_few_patients_is_refused(some_folders):
    with pytest.raises(InputError, match=r"has 8 patients .*; 7 for test leave too few"):
        real_cohort(some_folders, 7)
    with pytest.raises(InputError, match="There is no folder"):
        real_cohort(some_folders / "nowhere", 1)


def test_no_prescription_is_assumed_for_a_real_patient(monkeypatch):
    case = virtual_prostate(np.random.default_rng(1), VirtualPatientSettings(spacing_mm=5.0))
    bare = replace(case, structures=tuple(replace(s, prescription_gy=None) for s in case.structures))
    monkeypatch.setattr(module, "load_case", lambda *_: bare)
    with pytest.raises(InputError, match=r"^Patient P7: No target has a prescription; give its dose in its name"):
        CohortPatient("P7", "folder", 1, "test").load()


def test_a_real_patient_that_cannot_be_read_is_named(some_folders):
    with pytest.raises(InputError, match=r"^Patient P7: '.*P7\.npz' cannot be read"):
        CohortPatient("P7", str(some_folders / "P7.npz"), 1, "test").load()


# The file


def test_a_written_cohort_is_read_as_it_was(tmp_path):
    cohort = replace(virtual_cohort(5, 1), machine="generic_15mv", labels=COARSE)
    write_cohort(cohort, tmp_path / "new" / "cohort")
    assert read_cohort(tmp_path / "new" / "cohort") == cohort


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c | {"fold": 3}, r"cohort\.json: unknown key 'fold' \(known are patients, machine, labels\)"),
        (lambda c: c["patients"][2].update(sex="m"), r"patients\[2\]: unknown key 'sex'"),
        (lambda c: c["labels"]["scenarios"].update(n_run=3), r"labels\.scenarios: unknown key 'n_run'"),
        (lambda c: c["patients"][0].update(split="train"), r"split: expected one of development, test, got 'train'"),
        (lambda c: c["patients"][0].pop("seed"), "seed"),
        (lambda c: c["patients"][0].update(seed="1"), "expected a whole number, got '1'"),
        (lambda c: c["labels"]["scenarios"].update(n_beams=1), "at least two beams"),
    ],
)
def test_a_cohort_file_with_a_wrong_entry_is_refused(tmp_path, change, message):
    content = json.loads(json.dumps(asdict(virtual_cohort(5, 1))))
    changed = change(content)
    (tmp_path / "cohort.json").write_text(json.dumps(changed if isinstance(changed, dict) and changed else content))
    with pytest.raises(InputError, match=message):
        read_cohort(tmp_path)


def test_a_folder_without_a_cohort_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is no cohort \(cohort\.json: No such file or directory\); see deeprt"):
        read_cohort(tmp_path)
    (tmp_path / "cohort.json").write_text("{")
    with pytest.raises(InputError, match="is not valid JSON"):
        read_cohort(tmp_path)


# Labels


class Record(CancelAt):
    """Keeps what is reported, and cancels at a call."""

    def __init__(self, call=0):
        super().__init__(call)
        self.steps = []

    def step(self, name, fraction, message=""):
        self.steps.append((name, round(fraction, 3), message))
        super().step(name, fraction, message)


def modified(folder):
    return {file.stem: file.stat().st_mtime_ns for file in sorted((folder / "labels").glob("*.npz"))}


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """Labeling that is stopped after two of three patients, meets one of them damaged, and goes on to the end."""
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(replace(virtual_cohort(3, 1), labels=COARSE), folder)
    stopped, resumed = Record(3), Record()
    with pytest.raises(InterruptedError):
        label_cohort(folder, progress=stopped)
    at_stop = modified(folder)
    damaged = folder / "labels" / "virtual-0001.npz"
    damaged.write_bytes(damaged.read_bytes()[:-40])
    n_labeled = label_cohort(folder, progress=resumed)
    return {"folder": folder, "stopped": stopped, "at_stop": at_stop, "resumed": resumed, "n_labeled": n_labeled}


def test_a_stopped_run_keeps_the_patients_that_were_finished(history):
    assert list(history["at_stop"]) == ["virtual-0001", "virtual-0002"]
    assert history["stopped"].steps == [
        ("labels", 0.0, "0 of 3"),
        ("labels", 0.333, "1 of 3"),
        ("labels", 0.667, "2 of 3"),
    ]


def test_a_later_run_labels_what_is_missing_or_damaged_and_nothing_else(history):
    assert history["n_labeled"] == 2
    assert history["resumed"].steps[0] == ("labels", 0.333, "1 of 3")
    assert history["resumed"].steps[-1] == ("labels", 1.0, "3 of 3")
    at_end = modified(history["folder"])
    assert at_end["virtual-0002"] == history["at_stop"]["virtual-0002"]
    assert at_end["virtual-0001"] > history["at_stop"]["virtual-0001"]
    assert sorted(f.name for f in (history["folder"] / "labels").iterdir()) == [f"{name}.npz" for name in at_end]


def test_when_all_is_labeled_nothing_is_done(history):
    before = modified(history["folder"])
    assert label_cohort(history["folder"]) == 0
    assert modified(history["folder"]) == before


def test_written_labels_are_those_of_the_patient(history):
    cohort = read_cohort(history["folder"])
    patient = cohort.patients[0]
    expected = label_patient(patient.load(), read_machine(cohort.machine), COARSE, seed=patient.seed)
    found = read_labels(labels_file(history["folder"], patient))
    assert_array_equal(found.weights, expected.weights)
    # Another process may sum in another order, since that depends on where arrays lie in memory: a digit of float16.
    assert_allclose(found.fitness.astype(float), expected.fitness.astype(float), atol=1e-3)
    assert [p.digest for p in read_all_labels(history["folder"], cohort, cohort.patients)] == [COARSE.digest()] * 3


def test_labels_of_another_patient_or_machine_count_as_missing(history):
    folder, cohort = history["folder"], read_cohort(history["folder"])
    first = cohort.patients[0]
    assert find_labels(folder, cohort, replace(first, split="test" if first.split == "development" else "development"))
    for change in ({"seed": 5}, {"nodes": not first.nodes}, {"source": "elsewhere"}):
        assert find_labels(folder, cohort, replace(first, **change)) is None
    assert find_labels(folder, replace(cohort, machine="generic_15mv"), first) is None


def test_labels_that_do_not_say_whose_they_are_stay_valid(history, tmp_path):
    cohort = read_cohort(history["folder"])
    first = cohort.patients[0]
    content = read_arrays(labels_file(history["folder"], first))
    assert json.loads(str(content.pop("about")))["seed"] == first.seed
    write_arrays(labels_file(tmp_path, first), content)
    assert find_labels(tmp_path, cohort, first).about == ""


def test_labels_of_other_settings_or_damaged_ones_count_as_missing(history, caplog):
    cohort = read_cohort(history["folder"])
    first = cohort.patients[0]
    assert find_labels(history["folder"], cohort, first) is not None
    finer = replace(cohort, labels=replace(COARSE, scenarios=ScenarioSettings(1, 2, 2)))
    assert find_labels(history["folder"], finer, first) is None
    stranger = replace(first, id="stranger")
    assert find_labels(history["folder"], cohort, stranger) is None
    assert not caplog.messages
    labels_file(history["folder"], stranger).write_bytes(b"garbage")
    assert find_labels(history["folder"], cohort, stranger) is None
    assert "stranger.npz' cannot be read" in caplog.text
    labels_file(history["folder"], stranger).unlink()
    with pytest.raises(InputError, match="Patient stranger has no labels; run deeprt cohort label"):
        read_all_labels(history["folder"], cohort, [first, stranger])


# The command


@pytest.fixture
def refused(capsys):
    """Run ``deeprt cohort`` and check that it ends with status 2 and one sentence."""

    def check(message, *arguments):
        assert main(["cohort", *map(str, arguments)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("deeprt: ")
        assert error.count("\n") == 1
        assert message in error

    return check


def test_make_lists_the_patients_asked_for(tmp_path, capsys):
    options = ["--patients", "9", "--test", "2", "--nodes", "1", "--seed", "5", "--machine", "generic_15mv"]
    options += ["--runs", "3", "--starts", "8", "--out", str(tmp_path / "new")]
    assert main(["cohort", "make", "virtual:prostate", *options]) == 0
    assert "7 patients for development and 2 for test" in capsys.readouterr().out
    cohort = read_cohort(tmp_path / "new")
    assert cohort.patients == virtual_cohort(9, 2, nodes_share=1.0, seed=5).patients
    assert cohort.machine == "generic_15mv"
    assert cohort.labels == LabelSettings(scenarios=ScenarioSettings(3, 8))


def test_make_has_the_counts_of_the_paper_by_itself(tmp_path):
    assert main(["cohort", "make", "virtual:prostate", "--out", str(tmp_path)]) == 0
    assert read_cohort(tmp_path) == virtual_cohort(70, 13)
    assert isinstance(read_cohort(tmp_path), Cohort)


def test_make_takes_a_folder_and_reports_json(some_folders, tmp_path, capsys):
    arguments = ["cohort", "make", str(some_folders), "--out", str(tmp_path), "--test", "2", "--json-progress"]
    assert main(arguments) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["fraction"], record["message"]) == (1.0, str(tmp_path / "cohort.json"))
    assert read_cohort(tmp_path).patients == real_cohort(some_folders, 2).patients


def test_make_does_not_write_over_a_cohort_unless_told_so(tmp_path, refused):
    arguments = ["make", "virtual:prostate", "--out", tmp_path, "--patients", "5", "--test", "1"]
    assert main(["cohort", *map(str, arguments)]) == 0
    before = (tmp_path / "cohort.json").read_bytes()
    refused("cohort.json' exists already; choose another folder or add --overwrite.", *arguments)
    assert (tmp_path / "cohort.json").read_bytes() == before
    assert main(["cohort", *map(str, arguments), "--seed", "1", "--overwrite"]) == 0
    assert read_cohort(tmp_path).patients == virtual_cohort(5, 1, seed=1).patients


def test_make_leaves_a_labeled_cohort_alone(history, refused):
    before = modified(history["folder"])
    refused("holds labels of an earlier cohort; choose another folder",
            "make", "virtual:prostate", "--out", history["folder"], "--overwrite")  # fmt: skip
    assert modified(history["folder"]) == before
    assert len(read_cohort(history["folder"]).patients) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["virtual:lung"], "There is no virtual patient 'virtual:lung' with organs; use virtual:prostate."),
        (["nowhere"], "There is no folder 'nowhere'."),
        ([".", "--patients", "5"], "--patients and --nodes are of virtual patients; of a folder, all are taken."),
        (["virtual:prostate", "--patients", "0"], "--patients must be at least 1, got 0."),
        (["virtual:prostate", "--patients", "13"], "Of 13 patients, 13 for test leave no two for development"),
        (["virtual:prostate", "--nodes", "1.5"], "--nodes must lie in 0 to 1, got 1.5."),
        (["virtual:prostate", "--seed", "-1"], "--seed must not be negative, got -1."),
        (["virtual:prostate", "--machine", "linac9"], "No machine 'linac9'"),
        (["virtual:prostate", "--runs", "0", "--starts", "0"], "--runs and --starts: Scenarios: at least one run"),
    ],
    ids=" ".join,
)
def test_a_cohort_that_cannot_be_made_is_refused(tmp_path, refused, options, message):
    refused(message, "make", *options, "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_label_ends_at_once_when_all_is_labeled(history, capsys):
    assert main(["cohort", "label", str(history["folder"]), "--json-progress"]) == 0
    assert json.loads(capsys.readouterr().out)["message"] == "3 of 3"
    assert main(["cohort", "label", str(history["folder"])]) == 0
    assert "Labels of 0 patients made" in capsys.readouterr().out


def test_a_cancelled_run_of_label_says_what_is_kept(history, capsys, monkeypatch):
    def cancel(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("deeprt.training.cohort.label_cohort", cancel)
    assert main(["cohort", "label", str(history["folder"])]) == 130
    assert capsys.readouterr().err == "deeprt: cancelled; labels of the patients that were finished are kept.\n"


def test_labels_that_cannot_be_made_are_refused(tmp_path, refused):
    refused("is no cohort (cohort.json: No such file or directory)", "label", tmp_path)
    refused("--jobs must be at least 1, got 0.", "label", tmp_path, "--jobs", "0")
    write_cohort(virtual_cohort(3, 1), tmp_path)
    (tmp_path / "labels").write_text("")
    refused("Cannot write labels to", "label", tmp_path)
