"""Doses of every orientation and encoding end up where the patient is."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from Core.plan_samples import a_case, a_dicom_identity, a_plan, an_oblique_grid
from numpy.testing import assert_allclose

from deeprt.dicom.common import write_dataset
from deeprt.dicom.read_dose import read_dose, read_stored_dose
from deeprt.dicom.write_dose import dose_dataset
from deeprt.dicom.write_plan import plan_dataset
from deeprt.errors import InputError
from deeprt.geometry import Grid

CASES = Path(__file__).parents[3] / "shared" / "cases"
ORIENTATIONS = {
    "HFS": (1, 0, 0, 0, 1, 0), "HFP": (-1, 0, 0, 0, -1, 0), "FFS": (-1, 0, 0, 0, 1, 0), "FFP": (1, 0, 0, 0, -1, 0),
    "HFDL": (0, -1, 0, 1, 0, 0), "HFDR": (0, 1, 0, -1, 0, 0), "FFDL": (0, 1, 0, 1, 0, 0), "FFDR": (0, -1, 0, -1, 0, 0),
}  # fmt: skip


def linear_dose(points_lps):
    """A dose that linear interpolation keeps exactly."""
    return 30 + points_lps @ (0.02, -0.03, 0.05)


def an_rtdose(grid=None, dose_gy=None):
    """An RTDOSE of a linear dose; a test may spoil it."""
    grid = grid or Grid.axial((9, 12, 14), (3.0, 2.5, 4.0), (-13.0, 7.0, -31.0))
    case = a_case(grid=grid, dicom=a_dicom_identity())
    plan = plan_dataset(a_case(dicom=a_dicom_identity()), a_plan(a_case()), label="x", structure_set_uid="1.2")
    dose = linear_dose(grid.points_lps()).reshape(grid.shape) if dose_gy is None else dose_gy
    return dose_dataset(case, dose.astype(np.float32), plan)


def saved(data, folder):
    write_dataset(data, folder / "RTDOSE.dcm")
    return folder / "RTDOSE.dcm"


@pytest.mark.parametrize("left_handed", [False, True])
def test_what_was_written_is_read_on_the_same_voxels(tmp_path, left_handed):
    grid = an_oblique_grid(left_handed=left_handed)
    dose = np.random.default_rng(1).uniform(0, 70, grid.shape).astype(np.float32)
    path = saved(an_rtdose(grid, dose), tmp_path)
    assert_allclose(read_dose(path, grid), dose, atol=70 / 65535 + 1e-5)  # one scaling step


@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS)
@pytest.mark.parametrize("backwards", [False, True])
def test_every_orientation_puts_the_dose_in_its_place(tmp_path, orientation, backwards):
    data = an_rtdose()
    along_i, along_j = np.reshape(orientation, (2, 3))
    step = -4.0 if backwards else 4.0
    origin = np.array([11.0, -23.0, 37.0])
    k, j, i = np.indices((9, 12, 14)).reshape(3, -1).astype(float)
    normal = np.cross(along_i, along_j)
    points = origin + i[:, None] * 3.0 * along_i + j[:, None] * 2.5 * along_j + k[:, None] * step * normal
    data.ImageOrientationPatient, data.ImagePositionPatient = list(orientation), origin.tolist()
    data.GridFrameOffsetVector = [step * n for n in range(9)]
    data.BitsAllocated, data.BitsStored, data.HighBit = 32, 32, 31
    data.DoseGridScaling = "1e-7"
    data.PixelData = np.rint(linear_dose(points) / 1e-7).astype("<u4").tobytes()
    low, high = points.min(axis=0), points.max(axis=0)
    inner = Grid.axial((5, 6, 7), (high - low) / (7.5, 6.5, 5.5), low + 1.3)
    read = read_dose(saved(data, tmp_path), inner)
    assert_allclose(read.ravel(), linear_dose(inner.points_lps()), rtol=1e-6)  # float32


def test_absolute_frame_heights_are_those_of_the_frames(tmp_path):
    data = an_rtdose()
    relative = read_stored_dose(saved(data, tmp_path))
    data.GridFrameOffsetVector = [float(data.ImagePositionPatient[2]) + float(z) for z in data.GridFrameOffsetVector]
    absolute = read_stored_dose(saved(data, tmp_path))
    assert absolute.grid.same_as(relative.grid)
    data.GridFrameOffsetVector = [float(z) + 5 for z in data.GridFrameOffsetVector]
    with pytest.raises(InputError, match="neither zero nor the height -31 mm"):
        read_stored_dose(saved(data, tmp_path))


def test_the_dose_is_constant_to_the_face_of_the_outermost_voxel_and_zero_beyond(tmp_path):
    grid = Grid.axial((4, 4, 4), 3.0, (0.0, 0.0, 0.0))
    path = saved(an_rtdose(grid, np.full(grid.shape, 20.0)), tmp_path)
    along_x = Grid.axial((1, 1, 8), (0.5, 1.0, 1.0), (8.75, 4.0, 4.0))  # x from 8.75 to 12.25 mm, the face at 10.5
    assert_allclose(read_dose(path, along_x).ravel(), [20, 20, 20, 20, 0, 0, 0, 0], atol=1e-3)


def test_structures_outside_the_dose_grid_and_another_frame_of_reference_are_noted(tmp_path):
    case = a_case(dicom=a_dicom_identity())
    whole = read_stored_dose(saved(an_rtdose(case.grid, np.full(case.grid.shape, 9.0)), tmp_path))
    assert not any("leaves out" in note or "frame of reference" in note for note in whole.notes_for(case))
    data = an_rtdose()
    data.FrameOfReferenceUID = "9.9"
    notes = " ".join(read_stored_dose(saved(data, tmp_path)).notes_for(case))
    assert "leaves out 100.0% of PTV_60" in notes
    assert "Ring" not in notes
    assert "another frame of reference" in notes


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        ("DoseUnits", "RELATIVE", "unit RELATIVE"),
        ("DoseType", "ERROR", "difference of two doses"),
        ("PixelSpacing", None, "1 values of PixelSpacing, 2 are needed"),
        ("GridFrameOffsetVector", [0, 1, 2, 3, 4, 5, 6, 7, 20], "uneven distances"),
        ("GridFrameOffsetVector", [0, 1, 2], "3 values of GridFrameOffsetVector, 9 are needed"),
        ("ImageOrientationPatient", [1, 0, 0, 0.5, 1, 0], "no valid grid: Grid axes must be orthogonal"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.481.5", "is a DICOM RTDOSE"),
        ("DoseGridScaling", "-1", "negative or undefined"),
        ("PixelData", b"ab", "cannot be decoded"),
    ],
)
def test_what_is_no_dose_in_gy_is_refused(tmp_path, keyword, value, message):
    data = an_rtdose()
    setattr(data, keyword, value)
    with pytest.raises(InputError, match=message):
        read_stored_dose(saved(data, tmp_path))


@pytest.mark.parametrize(
    ("keyword", "value", "note"),
    [
        ("DoseType", "EFFECTIVE", "dose type EFFECTIVE"),
        ("DoseSummationType", "BEAM", "summation type BEAM; it is evaluated as stored"),
        ("DoseSummationType", "FRACTION", "summation type FRACTION, which is taken for the whole course"),
    ],
)
def test_what_the_dose_is_the_sum_of_is_noted(tmp_path, keyword, value, note):
    data = an_rtdose()
    setattr(data, keyword, value)
    assert any(note in n for n in read_stored_dose(saved(data, tmp_path)).notes)


def test_a_volume_in_nrrd_is_read_where_it_lies(tmp_path):
    grid = an_oblique_grid()
    dose = linear_dose(grid.points_lps() - grid.center_lps).reshape(grid.shape).astype(np.float32)
    image = SimpleITK.GetImageFromArray(dose)
    image.SetOrigin(grid.index_to_lps[:3, 3].tolist())
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetDirection((grid.index_to_lps[:3, :3] / grid.spacing_mm).ravel().tolist())
    for name in ("dose.nrrd", "dose.nii.gz"):
        SimpleITK.WriteImage(image, str(tmp_path / name))
        stored = read_stored_dose(tmp_path / name)
        assert_allclose(stored.on(grid), dose, rtol=1e-4)  # NIfTI keeps directions in float32
        assert "taken for Gy" in stored.notes[0]


def test_files_that_are_no_dose_are_refused(tmp_path):
    (tmp_path / "text.dcm").write_text("no DICOM at all, but long enough to look at" * 9)
    with pytest.raises(InputError, match="give a dose as RTDOSE"):
        read_stored_dose(tmp_path / "text.dcm")
    with pytest.raises(InputError, match="does not exist"):
        read_stored_dose(tmp_path / "absent.dcm")
    with pytest.raises(InputError, match="is a folder"):
        read_stored_dose(tmp_path)


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
def test_real_doses_and_real_headers_are_read(tmp_path):
    stored = read_stored_dose(CASES / "breast_eclipse" / "rtdose.dcm")
    assert stored.grid.shape == (98, 129, 194)
    for path in sorted((CASES / "dicom_orientations").glob("RD*.dcm")):
        data = pydicom.dcmread(path)
        shape = (int(data.NumberOfFrames), data.Rows, data.Columns)
        data.PixelData = np.ones(shape, "<u4").tobytes()  # they come without
        data.save_as(tmp_path / "dose.dcm")
        stored = read_stored_dose(tmp_path / "dose.dcm")
        last = stored.grid.index_to_lps[:3] @ (0, 0, shape[0] - 1, 1)
        assert_allclose(stored.grid.index_to_lps[:3, 3], np.array(data.ImagePositionPatient, float))
        towards_head = {"H": 1, "F": -1}[path.name.split("_")[1][0]]
        assert_allclose(last[2] - float(data.ImagePositionPatient[2]), towards_head * 200.0)
