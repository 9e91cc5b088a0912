import numpy as np
import pytest
from Core.pipeline_samples import a_virtual_case
from numpy.testing import assert_allclose

from deeprt.beams import BeamAngles
from deeprt.errors import InputError
from deeprt.machine_file import read_machine
from deeprt.orientation.selection import equispaced_angles, select_beams
from deeprt.orientation.teacher import CandidateSettings


def selected(method, n_beams, **options):
    return select_beams(a_virtual_case(), read_machine("generic_6mv"), method, n_beams, CandidateSettings(), **options)


@pytest.mark.parametrize("n_beams", [1, 2, 5, 7, 9])
def test_equispaced_beams_divide_the_circle(n_beams):
    gantry = [a.gantry_deg for a in equispaced_angles(n_beams, first_gantry_deg=200.0)]
    assert gantry[0] == 200.0
    assert len(set(gantry)) == n_beams
    steps = np.diff([*gantry, gantry[0]]) % 360.0
    assert_allclose(steps[steps > 0], 360.0 / n_beams, atol=0.1)  # angles are rounded to a tenth of a degree


def test_an_equispaced_selection_chooses_all_its_candidates_without_fitness():
    selection = selected("equispaced", 4, first_gantry_deg=10.0)
    assert selection.angles == equispaced_angles(4, first_gantry_deg=10.0)
    assert {(a.couch_deg, a.collimator_deg) for a in selection.angles} == {(0.0, 0.0)}
    assert (selection.source, selection.n_steps, selection.n_given) == ("equispaced", 0, 0)


def test_no_beam_is_refused():
    with pytest.raises(InputError, match="number of beams must be at least 1, got 0"):
        equispaced_angles(0)


def test_a_network_is_not_available_yet_and_says_so():
    with pytest.raises(InputError, match="Beam selection by network is not available in this version"):
        selected("network", 5)


def test_equispaced_beams_cannot_go_on_from_given_ones():
    with pytest.raises(InputError, match="Equispaced beams cannot go on from given ones"):
        selected("equispaced", 5, given=(BeamAngles(10.0),))


def test_more_given_beams_than_wanted_are_refused():
    with pytest.raises(InputError, match="2 beams are given, but only 1 are wanted in all"):
        selected("column-generation", 1, given=(BeamAngles(10.0), BeamAngles(90.0)))
