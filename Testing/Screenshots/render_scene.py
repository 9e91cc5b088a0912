"""Pictures of a scene as Slicer would show it, without Slicer: its own displayable managers draw, off screen.

Everything is taken from the nodes of the scene, which is left as it was. Needs ``slicer-core`` and EGL, no display.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import slicer
import vtk
from PIL import Image
from vtk.util.numpy_support import vtk_to_numpy

WORDS = "For research, not for clinical use"
_SLICE_MANAGERS = (
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
)
_VIEW_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager",
)
# Letters at the left, right, lower and upper edge, as Slicer turns the planes.
_EDGES = {"Axial": "RLPA", "Sagittal": "APIS", "Coronal": "RLIS"}
_NORMAL_AXIS = {"Axial": 2, "Sagittal": 0, "Coronal": 1}
_AXIS_LETTERS = ("LR", "PA", "IS")  # towards smaller and greater RAS
_LINE_STYLES = {"none": "none", "solid": "-", "dash": "--", "dot": ":", "dash-dot": "-.", "dash-dot-dot": "-."}
_MARKERS = {"none": "", "cross": "x", "plus": "+", "square": "s", "circle": "o", "diamond": "D"}
_BACKGROUND = (0.1, 0.11, 0.13)
_LEGEND = 18  # pixels of text


def render_slice(
    scene: slicer.vtkMRMLScene,
    path: Path,
    orientation: str = "Axial",
    *,
    at_ras: Sequence[float] | None = None,
    background: slicer.vtkMRMLScalarVolumeNode | None = None,
    foreground: slicer.vtkMRMLScalarVolumeNode | None = None,
    foreground_opacity: float = 0.4,
    field_of_view_mm: float | None = None,
    size: tuple[int, int] = (700, 700),
) -> None:
    """Write a slice view as PNG.

    Parameters
    ----------
    orientation : Axial, Sagittal or Coronal
    at_ras : point in the middle of the view; that of the background if None
    background, foreground : volumes, such as CT and dose
    field_of_view_mm : width of the view; the background's if None
    """
    with _application(scene) as application, _temporary_nodes(scene):
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
        node = logic.AddSliceNode("Screenshot")
        node.SetOrientation(orientation)
        node.SetDimensions(*size, 1)
        composite = logic.GetSliceCompositeNode()
        for volume, set_id in (
            (background, composite.SetBackgroundVolumeID),
            (foreground, composite.SetForegroundVolumeID),
        ):
            set_id(volume.GetID() if volume is not None else None)
        composite.SetForegroundOpacity(foreground_opacity)
        logic.FitSliceToAll(*size)
        if field_of_view_mm is not None:
            node.SetFieldOfView(field_of_view_mm, field_of_view_mm * size[1] / size[0], node.GetFieldOfView()[2])
        if at_ras is not None:
            node.JumpSliceByCentering(*at_ras)
        renderer, window = _window(size)
        image = vtk.vtkImageMapper()
        image.SetColorWindow(255)
        image.SetColorLevel(127.5)
        image.SetInputConnection(logic.GetImageDataConnection())
        actor = vtk.vtkActor2D()
        actor.SetMapper(image)
        actor.GetProperty().SetDisplayLocationToBackground()
        renderer.AddViewProp(actor)
        group = _display(application, renderer, node, _SLICE_MANAGERS)
        middle = node.GetSliceToRAS()
        axis = _NORMAL_AXIS[orientation]
        offset = middle.GetElement(axis, 3)
        place = f"{_AXIS_LETTERS[axis][int(offset >= 0)]} {abs(offset):.0f} mm"
        _write_on(renderer, size, f"{orientation}  {place}", _EDGES[orientation])
        if foreground is not None:
            _add_legend(renderer, foreground)
        _save(window, path)
        group.SetMRMLDisplayableNode(None)


def render_3d(
    scene: slicer.vtkMRMLScene,
    path: Path,
    *,
    at_ras: Sequence[float],
    from_ras: Sequence[float] = (-0.45, 1.0, 0.5),
    height_mm: float = 700.0,
    size: tuple[int, int] = (900, 700),
) -> None:
    """Write a 3-D view as PNG.

    Parameters
    ----------
    at_ras : point in the middle of the view
    from_ras : direction in which the camera stands from there
    height_mm : of what the view shows there
    """
    with _application(scene) as application, _temporary_nodes(scene):
        view = scene.AddNode(slicer.vtkMRMLViewNode())
        view.SetBoxVisible(False)
        view.SetAxisLabelsVisible(False)
        view.SetBackgroundColor(*_BACKGROUND)
        view.SetBackgroundColor2(*_BACKGROUND)
        renderer, window = _window(size)
        group = _display(application, renderer, view, _VIEW_MANAGERS)
        camera = renderer.GetActiveCamera()
        toward = np.asarray(from_ras, float) / np.linalg.norm(from_ras)
        distance = height_mm / 2 / np.tan(np.radians(camera.GetViewAngle() / 2))
        camera.SetFocalPoint(*at_ras)
        camera.SetPosition(*(np.asarray(at_ras, float) + distance * toward))
        camera.SetViewUp(0.0, 0.0, 1.0)
        renderer.ResetCameraClippingRange()
        _write_on(renderer, size, "", "")
        _save(window, path)
        group.SetMRMLDisplayableNode(None)


def render_chart(
    chart: slicer.vtkMRMLPlotChartNode, path: Path, *, size: tuple[int, int] = (900, 520), dpi: int = 100
) -> None:
    """Write a plot chart as PNG: its series, their tables, colors and lines; drawn by matplotlib, not by Slicer."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] / dpi, size[1] / dpi), dpi=dpi, layout="constrained")
    axes = figure.add_subplot()
    for n in range(chart.GetNumberOfPlotSeriesNodes()):
        series = chart.GetNthPlotSeriesNode(n)
        columns = (series.GetXColumnName(), series.GetYColumnName())
        x, y = (slicer.util.arrayFromTableColumn(series.GetTableNode(), c) for c in columns)
        axes.plot(
            x, y, label=series.GetName(), color=series.GetColor(), linewidth=series.GetLineWidth() * 72 / dpi,
            linestyle=_LINE_STYLES[series.GetLineStyleAsString(series.GetLineStyle())],
            marker=_MARKERS[series.GetMarkerStyleAsString(series.GetMarkerStyle())],
            markersize=series.GetMarkerSize() * 72 / dpi,
        )  # fmt: skip
    axes.set(title=chart.GetTitle(), xlabel=chart.GetXAxisTitle(), ylabel=chart.GetYAxisTitle())
    axes.margins(x=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if chart.GetLegendVisibility():
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    figure.text(0.995, 0.01, WORDS, ha="right", fontsize=8, color="#666666")
    FigureCanvasAgg(figure).print_png(path)


@contextmanager
def _application(scene: slicer.vtkMRMLScene) -> Iterator[slicer.vtkMRMLApplicationLogic]:
    """Logic that the displayable managers ask for."""
    application = slicer.vtkMRMLApplicationLogic()
    application.SetMRMLScene(scene)
    markups = slicer.vtkSlicerMarkupsLogic()
    markups.SetMRMLApplicationLogic(application)
    vtk.vtkObject.GlobalWarningDisplayOff()  # that its classes are known already
    markups.SetMRMLScene(scene)
    vtk.vtkObject.GlobalWarningDisplayOn()
    application.SetModuleLogic("Markups", markups)
    try:
        yield application
    finally:
        application.SetMRMLScene(None)


@contextmanager
def _temporary_nodes(scene: slicer.vtkMRMLScene) -> Iterator[None]:
    """Take away what is added to the scene meanwhile."""
    before = {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())}
    try:
        yield
    finally:
        after = [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]
        for node in after:
            if node.GetID() not in before:
                scene.RemoveNode(node)


