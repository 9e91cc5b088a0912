import logging
import os
from dataclasses import replace

import numpy as np
import platformdirs
import pytest
from Core.plan_samples import a_case, a_dicom_identity, a_machine
from numpy.testing import assert_array_equal

from deeprt.beams import BeamAngles, BeamSelection
from deeprt.orientation.cache import cached_selection, selection_key
from deeprt.orientation.teacher import CandidateSettings, OrganWeights
from deeprt.structures import Role

DEFAULTS = CandidateSettings()


def a_selection(seed=1, n_candidates=40):
    rng = np.random.default_rng(seed)
    return BeamSelection(
        candidates=tuple(BeamAngles(round(9.1 * k, 1), 3.0 * k, 0.7) for k in range(n_candidates)),
        chosen=(7, 2, 31),
        fitness=rng.random((2, n_candidates), np.float32),
        objectives=(3.25e5, 1 / 3, 0.1),
        n_given=1,
        source="column generation, exchange search",
        timing_s={"set-up": 0.1, "pricing": 2.25},
        notes=("The network has learned from plans of up to 5 beams, not 6.", "Some at ±90°."),
    )


def never():
    raise AssertionError("the selection should have been in the cache")


def a_key(case=None, machine=None, settings=DEFAULTS, **others):
    return selection_key(case or a_case(), machine or a_machine(), settings, **{"n_beams": 5, **others})


def with_structure(case, name, **changes):
    return replace(case, structures=tuple(replace(s, **changes) if s.name == name else s for s in case.structures))


def test_a_selection_is_made_once_and_comes_back_as_it_was(tmp_path):
    made = a_selection()
    assert cached_selection("k", lambda: made, folder=tmp_path / "new") is made
    back = cached_selection("k", never, folder=tmp_path / "new")
    for name in ("candidates", "chosen", "objectives", "n_given", "notes"):
        assert getattr(back, name) == getattr(made, name)
    assert_array_equal(back.fitness, made.fitness)
    assert back.fitness.dtype == np.float32
    assert [f.suffix for f in (tmp_path / "new").iterdir()] == [".npz"]


def test_a_selection_from_the_cache_says_so_and_took_no_time(tmp_path):
    cached_selection("k", a_selection, folder=tmp_path)
    for _ in range(2):  # it says so once, however often it is found
        back = cached_selection("k", never, folder=tmp_path)
        assert back.source == "column generation, exchange search, from the cache"
        assert back.timing_s == {}


def test_a_selection_of_no_step_comes_back(tmp_path):
    made = replace(a_selection(), chosen=(), fitness=np.zeros((0, 40), np.float32), objectives=(), n_given=0)
    cached_selection("k", lambda: made, folder=tmp_path)
    back = cached_selection("k", never, folder=tmp_path)
    assert back.chosen == () and back.objectives == () and back.fitness.shape == (0, 40)


def test_other_keys_are_not_found(tmp_path):
    cached_selection("one", a_selection, folder=tmp_path)
    other = a_selection(seed=2)
    assert cached_selection("two", lambda: other, folder=tmp_path) is other


def test_the_key_repeats_for_what_is_computed_alike():
    same = replace(a_case(), case_id="another name", notes=("a note",), dicom=a_dicom_identity())
    assert a_key() == a_key(same) == a_key(with_structure(a_case(), "Tube", color=(1, 2, 3)))
    assert a_key(settings=CandidateSettings()) == a_key(settings=CandidateSettings(weights=OrganWeights()))


def moved(grid):
    return replace(grid, index_to_lps=grid.index_to_lps + 1e-3 * np.eye(4, k=3))


