"""Two doses side by side: the numbers in closed form, the files, the command."""

import argparse
import json
import re
from functools import cache

import numpy as np
import pytest
import SimpleITK
from Core.plan_samples import a_case
from numpy.testing import assert_allclose

from deeprt.commands import evaluate as command
from deeprt.errors import InputError
from deeprt.evaluation.compare import ComparisonSettings, GammaCriterion, compare, residual_sum_of_squares
from deeprt.evaluation.comparison_report import EvaluationContents, NamedDose, json_evaluation, write_evaluation
from deeprt.evaluation.criteria import Criterion
from deeprt.evaluation.dvh import Dvh
from deeprt.evaluation.evaluate import evaluate

CASE = a_case()
GOALS = (Criterion("targets", "D95%", ">=", 95, "%"), Criterion("Tube", "Dmean", "<=", 30, "Gy"))


def a_dose(factor=1.0):
    """Falls off from the middle of the grid."""
    distance = np.linalg.norm(CASE.grid.points_lps() - CASE.isocenter_lps(), axis=1).reshape(CASE.grid.shape)
    return (factor * 62 / (1 + (distance / 40) ** 4)).astype(np.float32)


def a_step(gy):
    """DVH of a structure that gets one dose everywhere."""
    return Dvh(np.array([gy]), np.array([1.0]), 1.0)


def test_a_dose_equals_itself():
    comparison = compare(CASE, a_dose(), a_dose(), ComparisonSettings(GOALS))
    assert not comparison.difference_gy.any()
    assert [g.pass_rate for g in comparison.gamma] == [1.0, 1.0]
    assert all(s.rss == 0 and s.rms_gy == 0 for s in comparison.structures)


def test_a_scaled_dose_differs_by_its_own_mean_in_every_structure():
    comparison = compare(CASE, a_dose(1.1), a_dose(), ComparisonSettings(GOALS))
    for s in comparison.structures:
        share, expected = CASE.structure(s.name).fraction, 0.1 * a_dose()
        assert_allclose([s.mean_gy, s.mean_absolute_gy], np.average(expected, weights=share), rtol=1e-4)
        assert_allclose(s.rms_gy, np.sqrt(np.average(expected**2, weights=share)), rtol=1e-4)
        assert_allclose([s.min_gy, s.max_gy], [expected[share > 0].min(), expected[share > 0].max()], rtol=1e-4)
        metrics = comparison.reference_report.structure(s.name).metrics
        scaled = comparison.report.structure(s.name).metrics
        assert_allclose([scaled.dmean_gy, scaled.d2_gy], [1.1 * metrics.dmean_gy, 1.1 * metrics.d2_gy], rtol=1e-3)
    assert len(comparison.report.goals) == len(comparison.reference_report.goals)


def test_the_residual_of_two_steps_counts_the_doses_between_them():
    # At relative doses 0.51 to 0.60, ten steps of 1 %, one curve is 0 and the other 1.
    assert_allclose(residual_sum_of_squares(a_step(30.01), a_step(36.01), 60.0), 10)
    assert_allclose(residual_sum_of_squares(a_step(36.01), a_step(30.01), 60.0), 10)


def test_gamma_is_asked_inside_the_external_only_and_above_the_threshold():
    settings = ComparisonSettings(gamma=(GammaCriterion(3, 3),), threshold_percent=50)
    result = compare(CASE, a_dose(), a_dose(), settings).gamma[0]
    expected = (CASE.external.fraction >= 0.5) & (a_dose() >= 0.5 * a_dose().max())
    assert np.array_equal(~np.isnan(result.gamma), expected)
    assert result.n_voxels == expected.sum()


def test_local_tolerance_is_stricter_and_reaches_the_result():
    gamma = (GammaCriterion(3, 1),)
    rates = [
        compare(CASE, a_dose() + np.float32(1), a_dose(), ComparisonSettings(gamma=gamma, local=local))
        for local in (False, True)
    ]
    assert rates[1].gamma[0].pass_rate < rates[0].gamma[0].pass_rate


