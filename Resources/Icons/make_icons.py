"""Draw the icons from the drawings beside this file, and the picture of the virtual patient for *Sample Data*.

    python Resources/Icons/make_icons.py

needs PySide6 beside the packages of DeepRT.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PySide6.QtCore import Qt
from PySide6.QtGui import QImage, QPainter
from PySide6.QtSvg import QSvgRenderer

from deeprt.cohort.virtual_patient import VirtualPatientSettings, virtual_prostate
from deeprt.roles import Role

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SIZE_PX = 128  # what the extension index asks for; Slicer scales it down for menus and the module selector
ICONS = {
    "DeepRT": ROOT / "Resources/DeepRT.png",
    "DeepBOO": ROOT / "DeepBOO/Resources/Icons/DeepBOO.png",
    "DeepFluence": ROOT / "DeepFluence/Resources/Icons/DeepFluence.png",
}
PATIENT = ROOT / "DeepBOO/Resources/Icons/DeepBOOVirtualProstate.png"


def draw_icon(name: str) -> QImage:
    """Render a drawing on a transparent square."""
    image = QImage(SIZE_PX, SIZE_PX, QImage.Format.Format_ARGB32)
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    QSvgRenderer(str(HERE / f"{name}.svg")).render(painter)
    painter.end()
    return image


def draw_patient(file: Path) -> None:
    """Draw the axial slice in which the target is largest, with all structures, in the size of *Sample Data*."""
    case = virtual_prostate(np.random.default_rng(0), VirtualPatientSettings())
    shape = case.grid.shape
    target = next(s for s in case.structures if s.role is Role.TARGET)
    k = int(target.fraction.reshape(shape).sum(axis=(1, 2)).argmax())
    figure, axes = plt.subplots(figsize=(2.6, 1.9), dpi=100, facecolor="black", layout="constrained")
    ct_hu = case.ct_hu.reshape(shape)[k]
    rows, columns = np.nonzero(ct_hu > -500)
    axes.imshow(ct_hu, cmap="gray", vmin=-200, vmax=300)
    colors = plt.get_cmap("tab10")
    for n, structure in enumerate(case.structures):
        if structure.fraction.reshape(shape)[k].any():
            axes.contour(structure.fraction.reshape(shape)[k], [0.5], colors=[colors(n % 10)], linewidths=1.2)
    axes.set(xlim=(columns.min() - 2, columns.max() + 2), ylim=(rows.max() + 2, rows.min() - 2))
    axes.axis("off")
    figure.savefig(file)
    plt.close(figure)


if __name__ == "__main__":
    for name, file in ICONS.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        draw_icon(name).save(str(file))
    draw_patient(PATIENT)
