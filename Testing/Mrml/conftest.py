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
