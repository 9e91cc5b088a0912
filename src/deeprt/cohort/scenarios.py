"""Training scenarios of one patient: organ weights and the beams already chosen.

A. Sadeghnejad Barkousaraie, O. Ogunmolu, S. Jiang and D. Nguyen, Med. Phys. 47, 880 (2020), section II.D.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deeprt.case import PatientCase
from deeprt.orientation.teacher import OrganWeights
from deeprt.structures import Role, Structure

Range = tuple[float, float]

# The paper's third part draws each organ from a range of its own; its shell is our ring.
_OWN_RANGES: dict[str, Range] = {"Bladder": (0.0, 0.2), "Rectum": (0.0, 0.2)}
_RING, _SKIN, _OTHER_ORGAN = (0.0, 0.1), (0.0, 0.3), (0.0, 0.1)
_EXTERNAL = (0.0, 0.04)  # the paper names none for the body; around the default of `OrganWeights`
_TUNING_NAMES = ("Ring", "Skin")  # of `deeprt.case.with_tuning_structures`


@dataclass(frozen=True)
class Scenario:
    """One question to the teacher.

    Parameters
    ----------
    weights : organ weights
    given : candidates that are chosen already; none in a full run
    """

    weights: OrganWeights
    given: tuple[int, ...]


@dataclass(frozen=True)
class ScenarioSettings:
    """How many scenarios are drawn for a patient.

    The paper's counts for a patient of training and validation are 10 runs of 5 beams and 60 random starts. Its text
    says that those have 1 to 4 beams, its count that they come in five sizes; here they have 1 to 4 beams, equally
    often, since the runs hold all states without a beam.

    Parameters
    ----------
    n_runs : column generation from no beam to ``n_beams``; each gives ``n_beams`` states
    n_starts : random beams, 1 to ``n_beams − 1``, and the next one; each gives one state
    """

    n_runs: int = 10
    n_starts: int = 60
    n_beams: int = 5

    def __post_init__(self) -> None:
        if min(self.n_runs, self.n_starts) < 0 or self.n_runs + self.n_starts == 0 or self.n_beams < 2:
            raise ValueError("Scenarios: at least one run or start, and at least two beams, are needed.")


def weighted_organs(case: PatientCase) -> tuple[Structure, ...]:
    """Organs at risk that have a weight of their own, in order.

    One named as a tuning structure has not: the tuning structure takes its place when beams are chosen.
    """
    return tuple(s for s in case.structures if s.role is Role.ORGAN_AT_RISK and s.name not in _TUNING_NAMES)


def draw_weights(rng: np.random.Generator, case: PatientCase) -> OrganWeights:
    """Draw organ weights by the paper's scheme of three parts.

    Half of the time every organ, ring and skin has its own weight from 0 to 0.1, a tenth of the time from 0 to 0.05,
    and otherwise each has a range of its own: bladder and rectum 0 to 0.2, ring and all other organs 0 to 0.1, skin
    0 to 0.3. The body, for which the paper names no weight, gets 0 to 0.04 in every part.
    """
    part = rng.random()
    common = (0.0, 0.1) if part < 0.5 else (0.0, 0.05) if part < 0.6 else None
    organs = weighted_organs(case)
    return OrganWeights(
        ring=rng.uniform(*(common or _RING)),
        skin=rng.uniform(*(common or _SKIN)),
        external=rng.uniform(*_EXTERNAL),
        structures={s.name: rng.uniform(*(common or _OWN_RANGES.get(s.organ, _OTHER_ORGAN))) for s in organs},
    )


def draw_scenarios(
    rng: np.random.Generator, case: PatientCase, n_candidates: int, settings: ScenarioSettings = ScenarioSettings()
) -> tuple[Scenario, ...]:
    """Draw the scenarios of a patient: full runs first, then random starts."""
    runs = [Scenario(draw_weights(rng, case), ()) for _ in range(settings.n_runs)]
    starts = []
    for n in range(settings.n_starts):
        size = 1 + n % (settings.n_beams - 1)
        given = tuple(int(b) for b in rng.choice(n_candidates, size, replace=False))
        starts.append(Scenario(draw_weights(rng, case), given))
    return (*runs, *starts)
