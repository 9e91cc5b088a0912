"""Notes where beams lie outside of what a network has learned; those about patients are tested with each network."""

from dataclasses import replace

import pytest
from Core.network_samples import a_card
from Core.plan_samples import a_case

from deeprt.beams import BeamAngles, place_beams
from deeprt.machine_file import read_machine
from deeprt.networks.beyond_training import other_beams, other_number

MACHINE = read_machine("generic_6mv")
CARD = replace(a_card(), network="network", n_beams_min=2, n_beams_max=4, energy_mv=6.0, candidates="coplanar")


def notes_of(*angles, card=CARD):
    beams = place_beams(a_case(), [BeamAngles(*a) for a in angles], MACHINE, beamlet_width_mm=10.0)
    return other_beams(card, beams, MACHINE)


def test_beams_as_learned_are_not_noted():
    assert notes_of((0,), (90,)) == ()


def test_beams_of_another_energy_are_noted():
    (note,) = notes_of((0,), (90,), card=replace(CARD, energy_mv=15.0))
    assert note == "The network has learned from beams of 15 MV, not 6 MV."
    assert notes_of((0,), (90,), card=replace(CARD, energy_mv=None)) == ()


def test_beams_that_leave_the_transverse_plane_are_noted():
    assert notes_of((0,), (90, 10)) == ("The network has learned from coplanar beams only.",)
    assert notes_of((0, 30), (180, 330), (90, 180)) == ()  # these stay in it
    assert notes_of((0,), (90, 10), card=replace(CARD, candidates="noncoplanar:6")) == ()


@pytest.mark.parametrize(
    ("least", "n_beams", "known"), [(2, 1, "2 to 4 beams, not 1"), (2, 5, "2 to 4 beams, not 5"),
                                    (1, 5, "up to 4 beams, not 5"), (4, 3, "4 beams, not 3")]
)  # fmt: skip
def test_other_numbers_of_beams_are_noted(least, n_beams, known):
    card = replace(CARD, n_beams_min=least)
    assert other_number(card, n_beams) == (f"The network has learned from plans of {known}.",)
    assert other_number(card, 4) == ()


def test_every_reason_is_a_note_of_its_own():
    assert len(notes_of((90, 10), card=replace(CARD, energy_mv=15.0))) == 3
