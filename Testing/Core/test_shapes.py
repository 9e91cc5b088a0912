import numpy as np
import pytest
from numpy.testing import assert_allclose

from deeprt.cohort.canvas import Canvas
from deeprt.cohort.shapes import (
    Capsule,
    Cup,
    Ellipsoid,
    Points,
    Shape,
    Trunk,
    Tube,
    Wing,
    chain,
    rotation_xyz,
    smooth_field,
    smooth_union,
)

AXES = (np.arange(-39.0, 40, 2), np.arange(-44.0, 40, 2), np.arange(-48.0, 40, 2))  # z, y, x
BOX = (np.array([-40.0, -45.0, -49.0]), np.array([40.0, 41.0, 41.0]))
TURNED = rotation_xyz(20, -30, 40)
SHAPES: list[Shape] = [
    Ellipsoid((3, -5, 2), (20, 9, 14), TURNED),
    Capsule((-15, 4, -20), (10, -12, 18), 5, 9),
    Tube([[-25, 4, 5, 8, 6], [0, -6, 0, 12, 9], [22, 3, -8, 6, 7]]),
    Wing((-20, 25), (((-10, -12), (5, 4), (12, 20)), ((-16, -5), (0, 8), (14, 18))), (4, 6)),
    Cup((0, -4, 3), 12, 18, (0.6, 0.0, 0.8)),
]


def some_points() -> Points:
    z, y, x = (a.astype(np.float32) for a in np.meshgrid(*AXES, indexing="ij"))
    return x, y, z


def a_canvas() -> Canvas:
    return Canvas(some_points(), 1.0, 2.0, AXES, BOX)


def test_the_distance_to_a_sphere_is_exact() -> None:
    x, y, z = some_points()
    exact = np.sqrt((x - 3) ** 2 + (y + 5) ** 2 + (z - 2) ** 2) - 15
    # Exact but for the small number that keeps the center finite.
    assert_allclose(Ellipsoid((3, -5, 2), (15, 15, 15)).distance((x, y, z)), exact, atol=0.1)


def test_the_distance_to_a_rod_is_exact() -> None:
    x, y, z = some_points()
    exact = np.hypot(np.hypot(x, y - 1), np.maximum(np.abs(z) - 12, 0)) - 6
    assert_allclose(Capsule((0, 1, -12), (0, 1, 12), 6, 6).distance((x, y, z)), exact, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: type(s).__name__)
def test_the_inside_lies_in_the_box(shape: Shape) -> None:
    points, (low, high) = some_points(), shape.box
    inside = shape.distance(points) < 0
    assert inside.any()
    for c, a, b in zip(points, low, high, strict=True):
        assert c[inside].min() >= a - 1e-3 and c[inside].max() <= b + 1e-3


@pytest.mark.parametrize("shape", SHAPES[:3], ids=lambda s: type(s).__name__)
def test_the_distance_rises_by_a_millimeter_a_millimeter_at_the_surface(shape: Shape) -> None:
    distance = shape.distance(some_points())
    slope = np.sqrt(sum(g**2 for g in np.gradient(distance, 2.0)))
    near = np.abs(distance) < 1
    assert_allclose(np.median(slope[near]), 1.0, atol=0.1)  # first-order distances, sampled every 2 mm


def test_partly_filled_voxels_give_the_volume_of_an_ellipsoid() -> None:
    canvas = a_canvas()
    share = canvas.fraction(canvas.distance(SHAPES[:1]))
    assert_allclose(share.sum() * 8, 4 / 3 * np.pi * 20 * 9 * 14, rtol=0.01)


def test_a_tube_of_constant_section_is_a_cylinder() -> None:
    canvas = a_canvas()
    share = canvas.fraction(canvas.distance([Tube([[-21, 2, 3, 10, 10], [0, 2, 3, 10, 10], [20, 2, 3, 10, 10]])]))
    assert_allclose(share.sum() * 8, np.pi * 10**2 * 41, rtol=0.01)


def test_a_trunk_meets_its_front_back_and_sides() -> None:
    trunk = Trunk([[-40, 30, -28, 34], [0, 34, -30, 34], [40, 36, -36, 34]], widest_mm=20)
    x, y, z = (np.array(c, np.float32) for c in ([0, 0, 34, -34], [-30, 34, 14, 14], [0, 0, 0, 0]))
    assert_allclose(trunk.distance((x, y, z)), 0, atol=0.1)  # a thousandth of the size keeps the axes finite
    assert trunk.distance((x * 0, y * 0, z))[0] < -20


def test_a_canvas_takes_the_union_near_and_is_far_elsewhere() -> None:
    canvas, points = a_canvas(), some_points()
    whole = np.minimum(SHAPES[0].distance(points), SHAPES[1].distance(points))
    distance = canvas.distance(SHAPES[:2])
    assert_allclose(distance[whole < 10], whole[whole < 10], atol=1e-4)
    assert (canvas.distance([Ellipsoid((500, 0, 0), (5, 5, 5))]) == 1000).all()


def test_a_scaled_canvas_measures_in_the_patient() -> None:
    x, y, z = some_points()
    canvas = Canvas((x / 1.25, y / 1.25, z / 1.25), 1.25, 2.0, AXES, BOX)
    share = canvas.fraction(canvas.distance([Ellipsoid((0, 0, 0), (12, 12, 12))]))
    assert_allclose(share.sum() * 8, 4 / 3 * np.pi * 15**3, rtol=0.01)


def test_a_chain_joins_its_points() -> None:
    rods = chain([(0, 0, 0), (0, 0, 10), (0, 10, 10)], [3, 4, 5])
    assert [(r.start, r.end_radius) for r in rods] == [((0, 0, 0), 4), ((0, 0, 10), 5)]


def test_a_smooth_union_fills_the_groove_only() -> None:
    a, b = np.array([-5.0, 0.0, 9.0], np.float32), np.array([9.0, 0.0, -5.0], np.float32)
    assert_allclose(smooth_union(a, b, 8.0), [-5.0, -2.0, -5.0])


def test_a_rotation_turns_left_handed_nothing() -> None:
    assert_allclose(TURNED @ TURNED.T, np.eye(3), atol=1e-12)
    assert_allclose(np.linalg.det(TURNED), 1)
    assert_allclose(rotation_xyz(0, 0, 90) @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    assert_allclose(rotation_xyz(90, 0, 0) @ [0, 1, 0], [0, 0, 1], atol=1e-12)


def test_a_random_field_has_zero_mean_and_unit_variance() -> None:
    field = smooth_field(np.random.default_rng(0), AXES, BOX, 3.0)
    assert_allclose(field.mean(), 0, atol=0.05)
    assert_allclose(field.std(), 1, atol=0.05)


def test_another_spacing_samples_the_same_random_field() -> None:
    coarse = (AXES[0][::2], AXES[1][::3], AXES[2][::4])
    fine = smooth_field(np.random.default_rng(0), AXES, BOX, 10.0)
    assert_allclose(smooth_field(np.random.default_rng(0), coarse, BOX, 10.0), fine[::2, ::3, ::4], atol=1e-5)
