"""A scene of real MRML with the logic that Slicer has around it, and without Slicer."""

import pytest


@pytest.fixture
def scene(tmp_path):
    """An empty scene that can read and write all kinds of nodes, and its one subject hierarchy."""
    import slicer

    scene, application = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    application.SetTemporaryPath(str(tmp_path))
    application.GetColorLogic().SetMRMLScene(scene)
    remote, data = slicer.vtkMRMLRemoteIOLogic(), slicer.vtkDataIOManagerLogic()
    remote.GetCacheManager().SetRemoteCacheDirectory(str(tmp_path))
    remote.SetMRMLScene(scene)
    remote.AddDataIOToScene()
    data.SetMRMLApplicationLogic(application)
    data.SetAndObserveDataIOManager(remote.GetDataIOManager())
    logics = [
        slicer.vtkSlicerVolumesLogic(),
        slicer.vtkSlicerModelsLogic(),
        slicer.vtkSlicerMarkupsLogic(),
        slicer.vtkSlicerSegmentationsModuleLogic(),
        slicer.vtkSlicerSubjectHierarchyModuleLogic(),
    ]
    for logic in logics:
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
    slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    yield scene
    scene.Clear(True)


_KEPT = {}  # what takes seconds to make: a scene with all results, as a file, and the numbers it had


@pytest.fixture
def bundle(scene, tmp_path_factory):
    """A scene with all results of a plan, as a file, and their numbers."""
    if not _KEPT:
        from Mrml.session_samples import ANGLES, a_session, finish

        from deeprt_mrml.fluence_planning import FluencePlanning

        folder = tmp_path_factory.mktemp("bundle")
        planning = FluencePlanning(a_session(scene, folder / "jobs"))
        planning.set_beams(ANGLES)
        planning.start_all()
        finish(planning._session)
        _KEPT["numbers"] = planning.total_mu(), planning.metrics(), planning.goals(), planning.gamma()
        _KEPT["maps"] = planning.maps()
        assert scene.WriteToMRB(str(folder / "plan.mrb"))
        scene.Clear(False)
        _KEPT["file"] = folder / "plan.mrb"
    return _KEPT


@pytest.fixture
def opened(scene, tmp_path, bundle):
    """A new session in that scene, read again."""
    from Mrml.session_samples import WorkAtOnce

    from deeprt_mrml.session import PlanSession

    assert scene.ReadFromMRB(str(bundle["file"]), True)
    session = PlanSession(scene, tmp_path / "other")
    session.work = WorkAtOnce(tmp_path / "other")
    session.open(session.plans()[0])
    return session


@pytest.fixture
def done(opened):
    """A plan with all results."""
    from deeprt_mrml.fluence_planning import FluencePlanning

    return FluencePlanning(opened)
