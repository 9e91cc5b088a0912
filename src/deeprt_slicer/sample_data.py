"""The virtual patient in Slicer's module *Sample Data*. It is made, not downloaded."""

from __future__ import annotations

from pathlib import Path

import slicer
from slicer.i18n import tr as _

from deeprt_slicer import dependencies


def register(thumbnail: Path) -> None:
    """Offer the virtual patient in the module *Sample Data*.

    Parameters
    ----------
    thumbnail : picture for its button
    """
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="DeepRT",
        sampleName="DeepRTVirtualProstate",
        uris=[],  # none to download from; None is not understood
        fileNames=[],
        thumbnailFileName=str(thumbnail),
        customDownloader=make_virtual_prostate,
    )


def make_virtual_prostate(source: object) -> None:
    """Add the virtual prostate patient and a plan for it to the scene, as *Try it* in the panels does.

    Parameters
    ----------
    source : what was registered; *Sample Data* passes it
    """
    with slicer.util.tryWithErrorDisplay(_("The virtual patient was not made."), waitCursor=True):
        if dependencies.missing() and not dependencies.offer_installation():
            return
        from deeprt_mrml.session import PlanSession

        plan = PlanSession(slicer.mrmlScene, Path(slicer.app.temporaryPath)).load_virtual_patient()
        slicer.util.setSliceViewerLayers(background=plan.ct_node, fit=True)
