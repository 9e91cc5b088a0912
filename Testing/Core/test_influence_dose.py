"""The dose of beams in phantoms: against the pencil-beam formula summed beamlet by beamlet, and by symmetry."""

import numpy as np
import pytest
import torch
from Core.samples import (
    MACHINE,
    X_EDGES,
    Y_EDGES,
    a_centered_grid,
    a_field,
    a_phantom,
    a_uniform_phantom,
    an_oblique_grid,
    depth_in_box,
    irregular_beams,
    random_fluence,
    share_inside,
    some_angles,
)
from numpy.testing import assert_allclose
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation
from scipy.special import erf

from deeprt.beams import BeamAngles, place_beams
from deeprt.dose.influence import dose_influence
from deeprt.dose.kernels import axis_dose
from deeprt.evaluation.gamma import gamma_index, pass_rate
from deeprt.geometry import Grid

# The convolved image is sampled every 1.25 mm and read linearly: at the edge of a field that errs by up to
# h²/8 · max|x/(√(2π) σ³) e^(−x²/2σ²)| = 1 % of the dose for the narrowest Gaussian, of σ = 2.2 mm.
IMAGE_SAMPLING = 0.012


def pencil_beam_sum(machine, fluence_mu, beam, depth_mm, distance_mm, u_mm, v_mm, scale=1.0):
    """The model's formula without its constant, summed beamlet by beamlet, kernels scaled to the SSD, (n,)."""
    kernels = machine.kernels
    m, root = kernels.attenuation_per_mm, np.sqrt(2)
    total = np.zeros(depth_mm.size)
    for row, column in zip(*np.nonzero(beam.open_beamlets), strict=True):
        x1, x2 = beam.x_edges_mm[column : column + 2]
        y1, y2 = beam.y_edges_mm[row : row + 2]
        for beta, weights in zip(kernels.beta_per_mm, kernels.weight, strict=True):
            laid_down = beta / (beta - m) * (np.exp(-m * depth_mm) - np.exp(-beta * depth_mm))
            for weight, sigma in zip(weights, kernels.sigma_mm, strict=True):
                wide = root * np.sqrt((scale * sigma) ** 2 + kernels.penumbra_sigma_mm**2)
                share = (erf((x2 - u_mm) / wide) - erf((x1 - u_mm) / wide)) / 2
                share = share * (erf((y2 - v_mm) / wide) - erf((y1 - v_mm) / wide)) / 2
                total += fluence_mu[row, column] * laid_down * weight * share
    return total * (machine.sad_mm / distance_mm) ** 2


def direct_dose(machine, fluence_mu, beam, points, depth_mm, ssd_mm):
    """Gy per fraction at points, each projected by intersecting its ray with the isocenter plane."""
    x, y, z = beam.rotation.T
    rays = points - beam.source_lps
    hits = beam.source_lps + rays * (machine.sad_mm / (rays @ -z))[:, None]
    u, v = (hits - beam.isocenter_lps) @ x, (hits - beam.isocenter_lps) @ y
    o, half = machine.output, machine.output.field_mm / 2
    reference = a_field(BeamAngles(0), (0, 0, 0), [-half, half], [-half, half])
    at = np.array([o.ssd_mm + o.depth_mm])
    calibration = pencil_beam_sum(
        machine, np.ones((1, 1)), reference, np.array([o.depth_mm]), at, np.zeros(1), np.zeros(1)
    )
    scale = (o.ssd_mm + 100.0) / (ssd_mm + 100.0)
    relative = pencil_beam_sum(machine, fluence_mu, beam, depth_mm, np.linalg.norm(rays, axis=1), u, v, scale)
    return o.gy_per_mu / calibration * relative


def depth_and_ssd(grid, beam, points):
    """Depth of points in a box of water, and the distance from the source to its surface on the axis."""
    in_water = depth_in_box(grid, beam.source_lps, beam.isocenter_lps[None])[0]
    return depth_in_box(grid, beam.source_lps, points), beam.sad_mm - in_water


