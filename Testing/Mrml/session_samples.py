"""A session with a plan for a small case, and commands that run at once, in this process."""

import time
from dataclasses import replace

from Mrml.samples import a_case

from deeprt.beams import BeamAngles
from deeprt.cli import _parser
from deeprt.errors import InputError
from deeprt.fluence.solvers import SolverSettings
from deeprt_mrml.cases import ct_from_case, segmentation_from_case
from deeprt_mrml.jobs import JobState
from deeprt_mrml.long_work import LongWork
from deeprt_mrml.session import PlanSession

ANGLES = (BeamAngles(10.0), BeamAngles(130.0), BeamAngles(250.0))


class WorkAtOnce(LongWork):
    """Runs commands when they are looked after, in this process, which spares it to start others."""

    def __init__(self, folder):
        super().__init__(folder)
        self.commands = []

    def start(self, title, command, on_done):
        if self.is_busy:
            raise InputError(f"{self.title} is under way; wait for it or cancel it first.")
        self.commands.append(tuple(command))
        self.title, self._on_done, self._job = title, on_done, _Command(command)


class _Command:
    state, error, records = JobState.RUNNING, "", ()

    def __init__(self, command):
        self._command = command

    def poll(self):
        if self.state is not JobState.RUNNING:
            return
        options = _parser().parse_args([*self._command, "--json-progress"])
        try:
            options.run(options)
            self.state = JobState.DONE
        except InputError as error:
            self.state, self.error = JobState.FAILED, str(error)

    def cancel(self):
        self.state = JobState.CANCELLED

    end = cancel


def a_session(scene, folder, case=None, *, at_once=True, file_of_instance=None):
    """A session with a plan of three beams for a case, all settings quick."""
    case = case or a_case()
    session = PlanSession(scene, folder, file_of_instance=file_of_instance)
    if at_once:
        session.work = WorkAtOnce(folder)
    plan = session.new_plan()
    plan.ct_node, plan.segmentation_node = ct_from_case(scene, case), segmentation_from_case(scene, case)
    quick(plan)
    return session


def quick(plan):
    """Let the steps of a plan take no time to speak of."""
    solver = SolverSettings(max_iterations=15, tolerance=1e-2)
    config = plan.config
    fluence = replace(config.fluence, beamlet_width_mm=5.0, solver=solver, quick=solver, background_share=0.05)
    sequencing = replace(config.sequencing, n_dose_iterations=2, max_rounds=3)
    plan.config = replace(config, dose_grid_mm=6.0, n_fractions=20, fluence=fluence, sequencing=sequencing)


def finish(session):
    """Look after the work of a session until there is none."""
    while session.work.is_busy:
        session.work.poll()
        time.sleep(0.0 if isinstance(session.work, WorkAtOnce) else 0.05)
