"""What the report's figures share: colors, type, outlines, and how they become part of the page."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from deeprt.case import PatientCase
from deeprt.evaluation.views import Plane
from deeprt.structures import Role, Structure

INK = "#0a0b0c"  # drawn in this, replaced by the page's text color, so that figures follow light and dark
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.parse_math": False,  # a dollar in a structure's name is a dollar
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "svg.fonttype": "none",
    "svg.hashsalt": "deeprt",
}
_TARGET_COLORS = ("#e0403a", "#e8853a", "#d65aa0")
_ORGAN_COLORS = ("#2f8fd0", "#3aa655", "#9a6bd1", "#b08a1e", "#1fa5a5", "#7f8f2a", "#6f7fe0", "#b5654a", "#5d9e8f")
_NEUTRAL = "#8a929c"
_LUMA = (0.32, 0.58)  # between these a color shows on white and on black


def structure_colors(case: PatientCase) -> dict[str, str]:
    """Hex color by structure name: its own, made legible on white and black, or one of a palette."""
    colors = {}
    targets, organs = 0, 0
    for s in case.structures:
        if s.color is not None:
            colors[s.name] = _legible(s.color)
        elif s.role is Role.TARGET:
            colors[s.name] = _TARGET_COLORS[targets % len(_TARGET_COLORS)]
            targets += 1
        elif s.role in (Role.EXTERNAL, Role.TUNING):
            colors[s.name] = _NEUTRAL
        else:
            colors[s.name] = _ORGAN_COLORS[organs % len(_ORGAN_COLORS)]
            organs += 1
    return colors


def _legible(color: tuple[int, int, int]) -> str:
    rgb = np.array(color) / 255
    luma = float(rgb @ (0.299, 0.587, 0.114))  # Rec. 601
    if luma > _LUMA[1]:
        rgb = rgb * _LUMA[1] / luma
    elif luma < _LUMA[0]:
        rgb = 1 - (1 - rgb) * (1 - _LUMA[0]) / (1 - luma)
    return to_hex(tuple(rgb.tolist()))


def outline(axes: Axes, plane: Plane, s: Structure, color: str, width: float, *, filled: bool = False) -> None:
    """Draw where a structure fills half of a voxel; ``filled`` tints its inside, else a dark rim sets it off."""
    inside = plane.cut(s.fraction)
    if inside.max() < 0.5:
        return
    line = axes.contour(plane.x_mm, plane.y_mm, inside, levels=[0.5], colors=[color], linewidths=width)
    if filled:
        axes.contourf(plane.x_mm, plane.y_mm, inside, levels=[0.5, 2.0], colors=[color], alpha=0.12)
    else:
        line.set_path_effects([withStroke(linewidth=width + 1.4, foreground="black", alpha=0.55)])


def inline_svg(figure: Figure, label: str) -> str:
    """SVG for the page's body, whose ink follows the page's text color; call it within the style's context."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", dpi=160, metadata={"Date": None}, facecolor=figure.get_facecolor())
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
