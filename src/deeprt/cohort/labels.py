"""Labels of training scenarios: the fitness of every candidate by column generation, one file a patient."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeprt.case import PatientCase
from deeprt.cohort.scenarios import ScenarioSettings, draw_scenarios, weighted_organs
from deeprt.errors import InputError
from deeprt.files import read_arrays, write_arrays
from deeprt.fluence.solvers import SolverSettings
from deeprt.machine import Machine
from deeprt.orientation.candidates import candidate_beams
from deeprt.orientation.column_generation import SelectionProblem, fitness_of, generate_columns, solve_limited
from deeprt.orientation.teacher import CandidateSettings, OrganWeights, selection_problem
from deeprt.progress import Progress, Silent

_FOLLOWED = ("candidates", "voxel_mm", "beamlet_mm", "image_pixel_mm", "margin_mm", "background_share", "solver")
_FOLLOWED_IF_SET = ("exclude_deg", "min_separation_deg")


@dataclass(frozen=True)
class LabelSettings:
    """What labels are made with.

    Parameters
    ----------
    selection : candidates and resolution; coarser than for planning, see Docs/cohort.md
    scenarios : how many
    """

    selection: CandidateSettings = CandidateSettings(
        voxel_mm=6.0,
        image_pixel_mm=2.5,
        background_share=0.1,
        memory_mb=8000.0,
        solver=SolverSettings(max_iterations=100, tolerance=1e-4),
    )
    scenarios: ScenarioSettings = field(default_factory=ScenarioSettings)

    def digest(self) -> str:
        """Hash of those settings that labels follow from, by which labels of other settings are told apart."""
        selection, usual = asdict(self.selection), asdict(CandidateSettings())
        set_ = (name for name in _FOLLOWED_IF_SET if selection[name] != usual[name])
        followed = {name: selection[name] for name in (*_FOLLOWED, *set_)}
        return hashlib.sha256(json.dumps([followed, asdict(self.scenarios)], sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class PatientLabels:
    """States of column generation for one patient.

    Parameters
    ----------
    structures : names of those that have a weight, see `weight_names`
    weights : (n_scenarios, n_structures) float32
    scenario : (n_states,) int64, which scenario a state belongs to
    chosen : (n_states, n_candidates) bool, beams chosen before the state
    fitness : (n_states, n_candidates) float16, 0 to 1
    objective : (n_states,) float64, of the beams chosen before
    run_chosen : (n_runs, n_beams) int64, beams of the full runs, which are the first scenarios; -1 where a run ended
    run_objective : (n_runs,) float64, of those beams
    digest : of the settings
    about : what else labels follow from, patient and machine, in words of who made them; empty if not known
    """

    structures: tuple[str, ...]
    weights: NDArray[np.float32]
    scenario: NDArray[np.int64]
    chosen: NDArray[np.bool_]
    fitness: NDArray[np.float16]
    objective: NDArray[np.float64]
    run_chosen: NDArray[np.int64]
    run_objective: NDArray[np.float64]
    digest: str
    about: str = ""

    def __post_init__(self) -> None:
        n_states, n_runs = self.scenario.size, self.run_objective.size
        if self.weights.shape[1] != len(self.structures) or not 0 <= self.scenario.max() < len(self.weights):
            raise ValueError("Labels: weights do not fit the structures and scenarios.")
        if self.chosen.shape != self.fitness.shape or len(self.fitness) != n_states or len(self.objective) != n_states:
            raise ValueError("Labels: chosen beams, fitness and objective differ in their number of states.")
        if len(self.run_chosen) != n_runs or not np.isfinite(self.fitness.astype(np.float32)).all():
            raise ValueError("Labels: runs are incomplete, or a fitness is not finite.")

    def organ_weights(self, scenario: int) -> OrganWeights:
        """Organ weights of a scenario."""
        return weights_from(self.structures, self.weights[scenario])


_BY_ROLE = ("ring", "skin", "external")  # columns of the weights before those of the organs


def weight_names(case: PatientCase) -> tuple[str, ...]:
    """Names of what has a weight: ring, skin and body, then the organs at risk."""
    return (*_BY_ROLE, *(s.name for s in weighted_organs(case)))


def weights_from(names: Sequence[str], values: NDArray[np.float32]) -> OrganWeights:
    """Organ weights of a row of values, named as by `weight_names`."""
    ring, skin, external, *organs = (float(v) for v in values)
    return OrganWeights(
        ring=ring, skin=skin, external=external, structures=dict(zip(names[len(_BY_ROLE) :], organs, strict=True))
    )


def weights_row(names: Sequence[str], weights: OrganWeights) -> NDArray[np.float32]:
    """Values of organ weights in the order of the names."""
    by_role = [weights.ring, weights.skin, weights.external]
    return np.array([*by_role, *(weights.structures[n] for n in names[len(_BY_ROLE) :])], np.float32)


def label_patient(
    case: PatientCase, machine: Machine, settings: LabelSettings, *, seed: int, progress: Progress | None = None
) -> PatientLabels:
    """Draw the scenarios of a patient and have column generation label them.

    Every scenario is solved for its own beams. Solving all as one batch would carry the union of their beams, ten
    times the work, and pricing a batch is no faster than its members one by one on a CPU.

    Parameters
    ----------
    case : with prescribed targets
    seed : of the scenarios and of the voxel sample
    """
    report, names = progress or Silent(), weight_names(case)
    n_candidates = len(candidate_beams(settings.selection.candidates, machine.clearance))
    scenarios = draw_scenarios(np.random.default_rng(seed), case, n_candidates, settings.scenarios)
    rows = np.stack([weights_row(names, s.weights) for s in scenarios])
    weightings = [weights_from(names, row) for row in rows]  # as they are stored, in single precision
    problem, _ = selection_problem(case, machine, settings.selection, weightings=weightings, seed=seed)
    n_beams, runs, states = settings.scenarios.n_beams, [], _States([], [], [], [])
    for n, scenario in enumerate(scenarios):
        report.step("labels", n / len(scenarios), f"scenario {n + 1} of {len(scenarios)}")
        if scenario.given:
            states.add_start(n, problem.only(n), scenario.given)
        else:
            runs.append(states.add_run(n, problem.only(n), n_beams))
    report.step("labels", 1.0)
    run_chosen = np.full((len(runs), n_beams), -1, np.int64)
    for row, (beams, _) in zip(run_chosen, runs, strict=True):
        row[: len(beams)] = beams
    chosen = np.zeros((len(states.chosen), n_candidates), bool)
    for mask, beams in zip(chosen, states.chosen, strict=True):
        mask[list(beams)] = True
    return PatientLabels(
        structures=names,
        weights=rows,
        scenario=np.array(states.scenario, np.int64),
        chosen=chosen,
        fitness=np.stack(states.fitness).astype(np.float16),
        objective=np.array(states.objective),
        run_chosen=run_chosen,
        run_objective=np.array([objective for _, objective in runs], np.float64),
        digest=settings.digest(),
    )


@dataclass
class _States:
    """States collected so far."""

    scenario: list[int]
    chosen: list[tuple[int, ...]]
    fitness: list[NDArray[np.float32]]
    objective: list[float]

    def add_run(self, number: int, problem: SelectionProblem, n_beams: int) -> tuple[tuple[int, ...], float]:
        """Add the states of a full run; returns its beams and their objective."""
        run = generate_columns(problem, n_beams)[0]
        for step in range(run.n_steps):
            self._add(number, run.chosen[:step], run.fitness[step], run.objectives[step])
        return run.chosen, run.objectives[-1]

    def add_start(self, number: int, problem: SelectionProblem, given: tuple[int, ...]) -> None:
        """Add the state of given beams."""
        multipliers, objective = solve_limited(problem, [given], {})
        fitness = fitness_of(problem.reduced_costs(multipliers))[0].astype(np.float32)
        self._add(number, given, fitness, float(objective[0]))

    def _add(self, number: int, chosen: Sequence[int], fitness: NDArray[np.float32], objective: float) -> None:
        self.scenario.append(number)
        self.chosen.append(tuple(chosen))
        self.fitness.append(fitness)
        self.objective.append(objective)


def write_labels(labels: PatientLabels, file: Path) -> None:
    """Write labels, about 40 kB a patient, under a temporary name first."""
    write_arrays(file, vars(labels))


def read_labels(file: Path) -> PatientLabels:
    """Read labels.

    Raises
    ------
    InputError
        If the file holds no labels; a file that is missing is a `FileNotFoundError`.
    """
    content = read_arrays(file)
    try:
        structures = tuple(str(s) for s in content.pop("structures"))
        digest, about = str(content.pop("digest")), str(content.pop("about", ""))
        return PatientLabels(structures=structures, digest=digest, about=about, **content)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{file}' cannot be read as labels ({str(error).rstrip('.')}).") from error
