"""The report's files: what they hold, that they come whole, and that nothing in them misleads."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from deeprt.beams import BeamAngles, place_beams
from deeprt.case import PatientCase, with_tuning_structures
from deeprt.delivery.segments import DeliverablePlan, JawOpening, Segment
from deeprt.evaluation.criteria import Criterion
from deeprt.evaluation.evaluate import evaluate
from deeprt.evaluation.figure_style import INK
from deeprt.evaluation.report import ReportContents, json_report, write_report
from deeprt.evaluation.views import orientation_letters, planes_through
from deeprt.fluence.solution import FluenceSolution
from deeprt.geometry import PATIENT_POSITIONS, Grid
from deeprt.machine_file import read_machine
from deeprt.structures import Role, Structure

KEYS = {
    "beams", "total_mu", "objective", "metrics", "definitions", "goals", "dvh", "ideal", "timing_s",
    "peak_memory_mb", "versions", "seed", "notes", "research_only", "technique",
}  # fmt: skip


def ellipsoid(grid, center_lps, radii_mm):
    """Share of each voxel inside, from the scaled distance of its center."""
    distance = np.linalg.norm((grid.points_lps() - center_lps) / radii_mm, axis=1).reshape(grid.shape)
    return np.clip(0.5 - (distance - 1) * np.min(radii_mm) / grid.spacing_mm.max(), 0, 1).astype(np.float32)


def a_case(position="HFS", grid=None):
    grid = grid or Grid.axial((36, 50, 72), (5.0, 5.0, 6.0), (-150.0, -320.0, 880.0))

    def at(*offset_mm):
        return grid.center_lps + np.array(offset_mm)

    target = ellipsoid(grid, at(8, 5, 0), (32, 32, 32))
    boost = ellipsoid(grid, at(8, 0, 0), (16, 16, 16))
    body = ellipsoid(grid, at(0, 0, 0), (160, 105, 300))
    hu = np.where(body > 0.5, 30.0, -1000.0)
    hu[ellipsoid(grid, at(90, 20, 0), (22, 22, 40)) > 0.5] = 600.0
    hu[ellipsoid(grid, at(-90, 20, 0), (22, 22, 40)) > 0.5] = 600.0
    rectum, bladder = ellipsoid(grid, at(5, 48, 0), (18, 14, 50)), ellipsoid(grid, at(8, -45, 15), (30, 20, 22))
    case = PatientCase(
        "Sample <case> & sons",
        position,
        grid,
        hu.astype(np.float32),
        (
            Structure("BODY", Role.EXTERNAL, body),
            Structure("PTV_50", Role.TARGET, target, 50.0),
            Structure("PTV_60", Role.TARGET, boost, 60.0),
            Structure("Rectum $1$", Role.ORGAN_AT_RISK, rectum, organ="Rectum"),
            Structure("_Bladder", Role.ORGAN_AT_RISK, bladder, organ="Bladder", color=(255, 255, 0)),
            Structure("Lost", Role.ORGAN_AT_RISK, np.zeros(grid.shape, np.float32)),
        ),
        25,
    )  # fmt: skip
    return with_tuning_structures(case)


def a_plan(case, gantries=(0, 72, 144, 216, 288), couch=0.0):
    machine = read_machine("generic_6mv")
    beams = place_beams(case, [BeamAngles(g, couch) for g in gantries], machine)
    low, high = machine.mlc.leaf_edges_mm[:-1], machine.mlc.leaf_edges_mm[1:]
    jaws, segments = [], []
    for b, beam in enumerate(beams):
        x1, x2 = beam.x_edges_mm[[0, -1]]
        y1, y2 = beam.y_edges_mm[[0, -1]]
        jaws.append(JawOpening(x1 - 5, x2 + 5, y1, y2))
        used = (low >= y1) & (high <= y2)
        for n in range(4):
            left = np.where(used, x1 + (x2 - x1) * n / 6, 0.0)
            right = np.where(used, x1 + (x2 - x1) * (n + 3) / 6, 0.0)
            segments.append(Segment(b, left, right, 12.0 + b + 3 * n))
    return DeliverablePlan(machine, beams, tuple(jaws), tuple(segments), case.n_fractions)


def some_contents(case, plan):
    center = case.isocenter_lps()
    distance = np.linalg.norm((case.grid.points_lps() - center) / (60, 45, 45), axis=1).reshape(case.grid.shape)
    dose = (63.0 / (1 + distance**4) * case.external.fraction).astype(np.float32)
    ideal_dose = np.float32(1.01) * dose
    fluence = tuple(
        np.where(b.open_beamlets, 20 + 15 * np.sin(np.arange(b.open_beamlets.size)).reshape(b.open_beamlets.shape), 0.0)
        for b in plan.beams
    )
    solution = FluenceSolution(fluence, ideal_dose, 12.5, (30.0, 14.0, 12.5), True, "L-BFGS-B")
    criteria = (
        Criterion("targets", "D95%", ">=", 95, "%", source="protocol"),
        Criterion("targets", "D2%", "<=", 107, "%"),
        Criterion("Rectum", "V40Gy", "<=", 35, "%", priority="must", source="QUANTEC"),
        Criterion("Bladder", "Dmean", "<=", 20, "Gy"),
        Criterion("Bowel", "D0.03cc", "<=", 52, "Gy"),
    )
    return ReportContents(
        case,
        plan,
        solution,
        dose,
        evaluate(case, dose, criteria),
        evaluate(case, ideal_dose, criteria),
        {"case": 1.5, "dose influence": 0.4, "fluence": 2.25, "segments": 0.75},
        812.5,
        {"deeprt": "0.1.0", "numpy": "2.4.0"},
        7,
        {"beams": {"n": 5, "select": "equispaced"}, "note": "<b>"},
        ("The body was made from the CT.", "A <note> & more."),
    )


@pytest.fixture(scope="module")
def contents():
    case = a_case()
    return some_contents(case, a_plan(case))


@pytest.fixture(scope="module")
def written(contents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "new" / "folder"
    write_report(folder, contents)
    return folder


def test_the_json_holds_what_it_promises(written, contents):
    content = json.loads((written / "report.json").read_text(encoding="utf-8"))
    assert set(content) == KEYS
    assert content["research_only"] == "For research, not for clinical use."
    assert [b["gantry_deg"] for b in content["beams"]] == [0, 72, 144, 216, 288]
    assert set(content["beams"][0]) == {"name", "gantry_deg", "couch_deg", "collimator_deg", "mu", "segments"}
    assert content["technique"] == "step and shoot"
    assert_allclose(content["total_mu"], sum(b["mu"] for b in content["beams"]))
    assert content["objective"] == {"value": 12.5, "source": "L-BFGS-B", "converged": True, "iterations": 3}
    target = contents.report.structure("PTV_60")
    assert content["metrics"]["PTV_60"]["D95"] == target.metrics.d95_gy
    assert content["metrics"]["PTV_60"]["van_t_riet"] == target.target.van_t_riet
    assert content["metrics"]["PTV_60"]["prescription_gy"] == 60
    assert_allclose(content["ideal"]["PTV_60"]["D95"], 1.01 * target.metrics.d95_gy, rtol=1e-6)
    assert set(content["metrics"]["BODY"]) - {"role"} <= set(content["definitions"])
    assert content["goals"]["not_applicable"][0]["reason"] == "The case has no 'Bowel'."
    assert content["goals"]["n_met"] + content["goals"]["n_missed"] == len(content["goals"]["results"]) == 6


def test_dvhs_in_the_json_run_from_the_whole_volume_to_none(contents):
    curves = json_report(contents)["dvh"]
    assert curves["Ring"]["role"] == "tuning"
    for curve in curves.values():
        volume = np.array(curve["volume_percent"])
        assert len(curve["dose_gy"]) == volume.size > 10
        assert volume[0] == 100
        assert volume[-1] == 0
        assert np.all(np.diff(volume) <= 0)


def test_the_page_is_self_contained_and_escapes_what_it_was_given(written):
    page = (written / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    assert not re.search(r"url\((?!#|data:)|@import", page)
    assert "Sample &lt;case&gt; &amp; sons" in page
    assert "A &lt;note&gt; &amp; more." in page
    assert "<note>" not in page
    assert "Rectum $1$" in page
    assert INK not in page


def test_the_page_says_what_it_is_not_for_on_every_picture_of_dose(written):
    page = (written / "report.html").read_text(encoding="utf-8")
    assert page.count("For research, not for clinical use.") >= 1 + 3 + 1  # banner, three planes, DVH


def test_goals_are_told_in_words_and_tuning_structures_are_folded_away(written):
    page = (written / "report.html").read_text(encoding="utf-8")
    assert "✓ met" in page
    assert "✗ missed" in page
    assert "outside PTV_60 and 5 mm around" in page
    main, folded = page.split("<summary>Tuning structures", 1)
    assert ">Ring<" not in main
    assert ">Ring<" in folded


def test_a_failed_write_leaves_nothing(contents, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_report(tmp_path, contents)
    assert list(tmp_path.iterdir()) == []


def test_contents_that_do_not_belong_together_are_refused(contents):
    with pytest.raises(ValueError, match=r"Dose has shape \(2, 2, 2\)"):
        replace(contents, dose_gy=np.zeros((2, 2, 2), np.float32))
    with pytest.raises(ValueError, match="The solution has 4 fluence maps, the plan 5 beams"):
        replace(contents, solution=replace(contents.solution, fluence_mu=contents.solution.fluence_mu[:4]))


def test_the_report_can_be_drawn_for_one_non_coplanar_beam_on_an_oblique_grid(tmp_path):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [17.0, -11.0, 26.0], degrees=True).as_matrix() * (8.0, 8.0, -9.0)
    matrix[:3, 3] = (40.0, -500.0, 700.0)
    case = a_case("HFP", Grid((50, 40, 44), matrix))
    write_report(tmp_path, some_contents(case, a_plan(case, (40,), couch=30.0)))
    assert "HFP" in (tmp_path / "report.html").read_text(encoding="utf-8")


def a_turned_grid(order, flips):
    """A grid whose i, j, k run along the given LPS axes and signs."""
    matrix = np.eye(4)
    matrix[:3, :3] = 0
    for axis, (lps, sign) in enumerate(zip(order, flips, strict=True)):
        matrix[lps, axis] = sign * (2.0, 3.0, 4.0)[axis]
    matrix[:3, 3] = (31.0, -212.0, 845.0)
    return Grid((9, 11, 13), matrix)


@pytest.mark.parametrize(
    ("order", "flips"),
    [((0, 1, 2), (1, 1, 1)), ((0, 1, 2), (-1, -1, 1)), ((0, 1, 2), (-1, 1, -1)), ((2, 0, 1), (1, -1, -1)),
     ((1, 2, 0), (-1, -1, 1))],
)  # fmt: skip
def test_planes_show_the_patient_the_same_way_on_every_grid(order, flips):
    grid = a_turned_grid(order, flips)
    lps = grid.points_lps().reshape(*grid.shape, 3).astype(np.float32)
    point = grid.center_lps + np.array([2.0, -3.0, 4.0])
    axial, coronal, sagittal = planes_through(grid, point)
    assert [p.letters for p in (axial, coronal, sagittal)] == [
        ("R", "L", "A", "P"), ("R", "L", "S", "I"), ("A", "P", "S", "I")
    ]  # fmt: skip
    for plane, right, down, sign in ((axial, 0, 1, 1), (coronal, 0, 2, -1), (sagittal, 1, 2, -1)):
        x, y = plane.cut(lps[..., right]), plane.cut(lps[..., down])
        assert_allclose(x - point[right], np.broadcast_to(plane.x_mm, x.shape), atol=1e-3)
        assert_allclose(sign * (y - point[down]), np.broadcast_to(plane.y_mm[:, None], y.shape), atol=1e-3)
        normal = 3 - right - down
        # The nearest plane of voxels is at most half a voxel away.
        assert np.abs(plane.cut(lps[..., normal]) - point[normal]).max() <= 2.001


@pytest.mark.parametrize("position", PATIENT_POSITIONS)
def test_letters_follow_the_patient_not_the_couch(position):
    case = a_case(position)
    plane = planes_through(case.grid, case.isocenter_lps())[0]
    assert plane.letters == ("R", "L", "A", "P")
    towards_source = a_plan(case, (0,)).beams[0].rotation[:, 2]
    assert orientation_letters(towards_source) == ("A" if position.endswith("S") else "P")


def test_oblique_directions_carry_both_letters():
    assert orientation_letters(np.array([0.8, -0.6, 0.0])) == "LA"
    assert orientation_letters(np.array([0.1, 0.2, -0.97])) == "I"
