"""Files that appear only when they are whole, and arrays in them."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from deeprt.errors import InputError
from deeprt.files import read_arrays, write_arrays

ARRAYS = {"dose": np.arange(6, dtype=np.float16).reshape(2, 3), "names": ("Rectum", "Körper"), "digest": "0f3a"}


def test_arrays_and_what_numpy_makes_arrays_of_come_back(tmp_path):
    write_arrays(tmp_path / "new" / "plan.npz", ARRAYS)
    found = read_arrays(tmp_path / "new" / "plan.npz")
    assert set(found) == set(ARRAYS)
    assert_array_equal(found["dose"], ARRAYS["dose"])
    assert found["dose"].dtype == np.float16
    assert tuple(found["names"]) == ARRAYS["names"] and str(found["digest"]) == ARRAYS["digest"]
    assert [f.name for f in (tmp_path / "new").iterdir()] == ["plan.npz"]


def test_a_missing_file_is_told_from_one_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "plan.npz")
    np.savez(tmp_path / "objects.npz", dose=np.array([1, "x"], object))  # reading these could run code
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "empty.npz").write_bytes(b"")
    for name in ("objects.npz", "one.npy", "empty.npz"):
        with pytest.raises(InputError, match=rf"{name}' cannot be read \(.*\)\.$"):
            read_arrays(tmp_path / name)


def test_arrays_that_cannot_be_written_leave_the_old_ones(tmp_path, monkeypatch):
    write_arrays(tmp_path / "plan.npz", ARRAYS)
    before = (tmp_path / "plan.npz").read_bytes()

    def full(file, **arrays):
        file.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space"):
        write_arrays(tmp_path / "plan.npz", {})
    assert (tmp_path / "plan.npz").read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["plan.npz"]
