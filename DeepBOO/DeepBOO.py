"""The module DeepBOO in 3D Slicer. This file is its door: the panel is in DeepBOOLib, the work in `deeprt`."""

import sys
from pathlib import Path

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)


class DeepBOO(ScriptedLoadableModule):
    """What the application knows of the module before it is opened."""

    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("DeepBOO")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Radiotherapy")]
        parent.dependencies = []
        parent.contributors = ["DeepRT team"]
        parent.helpText = _(
            "<p>Chooses beam orientations for intensity-modulated radiotherapy. A network that has learned from column "
            "generation proposes one beam after the other. Add, move, lock and remove beams as you like: after every "
            "edit it predicts anew.</p><p>Load CT and structures, or press <i>Try it</i>. The module DeepFluence goes "
            "on with the plan.</p><p><b>For research, not for clinical use.</b></p>"
        )
        parent.acknowledgementText = _(
            "<p>The method: {citation}</p><p>The network is our own and has learned from virtual patients.</p>"
        ).format(
            citation="A. Sadeghnejad Barkousaraie, O. Ogunmolu, S. Jiang, D. Nguyen. A fast deep learning approach for "
            "beam orientation optimization for prostate cancer treated with intensity-modulated radiation therapy. "
            "Med. Phys. 47, 880 (2020)."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    """Offer the virtual patient in the module Sample Data."""
    import DeepBOOLib  # noqa: F401 finds the packages in a source checkout

    from deeprt_slicer import sample_data

    sample_data.register(Path(__file__).parent / "Resources/Icons/DeepBOOVirtualProstate.png")


class DeepBOOWidget(ScriptedLoadableModuleWidget):
    """The place of the module's panel in the application."""

    panel = None

    def setup(self):
        """Make the panel, when the module is opened for the first time."""
        super().setup()
        from DeepBOOLib.Widget import Panel

        self.panel = Panel(self.parent, self.resourcePath)

    def cleanup(self):
        """Leave nothing behind, before the module is reloaded or the application closes."""
        if self.panel:
            self.panel.frame.cleanup()

    def enter(self):
        """Go on, when the user comes to the module."""
        if self.panel:
            self.panel.frame.enter()

    def exit(self):
        """Pause, when the user leaves the module."""
        if self.panel:
            self.panel.frame.exit()

    def onReload(self):
        """Read the code of the panel anew, too."""
        for name in [n for n in sys.modules if n.partition(".")[0] == "DeepBOOLib"]:
            del sys.modules[name]
        super().onReload()


class DeepBOOTest(ScriptedLoadableModuleTest):
    """What can be tested in Slicer without a user; ctest runs it, and so does Reload and Test in the panel."""

    def test_theUserLeavesThePanelAndComesBack(self):
        """The panel is there before and after."""
        widget = slicer.util.getModuleWidget("DeepBOO")
        self.assertIsNotNone(widget.panel)
        widget.exit()
        widget.enter()
        self.assertTrue(widget.panel.frame.ui.tryItButton.toolTip)
