"""What happens in the scene that a panel has to know."""

from __future__ import annotations

from collections.abc import Callable

import qt
import slicer


class SceneWatch:
    """Tells a panel when the scene is closed, and when nodes came or went.

    Parameters
    ----------
    on_close : called before the nodes of a scene that is closed go away; forget the plan now
    on_change : called once, a moment later, after the scene was closed or loaded or nodes were removed; show all anew
    """

    def __init__(
        self, scene: slicer.vtkMRMLScene, *, on_close: Callable[[], None], on_change: Callable[[], None]
    ) -> None:
        self._scene, self._on_close = scene, on_close
        self._timer = qt.QTimer()  # which gathers what happens in one go
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", on_change)
        changes = (scene.EndCloseEvent, scene.EndImportEvent, scene.EndRestoreEvent, scene.NodeRemovedEvent)
        self._observers = [scene.AddObserver(event, self._change) for event in changes]
        self._observers.append(scene.AddObserver(scene.StartCloseEvent, self._close))

    def stop(self) -> None:
        """Watch no more; for when the panel goes away."""
        self._timer.stop()
        for tag in self._observers:
            self._scene.RemoveObserver(tag)
        self._observers = []

    def _close(self, _scene: slicer.vtkMRMLScene, _event: str) -> None:
        self._on_close()

    def _change(self, _scene: slicer.vtkMRMLScene, _event: str) -> None:
        self._timer.start(0)
