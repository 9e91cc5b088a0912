"""The report of the experiments: its statistics, what it says of what was not run, and its page and pictures."""

import json
import re

import numpy as np
import pytest
from Core.experiment_samples import EXCESS, some_results
from numpy.testing import assert_allclose
from PIL import Image

from deeprt.errors import InputError
from deeprt.training.experiments.goals import Goal
from deeprt.training.experiments.report import main, write_report
from deeprt.training.experiments.statistics import (
    Plan,
    better_shares,
    chosen_fold,
    compared,
    dose_differences,
    read_results,
    summarize,
)
from deeprt.training.measuring.figures import MAX_BYTES

PICTURES = {f"deepboo_{n}.png" for n in ("curves", "worst", "sequence", "correction", "organs", "equation17", "dose")}


def plan(method, objective, scenario=0, **more):
    return Plan("a", scenario, method, objective, **more)


def four_scenarios():
    """Objectives of column generation 100, and of two folds of a network and equispaced beams, known by heart."""
    found = [("default", 1, (98, 101, 100, 110)), ("default", 2, (100, 104, 100, 106))]
    found += [("equispaced", None, (120, 110, 100.05, 90)), ("column generation", None, (100,) * 4)]
    return [plan(m, f, n, fold=fold) for m, fold, objectives in found for n, f in enumerate(objectives)]


def test_the_excess_is_that_over_column_generation_in_the_same_scenario():
    found = summarize(compared(four_scenarios(), "default", fold=1))
    assert found.n == 4
    assert_allclose([found.mean, found.median, found.worst, found.within], [0.0225, 0.005, 0.1, 0.75])


def test_the_gap_leaves_out_scenarios_in_which_equispaced_beams_are_not_worse():
    found = summarize(compared(four_scenarios(), "default", fold=1))
    assert found.n_without_gap == 2
    assert_allclose([found.gap_mean, found.gap_median], (22 / 20 + 9 / 10) / 2)
    assert_allclose(found.gap_pooled, (22 + 9 + 0.05 - 20) / (20 + 10 + 0.05 - 10))


def test_without_equispaced_beams_there_is_no_gap():
    plans = [p for p in four_scenarios() if p.method != "equispaced"]
    found = summarize(compared(plans, "default"))
    assert (found.gap_mean, found.gap_median, found.gap_pooled, found.n_without_gap) == (None, None, None, 8)


def test_equation_17_counts_who_is_better_by_more_than_epsilon():
    rows = compared(four_scenarios(), "default")  # excesses -2, 1, 0, 10, 0, 4, 0, 6 %
    assert better_shares(rows, 0.005) == (4 / 8, 1 / 8)
    assert better_shares(rows, 0.03) == (3 / 8, 0)
    assert better_shares(rows, 0.07) == (1 / 8, 0)


def test_a_scenario_without_column_generation_is_an_error():
    with pytest.raises(InputError, match="Scenario 0 of patient a has no plan of column generation"):
        compared([plan("default", 1.0)], "default")


def test_dose_differences_are_column_generation_less_the_plan_in_percent():
    teacher = plan("column generation", 1.0, organs={"Rectum": {"mean": 0.4, "max": 1.0}})
    own = plan("default", 1.0, organs={"Rectum": {"mean": 0.37, "max": 1.02}})
    rows = compared([teacher, own], "default")
    assert_allclose(dose_differences(rows, "mean")["Rectum"], [3.0])
    assert_allclose(dose_differences(rows, "max")["Rectum"], [-2.0])


def test_a_goal_is_met_where_every_number_keeps_it():
    assert Goal("", 0.5, None).verdict == "not run"
    assert Goal("", 0.5, 0.4).verdict == Goal("", 0.5, 0.6, at_most=False).verdict == "met"
    assert Goal("", 0.5, 0.6, 0.7).verdict == "**not met**"
    assert Goal("", 0.5, 0.4, 0.6).verdict == "met over all folds only"
    assert Goal("", 0.5, 0.6, 0.4).verdict == "met by the chosen network only"


def test_the_chosen_fold_has_the_least_validation_loss():
    folds = [{"fold": k, "validation_best": v} for k, v in ((1, 0.02), (2, 0.01), (3, 0.03))]
    assert chosen_fold({"folds": {"default": folds}}) == 2
    assert chosen_fold(None) is chosen_fold({"folds": {"paper": folds}}) is None


def test_without_results_every_section_says_that_it_was_not_run(tmp_path):
    (tmp_path / "results").mkdir()
    write_report(tmp_path / "results", tmp_path / "out")
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"deepboo.md", "deepboo.json"}
    page = (tmp_path / "out" / "deepboo.md").read_text(encoding="utf-8")
    for name in ("training", "mse", "examples", "plans", "forced", "search", "real", "times"):
        assert f"Not run: there is no `{name}.json` among the results." in page
    assert "Not run: there is no `dose.npz`" in page
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len(rows) == 14 and sum(line.endswith("| not run |") for line in rows) == 12
    assert not re.search(r"\bnan\b|\bNone\b", page)


