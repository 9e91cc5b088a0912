"""A water phantom in air, its structures, and folders of DICOM that hold them."""

from pathlib import Path

import numpy as np
import pytest
from Core.dicom_samples import Roi, circle, rectangle, save, structure_set
from pydicom.dataset import Dataset

from deeprt.dicom.read import ReadOptions, read_case
from deeprt.errors import InputError

CASES = Path(__file__).parents[3] / "shared" / "cases"
SHAPE = (12, 26, 32)  # x from -62 to 62 mm, y from -50 to 50, z from 10 to 43
PLANES = tuple(range(10, 44, 3))
BODY = Roi("BODY", "EXTERNAL", rectangle((-50, 50), (-40, 40), PLANES))
PTV = Roi("PTV_60", "PTV", circle((12.0, -7.0), 14.0, PLANES[3:9]), color=(1, 2, 3))
RECTUM = Roi("rectum", "ORGAN", rectangle((5, 20), (15, 30), PLANES[2:9]))


def phantom() -> np.ndarray:
    """Water of 100 by 80 mm in air, with a hole, on a couch 8 mm thick."""
    x = -62 + 4 * np.arange(SHAPE[2])
    y = -50 + 4 * np.arange(SHAPE[1])
    water = (np.abs(y)[:, None] <= 40) & (np.abs(x) <= 50)
    water &= (np.abs(y)[:, None] > 7) | (np.abs(x + 20) > 7)
    couch = (y[:, None] > 46) & (np.abs(x) <= 60)
    return np.tile(np.where(water | couch, 0, -1000).astype(np.int16), (SHAPE[0], 1, 1))


def folder_of(tmp_path: Path, slices: list[Dataset], *rois: Roi, **frame: str) -> Path:
    save([*slices, structure_set(rois or (BODY, PTV, RECTUM), **frame)], tmp_path / "study")
    return tmp_path / "study"


def refused(folder: Path, message: str, options: ReadOptions = ReadOptions()) -> None:  # noqa: B008 - frozen
    with pytest.raises(InputError, match=message) as caught:
        read_case(folder, options)
    assert "\n" not in str(caught.value)
