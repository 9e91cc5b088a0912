"""Pictures of a page as files."""

from __future__ import annotations

import io

from matplotlib.figure import Figure
from PIL import Image

MAX_BYTES = 150_000
_DPI = (120, 100, 80, 60)


def png(figure: Figure) -> bytes:
    """Render a figure with 256 colors, as sharp as ``MAX_BYTES`` allows."""
    for dpi in _DPI:
        raw, packed = io.BytesIO(), io.BytesIO()
        figure.savefig(raw, format="png", dpi=dpi)
        with Image.open(raw) as image:
            image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3).save(packed, "PNG", optimize=True)
        if packed.tell() <= MAX_BYTES:
            break
    return packed.getvalue()
