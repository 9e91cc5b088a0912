"""Files of a planning session: work folders, presets, saved scenes."""

import tomllib
from dataclasses import replace

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from Mrml.samples import a_case
from Mrml.session_samples import ANGLES, WorkAtOnce, a_session, finish
from numpy.testing import assert_allclose, assert_array_equal

from deeprt.config import PlanningConfig, read_config
from deeprt.errors import InputError
from deeprt.orientation.session import SessionBeam
from deeprt.preparation import load_case
from deeprt.structures import Role
from deeprt_mrml.session import PlanSession
from deeprt_mrml.subject_hierarchy import plan_nodes

CASE = a_case()


@pytest.fixture
def session(scene, tmp_path):
    return a_session(scene, tmp_path / "jobs")


def roles(session):
    return {r.name: r.role for r in session.structures()}


def test_the_work_folder_holds_case_settings_and_beams(session, tmp_path):
    session.plan.beams = [SessionBeam(a) for a in ANGLES]
    work = session.work_folder()
    assert work.path.is_relative_to(tmp_path / "jobs")
    assert_array_equal(work.read_case().ct_hu, session.prepared().case.ct_hu)
    config = work.read_config()
    assert config.beams.gantry_deg == (10.0, 130.0, 250.0)
    assert config.beams.couch_deg == (0.0, 0.0, 0.0)
    assert replace(config, beams=session.plan.config.beams) == session.plan.config
    other = session.work_folder("other", angles=ANGLES[:1])
    assert other.path.parent == work.path.parent
    assert other.read_config().beams.gantry_deg == (10.0,)


@pytest.mark.parametrize("names", [("A b", "A_b"), ("plan a", "PLAN A"), ("x" * 300, "x" * 300 + "y")])
def test_plans_have_folders_of_their_own_whatever_their_names(session, names):
    """Also on a disk that does not tell upper from lower case."""
    plans, folders = [], []
    for name, dose_gy in zip(names, (60.0, 44.0), strict=True):
        plans.append(session.new_plan(name))
        session.set_prescription("PTV", dose_gy)
        folders.append(session.work_folder())
    session.open(plans[0])
    assert session.work_folder().read_case().targets[0].prescription_gy == 60.0
    assert len({str(f.path).lower() for f in folders}) == 2


def test_the_work_folder_says_nothing_of_structures_that_the_case_lacks(session):
    session.set_prescription("Metal", 30.0)
    segmentation = session.plan.segmentation_node.GetSegmentation()
    segmentation.RemoveSegment(segmentation.GetSegmentIdBySegmentName("Metal"))
    work = session.work_folder()
    config = work.read_config()
    assert "Metal" in session.plan.config.structure_choices()  # it may come back
    assert set(config.structure_choices()) == {s.name for s in work.read_case().structures}
    case = load_case(str(work.path / "case.npz"), config)
    assert [s.role for s in case.structures] == [s.role for s in session.prepared().case.structures]


def test_targets_without_a_voxel_cannot_be_planned(session):
    segmentation = session.plan.segmentation_node.GetSegmentation()
    segmentation.RemoveSegment(segmentation.GetSegmentIdBySegmentName("PTV"))
    segmentation.AddEmptySegment("PTV", "PTV")
    with pytest.raises(InputError, match="All targets are empty; draw one, or give another structure the role target"):
        session.prepared()


def test_a_preset_brings_settings_and_not_beams(session, tmp_path):
    session.set_role("Metal", Role.ORGAN_AT_RISK)
    session.set_weight("Rectum", 4.0)
    session.plan.beams = [SessionBeam(ANGLES[0])]
    file = tmp_path / "preset.toml"
    session.save_preset(file)
    assert "PTV" in tomllib.loads(file.read_text())["structures"]
    saved = session.plan.config
    assert read_config(file) == saved
    other = session.new_plan("Other")
    other.config = PlanningConfig()
    assert session.load_preset(file) == ()
    assert other.config == saved
    assert other.beams == ()


def test_a_preset_of_other_structures_says_which_are_not_there(session, tmp_path):
    file = tmp_path / "preset.toml"
    file.write_text(
        'n_fractions = 5\n[prescription_gy]\nPTV = 25.0\nLiver = 10.0\n[structures.Rectum]\nrole = "other"\n'
    )
    assert session.load_preset(file) == ("Liver",)
    assert session.plan.config.n_fractions == 5
    rows = {r.name: r for r in session.structures()}
    assert rows["PTV"].prescription_gy == 25.0
    assert rows["Rectum"].role is Role.OTHER


def test_presets_that_cannot_be_read_or_written_are_errors(session, tmp_path):
    with pytest.raises(InputError, match="Cannot read"):
        session.load_preset(tmp_path / "nowhere.toml")
    (tmp_path / "wrong.toml").write_text("machne = 'x'")
    before = session.plan.config
    with pytest.raises(InputError, match="unknown key 'machne'"):
        session.load_preset(tmp_path / "wrong.toml")
    assert session.plan.config == before
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write"):
        session.save_preset(tmp_path / "file" / "preset.toml")


def test_a_saved_scene_is_the_same_session(scene, session, tmp_path):
    """The case is the same to rounding: what was computed for it stays valid."""
    before = session.prepared().case
    session.set_role("Rectum", Role.OTHER)
    assert scene.WriteToMRB(str(tmp_path / "plan.mrb"))
    session.scene_was_closed()
    scene.Clear(False)
    assert scene.ReadFromMRB(str(tmp_path / "plan.mrb"), True)
    session.open(session.plans()[0])
    after = session.prepared().case
    assert roles(session)["Rectum"] is Role.OTHER
    assert_allclose(after.grid.index_to_lps, before.grid.index_to_lps, atol=1e-6)
    assert_allclose(after.ct_hu, before.ct_hu, atol=1e-2)
    for s in before.structures:
        assert_allclose(after.structure(s.name).fraction, s.fraction, atol=1e-5, err_msg=s.name)


def test_each_session_has_work_of_its_own(scene, session, tmp_path):
    other = PlanSession(scene, tmp_path / "other")
    other.work = WorkAtOnce(tmp_path / "other")
    other.open(other.plans()[0])
    done = []
    session.work.start("Something", ["beams", "virtual:water", "--beams", "1", "--out", str(tmp_path / "out")],
                       lambda: done.append(1))  # fmt: skip
    assert session.work.is_busy
    assert not other.work.is_busy
    assert plan_nodes(scene, other.plan.key) == plan_nodes(scene, session.plan.key)
    finish(session)
    assert done == [1]
    assert np.array_equal(other.prepared().case.ct_hu, session.prepared().case.ct_hu)