def test_dose_in_water_agrees_with_the_formula_summed_beamlet_by_beamlet():
    grid = an_oblique_grid()
    case = a_uniform_phantom(grid)
    beams = irregular_beams(grid.center_lps + np.array([8.0, -5.0, 7.0]))
    voxels = np.sort(np.random.default_rng(10).choice(grid.n_voxels, 1500, replace=False))
    influence = dose_influence(case, beams, MACHINE, voxels=voxels)
    fluence = random_fluence(influence)
    points = grid.points_lps(voxels)
    expected = sum(
        direct_dose(MACHINE, image, beam, points, *depth_and_ssd(grid, beam, points))
        for beam, image in zip(beams, influence.to_maps(fluence[0]), strict=True)
    )
    difference = (influence.dose(fluence)[0].numpy() - expected) / expected.max()
    assert np.abs(difference).max() < IMAGE_SAMPLING
    assert np.abs(difference).mean() < 1e-3
    assert np.abs(difference.mean()) < 1e-4  # reading the image linearly keeps its integral
    assert expected.max() > 5 * np.median(expected)  # in the fields, at their edges and outside


def test_each_column_of_the_matrix_is_the_dose_of_one_beamlet():
    grid = an_oblique_grid()
    beam = irregular_beams(grid.center_lps)[1]
    voxels = np.arange(0, grid.n_voxels, 97)
    influence = dose_influence(a_uniform_phantom(grid), [beam], MACHINE, voxels=voxels)
    matrix, points = influence.to_sparse().toarray(), grid.points_lps(voxels)
    depth, ssd = depth_and_ssd(grid, beam, points)
    for column in range(0, influence.n_beamlets, 5):
        unit = np.zeros(beam.open_beamlets.shape)
        unit[tuple(np.argwhere(beam.open_beamlets)[column])] = 1.0
        expected = direct_dose(MACHINE, unit, beam, points, depth, ssd)
        # On the peak of a narrow beamlet the sampling errs by up to h²/8σ² in either direction.
        assert_allclose(matrix[:, column], expected, atol=2 * 1.25**2 / (8 * 2.2**2) * expected.max())


def test_dose_on_the_axis_is_the_closed_form():
    grid = a_centered_grid(61, 5.0)  # surface at 152.5 mm from the isocenter, 847.5 mm from the source
    voxels = np.flatnonzero(np.abs(grid.points_lps()[:, [0, 2]]).max(axis=1) < 0.1)
    depth = grid.points_lps(voxels)[:, 1] + 152.5
    for side in (30.0, 100.0, 250.0):
        beam = a_field(BeamAngles(0.0), (0, 0, 0), [-side / 2, side / 2], [-side / 2, side / 2])
        influence = dose_influence(a_uniform_phantom(grid), [beam], MACHINE, voxels=voxels)
        dose = influence.dose(torch.ones(1, 1))[0].numpy()
        assert_allclose(dose, axis_dose(MACHINE, depth, field_mm=side, ssd_mm=847.5), rtol=2e-4)  # density is float32


def test_layers_of_two_densities_attenuate_by_their_thickness_and_distance():
    grid = Grid.axial((21, 60, 21), (4.0, 3.0, 4.0), (-40.0, -88.5, -40.0))
    y = grid.points_lps()[:, 1].reshape(grid.shape)
    light = (y > -30) & (y < 30)
    case = a_phantom(grid, np.where(light, -700.0, 0.0))  # 60 mm of density 0.3 between layers of water
    beam = a_field(BeamAngles(0.0), (0, 0, 0), X_EDGES, Y_EDGES)
    influence = dose_influence(case, [beam], MACHINE)
    fluence = torch.ones(1, beam.n_open)
    points = grid.points_lps()
    slant = np.linalg.norm(points - beam.source_lps, axis=1) / (points[:, 1] + 1000.0)
    passed_light = np.clip(points[:, 1] + 30, 0, 60)
    depth = slant * (points[:, 1] + 90.0 - 0.7 * passed_light)
    sideways = np.abs(points[:, [0, 2]]).max(axis=1)
    inner = (sideways > 0) & (sideways < 20)  # rays that enter through the top, in the field's plateau
    expected = direct_dose(MACHINE, np.ones(beam.open_beamlets.shape), beam, points[inner], depth[inner], 910.0)
    assert_allclose(influence.dose(fluence)[0][inner], expected, rtol=IMAGE_SAMPLING)


