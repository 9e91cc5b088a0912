"""qMRMLNodeComboBox: a combo box that follows the nodes of a scene."""

import shiboken6
from PySide6.QtCore import Property, Qt, Signal, Slot
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QInputDialog, QWidget

from . import dialogs, faults
from .stored import stored

_EVENTS = ("NodeAdded", "NodeRemoved", "EndBatchProcess", "EndClose", "EndImport")


class _Following:
    """Tells a widget of changes in a scene and in the nodes it shows, for as long as there is the widget."""

    def __init__(self, scene, widget):
        self._scene, self._widget, self._nodes = scene, widget, []
        self._tags = [scene.AddObserver(getattr(scene, f"{event}Event"), self._on_event) for event in _EVENTS]

    def watch(self, nodes):
        for node, tag in self._nodes:
            node.RemoveObserver(tag)
        self._nodes = [(node, node.AddObserver("ModifiedEvent", self._on_event)) for node in nodes]

    def stop(self):
        self.watch([])
        for tag in self._tags:
            self._scene.RemoveObserver(tag)

    def _on_event(self, *_):
        if not shiboken6.isValid(self._widget):
            self.stop()
        elif not self._scene.IsBatchProcessing():
            self._widget._on_scene()


def _refresh(self, *_):
    self._seen = set()
    self._refresh()


