"""The report of the fluence experiments: statistics, what it says of what was not run, page and pictures."""

import json
import re

import numpy as np
import pytest
from Core.fluence_experiment_samples import some_results
from numpy.testing import assert_allclose
from PIL import Image
from scipy.stats import ttest_1samp

from deeprt.errors import InputError
from deeprt.training.fluence_experiments.goals import Goal
from deeprt.training.fluence_experiments.report import main, write_report
from deeprt.training.fluence_experiments.results import (
    Quartiles,
    methods_of,
    metric_values,
    read_results,
    shown_method,
    upper_bound,
    values_of,
)
from deeprt.training.measuring.figures import MAX_BYTES

PICTURES = {f"deepfluence_{n}.png" for n in ("curves", "quality", "maps", "criteria", "rss", "best", "worst", "dose")}


def test_the_upper_bound_is_where_a_one_sided_test_of_the_mean_gives_five_percent():
    values = np.array([0.004, -0.002, 0.011, 0.006, 0.001])
    assert_allclose(ttest_1samp(values, upper_bound(values), alternative="less").pvalue, 0.05)
    assert upper_bound(values[:1]) is None


def test_quartiles_lie_between_neighbors():
    assert Quartiles.of(np.array([4.0, 1.0, 2.0, 3.0])) == Quartiles(2.5, 1.75, 3.25, 4)


def test_rows_are_told_apart_by_method_and_a_number_that_is_missing_is_left_out():
    rows = [{"method": "paper", "mae": 1.0}, {"method": "inversion", "mae": 2.0}, {"method": "paper"}]
    assert methods_of(rows) == ["inversion", "paper"]
    assert values_of(rows, "paper", "mae").tolist() == [1.0]
    assert shown_method(rows) == "inversion"
    assert shown_method([*rows, {"method": "default"}]) == "default"


def test_a_criterion_is_compared_on_patients_that_have_it():
    rows = [{"method": "default", "reference": {"HI": h}, "synthetic": {"HI": h + 0.01}} for h in (0.05, 0.07)]
    rows += [{"method": "default", "reference": {}, "synthetic": {}}]
    reference, synthetic = metric_values(rows, "default", "HI")
    assert_allclose(reference, [0.05, 0.07])
    assert_allclose(synthetic, [0.06, 0.08])


def test_a_goal_is_met_by_what_it_is_for_not_by_what_stands_beside():
    assert Goal("", 0.5, None, 0.4).verdict == "not run"
    assert Goal("", 0.5, 0.5, 0.6).verdict == Goal("", 0.5, 0.6, 0.4, at_most=False).verdict == "met"
    assert Goal("", 0.5, 0.6, 0.4).verdict == "**not met**"
    assert Goal("", 0.98, 0.5, unit="%", digits=1, at_most=False).cells[1:3] == ["≥ 98 %", "50.0 %"]
    assert Goal("", None, 3.1).verdict == "no goal" and Goal("", None, None).verdict == "not run"
    assert Goal("", None, 3.1, unit="Gy", digits=1).cells[1:3] == ["—", "3.1 Gy"]
    assert Goal("", 3.0, 2.5, unit="s", digits=1).cells[1:4] == ["≤ 3 s", "2.5 s", "—"]


def test_without_results_every_section_says_that_it_was_not_run(tmp_path):
    (tmp_path / "results").mkdir()
    write_report(tmp_path / "results", tmp_path / "out")
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"deepfluence.md", "deepfluence.json"}
    page = (tmp_path / "out" / "deepfluence.md").read_text(encoding="utf-8")
    for name in ("training", "maps", "plans", "openkbp", "dose", "times"):
        assert f"Not run: there is no `{name}.json` among the results." in page
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len(rows) == 16 and sum(line.endswith("| not run |") for line in rows) == 14
    assert not re.search(r"\bnan\b|\bNone\b", page)


def test_openkbp_without_patients_counts_as_not_run(tmp_path):
    (tmp_path / "openkbp.json").write_text("[]", encoding="utf-8")
    write_report(tmp_path, tmp_path / "out")
    assert "Not run: there is no `openkbp.json`" in (tmp_path / "out" / "deepfluence.md").read_text(encoding="utf-8")