def test_criteria_are_read_as_physicists_write_them():
    assert GammaCriterion.parse("3%/2mm") == GammaCriterion(3, 2)
    assert GammaCriterion.parse(" 1.5 % / 0.5 mm") == GammaCriterion(1.5, 0.5)
    assert str(GammaCriterion(2, 2)) == "2%/2mm"
    with pytest.raises(InputError, match="write it like 3%/2mm"):
        GammaCriterion.parse("3/2")
    with pytest.raises(InputError, match="positive tolerances"):
        GammaCriterion.parse("0%/2mm")


def test_wrong_settings_and_an_empty_reference_are_refused():
    with pytest.raises(InputError, match="threshold must lie in 0 to 100"):
        ComparisonSettings(threshold_percent=100)
    with pytest.raises(InputError, match="steps of the gamma search"):
        ComparisonSettings(interpolation=0)
    with pytest.raises(ValueError, match="resample it"):
        compare(CASE, a_dose()[1:], a_dose(), ComparisonSettings())
    hot_outside = a_dose()
    hot_outside[0, 0, 0] = 1e4
    with pytest.raises(InputError, match="no dose inside the external"):
        compare(CASE, a_dose(), hot_outside, ComparisonSettings(threshold_percent=99))


# The report


@cache
def some_contents(*, alone=False):
    dose, reference = NamedDose("mine <1>.dcm", a_dose(1.05)), NamedDose("theirs.dcm", a_dose())
    if alone:
        return EvaluationContents(CASE, dose, evaluate(CASE, dose.dose_gy, GOALS), notes=("A <note>.",))
    comparison = compare(CASE, dose.dose_gy, reference.dose_gy, ComparisonSettings(GOALS, (GammaCriterion(3, 2),)))
    return EvaluationContents(CASE, dose, comparison.report, reference, comparison, {"deeprt": "0"}, ("A <note>.",))


def test_the_page_shows_both_doses_and_says_what_it_is_not_for(tmp_path):
    write_evaluation(tmp_path, some_contents())
    assert {p.name for p in tmp_path.iterdir()} == {"evaluation.json", "evaluation.html"}
    page = (tmp_path / "evaluation.html").read_text(encoding="utf-8")
    for expected in ("mine &lt;1&gt;.dcm against theirs.dcm", "Dose minus reference", "Gamma 3%/2mm", "A &lt;note&gt;.",
                     "Solid: dose. Dashed: reference.", "equation 3", "Metrics side by side"):  # fmt: skip
        assert expected in page
    assert page.count("not for clinical use") >= 1 + 12 + 1  # the banner, twelve planes, the DVHs
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!#|data:)', page)


def test_a_dose_alone_has_no_reference_anywhere(tmp_path):
    contents = some_contents(alone=True)
    write_evaluation(tmp_path, contents)
    page = (tmp_path / "evaluation.html").read_text(encoding="utf-8")
    assert "Gamma" not in page
    assert "Reference" not in page
    assert not {"reference", "gamma", "difference"} & set(json_evaluation(contents))


def test_the_json_holds_what_was_computed():
    contents = some_contents()
    entry = json.loads(json.dumps(json_evaluation(contents), allow_nan=False))
    difference = next(s for s in contents.comparison.structures if s.name == "Tube")
    assert entry["difference"]["Tube"]["rss"] == difference.rss
    assert entry["difference"]["Tube"]["mean_gy"] == difference.mean_gy
    assert entry["gamma"]["results"][0]["pass_rate"] == contents.comparison.gamma[0].pass_rate
    assert (entry["gamma"]["tolerance"], entry["gamma"]["interpolation"]) == ("global", 10)
    assert entry["dose"]["goals"]["n_met"] + entry["dose"]["goals"]["n_missed"] == 3
    assert entry["reference"]["metrics"]["PTV_60"]["D95"] < entry["dose"]["metrics"]["PTV_60"]["D95"]


