"""Section *Fluence*: maps predicted, refined or optimized, and their pictures."""

import math
import tempfile
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from deeprt_mrml.fluence_references import difference_file
from deeprt_mrml.fluence_stages import Stage
from deeprt_slicer.controls import allow

from .Picture import Picture

_MOST_COLUMNS = 5  # of maps that can be told apart in a panel


class FluenceSection:
    """Buttons that make fluence maps, what became of them, and reference maps beside them."""

    def __init__(self, frame, logic, stages):
        self._frame, self._stages = frame, stages
        self._session, self._planning = logic.session, logic.planning
        ui, planning = frame.ui, logic.planning
        self._ui = ui
        self._maps, self._differences = Picture(ui.fluencePictureLabel), Picture(ui.differencePictureLabel)
        self._folder = tempfile.TemporaryDirectory(prefix="DeepFluence-", dir=slicer.app.temporaryPath)
        self._drawn = None  # the maps that are in the pictures
        ui.predictButton.connect("clicked()", lambda: frame.start(planning.start_prediction))
        ui.optimizeButton.connect("clicked()", lambda: frame.start(planning.start_optimization))
        ui.refineButton.connect(
            "clicked()", lambda: frame.start(lambda: planning.start_refinement(ui.refinementsSpin.value))
        )
        ui.readReferenceButton.connect("clicked()", self._readReference)
        frame.on_click(ui.clearReferenceButton, lambda: planning.set_reference_maps(()))

    def show(self, whyFixed):
        """Show maps and reference of the plan in work, and what can be started."""
        ui, planning = self._ui, self._planning
        for button, action in (
            (ui.predictButton, "predict"), (ui.refineButton, "refine"), (ui.optimizeButton, "optimize")
        ):  # fmt: skip
            allow(button, whyFixed or planning.why_not(action))
        allow(ui.refinementsSpin, whyFixed or planning.why_not("refine"))
        self._stages.say(ui.fluenceStateLabel, Stage.FLUENCE, _("Fluence of these beams."))
        maps, references = planning.maps(), planning.reference_maps()
        self._draw(maps, references)
        mu = [_("Beam {n}: {mu} MU").format(n=n, mu=f"{m:.1f}") for n, m in enumerate(planning.beam_mu(), start=1)]
        ui.fluencePictureLabel.toolTip = "\n".join([_("Fluence maps on one scale, seen from the source."), *mu])
        allow(ui.readReferenceButton, whyFixed or ("" if maps else _("There are no maps to compare with it yet.")))
        allow(ui.clearReferenceButton, whyFixed or ("" if references else _("There is no reference.")))
        ui.referenceLabel.setText(_("Plan minus reference:") if references else _("Reference maps: none"))

    def _draw(self, maps, references):
        """Make the pictures anew if the maps are others than those in them."""
        now = [self._session.plan and self._session.plan.key, *(m.tobytes() for m in (*maps, *references))]
        if now == self._drawn:
            return
        path = Path(self._folder.name) / "maps.png"
        hasMaps = self._planning.write_thumbnails(path, n_columns=_columns(len(maps)))
        self._maps.show(path if hasMaps else None)
        self._differences.show(difference_file(path) if hasMaps and references else None)
        self._drawn = now

    def _readReference(self):
        path = qt.QFileDialog.getOpenFileName(
            None, _("Reference fluence"), "", _("RTPLAN or Eclipse fluence (*.dcm *.optimal_fluence);;All files (*)")
        )
        if not path:
            return
        notes = []
        if self._frame.do(lambda: notes.extend(self._planning.read_reference_plan(Path(path)))) and notes:
            self._frame.message.show_note(" ".join(notes))


def _columns(n_maps):
    """Maps in a row: a few, so that they are large, and about as many in each."""
    n_rows = math.ceil(n_maps / _MOST_COLUMNS) or 1
    return math.ceil(n_maps / n_rows)
