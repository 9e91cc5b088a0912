"""The beams of a plan in the scene: the network proposes, the user disposes, and views show what follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import slicer

from deeprt.beams import BeamAngles
from deeprt.orientation.candidates import peaks_of
from deeprt.orientation.network_prediction import network_predictor
from deeprt.orientation.predictor import FitnessPredictor
from deeprt.orientation.session import BeamSession, SessionState
from deeprt.orientation.teacher import OrganWeights
from deeprt_mrml.fitness_ring import RING_HEIGHT_MM, radius_beyond_mm, remove_ring, show_peaks, show_ring
from deeprt_mrml.plots import show_fitness
from deeprt_mrml.session import PlanSession
from deeprt_mrml.subject_hierarchy import find_node

_RING_HALF_LENGTH_MM = 60.0  # so that the ring is seen in slices around the isocenter, not in those far from it
_N_PEAKS = 6  # that are marked


class BeamPlanning:
    """Edits the beams of the plan in work.

    What is edited lies in the plan's node, from where it is taken again when it was changed elsewhere. Here are only
    the prediction of the patient's fitness and the steps to undo. Every edit predicts anew and shows what it did.
    """

    def __init__(self, session: PlanSession) -> None:
        self._session = session
        self._predictor: FitnessPredictor | None = None
        self._made_for: tuple[object, OrganWeights] | None = None  # patient and weights of the predictor
        self._beams: BeamSession | None = None
        self._plan_node: slicer.vtkMRMLScriptedModuleNode | None = None  # of the plan whose beams these are

    @property
    def is_set_up(self) -> bool:
        """Whether the patient is known to the network, so that predictions are quick."""
        return self._made_for is not None and self._made_for[0] == self._patient()

    @property
    def state(self) -> SessionState:
        """Beams of the plan and the fitness of all candidates beside them.

        Raises
        ------
        InputError
            If there is nothing to plan yet; the message says what is missing.
        """
        return self._asked().state

    @property
    def candidates(self) -> tuple[BeamAngles, ...]:
        """Beams that may be proposed."""
        return self._asked().candidates

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to take back."""
        return self._beams is not None and self._is_in_step(self._beams) and self._beams.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether there is an edit to do again."""
        return self._beams is not None and self._is_in_step(self._beams) and self._beams.can_redo

    def why_not(self, action: str) -> str:
        """One sentence why *propose*, *complete*, *undo* or *redo* cannot be done now; empty if it can."""
        if action in ("undo", "redo"):
            can = self.can_undo if action == "undo" else self.can_redo
            return "" if can else f"There is nothing to {action}."
        if reason := self._session.why_not_ready():
            return reason
        plan = self._session.current_plan
        if action == "complete" and len(plan.beams) >= plan.config.beams.n_beams:
            return f"The plan has {len(plan.beams)} beams already; ask for more, or remove some."
        return ""

    def propose(self) -> None:
        """Add the fittest candidate."""
        self._do(BeamSession.add_best)

    def complete(self, n_beams: int) -> None:
        """Add the fittest candidates one by one, up to so many beams."""
        plan = self._session.current_plan
        self._do(lambda beams: beams.complete(n_beams))
        plan.config = replace(plan.config, beams=replace(plan.config.beams, n_beams=n_beams))

    def add(self, angles: BeamAngles) -> None:
        """Add any beam."""
        self._do(lambda beams: beams.add(angles))

    def move(self, position: int, angles: BeamAngles) -> None:
        """Give a beam other angles; positions count from 0."""
        self._do(lambda beams: beams.move(position, angles))

    def remove(self, position: int) -> None:
        """Take a beam out."""
        self._do(lambda beams: beams.remove(position))

    def lock(self, position: int, locked: bool) -> None:
        """Keep a beam from being moved, exchanged or removed, or no longer."""
        self._do(lambda beams: beams.lock(position, locked))

    def clear(self) -> None:
        """Remove all beams but the locked ones."""
        self._do(BeamSession.clear)

    def take(self, angles: Sequence[BeamAngles]) -> None:
        """Take other beams in place of all that are not locked."""
        self._do(lambda beams: beams.take(angles))

    def exchange(self) -> None:
        """Put each beam that is not locked to the test against others, judged by the coarse objective."""
        self._do(BeamSession.exchange)

    def exclude(self, sectors_deg: Sequence[tuple[float, float]]) -> None:
        """Propose no beam in these sectors of gantry angles, (from, to) clockwise."""
        self._do(lambda beams: beams.exclude(sectors_deg))

    def separate(self, min_separation_deg: float) -> None:
        """Propose no beam that is closer than this to another one."""
        self._do(lambda beams: beams.separate(min_separation_deg))

    def undo(self) -> None:
        """Take the last edit back."""
        self._do(BeamSession.undo)

    def redo(self) -> None:
        """Do again what was undone last."""
        self._do(BeamSession.redo)

    def refresh(self) -> None:
        """Predict anew and show, after weights, roles, candidates, the machine or the patient changed."""
        self._asked()
        self.show()

    def peaks(self) -> tuple[BeamAngles, ...]:
        """Local maxima of the fitness that may be chosen, the fittest first."""
        state = self.state
        return tuple(self.candidates[i] for i in peaks_of(self.candidates, state.fitness, state.selectable)[:_N_PEAKS])

    def fitness_of(self, angles: BeamAngles) -> float:
        """Predicted fitness of a candidate, 0 to 1."""
        return float(self.state.fitness[self.candidates.index(angles)])

    def notes(self) -> tuple[str, ...]:
        """What case, plan and prediction assume, one sentence each."""
        session = self._session
        prepared = () if session.why_not_ready() else session.prepared().notes
        if self._predictor is None or session.why_not_ready() or not self.is_set_up:
            return prepared
        plan = session.current_plan
        return (*prepared, *self._predictor.notes(max(plan.config.beams.n_beams, len(plan.beams))))

    def show(self) -> None:
        """Show beams, fitness over the gantry angle, and the ring around the patient with its peaks.

        Where SlicerRT is installed, the beams are also its nodes.
        """
        scene, plan, state = self._session.scene, self._session.current_plan, self.state
        case = self._session.prepared().case
        center_lps = case.isocenter_lps()
        self._session.show_beams()
        show_fitness(scene, plan.key, self.candidates, state.fitness, state.angles)
        radius_mm = radius_beyond_mm(case, center_lps, _RING_HALF_LENGTH_MM)
        show_ring(
            scene, plan.key, center_lps=center_lps, position=case.position, radius_mm=radius_mm,
            half_length_mm=_RING_HALF_LENGTH_MM, candidates=self.candidates, fitness=state.fitness,
            chosen=state.angles, excluded_deg=state.excluded_deg,
        )  # fmt: skip
        peaks = self.peaks()
        on_curve_mm = [radius_mm + RING_HEIGHT_MM * self.fitness_of(a) for a in peaks]
        show_peaks(
            scene, plan.key, center_lps=center_lps, position=case.position, radius_mm=on_curve_mm, peaks=peaks,
            labels=[f"{a.gantry_deg:.0f}°" for a in peaks],
        )  # fmt: skip

    def hide(self) -> None:
        """Take the ring and its peaks out of the views."""
        remove_ring(self._session.scene, self._session.current_plan.key)

    @property
    def fitness_chart(self) -> slicer.vtkMRMLPlotChartNode | None:
        """Fitness over the gantry angle, where it was shown."""
        return self._node("fitness")

    @property
    def peaks_node(self) -> slicer.vtkMRMLMarkupsFiducialNode | None:
        """Peaks of the fitness in the views, in the order of `peaks`, where they were shown."""
        return self._node("peaks")

    def _node(self, part: str) -> slicer.vtkMRMLNode | None:
        plan = self._session.plan
        return None if plan is None else find_node(self._session.scene, plan.key, part)

    def _do(self, edit: Callable[[BeamSession], SessionState]) -> None:
        """Edit the beams, keep them in the scene and show them."""
        state = edit(self._asked())
        plan = self._session.current_plan
        config = plan.config
        selection = replace(
            config.selection,
            exclude_deg=state.excluded_deg,
            min_separation_deg=state.min_separation_deg,
            weights=state.weights,
        )
        plan.config = replace(config, selection=selection)
        plan.beams = state.beams
        self.show()

    def _asked(self) -> BeamSession:
        """The editable set of the plan, in step with what the plan's node says."""
        patient, plan = self._patient(), self._session.current_plan
        selection = plan.config.selection
        if self._predictor is None or self._made_for is None or self._made_for[0] != patient:
            self._predictor = network_predictor(self._session.prepared().case, self._session.machine(), selection)
            self._made_for, self._beams = (patient, selection.weights), None
        if self._beams is None or not self._is_in_step(self._beams):
            if self._made_for[1] != selection.weights:
                self._predictor = self._predictor.reweighted(selection.weights)
                self._made_for = (patient, selection.weights)
            self._plan_node = plan.node
            self._beams = BeamSession(
                self._predictor,
                selection.weights,
                beams=plan.beams,
                excluded_deg=selection.exclude_deg,
                min_separation_deg=selection.min_separation_deg,
            )
        elif self._beams.state.weights != selection.weights:
            self._beams.reweight(selection.weights)
        return self._beams

    def _is_in_step(self, beams: BeamSession) -> bool:
        """Whether beams and constraints are those of the plan; the same set answers other weights and numbers."""
        plan, state = self._session.plan, beams.state
        if plan is None or plan.node is not self._plan_node:
            return False
        selection = plan.config.selection
        return (
            state.beams == plan.beams
            and state.excluded_deg == selection.exclude_deg
            and state.min_separation_deg == selection.min_separation_deg
        )

    def _patient(self) -> tuple[object, ...]:
        """What the set-up of the network hangs on; a case is the same as long as it is the same object."""
        config = self._session.current_plan.config
        return self._session.prepared(), config.machine, config.selection.candidates, config.selection.network
