"""The fluence of a plan in the scene: found for its beams, sequenced, its dose calculated, compared and exported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import slicer
from numpy.typing import NDArray

from deeprt.beams import Beam, BeamAngles
from deeprt.delivery.segments import DeliverablePlan
from deeprt.errors import InputError
from deeprt.orientation.candidates import SAME_DEG, separations_deg
from deeprt.orientation.session import SessionBeam
from deeprt.work_folder import plan_from_json
from deeprt_mrml.fluence_jobs import FluenceJobs
from deeprt_mrml.fluence_references import FluenceReferences, Maps
from deeprt_mrml.fluence_reports import FluenceReports
from deeprt_mrml.fluence_results import (
    SEGMENTS,
    GammaRow,
    GoalRow,
    MetricRow,
    difference_of,
    fluence_maps,
    fluence_notes,
    gamma_rows,
)
from deeprt_mrml.fluence_stages import PlanStages, Stage, StageState
from deeprt_mrml.other_plans import beams_of
from deeprt_mrml.session import PlanSession

__all__ = ["FluencePlanning", "GammaRow", "GoalRow", "MetricRow", "Stage", "StageState", "Wish"]

Wish = Literal["optimize", "predict", "given"]


class FluencePlanning:
    """Makes the results of the plan in work from fluence to export; they lie in the scene.

    Long work goes through the session's `LongWork`; once it has ended well, its result is in the scene.
    """

    def __init__(self, session: PlanSession) -> None:
        self._session = session
        self._stages = PlanStages(session)
        self._reports = FluenceReports(session, self._stages)
        self._references = FluenceReferences(session)
        self._jobs = FluenceJobs(session, self._stages, self._reports, self._references)
        self._segments: tuple[str, DeliverablePlan] | None = None  # by their text

    # Beams

    @property
    def beams(self) -> tuple[Beam, ...]:
        """Beams of the plan, placed on the targets.

        Raises
        ------
        InputError
            If the case cannot be planned, or a target is larger than the machine's largest field.
        """
        return self._session.placed([b.angles for b in self._session.current_plan.beams])

    def set_beams(self, angles: Sequence[BeamAngles]) -> None:
        """Take other beams; those that were locked and are among them stay locked.

        Raises
        ------
        InputError
            If two come from one direction.
        """
        plan = self._session.current_plan
        for number, a in enumerate(angles[1:], start=1):
            if separations_deg(angles[:number], a).min() < SAME_DEG:
                raise InputError(
                    f"Two beams come from gantry {a.gantry_deg:.1f}° and couch {a.couch_deg:.1f}°; change one of them."
                )
        locked = [b.angles for b in plan.beams if b.locked]
        plan.beams = [
            SessionBeam(
                replace(a, collimator_deg=0.0), bool(locked) and bool(separations_deg(locked, a).min() < SAME_DEG)
            )
            for a in angles
        ]
        if not self._session.why_not_ready():
            self._session.show_beams()

    def read_plan(self, path: Path) -> tuple[str, ...]:
        """Take the beams of an RTPLAN file.

        Returns
        -------
        What DeepRT does otherwise than that plan, one sentence each

        Raises
        ------
        InputError
            If there is no case to plan yet, or the file has no photon beams at fixed angles for it.
        """
        plan = self._session.current_plan
        other = beams_of(path, self._session.prepared().case)
        if other.collimator_deg is not None:
            config = plan.config
            plan.config = replace(config, beams=replace(config.beams, collimator_deg=other.collimator_deg))
        self.set_beams(other.angles)
        return other.notes

    # Wished dose

    @property
    def wish(self) -> Wish:
        """Where the dose comes from that fluence is predicted from."""
        return self._session.current_plan.config.fluence.wished

    def set_wish(self, wish: Wish) -> None:
        """Predict fluence from a dose that is given, quickly optimized, or predicted."""
        config = self._session.current_plan.config
        self._session.current_plan.config = replace(config, fluence=replace(config.fluence, wished=wish))

    @property
    def wished_node(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """Volume of the dose that the plan's is compared with; None if there is none yet."""
        return self._stages.wished_node

    # Long work

    def why_not(self, action: str) -> str:
        """One sentence why an action cannot be done now; empty if it can.

        Parameters
        ----------
        action : predict, optimize, refine, sequence, dose, compare, export or all
        """
        return self._jobs.why_not(action)

    def stage_state(self, stage: Stage) -> StageState:
        """Whether a result is there, and that of the plan as it is."""
        return self._stages.state(stage)

    def why_not_current(self, stage: Stage) -> str:
        """One sentence what must be made anew, or first, for a result to be that of the plan; empty if it is."""
        return self._stages.why_not_current(stage)

    def start_prediction(self) -> None:
        """Predict the fluence from the wished dose, which is made first unless it is given."""
        self._jobs.start_prediction()

    def start_optimization(self) -> None:
        """Optimize the fluence for the objectives."""
        self._jobs.start_optimization()

    def start_refinement(self, n_iterations: int) -> None:
        """Pull the dose of the fluence to the wished one."""
        self._jobs.start_refinement(n_iterations)

    def start_sequencing(self) -> None:
        """Sequence the fluence."""
        self._jobs.start_sequencing()

    def start_dose(self) -> None:
        """Calculate and normalize the dose of the segments."""
        self._jobs.start_dose()

    def start_comparison(self) -> None:
        """Compare the dose of the segments with the wished one."""
        self._jobs.start_comparison()

    def start_all(self) -> None:
        """Predict, sequence, calculate and compare, one after the other; what is current is not done again."""
        self._jobs.start_all()

    def start_export(self, folder: Path, *, eclipse_fluence: bool = False, overwrite: bool = False) -> None:
        """Write the plan as DICOM, with its report, into a folder.

        Parameters
        ----------
        eclipse_fluence : whether to write Varian's text files of the fluence too
        overwrite : whether to replace a plan that the folder holds
        """
        self._jobs.start_export(folder, eclipse_fluence=eclipse_fluence, overwrite=overwrite)

    # Fluence and segments

    def maps(self) -> Maps:
        """Fluence maps as the scene has them, (n_rows, n_cols) MU per fraction; none unless all are there."""
        return () if self._session.plan is None else fluence_maps(self._session.plan)

    def reference_maps(self) -> Maps:
        """Maps to compare with, on the same beamlets; none without."""
        return self._references.maps()

    def set_reference_maps(self, maps: Sequence[NDArray[np.floating]]) -> None:
        """Compare the maps with others of the same beamlets, or with none; differences are shown."""
        self._references.set_maps(maps)

    def read_reference_plan(self, path: Path) -> tuple[str, ...]:
        """Compare the maps with what an RTPLAN file delivers, or with Varian's fluence files in the folder of one.

        Returns
        -------
        What was assumed, one sentence each
        """
        return self._references.read(path)

    def write_thumbnails(self, path: Path, *, n_columns: int = 9) -> bool:
        """Write a picture of all maps on one scale, and beside it, named ``..._difference``, that of the differences.

        Parameters
        ----------
        n_columns : maps in a row

        Returns
        -------
        Whether there are maps; without, nothing is written
        """
        return self._references.write_thumbnails(path, n_columns=n_columns)

    def segments(self) -> DeliverablePlan | None:
        """What is delivered; None before it is made."""
        text = "" if self._session.plan is None else self._session.plan.text(SEGMENTS)
        if not text:
            return None
        if self._segments is None or self._segments[0] != text:
            self._segments = text, plan_from_json(text)
        return self._segments[1]

    def total_mu(self) -> float | None:
        """Monitor units of all segments per fraction; None before they are made."""
        segments = self.segments()
        return None if segments is None else segments.total_mu

    def beam_mu(self) -> tuple[float, ...]:
        """Monitor units of each beam per fraction; none before its segments are made."""
        segments = self.segments()
        return () if segments is None else tuple(segments.beam_mu(n) for n in range(len(segments.beams)))

    def n_segments(self) -> int:
        """Number of segments of all beams."""
        segments = self.segments()
        return 0 if segments is None else len(segments.segments)

    # Dose

    def metrics(self) -> tuple[MetricRow, ...]:
        """Numbers of all structures, of the segments' dose beside the wished one; none without a dose."""
        return self._reports.metrics()

    def goals(self) -> tuple[GoalRow, ...]:
        """Goals of the segments' dose beside those of the wished one; none without a dose."""
        return self._reports.goals()

    def gamma(self) -> tuple[GammaRow, ...]:
        """Gamma of the comparison that is shown."""
        return () if self._session.plan is None else gamma_rows(self._session.plan)

    @property
    def dose_node(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """Dose of the segments; None before it is calculated."""
        return self._reports.dose_node

    @property
    def difference_node(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """Dose of the segments minus the wished dose; None before they are compared."""
        return None if self._session.plan is None else difference_of(self._session.plan)

    @property
    def dvh_chart(self) -> slicer.vtkMRMLPlotChartNode | None:
        """Chart of the DVHs, those of the wished dose solid, of the segments' dashed; None before there is one."""
        return self._reports.dvh_chart

    def show_isodoses(self, levels_percent: Sequence[float]) -> None:
        """Show isodoses of the segments' dose, in percent of the highest prescription."""
        self._reports.show_isodoses(levels_percent)

    def notes(self) -> tuple[str, ...]:
        """What case and fluence assume, one sentence each."""
        plan = self._session.plan
        of_case = () if self._session.why_not_ready() else self._session.prepared().notes
        return of_case if plan is None else (*of_case, *fluence_notes(plan))
