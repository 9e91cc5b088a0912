"""A planning session in a scene: the plan in work, its case, and the long work that is under way.

This is what a panel or a page talks to. It holds nothing that the scene does not, apart from what can be computed
again and the steps to undo.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import slicer

from deeprt.beams import Beam, BeamAngles, place_beams
from deeprt.case import GENERIC_HU_TABLE, PatientCase
from deeprt.cohort.virtual_patient import VirtualPatientSettings, virtual_prostate
from deeprt.config import DEFAULT_MACHINE, BeamSettings, PlanningConfig, Protocol, read_config, to_plain
from deeprt.dicom.read import read_hu_table
from deeprt.errors import InputError
from deeprt.files import write_whole
from deeprt.geometry import Grid
from deeprt.machine import Machine
from deeprt.machine_file import read_machine
from deeprt.preparation import with_prescriptions
from deeprt.roles import StructureChoice
from deeprt.structures import Role
from deeprt.work_folder import CASE, WorkFolder
from deeprt_mrml.beam_models import show_beams
from deeprt_mrml.cases import case_from_nodes, ct_from_case, segmentation_from_case
from deeprt_mrml.coordinates import grid_of
from deeprt_mrml.dicom_identity import DicomIdentity, dicom_identity
from deeprt_mrml.long_work import LongWork
from deeprt_mrml.plan import Plan, delete, new_plan, plans_of, separate_copies
from deeprt_mrml.rt_nodes import show_rt_plan
from deeprt_mrml.segments import choices_of, segment_colors, stamp_of_segments
from deeprt_mrml.structure_rows import StructureRow, structure_rows
from deeprt_mrml.volumes import stamp_of_volume

__all__ = ["PlanSession", "Prepared", "StructureRow"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A case as it is planned, the protocol in use, and what was assumed, one sentence each."""

    case: PatientCase
    protocol: Protocol
    notes: tuple[str, ...]


