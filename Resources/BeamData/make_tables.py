"""Make the beam data that the generic machines are commissioned from: ``python make_tables.py``.

Depth doses, output factors and profiles in water follow from the published pencil kernel of photon beams
(T. Nyholm, J. Olofsson, A. Ahnesjö and M. Karlsson, Radiother. Oncol. 78, 347 (2006), corrigendum 98, 286 (2011)),
which is a function of depth, radius and the quality index TPR20,10 alone:

    p(r, d) = (A(d) e^(−a(d) r) + B(d) e^(−b(d) r)) / r.

It is integrated numerically over the field, in polar coordinates around each point: independently of the sums of
Gaussians that DeepRT fits to the tables. Chosen, since no table free to pass on was found, are the size of the
focal spot, the horns and the in-air output ratio, whose form is that of AAPM TG-74 (Zhu et al., Med. Phys. 36, 5261,
2009). The kernel's coefficients are read from the package pydosert (``pip install pydosert``).
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydosert.physics.kernels.pencil_beam_model import coeffs
from scipy.special import erf, ndtr

FIELDS_MM = (30, 40, 50, 70, 100, 150, 200, 300, 400)
DEPTHS_MM = (5, 8, 10, 12, 15, 18, 20, 22, 25, 28, 30, 35, *range(40, 100, 10), *range(100, 301, 20))
PROFILES = {50: (15, 50, 100, 200), 100: (15, 50, 100, 200), 200: (15, 50, 100, 200), 400: (15, 50, 100, 200)}
SSD_MM = 1000.0
OUTPUT_DEPTH_MM = 100.0


@dataclass(frozen=True)
class Beam:
    """A generic beam: its quality, and what was chosen for it.

    Parameters
    ----------
    name : of the folder
    tpr : TPR20,10
    spot_sigma_mm : of the focal spot, seen at the isocenter plane
    horns : fluence off the axis over that of an isotropic source, by radius in mm at the isocenter plane
    backscatter_per_mm, scatter, scatter_mm : a1, a2 and λ of the in-air output ratio of TG-74,
        ``S_c ∝ (1 + a1 s) (1 + a2 erf²(s/λ))``
    """

    name: str
    tpr: float
    spot_sigma_mm: float
    horns: dict[float, float]
    backscatter_per_mm: float
    scatter: float
    scatter_mm: float


BEAMS = (
    Beam("generic_6mv", 0.68, 2.12, {0: 1.0, 50: 1.020, 100: 1.045, 150: 1.070, 200: 1.088, 280: 1.095},
         6e-5, 0.07, 90.0),
    Beam("generic_15mv", 0.76, 2.12, {0: 1.0, 50: 1.024, 100: 1.048, 150: 1.068, 200: 1.082, 280: 1.088},
         5e-5, 0.06, 90.0),
)  # fmt: skip


def kernel(tpr: float, depth_cm: np.ndarray) -> tuple[np.ndarray, ...]:
    """A/a, a, B/b and b of the kernel, in powers of cm; the publication tabulates the quotients."""
    p = {name: sum(c * tpr**power for power, c in enumerate(values)) for name, values in coeffs.items()}

    def term(x: str) -> np.ndarray:
        buildup = 1 - np.exp(p[x + "2"] * np.sqrt(depth_cm**2 + p[x + "5"] ** 2))
        return np.asarray(p[x + "1"] * buildup * np.exp(p[x + "3"] * depth_cm + p[x + "4"] * depth_cm**2))

    return term("A"), p["a2"] + p["a1"] * depth_cm, term("B"), term("b")


def water_dose(beam: Beam, field_mm: float, depth_mm: float, x_mm: np.ndarray) -> np.ndarray:
    """Dose of an open field of unit in-air output at points along X, arbitrary unit, (n,).

    Off the axis the ray runs through water of ``depth * slant`` and ``(SSD + depth) * slant`` from the source.
    """
    scale = (SSD_MM + depth_mm) / 1000.0  # field and fluence diverge; the kernel does not
    slant = np.hypot(1.0, x_mm / (SSD_MM + depth_mm))
    primary, a, scatter, b = (c[:, None] for c in kernel(beam.tpr, depth_mm * slant / 10))
    radius = np.concatenate([[0.0], np.geomspace(1e-3, 80.0, 400)])  # cm
    angle = (np.arange(360) + 0.5) * 2 * np.pi / 360
    # The 1/r of the kernel cancels against the r of the surface element; each ring holds its share exactly.
    ring = -primary * np.diff(np.exp(-a * radius), axis=1) - scatter * np.diff(np.exp(-b * radius), axis=1)
    middle = 10 * (radius[1:] + radius[:-1]) / 2
    u = (x_mm[:, None, None] + middle[:, None] * np.cos(angle)) / scale
    v = np.broadcast_to(middle[:, None] * np.sin(angle) / scale, u.shape)
    half, sigma = field_mm / 2, beam.spot_sigma_mm
    inside = [ndtr((half - c) / sigma) - ndtr((-half - c) / sigma) for c in (u, v)]
    horns = np.interp(np.hypot(u, v), list(beam.horns), list(beam.horns.values()))
    mean = (inside[0] * inside[1] * horns).mean(axis=2)
    return 2 * np.pi * (mean * ring).sum(axis=1) / (scale * slant) ** 2


def in_air(beam: Beam, field_mm: float) -> float:
    """In-air output ratio before it is normalized to the reference field."""
    return float((1 + beam.backscatter_per_mm * field_mm) * (1 + beam.scatter * erf(field_mm / beam.scatter_mm) ** 2))


def write(path: Path, header: tuple[str, ...], rows: list[tuple[float, ...]]) -> None:
    """Write a table."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


def make(beam: Beam, folder: Path) -> None:
    """Write the three tables of a beam."""
    axis = np.zeros(1)
    depth_doses, factors, profiles = [], [], []
    reference = water_dose(beam, 100.0, OUTPUT_DEPTH_MM, axis)[0]
    for field in FIELDS_MM:
        curve = np.array([water_dose(beam, field, d, axis)[0] for d in DEPTHS_MM])
        depth_doses += [(field, d, round(100 * v / curve.max(), 2)) for d, v in zip(DEPTHS_MM, curve, strict=True)]
        s_c = in_air(beam, field) / in_air(beam, 100.0)
        s_p = water_dose(beam, field, OUTPUT_DEPTH_MM, axis)[0] / reference
        factors.append((field, round(s_c * s_p, 4), round(s_c, 4)))
    for field, depths in PROFILES.items():
        for depth in depths:
            edge = field / 2 * (SSD_MM + depth) / 1000.0
            x = np.unique(np.concatenate([np.linspace(0, edge - 12, 9), np.arange(edge - 12, edge + 13, 2.0),
                                          np.linspace(edge + 12, edge + 40, 5)]).round(1))  # fmt: skip
            x = np.concatenate([-x[:0:-1], x])
            values = water_dose(beam, field, depth, np.abs(x))
            values = 100 * values / values[x.size // 2]
            profiles += [(field, depth, *point) for point in zip(x.tolist(), values.round(2).tolist(), strict=True)]
    write(folder / "depth_doses.csv", ("field_mm", "depth_mm", "dose_percent"), depth_doses)
    write(folder / "output_factors.csv", ("field_mm", "factor", "in_air_factor"), factors)
    write(folder / "profiles.csv", ("field_mm", "depth_mm", "position_mm", "dose_percent"), profiles)


if __name__ == "__main__":
    for each in BEAMS:
        into = Path(__file__).parent / each.name
        into.mkdir(exist_ok=True)
        make(each, into)
