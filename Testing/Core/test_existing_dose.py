"""The dose of a plan read from DICOM: our own comes back, beams find their machine, the numbers of a second check."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from Core.existing_plan_samples import a_moving_beam, saved
from Core.plan_samples import a_dicom_identity
from Core.samples import (
    MACHINE,
    a_centered_grid,
    a_field,
    a_one_beam_plan,
    a_uniform_phantom,
    an_oblique_grid,
    depth_in_box,
    some_angles,
)
from numpy.testing import assert_allclose

from deeprt.beams import BeamAngles, source_to_surface_mm
from deeprt.case import PatientCase
from deeprt.delivery.dose_of_plan import dose_of_plan
from deeprt.delivery.existing_dose import dose_of_existing_plan
from deeprt.delivery.existing_plan import WITHDRAWN_MM, ExistingPlan, PlannedBeam, with_machines
from deeprt.dicom.read_plan import read_plan
from deeprt.dicom.write_plan import plan_dataset
from deeprt.dose.influence import dose_influence
from deeprt.dose.kernels import axis_dose
from deeprt.errors import InputError
from deeprt.machine import HeadScatter
from deeprt.structures import Role, Structure

# As `with_machines` gives it to a beam without leaves.
OPEN = replace(MACHINE, mlc=replace(MACHINE.mlc, leaf_edges_mm=np.array([-WITHDRAWN_MM, WITHDRAWN_MM])))


def a_plan(*beams: PlannedBeam, **changes: str) -> ExistingPlan:
    return replace(ExistingPlan("p", "system", "1.2", "1.2.3", "", "", "HFS", beams, (), ()), **changes)


def an_open_beam(*, isocenter_lps=(0.0, 0.0, 0.0), half_mm=50.0, gantry_deg=0.0) -> PlannedBeam:
    """A square field of the jaws alone."""
    tips = np.full((2, 1), WITHDRAWN_MM)
    return replace(
        a_moving_beam(np.random.default_rng(1)),
        name="Open",
        angles=BeamAngles(gantry_deg),
        isocenter_lps=np.array(isocenter_lps, float),
        mu=100.0,
        meterset=np.array([0.0, 1.0]),
        jaws_mm=np.tile([-half_mm, half_mm] * 2, (2, 1)),
        leaf_edges_mm=np.array([-WITHDRAWN_MM, WITHDRAWN_MM]),
        left_mm=-tips,
        right_mm=tips,
    )


def test_our_own_plan_read_back_gives_the_dose_it_was_planned_with(tmp_path: Path) -> None:
    case = replace(a_uniform_phantom(an_oblique_grid()), dicom=a_dicom_identity())
    # Angles in tenths of degrees, isocenter in hundredths of millimeters, as they are written.
    beam = a_field(BeamAngles(281.5, 344.5, 95.0), np.round(case.grid.center_lps + 5, 2), [-40.0, 40.0], [-40.0, 40.0])
    openings = [(-23.0, 31.0, -20.0, 15.0, 37.0), (-10.37, 12.64, -30.0, 40.0, 21.3)]
    plan = a_one_beam_plan(beam, openings, jaws=(-31.5, 33.25, -33.0, 27.5))
    expected = dose_of_plan(plan, dose_influence(case, [beam], MACHINE))
    path = saved(plan_dataset(case, plan, label="own", structure_set_uid="1.2.3"), tmp_path)
    read, machines = with_machines(read_plan(path), [MACHINE])
    found = dose_of_existing_plan(case, read, machines)
    assert read.unsupported == () and found.notes == ()
    assert_allclose(found.dose_gy, expected, atol=2e-6 * expected.max())  # float32


def test_an_open_field_gives_the_closed_form_on_its_axis() -> None:
    grid = a_centered_grid(n=41, spacing_mm=8.0)
    case = a_uniform_phantom(grid)
    depth = 41 * 8.0 / 2
    result = dose_of_existing_plan(case, a_plan(an_open_beam(gantry_deg=90.0)), [OPEN])
    (part,) = result.beams
    # The horns bend the fluence around the axis a little, which the closed form on the axis does not know.
    scatter = MACHINE.head_scatter.of_opening(100.0, 100.0)
    expected = 100 * scatter * axis_dose(MACHINE, [depth], field_mm=100.0, ssd_mm=1000.0 - depth)[0]
    assert_allclose(part.isocenter_gy_per_fraction, expected, rtol=0.02)
    assert_allclose(part.effective_depth_mm, depth, rtol=1e-5)
    assert_allclose(part.ssd_mm, 1000.0 - depth, atol=0.01)
    assert_allclose(part.equivalent_square_mm, 100.0)
    assert_allclose(result.isocenters_gy, [5 * part.isocenter_gy_per_fraction], rtol=1e-6)


def test_fractions_belong_to_each_beam() -> None:
    case = a_uniform_phantom(a_centered_grid(n=15, spacing_mm=8.0))
    beam = an_open_beam()
    once = dose_of_existing_plan(case, a_plan(replace(beam, n_fractions=1)), [OPEN]).dose_gy
    both = a_plan(replace(beam, n_fractions=3), replace(beam, n_fractions=4))
    assert_allclose(dose_of_existing_plan(case, both, [OPEN] * 2).dose_gy, 7 * once, rtol=1e-5)


def test_a_sliding_window_over_the_field_is_the_open_field_for_its_share_of_the_time() -> None:
    case = a_uniform_phantom(a_centered_grid(n=21, spacing_mm=8.0))
    machine = replace(MACHINE, mlc=replace(MACHINE.mlc, transmission=0.0, tip_offset_mm=0.0))
    edges = np.array([-60.0, 0.0, 60.0])
    # A gap of 30 mm passes over 100 mm and back out: every point is open for 30 of 130 mm.
    left = np.array([[-80.0, -80.0], [50.0, 50.0]])
    window = replace(an_open_beam(), leaf_edges_mm=edges, left_mm=left, right_mm=left + 30.0)
    machines = [replace(machine, mlc=replace(machine.mlc, leaf_edges_mm=edges))]
    opened = dose_of_existing_plan(case, a_plan(an_open_beam()), [OPEN]).dose_gy
    found = dose_of_existing_plan(case, a_plan(window), machines).dose_gy
    assert_allclose(found, opened * 30 / 130, atol=1e-5 * opened.max())


def test_jaws_that_move_change_the_head_scatter() -> None:
    case = a_uniform_phantom(a_centered_grid(n=15, spacing_mm=8.0))
    scatter = HeadScatter(np.array([50.0, 100.0]), np.array([0.9, 1.0]))
    machine = replace(OPEN, head_scatter=scatter)
    beam = an_open_beam()
    jaws = np.array([[-50.0, 50, -50, 50], [-50, 50, -50, 50], [-25, 25, -25, 25], [-25, 25, -25, 25]])
    tips = np.full((4, 1), WITHDRAWN_MM)
    stepping = replace(beam, meterset=np.array([0.0, 0.5, 0.5, 1.0]), jaws_mm=jaws, left_mm=-tips, right_mm=tips)
    halves = [replace(an_open_beam(half_mm=h), mu=50.0) for h in (50.0, 25.0)]
    expected = dose_of_existing_plan(case, a_plan(*halves), [machine] * 2).dose_gy
    found = dose_of_existing_plan(case, a_plan(stepping), [machine]).dose_gy
    # The horns are taken at pixel centers, and the pixels differ.
    assert_allclose(found, expected, atol=2e-3 * expected.max())


def test_the_surface_is_found_on_an_oblique_grid_and_missed_beside_it() -> None:
    grid = an_oblique_grid()
    case = a_uniform_phantom(grid)
    beam = a_field(some_angles()[1], grid.center_lps + np.array([5.0, -4.0, 6.0]), [-1.0, 1.0], [-1.0, 1.0])
    expected = 1000.0 - depth_in_box(grid, beam.source_lps, beam.isocenter_lps[None])[0]
    # Where the axis meets the face at an angle, half a voxel's share lies within a fraction of a voxel of the face.
    assert_allclose(source_to_surface_mm(case, beam), expected, atol=0.5)
    aside = a_field(BeamAngles(0.0), grid.center_lps + np.array([400.0, 0, 0]), [-1.0, 1.0], [-1.0, 1.0])
    assert source_to_surface_mm(case, aside) is None


def test_each_beam_gets_the_machine_of_its_energy_with_the_plans_leaves() -> None:
    beam = a_moving_beam(np.random.default_rng(1))
    other = replace(MACHINE, name="other", energy_mv=15.0)
    plan, machines = with_machines(a_plan(replace(beam, energy_mv=15.0), beam), [MACHINE, other])
    assert [m.name for m in machines] == ["other", MACHINE.name]
    assert all(m.mlc.leaf_edges_mm is beam.leaf_edges_mm for m in machines)
    assert plan.notes[0] == "'linac' is computed as other, 15 MV, with the 5 leaf pairs of the plan."


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"energy_mv": 10.0}, r"Beam 3 'Moving' has 10 MV, and there is no machine of that energy \(there are: "),
        ({"is_flattened": False}, "Beam 3 'Moving' has 6 MV without flattening filter"),
        ({"sad_mm": 800.0}, "Beam 3 'Moving' has its axis 800 mm from the source, .* 1000 mm"),
    ],
)
def test_a_beam_without_machine_is_not_supported(change: dict[str, float], reason: str) -> None:
    plan, machines = with_machines(a_plan(replace(a_moving_beam(np.random.default_rng(1)), **change)), [MACHINE])
    assert plan.beams == machines == ()
    assert re.match(reason, plan.unsupported[0].reason)
    with pytest.raises(InputError, match="No beam of the plan is left"):
        dose_of_existing_plan(a_uniform_phantom(a_centered_grid(n=5)), plan, machines)


def test_a_machine_that_the_user_chose_may_be_without_flattening_filter() -> None:
    beam = replace(a_moving_beam(np.random.default_rng(1)), is_flattened=False)
    assert with_machines(a_plan(beam), [MACHINE], machines_are_chosen=True)[0].beams == (beam,)


def test_a_plan_of_another_patient_is_refused_or_noted() -> None:
    case = replace(a_uniform_phantom(a_centered_grid(n=9)), dicom=a_dicom_identity())
    with pytest.raises(InputError, match="in position FFS, the case is HFS"):
        dose_of_existing_plan(case, a_plan(an_open_beam(), position="FFS"), [OPEN])
    with pytest.raises(InputError, match=r"Beam 3 'Open' has its isocenter at \(900, 0, 0\) mm, 882 mm outside"):
        dose_of_existing_plan(case, a_plan(an_open_beam(isocenter_lps=(900.0, 0, 0))), [OPEN])
    plan = a_plan(an_open_beam(), frame_of_reference_uid="9.9", patient_id="ID-77")
    assert dose_of_existing_plan(case, plan, [OPEN]).notes == (
        "The plan lies in the frame of reference 9.9, the case in 1.2.3.4.6.",
    )
    plan = a_plan(an_open_beam(isocenter_lps=(0.0, -40.0, 0.0)), position="")
    notes = dose_of_existing_plan(case, plan, [OPEN]).notes
    assert [n.split(" ")[-2:] for n in notes] == [
        ["share", "one."], ["patient", "IDs."], ["is", "taken."], ["the", "patient."],
    ]  # fmt: skip


def test_a_bolus_attenuates_in_the_beams_that_have_one_unless_the_ct_shows_it() -> None:
    phantom = a_uniform_phantom(a_centered_grid(n=21, spacing_mm=5.0))
    y = phantom.grid.points_lps()[:, 1].reshape(phantom.grid.shape)
    body = Structure("Body", Role.EXTERNAL, (y > -40).astype(np.float32))
    bolus = Structure("Bolus", Role.BOLUS, ((y < -40) & (y > -52)).astype(np.float32), density=1.0)
    case = replace(phantom, structures=(body, *phantom.structures[1:], bolus))
    bare = an_open_beam()

    def depth(case: PatientCase, beam: PlannedBeam) -> float:
        return dose_of_existing_plan(case, a_plan(beam), [OPEN]).beams[0].effective_depth_mm

    covered = replace(bare, has_bolus=True)
    assert_allclose(depth(case, covered) - depth(case, bare), 10.0, atol=1e-3)
    shown = replace(case, structures=(*case.structures[:-1], replace(bolus, density=None)))
    assert_allclose([depth(shown, bare), depth(shown, covered)], depth(case, covered), atol=1e-3)
    with pytest.raises(InputError, match=r"Beam 3 'Open' has a bolus, but no structure of the case is one"):
        depth(replace(case, structures=case.structures[:-1]), covered)


def test_two_machines_of_one_energy_are_refused() -> None:
    with pytest.raises(InputError, match="both have 6 MV; give one of them"):
        with_machines(a_plan(an_open_beam()), [MACHINE, replace(MACHINE, name="other")])


def test_closed_jaws_are_refused() -> None:
    case = a_uniform_phantom(a_centered_grid(n=9))
    with pytest.raises(InputError, match="Beam 3 'Open' is closed"):
        dose_of_existing_plan(case, a_plan(an_open_beam(half_mm=0.0)), [OPEN])


def test_the_stated_dose_point_is_computed_too_and_moves_with_the_plan() -> None:
    case = a_uniform_phantom(a_centered_grid(n=15, spacing_mm=8.0))
    beam = replace(an_open_beam(), point_lps=np.zeros(3), stated_point_gy_per_fraction=0.8)
    (part,) = dose_of_existing_plan(case, a_plan(beam), [OPEN]).beams
    assert part.point_gy_per_fraction == pytest.approx(part.isocenter_gy_per_fraction, rel=1e-6)
    moved = a_plan(beam).moved(np.array([0.0, 20.0, 0.0]))
    (deeper,) = dose_of_existing_plan(case, moved, [OPEN]).beams
    assert deeper.point_gy_per_fraction == pytest.approx(deeper.isocenter_gy_per_fraction, rel=1e-6)
    assert deeper.effective_depth_mm == pytest.approx(part.effective_depth_mm + 20)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"meterset": np.array([0.0, 0.9])}, "meterset must rise from 0 to 1"),
        ({"jaws_mm": np.array([[5.0, -5, -5, 5]] * 2)}, "jaws with x1 <= x2"),
        ({"leaf_edges_mm": np.array([5.0, -5.0])}, "leaf edges must increase"),
        ({"left_mm": np.zeros((2, 3))}, "place all 1 leaf pairs"),
        ({"left_mm": np.full((2, 1), 2000.0)}, "must not lie beyond right tips"),
    ],
)
def test_a_beam_that_cannot_be_is_refused(change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(an_open_beam(), **change)