def _window(size: tuple[int, int]) -> tuple[vtk.vtkRenderer, vtk.vtkRenderWindow]:
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
    renderer, window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
    window.SetOffScreenRendering(True)
    window.SetSize(*size)
    window.SetMultiSamples(8)
    window.AddRenderer(renderer)
    interactor = vtk.vtkGenericRenderWindowInteractor()  # which displayable managers observe
    interactor.SetRenderWindow(window)
    return renderer, window


def _display(
    application: slicer.vtkMRMLApplicationLogic,
    renderer: vtk.vtkRenderer,
    view: slicer.vtkMRMLAbstractViewNode,
    managers: Sequence[str],
) -> slicer.vtkMRMLDisplayableManagerGroup:
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.SetRenderer(renderer)
    for name in managers:
        manager = getattr(slicer, name)()
        manager.SetMRMLApplicationLogic(application)
        group.AddDisplayableManager(manager)
    group.SetMRMLDisplayableNode(view)
    return group


def _write_on(renderer: vtk.vtkRenderer, size: tuple[int, int], caption: str, edges: str) -> None:
    """Write the caption above, what the picture is for below, and directions at the edges."""
    width, height = size
    left, right, lower, upper = edges or " " * 4
    for text, x, y, justification in (
        (caption, 12, height - 28, "Left"),
        (WORDS, width - 12, 10, "Right"),
        (left, 12, height // 2 - 8, "Left"),
        (right, width - 12, height // 2 - 8, "Right"),
        (lower, width // 2, 10, "Centered"),
        (upper, width // 2, height - 28, "Centered"),
    ):
        if not text.strip():
            continue
        actor = vtk.vtkTextActor()
        actor.SetInput(text)
        actor.SetPosition(x, y)
        style = actor.GetTextProperty()
        style.SetFontSize(_LEGEND - 2 if text is WORDS else _LEGEND)
        style.SetColor(1.0, 1.0, 1.0)
        style.SetShadow(True)
        getattr(style, f"SetJustificationTo{justification}")()
        renderer.AddViewProp(actor)


def _add_legend(renderer: vtk.vtkRenderer, volume: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Explain the colors of a volume by those and the window of its display node."""
    display = volume.GetDisplayNode()
    table = display.GetColorNode().CreateLookupTableCopy()
    table.SetRange(display.GetWindowLevelMin(), display.GetWindowLevelMax())
    bar = vtk.vtkScalarBarActor()
    bar.SetLookupTable(table)
    unit = " (Gy)" if volume.GetAttribute("DicomRtImport.DoseVolume") else ""
    bar.SetTitle(f"{volume.GetName()}{unit}")
    bar.SetLabelFormat("{:.0f}")
    bar.SetNumberOfLabels(4)
    bar.SetPosition(0.015, 0.03)
    bar.SetWidth(0.11)
    bar.SetHeight(0.3)
    bar.SetBarRatio(0.22)
    bar.SetTextPad(4)
    bar.UnconstrainedFontSizeOn()
    for style in (bar.GetTitleTextProperty(), bar.GetLabelTextProperty()):
        style.SetFontSize(_LEGEND - 4)
        style.BoldOff()
        style.ItalicOff()
        style.ShadowOff()
    renderer.AddViewProp(bar)


def _save(window: vtk.vtkRenderWindow, path: Path) -> None:
    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    image = grab.GetOutput()
    width, height, _ = image.GetDimensions()
    rgb = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, 3)[::-1]
    Image.fromarray(np.ascontiguousarray(rgb)).save(path, optimize=True)