class qMRMLNodeComboBox(QWidget):
    """Chooses one of the nodes of some classes; may make, rename and remove them."""

    currentNodeChanged = Signal((object,), (bool,))
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    nodeAboutToBeEdited = Signal(object)
    currentNodeRenamed = Signal(str)
    _signatures = (
        "currentNodeChanged(vtkMRMLNode*)",
        "nodeActivated(vtkMRMLNode*)",
        "nodeAdded(vtkMRMLNode*)",
        "nodeAddedByUser(vtkMRMLNode*)",
        "nodeAboutToBeRemoved(vtkMRMLNode*)",
        "nodeAboutToBeEdited(vtkMRMLNode*)",
        "setMRMLScene(vtkMRMLScene*)",
        "setCurrentNode(vtkMRMLNode*)",
    )

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene, self._following, self._attributes, self._labels = None, None, {}, {}
        self._nodes, self._actions, self._id, self._wanted = [], {}, "", None
        self._seen = set()  # nodes that were looked at: one that was refused is not looked at again, as in Slicer
        self._combo = QComboBox()
        self._combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        self._combo.activated.connect(self._on_activated)
        self.setEnabled(False)

    currentNodeID = Property(str, lambda self: self._id, lambda self, node_id: self.setCurrentNodeID(node_id))
    nodeTypes = stored("QStringList", [], apply=_refresh)
    showHidden = stored(bool, False, apply=_refresh)
    showChildNodeTypes = stored(bool, True, apply=_refresh)
    hideChildNodeTypes = stored("QStringList", [], apply=_refresh)
    baseName = stored(str, "")
    noneEnabled = stored(bool, False, apply=_refresh)
    addEnabled = stored(bool, True, apply=_refresh)
    removeEnabled = stored(bool, True, apply=_refresh)
    editEnabled = stored(bool, False, apply=_refresh)
    renameEnabled = stored(bool, False, apply=_refresh)
    interactionNodeSingletonTag = stored(str, "")
    selectNodeUponCreation = stored(bool, True)
    noneDisplay = stored(str, "None", apply=_refresh)
    sizeAdjustPolicy = stored(int, 0)

    def mrmlScene(self):
        return self._scene

    def addAttribute(self, nodeType, attributeName, attributeValue=None):
        if nodeType not in self.nodeTypes:
            faults.refuse(f"addAttribute for {nodeType}, which is not among the node types {self.nodeTypes}")
        self._attributes[nodeType] = (attributeName, attributeValue)  # one for each type: Slicer keeps no more
        _refresh(self)

    def removeAttribute(self, nodeType, attributeName):
        self._attributes.pop(nodeType, None)
        _refresh(self)

    def setNodeTypeLabel(self, label, nodeType):
        self._labels[nodeType] = label
        self._refresh()

    def nodeTypeLabel(self, nodeType):
        return self._labels.get(nodeType) or nodeType.removeprefix("vtkMRML").removesuffix("Node")

    def nodeCount(self):
        return len(self._nodes)

    def nodeFromIndex(self, index):
        return self._nodes[index] if 0 <= index < len(self._nodes) else None

    def currentNode(self):
        return self._scene.GetNodeByID(self._id) if self._scene and self._id else None

    @Slot(object)
    def setMRMLScene(self, scene):
        if scene is self._scene:
            return
        if self._following:
            self._following.stop()
        self._scene, self._following = scene, _Following(scene, self) if scene else None
        self.setEnabled(scene is not None)
        self._refresh()
        if scene and self._wanted:
            self.setCurrentNodeID(self._wanted)

    @Slot(object)
    @Slot(str)
    def setCurrentNode(self, node):
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node else "")

    @Slot(str)
    def setCurrentNodeID(self, node_id):
        self._wanted = None if self._scene else node_id
        self._select(node_id if node_id in [n.GetID() for n in self._nodes] else "")

    @Slot(int)
    def setCurrentNodeIndex(self, index):
        self.setCurrentNode(self.nodeFromIndex(index))

    @Slot(result=object)
    def addNode(self, nodeType=None):
        kind = nodeType or self.nodeTypes[0]
        node = self._scene.CreateNodeByClass(kind)
        node.UnRegister(None)
        name = self.baseName or node.GetNodeTagName()
        node.SetName(self._scene.GenerateUniqueName(name))
        if kind in self._attributes:
            attribute, value = self._attributes[kind]
            node.SetAttribute(attribute, str(value or ""))
        node = self._scene.AddNode(node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    @Slot()
    def removeCurrentNode(self):
        if self.currentNode():
            self.nodeAboutToBeRemoved.emit(self.currentNode())
            self._scene.RemoveNode(self.currentNode())

    @Slot()
    def editCurrentNode(self):
        self.nodeAboutToBeEdited.emit(self.currentNode())

    @Slot()
    def renameCurrentNode(self):
        node = self.currentNode()
        name = dialogs.asked(
            QInputDialog, "getText", (f"Rename {self.nodeTypeLabel(node.GetClassName())}", node.GetName())
        )
        if name:
            node.SetName(name)
            self._refresh()
            self.currentNodeRenamed.emit(name)

    def _on_scene(self):
        known = {n.GetID() for n in self._nodes}
        self._refresh()
        for node in self._nodes:
            if node.GetID() not in known:
                self.nodeAdded.emit(node)

    def _offers(self, node):
        """Whether a node is shown: the first type that it is of decides, as in Slicer."""
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        for kind in self.nodeTypes:
            if not node.IsA(kind) or not (self.showChildNodeTypes or node.GetClassName() == kind):
                continue
            if self.showChildNodeTypes and any(node.IsA(hidden) for hidden in self.hideChildNodeTypes):
                return False
            name, value = self._attributes.get(kind, ("", None))
            found = node.GetAttribute(name) if name else ""
            return found is not None and value in (None, found)
        return False

    def _watched(self, node):
        """Whether a node is looked at again when it changes: Slicer does so if it shows it or filters by attributes."""
        return node in self._nodes or any(node.IsA(kind) for kind in self._attributes)

    def _refresh(self):
        place = next((k for k, n in enumerate(self._nodes) if n.GetID() == self._id), 0)
        was_chosen, scene = bool(self._id), self._scene
        nodes = [scene.GetNthNode(k) for k in range(scene.GetNumberOfNodes())] if scene else []
        known = {node.GetID() for node in nodes if self._watched(node)}
        self._nodes = [n for n in nodes if (n.GetID() in known or n.GetID() not in self._seen) and self._offers(n)]
        self._seen = {node.GetID() for node in nodes}
        if self._following:
            self._following.watch([node for node in nodes if self._watched(node)])
        offered = [node.GetID() for node in self._nodes]
        chosen = self._id if self._id in offered else ""
        if not chosen and offered and (was_chosen or not self.noneEnabled):
            chosen = offered[min(place, len(offered) - 1)]
        self._fill()
        self._select(chosen)

    def _fill(self):
        self._combo.blockSignals(True)
        self._combo.clear()
        if self.noneEnabled:
            self._combo.addItem(self.noneDisplay, "")
        for node in self._nodes:
            self._combo.addItem(node.GetName() or "", node.GetID())
        kinds = list(self.nodeTypes)
        label = self.nodeTypeLabel(kinds[0]) if len(kinds) == 1 else "node"
        self._actions = {}
        if self.renameEnabled:
            self._actions[f"Rename current {label}"] = self.renameCurrentNode
        if self.editEnabled:
            self._actions[f"Edit current {label}"] = self.editCurrentNode
        if self.addEnabled:
            for kind in kinds:
                self._actions[f"Create new {self.nodeTypeLabel(kind)}"] = lambda kind=kind: self.addNode(kind)
        if self.removeEnabled:
            self._actions[f"Delete current {label}"] = self.removeCurrentNode
        if self._actions and self._scene:
            self._combo.insertSeparator(self._combo.count())
            self._combo.addItems(list(self._actions))
        self._combo.setPlaceholderText(f"Select a {label}")
        self._combo.blockSignals(False)

    def _select(self, node_id):
        index = self._combo.findData(node_id, Qt.ItemDataRole.UserRole) if node_id or self.noneEnabled else -1
        self._combo.blockSignals(True)
        self._combo.setCurrentIndex(index)
        self._combo.blockSignals(False)
        if node_id != self._id:
            self._id = node_id
            self.currentNodeChanged[object].emit(self.currentNode())
            self.currentNodeChanged[bool].emit(bool(node_id))
            self.currentNodeIDChanged.emit(node_id)

    def _on_activated(self, index):
        action = self._actions.get(self._combo.itemText(index))
        if action and self._combo.itemData(index) is None:
            self._select(self._id)
            action()
        else:
            self._select(self._combo.itemData(index) or "")
            self.nodeActivated.emit(self.currentNode())
