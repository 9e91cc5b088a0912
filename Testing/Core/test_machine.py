"""Machine files: every number has its source, and every mistake is named."""

import json
from dataclasses import fields
from importlib import resources

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.errors import InputError
from deeprt.machine import Clearance, HeadScatter, Jaws, Kernels, Machine, Mlc, OffAxis, Output
from deeprt.machine_file import machine_names, read_machine

SECTIONS = {"mlc": Mlc, "jaws": Jaws, "clearance": Clearance, "kernels": Kernels, "head_scatter": HeadScatter,
            "off_axis": OffAxis, "output": Output}  # fmt: skip


def the_shipped_file(name="generic_6mv"):
    file = resources.files("deeprt") / "data" / "machines" / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.fixture
def read_changed(tmp_path):
    """Read the shipped machine after a change to its content."""

    def read(change):
        content = the_shipped_file()
        change(content)
        path = tmp_path / "mine.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return read_machine(path)

    return read


@pytest.mark.parametrize("name", machine_names())
def test_every_number_in_a_shipped_file_has_its_source(name):
    content = the_shipped_file(name)
    entries = [entry for key, entry in content.items() if key not in SECTIONS and key != "comment"]
    entries += [entry for section in SECTIONS for entry in content[section].values()]
    assert len(entries) == len(fields(Machine)) - len(SECTIONS) + sum(len(fields(s)) for s in SECTIONS.values())
    for entry in entries:
        assert set(entry) == {"value", "source"}
        assert isinstance(entry["source"], str) and entry["source"].strip()


def test_values_arrive_under_their_names():
    machine, content = read_machine("generic_6mv"), the_shipped_file()
    for section in SECTIONS:
        for key, entry in content[section].items():
            assert_array_equal(getattr(getattr(machine, section), key), entry["value"])
    assert machine.name == content["name"]["value"] == "generic_6mv"
    assert machine.sad_mm == content["sad_mm"]["value"]


def test_the_generic_collimator_has_the_leaves_of_a_millennium_120():
    mlc = read_machine("generic_6mv").mlc
    widths = np.diff(mlc.leaf_edges_mm)
    assert mlc.n_pairs == 60
    assert_array_equal(widths, [10.0] * 10 + [5.0] * 40 + [10.0] * 10)
    assert_allclose(mlc.leaf_edges_mm, -mlc.leaf_edges_mm[::-1])


def test_a_machine_file_is_read_by_its_path(read_changed):
    assert read_changed(lambda m: m["sad_mm"].update(value=1001.5)).sad_mm == 1001.5


def test_an_unknown_machine_lists_the_known_ones():
    with pytest.raises(InputError, match=r"No machine 'brand_new': it is neither a file nor one of .*generic_6mv"):
        read_machine("brand_new")


def test_a_file_that_is_no_json_is_an_error(tmp_path):
    for name, content in (("cut.json", b'{"name": '), ("binary.json", b"\xff\xfe\x00\x81")):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"Machine file '.*{name}' is not valid JSON"):
            read_machine(path)


def test_json_that_is_no_object_is_an_error(tmp_path):
    path = tmp_path / "list.json"
    path.write_text("[1, 2]")
    with pytest.raises(InputError, match="expected a JSON object, got list"):
        read_machine(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("sad_mm"), r"mine.json': entry 'sad_mm' is missing"),
        (lambda m: m.pop("kernels"), r"mine.json': entry 'kernels' is missing"),
        (lambda m: m["mlc"].pop("min_gap_mm"), r"section 'mlc': entry 'min_gap_mm' is missing"),
        (lambda m: m.update(sad_cm=1), r"unknown entry 'sad_cm'; known are name, energy_mv, sad_mm"),
        (lambda m: m["jaws"].update(max_z_mm=1), r"section 'jaws': unknown entry 'max_z_mm'; known are max_x_mm"),
        (lambda m: m.update(sad_mm=1000.0), r"entry 'sad_mm' must be an object with 'value' and 'source'"),
        (lambda m: m["sad_mm"].pop("source"), r"entry 'sad_mm' must be an object with 'value' and 'source'"),
        (lambda m: m.update(mlc=[]), r"section 'mlc': expected a JSON object, got list"),
        (lambda m: m["mlc"]["transmission"].update(value=1.2), r"transmission must lie in 0 to 1, got 1.2"),
        (lambda m: m["mlc"]["leaf_edges_mm"].update(value=[5.0, 5.0]), r"MLC leaf edges must increase"),
        (lambda m: m["kernels"]["beta_per_mm"].update(value=[0.1, 0.2]), r"three beta and a \(3, n_gaussians\) weight"),
        (lambda m: m["kernels"]["beta_per_mm"].update(value=[0.3, 0.2, m["kernels"]["attenuation_per_mm"]["value"]]),
         r"no beta may equal"),
        (lambda m: m["kernels"]["beta_per_mm"].update(value=0.3), r"mine.json'"),
        (lambda m: m["mlc"]["tip_offset_mm"].update(value=-1.0), r"MLC tip offset must not be negative"),
        (lambda m: m["off_axis"]["radius_mm"].update(value=[5.0] * 10), r"Off-axis ratio: needs increasing radii"),
        (lambda m: m["head_scatter"]["factor"]["value"].__setitem__(0, 0.0), r"Head scatter: every value must be pos"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_named(read_changed, change, message):
    with pytest.raises(InputError, match=message):
        read_changed(change)


def test_a_comment_is_allowed_anywhere(read_changed):
    def comment(content):
        content["comment"] = content["mlc"]["comment"] = "measured by us"

    assert read_changed(comment).mlc.n_pairs == 60
