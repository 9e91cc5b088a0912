"""Given fluence that is pulled to a wished dose, on an oblique, off-center grid."""

import numpy as np
import pytest
from Core.fluence_prediction_samples import (
    MACHINE,
    a_planned_case,
    an_influence,
    known_dose,
    known_fluence,
    some_beams,
)
from numpy.testing import assert_allclose

from deeprt.errors import InputError
from deeprt.fluence.predict import refine_fluence


def known_maps():
    """The known fluence of the open beamlets, one map a beam."""
    sizes = [(b.open_beamlets.shape[0] + 2, b.open_beamlets.shape[1] + 2) for b in some_beams()]
    parts = np.split(known_fluence()[0].numpy().astype(float), np.cumsum([h * w for h, w in sizes])[:-1])
    return [p.reshape(shape)[1:-1, 1:-1] for p, shape in zip(parts, sizes, strict=True)]


def refine(fluence_mu, n_refinements, wished_gy=None):
    wished_gy = known_dose() if wished_gy is None else wished_gy
    return refine_fluence(a_planned_case(), an_influence(), MACHINE, wished_gy, fluence_mu, n_refinements)


def dose_of(fluence_mu):
    influence = an_influence()
    dose = a_planned_case().n_fractions * influence.dose(influence.from_maps(fluence_mu)[None])[0]
    return influence.to_volume(dose)


def misfit(dose_gy):
    """Root mean squared difference to the wished dose where that is high, over its largest."""
    high = known_dose() > 0.1 * known_dose().max()
    return np.sqrt(np.mean((dose_gy - known_dose())[high] ** 2)) / known_dose().max()


def test_fluence_that_gives_the_dose_stays():
    solution = refine(known_maps(), 5)
    for before, after in zip(known_maps(), solution.fluence_mu, strict=True):
        assert_allclose(after, before, atol=1e-3 * before.max())


def test_iterations_bring_the_dose_nearer_to_the_wished_one():
    """Beams of wrong shares: the more iterations, the nearer."""
    edited = [share * m for share, m in zip((0.8, 1.1, 1.2), known_maps(), strict=True)]
    few, many = (misfit(refine(edited, n).dose_gy) for n in (3, 15))
    assert many < few < misfit(dose_of(edited))
    assert many < 0.2 * misfit(dose_of(edited))


def test_closed_beamlets_stay_closed_and_count_as_closed():
    blurred = [m + 5.0 for m in known_maps()]  # the closed ones too
    solution = refine(blurred, 2)
    for beam, fluence in zip(some_beams(), solution.fluence_mu, strict=True):
        assert not fluence[~beam.open_beamlets].any() and (fluence >= 0).all()
    opened = [np.where(b.open_beamlets, m, 0) for b, m in zip(some_beams(), blurred, strict=True)]
    for one, other in zip(solution.fluence_mu, refine(opened, 2).fluence_mu, strict=True):
        assert np.array_equal(one, other)


def test_the_dose_is_that_of_the_fluence():
    solution = refine([0.9 * m for m in known_maps()], 3)
    assert_allclose(solution.dose_gy, dose_of(solution.fluence_mu), atol=1e-5 * solution.dose_gy.max())
    assert solution.source == "3 refinements"


def test_fluence_of_other_beams_is_refused():
    with pytest.raises(InputError, match="The fluence is not of these beams; predict or optimize it anew"):
        refine([m[1:] for m in known_maps()], 2)
    with pytest.raises(InputError, match="The fluence is not of these beams"):
        refine(known_maps()[:2], 2)


def test_a_dose_of_another_case_and_no_iteration_are_refused():
    with pytest.raises(InputError, match="The wished dose is zero inside 'Körper'"):
        refine(known_maps(), 2, np.zeros_like(known_dose()))
    with pytest.raises(InputError, match="The number of refinements must be at least 1, got 0"):
        refine(known_maps(), 0)
