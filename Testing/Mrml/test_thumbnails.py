from dataclasses import replace

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from Core.samples import a_field
from matplotlib import colormaps
from PIL import Image

from deeprt.beams import BeamAngles
from deeprt_mrml.thumbnails import write_difference_strip, write_fluence_strip

X_EDGES, Y_EDGES = 5.0 * np.arange(-8, 9), 5.0 * np.arange(-8, 9)


def a_beam(n, **changes):
    beam = a_field(BeamAngles(40.0 * n), np.zeros(3), X_EDGES, Y_EDGES)
    return replace(beam, name=f"Beam {n}", **changes)


BEAMS = tuple(a_beam(n) for n in range(1, 10))


def pixels(path):
    return np.asarray(Image.open(path).convert("RGBA"))


def n_pixels(path, value, colors):
    """How many pixels have the color of a value between 0 and 1."""
    color = np.array(colormaps[colors](value, bytes=True))
    return int((np.abs(pixels(path).astype(int) - color).max(axis=2) <= 2).sum())


def test_all_maps_share_one_scale(tmp_path):
    """Half the scale's top has the color of one half, also where it is the map's highest; but for the color bar."""
    maps = [np.full((16, 16), 10.0), np.full((16, 16), 20.0)]
    write_fluence_strip(tmp_path / "strip.png", BEAMS[:2], maps)
    areas = [n_pixels(tmp_path / "strip.png", value, "cividis") for value in (0.5, 1.0)]
    assert min(areas) > 8000
    assert areas[0] == pytest.approx(areas[1], rel=0.05)
    write_fluence_strip(tmp_path / "wider.png", BEAMS[:2], maps, top_mu=40.0)
    assert n_pixels(tmp_path / "wider.png", 0.25, "cividis") == pytest.approx(areas[0], rel=0.05)


def test_maps_are_seen_from_the_source_with_yb_up_and_xb_to_the_right(tmp_path):
    fluence = np.zeros((16, 16))
    fluence[12:, 10:] = 5.0  # +Yb, +Xb
    write_fluence_strip(tmp_path / "strip.png", BEAMS[:1], [fluence], top_mu=10.0)
    shown = pixels(tmp_path / "strip.png").astype(int)
    hit = np.abs(shown - np.array(colormaps["cividis"](0.5, bytes=True))).max(axis=2) <= 2
    ground = np.abs(shown - np.array(colormaps["cividis"](0.0, bytes=True))).max(axis=2) <= 2
    (y, x), (y0, x0) = (np.median(np.nonzero(m), axis=1) for m in (hit, ground))
    assert y < y0
    assert x > x0


def test_closed_beamlets_and_the_background_let_the_panel_show_through(tmp_path):
    is_open = np.zeros((16, 16), bool)
    is_open[4:12, 4:12] = True
    beam = a_beam(1, open_beamlets=is_open)
    write_fluence_strip(tmp_path / "strip.png", [beam], [5.0 * is_open])
    write_fluence_strip(tmp_path / "open.png", [a_beam(1)], [5.0 * is_open])
    assert pixels(tmp_path / "strip.png")[0, 0, 3] == 0
    assert n_pixels(tmp_path / "strip.png", 0.0, "cividis") < n_pixels(tmp_path / "open.png", 0.0, "cividis") / 5


def test_differences_are_symmetric_about_zero(tmp_path):
    up, down = np.full((16, 16), 3.0), np.full((16, 16), -6.0)
    write_difference_strip(tmp_path / "strip.png", BEAMS[:2], [up, down])
    for value in (0.75, 0.0):
        assert n_pixels(tmp_path / "strip.png", value, "coolwarm") > 8000


def test_a_long_strip_is_broken_into_rows(tmp_path):
    maps = [np.ones((16, 16))] * 9
    sizes = []
    for n_columns in (9, 5):
        write_fluence_strip(tmp_path / "strip.png", BEAMS, maps, n_columns=n_columns)
        sizes.append(Image.open(tmp_path / "strip.png").size)
    assert sizes[1][0] < sizes[0][0]
    assert sizes[1][1] > 1.5 * sizes[0][1]


def test_titles_can_be_given_and_change_the_picture(tmp_path):
    maps = [np.ones((16, 16))] * 2
    write_fluence_strip(tmp_path / "names.png", BEAMS[:2], maps)
    write_fluence_strip(tmp_path / "titles.png", BEAMS[:2], maps, titles=["predicted", "optimized"])
    assert (pixels(tmp_path / "names.png") != pixels(tmp_path / "titles.png")).any()


@pytest.mark.parametrize("maps", [[], [np.zeros((16, 16))]])
def test_no_fluence_makes_a_picture_all_the_same(tmp_path, maps):
    write_fluence_strip(tmp_path / "strip.png", BEAMS[: len(maps)], maps)
    assert Image.open(tmp_path / "strip.png").size[0] > 50


def test_a_map_of_other_beamlets_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Beam 1: the fluence has shape \(16, 15\), its beamlets \(16, 16\)"):
        write_fluence_strip(tmp_path / "strip.png", BEAMS[:1], [np.zeros((16, 15))])
    assert not (tmp_path / "strip.png").exists()
