"""Widgets of Slicer that show nodes of a scene: as much of them as panels use."""

from PySide6.QtCore import QItemSelection, Qt, Signal, Slot
from PySide6.QtGui import QColor, QStandardItem, QStandardItemModel
from PySide6.QtWidgets import QAbstractItemView, QTableView, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget

from .node_combo_box import qMRMLNodeComboBox
from .stored import stored


class qMRMLWidget(QWidget):
    """A widget that knows the scene."""

    mrmlSceneChanged = Signal(object)
    _signatures = ("mrmlSceneChanged(vtkMRMLScene*)", "setMRMLScene(vtkMRMLScene*)")
    _scene = None

    def mrmlScene(self):
        return self._scene

    @Slot(object)
    def setMRMLScene(self, scene):
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


class qMRMLSegmentsTableView(qMRMLWidget):
    """The segments of a segmentation, with color and name."""

    selectionChanged = Signal(QItemSelection, QItemSelection)
    segmentAboutToBeModified = Signal(str)
    _signatures = (*qMRMLWidget._signatures, "setSegmentationNode(vtkMRMLNode*)")
    _node = None

    def __init__(self, parent=None):
        super().__init__(parent)
        self._table = QTableWidget(0, 1)
        self._table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self._table.horizontalHeader().setStretchLastSection(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._table)
        self._table.selectionModel().selectionChanged.connect(self.selectionChanged)

    selectionMode = stored(int, 3)
    headerVisible = stored(bool, True)
    visibilityColumnVisible = stored(bool, True)
    colorColumnVisible = stored(bool, True)
    opacityColumnVisible = stored(bool, True)
    statusColumnVisible = stored(bool, False)
    layerColumnVisible = stored(bool, False)
    readOnly = stored(bool, False)
    filterBarVisible = stored(bool, False)

    def segmentationNode(self):
        return self._node

    def selectedSegmentIDs(self):
        rows = sorted({index.row() for index in self._table.selectedIndexes()})
        return [self._table.item(row, 0).data(Qt.ItemDataRole.UserRole) for row in rows]

    def displayedSegmentIDs(self):
        return [self._table.item(row, 0).data(Qt.ItemDataRole.UserRole) for row in range(self._table.rowCount())]

    def setSelectedSegmentIDs(self, segment_ids):
        self._table.clearSelection()
        for row, segment_id in enumerate(self.displayedSegmentIDs()):
            if segment_id in segment_ids:
                self._table.selectRow(row)

    def clearSelection(self):
        self._table.clearSelection()

    @Slot(object)
    def setSegmentationNode(self, node):
        self._node = node
        segmentation = node.GetSegmentation() if node else None
        self._table.setRowCount(segmentation.GetNumberOfSegments() if segmentation else 0)
        for row in range(self._table.rowCount()):
            segment = segmentation.GetNthSegment(row)
            item = QTableWidgetItem(segment.GetName())
            item.setData(Qt.ItemDataRole.UserRole, segmentation.GetNthSegmentID(row))
            item.setData(Qt.ItemDataRole.DecorationRole, QColor.fromRgbF(*segment.GetColor()))
            self._table.setItem(row, 0, item)


class qMRMLTableView(QTableView):
    """The table of a node."""

    mrmlSceneChanged = Signal(object)
    _signatures = (
        *qMRMLWidget._signatures,
        "setMRMLTableNode(vtkMRMLTableNode*)",
        "setMRMLTableNode(vtkMRMLNode*)",
    )
    _scene = _node = None

    transposed = stored(bool, False)
    firstRowLocked = stored(bool, False)
    firstColumnLocked = stored(bool, False)

    def mrmlScene(self):
        return self._scene

    def mrmlTableNode(self):
        return self._node

    @Slot(object)
    def setMRMLScene(self, scene):
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)

    @Slot(object)
    def setMRMLTableNode(self, node):
        self._node = node
        table = node.GetTable() if node else None
        n_columns = table.GetNumberOfColumns() if table else 0
        model = QStandardItemModel(table.GetNumberOfRows() if table else 0, n_columns, self)
        for column in range(n_columns):
            model.setHorizontalHeaderItem(column, QStandardItem(table.GetColumnName(column)))
            for row in range(model.rowCount()):
                model.setItem(row, column, QStandardItem(table.GetValue(row, column).ToString()))
        self.setModel(model)


STAND_INS = {kind.__name__: kind for kind in (qMRMLWidget, qMRMLNodeComboBox, qMRMLSegmentsTableView, qMRMLTableView)}
