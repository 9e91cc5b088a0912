"""Files that appear only when they are whole, and arrays in them."""

import os
import stat

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from deeprt.errors import InputError
from deeprt.files import check_writable, read_arrays, whole_file, write_arrays

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


@pytest.mark.parametrize(("place", "value"), [(6, 0x01), (8, 0x63)], ids=["encrypted", "compressed by an unknown way"])
def test_an_archive_that_python_cannot_open_is_refused(tmp_path, place, value):
    file = tmp_path / "plan.npz"
    write_arrays(file, {"dose": np.zeros(3)})
    content = bytearray(file.read_bytes())
    central = content.index(b"PK\x01\x02") + 2  # its fields stand two bytes behind those of the local header
    content[place] = content[central + place] = value
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"plan\.npz' cannot be read"):
        read_arrays(file)


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_files_have_the_permissions_that_new_files_usually_have(tmp_path, mask):
    before = os.umask(mask)
    try:
        with whole_file(tmp_path / "weights") as scratch:
            os.close(os.open(scratch, os.O_CREAT, 0o600))  # as some writers do
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "weights").stat().st_mode) == 0o666 & ~mask


def test_a_folder_that_cannot_be_written_into_is_told_before(tmp_path, monkeypatch):
    check_writable(tmp_path / "new" / "newer")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"Cannot write into '.*new': '.*file' is a file; choose another folder"):
        check_writable(tmp_path / "file" / "new")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="is not yours to write to; choose another folder"):
        check_writable(tmp_path / "new")


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
