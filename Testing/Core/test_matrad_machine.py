import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve
from scipy.special import ndtr

from deeprt.dose.kernels import axis_dose, gy_per_mu_scale, square_field_dose
from deeprt.errors import InputError
from deeprt.machine import OffAxis
from deeprt.machine_file import read_machine
from deeprt.matrad_machine import read_matrad_machine

GENERIC = read_machine("generic_6mv")
CELL_MM = 0.5
RADIUS = CELL_MM * np.arange(360)
PENUMBRA_SIGMA = 5.0 / np.sqrt(8 * np.log(2))
M, BETA = 0.005, np.array([0.33, 0.016, 0.0051])
SIGMA = np.array([0.0, 7.0, 35.0])  # of the true kernels; the first is the peak at the center
WEIGHT = np.array([[0.8, 0.3, 0.1], [-0.05, 0.1, -0.02], [0.05, 0.1, 0.6]])


def tabulated(weight):
    """Kernels per mm² at the radii, the peak as matRad has it: all of its integral in the central cell."""
    table = sum(
        np.outer(w, np.exp(-(RADIUS**2) / (2 * s**2)) / (2 * np.pi * s**2))
        for w, s in zip(weight.T[1:], SIGMA[1:], strict=True)
    )
    table[:, 0] += weight[:, 0] / CELL_MM**2
    return table


def write_machine(path, *, version=2, unit=1.0, by_ssd=None, meta=None, data=None, without=()):
    """A machine file in matRad's layout."""
    tables = {900: tabulated(WEIGHT)} if by_ssd is None else by_ssd
    kernels = np.empty(len(tables), [("SSD", object)] + [(f"kernel{n}", object) for n in (1, 2, 3)])
    for entry, (ssd, table) in zip(kernels, tables.items(), strict=True):
        entry["SSD"], entry["kernel1"], entry["kernel2"], entry["kernel3"] = float(ssd), *(table * unit)
    contents = {
        "meta": {"radiationMode": "photons", "SAD": 1000.0, "name": "Test", **(meta or {})},
        "data": {
            "betas": BETA,
            "energy": 6.0,
            "m": M,
            "primaryFluence": np.array([[0.0, 2.0], [100.0, 2.1], [200.0, 1.9]]),
            "kernel": kernels,
            "kernelPos": RADIUS,
            "penumbraFWHMatIso": 5.0,
            **(data or {}),
        },
    }
    for section, entry in without:
        del contents[section][entry]
    scipy.io.savemat(path, {"machine": contents if version is None else {**contents, "version": version}})
    return path


@pytest.fixture
def file(tmp_path):
    return tmp_path / "photons_Test.mat"


def without_horns(machine):
    return replace(machine, off_axis=OffAxis(np.zeros(1), np.ones(1)))


def true_dose(depth_mm, field_mm, ssd_mm, weight=WEIGHT):
    """Closed form of the dose per MU that the tabulated kernels stand for."""
    share = (2 * ndtr(field_mm / 2 / np.hypot(SIGMA, PENUMBRA_SIGMA)) - 1) ** 2
    b = BETA[:, None]
    terms = b / (b - M) * (np.exp(-M * depth_mm) - np.exp(-b * depth_mm))
    return (1000.0 / (ssd_mm + depth_mm)) ** 2 * ((weight @ share) @ terms) / 100


@pytest.mark.parametrize("field_mm", [10.0, 30.0, 50.0, 100.0, 200.0])
def test_square_fields_get_the_dose_of_the_tabulated_kernels_at_one_hundred_mu_per_weight(file, field_mm):
    machine = without_horns(read_machine(write_machine(file)))
    depth = np.array([5.0, 15.0, 50.0, 100.0, 200.0, 300.0])
    dose = axis_dose(machine, depth, field_mm=field_mm, ssd_mm=900.0)
    assert_allclose(dose, true_dose(depth, field_mm, 900.0), rtol=3e-3)


def test_the_calibration_is_that_of_the_tabulated_kernels_at_the_isocenter(file):
    machine = read_machine(write_machine(file))
    assert (machine.output.depth_mm, machine.output.field_mm, machine.output.ssd_mm) == (100.0, 100.0, 900.0)
    assert_allclose(machine.output.gy_per_mu, true_dose(np.array([100.0]), 100.0, 900.0)[0], rtol=5e-4)
    assert_allclose(gy_per_mu_scale(without_horns(machine)), 0.01, rtol=3e-3)


def test_files_of_the_older_format_give_kernels_per_cell_of_the_lattice(file):
    new = read_machine(write_machine(file))
    old = read_machine(write_machine(file, version=None, unit=CELL_MM**2))
    assert_allclose(old.kernels.weight, new.kernels.weight, rtol=1e-6)
    assert_allclose(old.output.gy_per_mu, new.output.gy_per_mu, rtol=1e-9)


def test_the_kernels_nearest_to_an_ssd_of_900_mm_are_taken(file):
    by_ssd = {ssd: tabulated(WEIGHT * factor) for ssd, factor in ((700, 0.5), (895, 1.0), (910, 1.5), (1000, 2.0))}
    many, one = read_machine(write_machine(file, by_ssd=by_ssd)), read_machine(write_machine(file))
    assert_allclose(many.kernels.weight, one.kernels.weight, rtol=1e-9)