class PlanSession:
    """The plan in work, its case, and the long work that is under way.

    Parameters
    ----------
    folder : for files that jobs exchange with the scene
    executable, environment : of the Python that runs jobs, see `deeprt_mrml.jobs.start`
    file_of_instance : path of the DICOM file of a SOP Instance UID, empty if it is not known; without it, no case has
        a DICOM identity
    """

    def __init__(
        self,
        scene: slicer.vtkMRMLScene,
        folder: Path,
        *,
        executable: str = sys.executable,
        environment: Mapping[str, str] | None = None,
        file_of_instance: Callable[[str], str] | None = None,
    ) -> None:
        self.scene = scene
        self.work = LongWork(folder, executable=executable, environment=environment)
        self._folder, self._file_of_instance = folder, file_of_instance
        self._plan: Plan | None = None
        self._prepared: dict[str, tuple[object, Prepared]] = {}
        self._written: dict[Path, Prepared] = {}  # cases in work folders

    @property
    def plan(self) -> Plan | None:
        """The plan in work; None without one, also after its node was removed."""
        separate_copies(self.scene)
        if self._plan is not None and (self._plan.scene is None or self._plan.scene is not self.scene):
            self._plan = None
        return self._plan

    @property
    def current_plan(self) -> Plan:
        """The plan in work.

        Raises
        ------
        InputError
            If there is none.
        """
        if self.plan is None:
            raise InputError("There is no plan; make one, or try it with the virtual patient.")
        return self.plan

    def plans(self) -> tuple[Plan, ...]:
        """Plans of the scene."""
        separate_copies(self.scene)
        return plans_of(self.scene)

    def open(self, plan: Plan | None) -> None:
        """Go on with another plan; refused while work on the present one is under way."""
        if self.work.is_busy and (plan is None or self.plan is None or plan.key != self.plan.key):
            raise InputError(f"{self.work.title} is under way; wait for it or cancel it first.")
        self._plan = plan

    def new_plan(self, name: str = "Plan") -> Plan:
        """Add a plan and open it; it begins with the inputs and the structures' roles of the plan in work."""
        before = self.plan
        self.open(None)
        plan = new_plan(self.scene, name)
        if before is not None:
            plan.ct_node, plan.segmentation_node = before.ct_node, before.segmentation_node
            plan.config = before.config
        self._plan = plan
        return plan

    def remove_plan(self) -> None:
        """Remove the plan in work with all its nodes; CT, segmentation and wished dose stay."""
        plan = self.current_plan
        self.open(None)
        delete(plan)

    def load_virtual_patient(self) -> Plan:
        """Add CT and segmentation of the virtual prostate patient, and a plan for them, which is opened."""
        case = virtual_prostate(np.random.default_rng(0), VirtualPatientSettings())
        plan = self.new_plan("Virtual prostate")
        five_beams = BeamSettings(n_beams=5)  # which the network has learned to choose
        plan.config = PlanningConfig(n_fractions=case.n_fractions, beams=five_beams)
        plan.ct_node = ct_from_case(self.scene, case)
        plan.segmentation_node = segmentation_from_case(self.scene, case)
        return plan

    def why_not_ready(self) -> str:
        """One sentence why planning cannot begin; empty if it can."""
        if self.plan is None:
            return "Make a plan first, or try it with the virtual patient."
        if self.plan.ct_node is None:
            return "Choose a CT volume."
        if self.plan.segmentation_node is None:
            return "Choose a segmentation."
        try:
            rows = self.structures()
        except InputError as error:  # settings that are not understood, or contradict the segments
            return str(error)
        if not rows:
            return f"Segmentation '{self.plan.segmentation_node.GetName()}' is empty; draw or load structures."
        if all(r.role is not Role.TARGET for r in rows):
            return "No structure is a target; give one the role target."
        return ""

    def structures(self) -> tuple[StructureRow, ...]:
        """Segments with their roles, prescriptions and weights; none without a segmentation.

        Raises
        ------
        InputError
            If the settings of the plan and the segments contradict each other.
        """
        if self.plan is None or self.plan.segmentation_node is None:
            return ()
        return structure_rows(self.plan.segmentation_node, self.plan.config)

    def set_role(self, name: str, role: Role) -> None:
        """Give a structure a role; another external becomes *other*, and only targets keep a prescription."""
        choices = self._choices()
        if role is Role.EXTERNAL:
            for row in self.structures():
                if row.role is Role.EXTERNAL and row.name != name:
                    choices[row.name] = StructureChoice(Role.OTHER)
        before = choices.get(name, StructureChoice())
        dose_gy = before.prescription_gy if role is Role.TARGET else None
        choices[name] = replace(before, role=role, prescription_gy=dose_gy)
        self._set_choices(choices)

    def set_prescription(self, name: str, prescription_gy: float | None) -> None:
        """Give a target a prescription, Gy, whole course, or none."""
        choices = self._choices()
        before = choices.get(name, StructureChoice())
        choices[name] = replace(before, role=Role.TARGET, prescription_gy=prescription_gy or None)
        self._set_choices(choices)

    def set_weight(self, name: str, weight: float) -> None:
        """Give a structure an organ weight for the choice of beams."""
        config = self.current_plan.config
        weights = config.selection.weights
        weights = replace(weights, structures={**weights.structures, name: weight})
        self.current_plan.config = replace(config, selection=replace(config.selection, weights=weights))

    def save_preset(self, path: Path) -> None:
        """Write the settings of the plan as TOML, which `load_preset` and ``--config`` read; beams are not in it."""
        import tomli_w

        try:
            write_whole(path, tomli_w.dumps(to_plain(self.current_plan.config)))
        except OSError as error:
            raise InputError(f"Cannot write '{path}': {error.strerror}.") from error

    def load_preset(self, path: Path) -> tuple[str, ...]:
        """Take settings from TOML or JSON; what they say of structures that are not there is left out.

        Returns
        -------
        Names of these structures
        """
        config, names = read_config(path), [row.name for row in self.structures()]
        self.current_plan.config = _of_structures(config, names)
        return tuple(n for n in config.structure_choices() if n not in names)

    def prepared(self) -> Prepared:
        """The case on the planning grid with its prescriptions settled; kept until nodes or settings change.

        Raises
        ------
        InputError
            If nodes and settings do not make a case that can be planned; the message says why.
        """
        plan = self.current_plan
        if reason := self.why_not_ready():
            raise InputError(reason)
        config = plan.config
        settings = (
            config.dose_grid_mm, config.n_fractions, config.protocol, config.hu_table, config.structure_choices()
        )  # fmt: skip
        stamp = (settings, stamp_of_volume(plan.ct_node), stamp_of_segments(plan.segmentation_node))
        kept = self._prepared.get(plan.key)
        if kept is None or kept[0] != stamp:
            case = self.case_on(config.dose_grid_mm)
            if not case.with_role(Role.TARGET):
                raise InputError("All targets are empty; draw one, or give another structure the role target.")
            protocol, case, notes = with_prescriptions(case, config)
            kept = self._prepared[plan.key] = (stamp, Prepared(case, protocol, (*case.notes, *notes)))
        return kept[1]

    def case_on(self, spacing_mm: float | None) -> PatientCase:
        """The case as the nodes have it, on voxels of another size, or on the CT's own grid if None."""
        plan, config = self.current_plan, self.current_plan.config
        grid: Grid = grid_of(plan.ct_node)
        names = segment_colors(plan.segmentation_node)
        identity = DicomIdentity()
        if self._file_of_instance is not None:
            identity = dicom_identity(plan.ct_node, plan.segmentation_node, self._file_of_instance)
        case = case_from_nodes(
            plan.ct_node,
            plan.segmentation_node,
            choices={n: c for n, c in config.structure_choices().items() if n in names},
            grid=grid if spacing_mm is None else grid.resampled(spacing_mm),
            n_fractions=config.n_fractions or 1,
            position=identity.position or None,
            hu_table=GENERIC_HU_TABLE if config.hu_table is None else read_hu_table(Path(config.hu_table)),
        )
        return replace(case, dicom=identity.references, notes=(*case.notes, *identity.notes))

    def machine(self) -> Machine:
        """Machine of the plan."""
        return read_machine(self.current_plan.config.machine or DEFAULT_MACHINE)

    def placed(self, angles: Sequence[BeamAngles]) -> tuple[Beam, ...]:
        """Beams of these angles on the targets, with the plan's collimator angle and beamlets.

        Raises
        ------
        InputError
            As `prepared`, and if a target is larger than the machine's largest field.
        """
        config = self.current_plan.config
        return place_beams(
            self.prepared().case,
            [replace(a, collimator_deg=config.beams.collimator_deg) for a in angles],
            self.machine(),
            beamlet_width_mm=config.fluence.beamlet_width_mm,
            margin_mm=config.fluence.margin_mm,
        )

    def show_beams(self) -> None:
        """Show the beams of the plan in work; where SlicerRT is installed, as its nodes too.

        Raises
        ------
        InputError
            As `placed`.
        """
        plan, case = self.current_plan, self.prepared().case
        beams = self.placed([b.angles for b in plan.beams])
        show_beams(self.scene, plan.key, beams)
        prescription_gy = case.targets[0].prescription_gy or 0.0
        show_rt_plan(self.scene, plan.key, beams, plan.ct_node, plan.segmentation_node, prescription_gy=prescription_gy)

    def work_folder(self, name: str = "plan", *, angles: Sequence[BeamAngles] | None = None) -> WorkFolder:
        """Folder in which jobs exchange files with the scene, with case and settings of the plan in work written.

        Parameters
        ----------
        name : of the folder among those of the plan
        angles : of the beams; those of the plan if None
        """
        plan = self.current_plan
        angles = [b.angles for b in plan.beams] if angles is None else angles
        beams = replace(
            plan.config.beams,
            gantry_deg=tuple(a.gantry_deg for a in angles),
            couch_deg=tuple(a.couch_deg for a in angles),
        )
        work = WorkFolder(self._folder / _folder_name(plan.key) / name)
        prepared = self.prepared()
        if self._written.get(work.path) is not prepared or not (work.path / CASE).exists():
            work.write_case(prepared.case)
            self._written[work.path] = prepared
        in_case = [s.name for s in prepared.case.structures]
        work.write_config(replace(_of_structures(plan.config, in_case), beams=beams))
        return work

    def scene_was_closed(self) -> None:
        """Forget the plan and what was computed for it, after all nodes were removed."""
        self.work.end()
        self._plan, self._prepared, self._written = None, {}, {}

    def _choices(self) -> dict[str, StructureChoice]:
        """What is in use for all structures: what the user set, else what the segments keep or their names propose."""
        plan = self.current_plan
        choices = choices_of(plan.segmentation_node) | plan.config.structure_choices()
        kept = {
            r.name: replace(choices.get(r.name, StructureChoice()), role=r.role, prescription_gy=r.prescription_gy)
            for r in self.structures()
        }
        return {**choices, **kept}

    def _set_choices(self, choices: Mapping[str, StructureChoice]) -> None:
        self.current_plan.config = replace(self.current_plan.config, prescription_gy={}, structures=choices)


def _of_structures(config: PlanningConfig, names: Sequence[str]) -> PlanningConfig:
    """Settings without what they say of structures that are not there."""
    choices = {n: c for n, c in config.structure_choices().items() if n in names}
    return replace(config, prescription_gy={}, structures=choices)


def _folder_name(key: str) -> str:
    """Name that no other key has, also where a disk does not tell upper from lower case."""
    plain = "".join(c if c.isalnum() else "_" for c in key[:40])
    return f"{plain}_{hashlib.blake2b(key.encode(), digest_size=4).hexdigest()}"
