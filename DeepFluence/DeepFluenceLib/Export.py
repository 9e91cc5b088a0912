"""Section *Export*: the plan as DICOM, into a folder and into Slicer's database."""

from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from deeprt_slicer.controls import allow

_PLAN, _REPORT = "RTPLAN.dcm", "report.html"


class ExportSection:
    """Where to, what besides, and the button."""

    def __init__(self, frame, logic):
        self._frame, self._session, self._planning = frame, logic.session, logic.planning
        ui = self._ui = frame.ui
        ui.folderEdit.connect("currentPathChanged(QString)", lambda _path: self._offer())
        ui.exportButton.connect("clicked()", self._export)
        self._exported = {}  # what was written where, by plan
        self._whyNot = ""

    def show(self, whyFixed):
        """Show what can be written and what was."""
        ui, plan = self._ui, self._session.plan
        self._whyNot = whyFixed or self._planning.why_not("export")
        self._offer()
        allow(ui.databaseCheck, _whyNoDatabase())
        exported = self._exported.get(plan and plan.key, "")
        ui.exportStateLabel.setText(exported)
        ui.exportStateLabel.setVisible(bool(exported))

    def _offer(self):
        hasFolder = bool(self._ui.folderEdit.currentPath.strip())
        allow(self._ui.exportButton, self._whyNot or ("" if hasFolder else _("Choose a folder.")))

    def _export(self):
        folder = Path(self._ui.folderEdit.currentPath.strip()).expanduser()
        isThere = (folder / _PLAN).exists()
        question = _("There is a plan in {folder}. Replace it?").format(folder=folder)
        if isThere and not slicer.util.confirmYesNoDisplay(question, _("Export")):
            return
        self._exported = {}
        before, key = _stamp(folder / _PLAN), self._session.plan.key
        self._frame.start(
            lambda: self._planning.start_export(
                folder, eclipse_fluence=self._ui.eclipseCheck.isChecked(), overwrite=isThere
            ),
            then=lambda: self._finish(folder, before, key),
        )

    def _finish(self, folder, before, key):
        """Say what was written, and pass it on as wished; nothing if the plan was not written."""
        if _stamp(folder / _PLAN) == before:
            return
        self._ui.folderEdit.addCurrentPathToHistory()
        said = [_("✓ Written to {folder}.").format(folder=folder)]
        if self._ui.databaseCheck.enabled and self._ui.databaseCheck.isChecked():
            said.append(_addToDatabase(folder))
        if self._ui.reportCheck.isChecked():
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(folder / _REPORT)))
        self._exported = {key: " ".join(said)}
        self._frame.show()


def _whyNoDatabase():
    """Why files cannot go into the DICOM database of the application; empty if they can."""
    database = getattr(slicer, "dicomDatabase", None)
    if database is None or not database.isOpen:
        return _("No DICOM database is open in this application; open one in the module DICOM.")
    return ""


def _addToDatabase(folder):
    """Import the files of a folder, which are copied; a sentence what came of it."""
    from DICOMLib import DICOMUtils

    if DICOMUtils.importDicom(str(folder), copyFiles=True):
        return _("It is in the DICOM database.")
    return _("It could not be imported into the DICOM database.")


def _stamp(path):
    """What changes when a file is written anew; None while it is not there."""
    return path.stat().st_mtime_ns if path.exists() else None
