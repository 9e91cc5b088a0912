"""Work through both panels with the virtual patient, and write their pictures into ``Resources/Screenshots``.

``python Testing/Screenshots/panels.py [--out DIR] [--dark]``. The panels run under the stand-in of Slicer's Qt in
``Testing/Slicer``, which needs PySide6-Essentials and slicer-core. ``--dark`` gives them the colors of a dark theme.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication

sys.path.insert(0, str(Path(__file__).parents[1]))  # the folder of tests, where the host is

from Slicer.host.host import Host
from Slicer.panel_user import User

SCREENSHOTS = Path(__file__).parents[2] / "Resources" / "Screenshots"
WIDTH, MARGIN, LIMIT_S = 560, 6, 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=SCREENSHOTS)
    parser.add_argument("--dark", action="store_true", help="in the colors of a dark theme")
    options = parser.parse_args()
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        host = Host(Path(folder), patch)
        if options.dark:
            QApplication.setPalette(dark())
        host.open_module("DeepFluence")  # so that DeepBOO can go on there
        chooser = choose_beams(host)
        write_picture(chooser, chooser.ui.checkSection, options.out / "DeepBOO.png")
        chooser.click("continueButton")
        user = make_deliverable(host)
        write_picture(user, user.ui.exportSection, options.out / "DeepFluence.png")
        host.close()


def choose_beams(host: Host) -> User:
    """In DeepBOO: complete the set, compute the one of column generation, evaluate both."""
    user = User(host, "DeepBOO")
    for button in ("tryItButton", "completeButton", "columnGenerationButton", "evaluateButton"):
        user.click(button)
        user.wait(LIMIT_S)
    return user


def make_deliverable(host: Host) -> User:
    """In DeepFluence: predict the fluence from DeepBOO's dose, and go on to the comparison."""
    user = User(host, "DeepFluence")
    user.pick("wishCombo", "Dose volume (RTDOSE)")
    user.click("runAllButton")
    user.wait(LIMIT_S)
    return user


def write_picture(user: User, last_section: Any, path: Path) -> None:
    """Write all of a panel, in a window that is as high as it."""
    window, area = user.host.main_window, user.ui.scrollArea
    area.verticalScrollBar().setValue(0)
    area.setVerticalScrollBarPolicy(sys.modules["qt"].Qt.ScrollBarAlwaysOff)
    for _attempt in range(3):  # labels and tables follow the width
        user.host.process_events(0.3)
        bottom = last_section.y + last_section.height + MARGIN
        window.resize(WIDTH, window.height() + bottom - area.viewport().height)
    user.host.process_events(0.3)
    user.host.screenshot(user.module, path)
    Image.open(path).convert("RGB").save(path, optimize=True)


def dark() -> QPalette:
    """Colors as Slicer's dark theme has them, about."""
    palette = QPalette(QColor("#31363b"))
    for role, color in (
        (QPalette.ColorRole.Window, "#31363b"), (QPalette.ColorRole.Base, "#232629"),
        (QPalette.ColorRole.AlternateBase, "#2b2f33"), (QPalette.ColorRole.Text, "#eff0f1"),
        (QPalette.ColorRole.WindowText, "#eff0f1"), (QPalette.ColorRole.ButtonText, "#eff0f1"),
    ):  # fmt: skip
        for group in (QPalette.ColorGroup.Active, QPalette.ColorGroup.Inactive):
            palette.setColor(group, role, QColor(color))
    return palette


if __name__ == "__main__":
    main()
