"""Modules of Python that Slicer has and slicer-core lacks: ScriptedLoadableModule, i18n and SampleData."""

import types
import unittest
from dataclasses import dataclass
from pathlib import Path

import slicer


class ScriptedLoadableModule:
    """Describes a module; sets title, help and the like on `parent`."""

    def __init__(self, parent):
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title, parent.categories, parent.dependencies = "", [], []
        parent.contributors, parent.helpText, parent.acknowledgementText = [], "", ""
        for ending in (".svg", ".png"):
            icon = Path(self.resourcePath(f"Icons/{self.moduleName}{ending}"))
            if icon.is_file():
                import qt

                parent.icon = qt.QIcon(str(icon))
                break

    def resourcePath(self, filename):
        return str(Path(self.parent.path).parent / "Resources" / filename)

    def getDefaultModuleDocumentationLink(self, docPage=None):
        return f'<p>For more information, see the <a href="{docPage or self.moduleName}">online documentation</a>.</p>'


class ScriptedLoadableModuleWidget:
    """The panel of a module, whose widgets go into `layout`."""

    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        self.parent = parent
        self.layout = parent.layout()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def resourcePath(self, filename):
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

    def setup(self):
        pass

    def cleanup(self):
        pass

    def onReload(self):
        slicer.util.reloadScriptedModule(self.moduleName)

    def _onModuleAboutToBeUnloaded(self, moduleName):
        if moduleName == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)


class ScriptedLoadableModuleLogic:
    """What a module computes."""

    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Tests of a module that run inside Slicer."""

    def delayDisplay(self, message, requestedDelay=None, msec=None):
        slicer.util.delayDisplay(message, msec or 0)

    def runTest(self):
        pass


@dataclass(frozen=True)
class SampleDataSource:
    """A data set that the module Sample Data offers."""

    sampleName: str
    uris: object
    fileNames: object
    nodeNames: object
    customDownloader: object
    thumbnailFileName: object


class SampleDataLogic:
    """The registry of data sets."""

    @staticmethod
    def registerCustomSampleDataSource(
        category="Custom",
        sampleName=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileTypes=None,
        loadFiles=None,
        loadFileProperties=None,
        checksums=None,
        loadFileType=None,
    ):
        source = SampleDataSource(sampleName, uris, fileNames, nodeNames, customDownloader, thumbnailFileName)
        slicer.modules.sampleDataSources.setdefault(category, []).append(source)


def modules():
    """The modules by the names under which Slicer imports them."""
    i18n = types.ModuleType("slicer.i18n")
    i18n.tr = lambda text: _text(text)
    i18n.translate = lambda context, text: _text(text) if _text(context) else ""
    scripted = types.ModuleType("slicer.ScriptedLoadableModule")
    for kind in (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    ):
        setattr(scripted, kind.__name__, kind)
    scripted.__all__ = [name for name in vars(scripted) if name.startswith("Scripted")]
    sample_data = types.ModuleType("SampleData")
    sample_data.SampleDataLogic, sample_data.SampleDataSource = SampleDataLogic, SampleDataSource
    return {"slicer.i18n": i18n, "slicer.ScriptedLoadableModule": scripted, "SampleData": sample_data}


def _text(text):
    if not isinstance(text, str):
        raise TypeError(f"a text to translate is a str, not {type(text).__name__}")
    return text
