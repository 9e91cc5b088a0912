"""Files of a work folder: what is written comes back as it was; what is missing or damaged is named with a remedy."""

import json
from dataclasses import replace

import numpy as np
import pytest
from Core.plan_samples import a_case, a_plan
from Core.same_values import assert_same

from deeprt.beams import BeamAngles, BeamSelection
from deeprt.config import BeamSettings, FluenceSettings, PlanningConfig
from deeprt.errors import InputError
from deeprt.evaluation.compare import ComparisonSettings, GammaCriterion, compare
from deeprt.export import write_selection
from deeprt.fluence.solution import FluenceSolution
from deeprt.geometry import Grid
from deeprt.machine_file import read_machine
from deeprt.work_folder import WorkFolder, plan_from_json, plan_to_json

CASE = a_case()


@pytest.fixture
def folder(tmp_path):
    """A folder with the sample case."""
    folder = WorkFolder(tmp_path / "work")
    folder.write_case(CASE)
    return folder


def a_dose(seed=0):
    return np.random.default_rng(seed).uniform(0, 60, CASE.grid.shape).astype(np.float32)


def a_solution():
    maps = [np.random.default_rng(n).random((3 + n, 5)) for n in range(2)]
    return FluenceSolution(tuple(maps), a_dose(), 1 / 3, (2.0, 1 / 3), False, "a Ü network", ("A note.", "Another."))


def a_moving_plan():
    """A plan whose leaves move."""
    plan = a_plan(CASE)
    moved = []
    for beam in range(2):
        left, right = (np.stack([tips, tips + shift]) for tips, shift in (
            (plan.segments_of(beam)[0].left_mm, 1 / 3), (plan.segments_of(beam)[0].right_mm, 2.0)))  # fmt: skip
        moved.append(replace(plan.segments_of(beam)[0], left_mm=left, right_mm=right))
    return replace(plan, segments=tuple(moved))


# What is written comes back


def test_the_case_and_its_images_come_back(folder):
    assert_same(folder.read_case(), CASE)
    assert folder.read_images() is None
    images = CASE.resampled(2.0)
    folder.write_images(images)
    assert_same(folder.read_images(), images)


def test_the_configuration_comes_back(folder):
    config = PlanningConfig(
        machine="generic_15mv",
        prescription_gy={"PTV, links": 50.0},
        beams=BeamSettings(gantry_deg=(0.1, 200.0), couch_deg=(0.0, 350.5), collimator_deg=7.0),
        fluence=FluenceSettings(method="network", wished="given", n_refinements=3),
    )
    folder.write_config(config)
    assert folder.read_config() == config


def test_doses_come_back(folder):
    assert folder.read_wished() is None
    folder.write_wished(a_dose(1), CASE.grid)
    folder.write_dose(a_dose(2))
    assert_same(folder.read_wished(), a_dose(1))
    assert_same(folder.read_dose(), a_dose(2))


def test_a_wished_dose_can_be_taken_away(folder):
    folder.write_wished(a_dose(1), CASE.grid)
    for _ in range(2):
        folder.remove_wished()
        assert folder.read_wished() is None


def test_fluence_comes_back(folder):
    folder.write_fluence(a_solution())
    assert_same(folder.read_fluence(), a_solution())


@pytest.mark.parametrize("make", [lambda: a_plan(CASE), a_moving_plan], ids=["standing", "moving"])
def test_a_plan_comes_back_with_its_machine(folder, make):
    folder.write_segments(make())
    assert_same(folder.read_segments(), make())
    assert_same(plan_from_json(plan_to_json(make())), make())


def test_a_plan_of_a_shipped_machine_comes_back():
    machine = read_machine("generic_15mv")
    plan = replace(a_plan(CASE), machine=machine)
    assert_same(plan_from_json(plan_to_json(plan)).machine, machine)


def test_beams_that_were_chosen_come_back(folder):
    candidates = tuple(BeamAngles(10.0 * n, c) for c in (0.0, 20.0) for n in range(5))
    fitness = np.random.default_rng(1).random((2, 10)).round(5).astype(np.float32)
    selection = BeamSelection(candidates, (7, 0, 3), fitness, (3.5, 2.5, 1.5), 1, "Ü", {"setup": 1.5}, ("A note.",))
    write_selection(selection, folder.path / "beams.json")
    assert_same(folder.read_selection(), selection)