CHANGES = {
    "position": lambda c: {"case": replace(c, position="HFP")},
    "CT": lambda c: {"case": replace(c, ct_hu=c.ct_hu + np.float32(1))},
    "grid": lambda c: {"case": replace(c, grid=moved(c.grid))},
    "fractions": lambda c: {"case": replace(c, n_fractions=24)},
    "HU table": lambda c: {"case": replace(c, hu_table=replace(c.hu_table, density=c.hu_table.density * 1.01))},
    "role": lambda c: {"case": with_structure(c, "Tube", role=Role.OTHER)},
    "prescription": lambda c: {"case": with_structure(c, "PTV_50", prescription_gy=51.0)},
    "mask": lambda c: {"case": with_structure(c, "Tube", fraction=c.structure("Tube").fraction * np.float32(0.5))},
    "structures": lambda c: {"case": replace(c, structures=c.structures[:-1])},
    "machine": lambda c: {"machine": replace(a_machine(), sad_mm=999.0)},
    "leaves": lambda c: {"machine": replace(a_machine(), mlc=replace(a_machine().mlc, min_gap_mm=0.6))},
    "candidates": lambda c: {"settings": CandidateSettings("coplanar:4")},
    "sectors": lambda c: {"settings": CandidateSettings(exclude_deg=((80.0, 100.0),))},
    "weights": lambda c: {"settings": CandidateSettings(weights=OrganWeights(structures={"Tube": 0.5}))},
    "given beams": lambda c: {"given": (BeamAngles(10.0),)},
    "order of given beams": lambda c: {"given": (BeamAngles(20.0), BeamAngles(10.0))},
    "other order": lambda c: {"given": (BeamAngles(10.0), BeamAngles(20.0))},
    "number": lambda c: {"n_beams": 6},
    "method": lambda c: {"method": "beam search"},
    "seed": lambda c: {"seed": 1},
}  # fmt: skip


def test_the_key_changes_with_everything_that_a_selection_follows_from():
    keys = {name: a_key(**change(a_case())) for name, change in CHANGES.items()}
    assert len({a_key(), *keys.values()}) == len(CHANGES) + 1


def test_the_key_changes_with_the_code(monkeypatch):
    before = a_key()
    monkeypatch.setattr("deeprt.orientation.cache._code_digest", lambda: b"another version")
    assert a_key() != before


def test_what_has_no_fixed_value_gives_no_key():
    with pytest.raises(TypeError, match="A cache key cannot be made of a set"):
        a_key(given=(BeamAngles(0.0), {1}))


@pytest.mark.parametrize("damage", [b"", b"no archive", "cut", "flipped"])
def test_a_corrupt_file_is_made_anew(tmp_path, caplog, damage):
    cached_selection("k", a_selection, folder=tmp_path)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    half = len(content) // 2
    flipped = bytes(255 - b for b in content[half : half + 99])
    damaged = {"cut": content[:half], "flipped": content[:half] + flipped + content[half + 99 :]}
    file.write_bytes(damaged.get(damage, damage))
    other = a_selection(seed=2)
    assert cached_selection("k", lambda: other, folder=tmp_path) is other
    assert "cannot be read" in caplog.text
    assert_array_equal(cached_selection("k", never, folder=tmp_path).fitness, other.fitness)


def test_a_file_of_another_layout_is_made_anew(tmp_path):
    np.savez(tmp_path / "selection-k.npz", something=np.zeros(3))
    made = a_selection()
    assert cached_selection("k", lambda: made, folder=tmp_path) is made


def test_the_least_recently_used_selections_go_first(tmp_path):
    for key in "abc":
        cached_selection(key, a_selection, folder=tmp_path)
    size = max(f.stat().st_size for f in tmp_path.iterdir())
    for age, key in enumerate("cba"):
        os.utime(tmp_path / f"selection-{key}.npz", (1e9 - 100 * age,) * 2)
    cached_selection("a", never, folder=tmp_path)  # used again, so the oldest is b now
    stranger = tmp_path / "stranger.npz"
    stranger.write_bytes(bytes(10 * size))
    cached_selection("d", a_selection, folder=tmp_path, max_mb=3.5 * size / 1e6)
    assert sorted(f.stem for f in tmp_path.iterdir()) == ["selection-a", "selection-c", "selection-d", "stranger"]


def test_the_cache_stays_within_its_size_even_for_one_file(tmp_path):
    made = a_selection()
    assert cached_selection("k", lambda: made, folder=tmp_path, max_mb=1e-6) is made
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_costs_no_result(tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    made = a_selection()
    with caplog.at_level(logging.WARNING):
        assert cached_selection("k", lambda: made, folder=blocked) is made
    assert "not cached" in caplog.text


def test_an_error_of_the_selection_leaves_nothing_behind(tmp_path):
    def fail():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        cached_selection("k", fail, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_the_platforms_own(tmp_path, monkeypatch):
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    cached_selection("k", a_selection)
    assert (tmp_path / "deeprt" / "selection-k.npz").is_file()
