"""The dose of segments: open rectangles, leaf transmission, leaf positions between pixels, segments one by one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from Core.samples import MACHINE, a_field, a_one_beam_plan, a_uniform_phantom, an_oblique_grid, some_angles
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.beams import place_beams
from deeprt.delivery.dose_of_plan import dose_of_plan, segment_influence, with_segment_mu
from deeprt.delivery.segments import DeliverablePlan, JawOpening, Segment
from deeprt.dose.influence import dose_influence
from deeprt.machine import HeadScatter, OffAxis

# Sharp leaf tips, and fluence that depends on neither the jaws nor the place, so that rectangles are closed forms.
PLAIN = replace(
    MACHINE,
    mlc=replace(MACHINE.mlc, tip_offset_mm=0.0),
    head_scatter=HeadScatter(np.array([100.0]), np.array([1.0])),
    off_axis=OffAxis(np.array([0.0]), np.array([1.0])),
)
TIGHT = replace(PLAIN, mlc=replace(PLAIN.mlc, transmission=0.0))  # leaves that let nothing pass
FLOAT32 = 1e-5  # relative, of sums of some hundred products in float32
OPENING = (-23.0, 31.0, -20.0, 15.0)  # left, right, low, high: on leaf edges and whole millimeters from the jaws
JAWS = (-60.0, 55.0, -50.0, 45.0)


@pytest.fixture(scope="module")
def an_influence():
    """One turned beam on water, on every fifth voxel of an oblique grid."""
    grid = an_oblique_grid()
    beam = a_field(some_angles()[1], grid.center_lps + np.array([5.0, -4.0, 6.0]), [-30.0, 0.0, 40.0], [-30.0, 20.0])
    return dose_influence(a_uniform_phantom(grid), [beam], PLAIN, voxels=np.arange(0, grid.n_voxels, 5))


def dose_of(influence, openings, *, machine=TIGHT, jaws=JAWS):
    return dose_of_plan(a_one_beam_plan(influence.beams[0].beam, openings, jaws=jaws, machine=machine), influence)


def dose_of_rectangle(influence, left, right, low, high, mu, *, n_fractions=20):
    """Whole-course dose of one rectangular pixel of fluence."""
    pixel = influence.beams[0].on_pixels(np.array([left, right]), np.array([low, high]))
    return influence.to_volume(n_fractions * pixel.dose(torch.tensor([[mu]]))[0])


def test_an_open_rectangle_gives_the_dose_of_the_same_rectangle_of_fluence(an_influence):
    expected = dose_of_rectangle(an_influence, *OPENING, 37.0)
    assert_allclose(dose_of(an_influence, [(*OPENING, 37.0)]), expected, atol=FLOAT32 * expected.max())


def test_leaf_tips_anywhere_give_nearly_the_dose_of_their_rectangle(an_influence):
    left, right, low, high = -22.63, 30.41, -20.0, 15.0
    expected = dose_of_rectangle(an_influence, left, right, low, high, 37.0)
    # A pixel of h = 1 mm that is open to a share a spreads its fluence: h² a(1 − a)/2 ≤ h²/8 times the slope of the
    # penumbra's profile, at most 0.24/σ² per mm², which is 0.6 % for σ = 2.2 mm.
    assert_allclose(dose_of(an_influence, [(left, right, low, high, 37.0)]), expected, atol=0.006 * expected.max())


def test_jaws_cut_the_opening_of_the_leaves_also_within_a_leaf(an_influence):
    jaws = (-20.0, 25.0, -18.0, 12.5)
    expected = dose_of_rectangle(an_influence, *jaws, 37.0)
    assert_allclose(dose_of(an_influence, [(*OPENING, 37.0)], jaws=jaws), expected, atol=FLOAT32 * expected.max())


def test_transmission_adds_its_share_of_the_field_that_the_leaves_close(an_influence):
    leaky = replace(PLAIN, mlc=replace(PLAIN.mlc, transmission=0.04))
    openings = [(*OPENING, 37.0), (-10.0, 12.0, -30.0, 40.0, 21.0)]
    between_jaws = dose_of_rectangle(an_influence, *JAWS, 58.0)
    closed = between_jaws - dose_of(an_influence, openings)
    added = dose_of(an_influence, openings, machine=leaky) - dose_of(an_influence, openings)
    assert_allclose(added, 0.04 * closed, atol=FLOAT32 * between_jaws.max())


def test_closed_leaves_leave_transmission_alone(an_influence):
    expected = PLAIN.mlc.transmission * dose_of_rectangle(an_influence, *JAWS, 50.0)
    found = dose_of(an_influence, [(0.0, 0.0, -25.0, 15.0, 50.0)], machine=PLAIN)
    assert_allclose(found, expected, atol=FLOAT32 * expected.max())


def test_rounded_tips_widen_an_opening_by_their_offset_on_either_side(an_influence):
    rounded = replace(TIGHT, mlc=replace(TIGHT.mlc, tip_offset_mm=1.25))
    low, high = JAWS[2:]  # every pair between the jaws is open; closed ones would leave a slit
    expected = dose_of(an_influence, [(-24.25, 32.25, low, high, 37.0)])
    found = dose_of(an_influence, [(-23.0, 31.0, low, high, 37.0)], machine=rounded)
    assert_allclose(found, expected, atol=FLOAT32 * expected.max())


def test_dose_changes_linearly_as_a_leaf_crosses_a_pixel(an_influence):
    left, _, low, high = OPENING
    start, half, whole = (dose_of(an_influence, [(left, 31.0 + step, low, high, 37.0)]) for step in (0.0, 0.5, 1.0))
    assert_allclose(half, (start + whole) / 2, atol=FLOAT32 * whole.max())
    added = dose_of_rectangle(an_influence, 31.0, 32.0, low, high, 37.0)
    assert_allclose(half - start, added / 2, atol=FLOAT32 * whole.max())


def test_a_course_has_as_many_doses_as_fractions(an_influence):
    beam = an_influence.beams[0].beam
    plans = [a_one_beam_plan(beam, [(*OPENING, 37.0)], n_fractions=n) for n in (1, 25)]
    one, course = (dose_of_plan(plan, an_influence) for plan in plans)
    assert_allclose(course, 25 * one, rtol=1e-5)


def test_dose_is_float32_on_the_whole_grid_and_zero_where_none_was_asked(an_influence):
    dose = dose_of(an_influence, [(*OPENING, 37.0)])
    assert dose.shape == an_influence.grid_shape and dose.dtype == np.float32
    others = np.setdiff1d(np.arange(dose.size), an_influence.voxels)
    assert dose.ravel()[others].max() == 0


def a_two_beam_plan():
    """Placed beams with two and three random segments, and an influence on some voxels."""
    rng = np.random.default_rng(1)
    case = a_uniform_phantom(an_oblique_grid())
    beams = place_beams(case, some_angles()[:2], MACHINE)
    segments = []
    for beam_index in (0, 0, 1, 1, 1):
        left = rng.uniform(-30, 5, MACHINE.mlc.n_pairs)
        segments.append(Segment(beam_index, left, left + rng.uniform(0, 25, left.size), rng.uniform(2, 40)))
    jaws = (JawOpening(-31.0, 30.5, -22.0, 27.0), JawOpening(-25.0, 30.0, -33.3, 20.0))
    plan = DeliverablePlan(MACHINE, beams, jaws, tuple(segments), 13)
    return plan, dose_influence(case, beams, MACHINE, voxels=np.arange(0, case.grid.n_voxels, 7))


def test_segments_one_by_one_times_their_monitor_units_are_the_plan():
    plan, influence = a_two_beam_plan()
    operator = segment_influence(plan, influence)
    mu = torch.tensor([[s.mu for s in plan.segments]])
    expected = dose_of_plan(plan, influence)
    assert operator.n_beamlets == 5
    assert operator.device == influence.device
    assert_array_equal(operator.voxels, influence.voxels)
    assert_allclose(influence.to_volume(13 * operator.dose(mu)[0]), expected, atol=FLOAT32 * expected.max())
    for n in (0, 3):
        alone = dose_of_plan(replace(plan, segments=(plan.segments[n],)), influence)
        found = influence.to_volume(13 * plan.segments[n].mu * operator.matrix[n])
        assert_allclose(found, alone, atol=FLOAT32 * alone.max())


def test_the_adjoint_of_the_segments_passes_the_dot_test():
    operator = segment_influence(*a_two_beam_plan())
    generator = torch.Generator().manual_seed(1)
    mu, values = torch.rand(3, 5, generator=generator), torch.rand(3, operator.voxels.size, generator=generator)
    forward = (operator.dose(mu).double() * values).sum(1)
    assert_allclose(forward, (mu.double() * operator.adjoint(values)).sum(1), rtol=1e-5)


def test_other_monitor_units_scale_each_segment_and_leave_out_empty_ones():
    plan, influence = a_two_beam_plan()
    changed = with_segment_mu(plan, [1.0, 0.0, 2.0, -0.5, 4.0])
    assert [s.mu for s in changed.segments] == [1.0, 2.0, 4.0]
    assert [s.beam_index for s in changed.segments] == [0, 1, 1]
    for made, origin in zip(changed.segments, (0, 2, 4), strict=True):
        assert_array_equal(made.left_mm, plan.segments[origin].left_mm)
    doubled = with_segment_mu(plan, [2 * s.mu for s in plan.segments])
    expected = 2 * dose_of_plan(plan, influence)
    assert_allclose(dose_of_plan(doubled, influence), expected, atol=FLOAT32 * expected.max())


def test_a_plan_without_segments_gives_no_dose(an_influence):
    assert dose_of(an_influence, []).max() == 0


def test_too_few_monitor_units_are_an_error():
    plan, _ = a_two_beam_plan()
    with pytest.raises(ValueError, match=r"shorter than argument 1|longer than argument 1"):
        with_segment_mu(plan, [1.0, 2.0])
