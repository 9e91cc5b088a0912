"""Long work on the fluence of a plan: each step runs in a process of its own, and its result comes into the scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import slicer

from deeprt.beams import Beam
from deeprt.case import PatientCase
from deeprt.delivery.segments import DeliverablePlan
from deeprt.errors import InputError
from deeprt.evaluation.evaluate import check_dose_of_case
from deeprt.fluence.solution import FluenceSolution
from deeprt.work_folder import WorkFolder, plan_from_json, plan_to_json
from deeprt_mrml.fluence_references import FluenceReferences
from deeprt_mrml.fluence_reports import FluenceReports
from deeprt_mrml.fluence_results import (
    SEGMENTS,
    SYNTHETIC,
    WISHED,
    fluence_beams,
    show_comparison,
    show_dose,
    show_solution,
    solution_of,
)
from deeprt_mrml.fluence_stages import Method, PlanStages, Stage, StageState, keep_made_for
from deeprt_mrml.plan import Plan
from deeprt_mrml.session import PlanSession
from deeprt_mrml.volumes import dose_on

_NEEDED = {"refine": Stage.FLUENCE, "sequence": Stage.FLUENCE, "dose": Stage.SEGMENTS, "compare": Stage.DOSE,
           "export": Stage.DOSE}  # fmt: skip


class FluenceJobs:
    """Starts the steps of the plan in work. The files they need are written from the scene as it is."""

    def __init__(
        self, session: PlanSession, stages: PlanStages, reports: FluenceReports, references: FluenceReferences
    ) -> None:
        self._session, self._stages, self._reports, self._references = session, stages, reports, references
        self._pending: list[Stage] = []  # of `start_all`

    def why_not(self, action: str) -> str:
        """One sentence why an action cannot be done now; empty if it can; see `FluencePlanning.why_not`."""
        if self._session.work.is_busy:
            return f"{self._session.work.title} is under way; wait for it or cancel it first."
        if reason := self._session.why_not_ready():
            return reason
        plan = self._session.current_plan
        if action in _NEEDED:
            return (
                self._stages.why_not_current(Stage.FLUENCE)
                or self._why_no_wish(plan, action)
                or self._stages.why_not_current(_NEEDED[action])
            )
        if not plan.beams:
            return "Add beams first: choose them in DeepBOO, type them in, or read an RTPLAN."
        is_predicted = action == "predict" or (
            action == "all" and self._stages.state(Stage.FLUENCE) is not StageState.CURRENT
        )
        if is_predicted and plan.config.fluence.wished == "given" and plan.wished_dose_node is None:
            return "Choose the dose volume that fluence is predicted from, or let the dose be predicted or optimized."
        return ""

    def start_prediction(self) -> None:
        """Predict fluence from the wished dose, which is made first unless it is given."""
        self._refuse("predict")
        self._start_finding("network", "Prediction of the fluence")

    def start_optimization(self) -> None:
        """Optimize fluence for the objectives."""
        self._refuse("optimize")
        self._start_finding("optimize", "Optimization of the fluence")

    def start_refinement(self, n_iterations: int) -> None:
        """Pull the dose of fluence to the wished one."""
        self._refuse("refine")
        work, case, beams = self._work_folder(self._stages.wished_node), self._session.prepared().case, self._placed()
        self._write_fluence(work, beams)

        def done(plan: Plan) -> None:
            self._show_fluence(plan, beams, work.read_fluence(), case)

        self._start(Stage.FLUENCE, "Refinement", ["refine", "--iterations", str(n_iterations)], work, done)

    def start_sequencing(self) -> None:
        """Sequence fluence."""
        self._refuse("sequence")
        work = self._work_folder(self._stages.wished_node)
        self._write_fluence(work, self._placed())

        def done(plan: Plan) -> None:
            plan.set_text(SEGMENTS, plan_to_json(work.read_segments()))

        self._start(Stage.SEGMENTS, "Sequencing", ["segments"], work, done)

    def start_dose(self) -> None:
        """Calculate and normalize the dose of the segments."""
        self._refuse("dose")
        work, case = self._work_folder(self._stages.wished_node), self._session.prepared().case
        work.write_segments(self._known_segments())

        def done(plan: Plan) -> None:
            segments, dose_gy = work.read_segments(), work.read_dose()
            plan.set_text(SEGMENTS, plan_to_json(segments))
            show_dose(plan, SYNTHETIC, dose_gy, case)

        self._start(Stage.DOSE, "Dose calculation", ["dose"], work, done)

    def start_comparison(self) -> None:
        """Compare the dose of the segments with the wished one."""
        self._refuse("compare")
        work, grid = self._work_folder(self._stages.wished_node), self._session.prepared().case.grid
        self._write_dose(work)

        def done(plan: Plan) -> None:
            show_comparison(plan, work.read_comparison(), grid)

        self._start(Stage.COMPARISON, "Comparison", ["compare"], work, done)

    def start_all(self) -> None:
        """Predict, sequence, calculate and compare, one after the other; what is current is not done again."""
        self._refuse("all")
        self._go_on(list(Stage))

    def start_export(self, folder: Path, *, eclipse_fluence: bool, overwrite: bool) -> None:
        """Write the plan into a folder; see `FluencePlanning.start_export`."""
        self._refuse("export")
        work, dicom = self._work_folder(self._stages.wished_node), self._session.prepared().case.dicom
        segments = self._known_segments()
        self._write_fluence(work, segments.beams)
        work.write_segments(segments)
        self._write_dose(work)
        if dicom is None or not dicom.structure_set_uid:
            work.write_images(self._session.case_on(None))
        command = ["step", "export", str(work.path), "--out", str(folder)]
        command += ["--eclipse-fluence"] * eclipse_fluence + ["--overwrite"] * overwrite
        self._pending = []
        self._session.work.start("Export", command, lambda: None)

    def _refuse(self, action: str) -> None:
        if reason := self.why_not(action):
            raise InputError(reason)

    def _why_no_wish(self, plan: Plan, action: str) -> str:
        """Why an action lacks a wished dose that it needs; empty if it does not."""
        is_predicted = plan.config.fluence.method == "network"
        if self._stages.wished_node is None and (is_predicted or action in ("refine", "compare")):
            return "There is no wished dose any more; choose its volume, or predict the fluence anew."
        if action == "refine" and not is_predicted and _given(plan) is None:
            return "This fluence was optimized for objectives; choose a wished dose to pull it to, or predict it."
        return ""

    def _go_on(self, stages: list[Stage]) -> None:
        """Start the first of these that is not current; the others follow once it has ended well."""
        start = {
            Stage.FLUENCE: self.start_prediction,
            Stage.SEGMENTS: self.start_sequencing,
            Stage.DOSE: self.start_dose,
            Stage.COMPARISON: self.start_comparison,
        }
        for n, stage in enumerate(stages, start=1):
            if self._stages.state(stage) is not StageState.CURRENT:
                start[stage]()
                self._pending = stages[n:]
                return

    def _start(
        self,
        stage: Stage,
        title: str,
        step: Sequence[str],
        work: WorkFolder,
        done: Callable[[Plan], None],
        *,
        method: Method | None = None,
    ) -> None:
        """Start a step in a work folder; ``done`` puts its result into the scene, and fluence's ``method`` holds."""
        plan, made_for = self._session.current_plan, self._stages.made_for(stage, method=method)

        def ended() -> None:
            if plan.scene is None:  # it was removed meanwhile
                return
            done(plan)
            if method is not None:
                plan.config = replace(plan.config, fluence=replace(plan.config.fluence, method=method))
            keep_made_for(plan, stage, made_for | self._stages.result(stage))
            if stage in (Stage.DOSE, Stage.COMPARISON):
                self._reports.show_dvh()
            self._go_on(self._pending)

        self._pending = []
        self._session.work.start(title, ["step", *step, str(work.path)], ended)

    def _start_finding(self, method: Method, title: str) -> None:
        given, case, beams = _given(self._session.current_plan), self._session.prepared().case, self._placed()
        work = self._work_folder(given, method=method)

        def done(plan: Plan) -> None:
            solution, wished_gy = work.read_fluence(), None if given is not None else work.read_wished()
            self._show_fluence(plan, beams, solution, case)
            if given is None:  # without a wished dose, fluence was optimized: then its dose is the wished one
                show_dose(plan, WISHED, solution.dose_gy if wished_gy is None else wished_gy, case)

        self._start(Stage.FLUENCE, title, ["fluence"], work, done, method=method)

    def _show_fluence(self, plan: Plan, beams: Sequence[Beam], solution: FluenceSolution, case: PatientCase) -> None:
        if [b.angles for b in fluence_beams(plan)] != [b.angles for b in beams]:
            self._references.set_maps(())
        show_solution(plan, beams, solution, case)
        self._references.update()

    def _work_folder(
        self, wished_node: slicer.vtkMRMLScalarVolumeNode | None, *, method: Method | None = None
    ) -> WorkFolder:
        """Work folder with case, settings, and the wished dose or none; fluence's method is the plan's if None."""
        work, case = self._session.work_folder(), self._session.prepared().case
        config = work.read_config()
        fluence = replace(config.fluence, method=method or config.fluence.method)
        work.write_config(replace(config, fluence=fluence, normalization=self._stages.normalization(method=method)))
        if wished_node is None:
            work.remove_wished()
        else:
            wished_gy = dose_on(wished_node, case.grid)
            check_dose_of_case(case, wished_gy, wished_node.GetName())
            work.write_wished(wished_gy, case.grid)
        return work

    def _placed(self) -> tuple[Beam, ...]:
        return self._session.placed([b.angles for b in self._session.current_plan.beams])

    def _write_fluence(self, work: WorkFolder, beams: Sequence[Beam]) -> None:
        work.write_fluence(solution_of(self._session.current_plan, beams, self._session.prepared().case.grid))

    def _write_dose(self, work: WorkFolder) -> None:
        work.write_dose(dose_on(self._reports.dose_node, self._session.prepared().case.grid))

    def _known_segments(self) -> DeliverablePlan:
        return plan_from_json(self._session.current_plan.text(SEGMENTS))


def _given(plan: Plan) -> slicer.vtkMRMLScalarVolumeNode | None:
    """Wished dose that the user gave; None if it is to be made."""
    return plan.wished_dose_node if plan.config.fluence.wished == "given" else None