def test_energy_geometry_and_horns_come_from_the_file_and_the_rest_from_the_other_machine(file):
    machine = read_matrad_machine(write_machine(file, meta={"SAD": 980.0}, data={"energy": 10.0}), like=GENERIC)
    assert (machine.name, machine.energy_mv, machine.sad_mm) == ("photons_Test", 10.0, 980.0)
    assert_allclose(machine.off_axis.at(np.array([0.0, 50.0, 100.0, 200.0])), [1.0, 1.025, 1.05, 0.95])
    assert_array_equal(machine.kernels.beta_per_mm, BETA)
    assert machine.kernels.attenuation_per_mm == M
    assert_allclose(machine.kernels.penumbra_sigma_mm, PENUMBRA_SIGMA)
    assert [machine.head_scatter.of_opening(a, a) for a in (20.0, 300.0)] == [1.0, 1.0]
    assert (machine.mlc, machine.jaws, machine.clearance) == (GENERIC.mlc, GENERIC.jaws, GENERIC.clearance)
    assert machine.output.depth_mm + machine.output.ssd_mm == 980.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"meta": {"radiationMode": "protons"}}, "is for protons; DeepRT plans photons"),
        ({"without": [("data", "kernelPos")]}, r"entry 'machine\.data\.kernelPos' is missing"),
        ({"without": [("meta", "SAD")]}, r"entry 'machine\.meta\.SAD' is missing"),
        ({"data": {"kernelPos": RADIUS[:-1]}}, "'kernelPos' must increase from 0 and match"),
        ({"data": {"kernelPos": RADIUS + 1}}, "'kernelPos' must increase from 0 and match"),
        ({"data": {"kernel": {"SSD": 900.0, "kernel1": RADIUS}}}, "must hold SSD and kernel1 to kernel3"),
        ({"data": {"betas": BETA[:2]}}, "needs three depth terms"),
        ({"data": {"primaryFluence": np.array([[0.0, 1.0], [10.0, -1.0]])}}, "Off-axis ratio"),
        ({"by_ssd": {900: -tabulated(WEIGHT)}}, "no positive dose"),
    ],
)
def test_files_that_cannot_be_right_are_refused_in_one_sentence(file, changes, message):
    with pytest.raises(InputError, match=message):
        read_machine(write_machine(file, **changes))


def test_other_files_are_refused(file):
    file.write_bytes(b"no MATLAB file" * 20)
    with pytest.raises(InputError, match="cannot be read as a MATLAB file"):
        read_machine(file)
    scipy.io.savemat(file, {"other": 1.0})
    with pytest.raises(InputError, match="has no variable 'machine'"):
        read_machine(file)
    scipy.io.savemat(file, {"machine": {"meta": {"radiationMode": "photons", "SAD": 1000.0}, "data": np.zeros(2)}})
    with pytest.raises(InputError, match=r"'machine\.data' is not one structure"):
        read_machine(file)


def the_real_file():
    environments = Path(__file__).parents[2] / "work" / "envs" / "pyradplan"
    found = sorted(environments.glob("lib/python*/site-packages/pyRadPlan/data/machines/photons_Generic.mat"))
    if not found and (package := importlib.util.find_spec("pyRadPlan")) is not None and package.origin:
        found = [Path(package.origin).parent / "data" / "machines" / "photons_Generic.mat"]
    return found[0] if found and found[0].is_file() else None


@pytest.mark.skipif(the_real_file() is None, reason="pyRadPlan is neither installed nor in work/envs (make validate)")
@pytest.mark.parametrize("field_mm", [20.0, 100.0, 200.0])
def test_profiles_of_the_shipped_machine_of_pyradplan_agree_with_its_kernels_convolved_on_a_lattice(field_mm):
    file = the_real_file()
    machine = without_horns(read_machine(file))
    data = scipy.io.loadmat(file, simplify_cells=True)["machine"]["data"]
    kernels = next(k for k in data["kernel"] if k["SSD"] == 900)
    x = CELL_MM * np.arange(-360, 361)
    radius = np.hypot(x[:, None], x)
    inside = np.abs(x) < field_mm / 2
    edge = 0.5 * (np.abs(np.abs(x) - field_mm / 2) < 1e-9)  # a cell on the edge is half in the field
    fluence = gaussian_filter(np.outer(inside + edge, inside + edge), machine.kernels.penumbra_sigma_mm / CELL_MM)
    for depth_mm in (15.0, 100.0, 200.0):
        terms = machine.kernels.depth_terms(depth_mm)
        kernel = sum(
            t * np.interp(radius, data["kernelPos"], kernels[f"kernel{n}"], right=0) for n, t in enumerate(terms, 1)
        )
        image = CELL_MM**2 * fftconvolve(fluence, kernel, mode="same")[360, 360:660]
        off_axis = x[360:660] * (900 + depth_mm) / 1000
        from_source = np.hypot(900 + depth_mm, off_axis)
        dose = 100 * square_field_dose(machine, np.full(300, depth_mm), off_axis, field_mm=field_mm, ssd_mm=900.0)
        # The image is that of one depth, the closed form takes the depth along each ray: compare where rays are steep.
        near = np.abs(off_axis) < 60
        assert_allclose(
            dose[near], (image * (1000 / from_source) ** 2)[near], atol=5e-3 * image[0], rtol=0, err_msg=str(depth_mm)
        )
