"""From the virtual patient to an exported RTPLAN, through both panels in Slicer itself; run by ctest."""

import tempfile
import time
import unittest
from pathlib import Path

import slicer

LIMIT_S = 900


class DeepRTWorkflowTest(unittest.TestCase):
    """What a user does in a first session."""

    def setUp(self):
        import DeepBOOLib  # noqa: F401 finds the packages in a source checkout

        from deeprt_slicer import dependencies

        if dependencies.missing():
            self.skipTest(f"Slicer's Python lacks {', '.join(dependencies.missing())}")
        slicer.mrmlScene.Clear()
        self.boo, self.fluence = (
            slicer.util.getModuleWidget(name).panel.frame.ui for name in ("DeepBOO", "DeepFluence")
        )

    def test_a_plan_for_the_virtual_patient_is_exported_and_comes_back_with_the_scene(self):
        slicer.util.selectModule("DeepBOO")
        self.boo.tryItButton.click()
        self.boo.completeButton.click()
        self.wait(self.boo)
        self.assertEqual(self.boo.beamsTable.rowCount, self.boo.nBeamsSpin.value)

        self.boo.continueButton.click()
        self.assertEqual(self.fluence.planSelector.currentNode(), self.boo.planSelector.currentNode())
        self.assertEqual(self.fluence.beamsTable.rowCount, self.boo.nBeamsSpin.value)
        self.fluence.runAllButton.click()
        self.wait(self.fluence)
        self.assertGreater(self.fluence.metricsTable.rowCount, 0)

        with tempfile.TemporaryDirectory() as folder:
            self.fluence.folderEdit.currentPath = str(Path(folder) / "plan")
            self.fluence.exportButton.click()
            self.wait(self.fluence)
            self.assertTrue((Path(folder) / "plan/RTPLAN.dcm").is_file())
            self.assert_panels_continue_after_reloading(Path(folder) / "plan.mrb")

    def assert_panels_continue_after_reloading(self, file):
        """Save the scene, close it, open it again."""
        n_beams, n_metrics = self.fluence.beamsTable.rowCount, self.fluence.metricsTable.rowCount
        self.assertTrue(slicer.util.saveScene(str(file)))
        slicer.mrmlScene.Clear()
        slicer.util.delayDisplay("The scene is closed", 500)
        self.assertEqual(self.fluence.beamsTable.rowCount, 0)
        slicer.util.loadScene(str(file))
        slicer.util.delayDisplay("The scene is open again", 500)
        self.assertEqual(self.fluence.beamsTable.rowCount, n_beams)
        self.assertEqual(self.fluence.metricsTable.rowCount, n_metrics)
        slicer.util.selectModule("DeepBOO")
        self.assertEqual(self.boo.beamsTable.rowCount, n_beams)

    def wait(self, ui):
        """Wait for the work under way; Cancel can be pressed while there is some."""
        until = time.monotonic() + LIMIT_S
        while ui.cancelButton.enabled:
            self.assertLess(time.monotonic(), until, "The work did not end in time")
            slicer.util.delayDisplay(ui.jobLabel.text, 100)
        self.assertEqual(ui.messageLabel.text, "")
