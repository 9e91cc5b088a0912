"""Varian's fluence files, and the images of even pixels that they hold."""

import numpy as np
import pytest
from Core.samples import MASK, X_EDGES, Y_EDGES, a_field
from numpy.testing import assert_allclose

from deeprt.beams import BeamAngles, FluenceImage
from deeprt.dicom.eclipse_fluence import read_eclipse_fluence, write_eclipse_fluence
from deeprt.errors import InputError

ANGLES, ISOCENTER_LPS = BeamAngles(281.5, 344.5, 95.0), np.array([31.0, -204.5, 812.0])
EVEN_X = 2.5 * np.arange(-6, 9)
LEAVES = np.array([-40.0, -30.0, -20.0, -15.0, -10.0, -5.0, 0.0, 5.0, 15.0])  # leaves of 10 and of 5 mm


def a_beam(x_edges=EVEN_X, y_edges=LEAVES):
    return a_field(ANGLES, ISOCENTER_LPS, x_edges, y_edges)


@pytest.fixture
def fluence():
    return np.random.default_rng(3).uniform(0, 9, a_beam().open_beamlets.shape)


@pytest.fixture
def file(tmp_path, fluence):
    write_eclipse_fluence(tmp_path / "beam", a_beam(), fluence)
    return tmp_path / "beam"


# Even pixels


def test_a_pixel_has_the_fluence_of_the_beamlet_it_lies_in(fluence):
    image = FluenceImage.of(a_beam(), fluence)
    assert image.values.shape == (11, 14) and image.pixel_mm == (2.5, 5.0)
    for row, column in np.ndindex(image.values.shape):
        x, y = (first + n * size for first, n, size in zip(image.first_mm, (column, row), image.pixel_mm, strict=True))
        assert image.values[row, column] == fluence[np.searchsorted(LEAVES, y) - 1, np.searchsorted(EVEN_X, x) - 1]


def test_the_image_of_beamlets_comes_back_on_them(fluence):
    assert_allclose(FluenceImage.of(a_beam(), fluence).on_beamlets(a_beam()), fluence, rtol=1e-12)


def test_other_beamlets_get_the_mean_of_what_lies_on_them_and_none_beside_the_image(fluence):
    image = FluenceImage.of(a_beam(), fluence)
    wide = a_beam(np.array([-95.0, -15.0, 20.0, 60.0]), np.array([-90.0, -40.0, 15.0, 40.0]))
    area = np.outer(np.diff(LEAVES), np.diff(EVEN_X))
    expected = np.zeros((3, 3))
    expected[1, 1] = (fluence * area).sum() / area.sum()
    assert_allclose(image.on_beamlets(wide), expected, rtol=1e-12, atol=1e-12)
    uneven = a_beam(np.array([-14.0, -9.0, 3.3]), np.array([-33.0, 1.0, 14.0]))
    ones = FluenceImage.of(a_beam(), np.ones_like(fluence))
    assert_allclose(ones.on_beamlets(uneven), 1.0, rtol=1e-12)


def test_a_map_of_other_beamlets_is_refused(fluence):
    with pytest.raises(ValueError, match=r"Field: the fluence has shape \(8, 13\), its beamlets \(8, 14\)"):
        FluenceImage.of(a_beam(), fluence[:, 1:])


# Files


def test_the_file_begins_at_the_top_left_pixel_which_has_the_largest_yb(file, fluence):
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[:8] == [
        "optimalfluence",
        "SizeX\t14",
        "SizeY\t11",
        "SpacingX\t2.5",
        "SpacingY\t5",
        "OriginX\t-13.75",
        "OriginY\t12.5",
        "Values",
    ]
    rows = [line.split("\t") for line in lines[8:]]
    assert len(rows) == 11 and {len(row) for row in rows} == {14}
    assert_allclose(np.array(rows[0], float), fluence[-1], rtol=1e-6)
    assert_allclose(np.array(rows[-1], float), fluence[0], rtol=1e-6)


def test_what_is_written_is_read_again(file, fluence):
    image, written = read_eclipse_fluence(file), FluenceImage.of(a_beam(), fluence)
    assert image.first_mm == written.first_mm and image.pixel_mm == written.pixel_mm
    assert_allclose(image.values, written.values, rtol=1e-6)
    assert_allclose(image.on_beamlets(a_beam()), fluence, rtol=1e-6)


def test_beamlets_of_any_width_are_drawn_on_the_smallest(tmp_path):
    """Widths that are multiples of none: every pixel has the value of one beamlet, and the field keeps its place."""
    beam = a_field(ANGLES, ISOCENTER_LPS, X_EDGES, Y_EDGES, open_beamlets=MASK)
    write_eclipse_fluence(tmp_path / "beam", beam, MASK * 2.0)
    image = read_eclipse_fluence(tmp_path / "beam")
    assert set(image.values.ravel()) == {0.0, 2.0}
    assert image.first_mm[0] - image.pixel_mm[0] / 2 == pytest.approx(X_EDGES[0])
    assert image.first_mm[1] + image.pixel_mm[1] * (image.values.shape[0] - 0.5) == pytest.approx(Y_EDGES[-1])


def test_comments_spaces_and_other_capitals_are_understood(tmp_path):
    text = "# Pat ID 1, Field 2\nOptimalFluence\nsizex 2\r\nsizey  3\nspacingx 2.5\nspacingy 2.5\noriginx -1.25\n"
    (tmp_path / "other").write_text(text + "originy 3.75\nvalues\n1 2\t\n3\t4\t\n5\t6e-1\n\n", encoding="utf-8")
    image = read_eclipse_fluence(tmp_path / "other")
    assert image.values.tolist() == [[5.0, 0.6], [3.0, 4.0], [1.0, 2.0]]
    assert image.first_mm == (-1.25, -1.25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("optimalfluence", "actualfluence"), "is not a fluence file of Varian"),
        (lambda t: t.replace("Values", ""), "is not a fluence file of Varian"),
        (lambda t: "", "is not a fluence file of Varian"),
        (lambda t: t.replace("SpacingX\t2.5\n", ""), "the header must give SizeX, SizeY, SpacingX"),
        (lambda t: t.replace("SpacingX\t2.5", "SpacingX\tnarrow"), "the header must give SizeX"),
        (lambda t: t + "1\t2\n", "rows of equal length"),
        (lambda t: t.replace("SizeX\t14", "SizeX\t13"), r"has 11 x 14 values, its header says 11 x 13"),
        (lambda t: t.replace("SpacingY\t5", "SpacingY\t0"), "on pixels of positive size"),
        (lambda t: t.rsplit("\t", 1)[0] + "\tnan\n", "all finite"),
        (lambda t: t.split("Values")[0] + "Values\n", "has 0 values"),
    ],
)
def test_a_file_that_does_not_hold_fluence_is_refused_by_name(file, change, message):
    file.write_text(change(file.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(InputError, match=f"'.*beam'.*{message}"):
        read_eclipse_fluence(file)


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"Cannot read '.*missing': No such file"):
        read_eclipse_fluence(tmp_path / "missing")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(InputError, match=r"Cannot read '.*binary': it is not text"):
        read_eclipse_fluence(tmp_path / "binary")