def test_a_folder_that_is_not_there_and_a_damaged_file_are_errors(tmp_path, capsys):
    assert main(["--results", str(tmp_path / "none"), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("report: There is no folder")
    (tmp_path / "maps.json").write_text("[{", encoding="utf-8")
    with pytest.raises(InputError, match=r"maps\.json' is not valid JSON.*run that experiment again"):
        read_results(tmp_path)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiments")
    some_results(folder / "results")
    assert main(["--results", str(folder / "results"), "--out", str(folder / "out")]) == 0
    return folder / "out"


def test_the_page_has_every_section_and_no_undefined_number(written):
    page = (written / "deepfluence.md").read_text(encoding="utf-8")
    assert "Not run: there is" not in page
    assert not re.search(r"\bnan\b|\binf\b|\bNone\b", page)
    assert page.count("For research, not for clinical use.") == 3
    assert "inverse crime" in page and "All patients of this page are virtual" in page
    for link in re.findall(r"\]\((deepfluence[^)]*)\)", page):
        assert (written / link).exists(), link
    assert max(len(line) for line in page.splitlines() if not line.startswith(("|", "![", "python", "deeprt"))) <= 120


def test_the_page_says_how_many_patients_were_measured_and_what_is_not_there(written):
    page = (written / "deepfluence.md").read_text(encoding="utf-8")
    assert "--openkbp work/openkbp --patients 4\n" in page, "4 of 10 test patients"
    assert "One beam's-eye view, contours and dose: not run" in page
    assert re.search(r"labels reversed \|.*8, not ended", page), "a training without result"
    assert not re.search(r"dose only \|.*not ended", page)
    assert "Dmean of the penile bulb" not in page, "no patient has one"


def test_the_goals_quote_the_default_network_and_its_refinement(written):
    numbers = json.loads((written / "deepfluence.json").read_text(encoding="utf-8"))
    ssim = numbers["goals"]["SSIM, whole map, median"]
    assert ssim["measured"] == numbers["maps"]["default"]["ssim"]["median"]
    assert ssim["beside"] == numbers["maps"]["default, refined 10"]["ssim"]["median"]
    bound = next(g for name, g in numbers["goals"].items() if name.startswith("HI"))
    assert bound["measured"] == numbers["plans"]["default, refined 10"]["criteria"]["HI"]["upper_bound"]
    assert numbers["goals"]["10 refinements, on top"]["verdict"] == "not met"


def test_scores_of_predicted_doses_are_means_of_patients_and_of_all_dvh_metrics(written):
    found = json.loads((written.parent / "results" / "dose.json").read_text(encoding="utf-8"))["openkbp"]
    numbers = json.loads((written / "deepfluence.json").read_text(encoding="utf-8"))
    own = [r for r in found["rows"] if r["method"] == "dose network"]
    errors = [e for r in own for s in r["dvh_errors_gy"].values() for e in s.values()]
    scores = numbers["dose"]["openkbp"]["dose network"]
    assert_allclose(scores["dose_score_gy"]["mean"], np.mean([r["dose_score_gy"] for r in own]))
    assert_allclose(scores["DVH score"], np.mean(errors))
    assert_allclose(scores["Dmean"], np.mean([r["dvh_errors_gy"]["Brainstem"]["Dmean"] for r in own]))
    goal = next(g for name, g in numbers["goals"].items() if "dose score" in name)
    assert goal["measured"] == scores["dose_score_gy"]["mean"] < goal["beside"]
    assert (goal["limit"], goal["verdict"]) == (None, "no goal")
    assert numbers["dose"]["plans"]["n"] == 4


def test_dose_networks_that_are_not_there_are_said_to_be_not_trained(tmp_path):
    even = {"n_training": 90, "n_validation": 10, "budget": None}
    row = {"patient": "P", "method": "even beams", "gamma": 0.5, "target_error": 0.04, "body_error": 0.07}
    results = {"openkbp": None, "pelvis": even | {"rows": [row]}}
    (tmp_path / "dose.json").write_text(json.dumps(results), encoding="utf-8")
    np.savez(tmp_path / "dose.npz")
    write_report(tmp_path, tmp_path / "out")
    page = " ".join((tmp_path / "out" / "deepfluence.md").read_text(encoding="utf-8").split())  # without line breaks
    assert "OpenKBP was not run." in page and "The pelvis network is not trained." in page
    assert "| dose network: not trained | — |" in page and "| even beams | 7.00 |" in page
    assert "Plans from predicted doses were not run" in page
    assert not (tmp_path / "out" / "deepfluence_dose.png").exists() and "deepfluence_dose.png" not in page


def test_every_picture_is_written_and_small(written):
    assert {f.name for f in written.glob("*.png")} == PICTURES
    for name in PICTURES:
        with Image.open(written / name) as image:
            assert image.format == "PNG" and image.size[0] > 600
        assert (written / name).stat().st_size <= MAX_BYTES
