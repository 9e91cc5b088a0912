import numpy as np
import pytest
from numpy.testing import assert_allclose

from deeprt.errors import InputError
from deeprt.orientation.selection import equispaced_angles, select_angles


@pytest.mark.parametrize("n_beams", [1, 2, 5, 7, 9])
def test_equispaced_beams_divide_the_circle(n_beams):
    gantry = [a.gantry_deg for a in equispaced_angles(n_beams, first_gantry_deg=200.0)]
    assert gantry[0] == 200.0
    steps = np.diff([*gantry, gantry[0]]) % 360.0
    assert_allclose(steps[steps > 0], 360.0 / n_beams, atol=0.1)  # angles are rounded to what a gantry shows
    assert len(set(gantry)) == n_beams


def test_equispaced_beams_are_coplanar_and_share_their_collimator():
    angles = select_angles("equispaced", 4, first_gantry_deg=10.0, collimator_deg=-30.0)
    assert angles == equispaced_angles(4, first_gantry_deg=10.0, collimator_deg=330.0)
    assert {(a.couch_deg, a.collimator_deg) for a in angles} == {(0.0, 330.0)}


def test_no_beam_is_refused():
    with pytest.raises(InputError, match="number of beams must be at least 1, got 0"):
        equispaced_angles(0)


@pytest.mark.parametrize("method", ["column-generation", "network"])
def test_methods_of_later_versions_say_so(method):
    with pytest.raises(InputError, match=f"Beam selection by '{method}' is not available in this version; use 'equi"):
        select_angles(method, 5)
