"""The pencil-beam model against integrals by quadrature, brute-force convolution and the depth dose asked for."""

import numpy as np
import pytest
from Core.samples import MACHINE
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.signal import fftconvolve
from scipy.stats import norm

from deeprt.dose.kernels import (
    axis_dose,
    gy_per_mu_scale,
    lateral_sigma_mm,
    line_integrals,
    square_field_dose,
)
from deeprt.machine import HeadScatter
from deeprt.machine_file import read_machine

KERNELS = MACHINE.kernels


def reference_dose(depth_mm, machine=MACHINE):
    """On the axis of 10 cm x 10 cm at SSD 100 cm."""
    return axis_dose(machine, depth_mm, field_mm=100.0, ssd_mm=1000.0)


@pytest.mark.parametrize(
    ("name", "depth_of_maximum_mm", "percent_at_10_cm"), [("generic_6mv", 15.0, 67.0), ("generic_15mv", 29.0, 77.0)]
)
def test_the_reference_field_has_the_depth_dose_of_its_energy(name, depth_of_maximum_mm, percent_at_10_cm):
    machine, depth = read_machine(name), np.arange(1.0, 300.0, 0.05)
    dose = reference_dose(depth, machine)
    assert abs(depth[dose.argmax()] - depth_of_maximum_mm) <= 0.1 * depth_of_maximum_mm
    assert abs(100 * reference_dose([100.0], machine)[0] / dose.max() - percent_at_10_cm) <= 1.0
    assert_allclose(reference_dose([machine.output.depth_mm], machine), 0.01)  # 1 cGy per MU
    assert_allclose(dose.max(), 0.01, rtol=5e-4)


def test_dose_falls_beyond_its_maximum_and_vanishes_at_the_surface():
    dose = reference_dose(np.arange(20.0, 400.0, 1.0))
    assert np.all(np.diff(dose) < 0)
    assert_allclose(reference_dose(np.array([0.0])), 0, atol=1e-12)


def test_larger_fields_scatter_more_and_most_at_depth():
    sides = (40.0, 100.0, 200.0, 400.0)
    at_maximum, at_depth = np.array([axis_dose(MACHINE, [15.0, 200.0], field_mm=f, ssd_mm=900.0) for f in sides]).T
    assert np.all(np.diff(at_maximum) > 0)
    assert np.all(np.diff(at_depth / at_maximum) > 0)


def test_dose_of_fields_that_are_equal_at_depth_falls_with_the_square_of_the_distance():
    near = axis_dose(MACHINE, [50.0], field_mm=80.0, ssd_mm=800.0)[0]
    far = axis_dose(MACHINE, [50.0], field_mm=80.0 * 850.0 / 1150.0, ssd_mm=1100.0)[0]
    assert_allclose(near / far, (1150.0 / 850.0) ** 2, rtol=3e-3)  # one scale of the kernels stands for all depths


def test_depth_terms_solve_their_differential_equation():
    # D' + β D = β e^(−m d) with D(0) = 0: each term is the primary fluence, laid down with the decay constant β.
    depth, h = np.linspace(1.0, 300.0, 200), 1e-3
    primary = np.exp(-KERNELS.attenuation_per_mm * depth)
    slope = (KERNELS.depth_terms(depth + h) - KERNELS.depth_terms(depth - h)) / (2 * h)
    beta = KERNELS.beta_per_mm[:, None]
    assert_allclose(slope + beta * KERNELS.depth_terms(depth), beta * primary, rtol=1e-6)
    assert_allclose(KERNELS.depth_terms(0.0), 0, atol=1e-15)
    assert KERNELS.depth_terms(np.zeros((4, 5))).shape == (3, 4, 5)


def test_line_integrals_agree_with_quadrature():
    rng = np.random.default_rng(1)
    sigma, at, edges = np.array([0.7, 2.2, 60.0]), rng.uniform(-30, 30, 4), np.sort(rng.uniform(-25, 25, 6))
    found = line_integrals(sigma, at, edges)
    assert found.shape == (3, 4, 5)
    for g, width in enumerate(sigma):
        for a, center in enumerate(at):
            for n in range(5):
                expected, _ = quad(norm(center, width).pdf, edges[n], edges[n + 1], epsabs=1e-13, points=[center])
                assert_allclose(found[g, a, n], expected, atol=1e-12)


def test_line_integrals_of_a_split_interval_add_up():
    sigma, at = lateral_sigma_mm(MACHINE, 1000.0), np.linspace(-40, 40, 33)
    whole = line_integrals(sigma, at, [-12.0, 17.0])[..., 0]
    assert_allclose(line_integrals(sigma, at, np.linspace(-12, 17, 30)).sum(axis=2), whole, atol=1e-14)
    assert_allclose(line_integrals(sigma, at, [-1e4, 1e4])[..., 0], 1)


