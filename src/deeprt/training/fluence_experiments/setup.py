"""What the experiments share: where they find plans and networks, planned patients, and results kept part by part."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from deeprt.beams import Beam
from deeprt.case import PatientCase
from deeprt.errors import InputError
from deeprt.fluence import dose_prediction
from deeprt.fluence.predict import network_of
from deeprt.machine import Machine
from deeprt.machine_file import read_machine
from deeprt.networks.checkpoint import ModelCard, load_training_state
from deeprt.networks.dose_network import DoseNetwork
from deeprt.networks.dual_frame import DualFrameNetwork
from deeprt.networks.fluence_network import FluenceNetwork
from deeprt.progress import Progress
from deeprt.training.cohort import Cohort, CohortPatient, read_cohort
from deeprt.training.fluence import FluenceNetworkName, new_network
from deeprt.training.fluence_experiments.results import CENTRAL_SLICE, DEFAULT, INVERSION, refined
from deeprt.training.loop import BEST, claimed
from deeprt.training.measuring.parts import in_parts
from deeprt.training.reference_plans import (
    ReferencePlan,
    ReferenceSettings,
    read_all_plans,
    reference_beams,
    reference_case,
)

NETWORKS: tuple[FluenceNetworkName, ...] = get_args(FluenceNetworkName)
REFERENCE = ReferenceSettings()
SHIPPED_NETWORKS = Path(str(resources.files("deeprt") / "data" / "models"))


@dataclass(frozen=True)
class Method:
    """A way from a dose to fluence, or from contours to a dose.

    Parameters
    ----------
    name : as the results call it
    network : that predicts, if one does
    n_refinements : iterations after the prediction
    dose_network : file name of the network that predicts the dose, if one does
    """

    name: str
    network: FluenceNetworkName | None = None
    n_refinements: int = 0
    dose_network: str = ""


@dataclass(frozen=True)
class Setup:
    """What the experiments are made with.

    Parameters
    ----------
    data : folder of the cohort with reference plans
    runs : folder of what was trained on it, ``<network>/best.pt``
    out : folder of the results; ``parts`` in it keeps those of single patients
    released : file of the default network, measured in place of that among the runs
    dose_networks : folder of those that predict dose, by the names they ship with
    openkbp : cohort of OpenKBP patients
    n_jobs : processes, of one thread each
    n_patients : test patients to measure, the first ones; all if 0
    """

    data: Path
    runs: Path
    out: Path
    released: Path | None = None
    dose_networks: Path = SHIPPED_NETWORKS
    openkbp: Path | None = None
    n_jobs: int = 1
    n_patients: int = 0

    @cached_property
    def cohort(self) -> Cohort:
        """The cohort with reference plans."""
        return read_cohort(self.data)

    def test_ids(self, cohort: Cohort) -> list[str]:
        """Test patients to measure."""
        return [p.id for p in cohort.of("test")][: self.n_patients or None]

    def weights(self, name: FluenceNetworkName) -> Path:
        """File of a network's weights, whether it is there or not."""
        if name == DEFAULT and self.released is not None:
            return self.released
        return self.runs / name / BEST

    @property
    def trained(self) -> tuple[FluenceNetworkName, ...]:
        """Networks with weights."""
        return tuple(name for name in NETWORKS if self.weights(name).exists())

    def network(self, name: FluenceNetworkName) -> FluenceNetwork | DualFrameNetwork:
        """A trained network, ready to predict.

        Raises
        ------
        InputError
            If it is not trained, or on other patients: those for test may have been among them.
        """
        file = self.weights(name)
        if file == self.released:
            return network_of(file)[1]
        noted = claimed(self.runs / name)
        if noted is not None and noted["cohort"]["patients"] != [asdict(p) for p in self.cohort.patients]:
            raise InputError(f"The network '{file}' was trained on another cohort than '{self.data}'; name that one.")
        network = new_network(name, 0)
        try:
            network.load_state_dict(load_training_state(file)["network"])
        except FileNotFoundError as error:
            raise InputError(f"There is no trained network '{file}'; train it with deeprt train fluence.") from error
        return network.eval()

    def has_dose_network(self, name: str) -> bool:
        """Whether a network that predicts dose is there."""
        return (self.dose_networks / name).is_file()

    def dose_network(self, name: str) -> tuple[ModelCard, DoseNetwork]:
        """A network that predicts dose, and its card."""
        return dose_prediction.network_of(self.dose_networks / name)

    def files(self, method: Method) -> list[Path]:
        """Weights of the networks that a method asks."""
        files = [] if method.network is None else [self.weights(method.network)]
        return files + ([self.dose_networks / method.dose_network] if method.dose_network else [])

    def methods(self, *n_refinements: int) -> tuple[Method, ...]:
        """Dose inversion, the networks that are trained, and the default one with refinements."""
        found = [Method(INVERSION), *(Method(name, name) for name in self.trained)]
        if DEFAULT in self.trained:
            found += [Method(refined(n), DEFAULT, n) for n in n_refinements]
        return tuple(found)


@dataclass(frozen=True, eq=False)
class PlannedPatient:
    """A patient of the cohort with its reference plan."""

    about: CohortPatient
    case: PatientCase
    machine: Machine
    beams: tuple[Beam, ...]
    plan: ReferencePlan


def load_planned_patient(setup: Setup, patient_id: str) -> PlannedPatient:
    """Load a patient of the cohort as it was planned.

    Raises
    ------
    InputError
        If it has no reference plan.
    """
    about = setup.cohort.patient(patient_id)
    plan = read_all_plans(setup.data, REFERENCE, [about])[0]
    case, machine = reference_case(about, REFERENCE), read_machine(REFERENCE.machine)
    return PlannedPatient(about, case, machine, reference_beams(case, plan, machine), plan)


Measure = Callable[[Setup, Method, str], Any]


def measure_patients(
    setup: Setup, experiment: str, measure: Measure, methods: Sequence[Method], ids: Sequence[str], progress: Progress
) -> list[Any]:
    """Measure methods on patients, each pair once: a network that is trained anew, or only now, is measured then.

    Parameters
    ----------
    measure : plain data of a method and a patient; importable, since processes are spawned for it

    Returns
    -------
    What was measured, method by method
    """
    by_folder = {_part_folder(setup, method): method for method in methods}
    names = [f"{folder}/{patient_id}" for folder in by_folder for patient_id in ids]
    make = partial(_measured, setup, measure, by_folder)
    return in_parts(setup.out / "parts" / experiment, names, make, n_jobs=setup.n_jobs, progress=progress)


def _measured(setup: Setup, measure: Measure, by_folder: dict[str, Method], name: str) -> Any:
    folder, patient_id = name.split("/")
    return measure(setup, by_folder[folder], patient_id)


def _part_folder(setup: Setup, method: Method) -> str:
    """Name of a method, and the hash of its networks' weights."""
    name, weights = method.name.replace(", ", "-").replace(" ", "-"), [f.read_bytes() for f in setup.files(method)]
    return f"{name}-{hashlib.sha256(b''.join(weights)).hexdigest()[:10]}" if weights else name


SLICE_METHOD = Method(CENTRAL_SLICE)
