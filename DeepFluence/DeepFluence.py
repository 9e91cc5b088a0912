"""The module DeepFluence in 3D Slicer. This file is its door: the panel is in DeepFluenceLib, the work in `deeprt`."""

import sys

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)


class DeepFluence(ScriptedLoadableModule):
    """What the application knows of the module before it is opened."""

    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("DeepFluence")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Radiotherapy")]
        parent.dependencies = []
        parent.contributors = ["DeepRT team"]
        parent.helpText = _(
            "<p>Turns a dose into a plan that can be delivered: a network predicts the fluence maps from contours and "
            "dose, without inverse planning. They are sequenced for the leaves, and the dose of the segments is "
            "calculated, compared and exported as DICOM.</p><p>Go on with a plan of the module DeepBOO, read beams "
            "from an RTPLAN, or press <i>Try it</i>.</p><p><b>For research, not for clinical use.</b></p>"
        )
        parent.acknowledgementText = _(
            "<p>The method: {citation}</p><p>The network is our own and has learned from virtual patients.</p>"
        ).format(
            citation="H. Lee, H. Kim, J. Kwak, Y. S. Kim, S. W. Lee, S. Cho, B. Cho. Fluence-map generation for "
            "prostate intensity-modulated radiotherapy planning using a deep-neural-network. Sci. Rep. 9, 15671 "
            '(2019). <a href="https://doi.org/10.1038/s41598-019-52262-x">doi:10.1038/s41598-019-52262-x</a>'
        )


class DeepFluenceWidget(ScriptedLoadableModuleWidget):
    """The place of the module's panel in the application."""

    panel = None

    def setup(self):
        """Make the panel, when the module is opened for the first time."""
        super().setup()
        from DeepFluenceLib.Widget import Panel

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
        for name in [n for n in sys.modules if n.partition(".")[0] == "DeepFluenceLib"]:
            del sys.modules[name]
        super().onReload()


class DeepFluenceTest(ScriptedLoadableModuleTest):
    """What can be tested in Slicer without a user; ctest runs it, and so does Reload and Test in the panel."""

    def test_theUserLeavesThePanelAndComesBack(self):
        """The panel is there before and after."""
        widget = slicer.util.getModuleWidget("DeepFluence")
        self.assertIsNotNone(widget.panel)
        widget.exit()
        widget.enter()
        self.assertTrue(widget.panel.frame.ui.tryItButton.toolTip)
