"""A stand-in for what the panel of DeepFluence works with."""


class FakePlanning:
    """Does nothing and remembers what it was asked to do.

    Parameters
    ----------
    session : whose work `start` starts, if it is set
    """

    def __init__(self, session):
        self.session = session
        self.calls, self.reasons, self.states = [], {}, {}
        self.error = None  # raised by whatever is asked for
        self.start = lambda: None  # called by whatever starts work
        self.wish = "optimize"
        self.wished_node = self.dose_node = self.difference_node = self.dvh_chart = None
        self.metric_rows = self.goal_rows = self.gamma_rows = self.fluence = self.references = ()
        self.plan_segments, self.assumptions = None, ()
        self.picture = None  # bytes of a PNG

    def why_not(self, action):
        return self.reasons.get(action) or self.session.why_not_ready()

    def stage_state(self, stage):
        from deeprt_mrml.fluence_stages import StageState

        return self.states.get(stage, StageState.MISSING)

    def why_not_current(self, stage):
        return self.reasons.get(stage, "")

    def set_wish(self, wish):
        self._do("set_wish", wish)
        self.wish = wish

    def set_beams(self, angles):
        from deeprt.orientation.session import SessionBeam

        self._do("set_beams", *angles)
        locked = {b.angles for b in self.session.plan.beams if b.locked}
        self.session.plan.beams = [SessionBeam(a, a in locked) for a in angles]

    def read_plan(self, path):
        self._do("read_plan", path)
        return ("Its bolus is left out.",)

    def start_prediction(self):
        self._start("prediction")

    def start_optimization(self):
        self._start("optimization")

    def start_refinement(self, n_iterations):
        self._start("refinement", n_iterations)

    def start_sequencing(self):
        self._start("sequencing")

    def start_dose(self):
        self._start("dose")

    def start_comparison(self):
        self._start("comparison")

    def start_all(self):
        self._start("all")

    def start_export(self, folder, *, eclipse_fluence=False, overwrite=False):
        self._start("export", folder, eclipse_fluence, overwrite)

    def maps(self):
        return self.fluence

    def reference_maps(self):
        return self.references

    def set_reference_maps(self, maps):
        self._do("set_reference_maps", *maps)
        self.references = tuple(maps)

    def read_reference_plan(self, path):
        self._do("read_reference_plan", path)
        self.references = self.fluence
        return ()

    def write_thumbnails(self, path, *, n_columns):
        for file in (path, path.with_name(f"{path.stem}_difference{path.suffix}")):
            file.write_bytes(self.picture or b"")
        return bool(self.fluence)

    def segments(self):
        return self.plan_segments

    def beam_mu(self):
        segments = self.plan_segments
        return () if segments is None else tuple(segments.beam_mu(n) for n in range(len(segments.beams)))

    def metrics(self):
        return self.metric_rows

    def goals(self):
        return self.goal_rows

    def gamma(self):
        return self.gamma_rows

    def notes(self):
        return self.assumptions

    def show_isodoses(self, levels_percent):
        self._do("show_isodoses", *levels_percent)

    def _do(self, *call):
        self.calls.append(call)
        if self.error is not None:
            raise self.error

    def _start(self, *call):
        self._do(*call)
        self.start()