def test_both_files_come_or_none(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_evaluation(tmp_path, some_contents(alone=True))
    assert list(tmp_path.iterdir()) == []


def test_contents_that_do_not_belong_together_are_refused():
    whole = some_contents()
    with pytest.raises(ValueError, match="both a reference and the comparison"):
        EvaluationContents(CASE, whole.dose, whole.report, whole.reference)
    with pytest.raises(ValueError, match="the case's grid"):
        EvaluationContents(CASE, NamedDose("x", a_dose()[1:]), whole.report)


# The command


@pytest.fixture
def doses(tmp_path, monkeypatch):
    """Two dose files for the sample case, which stands in for whatever the command is asked to read."""
    monkeypatch.setattr("deeprt.preparation.load_case", lambda *_, **__: CASE)
    for name, factor in (("a", 1.05), ("b", 1.0)):
        image = SimpleITK.GetImageFromArray(a_dose(factor))
        image.SetOrigin(CASE.grid.index_to_lps[:3, 3].tolist())
        image.SetSpacing(CASE.grid.spacing_mm.tolist())
        image.SetDirection((CASE.grid.index_to_lps[:3, :3] / CASE.grid.spacing_mm).ravel().tolist())
        SimpleITK.WriteImage(image, str(tmp_path / f"{name}.nrrd"))
    return tmp_path


def run(folder, *arguments):
    parser = argparse.ArgumentParser()
    command.add_command(parser.add_subparsers())
    dose = [] if "--dose" in arguments else ["--dose", str(folder / "a.nrrd")]
    options = parser.parse_args(["evaluate", "CASE", *dose, "--out", str(folder / "out"), *map(str, arguments)])
    return options.run(options)


def test_the_command_writes_what_it_was_asked_for(doses, capsys):
    goals = doses / "goals.toml"
    goals.write_text('[[goals]]\nstructure = "Tube"\nmetric = "Dmean"\nrelation = "<="\nlimit = 5\nunit = "Gy"\n')
    arguments = ["--reference", doses / "b.nrrd", "--goals", goals, "--gamma", "2%/1mm", "--gamma", "5%/3mm", "--local"]
    assert run(doses, *arguments, "--threshold", "20", "--interpolation", "5") == 0
    entry = json.loads((doses / "out" / "evaluation.json").read_text())
    gamma = entry["gamma"]
    assert [(g["dose_percent"], g["distance_mm"]) for g in gamma["results"]] == [(2, 1), (5, 3)]
    assert (gamma["tolerance"], gamma["threshold_percent"], gamma["interpolation"]) == ("local", 20, 5)
    assert [g["structure"] for g in entry["dose"]["goals"]["results"]] == ["Tube"]
    shown = capsys.readouterr().out
    for expected in ("PTV_60", "minus reference", "Gamma 2%/1mm, local", "Goals:", "not a medical device"):
        assert expected in shown


def test_a_second_evaluation_needs_leave_to_replace_the_first(doses):
    arguments = ["--goals", "generic", "--json-progress"]
    assert run(doses, *arguments) == 0
    with pytest.raises(InputError, match="--overwrite"):
        run(doses, *arguments)
    assert run(doses, *arguments, "--overwrite") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--goals", "nowhere"], "neither a file nor one of the protocols"),
        (["--gamma", "3"], "write it like 3%/2mm"),
        (["--dose", "absent.nrrd"], "does not exist"),
    ],
)
def test_wrong_options_are_answered_by_one_sentence(doses, arguments, message):
    with pytest.raises(InputError, match=message):
        run(doses, *arguments)
    assert not (doses / "out").exists()


def test_a_file_without_goals_and_a_dose_elsewhere_are_refused(doses):
    (doses / "empty.toml").write_text("seed = 1\n")
    with pytest.raises(InputError, match="holds no goals"):
        run(doses, "--goals", doses / "empty.toml")
    image = SimpleITK.ReadImage(str(doses / "a.nrrd"))
    image.SetOrigin((9000.0, 0.0, 0.0))
    SimpleITK.WriteImage(image, str(doses / "far.nrrd"))
    with pytest.raises(InputError, match="belongs to another case"):
        run(doses, "--dose", doses / "far.nrrd")