@pytest.mark.parametrize("gantry", [0.0, 33.0, 90.0])
def test_opposed_beams_give_the_same_dose_in_a_symmetric_phantom_turned_by_half(gantry):
    grid = a_centered_grid(31, 5.0)
    hu = np.where(np.hypot(*grid.points_lps()[:, :2].T).reshape(grid.shape) < 40, -500.0, 50.0)
    case = a_phantom(grid, hu)
    ahead, back = (
        dose_influence(case, irregular_beams((0, 0, 0), [BeamAngles(g, 0.0, 25.0)]), MACHINE)
        for g in (gantry, gantry + 180)
    )
    fluence = random_fluence(ahead)
    first, second = (i.to_volume(i.dose(fluence)[0]) for i in (ahead, back))
    assert_allclose(second[:, ::-1, ::-1], first, rtol=1e-4, atol=1e-5 * first.max())


@pytest.mark.parametrize(
    ("position", "gantry", "couch"),
    [("HFP", 180 + 52.0, -15.0), ("FFS", 52.0, 180 + 15.0), ("FFP", 180 + 52.0, 180 - 15.0)],
)
def test_turning_the_patient_with_gantry_and_couch_leaves_the_dose_in_the_patient(position, gantry, couch):
    grid = an_oblique_grid()
    hu = np.random.default_rng(11).uniform(-900, 400, grid.shape)
    isocenter = grid.center_lps + np.array([8.0, -5.0, 7.0])
    supine = dose_influence(a_phantom(grid, hu), irregular_beams(isocenter, [BeamAngles(52.0, 15.0, 70.0)]), MACHINE)
    turned = dose_influence(
        a_phantom(grid, hu, position=position),
        irregular_beams(isocenter, [BeamAngles(gantry, couch, 70.0)], position=position),
        MACHINE,
    )
    fluence = random_fluence(supine)
    dose = supine.dose(fluence)
    assert_allclose(turned.dose(fluence), dose, rtol=1e-4, atol=1e-5 * dose.max())


def a_body_turned_by(angle_deg):
    """An ellipse with an air cavity and a bone, turned about the superior axis, on a grid that is not."""
    grid = a_centered_grid(49, 2.5)
    turn = Rotation.from_rotvec(np.deg2rad(angle_deg) * np.array([0.0, 0.0, 1.0])).as_matrix()
    x, y, z = (grid.points_lps() @ turn).T
    body = share_inside(grid, (np.hypot(x / 52, y / 38) - 1) * 42)
    cavity = share_inside(grid, np.sqrt((x + 20) ** 2 + (y - 6) ** 2 + (z - 4) ** 2) - 13)
    bone = share_inside(grid, np.hypot(x - 22, y + 8) - 9)
    return a_phantom(grid, 20 - 900 * cavity + 500 * bone, body=body), turn


@pytest.mark.parametrize(("gantry", "angle"), [(90.0, -90.0), (40.0, -40.0), (311.0, 49.0)])
def test_a_beam_on_a_phantom_is_gantry_0_on_the_turned_phantom(gantry, angle):
    doses = []
    for g, by in ((gantry, 0.0), (0.0, angle)):
        case, turn = a_body_turned_by(by)
        beam = irregular_beams((0, 0, 0), [BeamAngles(g, 0.0, 20.0)])
        influence = dose_influence(case, beam, MACHINE, voxels=np.arange(case.grid.n_voxels))
        doses.append(influence.to_volume(influence.dose(random_fluence(influence))[0]))
    in_turned = case.grid.lps_to_index(case.grid.points_lps() @ turn.T)
    back = map_coordinates(doses[1], in_turned[:, ::-1].T, order=3, mode="nearest").reshape(case.grid.shape)
    gamma = gamma_index(doses[0], back.astype(np.float32), (2.5, 2.5, 2.5), dose_percent=1.0, distance_mm=1.0)
    assert pass_rate(gamma[2:-2]) >= 0.995  # the end slices have no neighbors to be read from


def test_placed_beams_have_the_dose_of_their_open_beamlets():
    grid = an_oblique_grid()
    case = a_uniform_phantom(grid, target_center_lps=grid.center_lps + np.array([9.0, 4.0, -6.0]))
    beams = place_beams(case, some_angles(), MACHINE)
    influence = dose_influence(case, beams, MACHINE)
    assert influence.n_beamlets == sum(b.n_open for b in beams)
    dose = influence.to_volume(influence.dose(torch.ones(1, influence.n_beamlets))[0])
    target = case.targets[0].fraction > 0.99
    assert dose[target].min() > 0.85 * dose[target].max()  # uniform fields with a margin, three directions
