"""Checks of a plan's beams: column generation beside them, a search that improves them, and what dose they allow."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import slicer

from deeprt.beams import BeamAngles
from deeprt.config import PlanningConfig
from deeprt.errors import InputError
from deeprt.evaluation.evaluate import PlanReport, StructureReport
from deeprt.structures import Role
from deeprt.work_folder import WorkFolder
from deeprt_mrml.beam_planning import BeamPlanning
from deeprt_mrml.dose_reports import DoseReports
from deeprt_mrml.fluence_results import dose_of, show_dose
from deeprt_mrml.made_for import Inputs, changed_part, settings_text
from deeprt_mrml.plots import show_dvh
from deeprt_mrml.segments import segment_colors
from deeprt_mrml.session import PlanSession
from deeprt_mrml.subject_hierarchy import find_node

OWN, REFERENCE = "this plan", "column generation"  # the two sets of beams, as charts and tables call them
_GIVEN = "given dose"


@dataclass(frozen=True)
class ComparisonRow:
    """A number of the plan's beams and of column generation's; None where a set was not evaluated.

    Parameters
    ----------
    unit : empty for a bare number
    less_is_better : None where neither is
    """

    name: str
    unit: str
    own: float | None
    reference: float | None
    less_is_better: bool | None


@dataclass(frozen=True)
class _Evaluation:
    """What is kept of an evaluated set, its dose apart.

    Parameters
    ----------
    made_for : case, beams and settings, by name of part
    objective : of the optimized fluence
    shares : of the monitor units, one a beam, 0 to 1
    """

    made_for: dict[str, Any]
    objective: float
    shares: tuple[float, ...]


class BeamCheck:
    """Long work on the beams of the plan in work, and what came out of it, which lies in the scene."""

    def __init__(self, session: PlanSession, planning: BeamPlanning) -> None:
        self._session, self._planning = session, planning
        self._inputs, self._doses = Inputs(session), DoseReports(session)

    def why_not(self, action: str) -> str:
        """One sentence why *column generation*, *improve*, *evaluate* or *adopt* cannot be done; empty if it can."""
        if self._session.work.is_busy:
            return f"{self._session.work.title} is under way."
        if reason := self._session.why_not_ready():
            return reason
        plan = self._session.current_plan
        if action in ("improve", "evaluate") and not plan.beams:
            return "The plan has no beams yet; propose or add some."
        if action == "improve" and all(b.locked for b in plan.beams):
            return "All beams are locked; unlock those that may be exchanged."
        if action == "column generation" and any(b.locked and b.angles.couch_deg for b in plan.beams):
            return "Column generation cannot begin with locked beams whose couch is turned; unlock them."
        if action == "adopt" and not plan.reference_beams:
            return "Column generation has chosen no beams yet."
        return ""

    def start_column_generation(self) -> None:
        """Let column generation choose as many beams as the plan wants, from its locked ones on."""
        self._refuse("column generation")
        plan, work = self._session.current_plan, self._session.work_folder("columns")
        locked = [repr(b.angles.gantry_deg) for b in plan.beams if b.locked]  # with all digits
        n_beams = max(plan.config.beams.n_beams, len(plan.beams))
        command = [*_beams(work), "--select", "column-generation", "--beams", str(n_beams)]
        if locked:
            command += ["--start", ",".join(locked)]

        def done() -> None:
            if plan.scene is not None:
                plan.reference_beams = work.read_selection().angles

        self._session.work.start("Column generation", command, done)

    def start_improvement(self, seconds: float) -> None:
        """Let a search with the exact objective exchange beams that are not locked, for so long."""
        self._refuse("improve")
        plan = self._session.current_plan
        beams = sorted(plan.beams, key=lambda b: not b.locked)
        work = self._session.work_folder("improved", angles=[b.angles for b in beams])
        config = work.read_config()
        kept = replace(config.beams, n_kept=sum(b.locked for b in beams))
        work.write_config(replace(config, beams=kept))

        def done() -> None:
            if plan.scene is not None:
                self._planning.take(work.read_selection().angles)

        self._session.work.start("Improvement", [*_beams(work), "--improve", f"{seconds:g}"], done)

    def start_evaluation(self) -> None:
        """Optimize the fluence of the plan's beams, then that of column generation's, and show doses and DVHs."""
        self._refuse("evaluate")
        plan = self._session.current_plan
        own, reference = tuple(b.angles for b in plan.beams), plan.reference_beams

        def then() -> None:
            if reference and not self._is_of(REFERENCE, reference):
                self._start_evaluating(REFERENCE, reference, self.show)
            else:
                self.show()

        self._start_evaluating(OWN, own, then)

    def adopt_reference(self) -> None:
        """Take column generation's beams as the plan's, one step to undo."""
        self._refuse("adopt")
        self._planning.take(self._session.current_plan.reference_beams)

    @property
    def is_evaluated(self) -> bool:
        """Whether there is a dose of the plan's beams, be it of an earlier set."""
        return self._evaluation(OWN) is not None and self.dose_node is not None

    @property
    def is_outdated(self) -> bool:
        """Whether patient, beams or settings changed after a set was evaluated, or column generation chose another."""
        plan = self._session.plan
        if plan is None or not self.is_evaluated or self._session.why_not_ready():
            return False
        reference = plan.reference_beams
        return not self._is_of(OWN, [b.angles for b in plan.beams]) or bool(
            self._evaluation(REFERENCE) is not None and reference and not self._is_of(REFERENCE, reference)
        )

    def beam_shares(self) -> tuple[float | None, ...]:
        """Weight of each beam: its share of the monitor units, 0 to 1; None where it is not known for these beams."""
        evaluation, angles = self._evaluation(OWN), [b.angles for b in self._session.current_plan.beams]
        if evaluation is None or self._session.why_not_ready() or not self._is_of(OWN, angles):
            return (None,) * len(angles)
        return evaluation.shares

    def comparison(self) -> tuple[ComparisonRow, ...]:
        """Objective, goals met and dose of the structures, of the plan's beams and of column generation's."""
        reports = {which: self._report(which) for which in (OWN, REFERENCE)}
        own, reference = reports[OWN], reports[REFERENCE]
        if own is None:
            return ()
        evaluations = [self._evaluation(which) for which in (OWN, REFERENCE)]
        objectives = [None if e is None else e.objective for e in evaluations]
        rows = [ComparisonRow("Objective", "", objectives[0], objectives[1], True)]
        met = [None if r is None else float(sum(g.met for g in r.goals)) for r in (own, reference)]
        rows.append(ComparisonRow(f"Goals met, of {len(own.goals)}", "", met[0], met[1], False))
        for s in sorted(own.structures, key=lambda s: s.target is None):
            other = None if reference is None else reference.structure(s.name)
            rows += [
                ComparisonRow(f"{s.name} {name}", "Gy", of(s), None if other is None else of(other), less)
                for name, of, less in _numbers_of(s)
            ]
        return tuple(rows)

    def show(self) -> None:
        """Show DVHs: solid the plan's, dashed column generation's and that of a dose that was given."""
        plan = self._session.current_plan
        reports = {which: report for which in (OWN, REFERENCE) if (report := self._report(which)) is not None}
        if reports:
            given = plan.wished_dose_node
            of_given = None if given is self.dose_node else self._doses.of(given)
            if of_given is not None:
                reports[_GIVEN] = of_given
            show_dvh(self._session.scene, plan.key, reports, segment_colors(plan.segmentation_node))

    @property
    def dose_node(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """Dose of the plan's beams, where they were evaluated."""
        return self._dose_node(OWN)

    @property
    def dvh_chart(self) -> slicer.vtkMRMLPlotChartNode | None:
        """Chart of the DVHs, where there is one."""
        plan = self._session.plan
        return None if plan is None else find_node(self._session.scene, plan.key, "dvh")

    def _refuse(self, action: str) -> None:
        if reason := self.why_not(action):
            raise InputError(reason)

    def _start_evaluating(self, which: str, angles: Sequence[BeamAngles], then: Callable[[], None]) -> None:
        plan, case = self._session.current_plan, self._session.prepared().case
        work = self._session.work_folder(which.replace(" ", "_"), angles=angles)
        config = _evaluated_as(plan.config)
        work.write_config(replace(work.read_config(), fluence=config.fluence, normalization=config.normalization))
        made_for = self._made_for(angles)

        def done() -> None:
            if plan.scene is None:  # it was removed meanwhile
                return
            solution = work.read_fluence()
            mu = [float(m.sum()) for m in solution.fluence_mu]
            evaluation = _Evaluation(made_for, solution.objective, tuple(m / sum(mu) for m in mu))
            show_dose(plan, _dose_name(which), solution.dose_gy, case)
            plan.set_text(_text_of(which), json.dumps(asdict(evaluation)))
            then()

        title = "Evaluation" if which == OWN else "Evaluation of column generation"
        self._session.work.start(title, ["step", "fluence", str(work.path)], done)

    def _report(self, which: str) -> PlanReport | None:
        return None if self._evaluation(which) is None else self._doses.of(self._dose_node(which))

    def _dose_node(self, which: str) -> slicer.vtkMRMLScalarVolumeNode | None:
        return None if self._session.plan is None else dose_of(self._session.plan, _dose_name(which))

    def _evaluation(self, which: str) -> _Evaluation | None:
        text = "" if self._session.plan is None else self._session.plan.text(_text_of(which))
        if not text:
            return None
        content = json.loads(text)
        return _Evaluation(content["made_for"], content["objective"], tuple(content["shares"]))

    def _is_of(self, which: str, angles: Sequence[BeamAngles]) -> bool:
        """Whether a set that was evaluated is that of these beams for the patient and the settings as they are."""
        evaluation = self._evaluation(which)
        if evaluation is None or self._dose_node(which) is None:
            return False
        return not changed_part(evaluation.made_for, self._made_for(angles))

    def _made_for(self, angles: Sequence[BeamAngles]) -> dict[str, Any]:
        """What the dose of a set hangs on, by name of part."""
        config = _evaluated_as(self._session.current_plan.config)
        rule = config.normalization or self._session.prepared().protocol.normalization
        return {**self._inputs.of_fluence(angles, config.fluence), "normalization": settings_text(rule)}


def _evaluated_as(config: PlanningConfig) -> PlanningConfig:
    """Settings with which sets of beams are compared: optimized, and normalized without a wished dose."""
    rule = config.normalization
    is_kept = rule is not None and rule.rule == "wished-mean"
    return replace(config, fluence=replace(config.fluence, method="optimize"), normalization=None if is_kept else rule)


def _beams(work: WorkFolder) -> list[str]:
    """Command that chooses beams for the case of a folder, into that folder."""
    return ["beams", str(work.path / "case.npz"), "--config", str(work.path / "plan.toml"), "--out", str(work.path),
            "--overwrite"]  # fmt: skip


def _numbers_of(s: StructureReport) -> list[tuple[str, Callable[[StructureReport], float], bool]]:
    """Metrics of a structure that tell sets of beams apart: name, value, whether less is better."""
    if s.target is not None:
        return [("D95%", lambda r: r.metrics.d95_gy, False), ("D2%", lambda r: r.metrics.d2_gy, True)]
    if s.role is Role.ORGAN_AT_RISK:
        return [("Dmean", lambda r: r.metrics.dmean_gy, True), ("D2%", lambda r: r.metrics.d2_gy, True)]
    return []


def _text_of(which: str) -> str:
    return f"Evaluation of {which}"


def _dose_name(which: str) -> str:
    return f"Dose, {which}"