def test_the_command_says_in_one_line_what_is_wrong(tmp_path, capsys):
    assert main(["--results", str(tmp_path / "none"), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("report: There is no folder")


def test_a_folder_that_is_not_there_and_a_damaged_file_are_errors(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        read_results(tmp_path / "results")
    (tmp_path / "plans.json").write_text("[{", encoding="utf-8")
    with pytest.raises(InputError, match=r"plans\.json' is not valid JSON.*run that experiment again"):
        read_results(tmp_path)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiments")
    some_results(folder / "results")
    main(["--results", str(folder / "results"), "--out", str(folder / "out")])
    return folder / "out"


def test_the_page_has_every_section_and_no_undefined_number(written):
    page = (written / "deepboo.md").read_text(encoding="utf-8")
    assert "Not run" not in page
    assert not re.search(r"\bnan\b|\binf\b|\bNone\b", page)
    assert page.count("For research, not for clinical use.") == 2
    assert "All patients of this page are virtual" in page
    for link in re.findall(r"\]\((deepboo[^)]*)\)", page):
        assert (written / link).exists()
    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert len(headings) == len(set(headings)) == 15


def test_losses_of_folds_are_summed_up_as_mean_and_spread(written):
    folds = json.loads((written.parent / "results" / "training.json").read_text(encoding="utf-8"))["folds"]["default"]
    page = (written / "deepboo.md").read_text(encoding="utf-8")
    losses = [100 * f["test_best"] for f in folds]
    cells = [f"{loss:.3f}" for loss in losses] + [f"{np.mean(losses):.3f} ± {np.std(losses, ddof=1):.3f}"]
    assert f"| Test, best epoch / % | {' | '.join(cells)} |" in page


def test_every_table_of_an_experiment_has_its_command(written):
    page = (written / "deepboo.md").read_text(encoding="utf-8")
    for section in page.split("\n## ")[2:]:
        assert "```sh" in section


def test_tables_are_rectangular(written):
    page = (written / "deepboo.md").read_text(encoding="utf-8")
    for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_the_numbers_of_the_page_are_in_its_json(written):
    numbers = json.loads((written / "deepboo.json").read_text(encoding="utf-8"))
    assert set(numbers["objectives"]["all"]) == {*EXCESS, "equispaced", "default, exchanged"}
    own = numbers["objectives"]["all"]["default"]
    page = (written / "deepboo.md").read_text(encoding="utf-8")
    assert f"| default network | {own['n']} | {100 * own['mean']:+.2f} % |" in page
    assert numbers["goals"]["Mean excess over column generation"]["measured"] == own["mean"]
    assert numbers["commit"] in page


def test_the_goals_of_the_plans_stand_for_the_networks_own_beams_and_as_shipped(written):
    numbers = json.loads((written / "deepboo.json").read_text(encoding="utf-8"))
    of_method, of_goal = numbers["objectives"]["all"], numbers["goals"]
    shipped = ", as shipped: after one sweep of exchanges"
    for method, which in (("default", ""), ("default, exchanged", shipped)):
        own = of_method[method]
        assert of_goal[f"Plans within 5 % of column generation{which}"]["measured"] == own["within"]
        assert of_goal[f"Mean excess over column generation{which}"]["measured"] == own["mean"]
        assert of_goal[f"Gap to equispaced beams closed, mean{which}"]["measured"] == own["gap_mean"]
    plans = read_results(written.parent / "results").plans
    fold = chosen_fold(read_results(written.parent / "results").training)
    of_fold = summarize(compared(plans, "default, exchanged", fold=fold))
    assert of_goal[f"Mean excess over column generation{shipped}"]["chosen"] == of_fold.mean
    assert of_method["default, exchanged"]["mean"] < of_method["default"]["mean"]


def test_the_time_of_a_sweep_of_exchanges_is_told(written):
    numbers = json.loads((written / "deepboo.json").read_text(encoding="utf-8"))
    page = (written / "deepboo.md").read_text(encoding="utf-8")
    assert f"| One sweep of exchanges | {numbers['times']['exchange_s']['median']:.3f} s |" in page


def test_a_sweep_of_exchanges_that_was_not_run_is_said_to_be_not_run(tmp_path):
    """Results from before there was one: no file of it, and times without it."""
    some_results(tmp_path / "results")
    (tmp_path / "results" / "exchanged.json").unlink()
    times = json.loads((tmp_path / "results" / "times.json").read_text(encoding="utf-8"))
    del times["exchange_s"]
    (tmp_path / "results" / "times.json").write_text(json.dumps(times), encoding="utf-8")
    write_report(tmp_path / "results", tmp_path / "out")
    page = (tmp_path / "out" / "deepboo.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if "as shipped: after one sweep of exchanges" in line]
    assert len(rows) == 3 and all(line.endswith("| not run |") for line in rows)
    assert "The sweep of exchanges was not run: there is no `exchanged.json`." in page
    assert "| One sweep of exchanges: not run |" in page


def test_pictures_are_written_and_small(written):
    assert {f.name for f in written.glob("*.png")} == PICTURES
    for file in written.glob("*.png"):
        assert file.stat().st_size <= MAX_BYTES
        with Image.open(file) as image:
            assert min(image.size) >= 300
    assert not list(written.glob("*.part"))
