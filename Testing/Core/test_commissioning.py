"""Commissioning: the shipped machines follow from their tables, a known machine is found again, bad data is refused."""

import csv
import json
import shutil
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from deeprt.cli import main
from deeprt.commissioning.agreement import agreement
from deeprt.commissioning.fit import fit_machine
from deeprt.commissioning.measurements import read_measurements
from deeprt.dose.kernels import axis_dose, square_field_dose
from deeprt.errors import InputError
from deeprt.machine import HeadScatter, OffAxis
from deeprt.machine_file import read_machine

TABLES = Path(__file__).parents[2] / "Resources" / "BeamData"
FIELDS_MM, DEPTHS_MM = (40.0, 100.0, 200.0, 300.0), (10.0, 15.0, 20.0, 30.0, 50.0, 80.0, 100.0, 150.0, 200.0, 300.0)


def write_table(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


def rewrite(path, change):
    """Change the rows, header included, of a table."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    write_table(path, *(lambda r: (r[0], r[1:]))(change(rows)))


def write_measurements_of(machine, folder):
    """What a water tank would show of a machine: few points, in centimeters, profiles in any normalization."""
    folder.mkdir()
    (folder / "measurements.toml").write_text(
        'name = "copy"\nenergy_mv = 6.0\nsource = "a model"\noutput_factor_depth_mm = 100.0\n'
        "[reference]\ngy_per_mu = 0.01\ndepth_mm = 15.0\nfield_mm = 100.0\nssd_mm = 1000.0\n",
        encoding="utf-8",
    )
    doses = {f: axis_dose(machine, DEPTHS_MM, field_mm=f, ssd_mm=1000.0) for f in FIELDS_MM}
    at_10_cm = DEPTHS_MM.index(100.0)
    write_table(
        folder / "depth_doses.csv",
        ("field_cm", "depth_cm", "dose_percent"),
        [
            (f / 10, d / 10, 100 * v / max(doses[f]))
            for f in FIELDS_MM
            for d, v in zip(DEPTHS_MM, doses[f], strict=True)
        ],
    )
    factors = [
        (f, doses[f][at_10_cm] / doses[100.0][at_10_cm], machine.head_scatter.of_opening(f, f)) for f in FIELDS_MM
    ]
    write_table(folder / "output_factors.csv", ("field_mm", "factor", "in_air_factor"), factors)
    profiles = []
    for field, depth in ((100.0, 100.0), (300.0, 15.0), (300.0, 100.0)):
        x = np.linspace(-0.7, 0.7, 57) * field
        values = square_field_dose(machine, np.full_like(x, depth), x, field_mm=field, ssd_mm=1000.0)
        profiles += [(field, depth, a, 7e3 * v) for a, v in zip(x, values, strict=True)]
    write_table(folder / "profiles.csv", ("field_mm", "depth_mm", "position_mm", "dose_percent"), profiles)
    return folder


@pytest.fixture
def tables(tmp_path):
    """A copy of the tables of 6 MV, to be spoiled."""
    return Path(shutil.copytree(TABLES / "generic_6mv", tmp_path / "tables"))


@pytest.mark.parametrize("name", ["generic_6mv", "generic_15mv"])
def test_a_shipped_machine_agrees_with_the_tables_it_comes_from(name):
    agreed = agreement(read_machine(name), read_measurements(TABLES / name))
    for curve in agreed.curves:
        if 50.0 <= curve.field_mm <= 200.0:
            assert np.all(curve.gamma[curve.judged] <= 1.0)  # 1 % of the maximum or 1 mm
    assert max(abs(o.deviation_percent) for o in agreed.outputs) < 1.0


def test_the_command_makes_the_shipped_machine_from_its_tables(tmp_path, capsys):
    file = tmp_path / "new" / "machine.json"
    assert main(["commission", str(TABLES / "generic_6mv"), "--out", str(file)]) == 0
    made, shipped = read_machine(file), read_machine("generic_6mv")
    depth = np.linspace(10.0, 300.0, 30)
    for field in (40.0, 100.0, 300.0):
        assert_allclose(*(axis_dose(m, depth, field_mm=field, ssd_mm=1000.0) for m in (made, shipped)), rtol=2e-3)
    page = file.with_suffix(".html").read_text(encoding="utf-8")
    assert "For research, not for clinical use." in page and page.count("<svg") == 3
    printed = capsys.readouterr().out
    assert "Output factor of 200 mm" in printed and "Gamma 1 %/1 mm" in printed
    assert main(["commission", str(TABLES / "generic_6mv"), "--out", str(file)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_shipped_machines_name_their_tables_as_source():
    for name in ("generic_6mv", "generic_15mv"):
        text = (resources.files("deeprt") / "data" / "machines" / f"{name}.json").read_text(encoding="utf-8")
        for section in ("kernels", "head_scatter", "off_axis", "output"):
            assert all(f"BeamData/{name}" in entry["source"] for entry in json.loads(text)[section].values())


def test_a_known_machine_is_found_again_from_its_dose(tmp_path):
    known = replace(
        read_machine("generic_15mv"),
        output=read_machine("generic_6mv").output,
        off_axis=OffAxis(np.array([0.0, 60.0, 150.0]), np.array([1.0, 1.03, 1.08])),
        head_scatter=HeadScatter(np.array(FIELDS_MM), np.array([0.95, 1.0, 1.03, 1.05])),
    )
    data = read_measurements(write_measurements_of(known, tmp_path / "tank"))
    assert [d.field_mm for d in data.depth_doses] == list(FIELDS_MM)
    found = fit_machine(data, known)
    depth = np.linspace(15.0, 300.0, 20)
    for field in (60.0, 100.0, 250.0):  # 60 and 250 were not measured
        assert_allclose(*(axis_dose(m, depth, field_mm=field, ssd_mm=1000.0) for m in (found, known)), rtol=6e-3)
    radius = np.array([30.0, 60.0, 110.0])
    assert_allclose(found.off_axis.at(radius), known.off_axis.at(radius), rtol=4e-3)
    assert_allclose(found.head_scatter.factor, known.head_scatter.factor, rtol=5e-3)
    assert (found.name, found.energy_mv, found.mlc) == ("copy", 6.0, known.mlc)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("depth_doses.csv", lambda r: [*r[:3], r[4], r[3], *r[5:]], "depth 10 mm follows 12 mm; the depth axis"),
        ("depth_doses.csv", lambda r: [x for x in r if x[0] != "100"], "lacks the reference field of 100 mm"),
        ("depth_doses.csv", lambda r: [r[0], *([f, float(d) / 10, v] for f, d, v in r[1:])], "the column depth_cm"),
        ("depth_doses.csv", lambda r: [r[0], *([f, d, float(v) / 100] for f, d, v in r[1:])], "multiply by 100"),
        ("depth_doses.csv", lambda r: [r[0], *([f, d, d] for f, d, _ in r[1:])], "the dose does not fall with depth"),
        ("depth_doses.csv", lambda r: [["field", "depth", "dose"], *r[1:]], "has no column field_mm or field_cm"),
        ("depth_doses.csv", lambda r: [*r[:5], ["30", "15", "n/a"], *r[6:]], "row 6, column 3: expected a number"),
        ("depth_doses.csv", lambda r: [x for x in r if x[0] in ("field_mm", "100")], "at least 3 are needed"),
        ("depth_doses.csv", lambda r: r[:1], "has no rows"),
        ("depth_doses.csv", lambda r: [*r[:-1], ["400", "300", "0"]], "a dose below the surface is zero"),
        ("profiles.csv", lambda r: [r[0], *([f, d, x, 9 * (abs(float(x)) > 9)] for f, d, x, _ in r[1:])], "no dose on"),
        ("depth_doses.csv", lambda r: [*r[:5], ["30", "15", "-4"], *r[6:]], "a dose is negative"),
        ("output_factors.csv", lambda r: [r[0], *([f, 2 * float(s), c] for f, s, c in r[1:])], "so divide all by it"),
        ("output_factors.csv", lambda r: [x for x in r if x[0] != "100"], "lacks the reference field of 100 mm"),
        ("output_factors.csv", lambda r: r[:-1], "has no factor for the field of 400 mm"),
        ("output_factors.csv", lambda r: [*r[:-1], ["400", "0", "1"]], "every factor must be positive"),
        ("profiles.csv", lambda r: [r[0], *([f, d, float(x) / 10, v] for f, d, x, v in r[1:])], "column position_cm"),
        ("profiles.csv", lambda r: [*r, ["60", "50", "-40", "1"], ["60", "50", "40", "1"]], "multiply by 100"),
        ("profiles.csv", lambda r: [*r, ["60", "50", "-40", "9"], ["60", "50", "40", "9"]], "lacks a depth dose of"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_right_is_refused(tables, file, change, message):
    rewrite(tables / file, change)
    with pytest.raises(InputError, match=message):
        read_measurements(tables)


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ("gy_per_mu = 0.01", "gy_per_mu = 1.0", "gy_per_mu is 1, not within 0.001 to 0.05; it is in Gy per MU"),
        ("depth_mm = 15.0", "depth_mm = 1.5", "reference.depth_mm is 1.5, not within 5 to 300; it is in mm"),
        ("output_factor_depth_mm = 100.0", "output_factor_depth_mm = 10.0", "output_factor_depth_mm is 10, not within"),
        ("ssd_mm = 1000.0", "ssd_mm = 100.0", "reference.ssd_mm is 100, not within"),
        ("energy_mv = 6.0", 'energy_mv = 6.0\nlike = "photons_Generic.mat"', "like must name a shipped machine"),
    ],
)
def test_reference_conditions_in_another_unit_are_refused(tables, was, becomes, message):
    settings = tables / "measurements.toml"
    text = settings.read_text(encoding="utf-8")
    assert was in text
    settings.write_text(text.replace(was, becomes), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_measurements(tables)


def test_a_missing_file_and_an_unknown_setting_are_named(tables, tmp_path):
    settings = tables / "measurements.toml"
    settings.write_text("temperature = 20\n" + settings.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(InputError, match="unknown key 'temperature'"):
        read_measurements(tables)
    (tables / "profiles.csv").unlink()
    settings.write_text(settings.read_text(encoding="utf-8").partition("\n")[2], encoding="utf-8")
    with pytest.raises(InputError, match=r"profiles\.csv'"):
        read_measurements(tables)
    with pytest.raises(InputError, match="is not a folder of measurements"):
        read_measurements(tmp_path / "nowhere")