def test_a_comparison_comes_back(folder):
    gamma = (GammaCriterion(3, 2.5), GammaCriterion(2, 2))
    comparison = compare(CASE, a_dose(1), a_dose(2), ComparisonSettings(gamma=gamma, interpolation=2))
    folder.write_comparison(comparison)
    numbers = folder.read_comparison()
    assert_same(numbers.difference_gy, comparison.difference_gy)
    for read, made in zip(numbers.gammas, comparison.gamma, strict=True):
        assert read.criterion == made.criterion
        assert (read.pass_rate, read.mean, read.n_voxels) == (made.pass_rate, made.mean, made.n_voxels)
        assert np.array_equal(read.gamma, made.gamma, equal_nan=True)


# What is wrong


@pytest.mark.parametrize(
    ("read", "message"),
    [
        ("read_fluence", r"There is no '.*fluence\.npz'; deeprt step fluence makes it\."),
        ("read_segments", r"There is no '.*segments\.json'; deeprt step segments makes it\."),
        ("read_dose", r"There is no '.*dose\.npz'; deeprt step dose makes it\."),
        ("read_selection", r"There is no '.*beams\.json'; deeprt beams makes it\."),
        ("read_comparison", r"There is no '.*comparison\.npz'; deeprt step compare makes it\."),
        ("read_config", r"There is no '.*plan\.toml'\."),
    ],
)
def test_a_missing_file_is_named_with_what_makes_it(folder, read, message):
    with pytest.raises(InputError, match=message):
        getattr(folder, read)()


def test_a_folder_without_case_says_so(tmp_path):
    with pytest.raises(InputError, match=r"There is no '.*case\.npz'\."):
        WorkFolder(tmp_path).read_case()


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("fluence.npz", "read_fluence"),
        ("dose.npz", "read_dose"),
        ("wished.npz", "read_wished"),
        ("comparison.npz", "read_comparison"),
        ("segments.json", "read_segments"),
        ("beams.json", "read_selection"),
        ("images.npz", "read_images"),
    ],
)
def test_a_damaged_file_is_refused_by_name(folder, name, read):
    (folder.path / name).write_bytes(b"{}")
    with pytest.raises(InputError, match=name):
        getattr(folder, read)()
    if name.endswith(".npz"):
        np.savez(folder.path / name, other=np.zeros(2))
        with pytest.raises(InputError, match=name):
            getattr(folder, read)()


def test_doses_of_another_grid_than_the_case_are_refused(folder):
    coarse = CASE.grid.resampled(10.0)
    folder.write_wished(np.zeros(coarse.shape, np.float32), coarse)
    folder.write_dose(np.zeros(coarse.shape, np.float32))
    folder.write_fluence(replace(a_solution(), dose_gy=np.zeros(coarse.shape, np.float32)))
    for read in (folder.read_dose, folder.read_fluence):
        with pytest.raises(
            InputError, match=r"its dose has \(.*\) voxels, the case \(26, 32, 44\)\); make it anew with"
        ):
            read()
    with pytest.raises(InputError, match="its voxels lie elsewhere than those of the case"):
        folder.read_wished()
    moved = CASE.grid.index_to_lps.copy()
    moved[2, 3] += 0.5
    folder.write_wished(a_dose(), Grid(CASE.grid.shape, moved))
    with pytest.raises(InputError, match=r"wished\.npz' cannot be used .*elsewhere.*; write it anew"):
        folder.read_wished()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("machine"),
        lambda d: d["segments"][0].update(mu=-1.0),
        lambda d: d["segments"][0].update(left_mm=[1.0]),
        lambda d: d["machine"].update(color="red"),
        lambda d: d.update(n_fractions=0),
        lambda d: d["beams"][0].update(x_edges_mm=["a", "b"]),
    ],
)
def test_a_plan_that_is_none_is_refused(change):
    content = json.loads(plan_to_json(a_plan(CASE)))
    change(content)
    with pytest.raises(InputError, match=r"The segments cannot be read \(.+\); sequence the fluence anew\."):
        plan_from_json(json.dumps(content))


def test_text_that_is_no_plan_is_refused():
    for text in ("", "[]", "3", '{"machine": 1}'):
        with pytest.raises(InputError, match="The segments cannot be read"):
            plan_from_json(text)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    folder = WorkFolder(tmp_path / "file")
    solution = a_solution()
    for write in (
        lambda: folder.write_case(CASE),
        lambda: folder.write_config(PlanningConfig()),
        lambda: folder.write_dose(a_dose()),
        lambda: folder.write_fluence(solution),
        lambda: folder.write_segments(a_plan(CASE)),
    ):
        with pytest.raises(InputError, match=r"Cannot write '.*file"):
            write()