@pytest.mark.parametrize(("name", "tpr"), [("generic_6mv", 0.673), ("generic_15mv", 0.757)])
def test_the_tissue_phantom_ratio_is_that_of_the_published_kernel_also_where_its_ssd_is_another(name, tpr):
    # The kernel of Nyholm et al. gives these for 10 cm x 10 cm at the depth; the machines were fitted at SSD 1 m.
    machine = read_machine(name)
    deep = axis_dose(machine, [200.0], field_mm=100.0, ssd_mm=800.0)[0]
    shallow = axis_dose(machine, [100.0], field_mm=100.0, ssd_mm=900.0)[0]
    assert_allclose(deep / shallow, tpr, rtol=4e-3)


def test_penumbra_adds_to_every_width_in_quadrature():
    assert_allclose(lateral_sigma_mm(MACHINE, 1000.0) ** 2, KERNELS.sigma_mm**2 + KERNELS.penumbra_sigma_mm**2)


@pytest.mark.parametrize("term", [0, 1, 2])
def test_separable_convolution_of_an_irregular_aperture_agrees_with_brute_force(term):
    rng = np.random.default_rng(2)
    x_edges, y_edges = np.arange(-20.0, 31.0, 2.5), np.arange(-25.0, 16.0, 5.0)
    fluence = rng.uniform(0, 1, (y_edges.size - 1, x_edges.size - 1)) * rng.integers(0, 2, (8, 20))
    # The same fluence on pixels of 0.5 mm, and the kernel sampled at their centers.
    pixel = 0.5
    axis = np.arange(-60.0, 60.0, pixel) + pixel / 2
    column, row = np.searchsorted(x_edges, axis) - 1, np.searchsorted(y_edges, axis) - 1
    drawn = np.zeros((axis.size, axis.size))
    in_x, in_y = (column >= 0) & (column < 20), (row >= 0) & (row < 8)
    drawn[np.ix_(in_y, in_x)] = fluence[np.ix_(row[in_y], column[in_x])]
    away = pixel * np.arange(-axis.size + 1, axis.size)
    sigma, weight = lateral_sigma_mm(MACHINE, 1000.0), KERNELS.weight[term]
    radius2 = away[:, None] ** 2 + away**2
    kernel = sum(w * np.exp(-radius2 / (2 * s**2)) / (2 * np.pi * s**2) for w, s in zip(weight, sigma, strict=True))
    brute_force = fftconvolve(drawn, kernel * pixel**2, mode="same")

    along_y, along_x = line_integrals(sigma, axis, y_edges), line_integrals(sigma, axis, x_edges)
    separable = np.einsum("g,gvr,rc,guc->vu", weight, along_y, fluence, along_x, optimize=True)
    # The narrowest Gaussian spans four pixels: the midpoint rule is good to (pixel/sigma)²/24 of a jump in fluence.
    assert_allclose(brute_force, separable, atol=2.5e-3 * weight.sum())


def test_the_calibration_scales_the_axis_dose():
    assert gy_per_mu_scale(MACHINE) > 0
    shares = line_integrals(lateral_sigma_mm(MACHINE, 1000.0), [0.0], [-50.0, 50.0])[:, 0, 0] ** 2
    depth = MACHINE.output.depth_mm
    relative = (KERNELS.weight @ shares) @ KERNELS.depth_terms(depth) * (1000.0 / (1000.0 + depth)) ** 2
    assert_allclose(gy_per_mu_scale(MACHINE) * relative, 0.01)


def test_horns_raise_the_dose_off_the_axis_and_head_scatter_that_of_large_fields():
    flat, horned = MACHINE, read_machine("generic_6mv")
    for x, field in ((0.0, 200.0), (80.0, 200.0), (150.0, 380.0)):
        ratios = [
            square_field_dose(m, [50.0], [x], field_mm=field, ssd_mm=1000.0)[0] * 0.01 / gy_per_mu_scale(m) for m in
            (horned, flat)
        ]  # fmt: skip
        at_isocenter = x / 1.05
        expected = horned.head_scatter.of_opening(field, field) * horned.off_axis.at(np.array([at_isocenter]))[0]
        assert_allclose(ratios[0] / ratios[1], expected, rtol=6e-3)  # scatter comes from where the horns differ


def test_an_opening_scatters_like_the_square_of_the_same_area_over_perimeter():
    scatter = HeadScatter(np.array([40.0, 80.0, 200.0]), np.array([0.96, 0.99, 1.02]))
    assert_allclose(scatter.of_opening(60.0, 120.0), scatter.of_opening(80.0, 80.0))
    assert_allclose([scatter.of_opening(10.0, 10.0), scatter.of_opening(400.0, 400.0)], [0.96, 1.02])
